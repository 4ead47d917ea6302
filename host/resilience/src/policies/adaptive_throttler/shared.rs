//! The machine as workers share it. While everything is admitted, a call reads one word twice, and
//! adds its result to its thread's own counts; the first result of an interval, and those that come
//! when it may end, take the lock and judge what all threads have counted. While calls are rejected
//! each of them takes the lock, to be noticed.

use std::sync::PoisonError;

use crossbeam_utils::CachePadded;
use tokio::time::Instant;

use super::machine::{
    ResultCounts, ShareChange, ThrottleMachine, ThrottleSettings, ThrottleStatus,
};
use crate::priority::PriorityLevel;
use crate::sharded::Sharded;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// A machine for many threads.
#[derive(Debug)]
pub(super) struct SharedThrottle {
    /// Until so many nanoseconds after `origin` a result need only be counted; above that, in the
    /// lowest bit, whether everything is admitted.
    word: CachePadded<AtomicU64>,
    counted: Sharded<CountedResults>,
    origin: Instant,
    machine: CachePadded<Mutex<ThrottleMachine>>,
}

/// Results of one thread, on their way to the machine: failures in the upper half, all in the
/// lower one.
#[derive(Debug)]
struct CountedResults(AtomicU64);

impl Default for CountedResults {
    fn default() -> Self {
        Self(AtomicU64::new(0))
    }
}

impl CountedResults {
    fn add(&self, failed: bool) {
        self.0.fetch_add(u64::from(failed) << 32 | 1, Ordering::Relaxed);
    }

    fn take(&self) -> ResultCounts {
        Self::counts(self.0.swap(0, Ordering::Relaxed))
    }

    fn read(&self) -> ResultCounts {
        Self::counts(self.0.load(Ordering::Relaxed))
    }

    fn counts(word: u64) -> ResultCounts {
        ResultCounts { all: word & u64::from(u32::MAX), failed: word >> 32 }
    }
}

impl SharedThrottle {
    pub(super) fn new(settings: ThrottleSettings, now: Instant) -> Self {
        Self::with_shards(settings, Sharded::default(), now)
    }

    fn with_shards(
        settings: ThrottleSettings,
        counted: Sharded<CountedResults>,
        now: Instant,
    ) -> Self {
        let machine = ThrottleMachine::new(settings, now);
        let shared = Self {
            word: CachePadded::new(AtomicU64::new(0)),
            counted,
            origin: now,
            machine: CachePadded::new(Mutex::new(machine)),
        };
        shared.publish(&shared.lock());
        shared
    }

    /// Whether a call is admitted. `chance` is only asked for if some are not.
    pub(super) fn admit(
        &self,
        level: Option<PriorityLevel>,
        chance: impl FnOnce() -> f64,
        now: Instant,
    ) -> (bool, Option<ShareChange>) {
        if self.word.load(Ordering::Relaxed) & 1 == 1 {
            return (true, None);
        }
        let machine = &mut *self.lock();
        let admitted = machine.admit(level, chance(), now);
        self.publish(machine);
        admitted
    }

    pub(super) fn record(&self, failed: bool, now: Instant) -> Option<ShareChange> {
        self.counted.own().add(failed);
        if self.nanos(now) < self.word.load(Ordering::Relaxed) >> 1 {
            return None;
        }
        let machine = &mut *self.lock();
        let counted = self.counted.iter().map(CountedResults::take);
        let change = machine.record(counted.sum(), now);
        self.publish(machine);
        change
    }

    pub(super) fn status(&self, now: Instant) -> ThrottleStatus {
        let mut status = self.lock().status(now);
        let counted = self.counted.iter().map(CountedResults::read);
        status.results = counted.chain([status.results]).sum();
        status
    }

    fn publish(&self, machine: &ThrottleMachine) {
        let until = machine.interval_ends().map_or(0, |ends| self.nanos(ends));
        let admits_all = machine.share() >= 1.0;
        let word = until << 1 | u64::from(admits_all);
        // A store would take the cache line from all who read it.
        if self.word.load(Ordering::Relaxed) != word {
            self.word.store(word, Ordering::Relaxed);
        }
    }

    /// 63 bits of them are 292 years.
    fn nanos(&self, time: Instant) -> u64 {
        time.saturating_duration_since(self.origin).as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, ThrottleMachine> {
        // It cannot be left half-changed.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use loom::thread;

    use super::*;
    use crate::sharded::take_place;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> ThrottleSettings {
        ThrottleSettings {
            failure_rate: 0.1,
            min_calls: 3,
            interval: SECOND,
            max_rejection_rate: 0.9,
        }
    }

    /// Every order in which two threads can count results and end the interval.
    #[test]
    fn each_result_counts_once_whichever_thread_judges_it() {
        let now = Instant::now();
        loom::model(move || {
            let shared =
                Arc::new(SharedThrottle::with_shards(settings(), Sharded::with_shards(2), now));
            assert_eq!(shared.record(true, now), None);
            let other = shared.clone();
            let other = thread::spawn(move || {
                take_place(1);
                let early = other.record(true, now + SECOND / 2);
                (early, other.record(true, now + SECOND))
            });
            let own = shared.record(true, now + SECOND);
            let (early, late) = other.join().expect("it ends");
            assert_eq!(early, None);
            let changes: Vec<_> = [own, late].into_iter().flatten().collect();
            assert_eq!(changes.len(), 1, "{changes:?}");
            // Of four results three or all have ended the interval.
            assert!(shared.status(now).results.all <= 1);
            assert!(!shared.admit(None, || 0.5, now + SECOND).0);
        });
    }
}
