//! A response body with limits: on how long the upstream may take for it, and how fast it has to
//! come.
//!
//! Only the time counts in which the upstream is waited for. While a client takes nothing nobody
//! waits for the upstream, and while it owes some of its request the upstream may have to wait.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep_until};

use crate::body::{BodyStream, RequestBody, Starved};
use crate::call::{Call, Reporter};
use crate::clock;
use crate::config::{ConfigDuration, ConfigSize};
use crate::error::{Error, ErrorKind};
use crate::event::{BodyLimit, TimeoutEvent};
use crate::outcome::Response;
use crate::timers::Timer;

/// A rate is looked at over so long.
const OF_RATE: Duration = Duration::from_secs(10);
/// How often a limit that stands still is looked at.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, Debug)]
pub(super) struct BodyLimits {
    /// How long the upstream may be waited for in all.
    pub(super) time: Option<Duration>,
    /// The bytes that it has to send in a second in which it is waited for.
    pub(super) rate: Option<u64>,
}

/// `, 30s for the body, 1KiB of the body a second`.
impl fmt::Display for BodyLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(time) = self.time {
            write!(f, ", {} for the body", ConfigDuration(time))?;
        }
        match self.rate {
            Some(rate) => write!(f, ", {} of the body a second", ConfigSize(rate)),
            None => Ok(()),
        }
    }
}

impl BodyLimits {
    /// Whether there are any.
    pub(super) fn is_any(self) -> bool {
        self.time.is_some() || self.rate.is_some()
    }

    /// Holds what is still to come of this response to them.
    pub(super) fn apply(self, call: &Call, policy: &Arc<str>, response: &mut Response) {
        // Who speaks in a tunnel, and how much, is their own affair; and what a fallback or a cache
        // has made is not the upstream's.
        if response.is_stand_in() || response.body.tunnel_mut().is_some() {
            return;
        }
        let attempt = response.attempt();
        response.body.map_rest(|stream| {
            Box::pin(LimitedBody {
                stream: Some(stream),
                pace: BodyPace::new(self),
                waiting: None,
                timer: None,
                request: call.body().clone(),
                policy: policy.clone(),
                attempt,
                reporter: call.reporter().clone(),
            })
        });
    }
}

/// How long the upstream may still be waited for.
#[derive(Debug)]
struct BodyPace {
    limits: BodyLimits,
    /// Of the time in all.
    left: Duration,
    /// Of the time that what has come is enough for.
    earned: Duration,
}

impl BodyPace {
    fn new(limits: BodyLimits) -> Self {
        Self { limits, left: limits.time.unwrap_or(Duration::MAX), earned: OF_RATE }
    }

    /// For how long nothing may come, and by which limit.
    fn longest_wait(&self) -> (Duration, BodyLimit) {
        match self.limits.rate {
            Some(_) if self.earned < self.left => (self.earned, BodyLimit::Rate),
            _ => (self.left, BodyLimit::Time),
        }
    }

    /// So many bytes have come after such a wait.
    fn came(&mut self, bytes: usize, waited: Duration) {
        self.left = self.left.saturating_sub(waited);
        if let Some(rate) = self.limits.rate {
            // What is more than that is not looked at.
            let seconds = (bytes as f64 / rate as f64).min(OF_RATE.as_secs_f64());
            let earned = self.earned.saturating_sub(waited) + Duration::from_secs_f64(seconds);
            self.earned = earned.min(OF_RATE);
        }
    }
}

/// A wait under way.
#[derive(Clone, Copy, Debug)]
struct BodyWait {
    began: Instant,
    /// For how long the call had starved before.
    starved: Duration,
}

struct LimitedBody {
    /// `None`: it has been cut off.
    stream: Option<BodyStream>,
    pace: BodyPace,
    waiting: Option<BodyWait>,
    /// Created at the first wait. It serves all later ones: it stays armed when something comes,
    /// and is set to the end of the wait only when it fires.
    timer: Option<Timer>,
    request: RequestBody,
    policy: Arc<str>,
    attempt: u32,
    reporter: Reporter,
}

impl LimitedBody {
    fn came(&mut self, bytes: usize) {
        let Some(BodyWait { began, starved }) = self.waiting.take() else {
            return self.pace.came(bytes, Duration::ZERO);
        };
        let starved = self.request.starved().time - starved;
        self.pace.came(bytes, (clock::now() - began).saturating_sub(starved));
    }

    /// Nothing comes now. `Ready`: the upstream has been waited for too long.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<BodyLimit> {
        let Self { request, waiting, .. } = self;
        let begin = || BodyWait { began: clock::now(), starved: request.starved().time };
        let BodyWait { began, starved } = *waiting.get_or_insert_with(begin);
        let (longest, limit) = self.pace.longest_wait();
        let end = |now: Starved| began + longest + (now.time - starved);
        let first = end(request.starved());
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(first)));
        // It may be that of an earlier wait, which could be longer.
        if timer.deadline() > first && !request.starved().is_starving {
            timer.as_mut().reset(first);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let starved = request.starved();
            let end = end(starved);
            if timer.deadline() >= end {
                return Poll::Ready(limit);
            }
            // While it starves, the end moves away with the time.
            let look = if starved.is_starving { end.max(clock::now() + LOOK) } else { end };
            timer.as_mut().reset(look);
        }
    }
}

impl Body for LimitedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = stream.as_mut().poll_frame(cx) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.came(data.map_or(0, Bytes::len));
            return Poll::Ready(frame);
        }
        let limit = ready!(self.poll_limit(cx));
        // The upstream sees it go.
        self.stream = None;
        self.reporter.emit_about(self.attempt, &self.policy, None, TimeoutEvent::BodyCut { limit });
        let error = Error::new(ErrorKind::Timeout).of_attempt(self.attempt);
        Poll::Ready(Some(Err(error.with_source(limit.words()))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| stream.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.as_ref().map_or_else(SizeHint::default, |stream| stream.size_hint())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn of_rate(rate: u64) -> BodyPace {
        BodyPace::new(BodyLimits { time: None, rate: Some(rate) })
    }

    #[test]
    fn what_comes_first_is_looked_at_over_ten_seconds_and_nothing_is_saved_beyond() {
        let mut pace = of_rate(100);
        assert_eq!(pace.longest_wait(), (10 * SECOND, BodyLimit::Rate));
        pace.came(200, 5 * SECOND);
        assert_eq!(pace.longest_wait(), (7 * SECOND, BodyLimit::Rate));
        pace.came(1 << 40, SECOND);
        assert_eq!(pace.longest_wait(), (10 * SECOND, BodyLimit::Rate));
    }

    #[test]
    fn the_time_in_all_is_no_longer_for_what_has_come() {
        let mut pace = BodyPace::new(BodyLimits { time: Some(3 * SECOND), rate: Some(1) });
        pace.came(1 << 20, 2 * SECOND);
        assert_eq!(pace.longest_wait(), (SECOND, BodyLimit::Time));
        pace.came(1 << 20, 2 * SECOND);
        assert_eq!(pace.longest_wait(), (Duration::ZERO, BodyLimit::Time));
    }

    proptest! {
        /// Whoever sends the rate in each wait goes on for ever; and what was waited for without
        /// end is never longer than ten seconds beyond what the bytes are worth.
        #[test]
        fn as_much_is_waited_for_as_comes(
            rate in 1..100_000u64,
            pieces in prop::collection::vec((0..1_000_000usize, 0..20_000u64), 0..100),
        ) {
            let mut steady = of_rate(rate);
            let mut pace = of_rate(rate);
            let (mut waited, mut sent) = (Duration::ZERO, 0);
            for (bytes, millis) in pieces {
                let wait = Duration::from_millis(millis % 10_000);
                prop_assert!(wait < steady.longest_wait().0);
                steady.came((rate * 10) as usize, wait);

                let wait = Duration::from_millis(millis);
                if wait >= pace.longest_wait().0 {
                    break;
                }
                pace.came(bytes, wait);
                waited += wait;
                sent += bytes;
                let worth = sent as f64 / rate as f64;
                prop_assert!(waited.as_secs_f64() <= worth + 10.001, "{:?} for {}", waited, worth);
            }
        }
    }
}
