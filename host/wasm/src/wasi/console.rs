//! A guest's stdout and stderr: a bounded number of bounded lines, which the host takes after each
//! call.
//!
//! Both streams go to one place, in the order in which the guest wrote. A guest's exception or
//! panic is always a trap, and what it says of itself is only here.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncWrite, empty};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Bytes that are kept of a line.
const LINE: usize = 1024;

/// Bytes that a guest may write at once. More is never refused, only cut.
const WRITE: usize = 4096;

/// Where a guest prints. Clones share what was printed.
#[derive(Clone, Debug)]
pub(crate) struct Console(Arc<Mutex<Printed>>);

#[derive(Debug)]
struct Printed {
    /// Lines that are kept between two calls of [`Console::take`].
    most: usize,
    lines: Vec<String>,
    dropped: usize,
    /// The line under way.
    line: Vec<u8>,
}

impl Console {
    /// Of which at most so many lines are kept.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Printed {
            most,
            lines: Vec::new(),
            dropped: 0,
            line: Vec::new(),
        })))
    }

    /// What was printed since the last time, a line under way included. Lines beyond the bound are
    /// counted in a last one.
    pub(crate) fn take(&self) -> Vec<String> {
        let mut printed = self.lock();
        printed.end_line();
        let mut lines = mem::take(&mut printed.lines);
        let dropped = mem::take(&mut printed.dropped);
        if dropped > 0 {
            lines.push(format!("({dropped} more lines dropped)"));
        }
        lines
    }

    /// A line of the host's own.
    pub(crate) fn note(&self, line: &str) {
        let mut printed = self.lock();
        printed.end_line();
        printed.write(line.as_bytes());
        printed.end_line();
    }

    /// It can only be poisoned by running out of memory between two lines; what was printed is
    /// still good.
    fn lock(&self) -> MutexGuard<'_, Printed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Printed {
    fn write(&mut self, bytes: &[u8]) {
        for (index, piece) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if index > 0 {
                self.end_line();
            }
            let room = LINE.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(room)]);
        }
    }

    /// Blank lines say nothing in a log.
    fn end_line(&mut self) {
        let line = mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end();
        if line.is_empty() {
        } else if self.lines.len() < self.most {
            self.lines.push(line.to_owned());
        } else {
            self.dropped += 1;
        }
    }
}

impl IsTerminal for Console {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Console {
    /// Of WASI 0.3, which nothing here links.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(empty())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Console {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        // Looking for lines cannot be interrupted either: a megabyte of line ends takes a worker as
        // long as a whole timeout.
        self.lock().write(&bytes[..bytes.len().min(WRITE)]);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE)
    }
}

#[async_trait]
impl Pollable for Console {
    async fn ready(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_whatever_the_writes_were() {
        let console = Console::new(16);
        for part in ["one\ntw", "o\n", "\n\n", "three"] {
            console.lock().write(part.as_bytes());
        }
        assert_eq!(console.take(), ["one", "two", "three"]);
        assert_eq!(console.take(), Vec::<String>::new());
    }

    #[test]
    fn a_flood_is_cut_and_counted() {
        let console = Console::new(16);
        console.lock().write("x".repeat(1 << 20).as_bytes());
        console.lock().write("\nline".repeat(100).as_bytes());
        let lines = console.take();
        assert_eq!((lines.len(), lines[0].len()), (17, LINE));
        assert_eq!(lines[16], "(85 more lines dropped)");
    }

    #[test]
    fn a_write_is_cut() {
        let mut console = Console::new(16);
        console.write(Bytes::from("\n".repeat(WRITE) + "beyond")).expect("it is taken");
        assert_eq!(console.take(), Vec::<String>::new());
    }
}
