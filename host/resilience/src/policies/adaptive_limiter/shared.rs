//! The machine as workers share it: until its window may end, a thread adds samples to its own
//! sums, and takes the machine's lock only for the first and the last of them.
//!
//! Results of calls that were admitted under another limit must not be among them. Each thread's
//! sums know the machine's epoch, which is told to them one by one when it changes; those that were
//! added in between are forgotten with the window that they came after.

use std::sync::PoisonError;
use std::time::Duration;

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

use super::machine::{LimitChange, LimiterMachine, LimiterSettings};
use super::window::{LimiterSample, SampleSums};
use crate::sharded::Sharded;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A machine for many threads.
#[derive(Debug)]
pub(super) struct SharedLimiter {
    /// Until so many nanoseconds after `origin` a sample need only be added up.
    until: CachePadded<AtomicU64>,
    sums: Sharded<Mutex<SumsShard>>,
    origin: Instant,
    machine: CachePadded<Mutex<LimiterMachine>>,
}

/// What one thread has added up.
#[derive(Debug, Default)]
struct SumsShard {
    sums: SampleSums,
    /// `None`: the machine's first.
    epoch: Option<Instant>,
}

/// What an observer may know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LimiterStatus {
    pub(super) limit: usize,
    /// The asked time without a queue.
    pub(super) baseline: Option<Duration>,
}

impl SharedLimiter {
    pub(super) fn new(settings: LimiterSettings, now: Instant) -> Self {
        Self::with_shards(settings, Sharded::default(), now)
    }

    fn with_shards(
        settings: LimiterSettings,
        sums: Sharded<Mutex<SumsShard>>,
        now: Instant,
    ) -> Self {
        let machine = CachePadded::new(Mutex::new(LimiterMachine::new(settings, now)));
        Self { until: CachePadded::new(AtomicU64::new(0)), sums, origin: now, machine }
    }

    /// Takes a sample. `changed` is called with what it leads to, before any other change.
    pub(super) fn record<R>(
        &self,
        sample: &LimiterSample,
        changed: impl FnOnce(LimitChange) -> R,
    ) -> Option<R> {
        if self.nanos(sample.ended) < self.until.load(Ordering::Relaxed) {
            lock(self.sums.own()).add(sample);
            return None;
        }
        let machine = &mut *lock(&self.machine);
        for shard in self.sums.iter() {
            machine.absorb(lock(shard).take());
        }
        let epoch = machine.epoch();
        let change = machine.record(sample);
        if machine.epoch() != epoch {
            self.sums.iter().for_each(|shard| lock(shard).epoch = Some(machine.epoch()));
        }
        let until = machine.window_ends().map_or(0, |ends| self.nanos(ends));
        self.until.store(until, Ordering::Relaxed);
        change.map(changed)
    }

    /// See [`LimiterMachine::is_drop_if_cut`].
    pub(super) fn is_drop_if_cut(&self, asked: Duration) -> bool {
        lock(&self.machine).is_drop_if_cut(asked)
    }

    pub(super) fn status(&self) -> LimiterStatus {
        let machine = lock(&self.machine);
        LimiterStatus { limit: machine.limit(), baseline: machine.baseline() }
    }

    fn nanos(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.origin).as_nanos() as u64
    }
}

impl SumsShard {
    fn add(&mut self, sample: &LimiterSample) {
        if self.epoch.is_none_or(|epoch| sample.began >= epoch) {
            self.sums.add(sample);
        }
    }

    fn take(&mut self) -> SampleSums {
        std::mem::take(&mut self.sums)
    }
}

/// Neither a machine nor a shard can be left half-changed, so a panic elsewhere while it was locked
/// does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sharded::take_place;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> LimiterSettings {
        LimiterSettings {
            min_limit: 1.0,
            max_limit: 200.0,
            initial_limit: 20.0,
            max_limit_factor: 5.0,
            shortest_window: SECOND,
            longest_window: 30 * SECOND,
            min_samples: 2,
            seed: 1,
        }
    }

    fn sample(ended: Instant) -> LimiterSample {
        let asked = Duration::from_millis(1);
        LimiterSample { began: ended - asked, ended, asked, in_flight: 20, is_drop: false }
    }

    /// Every order in which two threads can add up samples and end the window.
    #[test]
    fn each_sample_counts_once_whichever_thread_ends_the_window() {
        let now = Instant::now() + SECOND;
        loom::model(move || {
            let shards = Sharded::with_shards(2);
            let shared = Arc::new(SharedLimiter::with_shards(settings(), shards, now - SECOND));
            assert_eq!(shared.record(&sample(now), |change| change), None);
            let other = shared.clone();
            let other = thread::spawn(move || {
                take_place(1);
                let early = other.record(&sample(now + SECOND / 2), |change| change);
                (early, other.record(&sample(now + SECOND), |change| change))
            });
            let own = shared.record(&sample(now + SECOND), |change| change);
            let (early, late) = other.join().expect("it ends");
            assert_eq!(early, None);
            // Two of the three end it, or the third does; a full window at the limit begins a dip.
            let changes: Vec<_> = [own, late].into_iter().flatten().collect();
            assert_eq!(changes.len(), 1, "{changes:?}");
            assert_eq!((changes[0].from, changes[0].to), (20, 15));
            assert_eq!(shared.status().limit, 15);
        });
    }
}
