//! The programs that are measured: they start, are counted by the kernel, and surely end.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// A command that ends with this process, even if this one is killed: the kernel then sends
/// SIGTERM, at which nginx ends its workers too.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// A running program with all processes that it has started. Dropping it kills them.
#[derive(Debug)]
pub(crate) struct ContestantProcess {
    child: Child,
}

impl ContestantProcess {
    /// Starts it in a process group of its own. Its stderr goes to `log`, and so does its stdout
    /// unless there is a file for it.
    pub(crate) fn start(mut command: Command, stdout: Option<File>, log: &Path) -> Result<Self> {
        let log = File::create(log)?;
        let stdout = match stdout {
            Some(file) => file,
            None => log.try_clone()?,
        };
        command.stdout(stdout).stderr(log).process_group(0);
        let child = command.spawn().with_context(|| format!("{command:?} does not start"))?;
        Ok(Self { child })
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits until it listens, for half a minute at most.
    pub(crate) async fn listens(&mut self, address: SocketAddr) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).await.is_err() {
            ensure!(self.runs()?, "it has ended");
            ensure!(Instant::now() < patience, "it does not listen on {address}");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The processor time of all its processes so far.
    pub(crate) fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for process in self.processes()? {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let path = thread?.path();
                // A thread may end between the two reads.
                let Ok(text) = fs::read_to_string(path.join("schedstat")) else { continue };
                let time = text.split(' ').next().and_then(|field| field.parse().ok());
                usage
                    .threads
                    .insert(path.into_os_string(), time.context("schedstat is not as expected")?);
            }
        }
        ensure!(
            !usage.threads.is_empty(),
            "no /proc/PID/task/TID/schedstat: this kernel does not count"
        );
        Ok(usage)
    }

    /// The memory of all its processes.
    pub(crate) fn memory(&self) -> Result<Memory> {
        let mut memory = Memory::default();
        for process in self.processes()? {
            let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
            let of = |name: &str| -> u64 {
                let line = text.lines().find_map(|line| line.strip_prefix(name));
                line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
            };
            memory.resident += of("Rss:") * 1024;
            memory.proportional += of("Pss:") * 1024;
        }
        Ok(memory)
    }

    /// The ids of the processes in its group.
    fn processes(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // The name, in parentheses, may hold anything; behind it are state, parent and group.
            let Ok(text) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
            let group =
                text.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(2)?.parse().ok());
            if group == Some(self.child.id()) {
                found.push(id);
            }
        }
        Ok(found)
    }
}

impl Drop for ContestantProcess {
    /// Asks it to end first: only nginx itself can reap its workers, and fusebox leaves clients a
    /// second who have a connection, and then writes a profile.
    #[expect(clippy::disallowed_methods, reason = "nothing else is to be done meanwhile")]
    fn drop(&mut self) {
        let Some(group) = Pid::from_raw(self.child.id().cast_signed()) else { return };
        kill_process(group, Signal::TERM).ok();
        for _ in 0..500 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        kill_process_group(group, Signal::KILL).ok();
        self.child.wait().ok();
    }
}

/// Processor time by thread, in nanoseconds. A sum would shrink when a thread ends.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    threads: HashMap<std::ffi::OsString, u64>,
}

impl Usage {
    /// The time that was used since `before`.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let used =
            self.threads.iter().map(|(thread, now)| now - before.threads.get(thread).unwrap_or(&0));
        Duration::from_nanos(used.sum())
    }
}

/// Bytes in memory, all processes together.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// With every shared page counted in each process.
    pub(crate) resident: u64,
    /// With every shared page counted once.
    pub(crate) proportional: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_busy_process_and_its_children_counts() {
        let directory = tempfile::tempdir().unwrap();
        let mut shell = command("sh");
        shell.args(["-c", "while :; do :; done & while :; do :; done"]);
        let mut program =
            ContestantProcess::start(shell, None, &directory.path().join("log")).unwrap();
        let before = program.usage().unwrap();
        while program.usage().unwrap().since(&before) < Duration::from_millis(50) {
            std::thread::yield_now();
        }
        assert_eq!(program.processes().unwrap().len(), 2);
        assert!(program.memory().unwrap().resident > 100_000);
        assert!(program.runs().unwrap());

        let group = program.child.id();
        drop(program);
        // It is dead when it is no longer running; who reaps it is not ours to say.
        let running = || {
            let stats = fs::read_dir("/proc")
                .unwrap()
                .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
            stats
                .filter(|stat| stat.contains(&format!(" {group} ")) && !stat.contains(") Z "))
                .count()
        };
        let killed = tokio::time::Instant::now();
        while running() > 0 {
            assert!(killed.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
    }
}
