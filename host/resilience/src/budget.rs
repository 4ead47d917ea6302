//! A budget bounds how many of the calls in flight may be retrying, so that retries cannot multiply
//! an overload.
//!
//! After failsafe-go's budget: a call may begin to retry while fewer than `max_rate` of the calls
//! in flight, or fewer than `min_concurrency` calls, are retrying. It is shared by every policy
//! that names it.
//!
//! Every call enters and leaves, so calls in flight are counted per thread; only a call that wants
//! to retry adds them up.

use crossbeam_utils::CachePadded;
use serde::Deserialize;

use crate::config::{Problem, Problems};
use crate::sharded::Sharded;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// `[budgets.NAME]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct BudgetConfig {
    /// The part of the calls in flight that may be retrying, above 0 and up to 1. Default 0.2.
    pub max_rate: f64,
    /// So many may always be retrying. Default 3.
    pub min_concurrency: usize,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self { max_rate: 0.2, min_concurrency: 3 }
    }
}

impl BudgetConfig {
    /// The budget.
    ///
    /// # Errors
    /// `max_rate` is out of bounds.
    pub fn build(self) -> Result<Budget, Vec<Problem>> {
        let mut problems = Problems::default();
        problems.require(self.max_rate > 0.0 && self.max_rate <= 1.0, "max_rate", || {
            format!("must be above 0 and at most 1, is {}", self.max_rate)
        });
        problems.into_result(Budget { config: self, ..Budget::default() })
    }
}

/// Bounds the calls that are retrying.
#[derive(Debug, Default)]
pub struct Budget {
    config: BudgetConfig,
    in_flight: Sharded<AtomicUsize>,
    retrying: CachePadded<AtomicUsize>,
}

impl Budget {
    /// Calls in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.iter().map(|calls| calls.load(Ordering::Relaxed)).sum()
    }

    /// Those of them that are retrying.
    pub fn retrying(&self) -> usize {
        self.retrying.load(Ordering::Relaxed)
    }

    /// A call enters; it counts as in flight until the guard is dropped.
    pub(crate) fn enter(&self) -> Share<'_> {
        Share::of(self.in_flight.own())
    }

    /// A call begins to retry, if the budget has room; it counts until the guard is dropped.
    pub(crate) fn try_retry(&self) -> Option<Share<'_>> {
        let allowed = (self.in_flight() as f64 * self.config.max_rate) as usize;
        let allowed = allowed.max(self.config.min_concurrency);
        self.retrying
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |retrying| {
                (retrying < allowed).then_some(retrying + 1)
            })
            .ok()?;
        Some(Share { count: &self.retrying })
    }
}

/// A call's place in one of the budget's counts.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    /// Where it was counted, on whichever thread it ends.
    count: &'a AtomicUsize,
}

impl<'a> Share<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self { count }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    #[test]
    fn a_fifth_of_the_calls_in_flight_may_retry_and_three_always() {
        loom::model(|| {
            let budget = BudgetConfig::default().build().unwrap();
            let calls: Vec<_> = (0..25).map(|_| budget.enter()).collect();
            let retries: Vec<_> = std::iter::from_fn(|| budget.try_retry()).collect();
            assert_eq!(retries.len(), 5);
            drop(calls);
            drop(retries);
            let retries: Vec<_> = std::iter::from_fn(|| budget.try_retry()).collect();
            assert_eq!(retries.len(), 3, "nothing stays held");
        });
    }

    #[test]
    fn threads_that_retry_at_once_get_no_more_than_there_is_and_leave_nothing_held() {
        loom::model(|| {
            let budget =
                Arc::new(BudgetConfig { max_rate: 0.5, min_concurrency: 1 }.build().unwrap());
            let call = |budget: &Budget| {
                let _in_flight = budget.enter();
                let _retrying = budget.try_retry();
                // Of two calls, whichever of them are counted.
                assert!(budget.retrying() <= 1);
            };
            let other = thread::spawn({
                let budget = budget.clone();
                move || call(&budget)
            });
            call(&budget);
            other.join().unwrap();
            assert_eq!((budget.in_flight(), budget.retrying()), (0, 0));
        });
    }
}
