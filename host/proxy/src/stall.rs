//! A limit on silence: how long a peer may send nothing or take nothing.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use fusebox_resilience::{Starved, Timer, clock};
use tokio::time::{Instant, sleep_until};

/// How often a limit that stands still is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Measures silence. A timer is created at the first wait, and serves all later waits: it stays
/// armed when data arrives, and moves to the end of the current wait only when it fires.
#[derive(Debug)]
pub(crate) struct Stall {
    limit: Duration,
    timer: Option<Timer>,
    /// The end of the current silence's limit, less all time in which the call has starved.
    unstarved: Option<Instant>,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, timer: None, unstarved: None }
    }

    /// Since when there has been no data, if it has been waited for. (Not where a call may starve.)
    pub(crate) fn began(&self) -> Option<Instant> {
        Some(self.unstarved? - self.limit)
    }

    /// Data has arrived.
    pub(crate) fn reset(&mut self) {
        self.unstarved = None;
    }

    /// There is no data now. `Ready`: the silence has lasted too long.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_starved(Starved::default, cx)
    }

    /// The same, without the time in which the call starves: then another one is waited for.
    pub(crate) fn poll_starved(
        &mut self,
        starved: impl Fn() -> Starved,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let begin = || clock::now() + self.limit - starved().time;
        let unstarved = *self.unstarved.get_or_insert_with(begin);
        let timer =
            self.timer.get_or_insert_with(|| Box::pin(sleep_until(unstarved + starved().time)));
        loop {
            ready!(timer.as_mut().poll(cx));
            let Starved { time, is_starving, .. } = starved();
            let end = unstarved + time;
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            // While it starves, the end moves away with the time.
            let look = if is_starving { end.max(clock::now() + LOOK) } else { end };
            timer.as_mut().reset(look);
        }
    }
}
