//! The compiling child: it limits its own resources, reads a component and writes its code.
//!
//! What compiles a hostile file may have been taken over by it. So the child can reach nothing but
//! its three pipes: see `confine`.

#[cfg(target_os = "linux")]
mod seccomp;

use std::io::{self, Read as _, Write};
use std::process::ExitCode;

use anyhow::Context as _;
use rustix::process::{
    Pid, Resource, Rlimit, getppid, getpriority_process, getrlimit, setpriority_process, setrlimit,
};
use wasmtime::Engine;
use wasmtime::error::OutOfMemory;

use crate::artifact::LARGEST_FILE;
use crate::compiler::codegen::code_of;
use crate::compiler::exit::{NOT_A_COMPONENT, OUT_OF_MEMORY, UNCONFINED};
use crate::engine::{anyhow_of, config};

/// Its files: stdin, stdout and stderr.
const PIPES: u64 = 3;

/// Compiles the component on stdin to stdout, within `memory` bytes and `cpu` seconds of processor
/// time, with the niceness `nice`, and only for as long as the process `parent` lives. It is the
/// whole of a child that [`Compiler::child`](crate::Compiler::child) starts; the exit code is for
/// the parent, and so is what is said on stderr.
pub fn compile(memory: u64, cpu: u64, nice: i32, parent: i32) -> ExitCode {
    match limit(memory, cpu, nice, parent).and_then(|()| compile_stdin()) {
        Ok(code) => code,
        Err(error) => complain(&error, ExitCode::FAILURE),
    }
}

fn limit(memory: u64, cpu: u64, nice: i32, parent: i32) -> anyhow::Result<()> {
    // On other systems it runs until a write to the parent fails.
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("end with the parent")?;
    // A parent that died before sends no signal.
    anyhow::ensure!(getppid() == Pid::from_raw(parent), "the parent is gone");
    lower(Resource::Core, 0, 0)?;
    lower(Resource::Fsize, 0, 0)?;
    // The soft limit sends a signal that the parent recognises; the hard one kills a child that
    // ignores it.
    lower(Resource::Cpu, cpu, cpu + 1)?;
    lower(Resource::Data, memory, memory)?;
    // It may have a higher one already.
    if nice > 0 && getpriority_process(None).is_ok_and(|has| has < nice) {
        setpriority_process(None, nice).ok();
    }
    // Where memory runs out, what compiles goes, not what serves. Without `/proc` the kernel
    // decides.
    #[cfg(target_os = "linux")]
    std::fs::write("/proc/self/oom_score_adj", "1000").ok();
    // After this nothing more can be opened, and nothing started.
    lower(Resource::Nofile, PIPES, PIPES)?;
    lower(Resource::Nproc, 0, 0)
}

/// Leaves only the system calls that compiling needs. Where that can't be had, the compiler runs
/// without it, and the parent is told.
fn confine() {
    #[cfg(target_os = "linux")]
    let confined = seccomp::confine().map_err(|error| format!("{error:#}"));
    #[cfg(not(target_os = "linux"))]
    let confined: Result<(), String> = Err("this system has no seccomp".to_owned());
    if let Err(reason) = confined {
        writeln!(io::stderr(), "{UNCONFINED}{reason}").ok();
    }
}

/// Lowers a limit, or keeps one that is lower already.
fn lower(resource: Resource, current: u64, maximum: u64) -> anyhow::Result<()> {
    let had = getrlimit(resource);
    let least = |had: Option<u64>, new: u64| Some(had.map_or(new, |had| had.min(new)));
    let limit =
        Rlimit { current: least(had.current, current), maximum: least(had.maximum, maximum) };
    setrlimit(resource, limit).with_context(|| format!("limit {resource:?}"))
}

fn compile_stdin() -> anyhow::Result<ExitCode> {
    // It asks the system about the processor.
    let engine = Engine::new(&config()).map_err(anyhow_of).context("WebAssembly engine")?;
    confine();
    let mut component = Vec::new();
    match io::stdin().take(LARGEST_FILE).read_to_end(&mut component) {
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => {
            return Ok(ExitCode::from(OUT_OF_MEMORY));
        }
        read => read?,
    };
    match code_of(&engine, &component) {
        Ok(code) => {
            io::stdout().write_all(&code)?;
            io::stdout().flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) if error.is::<OutOfMemory>() => Ok(ExitCode::from(OUT_OF_MEMORY)),
        Err(error) => Ok(complain(&error, ExitCode::from(NOT_A_COMPONENT))),
    }
}

/// Errors are ignored: the parent is gone.
fn complain(error: &anyhow::Error, code: ExitCode) -> ExitCode {
    write!(io::stderr(), "{error:#}").ok();
    code
}
