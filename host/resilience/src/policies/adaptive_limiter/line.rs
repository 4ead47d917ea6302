//! Who may wait for a place, and for how long.
//!
//! Rejection begins before the line is full: from nobody at `initial` times the limit to everybody
//! at `max` times, by [level](crate::priority) where calls have one, else by chance.

use std::sync::PoisonError;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

use super::config::LimiterQueueConfig;
use crate::levels::LevelWindow;
use crate::priority::PriorityLevel;
use crate::sync::Mutex;

/// The line of those who have priorities, unless the file says how long it is.
const WITH_LEVELS: LimiterQueueConfig = LimiterQueueConfig { initial: 2.0, max: 3.0 };

/// Who may wait.
#[derive(Debug)]
pub(super) struct LimiterLine {
    queue: Option<LimiterQueueConfig>,
    /// `None`: until its deadline.
    max_wait: Option<Duration>,
    levels: CachePadded<Mutex<LevelWindow>>,
}

impl LimiterLine {
    pub(super) fn new(queue: Option<LimiterQueueConfig>, max_wait: Option<Duration>) -> Self {
        Self { queue, max_wait, levels: CachePadded::new(Mutex::new(LevelWindow::default())) }
    }

    /// How long anybody waits, if that has a bound.
    pub(super) fn max_wait(&self) -> Option<Duration> {
        self.max_wait
    }

    /// For how long a call waits at most.
    pub(super) fn longest(&self, deadline: Option<Instant>, now: Instant) -> Duration {
        let left = deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(now));
        self.max_wait.map_or(left, |max_wait| max_wait.min(left))
    }

    /// With how many in the line, itself not among them, a call may join it; 0: it may not.
    /// So many wait, and so many places there are.
    pub(super) fn most(
        &self,
        level: Option<PriorityLevel>,
        waiting: usize,
        limit: usize,
        chance: impl FnOnce() -> f64,
        now: Instant,
    ) -> usize {
        let Some(queue) = self.queue.or(level.map(|_| WITH_LEVELS)) else { return 0 };
        let ramp = Ramp::new(queue, limit);
        let rejected = ramp.rejects(waiting);
        let rejected = match level {
            Some(level) => {
                let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
                let by_level = levels.arrive(level, rejected, now);
                // In a full line, one of a lower level may make place for it.
                if rejected < 1.0 { by_level } else { 0.0 }
            }
            None => rejected,
        };
        if chance() < rejected { 0 } else { ramp.most }
    }
}

/// Which share of the calls is rejected while so many wait.
struct Ramp {
    initial: f64,
    max: f64,
    most: usize,
}

impl Ramp {
    fn new(LimiterQueueConfig { initial, max }: LimiterQueueConfig, limit: usize) -> Self {
        let limit = limit as f64;
        Self { initial: initial * limit, max: max * limit, most: (max * limit).ceil() as usize }
    }

    fn rejects(&self, waiting: usize) -> f64 {
        let waiting = waiting as f64;
        if waiting >= self.max {
            1.0
        } else if waiting <= self.initial {
            0.0
        } else {
            (waiting - self.initial) / (self.max - self.initial)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejection_goes_from_nobody_to_everybody() {
        let ramp = Ramp::new(LimiterQueueConfig { initial: 2.0, max: 3.0 }, 10);
        let shares = [0, 20, 25, 29, 30, 99].map(|waiting| ramp.rejects(waiting));
        assert_eq!(shares, [0.0, 0.0, 0.5, 0.9, 1.0, 1.0]);
        assert_eq!(ramp.most, 30);
        let step = Ramp::new(LimiterQueueConfig { initial: 1.0, max: 1.0 }, 10);
        assert_eq!([9, 10].map(|waiting| step.rejects(waiting)), [0.0, 1.0]);
        let none = Ramp::new(LimiterQueueConfig { initial: 0.0, max: 0.0 }, 10);
        assert_eq!((none.rejects(0), none.most), (1.0, 0));
    }
}
