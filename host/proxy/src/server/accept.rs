//! Accepts connections: as many as there are places for, and as the process has descriptors for.

use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{ConnectionEvent, ConnectionLimit, EventKind, Observers, ServerEvent};
use ipnet::IpNet;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

use super::accepted::Accepted;
use super::door::{Departing, Reserve, Visitors};
use super::places::{AddressPlace, AddressPlaces, ConnectionPlace, ConnectionPlaces};
use super::worker::{PlaceMaking, Workers};
use crate::config::ListenerConfig;
use crate::observe::{Level, Log};
use crate::seldom::Seldom;
use crate::sockets;

/// How long the acceptor waits when the process has no descriptors left: calls that end give some
/// back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it looks for an idle connection while a client waits for a place.
const LOOK: Duration = Duration::from_millis(10);

/// So many idle connections end, for a client for whom there is no descriptor, before it is turned
/// away: others may have taken theirs.
const TRIES: u32 = 10;

/// How long one that was to end may take for it, before another one has to.
const LEAVING: Duration = Duration::from_millis(100);

/// So many may wait in the kernel's queue: a flood of others does not keep the end from coming.
const MOST_WAITING: usize = 1024;

/// An address has as many connections as it may have.
struct TooMany;

/// Accepts connections, and gives them to workers.
pub(super) struct Acceptor<'a> {
    listener: &'a TcpListener,
    workers: &'a Workers,
    places: &'a ConnectionPlaces,
    /// `None`: an address may have any number of connections.
    of_addresses: Option<Arc<AddressPlaces>>,
    trusted: &'a [IpNet],
    visitors: Visitors,
    observers: &'a Observers,
    log: &'a Log,
    full: Seldom,
    refused: Seldom,
    exhausted: Seldom,
    reserve: Reserve,
    /// The idle connections that were to end for a descriptor, in a row.
    tries: u32,
    departing: Departing,
}

impl<'a> Acceptor<'a> {
    pub(super) fn new(
        listener: &'a TcpListener,
        workers: &'a Workers,
        places: &'a ConnectionPlaces,
        limits: &'a ListenerConfig,
        observers: &'a Observers,
        log: &'a Log,
    ) -> Self {
        let of_addresses = limits.max_connections_per_address.map(AddressPlaces::new).map(Arc::new);
        Self {
            listener,
            workers,
            places,
            of_addresses,
            trusted: &limits.trusted,
            visitors: if limits.tls.is_some() { Visitors::OverTls } else { Visitors::Plain },
            observers,
            log,
            full: Seldom::default(),
            refused: Seldom::default(),
            exhausted: Seldom::default(),
            reserve: Reserve::default(),
            tries: 0,
            departing: Departing::default(),
        }
    }

    /// Accepts for ever.
    pub(super) async fn accept(&mut self) {
        loop {
            let (stream, client) = match self.listener.accept().await {
                Ok((stream, client)) => {
                    self.tries = 0;
                    (stream, client.ip().to_canonical())
                }
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    self.pause(&error).await;
                    continue;
                }
            };
            let Ok(of_address) = self.place_of_address(client) else {
                self.departing.tell(stream, self.visitors);
                continue;
            };
            let Some(place) = self.place().await else { return };
            if let Ok(stream) = stream.into_std() {
                self.workers.give(Accepted { stream, client, place, of_address });
            }
        }
    }

    /// Accepts those who are connected already, as far as there are places: the kernel resets them
    /// when their listener is closed.
    pub(super) fn accept_waiting(&self) {
        let listener = SockRef::from(self.listener);
        for _ in 0..MOST_WAITING {
            let (socket, address) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(_) => return,
            };
            let stream = TcpStream::from(socket);
            let Some(client) = address.as_socket().map(|address| address.ip().to_canonical())
            else {
                continue;
            };
            let Ok(of_address) = self.place_of_address(client) else { continue };
            let Some(place) = self.places.try_take() else { return };
            if stream.set_nonblocking(true).is_ok() {
                self.workers.give(Accepted { stream, client, place, of_address });
            }
        }
    }

    /// A place of those that a client's address may have. A trusted one is a proxy, behind which
    /// there are many clients: it has no limit.
    fn place_of_address(&self, client: IpAddr) -> Result<Option<AddressPlace>, TooMany> {
        let Some(places) = &self.of_addresses else { return Ok(None) };
        if self.trusted.iter().any(|network| network.contains(&client)) {
            return Ok(None);
        }
        if let Some(place) = places.take(client) {
            return Ok(Some(place));
        }
        let limit = ConnectionLimit::MaxConnectionsPerAddress;
        let count = self.refused.count(Instant::now());
        let event = ConnectionEvent::Ended { client, limit, count };
        self.observers.emit_for_policy(None, &event.into());
        Err(TooMany)
    }

    /// A free place, or that of the connection that has been idle for longest. Meanwhile further
    /// clients wait in the kernel's queue.
    async fn place(&self) -> Option<ConnectionPlace> {
        if let Some(place) = self.places.try_take() {
            return Some(place);
        }
        let mut is_told = false;
        loop {
            let making = self.workers.make_place();
            if making == PlaceMaking::NobodyIdle && !is_told {
                is_told = true;
                let count = self.full.count(Instant::now());
                let event = ServerEvent::Full { places: self.places.count(), count };
                self.observers.emit_for_policy(None, &EventKind::Server(event));
            }
            let patience = if making == PlaceMaking::Asked { LEAVING } else { LOOK };
            if let Ok(place) = timeout(patience, self.places.take()).await {
                return place;
            }
        }
    }

    async fn pause(&mut self, error: &io::Error) {
        let is_exhausted = sockets::is_of_our_own(error);
        // It gets the descriptor of somebody who asks for nothing.
        let is_awaited =
            is_exhausted && self.tries < TRIES && self.workers.make_place() == PlaceMaking::Asked;
        self.tries = if is_awaited { self.tries + 1 } else { 0 };
        if is_exhausted && !is_awaited {
            self.reserve.turn_away(self.listener, self.visitors);
        }
        if self.exhausted.count(Instant::now()).is_some() {
            let turned_away = self.reserve.take_turned_away();
            self.log.line(Level::Error, &format!("can't accept connections: {error}"), |line| {
                line.maybe("turned_away", is_exhausted.then_some(turned_away));
            });
        }
        sleep(if is_awaited { LOOK } else { ACCEPT_PAUSE }).await;
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
