//! The log: JSON lines, written by one thread so that no worker waits for a pipe or a disk.
//!
//! The fields of each line, and what they mean, are in `docs/reference.md`. Their names are a
//! contract: fields are added, never renamed; one that is not known is left out. The words of an
//! event are in `observe/describe.rs`, those of the access line in `log/access.rs`.
//!
//! Text that a client or a component wrote is cut at 4 KiB and then ends in `…`; bytes that are no
//! UTF-8 become U+FFFD, and control characters are escaped.
//!
//! # How a line gets out
//!
//! The worker formats it into a buffer of its thread and appends it to the thread's pending ones,
//! which are bounded: when the output does not keep up, the line is dropped and counted, and a line
//! says so when there is room again. The writer takes all that a thread has pending at once, so
//! lines of one thread are in order, and those of two may be some milliseconds apart. After an idle
//! time a line is written immediately; under load the writer lets a few milliseconds' worth gather,
//! so that workers wake it seldom (a wake is a system call, several times the price of the line
//! itself).

mod access;
mod writer;

pub use writer::LogWriter;

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use fusebox_resilience::{CallEvent, Event, EventKind, Observer, Request};

use super::describe::{Say, describe};
use super::level::Level;
use super::line::{Line, Scratch};
use super::wall_clock;
use access::AccessLine;
use writer::Queue;

/// How many bytes of lines of one thread may wait for the writer.
const CAPACITY: usize = 4 << 20;

/// Writes JSON lines; as an observer, about events. Clones write to the same output.
#[derive(Clone, Debug)]
pub struct Log {
    queue: Arc<Queue>,
    level: Level,
    access: bool,
}

impl Log {
    /// A log of lines from `level` on, with or without a line per request, and its writer, which
    /// the caller keeps until everything has been said.
    ///
    /// # Panics
    /// The system gives no thread.
    pub fn start(
        output: impl Write + Send + 'static,
        level: Level,
        access: bool,
    ) -> (Self, LogWriter) {
        Self::start_with(output, level, access, CAPACITY)
    }

    fn start_with(
        output: impl Write + Send + 'static,
        level: Level,
        access: bool,
        capacity: usize,
    ) -> (Self, LogWriter) {
        let queue = Arc::new(Queue::new(capacity));
        let writer = LogWriter::start(Arc::clone(&queue), output);
        (Self { queue, level, access }, writer)
    }

    /// A line of the program's own, `fields` being what it has beside `time`, `level` and `msg`.
    pub fn line(&self, level: Level, message: &str, fields: impl FnOnce(&mut Line<'_>)) {
        self.write(wall_clock::now(), level, message, fields);
    }

    /// Lines that were lost since the start because the output did not keep up or failed.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn write(
        &self,
        time: SystemTime,
        level: Level,
        message: impl fmt::Display,
        fields: impl FnOnce(&mut Line<'_>),
    ) {
        if level >= self.level {
            Scratch::with(|scratch| self.queue.push(scratch.line(time, level, message, fields)));
        }
    }

    fn access(&self, request: &Request, finished: &CallEvent, event: &Event<'_>) {
        if self.access
            && let Some(line) = AccessLine::of(finished, event)
            && line.level() >= self.level
        {
            Scratch::with(|scratch| {
                self.queue.push(scratch.written(|to| line.write(request, to)));
            });
        }
    }
}

/// A log while an event is described to it. The lines of one request tell the time by its arrival,
/// so that they are in order though the wall clock is set meanwhile.
struct Describing<'a> {
    log: &'a Log,
    request: Option<&'a Request>,
}

impl Say for Describing<'_> {
    fn say(&self, level: Level, message: impl fmt::Display, fields: impl FnOnce(&mut Line<'_>)) {
        if level >= self.log.level {
            let time = self.request.map_or_else(wall_clock::now, Request::wall_clock);
            self.log.write(time, level, message, fields);
        }
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        match (event.request, event.kind) {
            (Some(request), EventKind::Call(finished @ CallEvent::Finished { .. })) => {
                self.access(request, finished, event);
            }
            // Every request has some of these: they are not described in vain.
            (_, EventKind::Attempt(_) | EventKind::Condition(_)) if self.level > Level::Debug => {}
            (request, _) => describe(event, &Describing { log: self, request }),
        }
    }

    fn wants_details(&self) -> bool {
        self.level == Level::Debug
    }
}

#[cfg(test)]
mod tests;
