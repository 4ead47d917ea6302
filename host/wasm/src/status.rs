//! What a component has done so far, for `/state` and `/metrics`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
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

/// Counters of one component, shared by all workers and versions. Each is right by itself; together they may be a call apart.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    calls: AtomicU64,
    nanos: AtomicU64,
    faults: [AtomicU64; Fault::ALL.len()],
    skipped: AtomicU64,
    instances: AtomicUsize,
}

impl Meters {
    pub(crate) fn called(&self, took: Duration) {
        self.calls.fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn faulted(&self, fault: Fault) {
        self.faults[fault as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn skipped(&self) {
        self.skipped.fetch_add(1, Relaxed);
    }

    pub(crate) fn started(&self) {
        self.instances.fetch_add(1, Relaxed);
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
        self.calls.load(Relaxed)
    }

    pub(crate) fn call_time(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Relaxed))
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
}
