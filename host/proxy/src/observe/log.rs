//! The log: JSON lines, written by one thread so that no worker waits for a pipe or a disk.
//!
//! The field names are a contract. Fields are added, never renamed; one that is not known is left
//! out.
//!
//! | lines | fields |
//! |---|---|
//! | all | `time` (RFC 3339, UTC, microseconds), `level` (`DEBUG`, `INFO`, `WARN`, `ERROR`), `msg` |
//! | about a call | `request_id`, `route` |
//! | about what a policy did | `policy` |
//! | about an attempt, or what its outcome led to | `attempt` (from 1), `address` (that it reached, or tried last) |
//! | where a component's answer led to it | `decided_by` (`component`, `digest`, `generation`) |
//! | about a component | `component`, `digest` (SHA-256, hex), `generation` |
//!
//! And by message, where `…_ms` are milliseconds, not necessarily whole ones:
//!
//! | `msg` | `level` | fields |
//! |---|---|---|
//! | `200: OK`, the access line | `INFO`, `WARN` from 400, `ERROR` from 500 | `request`, `response`, `attempts`, `attempt`, `address`, `failure`, `detail` |
//! | `client closed request`, the same for a client that left | `INFO` | the same, without `response.status` |
//! | `Call started` | `DEBUG` | `method`, `path` |
//! | `Attempt 1 started` | `DEBUG` | `run`, `role`, `retry`, `endpoint`, `remaining_ms` |
//! | `Attempt 1 sent again: its connection had died` | `DEBUG` | `attempt` |
//! | `Attempt 1: 200`, `Attempt 1: connection refused`, `Attempt 1: cancelled` | `DEBUG` | `run`, `role`, `retry`, `elapsed_ms`, `status` or `failure` |
//! | `Request refused: path with dot segments` | `INFO` | `reason`: `host`, `target-length`, `path`, `loop`, `expectation` |
//! | `Forwarded headers replaced: the client is not trusted` | `INFO` | `ip`, `connections` |
//! | `Request body not kept: the memory for it is full` | `INFO` | |
//! | `Condition handle-if: yes` | `DEBUG` | `slot`, `component` if one was asked, `handled` |
//! | `Retry 1 after delay of 1s` | `INFO` | `retry`, `delay_ms` |
//! | `Retries exceeded` | `WARN` | `retries` |
//! | `Retry aborted` | `INFO` | |
//! | `Not retried: the method is not idempotent` | `INFO` | `reason`: `method`, `body`, `retry-after`, `upstream`, `retried`, `deadline`, `circuit-open`, `budget` |
//! | `Connection timed out` | `INFO` | `limit_ms` |
//! | `circuit breaker state changed from closed to open` | `INFO` | `from`, `to`, `delay_ms` if it opened |
//! | `Call rejected: circuit breaker open` | `INFO` | `reason` (`circuit-open`, …), `retry_after_ms` |
//! | `Fallback executed result` | `INFO` | `status`, and the component that answered, if one did |
//! | `Fallback declined` | `INFO` | |
//! | `Response incomplete: connection lost` | `WARN` | `failure` |
//! | `Component faulted: trap` | `ERROR` | `fault` (`trap`, `timeout`, `memory`, …), `detail` |
//! | `Component printed` | `INFO` | `line` |
//! | `Component loaded`, `Component replaced` | `INFO` | `replaced_digest`, `replaced_generation` |
//! | `Component rejected` | `ERROR` | `component`, `rejected_digest`, `reason` |
//! | `Component rolled back` | `WARN` | `from_digest`, `from_generation`, `faults` unless it was done by hand |
//! | `Component quarantined` | `ERROR` | `faults`, `interval_ms` |
//! | `Component released` | `INFO` | |
//! | `Worker 1 stalled`, `Worker 1 resumed` | `ERROR`, `WARN` | `worker`, `silent_ms` |
//! | `Worker 1 lost: the process ends` | `ERROR` | `worker`, `silent_ms` unless its thread has ended |
//! | `Admin change` | `INFO` | `client`, `request`, `status` unless nobody waited for it |
//! | `Admin request denied: token` | `WARN` | `client`, `request`, `reason`: `token`, `host`, `origin`; `count` |
//! | `Admin connections crowded out` | `WARN` | `count` |
//! | `3 log lines dropped` | `WARN` | `dropped` |
//!
//! `request` has `time`, `method`, `host`, `path`, `query`, `route`, `ip`, `referer`, `user_agent`
//! and `length` (bytes of the body as announced, else 0); `response` has `time` (when its body
//! ended), `latency` (nanoseconds from the request's arrival until then), `status` and `length`
//! (bytes of the body that were sent) and `end` (how the body ended: `whole`, `broken`,
//! `discarded`; not there if no response was begun). `attempt` and `address` say where a failure,
//! or a status from 500 on, comes from. `failure` is the word of RFC 9209 for what is
//! behind a status of our own making, `detail` what is beneath that.
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

use std::io::Write;
use std::sync::Arc;
use std::time::SystemTime;

use fusebox_resilience::{CallEvent, Event, EventKind, Observer, Provenance, Request};
use serde::Serialize;

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
        message: impl Serialize,
        fields: impl FnOnce(&mut Line<'_>),
    ) {
        if level >= self.level {
            Scratch::with(|scratch| self.queue.push(scratch.line(time, level, message, fields)));
        }
    }

    fn access(&self, request: &Request, provenance: Option<&Provenance>, finished: &CallEvent) {
        if self.access
            && let Some(line) = AccessLine::of(finished, provenance)
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
    fn say(&self, level: Level, message: impl Serialize, fields: impl FnOnce(&mut Line<'_>)) {
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
                self.access(request, event.provenance, finished);
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
