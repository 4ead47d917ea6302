//! Whom to reject when a share must be: those of the lowest levels among the last arrivals.
//!
//! All arrivals are among them, the rejected ones too: if only those counted that are admitted, the
//! threshold would climb by itself, as it does in failsafe-go. At the threshold's own level chance
//! decides, in the share that makes up the whole: else a flood of calls of one level would be
//! admitted, or rejected, as one.

use std::time::Duration;

use tokio::time::Instant;

use crate::priority::PriorityLevel;

/// So many arrivals are remembered.
const ARRIVALS: usize = 1000;
/// The threshold is for so long.
const RECKONED_EVERY: Duration = Duration::from_millis(100);

/// The levels of the last arrivals, and where the threshold is.
#[derive(Debug)]
pub(crate) struct LevelWindow {
    /// Overwritten in turn once it is full.
    arrivals: Vec<PriorityLevel>,
    next: usize,
    /// How many of them each level has.
    counts: Box<[u16; PriorityLevel::COUNT]>,
    threshold: Threshold,
    reckoned: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Threshold {
    /// The first level that is not rejected as a whole.
    level: u16,
    /// The share of it that is.
    share: f64,
}

impl Default for LevelWindow {
    fn default() -> Self {
        Self {
            arrivals: Vec::new(),
            next: 0,
            counts: Box::new([0; PriorityLevel::COUNT]),
            threshold: Threshold::default(),
            reckoned: None,
        }
    }
}

impl LevelWindow {
    /// A call of this level arrives, while this share of all is to be rejected: the probability
    /// with which it is.
    pub(crate) fn arrive(&mut self, level: PriorityLevel, share: f64, now: Instant) -> f64 {
        self.remember(level);
        let is_old = self.reckoned.is_none_or(|reckoned| {
            now.saturating_duration_since(reckoned) >= RECKONED_EVERY || now < reckoned
        });
        if is_old {
            self.threshold = self.reckon(share);
            self.reckoned = Some(now);
        }
        let Threshold { level: threshold, share } = self.threshold;
        match level.number().cmp(&threshold) {
            std::cmp::Ordering::Less => 1.0,
            std::cmp::Ordering::Equal => share,
            std::cmp::Ordering::Greater => 0.0,
        }
    }

    fn remember(&mut self, level: PriorityLevel) {
        if self.arrivals.len() < ARRIVALS {
            self.arrivals.push(level);
        } else {
            let forgotten = std::mem::replace(&mut self.arrivals[self.next], level);
            self.counts[usize::from(forgotten.number())] -= 1;
            self.next = (self.next + 1) % ARRIVALS;
        }
        self.counts[usize::from(level.number())] += 1;
    }

    fn reckon(&self, share: f64) -> Threshold {
        let mut rejected = share.clamp(0.0, 1.0) * self.arrivals.len() as f64;
        for (level, count) in (0..).zip(*self.counts).filter(|(_, count)| *count > 0) {
            let count = f64::from(count);
            if rejected < count {
                return Threshold { level, share: rejected / count };
            }
            rejected -= count;
        }
        Threshold { level: PriorityLevel::COUNT as u16, share: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::priority::PriorityClass;

    fn level(number: u16) -> PriorityLevel {
        PriorityLevel::parse(&number.to_string()).expect("a level")
    }

    #[test]
    fn those_of_the_lowest_levels_are_rejected_whole_and_one_level_in_part() {
        let (mut window, now) = (LevelWindow::default(), Instant::now());
        for number in 0..1000 {
            window.arrive(level(number % 10), 0.0, now);
        }
        let later = now + RECKONED_EVERY;
        let of = |window: &mut LevelWindow, number| window.arrive(level(number), 0.25, later);
        assert_eq!([0, 1].map(|number| of(&mut window, number)), [1.0; 2]);
        assert!((of(&mut window, 2) - 0.5).abs() < 0.02);
        assert_eq!([3, 9, 499].map(|number| of(&mut window, number)), [0.0; 3]);
    }

    #[test]
    fn a_flood_of_one_level_is_rejected_in_part() {
        let (mut window, now) = (LevelWindow::default(), Instant::now());
        let one = PriorityLevel::of_request(PriorityClass::High, b"1");
        let shares: Vec<_> = (0..2000).map(|_| window.arrive(one, 0.5, now)).collect();
        assert!(shares.iter().all(|share| (share - 0.5).abs() < 1e-9));
    }

    #[test]
    fn the_threshold_is_reckoned_at_most_every_tenth_of_a_second() {
        let (mut window, now) = (LevelWindow::default(), Instant::now());
        assert_eq!(window.arrive(level(5), 1.0, now), 1.0);
        assert_eq!(window.arrive(level(5), 0.0, now + RECKONED_EVERY / 2), 1.0);
        assert_eq!(window.arrive(level(5), 0.0, now + RECKONED_EVERY), 0.0);
    }

    proptest! {
        /// Of the arrivals that are remembered exactly the share is rejected, the lowest first.
        #[test]
        fn the_share_is_exact(
            numbers in prop::collection::vec(0..500u16, 1..2500),
            share in 0.0..=1.0f64,
        ) {
            let (mut window, now) = (LevelWindow::default(), Instant::now());
            for number in &numbers {
                window.arrive(level(*number), share, now);
            }
            window.threshold = window.reckon(share);
            let last = &numbers[numbers.len().saturating_sub(ARRIVALS)..];
            prop_assert_eq!(window.arrivals.len(), last.len());
            let rejected: f64 = last.iter().map(|number| {
                match number.cmp(&window.threshold.level) {
                    std::cmp::Ordering::Less => 1.0,
                    std::cmp::Ordering::Equal => window.threshold.share,
                    std::cmp::Ordering::Greater => 0.0,
                }
            }).sum();
            prop_assert!((rejected - share * last.len() as f64).abs() < 1e-6, "{}", rejected);
        }
    }
}
