//! Accepts connections: as many as there are places for, and as the process has descriptors for.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::accepted::Accepted;
use super::worker::Workers;
use crate::observe::{Level, Log};
use crate::sockets;

/// How long the acceptor waits when the process has no descriptors left: calls that end give some
/// back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often the log repeats what goes on.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// The answer to a client for whom there is no descriptor. No worker ever sees it.
const EXHAUSTED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\
    retry-after: 1\r\nproxy-status: fusebox; error=proxy_internal_error; \
    details=\"out of resources\"\r\ncontent-length: 0\r\n\r\n";

/// Accepts for ever.
pub(super) async fn accept(
    listener: &TcpListener,
    workers: &Workers,
    max_connections: usize,
    log: &Log,
) {
    let places = Arc::new(Semaphore::new(max_connections));
    let (mut full, mut exhausted) = (Repeated::default(), Repeated::default());
    let mut reserve = Reserve::new();
    loop {
        if places.available_permits() == 0 && full.may_be_said() {
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
                let is_exhausted = sockets::is_of_our_own(&error);
                if is_exhausted {
                    reserve.turn_away(listener);
                }
                if exhausted.may_be_said() {
                    let turned_away = std::mem::take(&mut reserve.turned_away);
                    log.line(Level::Error, &format!("can't accept connections: {error}"), |line| {
                        line.maybe("turned_away", is_exhausted.then_some(turned_away));
                    });
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Something that is said now and then for as long as it goes on.
#[derive(Default)]
struct Repeated(Option<Instant>);

impl Repeated {
    fn may_be_said(&mut self) -> bool {
        let is_due = self.0.is_none_or(|said| said.elapsed() >= SAY_AGAIN);
        if is_due {
            self.0 = Some(Instant::now());
        }
        is_due
    }
}

/// A descriptor that is kept for when there is no other: with it the clients that wait are told so,
/// rather than left waiting.
struct Reserve {
    /// `None`: it could not be had.
    descriptor: Option<File>,
    /// The clients that were told, since this was last said.
    turned_away: usize,
}

impl Reserve {
    /// How many clients are told at once.
    const CLIENTS: usize = 64;

    fn new() -> Self {
        Self { descriptor: Self::take(), turned_away: 0 }
    }

    fn take() -> Option<File> {
        File::open("/dev/null").ok()
    }

    fn turn_away(&mut self, listener: &TcpListener) {
        self.descriptor = None;
        for _ in 0..Self::CLIENTS {
            let Some(Ok((stream, _))) = listener.accept().now_or_never() else { break };
            self.turned_away += 1;
            tell(&stream);
        }
        self.descriptor = Self::take();
    }
}

/// What can't be read or written now is not waited for.
fn tell(stream: &TcpStream) {
    // With something unread the connection would be reset, and the answer lost.
    let mut request = [0; 16 * 1024];
    stream.try_read(&mut request).ok();
    stream.try_write(EXHAUSTED).ok();
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
