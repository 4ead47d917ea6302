//! The part of whoever fills: others find the fill until this is dropped.

use std::rc::Rc;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};
use tokio::time::Instant;

use super::fill::{Fill, SharedFailure};
use super::kept::KeptResponse;
use super::key::CacheKey;
use super::shared::CacheHandle;
use super::store::CacheLookup;

/// Who fills. Dropped before it has said what others get, it leaves the fill to one of them.
#[derive(Debug)]
pub(super) struct FillLead {
    cache: Rc<CacheHandle>,
    fill: Arc<Fill>,
    found: CacheLookup,
    /// The keys under which others find the fill.
    keys: SmallVec<[CacheKey; 1]>,
    has_answered: bool,
}

impl FillLead {
    /// Of a fill that others find.
    pub(super) fn of(cache: &Rc<CacheHandle>, fill: Arc<Fill>, found: CacheLookup) -> Self {
        let keys = smallvec![found.key.clone()];
        Self { cache: cache.clone(), fill, found, keys, has_answered: false }
    }

    /// Of one that nobody else knows of.
    pub(super) fn alone(cache: &Rc<CacheHandle>, found: CacheLookup) -> Self {
        let (cache, keys) = (cache.clone(), SmallVec::new());
        Self { cache, fill: Arc::default(), found, keys, has_answered: false }
    }

    pub(super) fn fill(&self) -> &Arc<Fill> {
        &self.fill
    }

    /// What was found before it began.
    pub(super) fn found(&self) -> &CacheLookup {
        &self.found
    }

    pub(super) fn cache(&self) -> &Rc<CacheHandle> {
        &self.cache
    }

    /// Others find it under this key from now on, and nowhere else.
    pub(super) fn move_to(&mut self, key: &CacheKey) {
        if self.keys.is_empty() || self.keys.contains(key) {
            return;
        }
        self.cache.store.register(key, &self.fill);
        let before = std::mem::replace(&mut self.keys, smallvec![key.clone()]);
        for key in &before {
            self.cache.store.end(key, &self.fill);
        }
    }

    /// The answer is not for others, who need not wait for the next one either, for a while.
    pub(super) fn set_apart(mut self, now: Instant) {
        self.cache.store.set_apart(&self.found.key, now);
        self.answer(Fill::keep_apart);
    }

    /// The answer is not for others.
    pub(super) fn keep_apart(mut self) {
        self.answer(Fill::keep_apart);
    }

    /// Others get the same failure.
    pub(super) fn fail(mut self, failure: SharedFailure) {
        self.answer(|fill| fill.fail(failure));
    }

    /// Others get what stands for the failure.
    pub(super) fn stand_in(mut self, response: &Arc<KeptResponse>) {
        self.answer(|fill| fill.stand_in(response.clone()));
    }

    /// Others get this.
    pub(super) fn complete(mut self, response: &Arc<KeptResponse>, is_validated: bool) {
        self.answer(|fill| fill.complete(response.clone(), is_validated));
    }

    /// Others get a body as it comes; it is said elsewhere how that ends.
    pub(super) fn answer(&mut self, say: impl FnOnce(&Fill)) {
        self.has_answered = true;
        say(&self.fill);
    }
}

impl Drop for FillLead {
    fn drop(&mut self) {
        for key in &self.keys {
            self.cache.store.end(key, &self.fill);
        }
        if !self.has_answered {
            self.fill.abandon();
        }
    }
}
