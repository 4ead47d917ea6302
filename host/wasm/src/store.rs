//! The host's data for one instance of a guest.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, Trap, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bounds::Bounds;
use crate::errors::TooManyCalls;
use crate::http::outgoing::Outgoing;
use crate::limits::InstanceLimiter;
use crate::memory::MemoryAccount;
use crate::thread_time::CallClock;
use crate::wasi::console::Console;
use crate::wasi::context::context;

/// Streams and the like that a guest may hold at once.
pub(crate) const RESOURCES: usize = 256;

/// The data of a store.
pub(crate) struct HostState {
    bounds: Arc<Bounds>,
    limiter: InstanceLimiter,
    wasi: WasiCtx,
    resources: ResourceTable,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    console: Console,
    clock: CallClock,
    /// Calls of the host's functions, in the call under way.
    host_calls: u32,
    /// `None`: calls of the host are limited by the guest's time only.
    most_host_calls: Option<u32>,
}

/// A store for one instance within `bounds`. The caller enforces the limit on its time.
pub(crate) fn new_store(
    engine: &Engine,
    bounds: &Arc<Bounds>,
    memory: MemoryAccount,
    clock: CallClock,
    most_host_calls: Option<u32>,
    console: Console,
    outgoing: Outgoing,
) -> Store<HostState> {
    let mut resources = ResourceTable::new();
    resources.set_max_capacity(RESOURCES);
    let state = HostState {
        bounds: bounds.clone(),
        limiter: InstanceLimiter::new(bounds, memory),
        wasi: context(&console, &bounds.grants),
        resources,
        http: WasiHttpCtx::new(),
        outgoing,
        console,
        clock,
        host_calls: 0,
        most_host_calls,
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(bounds.hostcall_fuel());
    store.set_epoch_deadline(1);
    store
}

impl HostState {
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(crate) fn limiter(&self) -> &InstanceLimiter {
        &self.limiter
    }

    pub(crate) fn console(&self) -> &Console {
        &self.console
    }

    /// A call begins that may take so long.
    pub(crate) fn begin_call(&mut self, limit: Duration) {
        self.clock = CallClock::new(limit);
        self.host_calls = 0;
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
        match self.most_host_calls {
            Some(most) if self.host_calls > most => Err(TooManyCalls(most)),
            _ => Ok(()),
        }
    }

    /// An epoch has ended, and the guest still runs.
    ///
    /// # Errors
    /// Its time is up, it has called the host too often, or its version is not wanted any more.
    pub(crate) fn look(&mut self) -> wasmtime::Result<UpdateDeadline> {
        self.check_calls()?;
        if self.bounds.overtaken.is_set() {
            return Err(Trap::Interrupt.into());
        }
        self.clock.look()
    }

    /// How long the guest may run this time.
    pub(crate) fn time_limit(&self) -> Duration {
        self.clock.limit
    }

    /// Sets the limit that is reported, for guests whose time is counted elsewhere.
    pub(crate) fn set_time_limit(&mut self, limit: Duration) {
        self.clock.limit = limit;
    }
}

impl WasiView for HostState {
    /// Every function of WASI begins here, and can't be refused here: one call too many is found
    /// out when an epoch ends.
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.host_calls = self.host_calls.saturating_add(1);
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.resources }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outgoing,
            table: &mut self.resources,
            ctx: &mut self.http,
        }
    }
}
