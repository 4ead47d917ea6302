//! How slow a client may be, in sending its request or in taking its response.
//!
//! No wait for it may be longer than `body_timeout`. A client that moves a byte now and then could
//! keep its place for ever by that alone, so all waits together have a limit, too: there are 10 s
//! in advance, and each `min_rate` bytes that move earn a second, up to `body_timeout`. So whoever
//! has sent or taken enough may pause for as long as that; and whoever is slower than `min_rate`
//! comes to an end, however it spreads its bytes.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use fusebox_resilience::{ConnectionLimit, Timer, clock};
use tokio::time::{Instant, sleep_until};

/// How long a client is waited for, in all, that moves nothing.
const ADVANCE: Duration = Duration::from_secs(10);

/// A client's pace within one message.
#[derive(Debug)]
pub(super) struct Pace {
    /// The longest wait.
    longest: Duration,
    /// The bytes that earn a second. 0: all waits together have no limit.
    rate: u64,
    /// How long it may still be waited for.
    credit: Duration,
    /// The end of the whole message.
    end: Option<Instant>,
    /// Whether only the longest wait counts.
    is_lenient: bool,
    /// Since when it is waited for.
    since: Option<Instant>,
    /// Created at the first wait. It serves all later ones: it stays armed when bytes move, and is
    /// set to the end of the wait only when it fires.
    timer: Option<Timer>,
}

impl Pace {
    pub(super) fn new(longest: Duration, rate: u64) -> Self {
        Self {
            longest,
            rate,
            credit: ADVANCE.min(longest),
            end: None,
            is_lenient: false,
            since: None,
            timer: None,
        }
    }

    /// A message begins, which may have to be whole at some time.
    pub(super) fn begin(&mut self, end: Option<Instant>) {
        self.credit = ADVANCE.min(self.longest);
        self.end = end;
        self.is_lenient = false;
        self.since = None;
    }

    /// From here on within the message only the longest wait counts.
    pub(super) fn be_lenient(&mut self) {
        self.is_lenient = true;
    }

    /// From here on within the message only the longest wait counts, which is this.
    pub(super) fn be_patient(&mut self, longest: Duration) {
        self.longest = longest;
        self.is_lenient = true;
    }

    /// Until then it was not the client that was waited for.
    pub(super) fn excuse(&mut self, until: Instant) {
        self.since = self.since.map(|since| since.max(until));
    }

    /// So many bytes have moved, or nothing is waited for.
    pub(super) fn moved(&mut self, bytes: u64) {
        if let Some(since) = self.since.take() {
            self.credit = self.credit.saturating_sub(clock::now() - since);
        }
        if self.credit < self.longest && self.rate > 0 {
            // What is more than a year is enough for any limit.
            let seconds = (bytes as f64 / self.rate as f64).min(31_536_000.0);
            let earned = self.credit + Duration::from_secs_f64(seconds);
            self.credit = earned.min(self.longest);
        }
    }

    /// Nothing moves now. `Ready`: it has been too slow by this limit.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionLimit> {
        let since = *self.since.get_or_insert_with(clock::now);
        let (end, limit) = self.nearest_end(since);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
        // It may be that of an earlier message.
        if timer.deadline() > end {
            timer.as_mut().reset(end);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= end {
                return Poll::Ready(limit);
            }
            timer.as_mut().reset(end);
        }
    }

    /// When a wait since then ends, and by which limit.
    fn nearest_end(&self, since: Instant) -> (Instant, ConnectionLimit) {
        let mut nearest = (since + self.longest, ConnectionLimit::BodyTimeout);
        if self.is_lenient {
            return nearest;
        }
        let of_rate = (self.rate > 0).then_some((since + self.credit, ConnectionLimit::MinRate));
        let of_whole = self.end.map(|end| (end, ConnectionLimit::RequestTimeout));
        for other in [of_rate, of_whole].into_iter().flatten() {
            if other.0 < nearest.0 {
                nearest = other;
            }
        }
        nearest
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::{sleep, timeout};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn pace() -> Pace {
        Pace::new(MINUTE, 64)
    }

    async fn limit(pace: &mut Pace) -> (ConnectionLimit, u64) {
        let start = Instant::now();
        let limit = poll_fn(|cx| pace.poll_wait(cx)).await;
        (limit, start.elapsed().as_secs())
    }

    /// A client that moves so many bytes after each pause, until it has been too slow.
    async fn drip(pace: &mut Pace, bytes: u64, pause: Duration) -> (ConnectionLimit, u64) {
        let start = Instant::now();
        loop {
            if let Ok(limit) = timeout(pause, poll_fn(|cx| pace.poll_wait(cx))).await {
                return (limit, start.elapsed().as_secs());
            }
            pace.moved(bytes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_moves_nothing_has_the_advance_and_who_has_moved_much_the_longest_wait() {
        let mut pace = pace();
        assert_eq!(limit(&mut pace).await, (ConnectionLimit::MinRate, 10));
        pace.begin(None);
        pace.moved(64 * 20);
        assert_eq!(limit(&mut pace).await, (ConnectionLimit::MinRate, 30));
        pace.begin(None);
        pace.moved(u64::MAX);
        assert_eq!(limit(&mut pace).await, (ConnectionLimit::BodyTimeout, 60));
        // Nothing of that is left to the next message.
        pace.begin(None);
        assert_eq!(limit(&mut pace).await, (ConnectionLimit::MinRate, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slower_than_the_rate_comes_to_an_end_and_who_is_not_goes_on() {
        let second = Duration::from_secs(1);
        for (bytes, pause, end) in [(1, second, 10), (32, second, 19), (60, second, 160)] {
            let mut pace = pace();
            let (limit, seconds) = drip(&mut pace, bytes, pause).await;
            assert_eq!(limit, ConnectionLimit::MinRate, "{bytes}");
            assert!(seconds.abs_diff(end) <= 1 + end / 10, "{bytes}: {seconds} s");
        }
        for (bytes, pause) in [(64, second), (64 * 9, 9 * second), (64 * 59, 59 * second)] {
            let mut pace = pace();
            pace.moved(64 * 50);
            let within = timeout(3600 * second, drip(&mut pace, bytes, pause)).await;
            assert!(within.is_err(), "{bytes}: {within:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_whole_message_has_its_end_however_fast_it_is() {
        let mut pace = pace();
        pace.begin(Some(Instant::now() + Duration::from_secs(100)));
        let fast = drip(&mut pace, 1 << 20, Duration::from_millis(300)).await;
        assert_eq!(fast, (ConnectionLimit::RequestTimeout, 100));
        // A timer that is armed for later fires earlier for the next one.
        pace.begin(None);
        pace.moved(u64::MAX);
        let waiting = timeout(Duration::from_secs(1), poll_fn(|cx| pace.poll_wait(cx))).await;
        assert!(waiting.is_err());
        pace.begin(Some(Instant::now() + Duration::from_secs(2)));
        assert_eq!(limit(&mut pace).await, (ConnectionLimit::RequestTimeout, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_and_where_it_is_lenient_only_the_longest_wait_counts() {
        let mut lenient = pace();
        lenient.begin(Some(Instant::now()));
        lenient.be_lenient();
        for mut pace in [lenient, Pace::new(MINUTE, 0)] {
            for _ in 0..3 {
                sleep(Duration::from_secs(1)).await;
                pace.moved(1);
                let pause = Duration::from_secs(59);
                assert!(timeout(pause, poll_fn(|cx| pace.poll_wait(cx))).await.is_err());
            }
            pace.moved(1);
            assert_eq!(limit(&mut pace).await, (ConnectionLimit::BodyTimeout, 60));
        }
    }
}
