//! Workers: threads that serve connections and share as little as possible.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fusebox_resilience::Observers;
use fusebox_wasm::Components;
use ipnet::IpNet;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::connection::{Accepted, serve};
use super::shutdown::{Shutdown, ShutdownPhase};
use crate::config::ListenerConfig;
use crate::handler::RequestHandler;
use crate::route::RouteTable;

/// How often unused upstream connections are checked.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// How long a worker may take to end after all its connections have been cut.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What all workers share.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) limits: ListenerConfig,
    pub(crate) observers: Observers,
    pub(crate) components: Components,
}

/// The load of a worker.
#[derive(Debug, Default)]
pub struct WorkerLoad {
    connections: AtomicUsize,
}

impl WorkerLoad {
    /// The number of its connections, with those on their way to it.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Counts a connection of a worker until it is dropped.
#[derive(Debug)]
struct CountedConnection(Arc<WorkerLoad>);

impl CountedConnection {
    fn new(load: &Arc<WorkerLoad>) -> Self {
        load.connections.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for CountedConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Workers(Vec<WorkerThread>);

#[derive(Debug)]
struct WorkerThread {
    connections: mpsc::UnboundedSender<(Accepted, CountedConnection)>,
    load: Arc<WorkerLoad>,
    phase: watch::Sender<ShutdownPhase>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts the workers. Returns when all are ready.
    pub(super) fn start(count: usize, shared: &Arc<WorkerContext>) -> io::Result<Self> {
        (0..count)
            .map(|index| WorkerThread::start(index, shared.clone()))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    pub(super) fn loads(&self) -> Vec<Arc<WorkerLoad>> {
        self.0.iter().map(|worker| worker.load.clone()).collect()
    }

    /// Gives a connection to the worker with the fewest.
    pub(super) fn give(&self, accepted: Accepted) {
        let Some(worker) = self.0.iter().min_by_key(|worker| worker.load.connections()) else {
            return;
        };
        // Workers end after their connections, so this one is there.
        worker.connections.send((accepted, CountedConnection::new(&worker.load))).ok();
    }

    /// Ends all connections: those with a call in flight after the call, or after `limit`, or once
    /// `hurry` is ready. Returns how many were cut.
    pub(super) async fn drain(self, limit: Duration, hurry: impl Future<Output = ()>) -> usize {
        let enter = |phases: &[watch::Sender<ShutdownPhase>], phase| {
            for sender in phases {
                sender.send_replace(phase);
            }
        };
        let (mut loads, mut phases, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        // A worker ends once the sender of connections is dropped and all connections have ended.
        for WorkerThread { load, phase, thread, connections: _ } in self.0 {
            loads.push(load);
            phases.push(phase);
            threads.push(thread);
        }
        enter(&phases, ShutdownPhase::Draining);
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().for_each(|thread| drop(thread.join()))
        });
        let mut joined = std::pin::pin!(joined);
        tokio::select! {
            _ = joined.as_mut() => return 0,
            () = sleep(limit) => {}
            () = hurry => {}
        }
        let cut = loads.iter().map(|load| load.connections()).sum();
        enter(&phases, ShutdownPhase::Ended);
        // A worker that still runs then is blocked in a guest or in the kernel, and ends with the
        // process.
        timeout(LAST_WAIT, joined).await.ok();
        cut
    }
}

impl WorkerThread {
    fn start(index: usize, shared: Arc<WorkerContext>) -> io::Result<Self> {
        // Bounded by the number of places for connections.
        let (connections, receiver) = mpsc::unbounded_channel();
        let (phase, phases) = watch::channel(ShutdownPhase::Serving);
        let (ready, started) = std::sync::mpsc::channel();
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let runtime =
                Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            ready.send(Ok(())).ok();
            work(&runtime, &shared, receiver, phases);
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { connections, load: Arc::default(), phase, thread })
    }
}

fn work(
    runtime: &LocalRuntime,
    shared: &Arc<WorkerContext>,
    mut connections: mpsc::UnboundedReceiver<(Accepted, CountedConnection)>,
    phase: watch::Receiver<ShutdownPhase>,
) {
    runtime.block_on(async {
        let handler = Rc::new(RequestHandler::new(
            shared.routes.clone(),
            &shared.limits,
            shared.observers.unshared(),
        ));
        tokio::task::spawn_local(refresh_instances(shared.components.clone()));
        tokio::task::spawn_local(reap(handler.clone()));
        let trusted: Rc<[IpNet]> = shared.limits.trusted.as_slice().into();
        let shutdown = Rc::new(Shutdown::default());
        tokio::task::spawn_local(shutdown.clone().follow(phase));
        // Each connection has a clone; when all clones are dropped, all connections have ended.
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        while let Some((accepted, counted)) = connections.recv().await {
            let (handler, shutdown) = (handler.clone(), shutdown.clone());
            let (shared, trusted, alive) = (shared.clone(), trusted.clone(), alive.clone());
            tokio::task::spawn_local(async move {
                serve(accepted, handler, &shared.limits, &trusted, shutdown).await;
                drop((counted, alive));
            });
        }
        drop(alive);
        all_gone.recv().await;
    });
}

/// After each swap, drops the old instance and makes the new one, so that the next call need not
/// wait for it.
async fn refresh_instances(components: Components) {
    let mut changes = components.changed();
    loop {
        components.refresh_instances();
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn reap(handler: Rc<RequestHandler>) {
    let mut ticks = interval(REAP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        handler.reap();
    }
}
