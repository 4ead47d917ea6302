//! A cache as all workers share it.

use std::sync::Arc;
use std::time::Duration;

use super::rules::Defaults;
use super::store::CacheStore;
use crate::call::Call;
use crate::condition::Condition;
use crate::config::ConfigSize;
use crate::key::{CallKey, KeyValues};
use crate::keyer::KeyQuestion;
use crate::scope::Scope;
use crate::worker::WorkerHandle;

/// A worker's own handle of it.
pub(super) type CacheHandle = WorkerHandle<SharedCache>;

/// A cache: its settings, and what it keeps.
#[derive(Debug)]
pub(super) struct SharedCache {
    pub(super) name: Arc<str>,
    /// What its keys have beside host, path and query.
    pub(super) key: Option<CallKey>,
    pub(super) handle_if: Condition,
    pub(super) defaults: Defaults,
    /// What it takes in all, and for one response.
    pub(super) max_size: ConfigSize,
    pub(super) max_entry: usize,
    pub(super) collapse_wait: Duration,
    pub(super) store: CacheStore,
}

impl SharedCache {
    /// What this call's keys have beside host, path and query.
    pub(super) fn key_values<'a>(&'a self, call: &'a Call, scope: &Scope<'_>) -> KeyValues<'a> {
        let of =
            |key: &'a CallKey| key.values(&KeyQuestion::of(call, &self.name, scope.deadline(call)));
        self.key.as_ref().map(of).unwrap_or_default()
    }
}
