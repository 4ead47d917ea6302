//! The way out: a bounded queue of whole lines, and the one thread that writes them.

use std::fmt;
use std::io::Write;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::Level;
use super::line::Scratch;

/// What a buffer keeps when it has been emptied.
const KEPT: usize = 512 << 10;
/// How long lines gather after a write.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end of the program waits for an output that takes nothing.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// Lines on their way from the workers to the writer.
pub(super) struct Queue {
    pending: Mutex<Pending>,
    /// The writer is wanted: there are lines and it was idle, or it is the end.
    changed: Condvar,
    capacity: usize,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    /// Lines that were dropped, and no line has said so yet.
    unreported: u64,
    /// The writer waits for a line.
    idle: bool,
    closed: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self { pending: Mutex::default(), changed: Condvar::new(), capacity, dropped: AtomicU64::new(0) }
    }

    /// Lines that were lost since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn push(&self, line: &[u8]) {
        let mut pending = self.pending();
        if pending.closed || pending.lines.len() + line.len() > self.capacity {
            pending.unreported += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        pending.lines.extend_from_slice(line);
        let idle = mem::take(&mut pending.idle);
        drop(pending);
        if idle {
            self.changed.notify_one();
        }
    }

    /// Waits for lines and moves all of them to `batch`, which is empty. Returns how many were dropped after them; none at
    /// the end.
    fn take(&self, batch: &mut Vec<u8>) -> Option<u64> {
        let mut pending = self.pending();
        while pending.lines.is_empty() {
            if pending.closed {
                return None;
            }
            pending.idle = true;
            pending = self.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        pending.idle = false;
        mem::swap(&mut pending.lines, batch);
        Some(mem::take(&mut pending.unreported))
    }

    fn write_to(&self, mut output: impl Write) {
        let mut batch = Vec::new();
        while let Some(dropped) = self.take(&mut batch) {
            if dropped > 0 {
                let message = format_args!("{dropped} log lines dropped");
                Scratch::with(|scratch| {
                    batch.extend_from_slice(scratch.line(Level::Warn, message, |line| {
                        line.field("dropped", dropped);
                    }));
                });
            }
            if output.write_all(&batch).and_then(|()| output.flush()).is_err() {
                // There is nobody to tell, but the next line that gets out says so.
                let ends = batch.iter().filter(|byte| **byte == b'\n').count() as u64;
                let lines = ends - u64::from(dropped > 0);
                self.dropped.fetch_add(lines, Ordering::Relaxed);
                self.pending().unreported += lines + dropped;
            }
            batch.clear();
            batch.shrink_to(KEPT);
            self.gather();
        }
    }

    /// Lets lines come together, unless it is the end.
    fn gather(&self) {
        let gathered = self.changed.wait_timeout_while(self.pending(), GATHER, |pending| !pending.closed);
        drop(gathered.unwrap_or_else(PoisonError::into_inner));
    }

    fn close(&self) {
        self.pending().closed = true;
        self.changed.notify_one();
    }

    /// Pending lines are whole whenever the lock is free, so a panic elsewhere does not matter.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("capacity", &self.capacity)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

/// Keeps the log's writer going. Dropping it ends the log: what was logged before is written out, for as long as the output
/// takes something within 5 s; what is logged after that is dropped.
#[derive(Debug)]
#[must_use = "the log ends with its writer"]
pub struct LogWriter {
    queue: Arc<Queue>,
    /// Says nothing, and closes when the writer has ended.
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    pub(super) fn start(queue: Arc<Queue>, output: impl Write + Send + 'static) -> Self {
        let (ending, ended) = channel();
        let thread = thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                // Dropped when the thread ends, by a panic too.
                let _ending = ending;
                queue.write_to(output);
            }
        });
        Self { queue, ended, thread: Some(thread) }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.queue.close();
        // An output that takes nothing (a stopped pager) must not keep the program from ending.
        if self.ended.recv_timeout(FLUSH_LIMIT) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}
