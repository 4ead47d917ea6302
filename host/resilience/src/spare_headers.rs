//! Header maps of a worker that are used again.

use std::cell::RefCell;
use std::rc::Rc;

use http::HeaderMap;

/// The number of maps that are kept.
const KEPT: usize = 64;

/// Maps with more room are not kept: they need a hundred bytes per header.
const MOST_HEADERS: usize = 64;

/// Unused header maps: their memory takes as long to make as their headers to put in. Clones share
/// them.
#[derive(Clone, Debug, Default)]
pub struct SpareHeaders(Rc<RefCell<Vec<HeaderMap>>>);

impl SpareHeaders {
    /// An empty map.
    #[inline]
    pub fn take(&self) -> HeaderMap {
        self.0.borrow_mut().pop().unwrap_or_default()
    }

    /// Keeps the memory of a map; its headers are dropped.
    #[inline]
    pub fn put(&self, mut map: HeaderMap) {
        let mut spare = self.0.borrow_mut();
        if spare.len() < KEPT && (1..=MOST_HEADERS).contains(&map.capacity()) {
            map.clear();
            spare.push(map);
        }
    }

    /// Drops half of them. Called now and then, it leaves nothing of a burst.
    pub fn thin_out(&self) {
        let mut spare = self.0.borrow_mut();
        let half = spare.len() / 2;
        spare.truncate(half);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.borrow().len()
    }
}
