//! Compiling: what a hostile component may take, what is kept, and what is left behind.

use std::env::consts::ARCH;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use fusebox_dev::{
    Origin, Ran, answer, eventually, get, handle_if, is_status, predicate, wat_component,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use serde_json::json;

use crate::cli::{complaints, config, directory};
use crate::components::{FALLBACK, says, with_component};
use crate::support::{Proxy, fusebox, verdict};

/// A predicate beside a function that is small and takes long to compile: the value of each local
/// on each level of the loops is one of its own.
pub(crate) fn tangle(loops: usize, locals: usize) -> Vec<u8> {
    let mut text =
        format!("(func (param i32) (local{}) {}", " i32".repeat(locals), "loop ".repeat(loops));
    for local in 1..=locals {
        let next = local % locals + 1;
        write!(text, "(local.set {next} (i32.add (local.get {local}) (i32.const 1)))")
            .expect("a string");
    }
    text += &"(br_if 0 (local.get 0)) end ".repeat(loops);
    wat_component(&format!("{text}) {}", handle_if(&is_status(503))))
}

/// 40 KB that take 10 s and more.
pub(crate) fn slow() -> Vec<u8> {
    tangle(2000, 3000)
}

/// Takes more than 64 MiB, and a second.
fn large() -> Vec<u8> {
    tangle(300, 10_000)
}

/// Whether this is what is said of it, if it may take a second. Where others keep the machine busy,
/// it does not get that.
fn is_too_slow(reason: &str) -> bool {
    reason.ends_with(": takes longer than 1s to compile")
        || reason.ends_with(": could not be compiled within 42s; the machine is busy")
}

const SMALL: &str = "compile_memory = '64MiB'";
const SHORT: &str = "compile_timeout = '1s'";

/// A configuration with the component `c` and these options of it.
fn with_options(options: &str) -> String {
    config(&format!(
        "[components.c]\nfile = 'c.wasm'\n{options}\n\
         [policies.retry]\nkind = 'retry'\nhandle_if = {{ component = 'c' }}\n\
         [[routes]]\nupstream = 'http://b'\npolicies = ['retry']\n"
    ))
}

/// The processes that compile for this one.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let wanted = format!("--parent={parent}");
    let processes = fs::read_dir("/proc").expect("processes").filter_map(|entry| {
        let id: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        // A zombie has no arguments, so whether it was reaped is looked at apart.
        let arguments = fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        arguments.split('\0').any(|argument| argument == wanted).then_some(id)
    });
    processes.collect()
}

/// Its children of any kind, dead ones that nobody has asked for included.
pub(crate) fn zombies(parent: u32) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("processes").filter_map(|entry| {
        let status = fs::read_to_string(entry.ok()?.path().join("status")).ok()?;
        status.lines().any(|line| line == format!("PPid:\t{parent}")).then_some(status)
    });
    processes.collect()
}

pub(crate) fn by_rename(proxy: &Proxy, bytes: &[u8]) {
    fs::write(proxy.path("new"), bytes).expect("a file");
    fs::rename(proxy.path("new"), proxy.path("c.wasm")).expect("a file");
}

// ===== limits =====

#[test]
fn a_component_that_takes_too_much_to_compile_stops_the_start() {
    let place = directory(&with_options(SMALL));
    fs::write(place.path().join("c.wasm"), large()).expect("a file");
    let expected = "fusebox.toml:4: components.c.file: component `c` (c.wasm): ";
    assert_eq!(
        complaints(place.path()),
        [format!("{expected}takes more than 64MiB of memory to compile")]
    );
    let place = directory(&with_options(SHORT));
    fs::write(place.path().join("c.wasm"), slow()).expect("a file");
    for command in ["check", "run"] {
        let Ran { code, error, .. } = fusebox(place.path(), &[command]);
        assert!(
            code == Some(1) && error.starts_with(expected) && is_too_slow(error.trim_end()),
            "{error}"
        );
    }
}

#[test]
fn a_component_that_takes_too_much_to_compile_is_no_replacement() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = with_component(&origin, &says("good"), FALLBACK, &format!("{SHORT}\n{SMALL}"));
    by_rename(&proxy, &large());
    let reason = proxy.line("Component rejected")["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.ends_with("c.wasm: takes more than 64MiB of memory to compile"), "{reason}");

    let proxy = with_component(&origin, &says("good"), FALLBACK, SHORT);
    by_rename(&proxy, &slow());
    eventually("a compiler", || children(proxy.id()).pop());
    let mut asked = 0;
    while proxy.lines("Component rejected").is_empty() {
        assert_eq!(proxy.ask(get("/", "meanwhile")).text(), "good");
        asked += 1;
    }
    assert!(asked > 10, "{asked}");
    let reason = proxy.line("Component rejected")["reason"].as_str().expect("a reason").to_owned();
    assert!(is_too_slow(&reason), "{reason}");
    assert_eq!(zombies(proxy.id()), [""; 0]);
    by_rename(&proxy, &says("better"));
    proxy.line("Component replaced");
    assert_eq!(proxy.ask(get("/", "after")).text(), "better");
}

// ===== what is kept from it =====

/// Of the lines `NAME: VALUE` of a file about a process, the value of this one.
fn about(process: u32, file: &str, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).expect("it runs");
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.expect(name).split_whitespace().next().unwrap_or_default().to_owned()
}

/// A compiler of this process that has confined itself.
fn confined(parent: u32) -> Option<u32> {
    let compiler = children(parent).pop()?;
    (about(compiler, "status", "Seccomp:") == "2").then_some(compiler)
}

#[test]
fn a_compiler_can_reach_nothing_and_goes_first_when_memory_runs_out() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = with_component(&origin, &says("good"), FALLBACK, "");
    by_rename(&proxy, &slow());
    let compiler = eventually("a compiler that has confined itself", || confined(proxy.id()));
    assert_eq!(about(compiler, "status", "NoNewPrivs:"), "1");
    assert_eq!(about(compiler, "limits", "Max open files"), "3");
    assert_eq!(about(compiler, "limits", "Max processes"), "0");
    assert_eq!(about(compiler, "oom_score_adj", ""), "1000");
    assert_eq!(about(proxy.id(), "status", "Seccomp:"), "0", "the proxy itself is not confined");
    assert_eq!(proxy.lines("Component compiled without seccomp"), [json!(null); 0]);
}

/// How far a process comes behind what else is busy.
fn niceness(process: u32) -> i32 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    // Its name may have spaces.
    let (_, rest) = stat.rsplit_once(')').expect("a name");
    rest.split_whitespace().nth(16).expect("a niceness").parse().expect("a number")
}

#[test]
fn a_compiler_comes_behind_workers_and_not_behind_what_an_author_runs() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = with_component(&origin, &says("good"), FALLBACK, "");
    by_rename(&proxy, &slow());
    let compiler = eventually("a compiler", || confined(proxy.id()));
    assert_eq!(niceness(compiler), niceness(proxy.id()).max(10));

    let place = directory("");
    fs::write(place.path().join("c.wasm"), slow()).expect("a file");
    let mut author = Command::new(env!("CARGO_BIN_EXE_fusebox"))
        .args(["component", "inspect", "c.wasm"])
        .current_dir(place.path())
        .spawn()
        .expect("it runs");
    let compiler = eventually("a compiler", || confined(author.id()));
    assert_eq!(niceness(compiler), niceness(author.id()));
    author.kill().expect("it runs");
    author.wait().expect("it ends");
}

/// Makes this thread, and what it starts, one whose kernel has no seccomp.
fn without_seccomp() {
    let filter = SeccompFilter::new(
        [(libc::SYS_seccomp, Vec::new())].into(),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS.unsigned_abs()),
        TargetArch::try_from(ARCH).expect("an architecture that has it"),
    );
    let program: BpfProgram =
        filter.and_then(BpfProgram::try_from).expect("a filter that makes sense");
    apply_filter(&program).expect("seccomp");
}

#[test]
fn without_seccomp_a_component_is_compiled_all_the_same_and_that_is_said() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let start = || {
        without_seccomp();
        with_component(&origin, &says("good"), FALLBACK, "")
    };
    let proxy = thread::scope(|scope| scope.spawn(start).join()).expect("it starts");
    assert_eq!(proxy.ask(get("/", "1")).text(), "good");
    let line = proxy.line("Component compiled without seccomp");
    assert_eq!((&line["level"], &line["component"]), (&json!("WARN"), &json!("c")));
    let reason = line["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("seccomp: ") && reason.contains("os error 38"), "{reason}");
}

#[test]
fn limits_that_make_no_sense_are_said_so() {
    let directory = directory(&with_options("compile_memory = '1MiB'\ncompile_timeout = '11m'"));
    fs::write(directory.path().join("c.wasm"), predicate("(i32.const 1)")).expect("a file");
    assert_eq!(
        complaints(directory.path()),
        [
            "fusebox.toml:5: components.c.compile_memory: must be from 64MiB to 16GiB, \
             is 1MiB",
            "fusebox.toml:6: components.c.compile_timeout: must be from 1ms to 10m, is 11m",
        ]
    );
}

// ===== what is left behind =====

#[test]
fn no_compiler_outlives_the_proxy() {
    for signal in ["TERM", "KILL"] {
        let origin = Origin::answering([answer(503, "", "busy")]);
        let mut proxy = with_component(&origin, &says("good"), FALLBACK, "");
        by_rename(&proxy, &slow());
        let compiler = eventually("a compiler", || children(proxy.id()).pop());
        proxy.signal(signal);
        proxy.end();
        eventually("its end", || {
            let status = fs::read_to_string(format!("/proc/{compiler}/status"));
            status.map_or(true, |status| status.contains("State:\tZ")).then_some(())
        });
        assert_eq!(children(proxy.id()), [0; 0], "{signal}");
    }
}

// ===== the cache =====

pub(crate) fn entries(cache: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(cache).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "code")).collect()
}

#[test]
fn the_second_start_need_not_compile() {
    let directory = directory(&with_options(""));
    fs::write(directory.path().join("c.wasm"), large()).expect("a file");
    let cache = directory.path().join("cache/fusebox");
    let check = || fusebox(directory.path(), &["check"]);
    assert_eq!(check().code, Some(0));
    let entry = entries(&cache).pop().expect("an entry");
    // With this it could not.
    fs::write(directory.path().join("fusebox.toml"), with_options(SMALL)).expect("a file");
    assert_eq!(check().code, Some(0));
    fs::write(&entry, "spoilt").expect("a file");
    let Ran { code, error, .. } = check();
    assert_eq!(code, Some(1), "what is spoilt is not used");
    assert!(error.contains("takes more than 64MiB of memory to compile"), "{error}");
    assert!(entries(&cache).is_empty());
}

#[test]
fn a_spoilt_entry_does_no_harm() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let shared = tempfile::tempdir().expect("a directory");
    let cache = shared.path().join("code");
    let config = format!("[code_cache]\ndirectory = '{}'\n{FALLBACK}", cache.display());
    let start = || with_component(&origin, &says("good"), &config, "");
    assert_eq!(start().ask(get("/", "1")).text(), "good");
    let entry = entries(&cache).pop().expect("an entry");
    let good = fs::read(&entry).expect("a file");
    for spoilt in [&good[..good.len() - 1], b"", &[0; 100_000]] {
        fs::write(&entry, spoilt).expect("a file");
        assert_eq!(start().ask(get("/", "1")).text(), "good");
        assert!(fs::read(&entry).expect("a file") == good, "it is made anew");
    }
    // What runs does not notice that its entry is gone.
    let proxy = start();
    fs::remove_dir_all(&cache).expect("a directory");
    assert_eq!(proxy.ask(get("/", "2")).text(), "good");
    by_rename(&proxy, &says("better"));
    assert_eq!(proxy.line("Component replaced")["generation"], json!(2));
    assert_eq!(proxy.ask(get("/", "3")).text(), "better");
}

#[test]
fn a_directory_of_ones_own_must_be_safe() {
    let good = predicate("(i32.const 1)");
    let place = directory("");
    let write = |cache: &str| {
        fs::write(place.path().join("c.wasm"), &good).expect("a file");
        fs::write(
            place.path().join("fusebox.toml"),
            format!("{}[code_cache]\n{cache}\n", with_options("")),
        )
        .expect("it");
    };
    let code = place.path().join("code");
    fs::create_dir(&code).expect("a directory");
    fs::set_permissions(&code, Permissions::from_mode(0o777)).expect("it is ours");
    write("directory = 'code'");
    assert_eq!(
        complaints(place.path()),
        [format!(
            "fusebox.toml:13: code_cache.directory: `{}` can be written to by others (mode 777), \
             expected 700",
            fs::canonicalize(&code).expect("it is there").display()
        )]
    );
    fs::set_permissions(&code, Permissions::from_mode(0o700)).expect("it is ours");
    assert_eq!(fusebox(place.path(), &["check"]).code, Some(0));
    assert_eq!(entries(&code).len(), 1, "relative to the configuration");
    assert!(!place.path().join("cache").exists());

    write("directory = ''\nmax_size = '1KiB'");
    assert_eq!(
        complaints(place.path()),
        [
            "fusebox.toml:13: code_cache.directory: must not be empty",
            "fusebox.toml:14: code_cache.max_size: must be at least 1MiB, is 1KiB",
        ]
    );
    write("enabled = false\ndirectory = 'none'");
    assert_eq!(fusebox(place.path(), &["check"]).code, Some(0));
    assert!(!place.path().join("none").exists());
}

#[test]
fn a_default_directory_that_is_not_safe_is_a_warning() {
    let place = directory(&with_options(""));
    fs::write(place.path().join("c.wasm"), predicate("(i32.const 1)")).expect("a file");
    let cache = place.path().join("cache");
    fs::create_dir(&cache).expect("a directory");
    fs::set_permissions(&cache, Permissions::from_mode(0o777)).expect("it is ours");
    let Ran { code, out, error } = fusebox(place.path(), &["check"]);
    assert_eq!((code, verdict(&out)), (Some(0), "fusebox.toml: ok"));
    assert!(error.starts_with("warning: fusebox.toml: code_cache.directory: `"), "{error}");
    assert!(error.ends_with("/cache`; components are compiled at each start\n"), "{error}");
    let Ran { code, error, .. } = fusebox(place.path(), &["component", "inspect", "c.wasm"]);
    assert_eq!((code, &*error), (Some(0), ""), "an inspection does without");
}

#[test]
fn without_components_there_is_no_cache_and_no_word_of_it() {
    let place = directory(&config("[[routes]]\nupstream = 'http://b'\n"));
    let Ran { code, error, .. } = fusebox(place.path(), &["check"]);
    assert_eq!((code, &*error), (Some(0), ""));
    assert!(!place.path().join("cache").exists());
}
