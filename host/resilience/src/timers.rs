//! Time limits of calls, without a timer made and taken apart for each.
//!
//! Nearly every call ends long before its limits. A tokio timer that is made for each limit costs a
//! lock and two changes of the timer wheel, and now and then a system call that wakes the runtime
//! to a nearer end. So a worker keeps its timers: one that a call no longer needs stays armed, and
//! the next call with the same limit takes it over. It then fires too early, if it fires at all,
//! and only then is it set to the later end.
//!
//! A limit's clock stands still while the call starves, that is, while an attempt waits for the
//! client's body. That too is looked at only when the timer fires.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::body::Starved;
use crate::clock;

/// How often a limit that stands still is looked at, beside when its future is polled.
const LOOK: Duration = Duration::from_millis(250);

/// A timer that is armed again and again.
pub type Timer = Pin<Box<Sleep>>;

/// The timers of one worker that no call uses, in the order of their limits.
#[derive(Default)]
pub struct Timers(RefCell<Vec<UnusedTimers>>);

/// The unused timers of one limit. A worker has few limits.
struct UnusedTimers {
    limit: Duration,
    timers: Vec<Timer>,
}

/// A limit is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl Timers {
    /// What comes of `future`, unless `limit` is over first. Exact, as tokio's own timers are.
    /// `starved` tells for how long the call has starved, which does not count.
    ///
    /// # Errors
    /// The limit is over.
    pub(crate) fn timeout<S: Fn() -> Starved + Unpin, F: Future + Unpin>(
        &self,
        limit: Duration,
        starved: S,
        future: F,
    ) -> Limited<'_, S, F> {
        let unstarved = clock::now() + limit - starved().time;
        Limited { alarm: Alarm { timers: self, limit, starved, unstarved, timer: None }, future }
    }
}

/// A future with a limit. (An `async fn` would have room for what it is given twice.)
pub(crate) struct Limited<'a, S: Fn() -> Starved, F> {
    alarm: Alarm<'a, S>,
    future: F,
}

impl<S: Fn() -> Starved + Unpin, F: Future + Unpin> Future for Limited<'_, S, F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { alarm, future } = &mut *self;
        match Pin::new(future).poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => alarm.poll(cx).map(|()| Err(Elapsed)),
        }
    }
}

impl Timers {
    fn take(&self, limit: Duration) -> Option<Timer> {
        let kept = &mut *self.0.borrow_mut();
        let index = kept.binary_search_by_key(&limit, |kept| kept.limit).ok()?;
        kept[index].timers.pop()
    }

    fn put(&self, limit: Duration, timer: Timer) {
        let kept = &mut *self.0.borrow_mut();
        let index = kept.binary_search_by_key(&limit, |kept| kept.limit).unwrap_or_else(|index| {
            kept.insert(index, UnusedTimers { limit, timers: Vec::new() });
            index
        });
        kept[index].timers.push(timer);
    }

    /// Drops half of the unused timers, the oldest first. Called now and then, it leaves nothing of
    /// a burst: each timer also holds what is left of the task that waited on it last.
    pub fn thin_out(&self) {
        for UnusedTimers { timers, .. } in self.0.borrow_mut().iter_mut() {
            timers.drain(..timers.len().div_ceil(2));
            timers.shrink_to(2 * timers.len());
        }
    }
}

impl fmt::Debug for Timers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timers").finish_non_exhaustive()
    }
}

/// A limit that runs. Its timer goes back to the others when it is dropped.
struct Alarm<'a, S: Fn() -> Starved> {
    timers: &'a Timers,
    limit: Duration,
    starved: S,
    /// When it is over, less all time in which the call has starved.
    unstarved: Instant,
    /// None before the first wait. Its end is not later than ours: it was that of an earlier call
    /// with the same limit. Only while the call starves, it is when to look again.
    timer: Option<Timer>,
}

impl<S: Fn() -> Starved> Alarm<'_, S> {
    fn end(&self) -> Instant {
        self.unstarved + (self.starved)().time
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut end = self.end();
        let kept = || self.timers.take(self.limit).unwrap_or_else(|| Box::pin(sleep_until(end)));
        let timer = self.timer.get_or_insert_with(kept);
        if timer.deadline() > end && !(self.starved)().is_starving {
            timer.as_mut().reset(end);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= end {
                return Poll::Ready(());
            }
            if (self.starved)().is_starving {
                // The end moves away with the time: not to be followed step by step.
                end = end.max(clock::now() + LOOK);
            }
            timer.as_mut().reset(end);
        }
    }
}

impl<S: Fn() -> Starved> Drop for Alarm<'_, S> {
    fn drop(&mut self) {
        let end = self.end();
        if let Some(timer) = self.timer.take().filter(|timer| timer.deadline() <= end) {
            self.timers.put(self.limit, timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn, ready};
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Wake, Waker};
    use tokio::time::{advance, sleep};

    const LIMIT: Duration = Duration::from_secs(10);

    fn kept(timers: &Timers) -> usize {
        timers.0.borrow().iter().map(|kept| kept.timers.len()).sum()
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_exact_though_its_timer_is_an_earlier_calls() {
        let timers = Timers::default();
        for delay in [4, 3, 9] {
            let delay = Duration::from_secs(delay);
            assert_eq!(
                timers.timeout(LIMIT, Starved::default, Box::pin(sleep(delay))).await,
                Ok(())
            );
            let began = Instant::now();
            assert_eq!(
                timers.timeout(LIMIT, Starved::default, pending::<()>()).await,
                Err(Elapsed)
            );
            assert_eq!(began.elapsed(), LIMIT);
            assert_eq!(kept(&timers), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn limits_that_run_at_once_have_a_timer_each() {
        let timers = Timers::default();
        let began = Instant::now();
        let late = async {
            sleep(Duration::from_secs(1)).await;
            timers.timeout(LIMIT, Starved::default, pending::<()>()).await.unwrap_err();
            began.elapsed()
        };
        let early = async {
            timers.timeout(LIMIT, Starved::default, pending::<()>()).await.unwrap_err();
            began.elapsed()
        };
        let other = async {
            timers.timeout(2 * LIMIT, Starved::default, pending::<()>()).await.unwrap_err();
            began.elapsed()
        };
        let ends = tokio::join!(late, early, other);
        assert_eq!(ends, (Duration::from_secs(11), LIMIT, 2 * LIMIT));
        assert_eq!(kept(&timers), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_ready_at_once_needs_no_timer_and_a_kept_one_may_have_fired() {
        let timers = Timers::default();
        assert_eq!(timers.timeout(LIMIT, Starved::default, ready(7)).await, Ok(7));
        assert_eq!(kept(&timers), 0);
        assert_eq!(
            timers.timeout(LIMIT, Starved::default, Box::pin(sleep(Duration::from_secs(1)))).await,
            Ok(())
        );
        advance(3 * LIMIT).await;
        let began = Instant::now();
        assert_eq!(timers.timeout(LIMIT, Starved::default, pending::<()>()).await, Err(Elapsed));
        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_it_leaves_its_timer_to_the_next() {
        let timers = Timers::default();
        {
            let mut cut = pin!(timers.timeout(LIMIT, Starved::default, pending::<()>()));
            let is_pending = poll_fn(|cx| Poll::Ready(cut.as_mut().poll(cx).is_pending())).await;
            assert!(is_pending);
        }
        assert_eq!(kept(&timers), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_burst_leaves_goes_and_lets_go_of_its_tasks() {
        let timers = Timers::default();
        let waiting: Vec<_> = (0..100).map(|_| Arc::new(Waiting)).collect();
        let mut calls: Vec<_> = waiting
            .iter()
            .map(|_| Box::pin(timers.timeout(LIMIT, Starved::default, pending::<()>())))
            .collect();
        for (call, waiting) in calls.iter_mut().zip(&waiting) {
            let waker = Waker::from(waiting.clone());
            assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(calls);
        let held = || waiting.iter().filter(|waiting| Arc::strong_count(waiting) > 1).count();
        assert_eq!((kept(&timers), held()), (100, 100));
        timers.thin_out();
        assert_eq!((kept(&timers), held()), (50, 50));
        (0..6).for_each(|_| timers.thin_out());
        assert_eq!((kept(&timers), held()), (0, 0));
    }

    /// A task.
    struct Waiting;

    impl Wake for Waiting {
        fn wake(self: Arc<Self>) {}
    }
}
