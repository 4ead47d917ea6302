//! The log: JSON lines, written by one thread so that no worker waits for a pipe or a disk.
//!
//! The field names are a contract. Fields are added, never renamed; one that is not known is left out.
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
//! | `Fallback executed result` | `INFO` | `status` |
//! | `Fallback declined` | `INFO` | |
//! | `Response incomplete: connection lost` | `WARN` | `failure` |
//! | `Component faulted: trap` | `ERROR` | `fault` (`trap`, `timeout`, `memory`, …), `detail` |
//! | `Component printed` | `INFO` | `line` |
//! | `Component loaded`, `Component replaced` | `INFO` | `replaced_digest`, `replaced_generation` |
//! | `Component rejected` | `ERROR` | `component`, `reason` |
//! | `3 log lines dropped` | `WARN` | `dropped` |
//!
//! `request` has `time`, `method`, `host`, `path`, `query`, `route`, `ip`, `referer`, `user_agent` and `length` (bytes of the
//! body as announced, else 0); `response` has `time` (when its body ended), `latency` (nanoseconds from the request's arrival
//! until then), `status` and `length` (bytes of the body that were sent). `failure` is the word of RFC 9209 for what is
//! behind a status of our own making, `detail` what is beneath that.
//!
//! Text that a client or a component wrote is cut at 4 KiB and then ends in `…`; bytes that are no UTF-8 become U+FFFD.
//!
//! # How a line gets out
//!
//! The worker formats it into a buffer of its thread and appends it to the pending ones, which are bounded: when the output
//! does not keep up, the line is dropped and counted, and a line says so when there is room again. The writer takes all that
//! is pending at once. After an idle time a line is written immediately; under load the writer lets a few milliseconds'
//! worth gather, so that workers wake it seldom (a wake is a system call, several times the price of the line itself).

use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fusebox_resilience::{AttemptOutcome, Call, ComponentId, ErrorKind, Event, EventKind, NoRetry, Observer};
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::{no_retry_name, now};

/// How many bytes of lines may wait for the writer.
const CAPACITY: usize = 4 << 20;
/// What a buffer keeps when it has been emptied.
const KEPT: usize = 512 << 10;
/// How long lines gather after a write.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end of the program waits for an output that takes nothing.
const FLUSH_LIMIT: Duration = Duration::from_secs(5);
/// What is kept of a text from outside.
const MAX_TEXT: usize = 4 << 10;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

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
    /// A log of lines from `level` on, with or without a line per request, and its writer, which the caller keeps until
    /// everything has been said.
    ///
    /// # Panics
    /// The system gives no thread.
    pub fn start(output: impl Write + Send + 'static, level: Level, access: bool) -> (Self, LogWriter) {
        Self::start_with(output, level, access, CAPACITY)
    }

    fn start_with(
        output: impl Write + Send + 'static,
        level: Level,
        access: bool,
        capacity: usize,
    ) -> (Self, LogWriter) {
        let queue = Arc::new(Queue {
            pending: Mutex::default(),
            changed: Condvar::new(),
            capacity,
            dropped: AtomicU64::new(0),
        });
        let (ending, ended) = channel();
        let thread = thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                // Dropped when the thread ends, by a panic too.
                let _ending = ending;
                queue.write_to(output);
            }
        });
        (Self { queue: Arc::clone(&queue), level, access }, LogWriter { queue, ended, thread: Some(thread) })
    }

    /// A line of the program's own, `fields` being what it has beside `time`, `level` and `msg`.
    pub fn line(&self, level: Level, message: &str, fields: impl FnOnce(&mut Line<'_>)) {
        self.write(level, message, fields);
    }

    /// Lines that were lost since the start because the output did not keep up or failed.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    fn write(&self, level: Level, message: impl Serialize, fields: impl FnOnce(&mut Line<'_>)) {
        if level >= self.level {
            Scratch::with(|scratch| self.queue.push(scratch.line(level, message, fields)));
        }
    }

    /// A line about the event: with its call's and its policy's fields before its own.
    fn say(&self, event: &Event<'_>, level: Level, message: impl Serialize, fields: impl FnOnce(&mut Line<'_>)) {
        self.write(level, message, |line| {
            if let Some(call) = event.call {
                line.text("request_id", call.id().as_bytes()).text("route", call.route().as_bytes());
            }
            if let Some(policy) = event.policy {
                line.text("policy", policy.as_bytes());
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

    fn access(&self, event: &Event<'_>, ended: &Ended<'_>) {
        if !self.access {
            return;
        }
        let fields = |line: &mut Line<'_>| {
            if let Some(call) = event.call {
                ended.groups(line, call);
                line.field("attempts", call.attempts());
            }
            line.maybe("failure", ended.failure.map(ErrorKind::name));
            if let Some(detail) = ended.detail {
                line.text("detail", detail.as_bytes());
            }
        };
        let Some(status) = ended.status else {
            return self.say(event, Level::Info, "client closed request", fields);
        };
        match StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()) {
            Some(reason) => self.say(event, Level::of(status), format_args!("{status}: {reason}"), fields),
            None => self.say(event, Level::of(status), format_args!("{status}"), fields),
        }
    }
}

impl Observer for Log {
    fn observe(&self, event: &Event<'_>) {
        match event.kind {
            &EventKind::AttemptFinished { attempt, outcome, elapsed } => self.attempt(event, attempt, outcome, elapsed),
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
                    NoRetry::CircuitOpen => "Not retried: the circuit breaker stays open for too long",
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
                    line.field("from", from).field("to", to).maybe("delay_ms", delay.map(milliseconds));
                });
            }
            &EventKind::CallRejected { kind, retry_after } => {
                self.say(event, Level::Info, format_args!("Call rejected: {kind}"), |line| {
                    line.field("reason", kind.failure().name()).maybe("retry_after_ms", retry_after.map(milliseconds));
                });
            }
            &EventKind::FallbackServed { status } => {
                self.say(event, Level::Info, "Fallback executed result", |line| {
                    line.field("status", status);
                });
            }
            EventKind::FallbackDeclined => self.say(event, Level::Info, "Fallback declined", |_| {}),
            EventKind::ComponentFaulted { component, fault, detail } => {
                let fault = fault.name();
                self.say(event, Level::Error, format_args!("Component faulted: {fault}"), |line| {
                    line.component(component).field("fault", fault).text("detail", detail.as_bytes());
                });
            }
            EventKind::ComponentPrinted { component, line: printed } => {
                self.say(event, Level::Info, "Component printed", |line| {
                    line.component(component).text("line", printed.as_bytes());
                });
            }
            EventKind::ComponentLoaded { component, replaced } => {
                let message = if replaced.is_some() { "Component replaced" } else { "Component loaded" };
                self.say(event, Level::Info, message, |line| {
                    line.component(component)
                        .maybe("replaced_digest", replaced.as_ref().map(|replaced| &*replaced.digest))
                        .maybe("replaced_generation", replaced.as_ref().map(|replaced| replaced.generation));
                });
            }
            EventKind::ComponentRejected { name, reason } => {
                self.say(event, Level::Error, "Component rejected", |line| {
                    line.field("component", &**name).text("reason", reason.as_bytes());
                });
            }
            &EventKind::ResponseIncomplete { kind } => {
                self.say(event, Level::Warn, format_args!("Response incomplete: {kind}"), |line| {
                    line.field("failure", kind.name());
                });
            }
            EventKind::CallFinished { status, failure, detail, bytes, elapsed } => {
                let (status, failure, bytes, elapsed) = (*status, *failure, *bytes, *elapsed);
                self.access(event, &Ended { status, failure, detail: detail.as_deref(), bytes, elapsed });
            }
        }
    }
}

/// What `CallFinished` says.
struct Ended<'a> {
    status: Option<u16>,
    failure: Option<ErrorKind>,
    detail: Option<&'a str>,
    bytes: u64,
    elapsed: Duration,
}

impl Ended<'_> {
    fn groups(&self, line: &mut Line<'_>, call: &Call) {
        let head = call.head();
        let host = head
            .headers
            .get(header::HOST)
            .map_or_else(|| head.uri.authority().map_or("", |host| host.as_str()).as_bytes(), |host| host.as_bytes());
        let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        line.open("request")
            .time("time", call.started_at())
            .text("method", head.method.as_str().as_bytes())
            .text("host", host)
            .text("path", head.uri.path().as_bytes())
            .text("query", head.uri.query().unwrap_or_default().as_bytes())
            .text("route", call.route().as_bytes())
            .text("ip", client_address(&head.headers))
            .text("referer", value(&head.headers, header::REFERER))
            .text("user_agent", value(&head.headers, header::USER_AGENT))
            .field("length", length.unwrap_or(0_u64))
            .close();
        line.open("response")
            .time("time", call.started_at() + self.elapsed)
            .field("latency", u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX))
            .maybe("status", self.status)
            .field("length", self.bytes)
            .close();
    }
}

fn value(headers: &HeaderMap, name: HeaderName) -> &[u8] {
    headers.get(name).map_or(&[], |value| value.as_bytes())
}

/// The last element of `X-Forwarded-For`: the only one that we wrote ourselves.
fn client_address(headers: &HeaderMap) -> &[u8] {
    let addresses = headers.get_all(FORWARDED_FOR).into_iter().next_back().map_or(&[][..], |value| value.as_bytes());
    addresses.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
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

// ===== one line =====

/// A line under construction.
#[derive(Debug)]
pub struct Line<'a> {
    buffer: &'a mut Vec<u8>,
    seconds: &'a mut Seconds,
}

impl Line<'_> {
    /// Adds a field. `key` is a plain word in snake_case, and no field of the line yet.
    pub fn field(&mut self, key: &'static str, value: impl Serialize) -> &mut Self {
        self.key(key);
        let start = self.buffer.len();
        if serde_json::to_writer(&mut *self.buffer, &value).is_err() {
            // No value of ours fails; a stranger one must not cost the rest of the line.
            self.buffer.truncate(start);
            self.buffer.extend_from_slice(b"null");
        }
        self
    }

    /// Adds a field if there is a value.
    pub fn maybe(&mut self, key: &'static str, value: Option<impl Serialize>) -> &mut Self {
        match value {
            Some(value) => self.field(key, value),
            None => self,
        }
    }

    /// Adds what somebody else wrote, whatever its bytes and length.
    pub fn text(&mut self, key: &'static str, bytes: &[u8]) -> &mut Self {
        // Nearly all of it needs no escape, and this finds out many bytes at a time.
        let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
        if bytes.len() <= MAX_TEXT && bytes.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
            self.key(key);
            self.buffer.push(b'"');
            self.buffer.extend_from_slice(bytes);
            self.buffer.push(b'"');
            return self;
        }
        match bytes.get(..MAX_TEXT) {
            Some(start) if bytes.len() > MAX_TEXT => {
                self.field(key, format_args!("{}…", String::from_utf8_lossy(start)))
            }
            _ => self.field(key, String::from_utf8_lossy(bytes)),
        }
    }

    fn component(&mut self, component: &ComponentId) -> &mut Self {
        self.field("component", &*component.name)
            .field("digest", &*component.digest)
            .field("generation", component.generation)
    }

    fn time(&mut self, key: &'static str, time: SystemTime) -> &mut Self {
        self.key(key);
        self.seconds.write(time, self.buffer);
        self
    }

    fn open(&mut self, key: &'static str) -> &mut Self {
        self.key(key);
        self.buffer.push(b'{');
        self
    }

    fn close(&mut self) {
        self.buffer.push(b'}');
    }

    fn key(&mut self, key: &'static str) {
        if self.buffer.last() != Some(&b'{') {
            self.buffer.push(b',');
        }
        self.buffer.push(b'"');
        self.buffer.extend_from_slice(key.as_bytes());
        self.buffer.extend_from_slice(b"\":");
    }
}

/// What a thread formats with, kept from line to line.
#[derive(Default)]
struct Scratch {
    buffer: Vec<u8>,
    seconds: Seconds,
}

impl Scratch {
    fn with(use_it: impl FnOnce(&mut Self)) {
        thread_local! {
            static SCRATCH: Cell<Scratch> = Cell::default();
        }
        // Taken out for the while, so that a value that logs when it is formatted meets an empty one; and a thread at its
        // very end has none.
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        use_it(&mut scratch);
        let _ = SCRATCH.try_with(|cell| cell.set(scratch));
    }

    fn line(&mut self, level: Level, message: impl Serialize, fields: impl FnOnce(&mut Line<'_>)) -> &[u8] {
        self.buffer.clear();
        self.buffer.push(b'{');
        let mut line = Line { buffer: &mut self.buffer, seconds: &mut self.seconds };
        line.time("time", now()).field("level", level.name()).field("msg", message);
        fields(&mut line);
        self.buffer.extend_from_slice(b"}\n");
        &self.buffer
    }
}

/// The last second that was formatted, `2024-08-20T08:37:36`: most lines are of the same as the line before.
#[derive(Debug, Default)]
struct Seconds {
    second: Option<u64>,
    text: String,
}

impl Seconds {
    fn write(&mut self, time: SystemTime, buffer: &mut Vec<u8>) {
        // A clock before 1970 is a clock that was never set.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            let timestamp = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
            self.text.clear();
            // A `String` takes everything.
            let _ = write!(self.text, "{timestamp:.0}");
            self.text.truncate(self.text.trim_end_matches('Z').len());
        }
        let mut fraction = *b".000000Z\"";
        let mut rest = since.subsec_micros();
        for digit in fraction[1..7].iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        buffer.push(b'"');
        buffer.extend_from_slice(self.text.as_bytes());
        buffer.extend_from_slice(&fraction);
    }
}

// ===== the way out =====

/// Lines on their way from the workers to the writer.
struct Queue {
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
    fn push(&self, line: &[u8]) {
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

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::Sender;

    use fusebox_resilience::testing::{call, call_with};
    use fusebox_resilience::{Fault, Observers, RequestBody, State};
    use http::Request;
    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap().clone();
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{text}");
            text.lines().map(str::to_owned).collect()
        }
    }

    /// What is logged, without the times of the lines, which are checked for their shape.
    fn logged(level: Level, access: bool, act: impl FnOnce(&Log)) -> Vec<String> {
        let sink = Sink::default();
        let (log, writer) = Log::start(sink.clone(), level, access);
        act(&log);
        drop(writer);
        sink.lines().iter().map(|line| without_time(line)).collect()
    }

    fn without_time(line: &str) -> String {
        let time = line.strip_prefix(r#"{"time":""#).and_then(|rest| rest.get(..27)).unwrap_or(line);
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{line}");
        let _: Value = serde_json::from_str(line).unwrap();
        format!("{{{}", line.get(38..).unwrap_or(line))
    }

    fn line_of(call: Option<&Call>, policy: Option<&str>, kind: &EventKind) -> String {
        let mut lines = logged(Level::Debug, true, |log| log.observe(&Event { call, policy, kind }));
        assert_eq!(lines.len(), 1, "{kind:?}");
        lines.remove(0)
    }

    fn component() -> ComponentId {
        ComponentId { name: "service-b".into(), digest: "0a1b".into(), generation: 2 }
    }

    fn second(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn every_event_has_its_line() {
        let call = call("r-1", Observers::default());
        let attempt =
            |outcome| EventKind::AttemptFinished { attempt: 1, outcome, elapsed: Duration::from_micros(1500) };
        let skipped = |reason| EventKind::RetrySkipped { reason };
        let of_policies = [
            (
                attempt(AttemptOutcome::Response(503)),
                r#"{"level":"DEBUG","msg":"Attempt 1: 503",HEAD,"attempt":1,"elapsed_ms":1.5,"status":503}"#,
            ),
            (
                attempt(AttemptOutcome::Failure(ErrorKind::ConnectionRefused)),
                r#"{"level":"DEBUG","msg":"Attempt 1: connection refused",HEAD,"attempt":1,"elapsed_ms":1.5,"failure":"connection_refused"}"#,
            ),
            (
                attempt(AttemptOutcome::Cancelled),
                r#"{"level":"DEBUG","msg":"Attempt 1: cancelled",HEAD,"attempt":1,"elapsed_ms":1.5}"#,
            ),
            (
                EventKind::RetryScheduled { retry: 1, delay: second(1) },
                r#"{"level":"INFO","msg":"Retry 1 after delay of 1s",HEAD,"retry":1,"delay_ms":1000.0}"#,
            ),
            (
                EventKind::RetriesExhausted { retries: 2 },
                r#"{"level":"WARN","msg":"Retries exceeded",HEAD,"retries":2}"#,
            ),
            (EventKind::RetryAborted, r#"{"level":"INFO","msg":"Retry aborted",HEAD}"#),
            (
                skipped(NoRetry::Method),
                r#"{"level":"INFO","msg":"Not retried: the method is not idempotent",HEAD,"reason":"method"}"#,
            ),
            (
                skipped(NoRetry::Body),
                r#"{"level":"INFO","msg":"Not retried: the request body is too long to be kept",HEAD,"reason":"body"}"#,
            ),
            (
                skipped(NoRetry::RetryAfter),
                r#"{"level":"INFO","msg":"Not retried: the upstream asks for too long a wait",HEAD,"reason":"retry-after"}"#,
            ),
            (
                skipped(NoRetry::CircuitOpen),
                r#"{"level":"INFO","msg":"Not retried: the circuit breaker stays open for too long",HEAD,"reason":"circuit-open"}"#,
            ),
            (
                skipped(NoRetry::Budget),
                r#"{"level":"INFO","msg":"Not retried: the retry budget is spent",HEAD,"reason":"budget"}"#,
            ),
            (
                EventKind::TimeoutExceeded { limit: second(10) },
                r#"{"level":"INFO","msg":"Connection timed out",HEAD,"limit_ms":10000.0}"#,
            ),
            (
                EventKind::CircuitStateChanged { from: State::Closed, to: State::Open, delay: Some(second(60)) },
                r#"{"level":"INFO","msg":"circuit breaker state changed from closed to open",HEAD,"from":"closed","to":"open","delay_ms":60000.0}"#,
            ),
            (
                EventKind::CircuitStateChanged { from: State::Open, to: State::HalfOpen, delay: None },
                r#"{"level":"INFO","msg":"circuit breaker state changed from open to half-open",HEAD,"from":"open","to":"half-open"}"#,
            ),
            (
                EventKind::CallRejected { kind: ErrorKind::CircuitOpen, retry_after: Some(second(3)) },
                r#"{"level":"INFO","msg":"Call rejected: circuit breaker open",HEAD,"reason":"circuit-open","retry_after_ms":3000.0}"#,
            ),
            (
                EventKind::CallRejected { kind: ErrorKind::BulkheadFull, retry_after: None },
                r#"{"level":"INFO","msg":"Call rejected: bulkhead full",HEAD,"reason":"bulkhead-full"}"#,
            ),
            (
                EventKind::FallbackServed { status: 200 },
                r#"{"level":"INFO","msg":"Fallback executed result",HEAD,"status":200}"#,
            ),
            (EventKind::FallbackDeclined, r#"{"level":"INFO","msg":"Fallback declined",HEAD}"#),
            (
                EventKind::ResponseIncomplete { kind: ErrorKind::ConnectionTerminated },
                r#"{"level":"WARN","msg":"Response incomplete: connection lost",HEAD,"failure":"connection_terminated"}"#,
            ),
            (
                EventKind::ComponentFaulted {
                    component: component(),
                    fault: Fault::BadAnswer,
                    detail: "status 0".into(),
                },
                r#"{"level":"ERROR","msg":"Component faulted: bad-answer",HEAD,"component":"service-b","digest":"0a1b","generation":2,"fault":"bad-answer","detail":"status 0"}"#,
            ),
            (
                EventKind::ComponentPrinted { component: component(), line: "hello".into() },
                r#"{"level":"INFO","msg":"Component printed",HEAD,"component":"service-b","digest":"0a1b","generation":2,"line":"hello"}"#,
            ),
        ];
        for (kind, expected) in of_policies {
            let expected = expected.replace("HEAD", r#""request_id":"r-1","route":"test","policy":"p""#);
            assert_eq!(line_of(Some(&call), Some("p"), &kind), expected);
        }
    }

    #[test]
    fn what_concerns_no_call_has_a_line_without_one() {
        let replaced = ComponentId { digest: "ffff".into(), generation: 1, ..component() };
        let cases = [
            (
                EventKind::ComponentLoaded { component: component(), replaced: None },
                r#"{"level":"INFO","msg":"Component loaded","component":"service-b","digest":"0a1b","generation":2}"#,
            ),
            (
                EventKind::ComponentLoaded { component: component(), replaced: Some(replaced) },
                r#"{"level":"INFO","msg":"Component replaced","component":"service-b","digest":"0a1b","generation":2,"replaced_digest":"ffff","replaced_generation":1}"#,
            ),
            (
                EventKind::ComponentRejected { name: "service-b".into(), reason: "no export".into() },
                r#"{"level":"ERROR","msg":"Component rejected","component":"service-b","reason":"no export"}"#,
            ),
        ];
        for (kind, expected) in cases {
            assert_eq!(line_of(None, None, &kind), expected);
        }
    }

    fn finished(status: impl Into<Option<u16>>, failure: Option<ErrorKind>) -> EventKind {
        let elapsed = Duration::from_nanos(3_036_065_875);
        EventKind::CallFinished { status: status.into(), failure, detail: None, bytes: 71, elapsed }
    }

    #[test]
    fn the_access_line_has_request_and_response() {
        let request = Request::post("http://127.0.0.1:3001/orders?id=7")
            .header("host", "shop.example:8080")
            .header("x-forwarded-for", "203.0.113.7")
            .header("x-forwarded-for", "10.1.1.1, [::1]:63409 ")
            .header("referer", "https://shop.example/")
            .header("user-agent", "curl/8.9")
            .header("content-length", "312");
        let call = call_with("r-1", request, RequestBody::empty(), Observers::default());
        drop(call.begin_attempt());
        drop(call.begin_attempt());
        assert_eq!(
            line_of(Some(&call), None, &finished(200, None)),
            concat!(
                r#"{"level":"INFO","msg":"200: OK","request_id":"r-1","route":"test","#,
                r#""request":{"time":"1970-01-01T00:00:00.000000Z","method":"POST","host":"shop.example:8080","#,
                r#""path":"/orders","query":"id=7","route":"test","ip":"[::1]:63409","referer":"https://shop.example/","#,
                r#""user_agent":"curl/8.9","length":312},"#,
                r#""response":{"time":"1970-01-01T00:00:03.036065Z","latency":3036065875,"status":200,"length":71},"#,
                r#""attempts":2}"#
            )
        );
    }

    #[test]
    fn an_access_line_says_how_the_call_ended() {
        let call = call("r-1", Observers::default());
        let plain = |level: &str, message: &str, status: &str, rest: &str| {
            format!(
                r#"{{"level":"{level}","msg":"{message}","request_id":"r-1","route":"test","request":{{"time":"1970-01-01T00:00:00.000000Z","method":"GET","host":"service-b","path":"/","query":"","route":"test","ip":"","referer":"","user_agent":"","length":0}},"response":{{"time":"1970-01-01T00:00:03.036065Z","latency":3036065875,{status}"length":71}},"attempts":0{rest}}}"#
            )
        };
        let cases = [
            (finished(404, None), plain("WARN", "404: Not Found", r#""status":404,"#, "")),
            (finished(503, None), plain("ERROR", "503: Service Unavailable", r#""status":503,"#, "")),
            (
                finished(504, Some(ErrorKind::Timeout)),
                plain("ERROR", "504: Gateway Timeout", r#""status":504,"#, r#","failure":"http_response_timeout""#),
            ),
            (finished(299, None), plain("INFO", "299", r#""status":299,"#, "")),
            (finished(None, None), plain("INFO", "client closed request", "", "")),
            (
                finished(None, Some(ErrorKind::RequestIncomplete)),
                plain("INFO", "client closed request", "", r#","failure":"http_request_error""#),
            ),
        ];
        for (kind, expected) in cases {
            assert_eq!(line_of(Some(&call), None, &kind), expected);
        }
    }

    #[test]
    fn levels_and_the_switch_for_access_lines_hold() {
        let call = call("r-1", Observers::default());
        let all = |log: &Log| {
            let attempt =
                EventKind::AttemptFinished { attempt: 1, outcome: AttemptOutcome::Cancelled, elapsed: Duration::ZERO };
            for kind in [attempt, EventKind::RetryAborted, finished(200, None), finished(500, None)] {
                log.observe(&Event { call: Some(&call), policy: None, kind: &kind });
            }
        };
        assert_eq!(logged(Level::Debug, true, all).len(), 4);
        assert_eq!(logged(Level::Info, true, all).len(), 3);
        assert_eq!(logged(Level::Info, false, all).len(), 1);
        assert_eq!(logged(Level::Error, true, all).len(), 1);
    }

    #[test]
    fn the_program_has_lines_of_its_own() {
        let lines = logged(Level::Info, true, |log| {
            log.line(Level::Info, "listening", |line| {
                line.field("address", "127.0.0.1:3002").maybe("workers", Some(2)).maybe("nothing", None::<u8>);
            });
            log.line(Level::Debug, "not said", |_| panic!("not asked either"));
            log.line(Level::Warn, "a \"quoted\"\nmessage", |_| {});
        });
        assert_eq!(
            lines,
            [
                r#"{"level":"INFO","msg":"listening","address":"127.0.0.1:3002","workers":2}"#,
                r#"{"level":"WARN","msg":"a \"quoted\"\nmessage"}"#
            ]
        );
    }

    #[test]
    fn a_value_that_cannot_be_written_costs_only_itself() {
        let no_json = std::collections::HashMap::from([(vec![1], 1)]);
        let lines = logged(Level::Info, true, |log| {
            log.line(Level::Info, "odd", |line| {
                line.field("value", no_json).field("next", 1);
            });
        });
        assert_eq!(lines, [r#"{"level":"INFO","msg":"odd","value":null,"next":1}"#]);
    }

    #[test]
    fn a_value_that_logs_while_it_is_written_spoils_no_line() {
        let lines = logged(Level::Info, true, |log| {
            log.line(Level::Info, "outer", |line| {
                log.line(Level::Info, "inner", |_| {});
                line.field("value", 1);
            });
        });
        assert_eq!(lines, [r#"{"level":"INFO","msg":"inner"}"#, r#"{"level":"INFO","msg":"outer","value":1}"#]);
    }

    #[test]
    fn hostile_bytes_stay_within_their_string() {
        // All that a header may carry; `http` refuses the rest.
        let header: Vec<u8> = (0x20..=0xff).filter(|byte| *byte != 0x7f).chain([b'\t']).collect();
        let request = Request::get("/a%00\"b{},?q=\\,:{}")
            .header("user-agent", http::HeaderValue::from_bytes(&header).unwrap())
            .header("referer", http::HeaderValue::from_bytes(b"\xff\xfe\",\"msg\":\"forged").unwrap())
            .header("host", "\"")
            .header("content-length", "-1");
        let call = call_with("r-1", request, RequestBody::empty(), Observers::default());
        let line: Value = serde_json::from_str(&line_of(Some(&call), None, &finished(200, None))).unwrap();
        assert_eq!(line["msg"], "200: OK");
        assert_eq!(line["level"], "INFO");
        let request = &line["request"];
        assert_eq!(request["path"], "/a%00\"b{},");
        assert_eq!(request["query"], "q=\\,:{}");
        assert_eq!(request["host"], "\"");
        assert_eq!(request["length"], 0);
        assert_eq!(request["referer"], "\u{fffd}\u{fffd}\",\"msg\":\"forged");
        assert!(request["user_agent"].as_str().unwrap().starts_with(" !\"#$%&'"));

        let printed: String = (0..=0x2fff_u32).filter_map(char::from_u32).take(1000).collect();
        let kind = EventKind::ComponentPrinted { component: component(), line: printed.as_str().into() };
        let line: Value = serde_json::from_str(&line_of(None, None, &kind)).unwrap();
        assert_eq!(line["line"], printed);
    }

    #[test]
    fn a_long_text_is_cut() {
        for (length, expected) in [(MAX_TEXT, MAX_TEXT), (MAX_TEXT + 1, MAX_TEXT + "…".len())] {
            let detail = "x".repeat(length).into();
            let kind = EventKind::ComponentFaulted { component: component(), fault: Fault::Trap, detail };
            let line: Value = serde_json::from_str(&line_of(None, None, &kind)).unwrap();
            assert_eq!(line["detail"].as_str().unwrap().len(), expected);
        }
    }

    #[test]
    fn times_are_utc_with_microseconds() {
        let mut seconds = Seconds::default();
        let mut format = |time| {
            let mut buffer = Vec::new();
            seconds.write(time, &mut buffer);
            String::from_utf8(buffer).unwrap()
        };
        let at = |seconds, nanoseconds| UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        assert_eq!(format(at(0, 0)), r#""1970-01-01T00:00:00.000000Z""#);
        assert_eq!(format(at(0, 999_999_999)), r#""1970-01-01T00:00:00.999999Z""#);
        assert_eq!(format(at(1_724_153_856, 852_886_000)), r#""2024-08-20T11:37:36.852886Z""#);
        assert_eq!(format(at(951_782_400, 1_000)), r#""2000-02-29T00:00:00.000001Z""#);
        assert_eq!(format(UNIX_EPOCH - second(5)), r#""1970-01-01T00:00:00.000000Z""#);
        assert_eq!(format(at(u64::MAX >> 2, 0)), r#""9999-12-30T22:00:00.000000Z""#);
    }

    #[test]
    fn delays_read_well() {
        let cases = [
            (second(1), "1s"),
            (second(60), "60s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_nanos(1_037_512_345), "1.038s"),
            (Duration::from_nanos(37_512_345), "37.512ms"),
            (Duration::from_nanos(999_999_999), "1s"),
            (Duration::ZERO, "0ns"),
        ];
        for (delay, expected) in cases {
            assert_eq!(Human(delay).to_string(), expected);
        }
    }

    /// Says when it is written to, and waits for leave.
    struct Gate {
        entered: Sender<()>,
        leave: Receiver<io::Result<()>>,
        sink: Sink,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            // Without anybody to give it there is leave for everything.
            self.leave.recv().unwrap_or(Ok(()))?;
            self.sink.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Gate, Receiver<()>, Sender<io::Result<()>>, Sink) {
        let ((entered, has_entered), (give, leave), sink) = (channel(), channel(), Sink::default());
        (Gate { entered, leave, sink: sink.clone() }, has_entered, give, sink)
    }

    #[test]
    fn lines_that_find_no_room_are_dropped_and_counted() {
        let (gate, has_entered, give, sink) = gate();
        let (log, writer) = Log::start_with(gate, Level::Info, true, 1000);
        log.line(Level::Info, "first", |_| {});
        has_entered.recv().unwrap();
        for _ in 0..100 {
            log.line(Level::Info, "more", |_| {});
        }
        let dropped = log.dropped();
        assert!((80..100).contains(&dropped), "{dropped}");
        drop(give);
        drop(writer);
        let lines: Vec<String> = sink.lines().iter().map(|line| without_time(line)).collect();
        assert_eq!(lines.len() as u64, 1 + (100 - dropped) + 1);
        assert_eq!(
            lines.last().map(String::as_str),
            Some(format!(r#"{{"level":"WARN","msg":"{dropped} log lines dropped","dropped":{dropped}}}"#)).as_deref()
        );
        assert_eq!(log.dropped(), dropped);
    }

    #[test]
    fn lines_that_the_output_refuses_are_counted_too() {
        let (gate, has_entered, give, sink) = gate();
        let (log, writer) = Log::start(gate, Level::Info, true);
        log.line(Level::Info, "lost", |_| {});
        has_entered.recv().unwrap();
        give.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        while log.dropped() == 0 {
            thread::yield_now();
        }
        log.line(Level::Info, "written", |_| {});
        drop(give);
        drop(writer);
        let lines: Vec<String> = sink.lines().iter().map(|line| without_time(line)).collect();
        assert_eq!(
            lines,
            [r#"{"level":"INFO","msg":"written"}"#, r#"{"level":"WARN","msg":"1 log lines dropped","dropped":1}"#]
        );
    }

    #[test]
    fn a_line_goes_out_without_another_behind_it() {
        let (gate, has_entered, give, sink) = gate();
        drop(give);
        let (log, writer) = Log::start(gate, Level::Info, true);
        for count in 1..=3 {
            log.line(Level::Info, "alone", |_| {});
            has_entered.recv_timeout(second(30)).unwrap();
            while sink.lines().len() < count {
                thread::yield_now();
            }
        }
        drop(writer);
    }

    #[test]
    fn the_end_writes_everything_and_then_nothing() {
        let sink = Sink::default();
        let (log, writer) = Log::start(sink.clone(), Level::Info, true);
        for _ in 0..1000 {
            log.line(Level::Info, "one", |_| {});
        }
        drop(writer);
        assert_eq!(sink.lines().len(), 1000);
        log.line(Level::Info, "late", |_| {});
        assert_eq!(sink.lines().len(), 1000);
        assert_eq!(log.dropped(), 1);
    }

    #[test]
    fn lines_of_many_threads_stay_whole_and_in_order() {
        let sink = Sink::default();
        let (log, writer) = Log::start(sink.clone(), Level::Info, true);
        thread::scope(|scope| {
            for thread in 0..8_usize {
                let log = &log;
                scope.spawn(move || {
                    for number in 0..500 {
                        log.line(Level::Info, "counting", |line| {
                            line.field("thread", thread).field("number", number);
                        });
                    }
                });
            }
        });
        drop(writer);
        let mut next = [0; 8];
        for line in sink.lines() {
            let line: Value = serde_json::from_str(&line).unwrap();
            let thread = usize::try_from(line["thread"].as_u64().unwrap()).unwrap();
            assert_eq!(line["number"], next[thread]);
            next[thread] += 1;
        }
        assert_eq!(next, [500; 8]);
    }
}
