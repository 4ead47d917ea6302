//! A limit on silence: how long a peer may send nothing or take nothing.

use std::task::{Context, Poll};
use std::time::Duration;

use fusebox_resilience::{Timer, clock, poll_until};
use tokio::time::{Instant, sleep_until};

/// Measures silence. A timer is created at the first wait, and serves all later waits: it stays
/// armed when data arrives, and moves to the end of the current wait only when it fires.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    timer: Option<Timer>,
    /// The end of the current silence's limit.
    end: Option<Instant>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, end: None }
    }

    /// Data has arrived.
    pub(crate) fn reset(&mut self) {
        self.end = None;
    }

    /// There is no data now. `Ready`: the silence has lasted too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = *self.end.get_or_insert_with(|| clock::now() + self.limit);
        poll_until(self.timer.get_or_insert_with(|| Box::pin(sleep_until(end))), end, cx)
    }
}
