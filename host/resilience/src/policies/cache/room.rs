//! The room for bodies that are on their way into the cache, of all workers together.

use crate::sync::atomic::{AtomicUsize, Ordering};

/// How much of it there is, and is taken, in bytes.
#[derive(Debug)]
pub(super) struct FillRoom {
    bytes: usize,
    taken: AtomicUsize,
}

impl FillRoom {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, taken: AtomicUsize::new(0) }
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes more, if there is so much left.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let more = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.bytes);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives some back.
    pub(super) fn give_back(&self, bytes: usize) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}
