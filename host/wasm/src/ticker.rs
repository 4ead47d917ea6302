//! The ticker: it ends epochs of the engine, so that running guests can be interrupted.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wasmtime::Engine;

/// How often the ticker wakes: half the shortest timeout, within these bounds. A guest that
/// overruns is noticed at the first tick and interrupted at the first one after its timeout, so it
/// gets up to twice its timeout. Waking costs up to 40 µs on a virtual machine: with the default
/// timeout of 10 ms some 0.8 % of a core, always.
const SHORTEST_TICK: Duration = Duration::from_millis(1);
const LONGEST_TICK: Duration = Duration::from_millis(100);

/// Counts epochs; dropping it ends the thread.
pub(crate) struct Ticker {
    running: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    /// Ticks often enough for `shortest_timeout`.
    pub(crate) fn start(engine: Engine, shortest_timeout: Duration) -> std::io::Result<Self> {
        let tick = (shortest_timeout / 2).clamp(SHORTEST_TICK, LONGEST_TICK);
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
