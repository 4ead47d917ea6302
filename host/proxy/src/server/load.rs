//! What the server and each worker have to bear, and whether they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::time::{Duration, Instant};

use super::places::ConnectionPlaces;
use crate::handler::CallPlaces;

/// The load of the server.
#[derive(Clone, Debug)]
pub struct ServerLoad {
    /// That of each worker.
    pub workers: Vec<Arc<WorkerLoad>>,
    /// The places for connections.
    pub places: Arc<ConnectionPlaces>,
    /// The places for calls. `None`: there may be any number.
    pub(crate) calls: Option<Arc<CallPlaces>>,
}

impl ServerLoad {
    /// Whether a client that came now would have to wait for a place.
    pub fn is_full(&self) -> bool {
        self.places.taken() == self.places.count()
            && self.workers.iter().all(|worker| worker.idle_since().is_none())
    }
}

/// The load of a worker.
#[derive(Debug)]
pub struct WorkerLoad {
    connections: AtomicUsize,
    beats: AtomicU64,
    is_stalled: AtomicBool,
    began: Instant,
    /// In microseconds after `began`, and one more; 0 if none of its connections is idle.
    idle_since: AtomicU64,
    is_asked: AtomicBool,
}

impl Default for WorkerLoad {
    fn default() -> Self {
        Self {
            connections: AtomicUsize::default(),
            beats: AtomicU64::default(),
            is_stalled: AtomicBool::default(),
            began: Instant::now(),
            idle_since: AtomicU64::default(),
            is_asked: AtomicBool::default(),
        }
    }
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

    /// Since when the connection has been idle that has been so for longest, if one is.
    pub fn idle_since(&self) -> Option<Instant> {
        let micros = self.idle_since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.began + Duration::from_micros(micros))
    }

    /// The worker tells this whenever it changes, which may be twice for each request: a plain
    /// store.
    pub(super) fn set_idle_since(&self, since: Option<Instant>) {
        let micros = since.map_or(0, |since| {
            let after = since.saturating_duration_since(self.began);
            after.as_secs() * 1_000_000 + u64::from(after.subsec_micros()) + 1
        });
        self.idle_since.store(micros, Ordering::Relaxed);
    }

    /// Whether it is asked to make place, and what comes of that is not known yet.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.load(Ordering::Relaxed)
    }

    pub(super) fn set_asked(&self, is_asked: bool) {
        self.is_asked.store(is_asked, Ordering::Relaxed);
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
