//! What an operator sees: the one seam between what happens and who is told.
//!
//! Everything below emits [`EventKind`](fusebox_resilience::EventKind)s and nothing else. [`Log`]
//! turns them into JSON lines and [`Metrics`] into time series; both match every kind, so a new one
//! does not compile until each has decided what to do with it. Both are called on the workers:
//! neither blocks on I/O, and what is called for every request allocates nothing.

mod log;
mod metrics;

pub use log::{Level, Line, Log, LogWriter};
pub use metrics::{CONTENT_TYPE, ComponentSample, Metrics, Scrape};

use std::time::SystemTime;

use fusebox_resilience::NoRetry;

/// The wall clock's time.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// The word of log and metrics for this.
fn no_retry_name(reason: NoRetry) -> &'static str {
    match reason {
        NoRetry::Method => "method",
        NoRetry::Body => "body",
        NoRetry::RetryAfter => "retry-after",
        NoRetry::CircuitOpen => "circuit-open",
        NoRetry::Budget => "budget",
    }
}
