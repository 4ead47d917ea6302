//! Counters of a component: its calls, how long they took, and its faults.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fusebox_resilience::Fault;

/// How long calls took, by the first of [`BOUNDS`](Self::BOUNDS) that they were within.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallHistogram {
    /// As many as there are bounds, and one more for what is beyond them all.
    pub counts: [u64; BUCKETS],
    /// What all of them took together, in nanoseconds.
    pub nanos: u64,
}

impl CallHistogram {
    /// In nanoseconds: close to each other where a predicate's calls are, and where they near their
    /// usual limit; then up to those of a standard HTTP component.
    pub const BOUNDS: [u64; BUCKETS - 1] = [
        250,
        500,
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        100_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        100_000_000,
        1_000_000_000,
    ];
}

const BUCKETS: usize = 15;

/// Counters of one component, of all its versions on all workers. Each is right by itself; together
/// they may be a call apart.
///
/// Every call is counted in the [`Tally`] of the instance that it is made on, so that workers write
/// nothing in common. The tallies of instances that are gone are kept as a sum.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    tallies: Mutex<Tallies>,
    faults: [AtomicU64; Fault::ALL.len()],
    skipped: AtomicU64,
    instances: AtomicUsize,
    /// Bytes of linear memory that they hold.
    memory: AtomicUsize,
}

#[derive(Debug, Default)]
struct Tallies {
    open: Vec<Arc<Tally>>,
    closed: Tally,
}

/// The calls of one instance. Only one thread may count in it at a time. Aligned, so that it has
/// its cache lines for itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Tally {
    counts: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

impl Tally {
    pub(crate) fn called(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket =
            CallHistogram::BOUNDS.iter().position(|bound| nanos <= *bound).unwrap_or(BUCKETS - 1);
        let mut times = CallHistogram { nanos, ..CallHistogram::default() };
        times.counts[bucket] = 1;
        self.add(&times);
    }

    fn add(&self, times: &CallHistogram) {
        for (count, more) in self.counts.iter().zip(times.counts).filter(|(_, more)| *more > 0) {
            count.store(count.load(Relaxed) + more, Relaxed);
        }
        self.nanos.store(self.nanos.load(Relaxed).saturating_add(times.nanos), Relaxed);
    }

    fn times(&self) -> CallHistogram {
        CallHistogram {
            counts: std::array::from_fn(|bucket| self.counts[bucket].load(Relaxed)),
            nanos: self.nanos.load(Relaxed),
        }
    }
}

impl Meters {
    /// Counts a call that was made on an instance without a tally.
    pub(crate) fn called(&self, took: Duration) {
        self.tallies().closed.called(took);
    }

    pub(crate) fn faulted(&self, fault: Fault) {
        self.faults[fault as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    /// An instance has started, and counts its calls in this.
    pub(crate) fn started(&self) -> Arc<Tally> {
        self.instances.fetch_add(1, Relaxed);
        let tally = Arc::<Tally>::default();
        self.tallies().open.push(tally.clone());
        tally
    }

    /// The instance with this tally is gone.
    pub(crate) fn ended(&self, tally: &Arc<Tally>) {
        let mut tallies = self.tallies();
        tallies.open.retain(|open| !Arc::ptr_eq(open, tally));
        tallies.closed.add(&tally.times());
        drop(tallies);
        self.stopped();
    }

    /// Returns `false` if there are `most` already.
    pub(crate) fn try_started(&self, most: usize) -> bool {
        let more = |instances| (instances < most).then_some(instances + 1);
        self.instances.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub(crate) fn stopped(&self) {
        self.instances.fetch_sub(1, Relaxed);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.call_times().counts.iter().sum()
    }

    pub(crate) fn call_times(&self) -> CallHistogram {
        let tallies = self.tallies();
        let sum = Tally::default();
        tallies
            .open
            .iter()
            .map(|tally| &**tally)
            .chain([&tallies.closed])
            .for_each(|tally| sum.add(&tally.times()));
        sum.times()
    }

    pub(crate) fn faults(&self) -> Vec<(Fault, u64)> {
        Fault::ALL
            .into_iter()
            .map(|fault| (fault, self.faults[fault as usize].load(Relaxed)))
            .collect()
    }

    pub(crate) fn skips(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    pub(crate) fn instances(&self) -> usize {
        self.instances.load(Relaxed)
    }

    pub(crate) fn memory_taken(&self, bytes: usize) {
        self.memory.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn memory_given_back(&self, bytes: usize) {
        self.memory.fetch_sub(bytes, Relaxed);
    }

    pub(crate) fn memory(&self) -> usize {
        self.memory.load(Relaxed)
    }

    /// It is held for a few additions, which don't panic.
    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_the_sum_of_all_instances_that_are_and_were() {
        let meters = Meters::default();
        let (first, second) = (meters.started(), meters.started());
        let seen = || {
            let CallHistogram { counts, nanos } = meters.call_times();
            (meters.calls(), counts[0], nanos, meters.instances())
        };
        first.called(Duration::from_nanos(1));
        first.called(Duration::from_nanos(2));
        second.called(Duration::from_nanos(400));
        meters.called(Duration::from_nanos(8));
        assert_eq!(seen(), (4, 3, 411, 2));
        meters.ended(&first);
        assert_eq!(seen(), (4, 3, 411, 1));
        second.called(Duration::from_nanos(16));
        meters.ended(&second);
        assert_eq!(seen(), (5, 4, 427, 0));
    }

    #[test]
    fn a_call_is_counted_by_the_first_bound_that_it_is_within() {
        let tally = Tally::default();
        for nanos in [0, 250, 251, 5_000, 4_000_000, 1_000_000_000, 1_000_000_001, u64::MAX] {
            tally.called(Duration::from_nanos(nanos));
        }
        let CallHistogram { counts, nanos } = tally.times();
        assert_eq!(counts, [2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2]);
        assert_eq!(nanos, u64::MAX);
    }
}
