//! The way out: a bounded lane of whole lines for each thread, and the one thread that writes them.

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use crate::observe::level::Level;
use crate::observe::line::Scratch;
use crate::observe::wall_clock;

/// What a buffer keeps when it has been emptied.
const KEPT: usize = 512 << 10;
/// How long lines gather after a write.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end of the program waits for an output that takes nothing.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);

/// Lines on their way from the workers to the writer.
///
/// Threads share nothing that one of them writes for a line: each has a lane, whose lock it meets
/// the writer at a few times in a second.
pub(super) struct Queue {
    lanes: Mutex<Vec<Arc<Lane>>>,
    /// Bytes that may wait in one lane.
    capacity: usize,
    /// The writer has found nothing and waits to be woken.
    is_idle: AtomicBool,
    is_closed: AtomicBool,
    writer: OnceLock<Thread>,
    dropped: AtomicU64,
    /// Lines that were dropped, and no line has said so yet.
    unreported: AtomicU64,
}

/// The lines of one thread that wait for the writer.
type Lane = Mutex<Vec<u8>>;

thread_local! {
    /// The lane of this thread, and the queue that it belongs to.
    static OWN: RefCell<Option<(Arc<Queue>, Arc<Lane>)>> = const { RefCell::new(None) };
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            lanes: Mutex::default(),
            capacity,
            is_idle: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            writer: OnceLock::new(),
            dropped: AtomicU64::new(0),
            unreported: AtomicU64::new(0),
        }
    }

    /// Lines that were lost since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    pub(super) fn push(self: &Arc<Self>, line: &[u8]) {
        let pushed = OWN.try_with(|own| {
            let mut own = own.borrow_mut();
            match &*own {
                Some((queue, lane)) if Arc::ptr_eq(queue, self) => self.push_to(lane, line),
                _ => self.push_to(&own.insert((self.clone(), self.new_lane())).1, line),
            }
        });
        if pushed.is_err() {
            // A thread that has come to where it has no values any more.
            self.push_to(&self.new_lane(), line);
        }
    }

    fn push_to(&self, lane: &Lane, line: &[u8]) {
        let mut lines = lock(lane);
        if self.is_closed.load(Ordering::Acquire) || lines.len() + line.len() > self.capacity {
            drop(lines);
            return self.lost(1);
        }
        lines.extend_from_slice(line);
        drop(lines);
        // If the writer has been here before, it had said that it is idle before that; else it
        // finds the line.
        if self.is_idle.load(Ordering::Relaxed)
            && self.is_idle.swap(false, Ordering::AcqRel)
            && let Some(writer) = self.writer.get()
        {
            writer.unpark();
        }
    }

    fn new_lane(&self) -> Arc<Lane> {
        let lane = Arc::<Lane>::default();
        lock(&self.lanes).push(lane.clone());
        lane
    }

    fn lost(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        self.unreported.fetch_add(lines, Ordering::Relaxed);
    }

    fn write_to(&self, mut output: impl Write) {
        let _ = self.writer.set(thread::current());
        let mut batch = Vec::new();
        loop {
            // Whatever is pushed from here on is dropped if this is the end.
            let is_end = self.is_closed.load(Ordering::Acquire);
            let mut has_written = false;
            for lane in self.lanes() {
                mem::swap(&mut *lock(&lane), &mut batch);
                if !batch.is_empty() {
                    self.write(&mut batch, &mut output);
                    has_written = true;
                }
            }
            match (has_written, is_end) {
                (true, _) => self.gather(),
                (false, false) => self.wait(),
                (false, true) => return,
            }
        }
    }

    /// Writes and empties a batch, and says how many lines were dropped before that.
    fn write(&self, batch: &mut Vec<u8>, mut output: impl Write) {
        let dropped = self.unreported.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            let message = format_args!("{dropped} log lines dropped");
            Scratch::with(|scratch| {
                batch.extend_from_slice(scratch.line(
                    wall_clock::now(),
                    Level::Warn,
                    message,
                    |line| {
                        line.field("dropped", dropped);
                    },
                ));
            });
        }
        if output.write_all(batch).and_then(|()| output.flush()).is_err() {
            // There is nobody to tell, but the next line that gets out says so.
            let ends = batch.iter().filter(|byte| **byte == b'\n').count() as u64;
            self.lost(ends - u64::from(dropped > 0));
            self.unreported.fetch_add(dropped, Ordering::Relaxed);
        }
        batch.clear();
        batch.shrink_to(KEPT);
    }

    /// The lanes of all threads, without those of threads that have ended and of which everything
    /// is written.
    fn lanes(&self) -> Vec<Arc<Lane>> {
        let mut lanes = lock(&self.lanes);
        lanes.retain_mut(|lane| Arc::get_mut(lane).is_none_or(|orphan| !lock(orphan).is_empty()));
        lanes.clone()
    }

    /// Waits for a line, or the end.
    fn wait(&self) {
        self.is_idle.store(true, Ordering::Release);
        if self.lanes().iter().all(|lane| lock(lane).is_empty())
            && !self.is_closed.load(Ordering::Acquire)
        {
            thread::park();
        }
        self.is_idle.store(false, Ordering::Relaxed);
    }

    /// Lets lines come together, unless it is the end. (Now and then it is over at once, by a wake
    /// that came late.)
    fn gather(&self) {
        if !self.is_closed.load(Ordering::Acquire) {
            thread::park_timeout(GATHER);
        }
    }
}

/// Lines are whole whenever their lane's lock is free, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("capacity", &self.capacity)
            .field("dropped", &self.dropped)
            .finish_non_exhaustive()
    }
}

/// Keeps the log's writer going. Dropping it ends the log: what was logged before is written out,
/// for as long as the output takes something within 5 s; what is logged after that is dropped.
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
        self.queue.is_closed.store(true, Ordering::Release);
        self.thread.iter().for_each(|thread| thread.thread().unpark());
        // An output that takes nothing (a stopped pager) must not keep the program from ending.
        if self.ended.recv_timeout(FLUSH_LIMIT) == Err(RecvTimeoutError::Disconnected)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}
