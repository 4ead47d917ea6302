//! What a worker has to bear, and whether it does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The load of a worker.
#[derive(Debug, Default)]
pub struct WorkerLoad {
    connections: AtomicUsize,
    beats: AtomicU64,
    is_stalled: AtomicBool,
}

impl WorkerLoad {
    /// The number of its connections, with those on their way to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether something has blocked it for too long.
    pub fn is_stalled(&self) -> bool {
        self.is_stalled.load(Ordering::Relaxed)
    }

    pub(super) fn set_stalled(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
    }

    /// The worker says that nothing blocks it.
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn beats(&self) -> u64 {
        self.beats.load(Ordering::Relaxed)
    }
}

/// Counts a connection of a worker until it is dropped.
#[derive(Debug)]
pub(super) struct CountedConnection(Arc<WorkerLoad>);

impl CountedConnection {
    pub(super) fn new(load: &Arc<WorkerLoad>) -> Self {
        load.connections.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
