//! The part of the room for bodies under way that one of them takes.

use std::rc::Rc;

use super::shared::CacheHandle;

/// Room that one body takes, until this is dropped.
#[derive(Debug)]
pub(super) struct TakenRoom {
    cache: Rc<CacheHandle>,
    bytes: usize,
}

impl TakenRoom {
    /// None yet.
    pub(super) fn none(cache: &Rc<CacheHandle>) -> Self {
        Self { cache: cache.clone(), bytes: 0 }
    }

    /// Takes more, if there is so much left.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let is_taken = self.cache.store.room.take(bytes);
        if is_taken {
            self.bytes += bytes;
        }
        is_taken
    }
}

impl Drop for TakenRoom {
    fn drop(&mut self) {
        self.cache.store.room.give_back(self.bytes);
    }
}
