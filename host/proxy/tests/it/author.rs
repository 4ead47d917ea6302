//! The tools of those who write components: `fusebox wit` and `fusebox component
//! new|build|test|bench`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use fusebox_dev::{
    Origin, Ran, answer, get, handle_if, is_status, ok, predicate, responds, wat_component,
};
use tempfile::TempDir;

use crate::components::{RETRY, with_component};
use crate::support::{Proxy, fusebox, fusebox_with};

fn here() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[track_caller]
fn done(ran: &Ran) -> &str {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    &ran.out
}

#[track_caller]
fn refused(ran: &Ran) -> &str {
    assert_eq!((ran.code, &*ran.out), (Some(1), ""), "{ran:?}");
    assert_eq!(ran.error.lines().count(), 1, "one line: {ran:?}");
    ran.error.trim_end()
}

#[test]
fn the_contract_is_printed() {
    let contract = include_str!("../../../../wit/policy.wit");
    assert_eq!(done(&fusebox(here().path(), &["wit"])), contract);
}

// ===== new =====

const LANGUAGES: [&str; 4] = ["rust", "javascript", "python", "c"];

#[test]
fn a_new_component_is_whole_in_each_language_and_kind() {
    for language in LANGUAGES {
        for (kind, world) in [
            ("predicate", "predicate-policy"),
            ("fallback", "fallback-policy"),
            ("both", "policy"),
            ("delay", "delay-policy"),
            ("key", "key-policy"),
        ] {
            let here = here();
            let ran = fusebox(
                here.path(),
                &["component", "new", "my-component", "--lang", language, "--kind", kind],
            );
            let next = done(&ran).lines().skip(1).map(str::trim).collect::<Vec<_>>();
            assert_eq!(
                (next[0], next[next.len() - 2], next[next.len() - 1]),
                ("cd my-component", "fusebox component build", "fusebox component test")
            );
            let folder = here.path().join("my-component");
            let read = |file: &str| {
                fs::read_to_string(folder.join(file))
                    .unwrap_or_else(|_| panic!("{language}: no {file}"))
            };
            assert_eq!(read("wit/policy.wit"), include_str!("../../../../wit/policy.wit"));
            let manifest = read("component.toml");
            assert!(manifest.contains(&format!("world = \"{world}\"")), "{manifest}");
            assert!(read("cases.toml").contains("[[case]]"));
            assert!(
                read("README.md").contains("my-component") && read(".gitignore").contains("build")
            );
            for file in files(&folder) {
                let text = fs::read_to_string(&file).expect("text");
                assert!(!text.contains("{{"), "{}", file.display());
                assert!(
                    !file.to_string_lossy().contains(&format!(".{kind}.")),
                    "{}",
                    file.display()
                );
            }
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn new_overwrites_nothing_and_takes_only_names() {
    let here = here();
    fs::create_dir(here.path().join("taken")).expect("a directory");
    let new = |name: &str| fusebox(here.path(), &["component", "new", name, "--lang", "c"]);
    assert!(refused(&new("taken")).starts_with("fusebox: taken: File exists"));
    assert_eq!(files(&here.path().join("taken")), [""; 0].map(std::path::PathBuf::from));
    for name in ["", "A", "a/b", "../a", "1a", "a_b", "a-", "ä"] {
        let said = new(name);
        assert!(
            refused(&said).contains("expected a name of lower case letters"),
            "{name}: {said:?}"
        );
    }
    let said = fusebox(here.path(), &["component", "new", "a", "--lang", "cobol"]);
    assert_eq!(said.code, Some(2));
    assert!(said.error.contains("[possible values: rust, javascript, python, c]"), "{said:?}");
}

// ===== build =====

const MANIFEST: &str = "language = 'LANGUAGE'\nworld = 'predicate-policy'\nsource = 'guest.x'\n\
    component = 'build/guest.wasm'\n";

#[test]
fn a_build_says_what_is_missing_in_one_line() {
    let here = here();
    let build = || fusebox_with(here.path(), &["component", "build"], &[("PATH", "/nonexistent")]);
    assert!(refused(&build()).contains(
        "component.toml: not there, so this is no component's folder; `fusebox component new` \
         makes one"
    ));
    for (language, expected) in [
        ("rust", "no `cargo`: install Rust with rustup"),
        ("javascript", "no `jco`: run `npm install` in `.` (`npm` comes with Node.js 20 or newer)"),
        (
            "python",
            "no `componentize-py`: run `python3 -m venv .venv && .venv/bin/pip install -r \
             requirements.txt` in `.`",
        ),
        (
            "c",
            "no `python-zig`: run `python3 -m venv .venv && .venv/bin/pip install -r \
             requirements.txt` in `.`",
        ),
        ("go", "no `go`: install Go 1.24 or newer, or run `python3 -m venv"),
    ] {
        fs::write(here.path().join("component.toml"), MANIFEST.replace("LANGUAGE", language))
            .expect("a file");
        let said = build();
        assert!(refused(&said).contains(expected), "{said:?}");
    }
    for (manifest, expected) in [
        (
            MANIFEST.replace("LANGUAGE", "c").replace("build/guest.wasm", "guest.x"),
            "component.toml: `component`: expected a file that ends in `.wasm`, found `guest.x`",
        ),
        (
            MANIFEST.replace("LANGUAGE", "cobol"),
            "component.toml:1: unknown variant `cobol`, expected one of `rust`",
        ),
        (
            MANIFEST.replace("LANGUAGE", "c").replace("source = 'guest.x'\n", ""),
            "component.toml: a component in C needs a `source`",
        ),
        (
            MANIFEST.replace("LANGUAGE", "c") + "impots = []",
            "component.toml:5: unknown field `impots`",
        ),
        (
            MANIFEST.replace("LANGUAGE", "c").replace("predicate-policy", "proxy"),
            "component.toml:2: unknown variant `proxy`",
        ),
    ] {
        fs::write(here.path().join("component.toml"), manifest).expect("a file");
        let said = build();
        assert!(refused(&said).contains(expected), "{said:?}");
    }
}

/// A tool chain that puts the component `made` where it should.
fn tools(folder: &Path, made: &[u8]) {
    let tool = folder.join(".venv/bin/componentize-py");
    fs::create_dir_all(tool.parent().expect("a folder")).expect("a folder");
    fs::write(folder.join("made.wasm"), made).expect("a file");
    fs::write(
        &tool,
        "#!/bin/sh\nfor last; do :; done\n[ -e fails ] && { echo because; exit 7; }\n\
         cp made.wasm \"$last\"\n",
    )
    .expect("a file");
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("a mode");
    let manifest = MANIFEST.replace("LANGUAGE", "python").replace("guest.x", "guest.py");
    fs::write(folder.join("component.toml"), manifest).expect("a file");
}

#[test]
fn a_build_that_fails_or_needs_more_than_it_may_leaves_what_was_there() {
    let here = here();
    tools(here.path(), &predicate(&is_status(503)));
    let build = || fusebox(here.path(), &["component", "build"]);
    let built = build();
    assert!(
        done(&built).starts_with("./build/guest.wasm: ") && !built.out.contains("unchanged"),
        "{built:?}"
    );
    let shown = "$ .venv/bin/componentize-py -q -d wit -w predicate-policy componentize guest -p \
        . -o build/.scratch-";
    assert!(built.error.starts_with(shown), "{built:?}");
    let left = files(&here.path().join("build"));
    assert_eq!(left, [here.path().join("build/guest.wasm")], "and nothing else stays");
    assert!(done(&build()).ends_with(", unchanged\n"));
    let before = fs::read(here.path().join("build/guest.wasm")).expect("a component");

    fs::write(here.path().join("fails"), "").expect("a file");
    let failed = build();
    assert_eq!(failed.code, Some(1));
    assert!(
        failed
            .error
            .contains("because\nfusebox: `.venv/bin/componentize-py` failed: exit status: 7"),
        "{failed:?}"
    );
    fs::remove_file(here.path().join("fails")).expect("it was there");

    let more = wat::parse_str(
        r#"(component (import "wasi:cli/stderr@0.2.6" (instance)) (import "a:b/c" (instance)))"#,
    );
    fs::write(here.path().join("made.wasm"), more.expect("valid text")).expect("a file");
    let refused = build();
    let said = "fusebox: .: the component imports `wasi:cli/stderr`, `a:b/c`, which `imports` in \
        `component.toml` does not name";
    assert!(refused.code == Some(1) && refused.error.contains(said), "{refused:?}");
    assert_eq!(fs::read(here.path().join("build/guest.wasm")).expect("it is there"), before);
}

/// Debian's tools, where rustup has none, can build guests only with the standard library as a
/// source, which no newcomer does.
fn can_build() -> bool {
    let asked = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc");
    Path::new(String::from_utf8_lossy(&asked.stdout).trim())
        .join("lib/rustlib/wasm32-wasip2")
        .exists()
}

/// From nothing, with the tools that this repository is built with. (The other languages' are
/// heavy: `make policies-all`.)
#[test]
fn a_new_component_in_rust_builds_passes_and_decides() {
    if !can_build() {
        return;
    }
    let here = here();
    done(&fusebox(
        here.path(),
        &["component", "new", "hurried", "--lang", "rust", "--kind", "both"],
    ));
    let folder = here.path().join("hurried");
    // Compiled crates are shared with our own guests. What cargo makes there is named after the
    // crate alone, so the guide's `busy`, which may be built meanwhile, needs another name.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/target");
    let build = || {
        fusebox_with(
            &folder,
            &["component", "build"],
            &[("CARGO_TARGET_DIR", target.to_str().expect("text"))],
        )
    };
    let built = build();
    assert!(
        built.error.starts_with("$ ")
            && built.error.contains("cargo build --release --target wasm32-wasip2"),
        "{built:?}"
    );
    assert!(done(&built).starts_with("./build/hurried.wasm: "), "{built:?}");
    assert!(done(&fusebox(&folder, &["component", "test"])).ends_with(" cases, all as expected\n"));

    // It decides live traffic, and is swapped when it is built again.
    let origin = Origin::answering([answer(503, "retry-after: 1\r\n", ""), ok("second")]);
    let component = fs::read(folder.join("build/hurried.wasm")).expect("it was built");
    let proxy = with_component(&origin, &component, RETRY, "");
    assert_eq!(proxy.ask(get("/", "1")).text(), "second");
    let source = folder.join("src/lib.rs");
    let text = fs::read_to_string(&source).expect("a source");
    fs::write(&source, text.replace("503", "418")).expect("a file");
    done(&build());
    let tested = fusebox(&folder, &["component", "test"]);
    assert_eq!(tested.code, Some(1), "{tested:?}");
    for part in [
        "FAIL  a 503 that says when to come back is a failure (",
        "answer: expected handled = true, found handled = false",
        " cases failed\n",
    ] {
        assert!(tested.out.contains(part), "{tested:?}");
    }
    fs::copy(folder.join("build/hurried.wasm"), proxy.path("c.wasm")).expect("a copy");
    proxy.line("Component replaced");
}

// ===== test and bench =====

const CASES: &str = "[[case]]\nname = 'busy is a failure'\nresponse = { status = 503 }\n\
    expect = { handled = true }\n";

/// A component and cases beside it.
fn subject(component: &[u8], cases: &str) -> TempDir {
    let here = here();
    fs::write(here.path().join("guest.wasm"), component).expect("a file");
    fs::write(here.path().join("cases.toml"), cases).expect("a file");
    here
}

#[test]
fn a_test_shows_what_is_different() {
    let answers = wat_component(&responds(200, "one"));
    let cases = "[[case]]\nname = 'a page'\nfailure = 'timeout'\n\
        expect = { response = { status = 503, body = \"one\\ntwo\" } }\n\
                 [[case]]\nname = 'the other'\nfailure = 'dns'\n\
                 expect = { response = { status = 200 } }\n";
    let here = subject(&answers, cases);
    let tested = fusebox(here.path(), &["component", "test", "guest.wasm"]);
    assert_eq!((tested.code, &*tested.error), (Some(1), ""));
    let expected = "FAIL  a page (cases.toml:1)\n      status: expected 503, found \
        200\n      body (- expected, + found):\n\
                    \x20       - one\n        - two\n        + one\nok    the other\n\
                    1 of 2 cases failed\n";
    assert_eq!(tested.out, expected);
}

#[test]
fn mistakes_in_what_is_tested_are_one_line() {
    let here = subject(&predicate("unreachable"), CASES);
    let test =
        |arguments: &[&str]| fusebox(here.path(), &[&["component", "test"], arguments].concat());
    assert!(
        refused(&test(&["."]))
            .contains("./component.toml: not there, so this is no component's folder")
    );
    assert!(refused(&test(&["missing.wasm"])).contains("missing.wasm: No such file or directory"));
    // Where there are no cases beside it either.
    assert_eq!(
        fusebox(here.path(), &["component", "test", "nowhere/missing.wasm"]).error,
        "fusebox: nowhere/missing.wasm: No such file or directory (os error 2)\n"
    );
    assert_eq!(
        fusebox(here.path(), &["component", "build", "guest.wasm"]).error,
        "fusebox: guest.wasm: is a file; expected the folder of a component\n"
    );
    assert!(
        refused(&test(&["guest.wasm", "missing.toml"]))
            .contains("missing.toml: No such file or directory")
    );
    assert!(
        refused(&test(&["cases.toml"]))
            .contains("cases.toml: is not WebAssembly, expected a component")
    );
    fs::write(here.path().join("wrong.toml"), CASES.replace("handled", "handeled"))
        .expect("a file");
    fs::remove_file(here.path().join("cases.toml")).expect("it was there");
    assert!(
        refused(&test(&["guest.wasm"]))
            .contains("cases.toml: not there: name the cases, or the component's folder")
    );
    fs::write(here.path().join("cases.toml"), CASES).expect("a file");
    assert!(
        refused(&test(&["guest.wasm", "wrong.toml"]))
            .contains("wrong.toml:4: unknown field `handeled`")
    );
    let faulted = test(&["guest.wasm"]);
    let expected = "answer: expected handled = true, found the fault `trap`: wasm `unreachable` \
        instruction executed";
    assert!(faulted.code == Some(1) && faulted.out.contains(expected), "{faulted:?}");
    fs::write(here.path().join("component.toml"), MANIFEST.replace("LANGUAGE", "c"))
        .expect("a file");
    assert!(refused(&test(&["."])).contains("not built yet: run `fusebox component build .`"));
}

#[test]
fn a_watching_test_runs_again_when_something_changes() {
    let here = subject(&predicate("(i32.const 0)"), CASES);
    let mut child = Command::new(env!("CARGO_BIN_EXE_fusebox"))
        .args(["component", "test", "guest.wasm", "--watch"])
        .current_dir(here.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut lines = lines
        .map(|line| line.expect("text"))
        .filter(|line| line.contains("case") && !line.contains("cases.toml"));
    let mut next = || lines.next().expect("it goes on");
    assert_eq!(next(), "1 of 1 cases failed");
    fs::write(here.path().join("guest.wasm"), predicate("(i32.const 1)")).expect("a file");
    assert_eq!(next(), "1 case, as expected");
    fs::write(here.path().join("cases.toml"), CASES.replace("true", "false")).expect("a file");
    assert_eq!(next(), "1 of 1 cases failed");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
}

#[test]
fn a_bench_prints_what_a_component_costs() {
    let here = subject(&predicate(&is_status(503)), CASES);
    let ran = fusebox(here.path(), &["component", "bench", "guest.wasm", "--calls", "100"]);
    let printed = done(&ran);
    for part in [
        "size  ",
        "compile  ",
        "instantiate  ",
        "memory  ",
        "call           median      p99\n",
        " busy is a failure\n",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
    fs::write(here.path().join("guest.wasm"), predicate("unreachable")).expect("a file");
    let failed = fusebox(here.path(), &["component", "bench", "guest.wasm"]);
    assert!(
        refused(&failed)
            .contains("`busy is a failure`: trap: wasm `unreachable` instruction executed"),
        "{failed:?}"
    );
}

// ===== cases in the proxy =====

#[test]
fn cases_guard_the_start_and_every_swap() {
    let never = predicate("(i32.const 0)");
    let here = subject(&never, CASES);
    let config = "listen = '127.0.0.1:0'\n[components.c]\nfile = 'guest.wasm'\n\
        cases = 'cases.toml'\n\
                  [[routes]]\nupstream = 'http://b'\n";
    fs::write(here.path().join("fusebox.toml"), config).expect("a file");
    let said = fusebox(here.path(), &["check"]);
    let expected = "guest.wasm): cases.toml: 1 of 1 cases failed; line 1, `busy is a failure`: \
        answer: expected handled = true, found handled = false";
    assert!(refused(&said).contains(expected), "{said:?}");

    let origin =
        Origin::answering([answer(503, "", ""), ok("second"), answer(503, "", ""), ok("second")]);
    let good = predicate(&is_status(503));
    let config = RETRY.replace("OPTIONS", "cases = 'cases.toml'");
    let proxy =
        Proxy::with_files(&origin, &[("c.wasm", &good), ("cases.toml", CASES.as_bytes())], &config);
    assert_eq!(proxy.ask(get("/", "1")).text(), "second");
    fs::write(proxy.path("c.wasm"), &never).expect("a file");
    let line = proxy.line("Component rejected");
    let reason = line["reason"].as_str().unwrap_or_default();
    assert!(
        reason.ends_with(
            "`busy is a failure`: answer: expected handled = true, found handled = false"
        ),
        "{line}"
    );
    assert_eq!(proxy.ask(get("/", "2")).text(), "second", "the one that passed goes on");
    assert_eq!(proxy.state()["components"]["c"]["rejected"]["reason"], line["reason"]);
}

#[test]
fn what_was_captured_tests_the_next_version() {
    let origin = Origin::answering([
        answer(503, "x-secret-token: abc\r\n", "busy"),
        ok("second"),
        answer(500, "", ""),
    ]);
    let both =
        wat_component(&format!("{} {}", handle_if(&is_status(503)), responds(200, "instead")));
    let proxy = with_component(&origin, &both, RETRY, "capture = 100\npeek_body = '1KiB'");
    assert_eq!(proxy.ask(get("/orders?id=7", "1")).text(), "second");
    assert_eq!(proxy.ask(get("/", "2")).status(), 500);
    proxy.told("2");
    let captured = proxy.lines("Exchange captured");
    assert_eq!(captured.len(), 3, "{captured:?}");
    assert_eq!(captured[0]["case"]["request"]["path"], "/orders?id=7");
    assert_eq!(captured[0]["case"]["response"]["headers"]["x-secret-token"], "(redacted)");
    let here = subject(&both, CASES);
    let log: String = captured.iter().map(|line| format!("{line}\n")).collect();
    fs::write(here.path().join("proxy.log"), log).expect("a file");
    let test = || fusebox(here.path(), &["component", "test", "guest.wasm", "proxy.log"]);
    assert!(done(&test()).ends_with("3 cases, all as expected\n"));
    // As it is configured, and only its own.
    fs::write(
        here.path().join("fusebox.toml"),
        "listen = '127.0.0.1:0'\n[components.c]\nfile = 'c.wasm'\n[[routes]]\n\
         upstream = 'http://b'\n",
    )
    .expect("a file");
    let with = |name: &str| {
        let arguments = [
            "component",
            "test",
            "guest.wasm",
            "proxy.log",
            "--config",
            "fusebox.toml",
            "--component",
            name,
        ];
        fusebox(here.path(), &arguments)
    };
    assert!(done(&with("c")).ends_with("3 cases, all as expected\n"));
    assert!(refused(&with("d")).contains("fusebox.toml: no component `d`"));
    fs::write(here.path().join("guest.wasm"), predicate(&is_status(500))).expect("a file");
    let tested = test();
    assert_eq!(tested.code, Some(1));
    assert!(tested.out.ends_with("2 of 3 cases failed\n"), "{tested:?}");
}

// ===== the guide =====

/// Every block of `docs/components/writing.md` that is for the shell or for a file is carried out,
/// in order.
#[test]
fn the_guide_is_true() {
    if !can_build() {
        return;
    }
    let guide = include_str!("../../../../docs/components/writing.md");
    let here = here();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/target");
    let program = Path::new(env!("CARGO_BIN_EXE_fusebox")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").expect("it is set"));
    let mut script = "set -e\n".to_owned();
    for block in guide.split("```").skip(1).step_by(2) {
        let (info, content) = block.split_once('\n').expect("a first line");
        match info.split_once(' ').unwrap_or((info, "")) {
            ("sh", "") => script += content,
            ("toml", file) if !file.is_empty() => {
                script += &format!("cat > {file} << 'END'\n{content}END\n")
            }
            (kind, rest) => assert!(
                ["text"].contains(&kind) && rest.is_empty(),
                "a block that is not tested: {info}"
            ),
        }
    }
    let ran = Command::new("bash")
        .args(["-c", &script])
        .current_dir(here.path())
        .env("PATH", path)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("bash");
    let said =
        [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(ran.status.success(), "{said}");
    assert!(said.contains("cases, all as expected") && said.contains("busy.toml: ok"), "{said}");
}
