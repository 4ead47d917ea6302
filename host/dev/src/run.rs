//! [`run`]: a program that ends by itself.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::time::Instant;

/// What a program did until its end.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub error: String,
}

/// Runs a program to its end, which comes within this time.
#[track_caller]
pub fn run(command: &mut Command, limit: Duration) -> Ran {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program");
    let out = text(child.stdout.take().expect("its output"));
    let error = text(child.stderr.take().expect("its output"));
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill().ok();
                panic!("{command:?} does not end");
            }
            None => thread::park_timeout(Duration::from_millis(2)),
        }
    };
    Ran { code: status.code(), out: out.join().expect("text"), error: error.join().expect("text") }
}

/// All of an output, read beside the other.
fn text(mut output: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).expect("text");
        text
    })
}
