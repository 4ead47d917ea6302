//! The program, run to its end.

use std::path::Path;
use std::process::Command;

use fusebox_dev::{LIMIT, Ran, run};

/// Runs the program to its end, in a directory of the test's own.
#[track_caller]
pub(crate) fn fusebox(directory: &Path, arguments: &[&str]) -> Ran {
    fusebox_elsewhere(directory, &directory.join("cache"), arguments, &[])
}

/// Likewise, with the notes on changed defaults, which the others leave out of what it complains
/// of.
#[track_caller]
pub(crate) fn fusebox_noting(directory: &Path, arguments: &[&str]) -> Ran {
    program(directory, &directory.join("cache"), arguments, &[])
}

/// Likewise, with these variables.
#[track_caller]
pub(crate) fn fusebox_with(
    directory: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Ran {
    ran(directory, &directory.join("cache"), arguments, variables)
}

/// Likewise in any other, with a cache that is the test's own, and with these variables.
#[track_caller]
pub(crate) fn fusebox_elsewhere(
    directory: &Path,
    cache: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Ran {
    ran(directory, cache, arguments, variables)
}

/// The last line, which says how it went.
pub(crate) fn verdict(out: &str) -> &str {
    out.lines().last().unwrap_or_default()
}

#[track_caller]
fn ran(directory: &Path, cache: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut ran = program(directory, cache, arguments, variables);
    let lines = ran.error.split_inclusive('\n');
    ran.error = lines.filter(|line| !line.starts_with("note: ")).collect();
    ran
}

#[track_caller]
fn program(directory: &Path, cache: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fusebox"));
    command
        .args(arguments)
        .current_dir(directory)
        .env("XDG_CACHE_HOME", cache)
        .env("FUSEBOX_TEST", "from the environment")
        .envs(variables.iter().copied());
    // A build compiles what a language's tools need, the first time.
    let limit = LIMIT * if arguments.get(1) == Some(&"build") { 10 } else { 1 };
    run(&mut command, limit)
}
