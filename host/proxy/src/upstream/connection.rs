//! A connection to an upstream: bytes out, bytes in.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{JoinHandle, spawn_local};

use super::message::{Message, SendError};

/// A connection, which is closed when this is dropped, whoever still writes to it.
pub(super) struct Connection {
    /// Whom it leads to.
    pub(super) address: SocketAddr,
    reader: OwnedReadHalf,
    pub(super) writing: Writing,
    /// Read and not yet used.
    pub(super) buffer: BytesMut,
}

/// What the way out is used for.
pub(super) enum Writing {
    /// Nothing, or what comes next.
    Free(OwnedWriteHalf),
    /// A task sends the rest of a request whose response has begun. (It must go on whether or not
    /// the client takes the response, or a client that first sends all of its request would
    /// wait for ever.)
    Rest(Rest),
    /// It can't be used any more.
    Broken,
}

/// The task, which ends when this is dropped.
pub(super) struct Rest(JoinHandle<Result<OwnedWriteHalf, SendError>>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, address: SocketAddr) -> Self {
        let (reader, writer) = stream.into_split();
        Self { address, reader, writing: Writing::Free(writer), buffer: BytesMut::new() }
    }

    /// Reads up to `most` bytes into the buffer; 0 is the end.
    pub(super) fn poll_read(
        &mut self,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.buffer.reserve(most);
        pin!(self.reader.read_buf(&mut self.buffer)).poll(cx)
    }

    /// Sends as much of the message as can be sent now.
    pub(super) fn poll_send(
        &mut self,
        message: &mut Message,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        match &mut self.writing {
            Writing::Free(writer) => message.poll_send(writer, cx),
            Writing::Rest(_) | Writing::Broken => {
                Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
            }
        }
    }

    /// Leaves the rest of the message to a task.
    pub(super) fn send_rest(&mut self, mut message: Message) {
        if let Writing::Free(mut writer) = std::mem::replace(&mut self.writing, Writing::Broken) {
            let task = spawn_local(async move {
                std::future::poll_fn(|cx| message.poll_send(&mut writer, cx)).await?;
                Ok(writer)
            });
            self.writing = Writing::Rest(Rest(task));
        }
    }

    /// Whether the task that sends the rest of the request has come to an end.
    ///
    /// # Errors
    /// The request's body is no good. (That the upstream takes no more of it is none of the
    /// response's business.)
    pub(super) fn poll_rest(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<(), fusebox_resilience::Error> {
        let Writing::Rest(rest) = &mut self.writing else { return Ok(()) };
        let Poll::Ready(ended) = Pin::new(&mut rest.0).poll(cx) else { return Ok(()) };
        self.writing = match ended {
            Ok(Ok(writer)) => Writing::Free(writer),
            Ok(Err(SendError::Body(error))) => {
                self.writing = Writing::Broken;
                return Err(error);
            }
            Ok(Err(SendError::Io(_))) | Err(_) => Writing::Broken,
        };
        Ok(())
    }

    /// Whether the way out can serve another request.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.writing, Writing::Free(_))
    }

    /// Whether nothing has come on a connection that nobody uses, neither its end nor what nobody
    /// has asked for: as far as the runtime knows, which costs nothing.
    pub(super) fn looks_alive(&self) -> bool {
        is_pending(self.reader.try_read(&mut [0]).map(drop))
    }

    /// The same, as the system knows it: of use after some time, in which most upstreams close.
    pub(super) fn is_alive(&self) -> bool {
        is_pending(SockRef::from(self.reader.as_ref()).peek(&mut [MaybeUninit::uninit()]).map(drop))
    }
}

fn is_pending(read: io::Result<()>) -> bool {
    read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
