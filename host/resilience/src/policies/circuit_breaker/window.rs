//! What a breaker remembers of recent results, pure: the last so many, or those of the last period.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::result::CircuitResult;

/// Recent results.
#[derive(Clone, Debug)]
pub(super) enum ResultWindow {
    /// The last `capacity` results. Of those that were slow it knows only how many have come.
    Count { capacity: usize, results: VecDeque<bool>, failures: usize, slow: usize },
    /// The results of the last period, in slices of a tenth of it; the slice under way counts among
    /// the ten.
    Time(Box<TimeSlices>),
}

/// A ring of slices.
#[derive(Clone, Debug)]
pub(super) struct TimeSlices {
    /// How long one is.
    length: Duration,
    /// When the one under way ends.
    ends: Instant,
    /// Its number.
    current: u64,
    slices: [WindowCounts; Self::COUNT],
    /// Of all slices.
    sum: WindowCounts,
    /// How many of each slice, and of all, were slow.
    slow: [usize; Self::COUNT],
    slow_sum: usize,
}

/// How many calls succeeded and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WindowCounts {
    /// Those that succeeded.
    pub successes: usize,
    /// Those that failed.
    pub failures: usize,
}

impl WindowCounts {
    /// Both.
    pub fn total(&self) -> usize {
        self.successes + self.failures
    }

    /// Failures among all, 0 to 1; 0 when there are none. Not rounded (failsafe-go rounds to whole
    /// percents).
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

impl ResultWindow {
    pub(super) fn of_last(capacity: usize) -> Self {
        Self::Count { capacity, results: VecDeque::with_capacity(capacity), failures: 0, slow: 0 }
    }

    pub(super) fn of_period(period: Duration, now: Instant) -> Self {
        Self::Time(Box::new(TimeSlices::new(period, now)))
    }

    pub(super) fn record(&mut self, result: impl Into<CircuitResult>, now: Instant) {
        let CircuitResult { failed, slow: is_slow } = result.into();
        match self {
            Self::Count { capacity, results, failures, slow } => {
                *slow += usize::from(is_slow);
                if results.len() == *capacity && results.pop_front() == Some(true) {
                    *failures -= 1;
                }
                results.push_back(failed);
                *failures += usize::from(failed);
            }
            Self::Time(slices) => slices.record(failed, is_slow, now),
        }
    }

    /// A success that was recorded at `head` has become a failure.
    pub(super) fn turn(&mut self, head: Instant, now: Instant) {
        match self {
            Self::Count { results, failures, .. } => {
                match results.iter_mut().rev().find(|failed| !**failed) {
                    Some(newest) => {
                        *newest = true;
                        *failures += 1;
                    }
                    None => self.record(true, now),
                }
            }
            Self::Time(slices) => {
                slices.advance(now);
                slices.take_success(head);
                slices.record(true, false, now);
            }
        }
    }

    /// Then another success is recorded by leaving everything as it is.
    pub(super) fn is_full_of_successes(&self) -> bool {
        match self {
            Self::Count { capacity, results, failures, .. } => {
                *failures == 0 && results.len() == *capacity
            }
            Self::Time(_) => false,
        }
    }

    /// How many of them were slow.
    pub(super) fn slow(&mut self, now: Instant) -> usize {
        match self {
            Self::Count { results, slow, .. } => (*slow).min(results.len()),
            Self::Time(slices) => {
                slices.advance(now);
                slices.slow_sum
            }
        }
    }

    pub(super) fn counts(&mut self, now: Instant) -> WindowCounts {
        match self {
            Self::Count { results, failures, .. } => {
                WindowCounts { successes: results.len() - *failures, failures: *failures }
            }
            Self::Time(slices) => {
                slices.advance(now);
                slices.sum
            }
        }
    }
}

impl TimeSlices {
    /// Why ten: failsafe-go's choice, which bounds both memory and the age error (a tenth of the
    /// period).
    const COUNT: usize = 10;

    fn new(period: Duration, now: Instant) -> Self {
        // A period of a few nanoseconds must not make a slice of none, nor one of ages overflow.
        let length = (period / Self::COUNT as u32)
            .clamp(Duration::from_nanos(1), Duration::from_nanos(u64::MAX));
        Self {
            length,
            ends: now + length,
            current: 0,
            slices: Default::default(),
            sum: WindowCounts::default(),
            slow: Default::default(),
            slow_sum: 0,
        }
    }

    fn record(&mut self, failed: bool, slow: bool, now: Instant) {
        self.advance(now);
        let place = Self::place(self.current);
        self.slices[place].add(failed);
        self.sum.add(failed);
        self.slow[place] += usize::from(slow);
        self.slow_sum += usize::from(slow);
    }

    /// The number of the slice under way, and when it ends.
    pub(super) fn under_way(&self) -> (u64, Instant) {
        (self.current, self.ends)
    }

    /// Adds successes of a slice that began a while ago, unless it has left the period.
    pub(super) fn add_successes(&mut self, slice: u64, successes: usize) {
        if self.current.saturating_sub(slice) < Self::COUNT as u64 {
            self.slices[Self::place(slice)].successes += successes;
            self.sum.successes += successes;
        }
    }

    /// Takes a success out of the slice of this time, unless it has left the period.
    fn take_success(&mut self, at: Instant) {
        let left = self.ends.saturating_duration_since(at).saturating_sub(Duration::from_nanos(1));
        let slices_ago = left.as_nanos() / self.length.as_nanos();
        if slices_ago > u128::from(self.current.min(Self::COUNT as u64 - 1)) {
            return;
        }
        let slice = &mut self.slices[Self::place(self.current - slices_ago as u64)];
        if slice.successes > 0 {
            slice.successes -= 1;
            self.sum.successes -= 1;
        }
    }

    /// Forgets the slices that have left the period.
    fn advance(&mut self, now: Instant) {
        if now < self.ends {
            return;
        }
        let late = (now - self.ends).as_nanos();
        let length = self.length.as_nanos();
        let passed = u64::try_from(late / length).unwrap_or(u64::MAX).saturating_add(1);
        // After a pause of more than a period every slice is cleared, whichever place comes next.
        for step in 1..=passed.min(Self::COUNT as u64) {
            let place = Self::place(self.current.wrapping_add(step));
            let left = std::mem::take(&mut self.slices[place]);
            self.sum.successes -= left.successes;
            self.sum.failures -= left.failures;
            self.slow_sum -= std::mem::take(&mut self.slow[place]);
        }
        self.current = self.current.saturating_add(passed);
        // Less than a slice's length, which has been clamped.
        self.ends = now + self.length - Duration::from_nanos((late % length) as u64);
    }

    fn place(slice: u64) -> usize {
        (slice % Self::COUNT as u64) as usize
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
            let mut window = ResultWindow::of_last(capacity);
            for (index, failed) in results.iter().enumerate() {
                window.record(*failed, now);
                let last = &results[(index + 1).saturating_sub(capacity)..=index];
                let failures = last.iter().filter(|failed| **failed).count();
                let successes = last.len() - failures;
                prop_assert_eq!(window.counts(now), WindowCounts { successes, failures });
            }
        }

        #[test]
        fn a_success_turns_into_a_failure_in_its_place_and_slice(
            steps in prop::collection::vec(
                (0..40_u64, 0..3_u8, any::<prop::sample::Index>()), 0..100,
            ),
        ) {
            let start = Instant::now();
            let (capacity, length) = (8, Duration::from_millis(10));
            let mut last = ResultWindow::of_last(capacity);
            let mut recent = ResultWindow::of_period(10 * length, start);
            let slice = |at: Instant| (at - start).as_nanos() / length.as_nanos();
            let mut now = start;
            let mut results = VecDeque::new();
            let mut heads: Vec<Instant> = Vec::new();
            let mut failures: Vec<Instant> = Vec::new();
            for (pause, what, which) in steps {
                now += Duration::from_millis(pause);
                if what < 2 || heads.is_empty() {
                    last.record(false, now);
                    recent.record(false, now);
                    results.push_back(false);
                    heads.push(now);
                } else {
                    let head = heads.swap_remove(which.index(heads.len()));
                    last.turn(head, now);
                    recent.turn(head, now);
                    match results.iter_mut().rev().find(|failed| !**failed) {
                        Some(newest) => *newest = true,
                        None => results.push_back(true),
                    }
                    failures.push(now);
                }
                if results.len() > capacity {
                    results.pop_front();
                }
                let failed = results.iter().filter(|failed| **failed).count();
                let expected = WindowCounts { successes: results.len() - failed, failures: failed };
                prop_assert_eq!(last.counts(now), expected);
                let inside = |at: &&Instant| slice(**at) + 10 > slice(now);
                let expected = WindowCounts {
                    successes: heads.iter().filter(inside).count(),
                    failures: failures.iter().filter(inside).count(),
                };
                prop_assert_eq!(recent.counts(now), expected);
            }
        }

        #[test]
        fn a_time_window_equals_its_brute_force_count(
            steps in prop::collection::vec((0..400_u64, any::<bool>()), 0..200),
        ) {
            let start = Instant::now();
            let slice = Duration::from_millis(10);
            let mut window = ResultWindow::of_period(10 * slice, start);
            let mut now = start;
            let mut past: Vec<(u128, bool)> = Vec::new();
            for (pause, failed) in steps {
                now += Duration::from_millis(pause);
                window.record(failed, now);
                let slice_of_now = (now - start).as_nanos() / slice.as_nanos();
                past.push((slice_of_now, failed));
                let recent = past.iter().filter(|(slice, _)| slice + 10 > slice_of_now);
                let failures = recent.clone().filter(|(_, failed)| *failed).count();
                let expected = WindowCounts { successes: recent.count() - failures, failures };
                prop_assert_eq!(window.counts(now), expected);
            }
        }
    }
}
