//! Instances: a guest with its memory, used for one call at a time.
//!
//! Calls are synchronous; no instance is ever held across an await. (Those that handle HTTP
//! requests are elsewhere: [`http`](mod@crate::http).) An instance is dropped when its version was
//! replaced, when it has met its memory limit, and after a number of calls or above a mark of
//! memory, because some languages' heaps only grow.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::Store;

use crate::config::Isolation;
use crate::exports::ContractGuest;
use crate::fault::GuestFailure;
use crate::http::outgoing::Outgoing;
use crate::meters::Tally;
use crate::store::{HostState, new_store};
use crate::thread_time::CallClock;
use crate::version::Version;
use crate::wasi::console::Console;

/// A guest that can be called.
pub(crate) struct Instance {
    version: Arc<Version>,
    store: Store<HostState>,
    guest: ContractGuest,
    calls: u64,
    last_call: Instant,
    memory_at_start: usize,
    tally: Arc<Tally>,
}

impl Instance {
    /// Starts a fresh one within `limit`.
    ///
    /// # Errors
    /// The guest trapped while it started, overran, asked for too much, or has an export of a wrong
    /// type.
    pub(crate) fn start(version: &Arc<Version>, limit: Duration) -> Result<Self, GuestFailure> {
        let bounds = version.bounds();
        let console = Console::new(bounds.log_lines);
        let outgoing = Outgoing::none(&console);
        let (engine, clock) = (version.runtime().engine(), CallClock::new(limit));
        let most_calls = Some(bounds.host_calls);
        let mut store =
            new_store(engine, bounds, version.open_memory(), clock, most_calls, console, outgoing);
        store.epoch_deadline_callback(|mut store| store.data_mut().look());
        let started = version.pre().instantiate(&mut store);
        match started.and_then(|instance| version.exports().load(&mut store, &instance)) {
            Ok(guest) => {
                let tally = version.meters().started();
                let memory_at_start = store.data().limiter().memory();
                Ok(Self {
                    version: version.clone(),
                    store,
                    guest,
                    calls: 0,
                    last_call: Instant::now(),
                    memory_at_start,
                    tally,
                })
            }
            Err(error) => Err(GuestFailure::of_start(&error, store.data())),
        }
    }

    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// Where the caller counts its calls.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes what the guest printed since the last time.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.store.data().console().take()
    }

    /// Calls the guest within its configured `timeout`.
    ///
    /// # Errors
    /// The call failed. The instance must not be used again.
    pub(crate) fn call<A>(
        &mut self,
        question: impl FnOnce(&ContractGuest, &mut Store<HostState>) -> wasmtime::Result<A>,
    ) -> Result<A, GuestFailure> {
        self.call_within(self.version.config().timeout.0, question)
    }

    /// Calls the guest within `limit`.
    ///
    /// # Errors
    /// The call failed. The instance must not be used again.
    pub(crate) fn call_within<A>(
        &mut self,
        limit: Duration,
        question: impl FnOnce(&ContractGuest, &mut Store<HostState>) -> wasmtime::Result<A>,
    ) -> Result<A, GuestFailure> {
        self.calls += 1;
        self.store.data_mut().begin_call(limit);
        self.store.set_epoch_deadline(1);
        question(&self.guest, &mut self.store)
            .map_err(|error| GuestFailure::of_call(&error, self.store.data()))
    }

    /// Bytes of linear memory that it holds.
    #[cfg(feature = "author")]
    pub(crate) fn memory(&self) -> usize {
        self.store.data().limiter().memory()
    }

    /// A call of it began at this time.
    pub(crate) fn called_at(&mut self, began: Instant) {
        self.last_call = began;
    }

    pub(crate) fn last_call(&self) -> Instant {
        self.last_call
    }

    /// Whether it holds more memory than a fresh one.
    pub(crate) fn has_grown(&self) -> bool {
        self.store.data().limiter().memory() > self.memory_at_start
    }

    /// Whether it may be kept for another call.
    pub(crate) fn is_reusable(&self) -> bool {
        let (limiter, config) = (self.store.data().limiter(), self.version.config());
        config.isolation == Isolation::Reuse
            && self.calls < config.recycle_calls
            && limiter.memory() <= config.recycle_memory()
            && limiter.refused().is_none()
            && !self.version.is_retired()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.version.meters().ended(&self.tally);
    }
}
