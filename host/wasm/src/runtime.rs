//! The runtime that all components of one configuration share: an engine, the functions that guests
//! may import, and the ticker that lets running guests be cut off.
//!
//! It exists only if a component is configured, and for as long as one can still be called; the
//! ticker's thread is joined when it goes. Instances are allocated on demand, not from a pool: a
//! worker keeps and reuses one per component, so instantiation (some 30 µs) happens at start, after
//! a fault and after a swap, and a pool would only reserve memory. Compiling uses one thread:
//! wasmtime's feature for more is left out, so that the other cores stay with the workers.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::p2::add_to_linker_async;
use wasmtime_wasi_config::WasiConfig;
use wasmtime_wasi_http::p2::add_only_http_to_linker_async;

use crate::bindings;
use crate::compiler::Compiler;
use crate::engine::{anyhow_of, config};
use crate::memory::ComponentMemory;
use crate::store::HostState;
use crate::ticker::Ticker;
use crate::wasi;

/// An engine with its imports and its ticker.
pub(crate) struct Runtime {
    engine: Engine,
    compiler: Compiler,
    memory: ComponentMemory,
    linker: Linker<HostState>,
    http_linker: Linker<HostState>,
    _ticker: Ticker,
}

impl Runtime {
    /// Starts a ticker that can keep `shortest_timeout`. Guests may use `stack` bytes of the thread
    /// that calls them, which the workers' 2 MiB leave room for.
    ///
    /// # Errors
    /// The host has no executable memory or no thread to give, or the imports contradict each
    /// other.
    pub(crate) fn new(
        compiler: Compiler,
        memory: ComponentMemory,
        shortest_timeout: Duration,
        stack: usize,
    ) -> anyhow::Result<Self> {
        // The code is the same for every stack.
        let engine = Engine::new(config().max_wasm_stack(stack))
            .map_err(anyhow_of)
            .context("WebAssembly engine")?;
        let imports = "WebAssembly imports";
        let http_linker =
            linker(&engine, add_to_linker_async).map_err(anyhow_of).context(imports)?;
        let linker = linker(&engine, wasi::add_to_linker).map_err(anyhow_of).context(imports)?;
        let ticker = Ticker::start(engine.clone(), shortest_timeout)
            .context("thread that cuts guests off")?;
        Ok(Self { engine, compiler, memory, linker, http_linker, _ticker: ticker })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The bound for all guests.
    pub(crate) fn memory(&self) -> &ComponentMemory {
        &self.memory
    }

    /// For guests that must not wait.
    pub(crate) fn linker(&self) -> &Linker<HostState> {
        &self.linker
    }

    /// For guests that may.
    pub(crate) fn http_linker(&self) -> &Linker<HostState> {
        &self.http_linker
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// The contract, the settings as `wasi:config` has them too, WASI as `add_wasi` adds it, and
/// `wasi:http`, in which nothing waits: it hands out streams and pollables.
fn linker(
    engine: &Engine,
    add_wasi: impl FnOnce(&mut Linker<HostState>) -> wasmtime::Result<()>,
) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    bindings::Every::add_to_linker::<HostState, HasSelf<HostState>>(&mut linker, |state| state)?;
    add_wasi(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut HostState| {
        WasiConfig::new(&state.bounds().wasi_settings)
    })?;
    add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}
