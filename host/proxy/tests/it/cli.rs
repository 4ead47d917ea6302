//! The command line: what it says of a bad configuration or component, its exit codes, and how the
//! program ends.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use fusebox_dev::{
    Origin, Ran, eventually, get, handle_if, is_status, ok, predicate, responds, trailer_predicate,
    wat_component,
};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{Proxy, ROUTE, fusebox, verdict};

pub(crate) fn directory(config: &str) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
    directory
}

/// What `check` and `run` say of a configuration that is wrong: the same, each line with its place.
#[track_caller]
pub(crate) fn complaints(directory: &Path) -> Vec<String> {
    let checked = fusebox(directory, &["check"]);
    let ran = fusebox(directory, &["run"]);
    assert_eq!((checked.code, &*checked.out), (Some(1), ""), "{checked:?}");
    assert_eq!((ran.code, &*ran.error), (Some(1), &*checked.error), "{ran:?}");
    checked.error.lines().map(str::to_owned).collect()
}

/// A configuration whose tables come after the listener, which takes lines 1 and 2.
pub(crate) fn config(rest: &str) -> String {
    format!("listen = '127.0.0.1:0'\n\n{rest}")
}

// ===== arguments =====

#[test]
fn help_is_there_for_every_command() {
    let here = tempfile::tempdir().expect("a directory");
    for (arguments, says) in [
        (&["--help"][..], "Usage: fusebox <COMMAND>"),
        (&["run", "--help"], "Usage: fusebox run [CONFIG]"),
        (&["check", "--help"], "Usage: fusebox check [OPTIONS] [CONFIG]"),
        (&["component", "--help"], "Usage: fusebox component <COMMAND>"),
        (&["component", "inspect", "--help"], "Usage: fusebox component inspect [PATH]"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
    ] {
        let Ran { code, out, error } = fusebox(here.path(), arguments);
        assert_eq!((code, &*error), (Some(0), ""), "{arguments:?}");
        assert!(out.contains(says), "{arguments:?}: {out}");
    }
}

/// With `--no-default-features`.
#[cfg(not(feature = "author"))]
#[test]
fn a_program_without_the_tools_of_authors_says_so() {
    let here = tempfile::tempdir().expect("a directory");
    for arguments in [&["component"][..], &["component", "new", "a", "--lang", "c"]] {
        let Ran { code, out, error } = fusebox(here.path(), arguments);
        assert_eq!((code, &*out), (Some(1), ""), "{arguments:?}");
        assert_eq!(
            error,
            "fusebox: `fusebox component` is not in this program: it was built without the \
             feature `author`\n"
        );
    }
}

#[test]
fn wrong_usage_is_exit_code_2() {
    let here = tempfile::tempdir().expect("a directory");
    for arguments in [
        &[][..],
        &["walk"],
        &["run", "a.toml", "b.toml"],
        &["check", "--fast"],
        &["policy", "new"],
        &["component"],
        &["component", "new"],
    ] {
        let Ran { code, out, error } = fusebox(here.path(), arguments);
        assert_eq!((code, &*out), (Some(2), ""), "{arguments:?}");
        assert!(error.contains("Usage: fusebox"), "{arguments:?}: {error}");
    }
}

// ===== the configuration =====

#[test]
fn a_good_configuration_is_ok() {
    let directory = directory(&config("[[routes]]\nupstream = 'http://b'\n"));
    for arguments in [&["check"][..], &["check", "fusebox.toml"]] {
        let Ran { code, out, error } = fusebox(directory.path(), arguments);
        assert_eq!((code, verdict(&out), &*error), (Some(0), "fusebox.toml: ok", ""));
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let here = tempfile::tempdir().expect("a directory");
    assert_eq!(
        complaints(here.path()),
        ["fusebox.toml: can't be read: No such file or directory (os error 2)"]
    );
    let ran = fusebox(here.path(), &["run", "elsewhere/x.toml"]);
    assert_eq!(
        ran.error,
        "elsewhere/x.toml: can't be read: No such file or directory (os error 2)\n"
    );
    let ran = fusebox(here.path(), &["check", "."]);
    assert_eq!(
        (ran.code, &*ran.error),
        (Some(1), ".: can't be read: Is a directory (os error 21)\n")
    );
}

#[test]
fn a_configuration_that_is_not_text_is_named() {
    let directory = directory("");
    fs::write(directory.path().join("fusebox.toml"), b"listen = '\xff'").expect("a file");
    assert_eq!(complaints(directory.path()), ["fusebox.toml:1: is not text in UTF-8"]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let directory = directory(&config(
        "[policies.retry]\nkind = 'retry'\nhandle_if = { component = 'a' }\nbudget = 'b'\n\
         max_retries = -2\n\
         [[routes]]\npath = 'x'\nupstream = 'b:80'\npolicies = ['retry', 'breaker']\n\
         [[routes]]\nupstream = 'http://b'\npolicies = ['breaker']\n",
    ));
    assert_eq!(
        complaints(directory.path()),
        [
            "fusebox.toml:5: policies.retry.handle_if.component: unknown component `a`; the file \
             has none",
            "fusebox.toml:6: policies.retry.budget: unknown budget `b`; the file has none",
            "fusebox.toml:7: policies.retry.max_retries: must be from 0 to 1000000, or -1 for \
             unlimited, is -2",
            "fusebox.toml:9: routes[0].path: expected a path such as \"/api\", found `x`",
            "fusebox.toml:10: routes[0].upstream: expected `http[s]://host[:port][/base]`, found \
             `b:80`",
            "fusebox.toml:11: routes[0].policies[1]: unknown policy `breaker`; expected one of \
             retry",
            "fusebox.toml:14: routes[1].policies[0]: unknown policy `breaker`; expected one of \
             retry",
        ]
    );
}

#[test]
fn a_table_of_a_wrong_shape_hides_nothing_and_causes_nothing() {
    let directory = directory(&config(
        "[components.c]\nfile = 'c.wasm'\nmemory = '1B'\n[budgets.b]\nmax_rate = 'all'\n\
         [policies.retry]\nkind = 'retry'\nbudget = 'b'\nhandle_if = { component = 'c' }\n\
         delay = 1\n\
         [policies.other]\nkind = 'retry'\nbudget = 'b'\nhandle_if = { component = 'c' }\n\
         abort_if = { component = 'd' }\n\
         [[routes]]\npath = 3\nupstream = 'http://b'\n\
         [[routes]]\npath = '/${FUSEBOX_TEST_UNSET}'\nupstream = 'http://b'\n\
         policies = ['retry', 'other', 'missing']\n",
    ));
    assert_eq!(
        complaints(directory.path()),
        [
            "fusebox.toml:5: components.c.memory: must be from 64KiB to 4GiB, is 1B",
            "fusebox.toml:7: budgets.b.max_rate: expected a number, found `\"all\"`",
            "fusebox.toml:12: policies.retry.delay: expected a duration such as \"250ms\", or { \
             component = \"NAME\" }, found `1`",
            "fusebox.toml:17: policies.other.abort_if.component: unknown component `d`; expected \
             one of c",
            "fusebox.toml:19: routes[0].path: expected a string, found `3`",
            "fusebox.toml:22: routes[1].path: environment variable `FUSEBOX_TEST_UNSET` is not \
             set; \
             `${FUSEBOX_TEST_UNSET:-default}` gives it a default",
            "fusebox.toml:24: routes[1].policies[2]: unknown policy `missing`; expected one of \
             other, retry",
        ]
    );
}

#[test]
fn all_that_is_wrong_in_a_table_is_said_at_once() {
    let directory = directory(&config(
        "[policies.wait]\nkind = 'timeout'\ntim = '1s'\ntime = '0s'\n\
         [policies.again]\nkind = 'retry'\nretries = 3\ndelay = 5\nmax_duration = '0s'\n\
         methods = [1, 'GET', 2]\nbackoff = { delay = 1, faktor = 2 }\n\
         [policies.again.handle_if]\nstatus = [true, '503']\nfailures = []\n\
         [policies.cut]\nkind = 'circuit-breaker'\nfailure_threshold = 'two'\n\
         delay_factor = 0.5\n\
         [components.c]\nfiles = 'c.wasm'\nfile = 'c.wasm'\nmemory = true\n\
         recycle_memory = '1GiB'\ntimeout = '0s'\n\
         [budgets.b]\nmax_rate = 'all'\nmin = 3\n\
         [[routes]]\nupstream = 'http://b'\npolicies = ['wait', 'again', 'cut']\n",
    ));
    let said = complaints(directory.path());
    // A list of known keys ends some.
    let said: Vec<_> = said.iter().map(|line| line.split("; ").next().unwrap()).collect();
    assert_eq!(
        said,
        [
            "fusebox.toml:3: policies.wait: missing key `limit`",
            "fusebox.toml:5: policies.wait.tim: unknown key `tim`",
            "fusebox.toml:6: policies.wait.time: unknown key `time`",
            "fusebox.toml:9: policies.again.retries: unknown key `retries`",
            "fusebox.toml:10: policies.again.delay: expected a duration such as \"250ms\", or { \
             component = \"NAME\" }, found `5`",
            "fusebox.toml:11: policies.again.max_duration: must be at least 1ms, is 0s",
            "fusebox.toml:12: policies.again.methods[0]: expected a string, found `1`",
            "fusebox.toml:12: policies.again.methods[2]: expected a string, found `2`",
            "fusebox.toml:13: policies.again.backoff.delay: expected a duration such as \"250ms\", \
             found `1`",
            "fusebox.toml:13: policies.again.backoff.faktor: unknown key `faktor`",
            "fusebox.toml:15: policies.again.handle_if.status[0]: expected a status such as \
             \"503\", \"5xx\" or \"500-502\", found `true`",
            "fusebox.toml:16: policies.again.handle_if.failures: unknown key `failures`",
            "fusebox.toml:19: policies.cut.failure_threshold: expected a whole number of at least \
             0, found `\"two\"`",
            "fusebox.toml:20: policies.cut.delay_factor: must be at least 1, is 0.5",
            "fusebox.toml:22: components.c.files: unknown key `files`",
            "fusebox.toml:24: components.c.memory: expected a size such as \"64KiB\", found `true`",
            "fusebox.toml:26: components.c.timeout: must be from 1ms to 1m, is 0s",
            "fusebox.toml:28: budgets.b.max_rate: expected a number, found `\"all\"`",
            "fusebox.toml:29: budgets.b.min: unknown key `min`",
        ]
    );
}

#[test]
fn each_key_that_is_missing_in_a_table_is_named() {
    let directory = directory(&config(
        "[policies.one]\nkind = 'retry'\nrandom_delay = {}\n\
         [policies.two]\nkind = 'retry'\nrandom_delay = { mim = '1s' }\nmax_retries = 'all'\n\
         [policies.three]\nkind = 'retry'\n[policies.three.random_delay]\nmin = 1\n\
         [[routes]]\nupstream = 'http://b'\npolicies = ['one', 'two', 'three']\n",
    ));
    let said = complaints(directory.path());
    let said: Vec<_> = said.iter().map(|line| line.split(" expected").next().unwrap()).collect();
    assert_eq!(
        said,
        [
            "fusebox.toml:5: policies.one.random_delay: missing key `min`",
            "fusebox.toml:5: policies.one.random_delay: missing key `max`",
            "fusebox.toml:8: policies.two.random_delay.mim: unknown key `mim`,",
            "fusebox.toml:8: policies.two.random_delay: missing key `min`",
            "fusebox.toml:8: policies.two.random_delay: missing key `max`",
            "fusebox.toml:9: policies.two.max_retries:",
            "fusebox.toml:12: policies.three.random_delay: missing key `max`",
            "fusebox.toml:13: policies.three.random_delay.min:",
        ]
    );
}

#[test]
fn an_error_is_one_line_whatever_it_speaks_of() {
    let directory = directory(&config(
        "[policies.answer]\nkind = 'fallback'\n\
         respond = { status = 70000, headers = { a = \"b\\nc\\u009b\" } }\n\
         [[routes]]\npath = \"/a\\nb\"\nupstream = 'http://b'\npolicies = ['answer']\n",
    ));
    assert_eq!(
        complaints(directory.path()),
        [
            "fusebox.toml:5: policies.answer.respond.status: must be from 200 to 599, is 70000",
            "fusebox.toml:5: policies.answer.respond.headers.a: is not a valid header value: \
             `b\\nc\\u{9b}`",
            "fusebox.toml:7: routes[0].path: expected a path such as \"/api\", found `/a\\nb`",
        ]
    );
}

#[test]
fn what_is_nested_too_deep_is_one_error() {
    let deep = |open: &str, close: &str| format!("x = {}{}\n", open.repeat(200), close.repeat(200));
    for text in [deep("[", "]"), deep("{ a = ", "}")] {
        let said = complaints(directory(&config(&text)).path());
        assert_eq!(said, ["fusebox.toml:3: nested too deep"]);
    }
}

#[test]
fn what_is_there_twice_is_refused() {
    let route = |more: &str| format!("[[routes]]\nupstream = 'http://b'\n{more}");
    for (text, expected) in [
        (
            "[policies.a]\nkind = 'retry'\n[policies.a]\nkind = 'retry'\n".to_owned() + &route(""),
            vec!["fusebox.toml:5: duplicate key `a`", "fusebox.toml:6: duplicate key `kind`"],
        ),
        (
            "workers = 1\nworkers = 1\n".to_owned() + &route(""),
            vec!["fusebox.toml:4: duplicate key `workers`"],
        ),
        (
            route("path = '/api'\nmethods = ['GET']\n")
                + &route("path = '/api/'\nmethods = ['PUT', 'GET']\n"),
            vec!["fusebox.toml:7: routes[1]: takes the same requests as routes[0]: `PUT,GET /api`"],
        ),
        (
            route("name = 'b'\n") + &route("name = 'b'\npath = '/api'\n"),
            vec!["fusebox.toml:8: routes[1].name: routes[0] has the name `b`, too"],
        ),
        (
            "[policies.a]\nkind = 'timeout'\nlimit = '1s'\n".to_owned()
                + &route("policies = ['a', 'a']\n"),
            vec!["fusebox.toml:8: routes[0].policies[1]: `a` is in the list twice"],
        ),
    ] {
        assert_eq!(complaints(directory(&config(&text)).path()), expected, "{text}");
    }
}

#[test]
fn the_readmes_configuration_is_ok() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = fs::read_to_string(readme).expect("a README");
    let text = readme
        .split("```toml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("a configuration");
    let directory = directory(text);
    fs::create_dir_all(directory.path().join("policies/build")).expect("a directory");
    let component =
        wat_component(&format!("{} {}", handle_if(&is_status(503)), responds(200, "later")));
    fs::write(directory.path().join("policies/build/service_b.wasm"), component).expect("a file");
    let Ran { code, out, error } = fusebox(directory.path(), &["check"]);
    assert_eq!((code, verdict(&out), &*error), (Some(0), "fusebox.toml: ok", ""));
}

#[test]
fn variables_come_from_the_environment() {
    let directory = directory(&config(
        "[components.c]\nfile = '${FUSEBOX_TEST}.wasm'\n\
         [[routes]]\nupstream = '${FUSEBOX_TEST_UNSET:-http://b}'\nname = '$${FUSEBOX_TEST}'\n",
    ));
    fs::write(directory.path().join("from the environment.wasm"), predicate("(i32.const 1)"))
        .expect("a file");
    assert_eq!(fusebox(directory.path(), &["check"]).code, Some(0));
    fs::write(
        directory.path().join("fusebox.toml"),
        config(
            "[[routes]]\nupstream = '${FUSEBOX_TEST_UNSET}'\nname = '${FUSEBOX_TEST_UNSET_TOO}'\n",
        ),
    )
    .expect("a file");
    assert_eq!(
        complaints(directory.path()),
        [
            "fusebox.toml:4: routes[0].upstream: environment variable `FUSEBOX_TEST_UNSET` is not \
             set; \
             `${FUSEBOX_TEST_UNSET:-default}` gives it a default",
            "fusebox.toml:5: routes[0].name: environment variable `FUSEBOX_TEST_UNSET_TOO` is not \
             set; \
             `${FUSEBOX_TEST_UNSET_TOO:-default}` gives it a default",
        ]
    );
}

// ===== components =====

/// Files that are no policy, and what is said of each.
pub(crate) fn bad_components() -> Vec<(Vec<u8>, &'static str)> {
    let wat = |text: &str| wat::parse_str(text).expect("it is valid");
    let good = predicate("(i32.const 1)");
    vec![
        (b"hello".to_vec(), "is not WebAssembly, expected a component"),
        (Vec::new(), "is not WebAssembly, expected a component"),
        (b"\x7fELF\x02\x01\x01".to_vec(), "is compiled code, expected a component"),
        ([b"\0asm\x0d\0\x01\0", &[0x5a; 1000][..]].concat(), "is not a valid component: "),
        (b"(component)".to_vec(), "is WebAssembly text, expected a binary component"),
        (good[..4].to_vec(), "is cut off after 4 bytes, expected a component"),
        (good[..good.len() / 2].to_vec(), "is not a valid component: "),
        (
            wat("(module)"),
            "is not a valid component: a core module that does not say which world it is for: \
             build it",
        ),
        (
            wat("(component)"),
            "missing export `fusebox:policy/predicate@0.1.0` or `fusebox:policy/fallback@0.1.0`",
        ),
        (
            wat(r#"(component (import "wasi:http/outgoing-handler@0.2.0" (instance)))"#),
            "import `wasi:http/outgoing-handler@0.2.0` is not granted: policies have no network",
        ),
        (
            wat(r#"(component (import "fusebox:policy/attempt@0.2.0" (instance))
                    (import "acme:log/log" (func)))"#),
            "import `fusebox:policy/attempt@0.2.0`: expected `fusebox:policy` in version 0.1; \
             import `acme:log/log` is not known here",
        ),
        (
            wat_component(&format!(
                "{} (func $start unreachable) (start $start)",
                handle_if("(i32.const 1)")
            )),
            "can't be instantiated: ",
        ),
        (
            wat_component(&format!(
                "{} (func $start (loop (br 0))) (start $start)",
                handle_if("(i32.const 1)")
            )),
            "can't be instantiated: ",
        ),
    ]
}

const WITH_COMPONENT: &str = "[components.c]\nfile = 'c.wasm'\n\
    [policies.retry]\nkind = 'retry'\nhandle_if = { component = 'c' }\n\
    [[routes]]\nupstream = 'http://b'\npolicies = ['retry', 'missing']\n";

#[test]
fn a_component_that_is_no_policy_is_refused_by_file_and_reason() {
    let directory = directory(&config(WITH_COMPONENT));
    let file = directory.path().join("c.wasm");
    for (bytes, reason) in bad_components() {
        fs::write(&file, &bytes).expect("a file");
        let complaints = complaints(directory.path());
        let [first, second] = &complaints[..] else { panic!("{complaints:?}") };
        let place = format!("fusebox.toml:4: components.c.file: component `c` (c.wasm): {reason}");
        assert!(first.starts_with(&place), "expected {place}\nfound    {first}");
        // What else is wrong is said too.
        assert!(
            second.starts_with("fusebox.toml:10: routes[0].policies[1]: unknown policy"),
            "{second}"
        );
        let Ran { code, out, error } =
            fusebox(directory.path(), &["component", "inspect", "c.wasm"]);
        assert_eq!((code, &*error), (Some(1), ""), "{out}");
        assert!(out.contains(&format!("refused: {reason}")), "expected {reason}\nfound\n{out}");
    }
    fs::remove_file(&file).expect("a file");
    let missing = &complaints(directory.path())[0];
    assert_eq!(
        missing,
        "fusebox.toml:4: components.c.file: component `c` (c.wasm): No such file or directory (os \
         error 2)"
    );
    let Ran { code, out, error } = fusebox(directory.path(), &["component", "inspect", "c.wasm"]);
    assert_eq!((code, &*out), (Some(1), ""));
    assert_eq!(error, "fusebox: c.wasm: No such file or directory (os error 2)\n");
}

#[test]
fn a_component_that_lacks_the_export_in_use_is_refused_where_it_is_used() {
    let directory = directory(&config(
        "[components.c]\nfile = 'c.wasm'\n[policies.fallback]\nkind = 'fallback'\n\
         handle_if = { component = 'c' }\n\
         respond = { component = 'c' }\n[[routes]]\nupstream = 'http://b'\n\
         policies = ['fallback']\n",
    ));
    fs::write(directory.path().join("c.wasm"), predicate("(i32.const 1)")).expect("a file");
    assert_eq!(
        complaints(directory.path()),
        ["fusebox.toml:8: policies.fallback.respond.component: component `c` (c.wasm): \
          missing export `fusebox:policy/fallback@0.1.0`"]
    );
    fs::write(directory.path().join("c.wasm"), wat_component(&responds(200, "hello")))
        .expect("a file");
    assert_eq!(
        complaints(directory.path()),
        ["fusebox.toml:7: policies.fallback.handle_if.component: component `c` (c.wasm): \
          missing export `fusebox:policy/predicate@0.1.0`"]
    );
}

#[test]
fn a_pinned_component_must_be_that_one() {
    let good = predicate("(i32.const 1)");
    let directory = directory("");
    let file = |name: &str| directory.path().join(name);
    fs::write(file("c.wasm"), &good).expect("a file");
    let inspected = fusebox(directory.path(), &["component", "inspect", "c.wasm"]);
    let digest = inspected
        .out
        .lines()
        .find_map(|line| line.strip_prefix("sha256 "))
        .expect("a digest")
        .trim();
    let pinned = |digest: &str| {
        let pin = format!(
            "[components.c]\nfile = 'c.wasm'\nsha256 = '{digest}'\n\
             [policies.retry]\nkind = 'retry'\nhandle_if = {{ component = 'c' }}\n\
             [[routes]]\nupstream = 'http://b'\npolicies = ['retry']\n"
        );
        fs::write(file("fusebox.toml"), config(&pin)).expect("a file");
    };
    pinned(&digest.to_uppercase());
    assert_eq!(fusebox(directory.path(), &["check"]).code, Some(0));
    let other = "0".repeat(64);
    pinned(&other);
    assert_eq!(
        complaints(directory.path()),
        [format!(
            "fusebox.toml:4: components.c.file: component `c` (c.wasm): expected sha256 \
             `{other}`, found `{digest}`"
        )]
    );
    pinned("abc");
    assert_eq!(
        complaints(directory.path()),
        ["fusebox.toml:5: components.c.sha256: expected 64 hex digits, found `abc`"]
    );
}

#[test]
fn inspect_shows_what_a_component_is() {
    let here = tempfile::tempdir().expect("a directory");
    let both = wat_component(&format!("{} {}", handle_if(&is_status(503)), responds(200, "hello")));
    fs::write(here.path().join("c.wasm"), &both).expect("a file");
    let Ran { code, out, error } = fusebox(here.path(), &["component", "inspect", "c.wasm"]);
    assert_eq!((code, &*error), (Some(0), ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], "file     c.wasm");
    assert_eq!(lines[1], format!("size     {} bytes", both.len()));
    assert!(lines[2].starts_with("sha256   ") && lines[2].len() == 9 + 64, "{out}");
    assert_eq!(
        lines[3..],
        [
            "world    fusebox:policy/policy@0.1.0",
            "serves   handle_if, abort_if, cancel_if, ignore_if, respond",
            "grants   none",
            "imports  fusebox:policy/types@0.1.0",
            "         fusebox:policy/attempt@0.1.0",
            "exports  fusebox:policy/predicate@0.1.0",
            "         fusebox:policy/fallback@0.1.0",
            "accepted",
        ]
    );
}

#[test]
fn inspect_tells_who_is_asked_again_when_trailers_have_come() {
    for (component, note) in
        [(trailer_predicate("x", "(i32.const 0)"), true), (predicate("(i32.const 0)"), false)]
    {
        let here = tempfile::tempdir().expect("a directory");
        fs::write(here.path().join("c.wasm"), component).expect("a file");
        let Ran { out, .. } = fusebox(here.path(), &["component", "inspect", "c.wasm"]);
        let line = "fusebox:policy/attempt@0.1.0  (with trailers: a condition may be asked again \
                    when they have come)\n";
        assert_eq!(out.contains(line), note, "{out}");
    }
}

#[test]
fn inspect_tells_what_made_a_component_and_that_it_needs_settings() {
    let here = tempfile::tempdir().expect("a directory");
    let fails = wat_component(&format!(
        r#"(@producers (language "WAT" "1") (processed-by "a hand" "2")) {}"#,
        handle_if("unreachable")
    ));
    fs::write(here.path().join("c.wasm"), &fails).expect("a file");
    let Ran { code, out, error } = fusebox(here.path(), &["component", "inspect", "c.wasm"]);
    assert_eq!((code, &*error), (Some(0), ""), "{out}");
    assert!(out.contains("\nmade by  WAT 1, a hand 2\n"), "{out}");
    let said = "accepted, with the settings that it needs: without any it fails when `handle-if` \
                is called for a trial, about a 200: ";
    assert!(out.contains(said), "{out}");
}

// ===== ports =====

#[test]
fn a_port_in_use_is_one_line() {
    let directory = directory("");
    let write =
        |text: String| fs::write(directory.path().join("fusebox.toml"), text).expect("a file");
    let somebody = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = somebody.local_addr().expect("an address");
    let route = "[[routes]]\nupstream = 'http://b'\n";
    for (text, what) in [
        (format!("listen = '{address}'\n{route}"), "listen"),
        (
            format!("listen = '127.0.0.1:0'\nadmin = {{ listen = '{address}' }}\n{route}"),
            "admin.listen",
        ),
    ] {
        write(text);
        assert_eq!(
            fusebox(directory.path(), &["check"]).code,
            Some(0),
            "which is none of `check`'s business"
        );
        let Ran { code, out, error } = fusebox(directory.path(), &["run"]);
        assert_eq!((code, &*out), (Some(1), ""));
        let expected = format!(
            "fusebox: {what}: can't listen on `{address}`: Address already in use (os error 98)\n"
        );
        assert_eq!(error, expected);
    }
    write(format!("listen = '192.0.2.1:80'\n{route}"));
    let Ran { code, error, .. } = fusebox(directory.path(), &["run"]);
    assert_eq!(code, Some(1));
    assert!(error.starts_with("fusebox: listen: can't listen on `192.0.2.1:80`: "), "{error}");
}

#[test]
fn a_port_that_another_fusebox_has_is_in_use_and_the_other_one_does_not_notice() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    let second =
        directory(&format!("listen = '{}'\n[[routes]]\nupstream = 'http://b'\n", proxy.address()));
    let Ran { code, error, .. } = fusebox(second.path(), &["run"]);
    assert_eq!(code, Some(1));
    let expected = format!(
        "fusebox: listen: can't listen on `{}`: Address already in use (os error 98)\n",
        proxy.address()
    );
    assert_eq!(error, expected);
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
}

// ===== the end =====

/// Answers when it is told to.
pub(crate) fn waiting_origin() -> (Origin, std::sync::mpsc::Sender<()>) {
    let (go, gone) = std::sync::mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            gone.lock().expect("no panic").recv().ok();
            connection.wire.send(ok("at last"));
        }
    });
    (origin, go)
}

#[test]
fn a_signal_lets_the_requests_in_flight_end_and_takes_no_more() {
    for signal in ["TERM", "INT"] {
        let (origin, go) = waiting_origin();
        let mut proxy = Proxy::before(&origin, ROUTE);
        let mut idle = proxy.connect();
        go.send(()).expect("it waits");
        assert_eq!(idle.ask(get("/", "0")).status(), 200);
        let mut client = proxy.connect();
        client.send(get("/", "1"));
        eventually("the request at the origin", || (origin.seen().len() == 2).then_some(()));

        proxy.signal(signal);
        proxy.line("draining");
        assert_eq!(idle.rest(), b"", "an idle connection is closed");
        eventually("a closed port", || TcpStream::connect(proxy.address()).err());
        assert_eq!(proxy.admin("GET /readyz").status(), 503);
        assert_eq!(proxy.admin("GET /healthz").status(), 200);

        go.send(()).expect("it waits");
        let response = client.response();
        assert_eq!((response.status(), response.text()), (200, "at last"));
        assert_eq!(client.rest(), b"", "and then its connection is closed");
        assert_eq!(proxy.end().code(), Some(0), "{signal}");
        let stopped = proxy.line("stopped");
        assert_eq!((&stopped["level"], &stopped["connections_cut"]), (&json!("INFO"), &json!(0)));
        assert_eq!(proxy.told("1"), ["200: OK"]);
    }
}

#[test]
fn a_response_body_in_flight_is_not_cut_short_by_the_end() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let origin = Origin::start(move |connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        gone.lock().expect("no panic").recv().ok();
        connection.wire.send("half");
    });
    let mut proxy = Proxy::before(&origin, ROUTE);
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    client.head().expect("a head");
    assert_eq!(client.exactly(4), b"half");
    proxy.signal("TERM");
    proxy.line("draining");
    go.send(()).expect("it waits");
    assert_eq!(client.exactly(4), b"half");
    assert_eq!(proxy.end().code(), Some(0));
}

#[test]
fn what_is_not_done_after_the_drain_timeout_is_cut() {
    let (origin, _go) = waiting_origin();
    let mut proxy =
        Proxy::before(&origin, &format!("[listener]\ndrain_timeout = '200ms'\n{ROUTE}"));
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    eventually("the request at the origin", || (origin.seen().len() == 1).then_some(()));
    proxy.signal("TERM");
    assert_eq!(client.rest(), b"");
    assert_eq!(proxy.end().code(), Some(0));
    let stopped = proxy.line("stopped");
    assert_eq!((&stopped["level"], &stopped["connections_cut"]), (&json!("WARN"), &json!(1)));
    // It was not the client, which waited.
    assert_eq!(proxy.told("1"), ["cut by shutdown"]);
    assert_eq!(proxy.line("cut by shutdown")["level"], "WARN");
}

#[test]
fn it_has_as_many_workers_as_it_is_told() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("workers = 3\n{ROUTE}"));
    assert_eq!(proxy.line("listening")["workers"], 3);
    let mut clients: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get("/", "1")).status(), 200);
    }
    let workers = proxy.state()["workers"].clone();
    let two = json!({ "connections": 2, "stalled": false });
    assert_eq!(workers, json!([two, two, two]));
    assert_eq!(origin.connections(), 3, "each worker has connections of its own, and needs one");
}

#[test]
fn a_proxy_starts_without_its_upstream_and_finds_it_later() {
    let door = fusebox_dev::ClosedDoor::refusing();
    let proxy = Proxy::before(&door, ROUTE);
    assert_eq!(proxy.ask(get("/", "1")).status(), 502);
    assert_eq!(proxy.admin("GET /readyz").status(), 200);
    let _origin = door.opened(|connection| {
        while connection.request().is_some() {
            connection.wire.send(ok("here I am"));
        }
    });
    assert_eq!(proxy.ask(get("/", "2")).text(), "here I am");
}
