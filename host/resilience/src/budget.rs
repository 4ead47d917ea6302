//! A budget bounds the attempts that calls make on top of their first ones, so that they cannot
//! multiply an overload: the *extras*, which are retries.
//!
//! An extra may begin while both of these hold:
//!
//! - fewer extras are in flight than `max_rate` of the calls in flight, or than `min_concurrency`;
//! - fewer extras have begun within `window` than `max_rate` of the calls that have begun within
//!   it, or than `min_per_second` allows.
//!
//! The first is failsafe-go's. The second is there because the first alone lets 2.7 times the load
//! through when first attempts are slow and retries fast: each retry is over before it counts.
//!
//! Every call enters and leaves, so calls are counted per thread; only a call that wants an extra
//! adds them up. What is counted in slices of time errs on the side of fewer extras: the slice that
//! the window begins in counts for the extras, and not for the calls.

use std::sync::PoisonError;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use serde::Deserialize;
use tokio::time::Instant;

use crate::config::{ConfigDuration, Problem, Problems};
use crate::sharded::Sharded;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// The slices of a window.
const SLICES: usize = 10;

/// `[budgets.NAME]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// The part of the calls that extras may come to, above 0 and up to 1. Default 0.2.
    pub max_rate: f64,
    /// So many extras may always be in flight. Default 3.
    pub min_concurrency: usize,
    /// The time over which what has begun is counted, 1 s to 1 h. Default 10 s.
    pub window: ConfigDuration,
    /// So many extras may always begin in each second of the window, on average. Default 10.
    pub min_per_second: f64,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            max_rate: 0.2,
            min_concurrency: 3,
            window: ConfigDuration::from_secs(10),
            min_per_second: 10.0,
        }
    }
}

impl BudgetConfig {
    /// The budget, which counts from `now` on.
    ///
    /// # Errors
    /// A value is out of bounds.
    pub fn build(self, now: Instant) -> Result<Budget, Vec<Problem>> {
        let mut problems = Problems::default();
        problems.require(self.max_rate > 0.0 && self.max_rate <= 1.0, "max_rate", || {
            format!("must be above 0 and at most 1, is {}", self.max_rate)
        });
        let bounds = ConfigDuration::from_secs(1)..=ConfigDuration::from_secs(3600);
        problems.require(bounds.contains(&self.window), "window", || {
            format!("must be from {} to {}, is {}", bounds.start(), bounds.end(), self.window)
        });
        let is_rate = (0.0..=1_000_000.0).contains(&self.min_per_second);
        problems.require(is_rate, "min_per_second", || {
            format!("must be from 0 to 1000000, is {}", self.min_per_second)
        });
        problems.into_result(Budget::new(self, now))
    }
}

/// Bounds extras.
#[derive(Debug)]
pub struct Budget {
    config: BudgetConfig,
    /// From when slices are numbered.
    origin: Instant,
    calls: Sharded<CallCounts>,
    extras: CachePadded<Mutex<Extras>>,
}

/// Of one thread.
#[derive(Debug, Default)]
struct CallCounts {
    in_flight: AtomicUsize,
    begun: [SliceCount; SLICES],
}

/// The number of a slice of time and how many calls began in it, in one word: whoever finds an
/// older slice's count begins anew.
#[derive(Debug, Default)]
struct SliceCount(AtomicU64);

impl SliceCount {
    const COUNT: u64 = u32::MAX as u64;

    fn add(&self, slice: u64) {
        // Of two threads that share it, one may be a slice behind; its call goes uncounted.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            match (word >> 32).cmp(&slice) {
                std::cmp::Ordering::Less => Some(slice << 32 | 1),
                std::cmp::Ordering::Equal => Some(word + 1),
                std::cmp::Ordering::Greater => None,
            }
        });
    }

    /// Its count, if it is of one of the last slices, of which `slice` is under way.
    fn within(&self, slice: u64) -> u64 {
        let word = self.0.load(Ordering::Relaxed);
        if (word >> 32) + SLICES as u64 > slice { word & Self::COUNT } else { 0 }
    }
}

/// Extras in flight and those that have begun, by slices.
#[derive(Debug, Default)]
struct Extras {
    in_flight: usize,
    /// One more than the window has, for the one that it begins in.
    begun: [u64; SLICES + 1],
    /// The slice under way.
    slice: u64,
}

impl Extras {
    /// Forgets what has left the window.
    fn advance(&mut self, slice: u64) {
        let passed = slice.saturating_sub(self.slice);
        for step in 1..=passed.min(self.begun.len() as u64) {
            self.begun[Self::place(self.slice + step)] = 0;
        }
        self.slice = self.slice.max(slice);
    }

    fn begin(&mut self) {
        self.in_flight += 1;
        self.begun[Self::place(self.slice)] += 1;
    }

    fn place(slice: u64) -> usize {
        (slice % (SLICES as u64 + 1)) as usize
    }
}

/// How a budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetStatus {
    /// Calls in flight.
    pub calls_in_flight: usize,
    /// Extras in flight, their delays included.
    pub extras_in_flight: usize,
    /// Calls that have begun within the window.
    pub calls_begun: u64,
    /// Extras that have begun within the window.
    pub extras_begun: u64,
}

impl Budget {
    /// The budget of an upstream for which the configuration names none.
    pub fn of_upstream(now: Instant) -> Self {
        Self::new(BudgetConfig::default(), now)
    }

    fn new(config: BudgetConfig, now: Instant) -> Self {
        Self { config, origin: now, calls: Sharded::default(), extras: CachePadded::default() }
    }

    /// How it is used.
    pub fn status(&self, now: Instant) -> BudgetStatus {
        let slice = self.slice(now);
        let mut extras = self.lock();
        extras.advance(slice);
        BudgetStatus {
            calls_in_flight: self.calls_in_flight(),
            extras_in_flight: extras.in_flight,
            calls_begun: self.calls_begun(slice),
            extras_begun: extras.begun.iter().sum(),
        }
    }

    /// A call enters; it counts as in flight until the guard is dropped. `outer` are the budgets
    /// that it counts in already; `None`: this one is among them.
    pub(crate) fn enter<'a>(
        &'a self,
        outer: Option<&'a BudgetedCall<'a>>,
        now: Instant,
    ) -> Option<BudgetedCall<'a>> {
        let mut entered = std::iter::successors(outer, |call| call.outer);
        if entered.any(|call| std::ptr::eq(call.budget, self)) {
            return None;
        }
        let counts = self.calls.own();
        counts.in_flight.fetch_add(1, Ordering::Relaxed);
        let slice = self.slice(now);
        counts.begun[(slice % SLICES as u64) as usize].add(slice);
        Some(BudgetedCall { budget: self, outer })
    }

    /// An extra begins, if there is room; it is in flight until the guard is dropped.
    pub(crate) fn try_extra(&self, now: Instant) -> Option<Extra<'_>> {
        let slice = self.slice(now);
        let mut extras = self.lock();
        extras.advance(slice);
        let part = |calls: u64| (calls as f64 * self.config.max_rate) as u64;
        let in_flight = part(self.calls_in_flight() as u64).max(self.config.min_concurrency as u64);
        let least = self.config.min_per_second * self.config.window.0.as_secs_f64();
        let begun = part(self.calls_begun(slice)).max(least as u64);
        let has_room =
            (extras.in_flight as u64) < in_flight && extras.begun.iter().sum::<u64>() < begun;
        has_room.then(|| {
            extras.begin();
            Extra { budget: self }
        })
    }

    fn calls_in_flight(&self) -> usize {
        // A call that ends on another thread than it began on leaves one count too high and one
        // too low, which may be below 0.
        let counts = self.calls.iter().map(|counts| counts.in_flight.load(Ordering::Relaxed));
        counts.fold(0, usize::wrapping_add)
    }

    fn calls_begun(&self, slice: u64) -> u64 {
        let begun = self.calls.iter().flat_map(|counts| &counts.begun);
        begun.map(|count| count.within(slice)).sum()
    }

    /// The number of the slice of time that is under way. Long before it needs more than 32 bits
    /// the process has ended.
    fn slice(&self, now: Instant) -> u64 {
        let length: Duration = self.config.window.0 / SLICES as u32;
        let age = now.saturating_duration_since(self.origin);
        age.as_millis() as u64 / (length.as_millis() as u64).max(1)
    }

    fn lock(&self) -> MutexGuard<'_, Extras> {
        // Counts cannot be left half-changed.
        self.extras.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place in a budget, and in those further out.
#[derive(Debug)]
pub(crate) struct BudgetedCall<'a> {
    budget: &'a Budget,
    outer: Option<&'a BudgetedCall<'a>>,
}

impl Drop for BudgetedCall<'_> {
    fn drop(&mut self) {
        self.budget.calls.own().in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An extra in flight.
#[derive(Debug)]
pub(crate) struct Extra<'a> {
    budget: &'a Budget,
}

impl Drop for Extra<'_> {
    fn drop(&mut self) {
        self.budget.lock().in_flight -= 1;
    }
}

#[cfg(test)]
mod tests;
