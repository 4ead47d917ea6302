//! [`Daemon`]: a program that runs, and logs lines of JSON.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use serde_json::Value;
use tokio::time::Instant;

use crate::wait::{LIMIT, eventually, lock};

/// A program that runs, and logs lines of JSON to stdout. Dropped, it is killed; a test that fails
/// shows its log.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: Arc<LogLines>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct LogLines {
    lines: Mutex<Vec<Value>>,
    changed: Condvar,
}

impl LogLines {
    fn read(&self, output: impl Read) {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let line =
                serde_json::from_str(&line).unwrap_or_else(|_| format!("not JSON: {line}").into());
            lock(&self.lines).push(line);
            self.changed.notify_all();
        }
    }
}

fn print(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

impl Daemon {
    /// Starts the program.
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program");
        let log = Arc::new(LogLines::default());
        let output = child.stdout.take().expect("its output");
        let lines = log.clone();
        let reader = Some(thread::spawn(move || lines.read(output)));
        Self { child, log, reader }
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until something is found in the log.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, find: impl Fn(&[Value]) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut lines = lock(&self.log.lines);
        loop {
            if let Some(found) = find(&lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the log never had {what}:\n{}", print(&lines));
            let changed = self.log.changed.wait_timeout(lines, left);
            lines = changed.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the first line with this message.
    #[track_caller]
    pub fn line(&self, message: &str) -> Value {
        self.line_after(0, message)
    }

    /// Waits for the first line with this message after so many that are known.
    #[track_caller]
    pub fn line_after(&self, known: usize, message: &str) -> Value {
        let is_it = |line: &&Value| line["msg"] == message;
        self.wait(message, |lines| lines.iter().filter(is_it).nth(known).cloned())
    }

    /// The lines so far that have this message.
    pub fn lines(&self, message: &str) -> Vec<Value> {
        lock(&self.log.lines).iter().filter(|line| line["msg"] == message).cloned().collect()
    }

    /// Sends it a signal, such as `TERM`.
    #[track_caller]
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status().expect("`kill`");
        assert!(sent.success());
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(&mut self) -> ExitStatus {
        eventually("the end of the program", || self.child.try_wait().expect("a child"))
    }

    /// The whole log of a program that has ended.
    #[track_caller]
    pub fn log(&mut self) -> Vec<Value> {
        self.end();
        if let Some(reader) = self.reader.take() {
            reader.join().expect("it reads");
        }
        lock(&self.log.lines).clone()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let had_ended = self.child.try_wait().ok().flatten();
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "shown with the test that failed")]
            {
                if let Some(status) = had_ended {
                    eprintln!("the program had ended: {status}");
                }
                eprintln!("the log of the program:\n{}", print(&lock(&self.log.lines)));
            }
        }
    }
}
