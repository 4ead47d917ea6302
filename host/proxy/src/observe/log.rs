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
//! | about a component | `component`, `digest` (SHA-256, hex), `generation` |
//!
//! And by message, where `…_ms` are milliseconds, not necessarily whole ones:
//!
//! | `msg` | `level` | fields |
//! |---|---|---|
//! | `200: OK`, the access line | `INFO`, `WARN` from 400, `ERROR` from 500 | `request`, `response`, `attempts`, `failure`, `detail` |
//! | `client closed request`, the same for a client that left | `INFO` | the same, without `response.status` |
//! | `Attempt 1: 200`, `Attempt 1: connection refused`, `Attempt 1: cancelled` | `DEBUG` | `attempt`, `elapsed_ms`, `status` or `failure` |
//! | `Retry 1 after delay of 1s` | `INFO` | `retry`, `delay_ms` |
//! | `Retries exceeded` | `WARN` | `retries` |
//! | `Retry aborted` | `INFO` | |
//! | `Not retried: the method is not idempotent` | `INFO` | `reason`: `method`, `body`, `retry-after`, `circuit-open`, `budget` |
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
//! | `3 log lines dropped` | `WARN` | `dropped` |
//!
//! `request` has `time`, `method`, `host`, `path`, `query`, `route`, `ip`, `referer`, `user_agent`
//! and `length` (bytes of the body as announced, else 0); `response` has `time` (when its body
//! ended), `latency` (nanoseconds from the request's arrival until then), `status` and `length`
//! (bytes of the body that were sent). `failure` is the word of RFC 9209 for what is
//! behind a status of our own making, `detail` what is beneath that.
//!
//! Text that a client or a component wrote is cut at 4 KiB and then ends in `…`; bytes that are no
//! UTF-8 become U+FFFD.
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
mod line;
mod writer;

pub use line::Line;
pub use writer::LogWriter;

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{AttemptOutcome, Event, EventKind, NoRetry, Observer};
use serde::{Deserialize, Serialize};

use super::no_retry_name;
use access::Ended;
use line::Scratch;
use writer::Queue;

/// How many bytes of lines of one thread may wait for the writer.
const CAPACITY: usize = 4 << 20;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For somebody who looks for something.
    Debug,
    /// What the program is there for.
    Info,
    /// Somebody may want to act.
    Warn,
    /// Somebody should.
    Error,
}

impl Level {
    /// Its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    fn of(status: u16) -> Self {
        match status {
            500.. => Self::Error,
            400.. => Self::Warn,
            _ => Self::Info,
        }
    }
}

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
        self.write(level, message, fields);
    }

    /// Lines that were lost since the start because the output did not keep up or failed.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn write(&self, level: Level, message: impl Serialize, fields: impl FnOnce(&mut Line<'_>)) {
        if level >= self.level {
            Scratch::with(|scratch| self.queue.push(scratch.line(level, message, fields)));
        }
    }

    /// A line about the event: with its call's and its policy's fields before its own.
    fn say(
        &self,
        event: &Event<'_>,
        level: Level,
        message: impl Serialize,
        fields: impl FnOnce(&mut Line<'_>),
    ) {
        self.write(level, message, |line| {
            if let Some(call) = event.call {
                line.text("request_id", call.id().as_bytes())
                    .text("route", call.route().as_bytes());
            }
            if let Some(policy) = event.policy {
                line.text("policy", policy.as_bytes());
            }
            if let Some(component) = event.decided_by {
                line.open("decided_by").component(component).close();
            }
            fields(line);
        });
    }

    fn attempt(&self, event: &Event<'_>, attempt: u32, outcome: AttemptOutcome, elapsed: Duration) {
        let fields = |line: &mut Line<'_>| {
            line.field("attempt", attempt).field("elapsed_ms", milliseconds(elapsed));
            match outcome {
                AttemptOutcome::Response(status) => line.field("status", status),
                AttemptOutcome::Failure(kind) => line.field("failure", kind.name()),
                AttemptOutcome::Cancelled => line,
            };
        };
        match outcome {
            AttemptOutcome::Response(status) => {
                self.say(event, Level::Debug, format_args!("Attempt {attempt}: {status}"), fields);
            }
            AttemptOutcome::Failure(kind) => {
                self.say(event, Level::Debug, format_args!("Attempt {attempt}: {kind}"), fields);
            }
            AttemptOutcome::Cancelled => {
                self.say(event, Level::Debug, format_args!("Attempt {attempt}: cancelled"), fields);
            }
        }
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        match event.kind {
            &EventKind::AttemptFinished { attempt, outcome, elapsed } => {
                self.attempt(event, attempt, outcome, elapsed)
            }
            &EventKind::RetryScheduled { retry, delay } => {
                let message = format_args!("Retry {retry} after delay of {}", Human(delay));
                self.say(event, Level::Info, message, |line| {
                    line.field("retry", retry).field("delay_ms", milliseconds(delay));
                });
            }
            &EventKind::RetriesExhausted { retries } => {
                self.say(event, Level::Warn, "Retries exceeded", |line| {
                    line.field("retries", retries);
                });
            }
            EventKind::RetryAborted => self.say(event, Level::Info, "Retry aborted", |_| {}),
            &EventKind::RetrySkipped { reason } => {
                let message = match reason {
                    NoRetry::Method => "Not retried: the method is not idempotent",
                    NoRetry::Body => "Not retried: the request body is too long to be kept",
                    NoRetry::RetryAfter => "Not retried: the upstream asks for too long a wait",
                    NoRetry::CircuitOpen => {
                        "Not retried: the circuit breaker stays open for too long"
                    }
                    NoRetry::Budget => "Not retried: the retry budget is spent",
                };
                self.say(event, Level::Info, message, |line| {
                    line.field("reason", no_retry_name(reason));
                });
            }
            &EventKind::TimeoutExceeded { limit } => {
                self.say(event, Level::Info, "Connection timed out", |line| {
                    line.field("limit_ms", milliseconds(limit));
                });
            }
            &EventKind::CircuitStateChanged { from, to, delay } => {
                let (from, to) = (from.name(), to.name());
                let message = format_args!("circuit breaker state changed from {from} to {to}");
                self.say(event, Level::Info, message, |line| {
                    line.field("from", from)
                        .field("to", to)
                        .maybe("delay_ms", delay.map(milliseconds));
                });
            }
            &EventKind::CallRejected { kind, retry_after } => {
                self.say(event, Level::Info, format_args!("Call rejected: {kind}"), |line| {
                    line.field("reason", kind.failure().name())
                        .maybe("retry_after_ms", retry_after.map(milliseconds));
                });
            }
            EventKind::FallbackServed { status, component } => {
                self.say(event, Level::Info, "Fallback executed result", |line| {
                    line.field("status", *status);
                    component.iter().for_each(|component| {
                        line.component(component);
                    });
                });
            }
            EventKind::FallbackDeclined => {
                self.say(event, Level::Info, "Fallback declined", |_| {})
            }
            EventKind::ComponentFaulted { component, fault, detail } => {
                let fault = fault.name();
                self.say(event, Level::Error, format_args!("Component faulted: {fault}"), |line| {
                    line.component(component)
                        .field("fault", fault)
                        .text("detail", detail.as_bytes());
                });
            }
            EventKind::ComponentPrinted { component, line: printed } => {
                self.say(event, Level::Info, "Component printed", |line| {
                    line.component(component).text("line", printed.as_bytes());
                });
            }
            EventKind::ExchangeCaptured { component, case } => {
                self.say(event, Level::Info, "Exchange captured", |line| {
                    line.component(component).json("case", case);
                });
            }
            EventKind::ComponentLoaded { component, replaced } => {
                let message =
                    if replaced.is_some() { "Component replaced" } else { "Component loaded" };
                self.say(event, Level::Info, message, |line| {
                    line.component(component)
                        .maybe(
                            "replaced_digest",
                            replaced.as_ref().map(|replaced| &*replaced.digest),
                        )
                        .maybe(
                            "replaced_generation",
                            replaced.as_ref().map(|replaced| replaced.generation),
                        );
                });
            }
            EventKind::ComponentRejected { name, digest, reason } => {
                self.say(event, Level::Error, "Component rejected", |line| {
                    line.field("component", &**name)
                        .maybe("rejected_digest", digest.as_deref())
                        .text("reason", reason.as_bytes());
                });
            }
            EventKind::ComponentRolledBack { component, from, faults } => {
                self.say(event, Level::Warn, "Component rolled back", |line| {
                    line.component(component)
                        .field("from_digest", &*from.digest)
                        .field("from_generation", from.generation)
                        .maybe("faults", *faults);
                });
            }
            EventKind::ComponentQuarantined { component, faults, interval } => {
                self.say(event, Level::Error, "Component quarantined", |line| {
                    line.component(component)
                        .field("faults", *faults)
                        .field("interval_ms", milliseconds(*interval));
                });
            }
            EventKind::ComponentReleased { component } => {
                self.say(event, Level::Info, "Component released", |line| {
                    line.component(component);
                });
            }
            &EventKind::ResponseIncomplete { kind } => {
                self.say(event, Level::Warn, format_args!("Response incomplete: {kind}"), |line| {
                    line.field("failure", kind.name());
                });
            }
            EventKind::CallFinished { status, failure, detail, bytes, elapsed } => {
                if let Some(call) = event.call {
                    let (status, failure, bytes, elapsed) = (*status, *failure, *bytes, *elapsed);
                    self.access(
                        call,
                        &Ended { status, failure, detail: detail.as_deref(), bytes, elapsed },
                    );
                }
            }
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A delay for people: `1s`, `250ms`, `1.038s`. What jitter adds beyond three places is noise.
struct Human(Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.0 >= Duration::from_secs(1) { 1_000_000 } else { 1_000 };
        let nanoseconds = (self.0.as_nanos() + unit / 2) / unit * unit;
        write!(f, "{:?}", Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests;
