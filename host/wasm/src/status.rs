//! What a component has done so far, for `/state` and `/metrics`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fusebox_resilience::{ComponentId, Fault};
use tokio::time::Instant;

use crate::life::Standing;

/// A component as it is now. Its numbers count from its first version on.
#[derive(Clone, Debug)]
pub struct ComponentStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its file.
    pub file: PathBuf,
    /// The version in use; none if an `optional` component has none yet.
    pub version: Option<ComponentId>,
    /// Where that version stands.
    pub standing: Standing,
    /// Whether it answers `handle-if`.
    pub is_predicate: bool,
    /// Whether it makes fallback responses.
    pub is_fallback: bool,
    /// The versions that can be rolled back to, the latest first.
    pub kept: Vec<ComponentId>,
    /// The last version that was not taken.
    pub rejection: Option<Rejection>,
    /// Calls into it that have ended, however they ended.
    pub calls: u64,
    /// What they took in all.
    pub call_time: Duration,
    /// Questions that `on_error` answered without a call: there was no version, it was in quarantine, or had as many instances as
    /// it may.
    pub skipped: u64,
    /// How many calls failed, and starts, by how they did; every kind once.
    pub faults: Vec<(Fault, u64)>,
    /// Instances that workers keep, or that handle requests.
    pub instances: usize,
}

/// A version that was not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    /// The SHA-256 of it, in hex; none if it could not be read.
    pub digest: Option<Arc<str>>,
    /// Why.
    pub reason: Arc<str>,
    /// When.
    pub at: Instant,
}

/// Counters of one component, of all its versions on all workers. Each is right by itself; together they may be a call apart.
///
/// Every call is counted in the [`Tally`] of the instance that it is made on, so that workers write nothing in common. The
/// tallies of instances that are gone are kept as a sum.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    tallies: Mutex<Tallies>,
    faults: [AtomicU64; Fault::ALL.len()],
    skipped: AtomicU64,
    instances: AtomicUsize,
}

#[derive(Debug, Default)]
struct Tallies {
    open: Vec<Arc<Tally>>,
    closed: Tally,
}

impl Tallies {
    fn sum(&self, number: impl Fn(&Tally) -> &AtomicU64) -> u64 {
        self.open.iter().map(|tally| &**tally).chain([&self.closed]).map(|tally| number(tally).load(Relaxed)).sum()
    }
}

/// The calls of one instance. Only one thread may count in it at a time. Aligned, so that it has a cache line for itself.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Tally {
    calls: AtomicU64,
    nanos: AtomicU64,
}

impl Tally {
    pub(crate) fn called(&self, took: Duration) {
        self.add(1, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn add(&self, calls: u64, nanos: u64) {
        self.calls.store(self.calls.load(Relaxed) + calls, Relaxed);
        self.nanos.store(self.nanos.load(Relaxed).saturating_add(nanos), Relaxed);
    }
}

impl Meters {
    /// A call has ended that was made on no instance with a tally.
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
        tallies.closed.add(tally.calls.load(Relaxed), tally.nanos.load(Relaxed));
        drop(tallies);
        self.stopped();
    }

    /// False: there are as many as there may be.
    pub(crate) fn try_started(&self, most: usize) -> bool {
        let more = |instances| (instances < most).then_some(instances + 1);
        self.instances.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    pub(crate) fn stopped(&self) {
        self.instances.fetch_sub(1, Relaxed);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.tallies().sum(|tally| &tally.calls)
    }

    pub(crate) fn call_time(&self) -> Duration {
        Duration::from_nanos(self.tallies().sum(|tally| &tally.nanos))
    }

    pub(crate) fn faults(&self) -> Vec<(Fault, u64)> {
        Fault::ALL.into_iter().map(|fault| (fault, self.faults[fault as usize].load(Relaxed))).collect()
    }

    pub(crate) fn skips(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    pub(crate) fn instances(&self) -> usize {
        self.instances.load(Relaxed)
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
        first.called(Duration::from_nanos(1));
        first.called(Duration::from_nanos(2));
        second.called(Duration::from_nanos(4));
        meters.called(Duration::from_nanos(8));
        assert_eq!((meters.calls(), meters.call_time(), meters.instances()), (4, Duration::from_nanos(15), 2));
        meters.ended(&first);
        assert_eq!((meters.calls(), meters.call_time(), meters.instances()), (4, Duration::from_nanos(15), 1));
        second.called(Duration::from_nanos(16));
        meters.ended(&second);
        assert_eq!((meters.calls(), meters.call_time(), meters.instances()), (5, Duration::from_nanos(31), 0));
    }
}
