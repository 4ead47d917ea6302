//! One client connection over HTTP/2 (RFC 9113): its requests, each on a stream of its own.
//!
//! Frames, compression and flow control are `h2`'s; what it lets pass is bounded here. All of a
//! connection is one task: its streams are futures in it. So they are cancelled with it, and a
//! connection that has a hundred requests gets no more turns than one that has one. (A task for
//! each stream was considered: a neighbour would wait for a hundred of them in each round.)
//!
//! | state | limit | then |
//! |---|---|---|
//! | no stream | `idle_timeout`, and until its place is needed | GOAWAY |
//! | in a head, or another frame but data | `header_timeout` | GOAWAY |
//! | a stream owes its body | `request_timeout`, and its pace | 408 on the stream |
//! | a stream has no window for its response | its pace | the stream is reset |
//! | the client takes nothing | the pace of the connection | closed |
//! | streams, and nothing comes | a ping after 20 s, which is to be answered in 10 s | closed |
//! | too many frames that are no work | `flood.rs` | GOAWAY |
//!
//! After `max_requests` and `max_age`, and when the proxy is to end, the client is told by a GOAWAY
//! to send no more, and the streams that it has are answered.

mod body;
mod connection;
mod exchange;
mod flood;
mod limits;
mod link;
mod outgoing;
mod own_answers;
mod request;
mod response;
mod session;
mod tunnel;
mod waker;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::{Bytes, BytesMut};
use fusebox_resilience::{ConnectionLimit, clock};
use futures_util::stream::FuturesUnordered;
use h2::server::{Builder, Connection};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;

use super::limit_timer::LimitTimer;
use super::shared::Shared;
use crate::headers::Hop;
use connection::{Http2Connection, LAST_WORDS, SessionEnd};
use exchange::StreamExchange;
use flood::{MAX_STREAMS, MOST_RESETS};
use link::SessionLink;
use session::{CONNECTION_WINDOW, STREAM_WINDOW, Session};

/// How much of a response is handed over in advance on a stream.
const SEND_BUFFER: usize = 64 * 1024;

/// The streams that were reset and are remembered: what still comes on one is no fault of the
/// client's for a while.
const MAX_RESET: usize = 2 * MAX_STREAMS as usize;

/// Serves a connection until it ends. Of it `ahead` has been read.
pub(super) async fn serve<S>(stream: S, ahead: BytesMut, hop: Hop, shared: Rc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let session = Rc::new(Session::new(shared, hop));
    let stream = Rc::new(RefCell::new(stream));
    let link = SessionLink::new(stream.clone(), ahead, session.link().clone());
    let Some(connection) = shake_hands(link, &session).await else { return };
    let mut connection = Http2Connection::new(connection, session.clone());
    let mut streams = FuturesUnordered::new();
    // Boxed: what is pushed is moved twice.
    let run = |exchange: StreamExchange| Box::pin(exchange.run(session.clone()));
    let ended = poll_fn(|cx| connection.poll(&mut streams, &run, cx)).await;
    // Calls that are left are cancelled.
    drop((streams, connection));
    if ended == SessionEnd::Told {
        // Boxed: its buffer would be in each connection.
        Box::pin(linger(&stream)).await;
    }
}

/// `None`: the client has left, is too slow, or speaks something else.
async fn shake_hands<S>(
    link: SessionLink<S>,
    session: &Session,
) -> Option<Connection<SessionLink<S>, Bytes>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let limits = &session.shared().limits;
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(MAX_STREAMS)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.max_header.in_memory()).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        // `flood.rs` has the limit, and `link.rs` the one of those that are not looked at yet.
        .max_pending_accept_reset_streams(usize::MAX)
        // `flood.rs` has the limit. This one is for a connection's whole life, which may be long.
        .max_local_error_reset_streams(Some(10 * MOST_RESETS as usize))
        .max_concurrent_reset_streams(MAX_RESET);
    if session.shared().handler.takes_tunnels() {
        builder.enable_connect_protocol();
    }
    let mut handshake = pin!(builder.handshake(link));
    let mut timer = LimitTimer::default();
    let end = clock::now() + session.head_limit();
    poll_fn(|cx| {
        if let Poll::Ready(begun) = handshake.as_mut().poll(cx) {
            return Poll::Ready(begun.ok());
        }
        ready!(timer.poll(end, cx));
        session.end_connection(ConnectionLimit::HeaderTimeout);
        Poll::Ready(None)
    })
    .await
}

/// Reads away what still comes: a socket that is closed with something unread is reset, and the
/// client may lose what it has been told.
async fn linger<S: AsyncRead + Unpin>(stream: &RefCell<S>) {
    let mut room = [0; 4 * 1024];
    let reading = poll_fn(|cx| {
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            let read = ready!(Pin::new(&mut *stream.borrow_mut()).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    });
    timeout(LAST_WORDS, reading).await.ok();
}
