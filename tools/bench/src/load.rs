//! The result of a load, whichever generator made it.

use std::time::Duration;

/// The result of a load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoadResult {
    /// Requests that were answered, with any status.
    pub(crate) requests: u64,
    /// Responses with a status other than 2xx, broken connections and requests that timed out.
    pub(crate) errors: u64,
    pub(crate) elapsed: Duration,
    /// Percentiles of the latency; h2load reports none.
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
}
