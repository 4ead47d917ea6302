//! One client connection: HTTP/1.1 with keep-alive, limits on a client that is slow, and an end when the proxy drains.
//!
//! Three limits share the work. hyper's own timer runs from the end of one exchange to the next request: it is the idle
//! limit. [`ClientStream`] knows when a head has begun and cuts one that does not end; and it cuts a client that takes
//! nothing of what it is sent. What a client may do between a head and the end of the response is its body's business, so a
//! [`HeadPause`] stops the limit on heads for that time.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::{Either, select};
use http::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Shared;
use super::worker::{Accepted, Phase};
use crate::config::ListenerConfig;
use crate::handler::Handler;
use crate::sockets;
use crate::stall::Stall;

/// What a client gets that never finishes its request head. hyper knows nothing of it, so it is written bare.
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve(
    accepted: Accepted,
    handler: Rc<Handler>,
    shared: Arc<Shared>,
    mut phase: watch::Receiver<Phase>,
) {
    let Accepted { stream, client, place } = accepted;
    let _place = place;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    sockets::prepare(&stream);

    let limits = &shared.limits;
    // A client that has just connected owes us a head.
    let at_head = Rc::new(Cell::new(true));
    let stream = ClientStream::new(stream, at_head.clone(), limits);
    // Once for all requests of the connection.
    let client = HeaderValue::try_from(client.to_string()).expect("an address is a valid value");
    let service = service_fn(move |request| {
        let (handler, client) = (handler.clone(), client.clone());
        let pause = HeadPause::begin(&at_head);
        async move { Ok::<_, Infallible>(handler.handle(request, &client, pause).await) }
    });
    let max_header = usize::try_from(limits.max_header.as_u64()).unwrap_or(usize::MAX);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper's limit runs from the end of the exchange before: the time to the next request, head included.
        .header_read_timeout(limits.idle_timeout.0)
        .max_header_size(max_header)
        .max_buf_size(max_header.max(64 * 1024))
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);

    loop {
        let changed = match select(connection.as_mut(), pin!(phase.changed())).await {
            // What went wrong with the client has been reported by the call it concerned, if any.
            Either::Left(_) => return,
            Either::Right((changed, _)) => changed,
        };
        match *phase.borrow_and_update() {
            _ if changed.is_err() => return,
            Phase::Serving => {}
            Phase::Draining => connection.as_mut().graceful_shutdown(),
            Phase::Ended => return,
        }
    }
}

/// From a request's head to the end of its response: what the client sends meanwhile is not held against it.
#[derive(Debug)]
pub(crate) struct HeadPause(Rc<Cell<bool>>);

impl HeadPause {
    fn begin(at_head: &Rc<Cell<bool>>) -> Self {
        at_head.set(false);
        Self(at_head.clone())
    }
}

impl Drop for HeadPause {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

/// A client's stream, which ends when a request head has begun and does not end in time, or when the client takes nothing of
/// what it is sent. The usual head comes in one piece, the usual answer goes out in one, and neither costs a timer.
struct ClientStream {
    stream: TcpStream,
    /// Whether what comes next belongs to a request head.
    at_head: Rc<Cell<bool>>,
    begun: bool,
    /// Whether part of a response waits for the client to take it.
    owes: bool,
    receiving: Stall,
    sending: Stall,
}

impl ClientStream {
    fn new(stream: TcpStream, at_head: Rc<Cell<bool>>, limits: &ListenerConfig) -> Self {
        Self {
            stream,
            at_head,
            begun: false,
            owes: false,
            receiving: Stall::new(limits.header_timeout.0),
            sending: Stall::new(limits.body_timeout.0),
        }
    }

    /// Nothing to read now.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !(self.begun && self.at_head.get()) {
            self.begun = false;
            self.receiving.reset();
            return Poll::Pending;
        }
        ready!(self.receiving.poll(cx));
        if !self.owes {
            // The client may be gone.
            self.stream.try_write(REQUEST_TIMEOUT).ok();
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending => this.poll_head(cx),
            read => {
                this.begun = true;
                read
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buffer);
        self.owes = !matches!(written, Poll::Ready(Ok(length)) if length == buffer.len());
        if written.is_pending() {
            ready!(self.sending.poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.sending.reset();
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
