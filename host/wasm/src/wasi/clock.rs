//! `wasi:clocks/monotonic-clock`, with deadlines that can be looked at but not waited for.

use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

use super::io::NonBlocking;

/// The moment that guests count from: an arbitrary one, the same for all instances.
fn origin() -> Instant {
    static ORIGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    *ORIGIN
}

impl NonBlocking<'_> {
    fn subscribe_to(&mut self, deadline: Deadline) -> wasmtime::Result<Resource<DynPollable>> {
        let deadline = self.0.push(deadline)?;
        subscribe(self.0, deadline)
    }
}

impl monotonic_clock::Host for NonBlocking<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(origin().elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_to(Deadline(origin().checked_add(Duration::from_nanos(when))))
    }

    fn subscribe_duration(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.subscribe_to(Deadline(Instant::now().checked_add(Duration::from_nanos(when))))
    }
}

/// A moment; `None` is never reached.
struct Deadline(Option<Instant>);

#[async_trait]
impl Pollable for Deadline {
    /// Looked at once, never waited for, so it needs no timer.
    async fn ready(&mut self) {
        if self.0.is_none_or(|deadline| deadline > Instant::now()) {
            std::future::pending::<()>().await;
        }
    }
}
