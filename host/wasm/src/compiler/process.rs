//! Compiling in a child process with limits on memory and time.

use std::io::{self, Read, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use fusebox_resilience::config::ConfigSize;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::time::Instant;

use super::exit::{NOT_A_COMPONENT, OUT_OF_MEMORY, UNCONFINED};
use super::limits::CompileLimits;
use crate::overtaken::{LOOK, Overtaken};
use crate::shortage::Shortage;

/// The most code that is taken from a child: far above what 64 MiB of WebAssembly become.
const LARGEST_CODE: u64 = 512 << 20;

/// The longest error message that is kept of a child.
const LONGEST_COMPLAINT: u64 = 4 << 10;

/// The niceness of a child that yields: a busy worker gets ten times as much of a processor.
const YIELDING: i32 = 10;

/// So its time limit is `PATIENCE` times its processor time,
const PATIENCE: u64 = 12;
/// plus `GRACE`.
const GRACE: Duration = Duration::from_secs(30);

/// Without it mimalloc commits a gigabyte before the child can set its limit, which then has no
/// effect. With it only memory in use counts, plus some 50 MiB. Other allocators ignore it.
const LATE_COMMIT: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

/// The refusal of a file that can't be compiled.
pub(super) const INVALID: &str = "is not a valid component";

/// What a child has made.
pub(super) struct CompiledCode {
    pub(super) code: Vec<u8>,
    /// Why it ran without seccomp, if it did.
    pub(super) unconfined: Option<String>,
}

/// Runs `command` with the limits as arguments, the component as input and the code as output. If
/// it `yields`, busy workers come first.
pub(super) fn in_child(
    mut command: Command,
    component: &[u8],
    limits: CompileLimits,
    yields: bool,
    overtaken: &Overtaken,
) -> anyhow::Result<CompiledCode> {
    let seconds = whole_seconds(limits.timeout);
    command
        .arg(format!("--memory={}", limits.memory.0))
        .arg(format!("--cpu={seconds}"))
        .arg(format!("--nice={}", if yields { YIELDING } else { 0 }))
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
    let ended = CompilerChild::start(&mut command)?.finish(component, wall, overtaken)?;
    ensure!(
        ended.code.len() as u64 <= LARGEST_CODE,
        "becomes more than {} of code",
        ConfigSize(LARGEST_CODE)
    );
    if ended.status.success() {
        let unconfined = ended.unconfined().map(|(reason, _)| reason.to_owned());
        Ok(CompiledCode { code: ended.code, unconfined })
    } else {
        Err(ended.refusal(limits, wall))
    }
}

impl ChildEnd {
    /// Why it ran without seccomp, if it did, and what it said after that.
    fn unconfined(&self) -> Option<(&str, &str)> {
        self.complaint.strip_prefix(UNCONFINED)?.split_once('\n')
    }

    /// Why there is no code. The cause that ended the child decides, even if its time limit passed
    /// later.
    fn refusal(&self, limits: CompileLimits, wall: Duration) -> anyhow::Error {
        let complaint = self.unconfined().map_or(&*self.complaint, |(_, rest)| rest).trim();
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
            let wall = wall.as_secs();
            Shortage(format!("could not be compiled within {wall}s; the machine is busy")).into()
        } else if was_ended_by(Signal::KILL) {
            // Where memory runs out, the system does that.
            Shortage("the compiler was killed".to_owned()).into()
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

/// A child process that is killed and reaped when dropped.
struct CompilerChild(Child);

struct ChildEnd {
    status: ExitStatus,
    code: Vec<u8>,
    complaint: String,
    /// The watcher killed it after its time limit.
    overdue: bool,
}

impl CompilerChild {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().context("the compiler can't be started")?))
    }

    /// Writes its input, reads its output, and waits for its end, for no longer than `wall` and
    /// until it is overtaken.
    fn finish(
        mut self,
        input: &[u8],
        wall: Duration,
        overtaken: &Overtaken,
    ) -> anyhow::Result<ChildEnd> {
        let (stdin, stdout, stderr) =
            (self.0.stdin.take(), self.0.stdout.take(), self.0.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            bail!("the compiler has no pipes");
        };
        let id = Pid::from_child(&self.0);
        let (ended, end) = channel::<()>();
        // A full pipe blocks both sides, so each has its own thread. If a thread can't be started,
        // dropping `self` ends the child and so the other threads.
        thread::scope(|scope| {
            let this = self;
            // A child that died may not have read all of it.
            let writer = move || stdin.write_all(input).ok();
            let reader = move || {
                let mut complaint = Vec::new();
                stderr.take(LONGEST_COMPLAINT).read_to_end(&mut complaint).ok();
                complaint
            };
            let watcher = move || watch(id, &end, wall, overtaken);
            let no_thread = "no thread to feed the compiler";
            builder().spawn_scoped(scope, writer).context(no_thread)?;
            let reader = builder().spawn_scoped(scope, reader).context(no_thread)?;
            let watcher = builder().spawn_scoped(scope, watcher).context(no_thread)?;
            let mut code = Vec::new();
            stdout.take(LARGEST_CODE + 1).read_to_end(&mut code)?;
            // It stays a zombie until the watcher is gone, so that the watcher cannot kill another
            // process with the same id.
            let gone = wait(id);
            drop(ended);
            let overdue = watcher.join().unwrap_or_default();
            gone?;
            let complaint = reader.join().unwrap_or_default();
            let status = this.reap()?;
            Ok(ChildEnd {
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

/// Kills the child when its time is over or it is overtaken, unless it has ended before. Returns
/// whether its time was over.
fn watch(id: Pid, end: &Receiver<()>, wall: Duration, overtaken: &Overtaken) -> bool {
    let deadline = Instant::now() + wall;
    while let Err(RecvTimeoutError::Timeout) = end.recv_timeout(LOOK) {
        let is_overdue = Instant::now() >= deadline;
        if is_overdue || overtaken.is_set() {
            return kill_process(id, Signal::KILL).is_ok() && is_overdue;
        }
    }
    false
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

impl Drop for CompilerChild {
    fn drop(&mut self) {
        // Both do nothing to a child that was reaped.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shortage::is_shortage;

    #[test]
    fn a_child_that_ended_by_itself_was_not_ended_by_the_clock() {
        let limits =
            CompileLimits { memory: ConfigSize::mib(64), timeout: Duration::from_millis(1500) };
        let exit = |code: u8| i32::from(code) << 8;
        let signal = |signal: Signal| signal.as_raw();
        for (status, complaint, reason) in [
            (exit(NOT_A_COMPONENT), "no sections", "is not a valid component: no sections"),
            (exit(NOT_A_COMPONENT), "not confined: why\nno", "is not a valid component: no"),
            (exit(OUT_OF_MEMORY), "", "takes more than 64MiB of memory to compile"),
            (
                signal(Signal::ABORT),
                "memory allocation of 8 bytes failed",
                "takes more than 64MiB of memory to compile",
            ),
            (signal(Signal::XCPU), "", "takes longer than 2s to compile"),
            (signal(Signal::SEGV), "", "the compiler crashed: signal: 11 (SIGSEGV)"),
            (exit(1), "why", "the compiler crashed: exit status: 1: why"),
        ] {
            for overdue in [false, true] {
                let ended = ChildEnd {
                    status: ExitStatus::from_raw(status),
                    code: Vec::new(),
                    complaint: complaint.to_owned(),
                    overdue,
                };
                let refusal = ended.refusal(limits, Duration::from_secs(54));
                assert_eq!(format!("{refusal:#}"), reason);
            }
        }
        let killed = |overdue| ChildEnd {
            status: ExitStatus::from_raw(signal(Signal::KILL)),
            code: Vec::new(),
            complaint: String::new(),
            overdue,
        };
        let refusal = |overdue| killed(overdue).refusal(limits, Duration::from_secs(54));
        assert_eq!(
            refusal(true).to_string(),
            "could not be compiled within 54s; the machine is busy"
        );
        assert_eq!(refusal(false).to_string(), "the compiler was killed");
        assert!([true, false].iter().all(|overdue| is_shortage(&refusal(*overdue))));
    }
}
