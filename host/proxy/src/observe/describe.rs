//! What an event comes to in words: the one place that knows the level, the message and the fields
//! of each. The access line alone has a form of its own (`log/access.rs`).

use std::fmt;
use std::time::Duration;

use fusebox_resilience::{
    AdaptiveLimiterEvent, AdaptiveThrottlerEvent, AdminEvent, AttemptEvent, AttemptOutcome,
    CacheEvent, CallEvent, CircuitBreakerEvent, ComponentEvent, ConditionEvent, ConnectionEvent,
    ConnectionLimit, ErrorKind, Event, EventKind, FallbackEvent, HedgeEvent, KeysEvent, NoHedge,
    NoRetry, PriorityLevel, QueueEvent, Request, RetryEvent, Role, ServerEvent, TimeoutEvent,
};

use super::level::Level;
use super::line::Line;

/// Takes the description of an event.
pub(crate) trait Say {
    /// The event is worth this level, and says this; `fields` adds what goes with it.
    fn say(&self, level: Level, message: impl fmt::Display, fields: impl FnOnce(&mut Line<'_>));
}

/// Describes an event.
pub(crate) fn describe(event: &Event<'_>, say: &impl Say) {
    let say = &WithContext { event, say };
    match event.kind {
        EventKind::Call(of) => call(event, of, say),
        EventKind::Attempt(of) => attempt(event, of, say),
        EventKind::Condition(of) => condition(of, say),
        EventKind::Timeout(of) => timeout(of, say),
        EventKind::Retry(of) => retry(of, say),
        EventKind::CircuitBreaker(of) => circuit_breaker(of, say),
        EventKind::Fallback(of) => fallback(of, say),
        EventKind::AdaptiveLimiter(of) => adaptive_limiter(of, say),
        EventKind::AdaptiveThrottler(of) => adaptive_throttler(of, say),
        EventKind::Queue(of) => queue(of, say),
        EventKind::Keys(of) => keys(of, say),
        EventKind::Hedge(of) => hedge(of, say),
        EventKind::Cache(of) => cache(of, say),
        EventKind::Component(of) => component(of, say),
        EventKind::Connection(of) => connection(of, say),
        EventKind::Server(of) => server(of, say),
        EventKind::Admin(of) => admin(of, say),
    }
}

/// Puts what every event has before the fields of its own.
struct WithContext<'a, S> {
    event: &'a Event<'a>,
    say: &'a S,
}

impl<S: Say> Say for WithContext<'_, S> {
    fn say(&self, level: Level, message: impl fmt::Display, fields: impl FnOnce(&mut Line<'_>)) {
        let Event { request, policy, decided_by, provenance, .. } = self.event;
        self.say.say(level, message, |line| {
            if let Some(request) = request {
                line.text("request_id", request.id().as_bytes())
                    .text("route", request.route().as_bytes());
            }
            if let Some(policy) = policy {
                line.text("policy", policy.as_bytes());
            }
            if let Some(component) = decided_by {
                line.open("decided_by").component(component).close();
            }
            if let Some(provenance) = provenance {
                line.field("attempt", provenance.attempt);
                if let Some(address) = provenance.address {
                    line.address(address);
                }
            }
            fields(line);
        });
    }
}

fn call(event: &Event<'_>, of: &CallEvent, say: &impl Say) {
    match of {
        CallEvent::Started => say.say(Level::Debug, "Call started", |line| {
            if let Some(request) = event.request {
                let head = request.head();
                line.text("method", head.method.as_str().as_bytes())
                    .text("path", head.uri.path().as_bytes());
            }
        }),
        CallEvent::Refused { flaw } => {
            say.say(Level::Info, format_args!("Request refused: {flaw}"), |line| {
                line.field("reason", flaw.name());
            });
        }
        // A moment after the last one: counted, and told with the next.
        CallEvent::ForwardedReplaced { connections: None }
        | CallEvent::TurnedAway { count: None } => {}
        CallEvent::ForwardedReplaced { connections: Some(connections) } => {
            let message = "Forwarded headers replaced: the client is not trusted";
            say.say(Level::Info, message, |line| {
                let client = event.request.map(Request::client_address);
                line.maybe("ip", client).field("connections", connections);
            });
        }
        CallEvent::TurnedAway { count: Some(count) } => {
            say.say(Level::Warn, "Request turned away: too many in flight", |line| {
                line.field("count", count);
            });
        }
        &CallEvent::DeadlineExceeded { limit } => {
            say.say(Level::Info, "Deadline exceeded", |line| {
                line.field("limit_ms", milliseconds(limit));
            });
        }
        &CallEvent::DeadlineIgnored { header } => {
            say.say(Level::Info, "Deadline ignored: it is not valid", |line| {
                line.field("header", header);
            });
        }
        CallEvent::BodyNotKept => {
            say.say(Level::Info, "Request body not kept: the memory for it is full", |_| {});
        }
        &CallEvent::Rejected { kind, retry_after } => {
            say.say(Level::Info, format_args!("Call rejected: {kind}"), |line| {
                line.field("reason", kind.failure().name())
                    .maybe("retry_after_ms", retry_after.map(milliseconds))
                    .maybe(
                        "priority_level",
                        event.request.and_then(Request::level).map(PriorityLevel::number),
                    );
            });
        }
        &CallEvent::ResponseIncomplete { kind } => {
            say.say(Level::Warn, format_args!("Response incomplete: {kind}"), |line| {
                failure(line, kind);
            });
        }
        // The access line (`log/access.rs`).
        CallEvent::Finished { .. } => {}
    }
}

fn attempt(event: &Event<'_>, of: &AttemptEvent, say: &impl Say) {
    let run = |line: &mut Line<'_>| {
        if let Some(provenance) = event.provenance {
            line.field("run", provenance.run.number()).field("role", provenance.role.name());
            match provenance.role {
                Role::First => {}
                Role::Retry(retry) => {
                    line.field("retry", retry);
                }
                Role::Hedge(hedge) => {
                    line.field("hedge", hedge);
                }
            }
        }
    };
    match of {
        AttemptEvent::Started { attempt, endpoint, remaining } => {
            say.say(Level::Debug, format_args!("Attempt {attempt} started"), |line| {
                run(line);
                line.text("endpoint", endpoint.as_bytes())
                    .maybe("remaining_ms", remaining.map(milliseconds));
            });
        }
        AttemptEvent::SentAgain { attempt } => {
            let message = format_args!("Attempt {attempt} sent again: its connection had died");
            say.say(Level::Debug, message, |line| {
                line.field("attempt", *attempt);
            });
        }
        &AttemptEvent::Finished { attempt, outcome, elapsed } => {
            let message = format_args!("Attempt {attempt}: {}", Ended(outcome));
            say.say(Level::Debug, message, |line| {
                run(line);
                line.field("elapsed_ms", milliseconds(elapsed));
                match outcome {
                    AttemptOutcome::Response(status) => line.field("status", status),
                    AttemptOutcome::Failure(kind) => failure(line, kind),
                    AttemptOutcome::Cancelled => line,
                };
            });
        }
    }
}

fn condition(of: &ConditionEvent, say: &impl Say) {
    match of {
        ConditionEvent::Asked { slot, component, on_error, handled } => {
            let answer = if *handled { "yes" } else { "no" };
            say.say(Level::Debug, format_args!("Condition {}: {answer}", slot.name()), |line| {
                line.field("slot", slot.name())
                    .maybe("component", component.as_deref())
                    .maybe("on_error", on_error.then_some(true))
                    .field("handled", *handled);
            });
        }
    }
}

/// The word that conditions and metrics have for a failure, and that of RFC 9209.
fn failure<'l, 'b>(line: &'l mut Line<'b>, kind: ErrorKind) -> &'l mut Line<'b> {
    line.field("failure", kind.failure().name()).field("error", kind.name())
}

fn timeout(of: &TimeoutEvent, say: &impl Say) {
    match of {
        &TimeoutEvent::Exceeded { limit } => {
            say.say(Level::Info, "Connection timed out", |line| {
                line.field("limit_ms", milliseconds(limit));
            });
        }
    }
}

fn retry(of: &RetryEvent, say: &impl Say) {
    match of {
        &RetryEvent::Scheduled { retry, delay } => {
            let message = format_args!("Retry {retry} after delay of {}", Human(delay));
            say.say(Level::Info, message, |line| {
                line.field("retry", retry).field("delay_ms", milliseconds(delay));
            });
        }
        &RetryEvent::Exhausted { retries } => {
            say.say(Level::Warn, "Retries exceeded", |line| {
                line.field("retries", retries);
            });
        }
        RetryEvent::Aborted => say.say(Level::Info, "Retry aborted", |_| {}),
        &RetryEvent::Skipped { reason } => {
            let message = match reason {
                NoRetry::Method => "Not retried: the method is not idempotent",
                NoRetry::Body => "Not retried: the request body is too long to be kept",
                NoRetry::Memory => "Not retried: the memory for request bodies is full",
                NoRetry::RetryAfter => "Not retried: the upstream asks for too long a wait",
                NoRetry::Upstream => "Not retried: the upstream asks not to be asked again",
                NoRetry::Retried => "Not retried: another layer has retried it or turned it away",
                NoRetry::Deadline => "Not retried: the wait would end past the deadline",
                NoRetry::CircuitOpen => "Not retried: the circuit breaker stays open for too long",
                NoRetry::Budget => "Not retried: the retry budget is spent",
            };
            say.say(Level::Info, message, |line| {
                line.field("reason", reason.name());
            });
        }
    }
}

fn circuit_breaker(of: &CircuitBreakerEvent, say: &impl Say) {
    match *of {
        CircuitBreakerEvent::StateChanged { from, to, delay, ref key } => {
            let (from, to) = (from.name(), to.name());
            let message = format_args!("circuit breaker state changed from {from} to {to}");
            say.say(Level::Info, message, |line| {
                line.field("from", from)
                    .field("to", to)
                    .maybe("delay_ms", delay.map(milliseconds))
                    .maybe("key", key.as_deref());
            });
        }
        CircuitBreakerEvent::FailedLate { kind } => {
            let message = format_args!("Success taken back: {kind}");
            say.say(Level::Debug, message, |line| {
                failure(line, kind);
            });
        }
    }
}

fn fallback(of: &FallbackEvent, say: &impl Say) {
    match of {
        FallbackEvent::Served { status, component } => {
            say.say(Level::Info, "Fallback executed result", |line| {
                line.field("status", *status);
                component.iter().for_each(|component| {
                    line.component(component);
                });
            });
        }
        FallbackEvent::Declined => say.say(Level::Info, "Fallback declined", |_| {}),
    }
}

fn adaptive_limiter(of: &AdaptiveLimiterEvent, say: &impl Say) {
    match *of {
        // One a second, for as long as there is traffic.
        AdaptiveLimiterEvent::LimitChanged { from, to, kind } => {
            let message = format_args!("Limit changed from {from} to {to}: {}", kind.name());
            say.say(Level::Debug, message, |line| {
                line.field("from", from).field("to", to).field("kind", kind.name());
            });
        }
    }
}

fn adaptive_throttler(of: &AdaptiveThrottlerEvent, say: &impl Say) {
    match *of {
        AdaptiveThrottlerEvent::ShareChanged { from, to } => {
            // One a second while it lasts: its begin and its end are worth a line.
            let is_end = from >= 1.0 || to >= 1.0;
            let level = if is_end { Level::Info } else { Level::Debug };
            let message = format_args!("Throttler admits {:.0} % of calls", to * 100.0);
            say.say(level, message, |line| {
                line.field("from", thousandths(from)).field("to", thousandths(to));
            });
        }
    }
}

/// A share as it is read.
fn thousandths(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}

fn queue(of: &QueueEvent, say: &impl Say) {
    match *of {
        QueueEvent::Joined { ahead } => {
            say.say(Level::Debug, format_args!("Call waits, {ahead} before it"), |line| {
                line.field("ahead", ahead);
            });
        }
        QueueEvent::Admitted { waited } => {
            let message = format_args!("Call admitted after {}", Human(waited));
            say.say(Level::Debug, message, |line| {
                line.field("waited_ms", milliseconds(waited));
            });
        }
    }
}

fn hedge(of: &HedgeEvent, say: &impl Say) {
    match *of {
        HedgeEvent::Launched { hedge, asked } => {
            let message = format_args!("Hedge {hedge} launched after {}", Human(asked));
            say.say(Level::Info, message, |line| {
                line.field("hedge", hedge).field("asked_ms", milliseconds(asked));
            });
        }
        HedgeEvent::Won { hedge } => {
            say.say(Level::Info, format_args!("Hedge {hedge} won"), |line| {
                line.field("hedge", hedge);
            });
        }
        HedgeEvent::Cancelled { hedge } => {
            say.say(Level::Debug, "Attempt lost to another", |line| {
                line.field("hedge", hedge);
            });
        }
        HedgeEvent::Skipped { reason } => {
            let message = match reason {
                NoHedge::Method => "Not hedged: the method is not idempotent",
                NoHedge::Body => "Not hedged: the request body is too long to be kept",
                NoHedge::Memory => "Not hedged: the memory for request bodies is full",
                NoHedge::RetryAfter => "Not hedged: the upstream asks to be left alone",
                NoHedge::Retried => "Not hedged: another layer repeats it or turned it away",
                NoHedge::Budget => "Not hedged: the budget is spent",
            };
            say.say(Level::Info, message, |line| {
                line.field("reason", reason.name());
            });
        }
    }
}

fn keys(of: &KeysEvent, say: &impl Say) {
    match of {
        KeysEvent::Overflowed { count: Some(count) } => {
            say.say(Level::Warn, "Too many keys: newcomers share one state", |line| {
                line.field("count", *count);
            });
        }
        // A moment after the last one: counted, and told with the next.
        KeysEvent::Overflowed { count: None } => {}
    }
}

fn cache(of: &CacheEvent, say: &impl Say) {
    match *of {
        CacheEvent::Used { result, age } => {
            say.say(Level::Debug, format_args!("Cache: {}", result.name()), |line| {
                line.field("result", result.name()).maybe("age_ms", age.map(milliseconds));
            });
        }
        CacheEvent::ServedStale { reason, age } => {
            say.say(Level::Info, "Stale response served", |line| {
                line.field("reason", reason.name()).field("age_ms", milliseconds(age));
            });
        }
        CacheEvent::Stored { bytes, lifetime } => {
            say.say(Level::Debug, "Response stored", |line| {
                line.field("bytes", bytes).field("lifetime_ms", milliseconds(lifetime));
            });
        }
        CacheEvent::Refused { reason } => say.say(Level::Debug, "Response not stored", |line| {
            line.field("reason", reason.name());
        }),
        CacheEvent::Broken { kind } => {
            say.say(Level::Info, format_args!("Response not stored: {kind}"), |line| {
                failure(line, kind);
            });
        }
        CacheEvent::WaitedTooLong => {
            say.say(Level::Info, "Waited too long for the answer to the same request", |_| {});
        }
        CacheEvent::Invalidated => say.say(Level::Debug, "Stored response invalidated", |_| {}),
        CacheEvent::Purged { entries } => say.say(Level::Info, "Cache purged", |line| {
            line.field("entries", entries);
        }),
    }
}

fn component(of: &ComponentEvent, say: &impl Say) {
    match of {
        ComponentEvent::Faulted { component, fault, detail } => {
            let fault = fault.name();
            say.say(Level::Error, format_args!("Component faulted: {fault}"), |line| {
                line.component(component).field("fault", fault).text("detail", detail.as_bytes());
            });
        }
        ComponentEvent::Printed { component, line: printed } => {
            say.say(Level::Info, "Component printed", |line| {
                line.component(component).text("line", printed.as_bytes());
            });
        }
        ComponentEvent::Captured { component, case } => {
            say.say(Level::Info, "Exchange captured", |line| {
                line.component(component).json("case", case);
            });
        }
        ComponentEvent::Loaded { component, replaced } => {
            let message =
                if replaced.is_some() { "Component replaced" } else { "Component loaded" };
            say.say(Level::Info, message, |line| {
                line.component(component)
                    .maybe("replaced_digest", replaced.as_ref().map(|replaced| &*replaced.digest))
                    .maybe(
                        "replaced_generation",
                        replaced.as_ref().map(|replaced| replaced.generation),
                    );
            });
        }
        ComponentEvent::Rejected { name, digest, reason } => {
            say.say(Level::Error, "Component rejected", |line| {
                line.field("component", &**name)
                    .maybe("rejected_digest", digest.as_deref())
                    .text("reason", reason.as_bytes());
            });
        }
        ComponentEvent::Overtaken { name, digest } => {
            say.say(Level::Info, "Component overtaken", |line| {
                line.field("component", &**name).field("overtaken_digest", &**digest);
            });
        }
        ComponentEvent::Unconfined { name, reason } => {
            say.say(Level::Warn, "Component compiled without seccomp", |line| {
                line.field("component", &**name).text("reason", reason.as_bytes());
            });
        }
        ComponentEvent::Excused { component, before } => {
            say.say(Level::Info, "Component excused: the version before faults too", |line| {
                line.component(component)
                    .field("before_digest", &*before.digest)
                    .field("before_generation", before.generation);
            });
        }
        ComponentEvent::RolledBack { component, from, faults } => {
            say.say(Level::Warn, "Component rolled back", |line| {
                line.component(component)
                    .field("from_digest", &*from.digest)
                    .field("from_generation", from.generation)
                    .maybe("faults", *faults);
            });
        }
        ComponentEvent::Quarantined { component, faults, interval } => {
            say.say(Level::Error, "Component quarantined", |line| {
                line.component(component)
                    .field("faults", *faults)
                    .field("interval_ms", milliseconds(*interval));
            });
        }
        ComponentEvent::Released { component } => {
            say.say(Level::Info, "Component released", |line| {
                line.component(component);
            });
        }
    }
}

fn connection(of: &ConnectionEvent, say: &impl Say) {
    match of {
        ConnectionEvent::Refused { client, status, reason, words, count: Some(count) } => {
            say.say(Level::Info, format_args!("Request refused: {words}"), |line| {
                line.field("reason", reason)
                    .field("status", status)
                    .field("ip", client)
                    .field("count", count);
            });
        }
        ConnectionEvent::Ended { client, limit, count: Some(count) } => {
            let (level, why) = match limit {
                ConnectionLimit::IdleTimeout => (Level::Debug, "no request came"),
                ConnectionLimit::BodyTimeout => (Level::Info, "it moved nothing for too long"),
                ConnectionLimit::MinRate => (Level::Info, "it was too slow"),
                ConnectionLimit::RequestTimeout => (Level::Info, "its request took too long"),
                ConnectionLimit::MaxRequests => (Level::Debug, "it has had its requests"),
                ConnectionLimit::MaxAge => (Level::Debug, "it is old enough"),
                ConnectionLimit::MaxConnections => (Level::Warn, "its place was needed"),
                ConnectionLimit::MaxConnectionsPerAddress => {
                    (Level::Warn, "its address has too many")
                }
            };
            say.say(level, format_args!("Connection ended: {why}"), |line| {
                line.field("limit", limit.key()).field("ip", client).field("count", count);
            });
        }
        // A moment after the last one: counted, and told with the next.
        ConnectionEvent::Refused { count: None, .. }
        | ConnectionEvent::Ended { count: None, .. } => {}
    }
}

fn server(of: &ServerEvent, say: &impl Say) {
    match *of {
        ServerEvent::Full { places, count: Some(count) } => {
            say.say(Level::Warn, "all places for connections are taken", |line| {
                line.field("max_connections", places).field("count", count);
            });
        }
        // A moment after the last one: counted, and told with the next.
        ServerEvent::Full { count: None, .. } => {}
        ServerEvent::WorkerStalled { worker, silence } => {
            say.say(Level::Error, format_args!("Worker {worker} stalled"), |line| {
                line.field("worker", worker).field("silent_ms", milliseconds(silence));
            });
        }
        ServerEvent::WorkerResumed { worker, silence } => {
            say.say(Level::Warn, format_args!("Worker {worker} resumed"), |line| {
                line.field("worker", worker).field("silent_ms", milliseconds(silence));
            });
        }
        ServerEvent::WorkerLost { worker, silence } => {
            let message = format_args!("Worker {worker} lost: the process ends");
            say.say(Level::Error, message, |line| {
                line.field("worker", worker).maybe("silent_ms", silence.map(milliseconds));
            });
        }
    }
}

fn admin(of: &AdminEvent, say: &impl Say) {
    match of {
        AdminEvent::Denied { client, request, reason, count: Some(count) } => {
            let reason = reason.name();
            say.say(Level::Warn, format_args!("Admin request denied: {reason}"), |line| {
                line.text("client", client.as_bytes())
                    .text("request", request.as_bytes())
                    .field("reason", reason)
                    .field("count", *count);
            });
        }
        AdminEvent::Changed { client, request, status } => {
            say.say(Level::Info, "Admin change", |line| {
                line.text("client", client.as_bytes())
                    .text("request", request.as_bytes())
                    .maybe("status", *status);
            });
        }
        AdminEvent::Crowded { count: Some(count) } => {
            say.say(Level::Warn, "Admin connections crowded out", |line| {
                line.field("count", *count);
            });
        }
        // A moment after the last one: counted, and told with the next.
        AdminEvent::Denied { count: None, .. } | AdminEvent::Crowded { count: None } => {}
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// A delay for people: `0s`, `250ms`, `1.038s`. What jitter adds beyond three places is noise.
struct Human(Duration);

impl fmt::Display for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            // Of no unit, and usual: writing it as the others took a sixth of a retry's line.
            return f.write_str("0s");
        }
        let unit = if self.0 >= Duration::from_secs(1) { 1_000_000 } else { 1_000 };
        let nanoseconds = (self.0.as_nanos() + unit / 2) / unit * unit;
        write!(f, "{:?}", Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }
}

/// How an attempt ended, in a word or a few.
struct Ended(AttemptOutcome);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            AttemptOutcome::Response(status) => status.fmt(f),
            AttemptOutcome::Failure(kind) => kind.fmt(f),
            AttemptOutcome::Cancelled => f.write_str("cancelled"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_read_well() {
        let cases = [
            (Duration::from_secs(1), "1s"),
            (Duration::from_secs(60), "60s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_nanos(1_037_512_345), "1.038s"),
            (Duration::from_nanos(37_512_345), "37.512ms"),
            (Duration::from_nanos(999_999_999), "1s"),
            (Duration::ZERO, "0s"),
        ];
        for (delay, expected) in cases {
            assert_eq!(Human(delay).to_string(), expected);
        }
    }
}
