//! The result of a load, whoever made it.

use std::time::Duration;

/// What one load has come to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LoadResult {
    /// Answered, with whatever status.
    pub(crate) requests: u64,
    /// Other statuses than 2xx, connections that broke, requests that took too long.
    pub(crate) errors: u64,
    pub(crate) elapsed: Duration,
    /// Of the latency; a generator that does not tell has none.
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
}
