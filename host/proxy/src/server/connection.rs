//! One client connection: HTTP/1.1 with keep-alive, limits on a client that is slow, and an end
//! when the proxy drains.
//!
//! [`ClientStream`] has three limits: on the time from the end of one exchange to the next request,
//! on that of a request head that has begun, and on that in which a client takes nothing of what it
//! is sent. What a client may do between a head and the end of the response is its body's business,
//! so a [`HeadPause`] stops the first two for that time. (hyper has such limits, but makes a timer
//! for each request.)

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fusebox_resilience::clock;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Shared;
use super::course::{Course, Phase};
use super::worker::Accepted;
use crate::config::ListenerConfig;
use crate::handler::Handler;
use crate::headers::Hop;
use crate::sockets;
use crate::stall::Stall;

/// What a client gets that never finishes its request head. hyper knows nothing of it, so it is
/// written bare.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve(
    accepted: Accepted,
    handler: Rc<Handler>,
    shared: Arc<Shared>,
    course: Rc<Course>,
) {
    let Accepted { stream, client, place } = accepted;
    let _place = place;
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    sockets::prepare(&stream);

    let limits = &shared.limits;
    let whereabouts = Rc::new(Cell::new(Client::Idle));
    let stream = ClientStream::new(stream, whereabouts.clone(), limits);
    // Once for all requests of the connection.
    let hop = Rc::new(Hop::new(client));
    let service = service_fn(move |request| {
        let (handler, hop) = (handler.clone(), hop.clone());
        let pause = HeadPause::begin(&whereabouts);
        async move { Ok::<_, Infallible>(handler.handle(request, &hop, pause).await) }
    });
    let max_header = usize::try_from(limits.max_header.as_u64()).unwrap_or(usize::MAX);
    let connection = http1::Builder::new()
        .max_header_size(max_header)
        .max_buf_size(max_header.max(64 * 1024))
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut participant = course.join();
    poll_fn(|cx| {
        match participant.poll_change(cx) {
            None | Some(Phase::Serving) => {}
            Some(Phase::Draining) => connection.as_mut().graceful_shutdown(),
            Some(Phase::Ended) => return Poll::Ready(()),
        }
        // What went wrong with the client has been reported by the call it concerned, if any.
        clock::turn(|| connection.as_mut().poll(cx)).map(drop)
    })
    .await;
}

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Before a request, of which nothing has come.
    Idle,
    /// Within the head of one.
    InHead,
    /// From the end of the head to that of the response. Silent: it has sent nothing since, so no
    /// head has begun either.
    InExchange { is_silent: bool },
}

/// From a request's head to the end of its response: what the client sends meanwhile is not held
/// against it.
#[derive(Debug)]
pub(crate) struct HeadPause(Rc<Cell<Client>>);

impl HeadPause {
    fn begin(client: &Rc<Cell<Client>>) -> Self {
        client.set(Client::InExchange { is_silent: false });
        Self(client.clone())
    }
}

impl Drop for HeadPause {
    fn drop(&mut self) {
        let is_silent = self.0.get() == Client::InExchange { is_silent: true };
        self.0.set(if is_silent { Client::Idle } else { Client::InHead });
    }
}

/// A client's stream, which ends when no request comes for long, when a request head has begun and
/// does not end in time, or when the client takes nothing of what it is sent. The usual head comes
/// in one piece, the usual answer goes out in one, and neither costs a timer.
struct ClientStream {
    stream: TcpStream,
    client: Rc<Cell<Client>>,
    /// Whether part of a response waits for the client to take it.
    owes: bool,
    idle: Stall,
    receiving: Stall,
    sending: Stall,
}

impl ClientStream {
    fn new(stream: TcpStream, client: Rc<Cell<Client>>, limits: &ListenerConfig) -> Self {
        Self {
            stream,
            client,
            owes: false,
            idle: Stall::new(limits.idle_timeout.0),
            receiving: Stall::new(limits.header_timeout.0),
            sending: Stall::new(limits.body_timeout.0),
        }
    }

    /// Nothing to read now.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.client.get() {
            Client::InExchange { .. } => {
                self.client.set(Client::InExchange { is_silent: true });
                self.receiving.reset();
                Poll::Pending
            }
            Client::Idle => {
                self.receiving.reset();
                // As if the client had closed it.
                self.idle.poll(cx).map(Ok)
            }
            Client::InHead => {
                ready!(self.receiving.poll(cx));
                if !self.owes {
                    // The client may be gone.
                    self.stream.try_write(REQUEST_TIMEOUT).ok();
                }
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending => this.poll_silence(cx),
            read => {
                this.idle.reset();
                this.client.set(match this.client.get() {
                    Client::Idle | Client::InHead => Client::InHead,
                    Client::InExchange { .. } => Client::InExchange { is_silent: false },
                });
                read
            }
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
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
