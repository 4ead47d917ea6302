//! A limit on silence: how long a body may bring nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Runs while nothing comes. No timer is made for a body that is never waited for.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    silence: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, silence: None }
    }

    /// Something came.
    pub(crate) fn reset(&mut self) {
        self.silence = None;
    }

    /// Nothing is there now. Ready: there has been nothing for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        self.silence.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx)
    }
}
