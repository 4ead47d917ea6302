//! Sockets and threads: one acceptor, one worker per core, graceful shutdown.
//!
//! A worker is a thread with its own current-thread runtime, upstream connections and component
//! instances. A connection and all its requests stay on one worker. The acceptor gives each
//! connection to the worker with the fewest. (Sharing the port among the workers with
//! `SO_REUSEPORT` was measured and rejected: a second process then binds silently, few connections
//! spread badly, and closing a listener resets what is queued on it.)

mod connection;
mod load;
mod pulse;
mod shutdown;
pub(crate) mod stream;
mod supervisor;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use fusebox_resilience::Observers;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::config::ListenerConfig;
use crate::observe::{Level, Log};
use connection::Accepted;
use supervisor::Supervisor;
use worker::Workers;

pub use load::WorkerLoad;
pub use supervisor::WorkerLost;
pub(crate) use worker::WorkerContext;

/// How long the acceptor waits when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often the log repeats that all places for connections are taken.
const SAY_AGAIN: Duration = Duration::from_secs(10);

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
        let longest_call = shared.longest_call;
        let supervisor = Supervisor::new(shared.workers);
        let workers = Workers::start(&supervisor, &Arc::new(shared))?;
        Ok(Self { listener, workers, supervisor, limits, longest_call, observers, log })
    }

    /// The load of each worker.
    pub fn loads(&self) -> Vec<Arc<WorkerLoad>> {
        self.supervisor.loads().to_vec()
    }

    /// Accepts until `shutdown` is ready, then lets the calls in flight end. After `drain_timeout`,
    /// or once `hurry` is ready, the connections that are left are cut. Returns their number.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<usize, WorkerLost> {
        let Self { listener, workers, supervisor, limits, longest_call, observers, log } = self;
        tokio::select! {
            lost = supervisor.watch(longest_call, &observers) => return Err(lost),
            () = accept(&listener, &workers, limits.max_connections, &log) => {}
            () = shutdown => {}
        }
        // From here on the kernel refuses clients, rather than leave them waiting.
        drop(listener);
        Ok(workers.drain(limits.drain_timeout.0, hurry).await)
    }
}

async fn accept(listener: &TcpListener, workers: &Workers, max_connections: usize, log: &Log) {
    let places = Arc::new(Semaphore::new(max_connections));
    let mut said: Option<Instant> = None;
    loop {
        if places.available_permits() == 0 && said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            said = Some(Instant::now());
            log.line(Level::Warn, "all places for connections are taken", |line| {
                line.field("max_connections", max_connections);
            });
        }
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await.and_then(|(stream, client)| Ok((stream.into_std()?, client)))
        {
            Ok((stream, client)) => {
                workers.give(Accepted { stream, client: client.ip().to_canonical(), place })
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                log.line(Level::Error, &format!("can't accept connections: {error}"), |_| {});
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Whether the client left before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
