//! One timer for several limits, of which the nearest counts.

use std::task::{Context, Poll, ready};

use fusebox_resilience::Timer;
use tokio::time::{Instant, sleep_until};

/// A timer that is created when it is first needed. It stays armed when the limit moves away, and
/// is set anew only when it fires.
#[derive(Debug, Default)]
pub(super) struct LimitTimer(Option<Timer>);

impl LimitTimer {
    /// Ready at `end`, which may be another time in each call.
    pub(super) fn poll(&mut self, end: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if timer.deadline() > end {
            timer.as_mut().reset(end);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            timer.as_mut().reset(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_fires_at_the_time_that_was_last_asked_for() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let mut timer = LimitTimer::default();
        for ends in [[5, 9], [30, 12], [20, 20]] {
            let first = poll_fn(|cx| Poll::Ready(timer.poll(at(ends[0]), cx).is_ready()));
            assert!(!first.await);
            poll_fn(|cx| timer.poll(at(ends[1]), cx)).await;
            assert_eq!(start.elapsed().as_secs(), ends[1]);
        }
    }
}
