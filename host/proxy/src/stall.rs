//! A limit on silence: how long a body may bring nothing, or a client send or take nothing.

use std::task::{Context, Poll};
use std::time::Duration;

use fusebox_resilience::{Timer, clock, poll_until};
use tokio::time::{Instant, sleep_until};

/// Runs while nothing comes. No timer is made for what is never waited for, and one serves for all
/// later waits: it stays armed when something comes, and is set to the end of a later wait only
/// when it fires.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    timer: Option<Timer>,
    /// When the silence that is now will have lasted for too long.
    end: Option<Instant>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, end: None }
    }

    /// Something came.
    pub(crate) fn reset(&mut self) {
        self.end = None;
    }

    /// Nothing is there now. Ready: there has been nothing for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let end = *self.end.get_or_insert_with(|| clock::now() + self.limit);
        poll_until(self.timer.get_or_insert_with(|| Box::pin(sleep_until(end))), end, cx)
    }
}
