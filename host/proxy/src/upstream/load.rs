//! How much an endpoint has to do, and how long it takes: what the balancer compares.
//!
//! The model is the peak EWMA of Finagle and Linkerd: an average that jumps up with a slow answer
//! and comes down slowly, times what is in flight.
//!
//! An endpoint that fails would be the fastest. So it is left alone for a second, or as long as it
//! asks for, and then nothing is known of it: one attempt tries it. (Were a failure to count as an
//! answer after a second, as in Linkerd, the average would take most of a minute to come down to
//! some milliseconds again. An endpoint that has been restarted would get nothing until then.)

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

/// In so much time what was observed loses two thirds of its weight.
const DECAY: Duration = Duration::from_secs(10);

/// How long an endpoint is left alone after a failure, at least,
const REST: Duration = Duration::from_secs(1);
/// and at most, if it asks for more.
const MAX_REST: Duration = Duration::from_secs(10);

/// With nothing known and something under way, others are preferred: what it does will be known
/// soon.
const UNKNOWN: f64 = 1e12;

/// One that is left alone is the last choice, whatever the weights are.
const RESTING: f64 = 1e24;

/// The peak EWMA of asked time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct PeakEwma {
    /// In microseconds, as of `at`. 0: nothing is known.
    asked: f32,
    /// In milliseconds; it may wrap around.
    at: u32,
}

impl PeakEwma {
    fn now(self, now: u32) -> f32 {
        self.asked * self.weight(now)
    }

    /// The share of what was known that still counts.
    fn weight(self, now: u32) -> f32 {
        // A clock that another worker has read a moment earlier may be behind.
        let aged = (now.wrapping_sub(self.at) as i32).max(0) as f32;
        (-aged / DECAY.as_millis() as f32).exp()
    }

    fn observed(self, asked: Duration, now: u32) -> Self {
        // Never 0, which says that nothing is known.
        let asked = (asked.as_secs_f32() * 1e6).max(1.0);
        let weight = self.weight(now);
        let known = self.asked * weight;
        let is_first = self.asked == 0.0;
        let averaged =
            if is_first || asked > known { asked } else { known + asked * (1.0 - weight) };
        Self { asked: averaged, at: now }
    }

    fn pack(self) -> u64 {
        u64::from(self.asked.to_bits()) << 32 | u64::from(self.at)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    fn unpack(packed: u64) -> Self {
        Self { asked: f32::from_bits((packed >> 32) as u32), at: packed as u32 }
    }
}

/// What all workers know of an endpoint's load, without a lock: every attempt reads it of two
/// endpoints, and changes that of one.
#[derive(Debug, Default)]
pub(super) struct EndpointLoad {
    in_flight: AtomicU32,
    /// Until when it is left alone, in milliseconds.
    rests_until: AtomicU64,
    asked: AtomicU64,
}

impl EndpointLoad {
    /// What one attempt more would add itself to.
    pub(super) fn cost(&self, now: Instant, since: Instant) -> f64 {
        if self.rests_until.load(Relaxed) > whole_millis(now, since) {
            return RESTING * f64::from(self.in_flight() + 1);
        }
        let asked = PeakEwma::unpack(self.asked.load(Relaxed)).now(millis(now, since));
        match (self.in_flight(), asked) {
            (0, asked) => asked.into(),
            (in_flight, 0.0) => UNKNOWN + f64::from(in_flight),
            (in_flight, asked) => f64::from(asked) * f64::from(in_flight + 1),
        }
    }

    /// How many attempts are under way.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    /// An attempt took so long.
    pub(super) fn observe(&self, asked: Duration, now: Instant, since: Instant) {
        let now = millis(now, since);
        let update = |packed| Some(PeakEwma::unpack(packed).observed(asked, now).pack());
        self.asked.fetch_update(Relaxed, Relaxed, update).ok();
    }

    /// An attempt was cut after so long, and would have taken longer.
    pub(super) fn observe_cut(&self, asked: Duration, now: Instant, since: Instant) {
        if asked > self.asked(now, since).unwrap_or_default() {
            self.observe(asked, now, since);
        }
    }

    /// An attempt failed, and the endpoint may have asked to be left alone for longer. Afterwards
    /// its first attempt is alone until it is known how long it takes.
    pub(super) fn rest(&self, asked_for: Option<Duration>, now: Instant, since: Instant) {
        let rest = asked_for.unwrap_or_default().clamp(REST, MAX_REST);
        self.asked.store(0, Relaxed);
        self.rests_until.store(whole_millis(now + rest, since), Relaxed);
    }

    /// It is well again: what it took while it was ill says nothing of it now. Its first attempt
    /// is alone until it is known how long it takes.
    pub(super) fn forget(&self) {
        self.asked.store(0, Relaxed);
        self.rests_until.store(0, Relaxed);
    }

    /// How long it takes; `None`: nothing is known.
    pub(super) fn asked(&self, now: Instant, since: Instant) -> Option<Duration> {
        let asked = PeakEwma::unpack(self.asked.load(Relaxed));
        let now = asked.now(millis(now, since));
        (asked.asked > 0.0).then(|| Duration::from_secs_f32(now / 1e6))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it may wrap around")]
fn millis(now: Instant, since: Instant) -> u32 {
    whole_millis(now, since) as u32
}

fn whole_millis(now: Instant, since: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_jumps_up_and_comes_down_slowly() {
        let ewma = PeakEwma::default().observed(10 * MS, 0).observed(10 * MS, 5);
        assert!((9_990.0..10_001.0).contains(&ewma.asked), "{ewma:?}");
        let slow = ewma.observed(500 * MS, 10);
        assert_eq!(slow.asked, 500_000.0);
        let later = slow.observed(10 * MS, 10_010);
        let expected = 500_000.0 / 1f32.exp() + 10_000.0 * (1.0 - 1.0 / 1f32.exp());
        assert!((later.asked - expected).abs() < 1.0, "{later:?}");
        assert!(later.now(100_000) < 100.0, "who is not asked is tried again");
    }

    #[test]
    fn one_of_which_nothing_is_known_is_tried_by_one_attempt_first() {
        let now = Instant::now();
        let (new, old) = (EndpointLoad::default(), EndpointLoad::default());
        old.observe(MS, now, now);
        assert!(new.cost(now, now) < old.cost(now, now));
        new.begin();
        assert!(new.cost(now, now) > old.cost(now, now));
        new.end();
        new.observe(2 * MS, now, now);
        assert!((1_990.0..2_010.0).contains(&new.cost(now, now)));
        new.begin();
        assert!((3_990.0..4_010.0).contains(&new.cost(now, now)));
    }

    #[test]
    fn a_cut_counts_as_slow_only_if_it_was() {
        let now = Instant::now();
        let load = EndpointLoad::default();
        load.observe_cut(MS, now, now);
        assert_eq!(load.asked(now, now), Some(MS));
        load.observe_cut(MS / 2, now + MS, now);
        assert!(load.asked(now, now).unwrap() > MS / 2);
    }

    #[test]
    fn one_that_fails_is_left_alone_and_then_tried_by_one_attempt() {
        let now = Instant::now();
        let (ill, busy) = (EndpointLoad::default(), EndpointLoad::default());
        for _ in 0..1000 {
            busy.begin();
        }
        ill.observe(MS, now, now);
        for (asked_for, rest) in [
            (None, REST),
            (Some(MS), REST),
            (Some(3 * REST), 3 * REST),
            (Some(60 * REST), MAX_REST),
        ] {
            ill.rest(asked_for, now, now);
            assert!(ill.cost(now + rest - MS, now) > busy.cost(now + rest - MS, now));
            assert_eq!(ill.cost(now + rest, now), 0.0, "nothing is known of it");
            ill.begin();
            assert!(ill.cost(now + rest, now) >= UNKNOWN);
            ill.end();
        }
        ill.observe(2 * MS, now + MAX_REST, now);
        assert!((1_990.0..2_010.0).contains(&ill.cost(now + MAX_REST, now)));
        // Nor in 25 or in 50 days, when 32 bits of milliseconds are over.
        for days in 20..60 {
            let later = now + Duration::from_secs(days * 24 * 3600);
            assert!(ill.cost(later, now) < 2_010.0, "{days}");
        }
    }

    #[test]
    fn one_that_is_well_again_is_tried_as_a_new_one() {
        let now = Instant::now();
        let load = EndpointLoad::default();
        load.rest(None, now, now);
        load.forget();
        assert_eq!((load.asked(now, now), load.cost(now, now)), (None, 0.0));
    }

    proptest! {
        #[test]
        fn it_stays_between_the_fastest_and_the_slowest(
            asked in prop::collection::vec((1u64..10_000_000, 0u32..60_000), 1..40),
            start: u32,
        ) {
            let mut ewma = PeakEwma { asked: 0.0, at: start };
            let mut now = start;
            let mut slowest = 0;
            for (asked, pause) in asked {
                now = now.wrapping_add(pause);
                slowest = slowest.max(asked);
                ewma = ewma.observed(Duration::from_micros(asked), now);
                prop_assert_eq!(PeakEwma::unpack(ewma.pack()), ewma);
                prop_assert!(ewma.asked as f64 >= asked as f64 * 0.999, "{:?}", ewma);
                prop_assert!(ewma.asked as f64 <= slowest as f64 * 1.001, "{:?}", ewma);
            }
        }
    }
}
