//! What a breaker remembers of recent results, pure: the last so many, or those of the last period.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Recent results.
#[derive(Clone, Debug)]
pub(super) enum Window {
    /// The last `capacity` results.
    Count { capacity: usize, results: VecDeque<bool>, failures: usize },
    /// The results of the last period, in slices of a tenth of it; the slice under way counts among the ten.
    Time { slice: Duration, start: Instant, slices: [Counts; TimeSlices::COUNT], current: u64 },
}

/// Why ten: failsafe-go's choice, which bounds both memory and the age error (a tenth of the period).
pub(super) struct TimeSlices;

impl TimeSlices {
    pub(super) const COUNT: usize = 10;
}

/// How many calls succeeded and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that succeeded.
    pub successes: usize,
    /// Those that failed.
    pub failures: usize,
}

impl Counts {
    /// Both.
    pub fn total(&self) -> usize {
        self.successes + self.failures
    }

    /// Failures among all, 0 to 1; 0 when there are none. Not rounded (failsafe-go rounds to whole percents).
    pub fn failure_rate(&self) -> f64 {
        if self.total() == 0 { 0.0 } else { self.failures as f64 / self.total() as f64 }
    }

    fn add(&mut self, failed: bool) {
        if failed {
            self.failures += 1;
        } else {
            self.successes += 1;
        }
    }
}

impl Window {
    pub(super) fn of_last(capacity: usize) -> Self {
        Self::Count { capacity, results: VecDeque::with_capacity(capacity), failures: 0 }
    }

    pub(super) fn of_period(period: Duration, now: Instant) -> Self {
        // A period of a few nanoseconds must not make a slice of none.
        let slice = (period / TimeSlices::COUNT as u32).max(Duration::from_nanos(1));
        Self::Time { slice, start: now, slices: Default::default(), current: 0 }
    }

    pub(super) fn record(&mut self, failed: bool, now: Instant) {
        self.advance(now);
        match self {
            Self::Count { capacity, results, failures } => {
                if results.len() == *capacity && results.pop_front() == Some(true) {
                    *failures -= 1;
                }
                results.push_back(failed);
                *failures += usize::from(failed);
            }
            Self::Time { slices, current, .. } => slices[Self::place(*current)].add(failed),
        }
    }

    pub(super) fn counts(&mut self, now: Instant) -> Counts {
        self.advance(now);
        match self {
            Self::Count { results, failures, .. } => {
                Counts { successes: results.len() - *failures, failures: *failures }
            }
            Self::Time { slices, .. } => slices.iter().fold(Counts::default(), |sum, slice| Counts {
                successes: sum.successes + slice.successes,
                failures: sum.failures + slice.failures,
            }),
        }
    }

    /// Forgets the slices that have left the period.
    fn advance(&mut self, now: Instant) {
        let Self::Time { slice, start, slices, current } = self else { return };
        let reached = now.saturating_duration_since(*start).as_nanos() / slice.as_nanos();
        let reached = u64::try_from(reached).unwrap_or(u64::MAX);
        let left = reached.saturating_sub(*current).min(TimeSlices::COUNT as u64);
        for step in 1..=left {
            slices[Self::place(*current + step)] = Counts::default();
        }
        if reached > *current {
            // After a pause of more than a period every slice has been cleared, whichever place comes next.
            *current = reached;
        }
    }

    fn place(slice: u64) -> usize {
        (slice % TimeSlices::COUNT as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_count_window_equals_its_brute_force_count(
            capacity in 1..20_usize, results in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let now = Instant::now();
            let mut window = Window::of_last(capacity);
            for (index, failed) in results.iter().enumerate() {
                window.record(*failed, now);
                let last = &results[(index + 1).saturating_sub(capacity)..=index];
                let failures = last.iter().filter(|failed| **failed).count();
                prop_assert_eq!(window.counts(now), Counts { successes: last.len() - failures, failures });
            }
        }

        #[test]
        fn a_time_window_equals_its_brute_force_count(
            steps in prop::collection::vec((0..400_u64, any::<bool>()), 0..200),
        ) {
            let start = Instant::now();
            let slice = Duration::from_millis(10);
            let mut window = Window::of_period(10 * slice, start);
            let mut now = start;
            let mut past: Vec<(u128, bool)> = Vec::new();
            for (pause, failed) in steps {
                now += Duration::from_millis(pause);
                window.record(failed, now);
                let slice_of_now = (now - start).as_nanos() / slice.as_nanos();
                past.push((slice_of_now, failed));
                let recent = past.iter().filter(|(slice, _)| slice + 10 > slice_of_now);
                let failures = recent.clone().filter(|(_, failed)| *failed).count();
                let expected = Counts { successes: recent.count() - failures, failures };
                prop_assert_eq!(window.counts(now), expected);
            }
        }
    }
}
