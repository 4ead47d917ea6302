//! A connection over HTTP/2, and the task that keeps it going.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::{BoxError, Error, ErrorKind, clock};
use h2::client::{self, ResponseFuture, SendRequest};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::end::StreamEnd;
use super::keep_alive::KeepAlive;
use super::watched::{Watch, Watched};
use crate::config::UpstreamSettings;
use crate::upstream::life::ConnectionLife;
use crate::upstream::places::UpstreamPlace;

/// Streams at once on a connection, whatever the upstream allows: what comes on all of them goes
/// through one socket.
const STREAMS: u32 = 100;

/// How much of a response the upstream may send ahead of its client.
const STREAM_WINDOW: u32 = 64 * 1024;

/// All of these together: with less, clients that take nothing would hold up the others, whose
/// responses come on the same connection.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;

/// How much of a request is handed over before it is written.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams at once before the upstream has said how many it takes: a number that it can't say.
const UNKNOWN: usize = usize::MAX - 1;

/// A connection, which its exchanges share. Once nobody has a use for it, it says good-bye.
pub(in crate::upstream) struct SharedConnection {
    /// The upstream's address.
    pub(super) address: SocketAddr,
    /// `None`: it takes no more streams.
    sender: RefCell<Option<SendRequest<Bytes>>>,
    pub(super) watch: Rc<Watch>,
    streams: Cell<usize>,
    /// Whether it stays when it has none.
    keeps_unused: bool,
    /// Whether an answer has come on it.
    has_answered: Cell<bool>,
    /// Since when there have been no streams, if there are none.
    unused_since: Cell<Instant>,
    /// What ended it, once that is known.
    end: RefCell<Option<StreamEnd>>,
    /// `None`: it has no end of its own.
    life: Option<ConnectionLife>,
    /// `None`: it has ended.
    place: RefCell<Option<UpstreamPlace>>,
}

impl SharedConnection {
    /// Greets the upstream, and waits for its settings: how many streams it takes is known before
    /// the first, and whether it speaks HTTP/2 at all before anything is asked.
    ///
    /// # Errors
    /// It does not, or has closed the connection.
    pub(super) async fn begin<S>(
        stream: S,
        address: SocketAddr,
        settings: &UpstreamSettings,
        place: UpstreamPlace,
        life: Option<ConnectionLife>,
    ) -> Result<Rc<Self>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let max_header = settings.max_header.in_memory();
        let watch = Rc::<Watch>::default();
        let watched = Watched { stream, watch: watch.clone() };
        let begun = client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(max_header).unwrap_or(u32::MAX))
            .max_send_buffer_size(SEND_BUFFER)
            .initial_max_send_streams(UNKNOWN)
            .enable_push(false)
            .handshake(watched);
        let (sender, mut connection) = begun.await.map_err(|error| not_begun(&error, &watch))?;
        poll_fn(|cx| {
            watch.begin_turn();
            let polled = Pin::new(&mut connection).poll(cx);
            match polled {
                _ if connection.max_concurrent_send_streams() != UNKNOWN => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(not_begun(&error, &watch))),
                Poll::Ready(Ok(())) => Poll::Ready(Err(refused("closed before its settings"))),
                Poll::Pending => Poll::Pending,
            }
        })
        .await?;
        let keep_alive = connection.ping_pong().map(KeepAlive::new);
        let begun = Rc::new(Self {
            address,
            sender: RefCell::new(Some(sender)),
            watch,
            streams: Cell::new(0),
            keeps_unused: settings.max_idle > 0,
            has_answered: Cell::new(false),
            unused_since: Cell::new(clock::now()),
            end: RefCell::default(),
            life,
            place: RefCell::new(Some(place)),
        });
        spawn_local(begun.clone().drive(connection, keep_alive));
        Ok(begun)
    }

    /// Keeps it going until its end.
    async fn drive<S>(
        self: Rc<Self>,
        mut connection: client::Connection<Watched<S>, Bytes>,
        mut keep_alive: Option<KeepAlive>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let end = poll_fn(|cx| {
            self.watch.begin_turn();
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                let closed = |()| StreamEnd::by("closed by the upstream");
                return Poll::Ready(ended.map_or_else(|error| StreamEnd::of(&error), closed));
            }
            let Some(keep_alive) = &mut keep_alive else { return Poll::Pending };
            // One that nobody uses any more should have ended by itself.
            let is_wanted = || self.streams.get() > 0 || self.sender.borrow().is_none();
            let asked = keep_alive.poll(cx, &self.watch, is_wanted);
            asked.map(|()| StreamEnd::by("no answer to a ping"))
        });
        let end = end.await;
        // Those who wait are told when the connection is dropped.
        *self.end.borrow_mut() = Some(end);
        self.retire();
        drop(connection);
        let place = self.place.take();
        drop(place);
    }

    /// It takes no more streams, and ends after the last.
    pub(super) fn retire(&self) {
        let sender = self.sender.take();
        drop(sender);
    }

    /// Whether it takes streams at all. One that does not is done with after the last that it has.
    pub(super) fn is_open(&self) -> bool {
        let mut sender = self.sender.borrow_mut();
        let Some(open) = sender.as_mut() else { return false };
        // It has no requests that wait, so it is ready, or done with.
        let mut cx = Context::from_waker(Waker::noop());
        matches!(open.poll_ready(&mut cx), Poll::Ready(Ok(())))
    }

    /// Whether it takes one more stream now.
    pub(super) fn has_room(&self) -> bool {
        let of_upstream = self.sender.borrow().as_ref().map(SendRequest::current_max_send_streams);
        of_upstream.is_some_and(|most| self.streams.get() < most.min(STREAMS as usize))
            && !self.is_over()
    }

    /// Whether it should get no more streams.
    pub(super) fn is_over(&self) -> bool {
        self.life.as_ref().is_some_and(ConnectionLife::is_over)
    }

    /// Whether it has no streams, for so long.
    pub(super) fn is_unused_for(&self, time: Duration) -> bool {
        self.streams.get() == 0 && clock::now() - self.unused_since.get() >= time
    }

    /// Whether an answer has come on it, so that it is no new one.
    pub(in crate::upstream) fn has_answered(&self) -> bool {
        self.has_answered.get()
    }

    /// An answer has come on it.
    pub(super) fn note_answer(&self) {
        self.has_answered.set(true);
    }

    /// What ended it, if that is known.
    pub(super) fn end(&self) -> Option<StreamEnd> {
        self.end.borrow().clone()
    }
}

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedConnection")
            .field("address", &self.address)
            .field("streams", &self.streams.get())
            .finish_non_exhaustive()
    }
}

/// Why there is no connection, though the upstream has accepted one.
fn not_begun(error: &h2::Error, watch: &Watch) -> Error {
    if watch.speaks_http1() {
        return Error::new(ErrorKind::ProtocolError).with_source("the upstream answers in HTTP/1");
    }
    match error.is_library() {
        true => Error::new(ErrorKind::ProtocolError).with_source(StreamEnd::of(error)),
        false => refused(StreamEnd::of(error)),
    }
}

/// The upstream ended a new connection at once: the same as a refused one.
fn refused(cause: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::ConnectionRefused).with_source(cause)
}

/// A stream's place on a connection, for one exchange.
#[derive(Debug)]
pub(in crate::upstream) struct StreamPlace {
    connection: Rc<SharedConnection>,
}

impl StreamPlace {
    /// A place on a connection that has room.
    pub(super) fn take(connection: Rc<SharedConnection>) -> Self {
        connection.streams.set(connection.streams.get() + 1);
        connection.life.iter().for_each(ConnectionLife::spend);
        Self { connection }
    }

    pub(in crate::upstream) fn connection(&self) -> &Rc<SharedConnection> {
        &self.connection
    }

    /// Whether the upstream opens tunnels (RFC 8441).
    pub(in crate::upstream) fn takes_tunnels(&self) -> bool {
        let sender = self.connection.sender.borrow();
        sender.as_ref().is_some_and(SendRequest::is_extended_connect_protocol_enabled)
    }

    /// Sends a request's head.
    ///
    /// # Errors
    /// It was not sent: the connection has ended, or the head is not valid.
    pub(super) fn send(
        &self,
        head: Request<()>,
        has_ended: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), Unsent> {
        let mut sender = self.connection.sender.borrow_mut();
        let sender = sender.as_mut().ok_or(Unsent::NoConnection)?;
        let mut cx = Context::from_waker(Waker::noop());
        if !matches!(sender.poll_ready(&mut cx), Poll::Ready(Ok(()))) {
            return Err(Unsent::NoConnection);
        }
        // A clone: what is queued on this one would have to be waited for by the next.
        sender.clone().send_request(head, has_ended).map_err(Unsent::Invalid)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.unused_since.set(clock::now());
        if let Some(place) = &*connection.place.borrow()
            && connection.has_room()
        {
            place.places().look();
        }
        if connection.streams.get() == 0 && (!connection.keeps_unused || connection.is_over()) {
            connection.retire();
        }
    }
}

/// Why a head was not sent.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The connection takes no more.
    NoConnection,
    /// The head is not valid.
    Invalid(h2::Error),
}

#[cfg(test)]
mod tests;
