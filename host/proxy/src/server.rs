//! Sockets and threads: one acceptor, one worker per core, graceful shutdown.
//!
//! A worker is a thread with its own current-thread runtime, upstream connections and component
//! instances. A connection and all its requests stay on one worker. The acceptor gives each
//! connection to the worker with the fewest. (Sharing the port among the workers with
//! `SO_REUSEPORT` was measured and rejected: a second process then binds silently, few connections
//! spread badly, and closing a listener resets what is queued on it.)

mod accept;
mod accepted;
mod background;
mod connection;
mod date;
mod door;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshake;
mod handshake_turns;
mod hints;
mod http2;
mod idle;
mod incoming;
mod limit_timer;
mod linger;
mod load;
mod pace;
mod places;
mod preface;
mod proxied;
mod pulse;
mod secured;
mod shared;
mod shutdown;
mod socket;
mod supervisor;
mod worker;
mod writer;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fusebox_resilience::Observers;
use tokio::net::TcpListener;

use crate::config::ListenerConfig;
use crate::handler::CallPlaces;
use crate::observe::Log;
use crate::sockets;
use accept::Acceptor;
use places::ConnectionPlaces;
use supervisor::Supervisor;
use worker::Workers;

pub use load::ServerLoad;
pub use supervisor::WorkerLost;
pub(crate) use worker::WorkerContext;

/// Binds a listener. The error says which one.
///
/// # Errors
/// The address is in use or not available.
pub async fn bind(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        // Without `SO_REUSEPORT`, a second process can't share the port silently: it gets this
        // error.
        format!("{what}: can't listen on `{address}`")
    })
}

/// The proxy's listener and its workers.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    workers: Workers,
    places: Arc<ConnectionPlaces>,
    calls: Option<Arc<CallPlaces>>,
    supervisor: Supervisor,
    limits: ListenerConfig,
    /// How long a call into a component may block a worker.
    longest_call: Duration,
    observers: Observers,
    log: Log,
}

impl Server {
    /// Starts the workers. Nothing is accepted before [`run`](Self::run).
    ///
    /// # Errors
    /// A thread can't be started.
    pub(crate) fn start(
        listener: TcpListener,
        shared: WorkerContext,
        log: Log,
    ) -> io::Result<Self> {
        let (limits, observers) = (shared.limits.clone(), shared.observers.clone());
        let (calls, longest_call) = (shared.calls.clone(), shared.longest_call);
        sockets::prepare_listener(&listener);
        let supervisor = Supervisor::new(shared.workers);
        let workers = Workers::start(&supervisor, &Arc::new(shared))?;
        let places = Arc::new(ConnectionPlaces::new(limits.max_connections));
        Ok(Self {
            listener,
            workers,
            places,
            calls,
            supervisor,
            limits,
            longest_call,
            observers,
            log,
        })
    }

    /// Its load.
    pub fn load(&self) -> ServerLoad {
        let (places, calls) = (self.places.clone(), self.calls.clone());
        ServerLoad { workers: self.supervisor.loads().to_vec(), places, calls }
    }

    /// Accepts until `shutdown` is ready, then lets the calls in flight end. After `drain_timeout`,
    /// or once `hurry` is ready, the connections that are left are cut. Returns their number.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<usize, WorkerLost> {
        let Self { listener, workers, places, supervisor, limits, observers, log, .. } = self;
        let mut acceptor = Acceptor::new(&listener, &workers, &places, &limits, &observers, &log);
        tokio::select! {
            lost = supervisor.watch(self.longest_call, &observers) => return Err(lost),
            () = acceptor.accept() => {}
            () = shutdown => {}
        }
        acceptor.accept_waiting();
        drop(acceptor);
        // From here on the kernel refuses clients, rather than leave them waiting.
        drop(listener);
        Ok(workers.drain(limits.drain_timeout.0, hurry).await)
    }
}
