//! The program under callgrind: starts it, waits for its threads, and reads the counts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::profile::Profile;
use crate::valgrind::{spawn, valgrind};

/// The time between two looks at a thread.
const LOOK: Duration = Duration::from_micros(20);

/// The most looks before giving up.
const LOOKS: usize = 1_000_000;

const DUMP: &str = "dump";

/// A program that runs under callgrind.
#[derive(Debug)]
pub(crate) struct Callgrind {
    valgrind: Child,
    directory: PathBuf,
    dumps: usize,
    /// Reads the output, so that the program never blocks on a full pipe.
    reader: Option<JoinHandle<()>>,
    address: SocketAddr,
}

/// A thread of the program.
#[derive(Clone, Debug)]
pub(crate) struct Thread {
    /// Valgrind's number, which is part of the names of dumps.
    number: usize,
    /// The kernel's id.
    id: u32,
    pub(crate) name: String,
}

impl Callgrind {
    /// Starts the program with this configuration and returns when it listens. All files of the run
    /// are in `directory`.
    pub(crate) fn start(program: &Path, config: &str, directory: &Path) -> Result<Self> {
        let file = directory.join("fusebox.toml");
        fs::write(&file, config)?;
        let mut command = valgrind("callgrind");
        command
            .arg("--separate-threads=yes")
            .arg(format!("--callgrind-out-file={}", directory.join(DUMP).display()))
            .arg(format!("--vgdb-prefix={}", directory.join("vgdb").display()))
            .arg(program)
            .arg("run")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut valgrind = spawn(command)?;
        let out = valgrind.stdout.take().context("it has an output")?;
        let mut started = Self {
            valgrind,
            directory: directory.to_owned(),
            dumps: 0,
            reader: None,
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
        };
        let mut out = BufReader::new(out);
        started.address = listening(&mut out)?;
        started.reader = Some(thread::spawn(move || out.lines().for_each(drop)));
        Ok(started)
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The program's threads, with valgrind's numbers and the kernel's ids.
    pub(crate) fn threads(&self) -> Result<Vec<Thread>> {
        let said = self.ask(&["v.info", "scheduler"])?;
        let thread = |line: &str| {
            let number = line.strip_prefix("Thread ")?.split(':').next()?.parse().ok()?;
            let id = line
                .split("lwpid ")
                .nth(1)?
                .split(|c: char| !c.is_ascii_digit())
                .next()?
                .parse()
                .ok()?;
            let name = fs::read_to_string(self.task(id).join("comm")).ok()?.trim().to_owned();
            Some(Thread { number, id, name })
        };
        let threads: Vec<Thread> = said.lines().filter_map(thread).collect();
        ensure!(!threads.is_empty(), "valgrind names no thread: {said}");
        Ok(threads)
    }

    /// What tells when this thread has nothing to do.
    pub(crate) fn idle(&self, thread: &Thread) -> IdleThread {
        IdleThread { syscall: self.task(thread.id).join("syscall") }
    }

    fn task(&self, id: u32) -> PathBuf {
        PathBuf::from(format!("/proc/{}/task/{id}", self.valgrind.id()))
    }

    /// Sets all counts to zero.
    pub(crate) fn zero(&self) -> Result<()> {
        self.ask(&["zero"]).map(drop)
    }

    /// What each thread has executed since the last dump, or since the counts were zero.
    pub(crate) fn dump(&mut self, threads: &[Thread]) -> Result<Vec<(Thread, Profile)>> {
        self.ask(&["dump"])?;
        self.dumps += 1;
        let profile = |thread: &Thread| {
            let file = self.directory.join(format!("{DUMP}.{}-{:02}", self.dumps, thread.number));
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            Ok((thread.clone(), Profile::parse(text).with_context(|| file.display().to_string())?))
        };
        threads.iter().map(profile).collect()
    }

    /// Runs a command of valgrind's or callgrind's monitor.
    fn ask(&self, words: &[&str]) -> Result<String> {
        let output = Command::new("vgdb")
            .arg(format!("--pid={}", self.valgrind.id()))
            .arg(format!("--vgdb-prefix={}", self.directory.join("vgdb").display()))
            .args(words)
            .output()
            .context("vgdb")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "vgdb: {said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    }
}

impl Drop for Callgrind {
    fn drop(&mut self) {
        // It has nothing left to say or to save.
        self.valgrind.kill().ok();
        self.valgrind.wait().ok();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

/// Waits until a thread is idle.
#[derive(Debug)]
pub(crate) struct IdleThread {
    syscall: PathBuf,
}

impl IdleThread {
    /// Returns when the thread waits for events, so that each request is an event of its own
    /// however busy the machine is. A thread that waits for valgrind's scheduler is in another
    /// system call.
    pub(crate) fn wait(&self) -> Result<()> {
        for _ in 0..LOOKS {
            let call = fs::read_to_string(&self.syscall)?;
            if EPOLL_WAITS.iter().any(|wait| call.starts_with(wait)) {
                return Ok(());
            }
            thread::park_timeout(LOOK);
        }
        bail!("a worker does not become idle")
    }
}

/// `epoll_wait` and `epoll_pwait` as `/proc/PID/task/ID/syscall` has them on x86-64.
const EPOLL_WAITS: [&str; 2] = ["232 ", "281 "];

/// The address in the log line `listening`.
fn listening(out: &mut BufReader<ChildStdout>) -> Result<SocketAddr> {
    let mut line = String::new();
    while out.read_line(&mut line)? > 0 {
        let fields: Value = serde_json::from_str(&line)
            .with_context(|| format!("not a line of the log: {line}"))?;
        if fields["msg"] == "listening" {
            let address = fields["listen"].as_str().context("it says where")?;
            return Ok(address.parse()?);
        }
        line.clear();
    }
    bail!("the program did not start")
}
