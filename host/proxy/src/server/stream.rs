//! A client's stream with its three limits: on the time from the end of one exchange to the next
//! request, on that of a request head that has begun, and on that in which a client takes nothing
//! of what it is sent.
//!
//! What a client may do between a head and the end of the response is its body's business, so a
//! [`HeadPause`] stops the first two for that time. (hyper has such limits, but makes a timer for
//! each request.)

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::config::ListenerConfig;
use crate::stall::Stall;

/// What a client gets that never finishes its request head. hyper knows nothing of it, so it is
/// written bare.
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
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
    pub(super) fn begin(client: &Rc<Cell<Client>>) -> Self {
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
pub(super) struct ClientStream {
    stream: TcpStream,
    client: Rc<Cell<Client>>,
    /// Whether part of a response waits for the client to take it.
    owes: bool,
    idle: Stall,
    receiving: Stall,
    sending: Stall,
}

impl ClientStream {
    pub(super) fn new(
        stream: TcpStream,
        client: Rc<Cell<Client>>,
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
