//! A limit on silence: how long a body may bring nothing, or a client take nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Runs while nothing comes. No timer is made for a body that is never waited for, and one serves for all later waits.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer runs for the silence that is now.
    waits: bool,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, waits: false }
    }

    /// Something came.
    pub(crate) fn reset(&mut self) {
        self.waits = false;
    }

    /// Nothing is there now. Ready: there has been nothing for too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limit = self.limit;
        let began = !std::mem::replace(&mut self.waits, true);
        match &mut self.timer {
            Some(timer) if began => timer.as_mut().reset(Instant::now() + limit),
            Some(_) => {}
            None => self.timer = Some(Box::pin(sleep(limit))),
        }
        self.timer.as_mut().map_or(Poll::Pending, |timer| timer.as_mut().poll(cx))
    }
}
