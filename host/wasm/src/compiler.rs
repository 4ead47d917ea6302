//! Where compiled code comes from: the cache, else a process of its own that may use only so much
//! memory and time.
//!
//! Compiling is where a hostile file does the most: 2 MB of it can keep a core busy for minutes and
//! take gigabytes. So the program runs itself once more for each component, as a child that [limits
//! itself](compile_child) before it reads the first byte. What goes wrong there is a reason to
//! refuse the component, and nothing else.
//!
//! The parent reads the child's output as code and runs it. It trusts it as far as it trusts
//! itself: both are the same program and make the same engine.

mod child;
mod steps;
mod wrap;

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use bytesize::ByteSize;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::code_cache::{CodeCache, Key};
use crate::engine::anyhow_of;

pub use child::compile_child;
pub(crate) use wrap::{has_world, into_component};

/// The most code that is taken from a child: far above what 64 MiB of WebAssembly become.
const LARGEST_CODE: u64 = 512 << 20;

/// The most of a child's complaint that is kept.
const LONGEST_COMPLAINT: u64 = 4 << 10;

/// How much longer than its processor time a child may take, since it yields to the workers: so
/// many times as long,
const PATIENCE: u64 = 4;
/// and this.
const GRACE: Duration = Duration::from_secs(30);

/// mimalloc would else take a gigabyte before the child can set a limit, and then live on that.
/// With it only what is in use counts, and some 50 MiB that it holds ready; other allocators don't
/// know it.
const LATE_COMMIT: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

/// How the child says that it was no component; any other failure is its own.
const NOT_A_COMPONENT: u8 = 3;

/// How it says that it had not enough memory, if it noticed before the allocator gave up.
const OUT_OF_MEMORY: u8 = 4;

/// Makes code of components, or finds what was made before. Clones share the cache and the counts.
#[derive(Clone, Debug)]
pub struct Compiler {
    place: Place,
    cache: Option<Arc<CodeCache>>,
    counts: Arc<Counts>,
}

#[derive(Clone, Debug)]
enum Place {
    InProcess,
    Child { program: PathBuf, arguments: Vec<OsString> },
}

#[derive(Debug, Default)]
struct Counts {
    compiled: AtomicU64,
    cached: AtomicU64,
}

/// How much compiling one component may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompileLimits {
    /// Bytes.
    pub(crate) memory: ByteSize,
    /// Processor time; a child counts it in whole seconds, rounded up.
    pub(crate) timeout: Duration,
}

impl Compiler {
    /// Compiles on the caller's thread, without limits: for files that are trusted.
    pub fn in_process() -> Self {
        Self { place: Place::InProcess, cache: None, counts: Arc::default() }
    }

    /// Runs `program` for each component, with `arguments` and those that [`compile_child`] takes.
    /// It must be the same program as the caller: its output is run as machine code.
    pub fn child(program: PathBuf, arguments: Vec<OsString>) -> Self {
        Self { place: Place::Child { program, arguments }, cache: None, counts: Arc::default() }
    }

    /// Keeps code in `cache`, and takes it from there.
    pub fn with_cache(self, cache: CodeCache) -> Self {
        Self { cache: Some(Arc::new(cache)), ..self }
    }

    /// Compiles always.
    pub(crate) fn without_cache(&self) -> Self {
        Self { cache: None, ..self.clone() }
    }

    /// Whether code is kept.
    pub(crate) fn has_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// How many components were compiled, those that turned out not to be valid among them.
    pub fn compiled(&self) -> u64 {
        self.counts.compiled.load(Ordering::Relaxed)
    }

    /// How many came from the cache.
    pub fn cached(&self) -> u64 {
        self.counts.cached.load(Ordering::Relaxed)
    }

    /// The code of the component `bytes`, whose SHA-256 is `digest`. Blocks: milliseconds if it is
    /// in the cache, else up to four times `limits.timeout` and 30 s.
    ///
    /// # Errors
    /// It is not a valid component, or takes more than `limits` to compile; or the system has no
    /// process to spare.
    pub(crate) fn compile(
        &self,
        engine: &Engine,
        bytes: &[u8],
        digest: &str,
        limits: CompileLimits,
    ) -> anyhow::Result<Component> {
        let entry = self.cache.as_ref().map(|cache| (cache, Key::new(digest, engine)));
        if let Some((cache, key)) = &entry
            && let Some(component) = cache.load(key, engine)
        {
            self.counts.cached.fetch_add(1, Ordering::Relaxed);
            return Ok(component);
        }
        self.counts.compiled.fetch_add(1, Ordering::Relaxed);
        let code = match &self.place {
            Place::InProcess => code_of(engine, bytes).context(INVALID)?,
            Place::Child { program, arguments } => {
                let mut command = Command::new(program);
                command.args(arguments);
                in_child(command, bytes, limits)?
            }
        };
        // From the file it is shared with others who use it, and need not stay in memory.
        if let Some((cache, key)) = &entry
            && cache.store(key, &code)
            && let Some(component) = cache.load(key, engine)
        {
            return Ok(component);
        }
        #[expect(unsafe_code, reason = "the only way to run code that was compiled elsewhere")]
        // SAFETY: it comes from `precompile_component`, called here or by a child that is our own
        // program.
        let component = unsafe { Component::deserialize(engine, &code) };
        component.map_err(anyhow_of).context("the compiler made no code")
    }
}

const INVALID: &str = "is not a valid component";

/// Compiles a component, or a core module that can become one, here and now.
fn code_of(engine: &Engine, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let is_module = bytes.get(4..8) == Some(&MODULE);
    let component =
        if is_module { Cow::Owned(into_component(bytes)?) } else { Cow::Borrowed(bytes) };
    engine.precompile_component(&steps::in_steps(&component)?).map_err(anyhow_of)
}

/// The version and layer fields of the two binary formats.
pub(crate) const MODULE: [u8; 4] = [1, 0, 0, 0];
pub(crate) const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];

/// Runs `command` with the limits as arguments, the component as input and the code as output.
fn in_child(
    mut command: Command,
    component: &[u8],
    limits: CompileLimits,
) -> anyhow::Result<Vec<u8>> {
    let seconds = whole_seconds(limits.timeout);
    command
        .arg(format!("--memory={}", limits.memory.as_u64()))
        .arg(format!("--cpu={seconds}"))
        .arg(format!("--parent={}", process::id()))
        .arg0("fusebox")
        .env_clear()
        .env(LATE_COMMIT.0, LATE_COMMIT.1)
        // A ctrl-c is for the parent, who may want to let calls in flight end first.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let wall = Duration::from_secs(PATIENCE * seconds) + GRACE;
    let ended = Running::start(&mut command)?.finish(component, wall)?;
    ensure!(
        ended.code.len() as u64 <= LARGEST_CODE,
        "becomes more than {} of code",
        ByteSize::b(LARGEST_CODE)
    );
    if ended.status.success() { Ok(ended.code) } else { Err(ended.refusal(limits, wall)) }
}

impl Ended {
    /// Why there is no code: what ended the child decides, and not what came after that.
    fn refusal(&self, limits: CompileLimits, wall: Duration) -> anyhow::Error {
        let complaint = self.complaint.trim();
        let was_ended_by = |signal: Signal| self.status.signal() == Some(signal.as_raw());
        // The words of the standard library before it aborts.
        let gave_up = was_ended_by(Signal::ABORT) && complaint.contains("memory allocation of ");
        if self.status.code() == Some(NOT_A_COMPONENT.into()) {
            anyhow!("{complaint}").context(INVALID)
        } else if gave_up || self.status.code() == Some(OUT_OF_MEMORY.into()) {
            anyhow!("takes more than {} of memory to compile", limits.memory)
        } else if was_ended_by(Signal::XCPU) {
            anyhow!("takes longer than {}s to compile", whole_seconds(limits.timeout))
        } else if self.overdue && was_ended_by(Signal::KILL) {
            anyhow!("could not be compiled within {}s; the machine is busy", wall.as_secs())
        } else {
            let complaint =
                if complaint.is_empty() { String::new() } else { format!(": {complaint}") };
            anyhow!("the compiler crashed: {}{complaint}", self.status)
        }
    }
}

/// The kernel counts a process's time in whole seconds.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// A child that is killed and reaped, whatever happens here.
struct Running(Child);

struct Ended {
    status: ExitStatus,
    code: Vec<u8>,
    complaint: String,
    /// It was killed for the time it took.
    overdue: bool,
}

impl Running {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().context("the compiler can't be started")?))
    }

    /// Feeds it, reads what it says, and waits for its end, for no longer than `wall`.
    fn finish(mut self, input: &[u8], wall: Duration) -> anyhow::Result<Ended> {
        let (stdin, stdout, stderr) =
            (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            bail!("the compiler has no pipes");
        };
        let id = Pid::from_child(&self.0);
        let (ended, end) = channel::<()>();
        // A pipe that is full blocks both sides, so each has a thread. If there is none, dropping
        // `self` ends the child and with it those that have begun.
        thread::scope(|scope| {
            let this = self;
            // What a child that has died did not read is not missed.
            let writer = move || stdin.write_all(input).ok();
            let reader = move || {
                let mut complaint = Vec::new();
                stderr.take(LONGEST_COMPLAINT).read_to_end(&mut complaint).ok();
                complaint
            };
            let watcher = move || match end.recv_timeout(wall) {
                Err(RecvTimeoutError::Timeout) => kill_process(id, Signal::KILL).is_ok(),
                _ => false,
            };
            let no_thread = "no thread to feed the compiler";
            builder().spawn_scoped(scope, writer).context(no_thread)?;
            let reader = builder().spawn_scoped(scope, reader).context(no_thread)?;
            let watcher = builder().spawn_scoped(scope, watcher).context(no_thread)?;
            let mut code = Vec::new();
            stdout.take(LARGEST_CODE + 1).read_to_end(&mut code)?;
            // It stays a zombie until the watcher is gone: its id must not be another's when it is
            // killed.
            let gone = wait(id);
            drop(ended);
            let overdue = watcher.join().unwrap_or_default();
            gone?;
            let complaint = reader.join().unwrap_or_default();
            let status = this.reap()?;
            Ok(Ended {
                status,
                code,
                complaint: String::from_utf8_lossy(&complaint).into_owned(),
                overdue,
            })
        })
    }

    fn reap(mut self) -> io::Result<ExitStatus> {
        self.0.wait()
    }
}

fn builder() -> thread::Builder {
    thread::Builder::new().name("fusebox-compile".into())
}

/// Waits until it has ended, and leaves it to be reaped.
fn wait(id: Pid) -> io::Result<()> {
    loop {
        match waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Neither does anything to a child that was reaped.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ended_by_itself_was_not_ended_by_the_clock() {
        let limits =
            CompileLimits { memory: ByteSize::mib(64), timeout: Duration::from_millis(1500) };
        let exit = |code: u8| i32::from(code) << 8;
        let signal = |signal: Signal| signal.as_raw();
        for (status, complaint, reason) in [
            (exit(NOT_A_COMPONENT), "no sections", "is not a valid component: no sections"),
            (exit(OUT_OF_MEMORY), "", "takes more than 64.0 MiB of memory to compile"),
            (
                signal(Signal::ABORT),
                "memory allocation of 8 bytes failed",
                "takes more than 64.0 MiB of memory to compile",
            ),
            (signal(Signal::XCPU), "", "takes longer than 2s to compile"),
            (signal(Signal::SEGV), "", "the compiler crashed: signal: 11 (SIGSEGV)"),
            (exit(1), "why", "the compiler crashed: exit status: 1: why"),
        ] {
            for overdue in [false, true] {
                let ended = Ended {
                    status: ExitStatus::from_raw(status),
                    code: Vec::new(),
                    complaint: complaint.to_owned(),
                    overdue,
                };
                let refusal = ended.refusal(limits, Duration::from_secs(38));
                assert_eq!(format!("{refusal:#}"), reason);
            }
        }
        let killed = |overdue| Ended {
            status: ExitStatus::from_raw(signal(Signal::KILL)),
            code: Vec::new(),
            complaint: String::new(),
            overdue,
        };
        let refusal = |overdue| killed(overdue).refusal(limits, Duration::from_secs(38));
        assert_eq!(
            refusal(true).to_string(),
            "could not be compiled within 38s; the machine is busy"
        );
        assert_eq!(refusal(false).to_string(), "the compiler crashed: signal: 9 (SIGKILL)");
    }
}
