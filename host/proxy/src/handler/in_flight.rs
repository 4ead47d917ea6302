//! The calls in flight of all workers together, where they have a limit.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// As many as there may be calls in flight.
#[derive(Debug)]
pub(crate) struct CallPlaces {
    count: usize,
    taken: AtomicUsize,
}

impl CallPlaces {
    pub(crate) fn new(count: usize) -> Self {
        Self { count, taken: AtomicUsize::new(0) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A worker's own handle: if each call cloned the shared one, workers would contend on its count.
#[derive(Debug)]
pub(super) struct CallPlacesHandle(Arc<CallPlaces>);

impl CallPlacesHandle {
    pub(super) fn new(places: Arc<CallPlaces>) -> Rc<Self> {
        Rc::new(Self(places))
    }

    /// `None`: all are taken.
    pub(super) fn take(self: &Rc<Self>) -> Option<CallPlace> {
        let CallPlaces { count, taken } = &*self.0;
        let one_more = |taken| if taken < *count { Some(taken + 1) } else { None };
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(CallPlace(self.clone()))
    }
}

/// The place of a call, until it is dropped.
#[derive(Debug)]
pub(super) struct CallPlace(Rc<CallPlacesHandle>);

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.0.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}
