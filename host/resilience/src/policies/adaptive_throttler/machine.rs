//! What share of the calls is admitted: it moves in steps, at the end of each interval of results.
//!
//! ```text
//! results of an interval: n, good ones: g;  tolerated failures: f;  largest share rejected: m
//!   s = min(1, (g + √(n·f·(1 − f))) / n)     the good ones, with what chance alone may take
//!   s ≥ 1 − f:  share × (1 + growth/20), growth × 2 up to 20
//!   else:       share × max(½, s/(1 − f)), at least 1 − m;  growth = 1
//! ```
//!
//! The equilibrium is that of Google's client-side throttling: what is admitted is what succeeds,
//! and the tolerated failures. That one reckons over a window of the past: it recovers from an
//! outage only as the window forgets it, and over the requests sent, as failsafe-go does, it admits
//! 1.83 times what an upstream at three times its capacity can take. Steps send 1.14 times that, a
//! tenth in an outage, and everything again 7 s after it (`machine/simulation.rs`).

use std::iter::Sum;
use std::time::Duration;

use tokio::time::Instant;

use crate::levels::LevelWindow;
use crate::priority::PriorityLevel;

/// An interval ends after so long with the results that it has.
pub(super) const LONGEST_INTERVAL: Duration = Duration::from_secs(10);
/// After so long without a call everything is admitted.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// The growth of the share, in twentieths: it doubles at most.
const MOST_GROWTH: u32 = 20;

/// How the share moves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ThrottleSettings {
    /// The share of failures that is tolerated.
    pub(super) failure_rate: f64,
    /// So many results an interval has at least.
    pub(super) min_calls: u64,
    /// So long it lasts at least.
    pub(super) interval: Duration,
    /// The share of calls that is rejected at most.
    pub(super) max_rejection_rate: f64,
}

/// The share that is admitted has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ShareChange {
    pub(super) from: f64,
    pub(super) to: f64,
}

/// What an observer may know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ThrottleStatus {
    /// The share that is admitted.
    pub(super) share: f64,
    /// Of the interval under way.
    pub(super) results: ResultCounts,
}

/// Results, and those of them that were failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ResultCounts {
    pub(super) all: u64,
    pub(super) failed: u64,
}

impl Sum for ResultCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, it| Self {
            all: sum.all + it.all,
            failed: sum.failed + it.failed,
        })
    }
}

/// An interval begins with its first result.
#[derive(Clone, Copy, Debug)]
struct ThrottleInterval {
    began: Instant,
    results: ResultCounts,
}

#[derive(Debug)]
pub(super) struct ThrottleMachine {
    settings: ThrottleSettings,
    share: f64,
    growth: u32,
    interval: Option<ThrottleInterval>,
    /// Of those since the share is below 1.
    last_call: Instant,
    /// Of those, too.
    levels: LevelWindow,
}

impl ThrottleMachine {
    pub(super) fn new(settings: ThrottleSettings, now: Instant) -> Self {
        Self {
            settings,
            share: 1.0,
            growth: 1,
            interval: None,
            last_call: now,
            levels: LevelWindow::default(),
        }
    }

    /// The share that is admitted.
    pub(super) fn share(&self) -> f64 {
        self.share
    }

    /// When the interval under way may end; `None`: its first result has not come.
    pub(super) fn interval_ends(&self) -> Option<Instant> {
        self.interval.map(|interval| interval.began + self.settings.interval)
    }

    /// Whether a call of this level is admitted. `chance` is 0 to 1.
    pub(super) fn admit(
        &mut self,
        level: Option<PriorityLevel>,
        chance: f64,
        now: Instant,
    ) -> (bool, Option<ShareChange>) {
        let change = self.forget(now);
        self.last_call = self.last_call.max(now);
        let admitted = match level {
            Some(level) if self.share < 1.0 => {
                // Some of the lowest levels pass, or nobody would find out how these do. So more
                // levels are among the lowest, and the share is on the whole what it has to be.
                let most = self.settings.max_rejection_rate;
                1.0 - most * self.levels.arrive(level, (1.0 - self.share) / most, now)
            }
            _ => self.share,
        };
        (chance < admitted, change)
    }

    /// Takes results, and judges them if they end the interval.
    pub(super) fn record(&mut self, results: ResultCounts, now: Instant) -> Option<ShareChange> {
        if results.all == 0 {
            return None;
        }
        let new = ThrottleInterval { began: now, results: ResultCounts::default() };
        let interval = self.interval.get_or_insert(new);
        interval.results = [interval.results, results].into_iter().sum();
        let age = now.saturating_duration_since(interval.began);
        let has_enough = interval.results.all >= self.settings.min_calls;
        if age < self.settings.interval || !has_enough && age < LONGEST_INTERVAL {
            return None;
        }
        let results = interval.results;
        self.interval = None;
        self.judge(results, now)
    }

    pub(super) fn status(&self, now: Instant) -> ThrottleStatus {
        let share = if self.is_forgotten(now) { 1.0 } else { self.share };
        let results = self.interval.map(|interval| interval.results).unwrap_or_default();
        ThrottleStatus { share, results }
    }

    fn judge(&mut self, results: ResultCounts, now: Instant) -> Option<ShareChange> {
        let ThrottleSettings { failure_rate, max_rejection_rate, .. } = self.settings;
        let all = results.all as f64;
        let slack = (all * failure_rate * (1.0 - failure_rate)).sqrt();
        let good = (((results.all - results.failed) as f64 + slack) / all).min(1.0);
        let wanted = 1.0 - failure_rate;
        let share = if good >= wanted {
            let grown = self.share * (1.0 + f64::from(self.growth) / f64::from(MOST_GROWTH));
            self.growth = (self.growth * 2).min(MOST_GROWTH);
            grown.min(1.0)
        } else {
            self.growth = 1;
            (self.share * (good / wanted).max(0.5)).max(1.0 - max_rejection_rate)
        };
        self.last_call = self.last_call.max(now);
        self.change(share)
    }

    /// Nothing is known any more of an upstream that nobody has called for so long.
    fn forget(&mut self, now: Instant) -> Option<ShareChange> {
        if !self.is_forgotten(now) {
            return None;
        }
        (self.growth, self.interval) = (1, None);
        self.change(1.0)
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        self.share < 1.0 && now.saturating_duration_since(self.last_call) >= FORGOTTEN_AFTER
    }

    fn change(&mut self, to: f64) -> Option<ShareChange> {
        let from = std::mem::replace(&mut self.share, to);
        (from < to || to < from).then_some(ShareChange { from, to })
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
