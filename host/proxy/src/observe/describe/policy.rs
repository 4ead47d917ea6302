//! What policies do.

use fusebox_resilience::{
    AdaptiveLimiterEvent, AdaptiveThrottlerEvent, BodyLimit, CacheEvent, CircuitBreakerEvent,
    EndpointName, FallbackEvent, HedgeEvent, KeysEvent, LateFailureCause, NoHedge, NoRetry,
    QueueEvent, RetryEvent, TimeoutEvent,
};

use super::say::Say;
use super::words::{Human, failure, milliseconds};
use crate::observe::level::Level;

pub(super) fn timeout(of: &TimeoutEvent, say: &impl Say) {
    match *of {
        TimeoutEvent::Exceeded { limit } => {
            say.say(Level::Info, "Connection timed out", |line| {
                line.field("limit_ms", milliseconds(limit));
            });
        }
        TimeoutEvent::BodyCut { limit } => {
            let message = match limit {
                BodyLimit::Time => "Response body timed out",
                BodyLimit::Rate => "Response body too slow",
            };
            say.say(Level::Info, message, |line| {
                line.field("limit", limit.name());
            });
        }
    }
}

pub(super) fn retry(of: &RetryEvent, say: &impl Say) {
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
                NoRetry::Component => "Not retried: the component says not to, or too late",
            };
            say.say(Level::Info, message, |line| {
                line.field("reason", reason.name());
            });
        }
    }
}

pub(super) fn circuit_breaker(of: &CircuitBreakerEvent, say: &impl Say) {
    match *of {
        CircuitBreakerEvent::StateChanged { from, to, delay, ref key, ref endpoint } => {
            let (from, to) = (from.name(), to.name());
            let message = format_args!("circuit breaker state changed from {from} to {to}");
            say.say(Level::Info, message, |line| {
                line.field("from", from)
                    .field("to", to)
                    .maybe("delay_ms", delay.map(milliseconds))
                    .maybe("key", key.as_deref());
                if let Some(EndpointName { upstream, endpoint }) = endpoint {
                    line.text("upstream", upstream.as_bytes())
                        .text("endpoint", endpoint.as_bytes());
                }
            });
        }
        CircuitBreakerEvent::FailedLate { cause } => {
            let message = format_args!("Success taken back: {cause}");
            say.say(Level::Debug, message, |line| match cause {
                LateFailureCause::Broken(kind) => {
                    failure(line, kind);
                }
                LateFailureCause::Grpc(status) => {
                    line.field("grpc_status", status.name());
                }
                LateFailureCause::Trailers => {}
            });
        }
    }
}

pub(super) fn fallback(of: &FallbackEvent, say: &impl Say) {
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

pub(super) fn adaptive_limiter(of: &AdaptiveLimiterEvent, say: &impl Say) {
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

pub(super) fn adaptive_throttler(of: &AdaptiveThrottlerEvent, say: &impl Say) {
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

pub(super) fn queue(of: &QueueEvent, say: &impl Say) {
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

pub(super) fn hedge(of: &HedgeEvent, say: &impl Say) {
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
                NoHedge::Upgrade => "Not hedged: it asks for another protocol",
            };
            say.say(Level::Info, message, |line| {
                line.field("reason", reason.name());
            });
        }
    }
}

pub(super) fn keys(of: &KeysEvent, say: &impl Say) {
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

pub(super) fn cache(of: &CacheEvent, say: &impl Say) {
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
