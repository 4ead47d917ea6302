//! The runtime that all components of one configuration share: an engine, the functions that guests
//! may import, and the ticker that lets running guests be cut off.
//!
//! It exists only if a component is configured, and for as long as one can still be called; the
//! ticker's thread is joined when it goes. Instances are allocated on demand, not from a pool: a
//! worker keeps and reuses one per component, so instantiation (some 30 µs) happens at start, after
//! a fault and after a swap, and a pool would only reserve memory. Compiling uses one thread:
//! wasmtime's feature for more is left out, so that the other cores stay with the workers.

use std::fmt;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Engine};
use wasmtime_wasi::p2::add_to_linker_async;
use wasmtime_wasi_config::WasiConfig;
use wasmtime_wasi_http::p2::add_only_http_to_linker_async;

use crate::bindings;
use crate::compiler::Compiler;
use crate::instances::State;
use crate::wasi;

/// How often the ticker wakes: half the shortest timeout, within these bounds. A guest that
/// overruns is found out by the first tick and cut off by one after its timeout, so it has up to
/// twice its timeout. Waking costs up to 40 µs on a virtual machine: with the default timeout of 10
/// ms some 0.8 % of a core, always.
const SHORTEST_TICK: Duration = Duration::from_millis(1);
const LONGEST_TICK: Duration = Duration::from_millis(100);

/// An engine with its imports and its ticker.
pub(crate) struct Runtime {
    engine: Engine,
    compiler: Compiler,
    linker: Linker<State>,
    http_linker: Linker<State>,
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
        let tick = (shortest_timeout / 2).clamp(SHORTEST_TICK, LONGEST_TICK);
        let ticker = Ticker::start(engine.clone(), tick).context("thread that cuts guests off")?;
        Ok(Self { engine, compiler, linker, http_linker, _ticker: ticker })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// For guests that must not wait.
    pub(crate) fn linker(&self) -> &Linker<State> {
        &self.linker
    }

    /// For guests that may.
    pub(crate) fn http_linker(&self) -> &Linker<State> {
        &self.http_linker
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// The settings of every engine: code that one made runs in another only if they agree.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        // A call costs three times as much with it, and nothing here is concurrent: an instance has
        // one call at a time.
        .concurrency_support(false)
        .epoch_interruption(true)
        // Guests are stripped as a rule, and their panic messages say more than frames without
        // names.
        .wasm_backtrace_max_frames(None);
    config
}

/// The contract, the settings as `wasi:config` has them too, WASI as `add_wasi` adds it, and
/// `wasi:http`, in which nothing waits: it hands out streams and pollables.
fn linker(
    engine: &Engine,
    add_wasi: impl FnOnce(&mut Linker<State>) -> wasmtime::Result<()>,
) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    bindings::Policy::add_to_linker::<State, HasSelf<State>>(&mut linker, |state| state)?;
    add_wasi(&mut linker)?;
    wasmtime_wasi_config::add_to_linker(&mut linker, |state: &mut State| {
        WasiConfig::new(state.version().settings())
    })?;
    add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

/// wasmtime's error as ours, the chain kept.
pub(crate) fn anyhow_of(error: wasmtime::Error) -> anyhow::Error {
    anyhow::Error::from_boxed(error.into_boxed_dyn_error())
}

/// Counts epochs; dropping it ends the thread.
struct Ticker {
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine, tick: Duration) -> std::io::Result<Self> {
        let (running, stopped) = channel::<()>();
        let thread = thread::Builder::new().name("fusebox-epochs".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(tick) {
                engine.increment_epoch();
            }
        })?;
        Ok(Self { running: Some(running), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.running = None;
        if let Some(thread) = self.thread.take() {
            // It can't have panicked: it does nothing but count.
            let _ = thread.join();
        }
    }
}
