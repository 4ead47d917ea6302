//! Instances: a guest with its memory, kept by the worker that made it and used for one call at a
//! time.
//!
//! A worker keeps one instance per component and takes it out while it calls it, so a call that
//! fails simply does not put it back: the guest's state is gone, and nothing of it can reach a
//! later call. Calls are synchronous; no instance is ever held across an await. (Those that handle
//! HTTP requests are elsewhere: [`http`](mod@crate::http).) An instance is also dropped when its
//! version was replaced, when it has met its memory limit, and after a number of calls or above a
//! mark of memory, because some languages' heaps only grow.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::component::ResourceTable;
use wasmtime::{Store, Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use crate::component::{Guest, Version};
use crate::config::Isolation;
use crate::fault::{Failure, TooManyCalls};
use crate::http::{Context as HttpContext, Outgoing};
use crate::limits::Limits;
use crate::status::{Meters, Tally};
use crate::wasi::{self, Console};

/// Streams and the like that a guest may hold at once.
pub(crate) const RESOURCES: usize = 256;

thread_local! {
    /// The worker's instances, at most one of a component. A handful, so a list.
    static INSTANCES: RefCell<Vec<Instance>> = const { RefCell::new(Vec::new()) };
}

/// Takes out this thread's instance of the component with these meters, unless it is of a version
/// that was replaced.
pub(crate) fn take(meters: &Arc<Meters>) -> Option<Instance> {
    INSTANCES.with_borrow_mut(|instances| {
        let index = instances
            .iter()
            .position(|instance| Arc::ptr_eq(instance.version().meters(), meters))?;
        Some(instances.swap_remove(index)).filter(|instance| !instance.version().is_retired())
    })
}

/// Keeps an instance for this thread's next call.
pub(crate) fn put(instance: Instance) {
    INSTANCES.with_borrow_mut(|instances| instances.push(instance));
}

/// Whether this thread has an instance of the component with these meters.
pub(crate) fn has(meters: &Arc<Meters>) -> bool {
    INSTANCES.with_borrow(|instances| {
        instances.iter().any(|instance| Arc::ptr_eq(instance.version().meters(), meters))
    })
}

/// Drops this thread's instances of versions that were replaced.
pub(crate) fn drop_stale() {
    INSTANCES
        .with_borrow_mut(|instances| instances.retain(|instance| !instance.version().is_retired()));
}

/// What a store holds beside the guest.
pub(crate) struct State {
    version: Arc<Version>,
    limits: Limits,
    wasi: WasiCtx,
    resources: ResourceTable,
    http: HttpContext,
    console: Console,
    clock: CallClock,
    /// Calls of the host's functions, in the call under way.
    host_calls: u32,
}

impl State {
    pub(crate) fn version(&self) -> &Version {
        &self.version
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// The guest calls a function of the contract.
    ///
    /// # Errors
    /// It has called the host too often in this call.
    pub(crate) fn count_call(&mut self) -> Result<(), TooManyCalls> {
        self.host_calls = self.host_calls.saturating_add(1);
        self.check_calls()
    }

    fn check_calls(&self) -> Result<(), TooManyCalls> {
        let limit = self.version.config().host_calls;
        if self.host_calls > limit { Err(TooManyCalls(limit)) } else { Ok(()) }
    }

    /// An epoch has ended, and the guest still runs.
    fn look(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.check_calls()?;
        self.clock.look()
    }

    /// How long the guest may run this time.
    pub(crate) fn limit(&self) -> Duration {
        self.clock.limit
    }

    /// An epoch has ended, and the guest still runs, whose time is counted elsewhere, and is all
    /// that bounds its calls of the host: one that sends a long body makes many.
    pub(crate) fn looked_elsewhere(&mut self, limit: Duration) {
        self.clock.limit = limit;
        self.host_calls = 0;
    }

    /// How much of a response body the guest may see.
    pub(crate) fn peek_bytes(&self) -> usize {
        self.version.config().peek().map_or(0, |peek| peek.bytes)
    }
}

impl WasiView for State {
    /// Every function of WASI begins here, and can't be refused here: one call too many is found
    /// out when an epoch ends.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.host_calls = self.host_calls.saturating_add(1);
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let HttpContext { limits, outgoing } = &mut self.http;
        WasiHttpCtxView { hooks: outgoing, table: &mut self.resources, ctx: limits }
    }
}

/// How long a call runs, in processor time of its thread: a guest is not to blame for what the
/// system gives to others meanwhile, and a container that has used up its quota stands still for
/// longer than most calls may take.
///
/// Reading that clock is a system call, which no usual call pays for: it is read first when an
/// epoch ends during the call.
struct CallClock {
    limit: Duration,
    seen: Option<Duration>,
}

impl CallClock {
    fn new(limit: Duration) -> Self {
        Self { limit, seen: None }
    }

    /// An epoch has ended, and the guest still runs.
    fn look(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let now = thread_time();
        let first = *self.seen.get_or_insert(now);
        if now.saturating_sub(first) >= self.limit {
            return Err(Trap::Interrupt.into());
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

/// Processor time that this thread has used.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// A place for one instance of `version`, within all its bounds but that on its time, which is for
/// the caller to keep.
pub(crate) fn store(
    version: &Arc<Version>,
    limit: Duration,
    console: Console,
    http: HttpContext,
) -> Store<State> {
    let config = version.config();
    let mut resources = ResourceTable::new();
    resources.set_max_capacity(RESOURCES);
    let state = State {
        version: version.clone(),
        limits: Limits::new(config),
        wasi: wasi::context(&console, &config.grant),
        resources,
        http,
        console,
        clock: CallClock::new(limit),
        host_calls: 0,
    };
    let mut store = Store::new(version.runtime().engine(), state);
    store.limiter(|state| &mut state.limits);
    store.set_hostcall_fuel(config.hostcall_bytes());
    store.set_epoch_deadline(1);
    store
}

/// A guest that can be called.
pub(crate) struct Instance {
    store: Store<State>,
    guest: Guest,
    calls: u64,
    tally: Arc<Tally>,
}

impl Instance {
    /// A fresh one, if the guest has started within `limit`.
    ///
    /// # Errors
    /// The guest trapped while it started, overran, asked for too much, or has an export of a wrong
    /// type.
    pub(crate) fn start(version: &Arc<Version>, limit: Duration) -> Result<Self, Failure> {
        let console = Console::new(version.config().log_lines);
        let http = HttpContext::new(Outgoing::none(&console));
        let mut store = store(version, limit, console, http);
        store.epoch_deadline_callback(|mut store| store.data_mut().look());
        let started = version.pre().instantiate(&mut store);
        match started.and_then(|instance| version.exports().load(&mut store, &instance)) {
            Ok(guest) => {
                let tally = version.meters().started();
                Ok(Self { store, guest, calls: 0, tally })
            }
            Err(error) => Err(Failure::of_start(&error, store.data())),
        }
    }

    pub(crate) fn version(&self) -> &Arc<Version> {
        &self.store.data().version
    }

    /// Where its calls are counted; it is for the caller to do.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// What the guest printed since the last time.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.store.data().console.take()
    }

    /// Calls the guest, for as long as its configuration lets it run.
    ///
    /// # Errors
    /// The call came to nothing. The instance must not be used again.
    pub(crate) fn call<A>(
        &mut self,
        question: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<A>,
    ) -> Result<A, Failure> {
        self.call_within(self.version().config().timeout.0, question)
    }

    /// Calls the guest, and lets it run for so long.
    ///
    /// # Errors
    /// The call came to nothing. The instance must not be used again.
    pub(crate) fn call_within<A>(
        &mut self,
        limit: Duration,
        question: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<A>,
    ) -> Result<A, Failure> {
        self.calls += 1;
        let state = self.store.data_mut();
        state.clock = CallClock::new(limit);
        state.host_calls = 0;
        self.store.set_epoch_deadline(1);
        question(&self.guest, &mut self.store)
            .map_err(|error| Failure::of_call(&error, self.store.data()))
    }

    /// Bytes of linear memory that it holds.
    pub(crate) fn memory(&self) -> usize {
        self.store.data().limits.memory()
    }

    /// Whether it is worth keeping for another call.
    pub(crate) fn is_reusable(&self) -> bool {
        let state = self.store.data();
        let config = state.version.config();
        config.isolation == Isolation::Reuse
            && self.calls < config.recycle_calls
            && state.limits.memory() <= config.recycle_memory()
            && state.limits.refused().is_none()
            && !state.version.is_retired()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.version().meters().ended(&self.tally);
    }
}
