//! How often: the generic cell rate algorithm (GCRA).
//!
//! It is a bucket of `burst` tokens into which one falls every `per` / `limit`, told by a single
//! time: the *theoretical arrival time*, at which the bucket would be full again. So in any time t
//! at most `burst` + t · `limit` / `per` tokens are taken, and there is no grid of periods on whose
//! edges twice as many would pass.
//!
//! Times are counted in nanoseconds / `limit`, so that nothing is rounded.

use std::time::Duration;

/// How many, and how fast they come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BucketSettings {
    pub(super) limit: u32,
    pub(super) per: Duration,
    pub(super) burst: u32,
}

impl BucketSettings {
    /// The time in which one token comes.
    fn interval(&self) -> u128 {
        self.per.as_nanos()
    }

    /// By how much the theoretical arrival time may be ahead.
    fn tolerance(&self) -> u128 {
        u128::from(self.burst - 1) * self.interval()
    }

    fn scaled(&self, time: Duration) -> u128 {
        time.as_nanos() * u128::from(self.limit)
    }

    /// Rounded up: not too early.
    fn unscaled(&self, time: u128) -> Duration {
        let nanos = time.div_ceil(u128::from(self.limit));
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }
}

/// A bucket of tokens. `now` is the time since some moment, the same for all calls.
#[derive(Debug)]
pub(super) struct TokenBucket {
    settings: BucketSettings,
    /// When it is full again.
    full_at: u128,
}

impl TokenBucket {
    /// A full one.
    pub(super) fn new(settings: BucketSettings) -> Self {
        Self { settings, full_at: 0 }
    }

    /// Takes a token.
    ///
    /// # Errors
    /// There is none for so long.
    pub(super) fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let wait = self.wait(now, 0);
        if !wait.is_zero() {
            return Err(wait);
        }
        self.full_at = self.full_at.max(self.settings.scaled(now)) + self.settings.interval();
        Ok(())
    }

    /// For how long somebody waits for a token who has so many others before it.
    pub(super) fn wait(&self, now: Duration, before: usize) -> Duration {
        let now = self.settings.scaled(now);
        let full_at = self.full_at.max(now) + before as u128 * self.settings.interval();
        self.settings.unscaled(full_at.saturating_sub(now + self.settings.tolerance()))
    }

    /// How many tokens are there.
    pub(super) fn tokens(&self, now: Duration) -> u32 {
        let missing = self.full_at.saturating_sub(self.settings.scaled(now));
        let missing = missing.div_ceil(self.settings.interval());
        let missing = u32::try_from(missing).unwrap_or(u32::MAX);
        self.settings.burst.saturating_sub(missing)
    }

    /// How long it takes until it is full.
    pub(super) fn until_full(&self, now: Duration) -> Duration {
        let missing = self.full_at.saturating_sub(self.settings.scaled(now));
        self.settings.unscaled(missing)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every token by itself: when it is there. In units of nanoseconds / `limit`.
    struct Tokens(Vec<u128>);

    impl Tokens {
        fn take(&mut self, now: u128, interval: u128) -> bool {
            let is_there = self.0[0] <= now;
            if is_there {
                self.0.remove(0);
                let last = self.0.last().copied().unwrap_or(0);
                self.0.push(last.max(now) + interval);
            }
            is_there
        }
    }

    fn settings() -> impl Strategy<Value = BucketSettings> {
        (1..50_u32, 1..5_000_000_u64, 1..20_u32).prop_map(|(limit, per, burst)| BucketSettings {
            limit,
            per: Duration::from_micros(per),
            burst,
        })
    }

    proptest! {
        #[test]
        fn it_admits_what_a_list_of_its_tokens_admits(
            settings in settings(),
            steps in prop::collection::vec((0..30_u32, 0..3_u32), 1..200),
        ) {
            let mut bucket = TokenBucket::new(settings);
            let interval = settings.interval();
            let mut tokens = Tokens(vec![0; settings.burst as usize]);
            let mut now = Duration::ZERO;
            let mut admitted = Vec::new();
            for (wait, fraction) in steps {
                // Some tenths of an interval later, now and then by a nanosecond more or less.
                now += settings.per / settings.limit * wait / 10;
                now += Duration::from_nanos(u64::from(fraction));
                let scaled = settings.scaled(now);
                let is_there = tokens.take(scaled, interval);
                let told = (bucket.wait(now, 0), bucket.tokens(now));
                prop_assert_eq!(told.0.is_zero(), is_there);
                prop_assert_eq!(told.1 > 0, is_there);
                let taken = bucket.take(now);
                prop_assert_eq!(taken, if is_there { Ok(()) } else { Err(told.0) });
                if is_there {
                    admitted.push(scaled);
                }
                let left = tokens.0.iter().filter(|token| **token <= scaled).count();
                prop_assert_eq!(bucket.tokens(now) as usize, left);
                let last = *tokens.0.last().unwrap();
                let until_full = settings.unscaled(last.saturating_sub(scaled));
                prop_assert_eq!(bucket.until_full(now), until_full);
            }
            // The bound, in every stretch of time.
            for (first, from) in admitted.iter().enumerate() {
                for (count, to) in admitted[first..].iter().enumerate() {
                    let allowed = u128::from(settings.burst) * interval + (to - from);
                    prop_assert!((count as u128 + 1) * interval <= allowed);
                }
            }
        }

        #[test]
        fn who_waits_for_as_long_as_told_gets_its_token_and_no_earlier(
            settings in settings(),
            taken in 0..40_u32,
            before in 0..10_usize,
        ) {
            let mut bucket = TokenBucket::new(settings);
            let now = Duration::from_secs(7);
            for _ in 0..taken {
                let _there_or_not = bucket.take(now);
            }
            let wait = bucket.wait(now, before);
            // Each of those before takes its own as soon as it is there, to the nanosecond.
            for _ in 0..before {
                let turn = now + bucket.wait(now, 0);
                prop_assert_eq!(bucket.take(turn), Ok(()));
            }
            if let Some(early) = wait.checked_sub(Duration::from_nanos(1)) {
                prop_assert!(bucket.take(now + early).is_err());
            }
            let rounding = Duration::from_nanos(before as u64);
            prop_assert_eq!(bucket.take(now + wait + rounding), Ok(()));
        }
    }

    #[test]
    fn a_token_comes_neither_early_nor_late() {
        let settings = BucketSettings { limit: 3, per: Duration::from_millis(200), burst: 3 };
        let mut bucket = TokenBucket::new(settings);
        let at = Duration::from_millis;
        assert_eq!(bucket.tokens(at(150)), 3);
        let taken = [150, 160, 170, 230, 240, 250].map(|now| bucket.take(at(now)).is_ok());
        assert_eq!(taken, [true, true, true, true, false, false], "one each 66.7 ms after three");
        let wait = bucket.wait(at(250), 0);
        assert_eq!(wait, Duration::from_nanos(33_333_334), "150 + 2 * 66.7 ms, rounded up");
        assert_eq!((bucket.tokens(at(283)), bucket.take(at(284))), (0, Ok(())));
        assert_eq!(bucket.until_full(at(350)), at(133) + Duration::from_nanos(333_334));
    }
}
