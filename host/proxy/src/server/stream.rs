//! A client's stream with three limits: on the time from the end of one exchange to the next
//! request, on the time of a request head that has begun, and on the time in which a client takes
//! nothing of its response.
//!
//! From a head to the end of the response, the limits of the bodies apply, so a [`HeadPause`] stops
//! the first two. (hyper has such limits, but makes a timer for each request.)

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::config::ListenerConfig;
use crate::stall::Stall;

/// The answer to a client that does not finish its request head. hyper does not know of the limit,
/// so it is written to the socket.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// The progress of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientState {
    /// Before a request: nothing of it has arrived.
    Idle,
    /// Within a request head.
    InHead,
    /// From the end of a head to the end of its response. `is_silent`: nothing has arrived since,
    /// so no other head has begun.
    InExchange { is_silent: bool },
}

/// Stops the limits on a head, from a request's head to the end of its response.
#[derive(Debug)]
pub(crate) struct HeadPause(Rc<Cell<ClientState>>);

impl HeadPause {
    pub(super) fn begin(client: &Rc<Cell<ClientState>>) -> Self {
        client.set(ClientState::InExchange { is_silent: false });
        Self(client.clone())
    }
}

impl Drop for HeadPause {
    fn drop(&mut self) {
        let is_silent = self.0.get() == ClientState::InExchange { is_silent: true };
        self.0.set(if is_silent { ClientState::Idle } else { ClientState::InHead });
    }
}

/// A client's stream with its limits. A head that arrives in one piece, and an answer that goes out
/// in one, need no timer.
pub(super) struct ClientStream {
    stream: TcpStream,
    client: Rc<Cell<ClientState>>,
    /// Whether part of a response still has to be written.
    owes: bool,
    idle: Stall,
    receiving: Stall,
    sending: Stall,
}

impl ClientStream {
    pub(super) fn new(
        stream: TcpStream,
        client: Rc<Cell<ClientState>>,
        limits: &ListenerConfig,
    ) -> Self {
        Self {
            stream,
            client,
            owes: false,
            idle: Stall::new(limits.idle_timeout.0),
            receiving: Stall::new(limits.header_timeout.0),
            sending: Stall::new(limits.body_timeout.0),
        }
    }

    /// There is nothing to read now.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.client.get() {
            ClientState::InExchange { .. } => {
                self.client.set(ClientState::InExchange { is_silent: true });
                self.receiving.reset();
                Poll::Pending
            }
            ClientState::Idle => {
                self.receiving.reset();
                // As if the client had closed the connection.
                self.idle.poll(cx).map(Ok)
            }
            ClientState::InHead => {
                ready!(self.receiving.poll(cx));
                if !self.owes {
                    // An error is ignored: the client may have left.
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
                    ClientState::Idle | ClientState::InHead => ClientState::InHead,
                    ClientState::InExchange { .. } => ClientState::InExchange { is_silent: false },
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
