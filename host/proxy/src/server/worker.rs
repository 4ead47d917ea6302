//! Workers: threads that serve connections, each with all that it needs for itself.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fusebox_resilience::Observers;
use fusebox_wasm::Components;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::connection::{Accepted, serve};
use super::course::{Course, Phase};
use crate::config::ListenerConfig;
use crate::handler::Handler;
use crate::route::RouteTable;

/// How often unused upstream connections are looked at.
const REAP_INTERVAL: Duration = Duration::from_secs(1);

/// How long a worker may take to notice that all its connections are cut.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// What every worker needs of the proxy.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) limits: ListenerConfig,
    pub(crate) observers: Observers,
    pub(crate) components: Components,
}

/// What a worker has to do.
#[derive(Debug, Default)]
pub struct WorkerLoad {
    connections: AtomicUsize,
}

impl WorkerLoad {
    /// Connections that it serves, those on their way to it included.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// A connection counts for its worker for as long as this lives.
#[derive(Debug)]
struct Counted(Arc<WorkerLoad>);

impl Counted {
    fn new(load: &Arc<WorkerLoad>) -> Self {
        load.connections.fetch_add(1, Ordering::Relaxed);
        Self(load.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    connections: mpsc::UnboundedSender<(Accepted, Counted)>,
    load: Arc<WorkerLoad>,
    phase: watch::Sender<Phase>,
    thread: JoinHandle<()>,
}

impl Workers {
    /// Starts them, and returns when each has what it needs.
    pub(super) fn start(count: usize, shared: &Arc<Shared>) -> io::Result<Self> {
        (0..count)
            .map(|index| Worker::start(index, shared.clone()))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    pub(super) fn loads(&self) -> Vec<Arc<WorkerLoad>> {
        self.0.iter().map(|worker| worker.load.clone()).collect()
    }

    /// To the worker that has the fewest.
    pub(super) fn give(&self, accepted: Accepted) {
        let Some(worker) = self.0.iter().min_by_key(|worker| worker.load.connections()) else {
            return;
        };
        // A worker ends after its connections have: it takes all that come.
        worker.connections.send((accepted, Counted::new(&worker.load))).ok();
    }

    /// Ends all connections, those with a call in flight after it, or after `limit`, or once
    /// `hurry` is ready. Returns how many were cut.
    pub(super) async fn drain(self, limit: Duration, hurry: impl Future<Output = ()>) -> usize {
        let enter = |phases: &[watch::Sender<Phase>], phase| {
            for sender in phases {
                sender.send_replace(phase);
            }
        };
        let (mut loads, mut phases, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        // Dropping the senders of connections lets a worker end once its connections have.
        for Worker { load, phase, thread, connections: _ } in self.0 {
            loads.push(load);
            phases.push(phase);
            threads.push(thread);
        }
        enter(&phases, Phase::Draining);
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
        enter(&phases, Phase::Ended);
        // What still runs then hangs in a guest or the kernel, and ends with the process.
        timeout(LAST_WAIT, joined).await.ok();
        cut
    }
}

impl Worker {
    fn start(index: usize, shared: Arc<Shared>) -> io::Result<Self> {
        // Bounded by the places that connections hold.
        let (connections, receiver) = mpsc::unbounded_channel();
        let (phase, phases) = watch::channel(Phase::Serving);
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
    shared: &Arc<Shared>,
    mut connections: mpsc::UnboundedReceiver<(Accepted, Counted)>,
    phase: watch::Receiver<Phase>,
) {
    runtime.block_on(async {
        let handler = Rc::new(Handler::new(
            shared.routes.clone(),
            &shared.limits,
            shared.observers.unshared(),
        ));
        tokio::task::spawn_local(refresh_instances(shared.components.clone()));
        tokio::task::spawn_local(reap(handler.clone()));
        let course = Rc::new(Course::default());
        tokio::task::spawn_local(course.clone().follow(phase));
        // Cloned into every connection; when all clones are gone, all connections are.
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        while let Some((accepted, counted)) = connections.recv().await {
            let (handler, course) = (handler.clone(), course.clone());
            let (shared, alive) = (shared.clone(), alive.clone());
            tokio::task::spawn_local(async move {
                serve(accepted, handler, &shared.limits, course).await;
                drop((counted, alive));
            });
        }
        drop(alive);
        all_gone.recv().await;
    });
}

/// Frees what a swap has replaced, and has the new instance ready, rather than at the next call.
async fn refresh_instances(components: Components) {
    let mut changes = components.changed();
    loop {
        components.refresh_instances();
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn reap(handler: Rc<Handler>) {
    let mut ticks = interval(REAP_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        handler.reap();
    }
}
