//! When the circuit opens and closes, and for how long it stays open.

use std::fmt;
use std::time::Duration;

use super::window::WindowCounts;
use crate::config::ConfigDuration;

/// When the circuit opens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FailureThreshold {
    /// `failures` of the last `capacity` results.
    Count { failures: usize, capacity: usize },
    /// `failures` within the period.
    Period { failures: usize, period: Duration },
    /// This rate of at least `min_calls` within the period.
    Rate { rate: f64, min_calls: usize, period: Duration },
}

/// When it closes: so many successes of the last `capacity` trials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SuccessThreshold {
    pub(super) successes: usize,
    pub(super) capacity: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CircuitSettings {
    pub(super) failure: FailureThreshold,
    /// None: half-open is judged by the failure threshold.
    pub(super) success: Option<SuccessThreshold>,
    pub(super) delay: Duration,
    pub(super) delay_factor: f64,
    pub(super) max_delay: Duration,
    /// The part of itself by which a delay is longer at most.
    pub(super) delay_jitter: f64,
    /// Of the chance that `delay_jitter` is drawn from.
    pub(super) seed: u64,
    pub(super) trial_timeout: Duration,
    /// After closing, the share of calls that is admitted grows for so long.
    pub(super) ramp: Option<Duration>,
    /// This share of slow calls opens it.
    pub(super) slow: Option<SlowThreshold>,
}

/// When slow calls open it: this rate of at least `min_calls` within the period.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SlowThreshold {
    pub(super) rate: f64,
    pub(super) min_calls: usize,
}

impl SlowThreshold {
    fn is_reached(&self, slow: usize, total: usize) -> bool {
        total >= self.min_calls && slow as f64 >= self.rate * total as f64
    }

    /// Whether it is not reached, and more fast calls can't make it so.
    fn is_safe_from_fast_ones(&self, slow: usize, total: usize) -> bool {
        slow == 0 || total >= self.min_calls && !self.is_reached(slow, total)
    }
}

/// `opens at 5 failures in a row, for 60s`.
impl fmt::Display for CircuitSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            FailureThreshold::Count { failures, capacity } if failures == capacity => {
                write!(f, "opens at {failures} failures in a row")?
            }
            FailureThreshold::Count { failures, capacity } => {
                write!(f, "opens at {failures} failures among {capacity}")?
            }
            FailureThreshold::Period { failures, period } => {
                write!(f, "opens at {failures} failures in {}", ConfigDuration(period))?
            }
            FailureThreshold::Rate { rate, min_calls, period } => {
                let (rate, period) = (rate * 100.0, ConfigDuration(period));
                write!(f, "opens at {rate:.0}% failures of {min_calls} calls or more in {period}")?
            }
        }
        write!(f, ", for {}", ConfigDuration(self.delay))?;
        if self.delay_factor > 1.0 && self.max_delay > self.delay {
            write!(f, " to {}", ConfigDuration(self.max_delay))?;
        }
        Ok(())
    }
}

impl CircuitSettings {
    /// Whether these results open it.
    pub(super) fn opens(&self, counts: WindowCounts, slow: usize) -> bool {
        self.failure.is_reached(counts)
            || self.slow.is_some_and(|threshold| threshold.is_reached(slow, counts.total()))
    }

    /// Whether they don't, and more good calls that are fast can't make it so.
    pub(super) fn is_safe_from_successes(&self, counts: WindowCounts, slow: usize) -> bool {
        let of_slow =
            |threshold: &SlowThreshold| threshold.is_safe_from_fast_ones(slow, counts.total());
        self.failure.is_safe_from_successes(counts) && self.slow.as_ref().is_none_or(of_slow)
    }

    /// How many trials at once, and how many results half-open is judged by.
    pub(super) fn trials(&self) -> usize {
        match (self.success, self.failure) {
            (Some(SuccessThreshold { capacity, .. }), _) => capacity,
            (None, FailureThreshold::Count { capacity, .. }) => capacity,
            (None, FailureThreshold::Period { failures, .. }) => failures,
            (None, FailureThreshold::Rate { min_calls, .. }) => min_calls,
        }
    }

    /// The delay of the opening number `openings` in a row, from 1. `fraction` is chance.
    pub(super) fn delay(&self, openings: u32, fraction: f64) -> Duration {
        let grown = self.delay.as_secs_f64()
            * self.delay_factor.powf(f64::from(openings.saturating_sub(1)));
        let delay = if grown < self.max_delay.as_secs_f64() {
            Duration::from_secs_f64(grown)
        } else {
            self.max_delay
        };
        // Beyond the longest too: there most of all they would come back together.
        delay + delay.mul_f64(self.delay_jitter * fraction)
    }

    /// Half-open's judgement. Without a success threshold the failure threshold decides both ways,
    /// as in failsafe-go: one success closes an n-of-n breaker, since n failures can no longer
    /// come together. What would close it does not, if too many of the trials were slow.
    pub(super) fn judge_trials(&self, counts: WindowCounts, slow: usize) -> Option<TrialVerdict> {
        let is_slow = self
            .slow
            .is_some_and(|threshold| slow as f64 >= threshold.rate * counts.total() as f64);
        let (close, open) = match (self.success, self.failure) {
            (Some(SuccessThreshold { successes, capacity }), _) => {
                (counts.successes >= successes, counts.failures > capacity - successes)
            }
            (None, FailureThreshold::Count { failures, capacity }) => {
                (counts.successes > capacity - failures, counts.failures >= failures)
            }
            (None, FailureThreshold::Period { failures, .. }) => {
                (counts.successes > 0, counts.failures >= failures)
            }
            (None, FailureThreshold::Rate { rate, min_calls, .. }) => {
                let enough = counts.total() >= min_calls;
                (enough && counts.failure_rate() < rate, enough && counts.failure_rate() >= rate)
            }
        };
        if close && !is_slow {
            Some(TrialVerdict::Close)
        } else if close || open {
            Some(TrialVerdict::Open)
        } else {
            None
        }
    }
}

/// What the trials have shown.
pub(super) enum TrialVerdict {
    Close,
    Open,
}

impl FailureThreshold {
    pub(super) fn is_reached(&self, counts: WindowCounts) -> bool {
        match *self {
            Self::Count { failures, .. } | Self::Period { failures, .. } => {
                counts.failures >= failures
            }
            Self::Rate { rate, min_calls, .. } => {
                counts.total() >= min_calls && counts.failure_rate() >= rate
            }
        }
    }

    pub(super) fn is_by_time(&self) -> bool {
        matches!(self, Self::Period { .. } | Self::Rate { .. })
    }

    /// Whether it is not reached, and more successes can't make it so. They only lower a rate, but
    /// may complete `min_calls`.
    pub(super) fn is_safe_from_successes(&self, counts: WindowCounts) -> bool {
        match *self {
            Self::Count { failures, .. } | Self::Period { failures, .. } => {
                counts.failures < failures
            }
            Self::Rate { rate, min_calls, .. } => {
                counts.failures == 0 || counts.total() >= min_calls && counts.failure_rate() < rate
            }
        }
    }
}
