//! Which endpoints a call has tried, of upstreams that have several.

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

/// So many attempts are remembered, the latest.
const REMEMBERED: usize = 16;

/// In one word that is empty for most calls: their upstream has one endpoint.
#[derive(Debug, Default)]
pub(crate) struct TriedEndpoints(OnceCell<Box<RefCell<Vec<TriedEndpoint>>>>);

#[derive(Debug)]
struct TriedEndpoint {
    attempt: u32,
    /// A worker has one for each endpoint, so it tells them apart by its address.
    endpoint: Arc<str>,
}

impl TriedEndpoints {
    /// This attempt goes to this endpoint.
    pub(crate) fn add(&self, attempt: u32, endpoint: &Arc<str>) {
        let mut tried = self.0.get_or_init(Box::default).borrow_mut();
        if tried.len() == REMEMBERED {
            tried.remove(0);
        }
        tried.push(TriedEndpoint { attempt, endpoint: endpoint.clone() });
    }

    /// Whether an attempt went there.
    pub(crate) fn has(&self, endpoint: &Arc<str>) -> bool {
        let is_there = |tried: &TriedEndpoint| Arc::ptr_eq(&tried.endpoint, endpoint);
        self.0.get().is_some_and(|tried| tried.borrow().iter().any(is_there))
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.get().is_none()
    }

    /// Where this attempt went.
    pub(crate) fn of(&self, attempt: u32) -> Option<Arc<str>> {
        let tried = self.0.get()?.borrow();
        let tried = tried.iter().rev().find(|tried| tried.attempt == attempt)?;
        Some(tried.endpoint.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_attempts_are_remembered() {
        let tried = TriedEndpoints::default();
        let endpoints: Vec<Arc<str>> = (0..20).map(|_| Arc::from("http://b")).collect();
        assert!(tried.is_empty() && !tried.has(&endpoints[0]));
        for (attempt, endpoint) in (1..).zip(&endpoints) {
            tried.add(attempt, endpoint);
            assert!(tried.has(endpoint) && !tried.is_empty());
            assert!(Arc::ptr_eq(&tried.of(attempt).unwrap(), endpoint));
        }
        assert!(!tried.has(&endpoints[3]) && tried.has(&endpoints[4]));
        assert_eq!((tried.of(4), tried.of(5).is_some()), (None, true));
    }
}
