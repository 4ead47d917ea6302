//! What a component has done so far, for `/state` and `/metrics`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use fusebox_resilience::Fault;

/// A component as it is now. Its numbers count from its first version on.
#[derive(Clone, Debug)]
pub struct ComponentStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its file.
    pub file: PathBuf,
    /// The SHA-256 of the version in use, in hex.
    pub digest: Arc<str>,
    /// Counts the versions, from 1.
    pub generation: u64,
    /// Whether it answers `handle-if`.
    pub is_predicate: bool,
    /// Whether it makes fallback responses.
    pub is_fallback: bool,
    /// Calls into it that have ended, however they ended.
    pub calls: u64,
    /// What they took in all.
    pub call_time: Duration,
    /// How many calls failed, and starts, by how they did; every kind once.
    pub faults: Vec<(Fault, u64)>,
    /// Instances that workers keep.
    pub instances: usize,
}

/// Counters of one component, shared by all workers and versions. Each is right by itself; together they may be a call apart.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    calls: AtomicU64,
    nanos: AtomicU64,
    faults: [AtomicU64; FAULTS.len()],
    instances: AtomicUsize,
}

const FAULTS: [Fault; 6] =
    [Fault::Trap, Fault::Timeout, Fault::Memory, Fault::Misuse, Fault::BadAnswer, Fault::Instantiation];

/// Its place in [`FAULTS`]. A new kind does not compile until it has one.
fn index(fault: Fault) -> usize {
    match fault {
        Fault::Trap => 0,
        Fault::Timeout => 1,
        Fault::Memory => 2,
        Fault::Misuse => 3,
        Fault::BadAnswer => 4,
        Fault::Instantiation => 5,
    }
}

impl Meters {
    pub(crate) fn called(&self, took: Duration) {
        self.calls.fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn faulted(&self, fault: Fault) {
        self.faults[index(fault)].fetch_add(1, Relaxed);
    }

    pub(crate) fn started(&self) {
        self.instances.fetch_add(1, Relaxed);
    }

    pub(crate) fn stopped(&self) {
        self.instances.fetch_sub(1, Relaxed);
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Relaxed)
    }

    pub(crate) fn call_time(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Relaxed))
    }

    pub(crate) fn faults(&self) -> Vec<(Fault, u64)> {
        FAULTS.into_iter().map(|fault| (fault, self.faults[index(fault)].load(Relaxed))).collect()
    }

    pub(crate) fn instances(&self) -> usize {
        self.instances.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_has_a_place_of_its_own() {
        for (place, fault) in FAULTS.into_iter().enumerate() {
            assert_eq!(index(fault), place);
        }
    }
}
