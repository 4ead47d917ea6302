//! The demonstration's programs as child processes: found beside this one, started, and ended as an
//! operator ends them.
//!
//! A program is started once it has said where it listens, so that every port may be 0. Each is in
//! a process group of its own: ctrl-c in a terminal reaches only us, and we end them in the right
//! order. Dropped, a program is killed, and gone when the drop is over.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, timeout};

/// How long a start may take: components are compiled, perhaps by an unoptimised build on a busy
/// machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an end may take: longer than the programs let calls in flight go on.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// How long the end of a killed one may take.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Any free port of the loopback interface.
pub(super) const ANY: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// The programs of the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DemoProgram {
    B,
    Fusebox,
    A,
}

impl DemoProgram {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::A => "service A",
            Self::B => "service B",
            Self::Fusebox => "fusebox",
        }
    }

    fn command(self) -> anyhow::Result<Command> {
        let binary = match self {
            Self::A => "service-a",
            Self::B => "service-b",
            Self::Fusebox => "fusebox",
        };
        let path = std::env::current_exe().context("find this program")?.with_file_name(binary);
        if !path.is_file() {
            bail!("`{}` is missing: run `make build`", path.display());
        }
        Ok(Command::new(path))
    }
}

/// A running program. Dropping it kills it.
pub(super) struct Program {
    role: DemoProgram,
    child: Child,
    /// Its log line `listening`.
    listening: Value,
}

/// The output of a program from its start line on. It must be read, or the program blocks.
pub(super) struct Output {
    pub(super) lines: Lines<BufReader<ChildStdout>>,
    pub(super) errors: Lines<BufReader<ChildStderr>>,
}

impl Program {
    /// Service B, with the options that say how it behaves.
    pub(super) async fn service_b(
        listen: SocketAddr,
        options: &[&str],
    ) -> anyhow::Result<(Self, Output)> {
        let mut command = DemoProgram::B.command()?;
        command.arg("--listen").arg(listen.to_string()).args(options);
        Self::start(DemoProgram::B, command).await
    }

    /// fusebox with a configuration that reads these addresses, and these variables, from the
    /// environment, as all in `examples/configs` do.
    pub(super) async fn fusebox(
        config: &Path,
        listen: SocketAddr,
        admin: SocketAddr,
        variables: &[(&str, String)],
    ) -> anyhow::Result<(Self, Output)> {
        let mut command = DemoProgram::Fusebox.command()?;
        command.arg("run").arg(config);
        command.env("FUSEBOX_LISTEN", listen.to_string()).env("FUSEBOX_ADMIN", admin.to_string());
        command.envs(variables.iter().map(|(name, value)| (name, value)));
        Self::start(DemoProgram::Fusebox, command).await
    }

    /// Service A with these options, which calls fusebox there.
    pub(super) async fn service_a(
        listen: SocketAddr,
        fusebox: SocketAddr,
        options: &[&str],
    ) -> anyhow::Result<(Self, Output)> {
        let mut command = DemoProgram::A.command()?;
        command
            .arg("--listen")
            .arg(listen.to_string())
            .arg("--upstream")
            .arg(format!("http://{fusebox}"))
            .args(options);
        Self::start(DemoProgram::A, command).await
    }

    async fn start(role: DemoProgram, mut command: Command) -> anyhow::Result<(Self, Output)> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command.spawn().with_context(|| format!("start {}", role.name()))?;
        let mut program = Self { role, child, listening: Value::Null };
        let outputs = program.child.stdout.take().zip(program.child.stderr.take());
        let (stdout, stderr) = outputs.context("its output is piped")?;
        let mut output = Output {
            lines: BufReader::new(stdout).lines(),
            errors: BufReader::new(stderr).lines(),
        };
        let ready = timeout(START_LIMIT, program.ready(&mut output)).await;
        ready
            .with_context(|| format!("{} does not listen after {START_LIMIT:?}", role.name()))??;
        Ok((program, output))
    }

    async fn ready(&mut self, output: &mut Output) -> anyhow::Result<()> {
        while let Some(line) = output.lines.next_line().await? {
            if let Ok(line) = serde_json::from_str::<Value>(&line)
                && line["msg"] == "listening"
            {
                self.listening = line;
                return Ok(());
            }
        }
        let mut said = Vec::new();
        while let Some(line) = output.errors.next_line().await? {
            // They introduce themselves, and so do we.
            let line = ["error: ", "fusebox: "]
                .iter()
                .find_map(|prefix| line.strip_prefix(prefix))
                .unwrap_or(&line);
            said.push(line.to_owned());
        }
        if said.is_empty() {
            bail!(self.ended().await);
        }
        bail!("{}: {}", self.role.name(), said.join("; "))
    }

    pub(super) fn role(&self) -> DemoProgram {
        self.role
    }

    /// The address that it named in this field of its start line.
    pub(super) fn address(&self, field: &str) -> anyhow::Result<SocketAddr> {
        let address = self.listening[field].as_str().and_then(|address| address.parse().ok());
        address.with_context(|| {
            format!("{}: no address `{field}` in `{}`", self.role.name(), self.listening)
        })
    }

    /// Waits until it has ended by itself, and describes that. Safe to cancel.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("{} has ended by itself: {status}", self.role.name()),
            Err(error) => format!("{} is lost: {error}", self.role.name()),
        }
    }

    /// Asks it to end with SIGTERM, and waits until it has. One that does not is killed.
    pub(super) async fn stop(mut self) -> anyhow::Result<ExitStatus> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        if let Some(pid) = pid {
            // It may have ended in this moment, which the wait will tell.
            let _ = kill_process(pid, Signal::TERM);
        }
        match timeout(STOP_LIMIT, self.child.wait()).await {
            Ok(status) => status.with_context(|| format!("end {}", self.role.name())),
            Err(_) => {
                self.child.kill().await?;
                bail!(
                    "{} has not ended {STOP_LIMIT:?} after SIGTERM, and was killed",
                    self.role.name()
                )
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.start_kill();
        let since = Instant::now();
        // A killed process ends at once. Left to itself it would outlive us as a zombie where
        // nobody reaps orphans.
        while let Ok(None) = self.child.try_wait()
            && since.elapsed() < KILL_LIMIT
        {
            std::thread::yield_now();
        }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("role", &self.role)
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}
