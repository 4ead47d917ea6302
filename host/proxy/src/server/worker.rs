//! Workers: threads that serve connections and share as little as possible.

use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use fusebox_resilience::Observers;
use fusebox_wasm::Components;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::accepted::{Accepted, serve};
use super::background::BackgroundTasks;
use super::date::Dates;
use super::handshake_turns::HandshakeTurns;
use super::idle::{IdleQueue, LEAST_WAIT};
use super::load::{CountedConnection, WorkerLoad};
use super::pulse::BEAT;
use super::shared::{GRACE, Shared};
use super::shutdown::{Shutdown, ShutdownPhase};
use super::supervisor::{EndNotice, Supervisor};
use crate::allocator;
use crate::config::{ForwardedHeaders, ListenerConfig};
use crate::handler::{CallPlaces, RequestHandler};
use crate::headers::ForwardedRules;
use crate::route::RouteTable;
use crate::tls::ListenerTls;
use crate::upstream::WorkerShare;

/// How long a worker may take to end after all its connections have been cut.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// So long is at least waited for requests that are on their way when the end begins.
const SHORTEST_GRACE: Duration = Duration::from_millis(1);

/// After how many beats a worker gives memory back. (That takes 50 µs, and 0.1 ms for each MiB that
/// is given back.)
const GIVE_BACK: u64 = 5;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) limits: ListenerConfig,
    /// `None`: clients do not speak TLS.
    pub(crate) tls: Option<Arc<ListenerTls>>,
    pub(crate) observers: Observers,
    pub(crate) components: Components,
    /// The places for calls of all workers. `None`: there may be any number.
    pub(crate) calls: Option<Arc<CallPlaces>>,
    /// How many workers there are.
    pub(crate) workers: usize,
    /// How long a call into one of them may block a worker.
    pub(crate) longest_call: Duration,
}

#[derive(Debug)]
pub(super) struct Workers(Vec<WorkerThread>);

#[derive(Debug)]
struct WorkerThread {
    errands: mpsc::UnboundedSender<Errand>,
    load: Arc<WorkerLoad>,
    phase: watch::Sender<ShutdownPhase>,
    thread: JoinHandle<()>,
}

/// What the acceptor wants of a worker.
/// What becomes of a wish for a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceMaking {
    /// No connection is idle.
    NobodyIdle,
    /// None is idle for long enough.
    TooEarly,
    /// The worker has been asked whose connection has been idle for longest.
    Asked,
}

#[derive(Debug)]
enum Errand {
    Serve(Accepted, CountedConnection),
    /// The connection that has been idle for longest ends, since another client needs its place.
    MakePlace,
}

impl Workers {
    /// Starts the workers of a supervisor. Returns when all are ready.
    pub(super) fn start(supervisor: &Supervisor, shared: &Arc<WorkerContext>) -> io::Result<Self> {
        let loads = supervisor.loads().iter().enumerate();
        let threads = loads.map(|(index, load)| {
            WorkerThread::start(index, load.clone(), supervisor.notice(index), shared.clone())
        });
        threads.collect::<io::Result<_>>().map(Self)
    }

    /// Gives a connection to the worker with the fewest, of those that nothing blocks.
    pub(super) fn give(&self, accepted: Accepted) {
        let least = self
            .0
            .iter()
            .min_by_key(|worker| (worker.load.is_stalled(), worker.load.connections()));
        let Some(worker) = least else { return };
        // Workers end after their connections, so this one is there.
        worker.errands.send(Errand::Serve(accepted, CountedConnection::new(&worker.load))).ok();
    }

    /// Asks the worker to make place whose connection has been idle for longest, unless it is asked
    /// already.
    pub(super) fn make_place(&self) -> PlaceMaking {
        let able = self.0.iter().filter(|worker| !worker.load.is_stalled());
        let idle = able.filter_map(|worker| Some((worker.load.idle_since()?, worker)));
        let Some((since, worker)) = idle.min_by_key(|(since, _)| *since) else {
            return PlaceMaking::NobodyIdle;
        };
        if since.elapsed() < LEAST_WAIT {
            return PlaceMaking::TooEarly;
        }
        if !worker.load.is_asked() {
            worker.load.set_asked(true);
            worker.errands.send(Errand::MakePlace).ok();
        }
        PlaceMaking::Asked
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
        for WorkerThread { load, phase, thread, errands: _ } in self.0 {
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
    fn start(
        index: usize,
        load: Arc<WorkerLoad>,
        notice: EndNotice,
        shared: Arc<WorkerContext>,
    ) -> io::Result<Self> {
        // Bounded by the number of places for connections, and one more.
        let (errands, receiver) = mpsc::unbounded_channel();
        let (phase, phases) = watch::channel(ShutdownPhase::Serving);
        let (ready, started) = std::sync::mpsc::channel();
        let beating = load.clone();
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let _notice = notice;
            let runtime =
                Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(ready.send(Err(error))),
            };
            ready.send(Ok(())).ok();
            let share = WorkerShare { worker: index, workers: shared.workers };
            work(&runtime, &shared, share, &beating, receiver, phases);
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { errands, load, phase, thread })
    }
}

fn work(
    runtime: &LocalRuntime,
    shared: &Arc<WorkerContext>,
    share: WorkerShare,
    load: &Arc<WorkerLoad>,
    mut errands: mpsc::UnboundedReceiver<Errand>,
    phase: watch::Receiver<ShutdownPhase>,
) {
    runtime.block_on(async {
        // Each connection has a clone; when all clones are dropped, all connections have ended.
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        let shutdown = Rc::new(Shutdown::default());
        let handler = Rc::new(RequestHandler::new(
            shared.routes.clone(),
            &shared.limits,
            shared.calls.clone(),
            share,
            shared.observers.unshared(),
            BackgroundTasks::new(shutdown.clone(), &alive),
        ));
        let mut upkeep = JoinSet::new();
        upkeep.spawn_local(refresh_instances(shared.components.clone()));
        upkeep.spawn_local(reap(handler.clone(), shared.components.clone(), load.clone()));
        let rules = Rc::new(forwarded_rules(&shared.limits));
        upkeep.spawn_local(shutdown.clone().follow(phase.clone()));
        let limits = shared.limits.clone();
        let idle = Rc::new(IdleQueue::new(load.clone()));
        upkeep.spawn_local(end_waits(idle.clone(), limits.clone(), phase));
        let dates = Dates::default();
        let tls = shared.tls.clone();
        let turns = Rc::new(HandshakeTurns::default());
        upkeep.spawn_local(turns.clone().give());
        let serving = Rc::new(Shared { handler, limits, shutdown, idle, dates, tls, turns });
        loop {
            let (accepted, counted) = tokio::select! {
                errand = errands.recv() => match errand {
                    Some(Errand::Serve(accepted, counted)) => (accepted, counted),
                    Some(Errand::MakePlace) => {
                        serving.idle.crowd_out();
                        continue;
                    }
                    None => break,
                },
                // Without its upkeep a worker is lost. (A panic in a connection ends only that.)
                Some(ended) = upkeep.join_next() => {
                    if let Err(panic) = ended {
                        resume_unwind(panic.into_panic());
                    }
                    continue;
                }
            };
            let (serving, rules, alive) = (serving.clone(), rules.clone(), alive.clone());
            tokio::task::spawn_local(async move {
                serve(accepted, serving, &rules).await;
                drop((counted, alive));
            });
        }
        drop(alive);
        all_gone.recv().await;
    });
}

/// Ends the waits of idle connections, while it serves and once it drains. Then in half of the
/// drain's time at most: who is silent is not among those who are cut.
async fn end_waits(
    idle: Rc<IdleQueue>,
    limits: ListenerConfig,
    mut phase: watch::Receiver<ShutdownPhase>,
) {
    let grace = (limits.drain_timeout.0 / 2).clamp(SHORTEST_GRACE, GRACE);
    let draining = async {
        // Without a server there are no phases any more.
        phase.wait_for(|phase| *phase != ShutdownPhase::Serving).await.ok();
    };
    idle.expire(limits.idle_timeout.0, grace, draining).await;
}

fn forwarded_rules(limits: &ListenerConfig) -> ForwardedRules {
    ForwardedRules {
        trusted: limits.trusted.clone(),
        by_x: limits.forwarded != ForwardedHeaders::Standard,
        by_standard: limits.forwarded != ForwardedHeaders::XForwarded,
    }
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

/// Closes and gives back what is unused, and beats, each second.
async fn reap(handler: Rc<RequestHandler>, components: Components, load: Arc<WorkerLoad>) {
    let mut ticks = interval(BEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for beat in 1.. {
        let now = ticks.tick().await;
        load.beat();
        handler.reap();
        components.give_back_memory(now);
        if beat % GIVE_BACK == 0 {
            allocator::give_back();
        }
    }
}
