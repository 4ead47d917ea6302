//! Sockets and threads: one acceptor, a worker per core, graceful shutdown.
//!
//! A worker is a thread with a current-thread runtime of its own, its own upstream connections and
//! its own component instances. A connection, and every request on it, lives and ends on one
//! worker. The acceptor hands each connection to the worker that has the fewest. (Sharing the port
//! among the workers with `SO_REUSEPORT` was measured and left: a second process then binds
//! silently, few connections spread badly, and closing a listener resets what is queued on it.)

mod connection;
mod course;
pub(crate) mod stream;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use crate::config::ListenerConfig;
use crate::observe::{Level, Log};
use connection::Accepted;
use worker::Workers;

pub(crate) use worker::Shared;
pub use worker::WorkerLoad;

/// How long the acceptor rests when the process has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often the log says that there is no place for further connections.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Binds a listener, with an error that says what for and what may be in the way.
///
/// # Errors
/// The address is in use or not ours.
pub async fn bind(what: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        // Without `SO_REUSEPORT` a second process can't share the port unnoticed: it gets here.
        format!("{what}: can't listen on `{address}`")
    })
}

/// The proxy's own listener and its workers.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    workers: Workers,
    limits: ListenerConfig,
    log: Log,
}

impl Server {
    /// Starts the workers; nothing is accepted before [`run`](Self::run).
    ///
    /// # Errors
    /// A thread can't be started.
    pub(crate) fn start(
        listener: TcpListener,
        workers: usize,
        shared: Shared,
        log: Log,
    ) -> io::Result<Self> {
        let limits = shared.limits.clone();
        Ok(Self { listener, workers: Workers::start(workers, &Arc::new(shared))?, limits, log })
    }

    /// What each worker has to do.
    pub fn loads(&self) -> Vec<Arc<WorkerLoad>> {
        self.workers.loads()
    }

    /// Accepts until `shutdown`, then lets the calls in flight end. Connections that are still
    /// there after `drain_timeout`, or once `hurry` is ready, are cut. Returns how many those
    /// were.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> usize {
        let Self { listener, workers, limits, log } = self;
        tokio::select! {
            () = accept(&listener, &workers, limits.max_connections, &log) => {}
            () = shutdown => {}
        }
        // Whoever connects from here on is refused by the kernel rather than left waiting.
        drop(listener);
        workers.drain(limits.drain_timeout.0, hurry).await
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
            Ok((stream, client)) => workers.give(Accepted { stream, client: client.ip(), place }),
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                log.line(Level::Error, &format!("can't accept connections: {error}"), |_| {});
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The client was gone again before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
