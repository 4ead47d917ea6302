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

use super::message::Message;
use crate::sending::SendError;

/// A connection. Dropping it closes it, even if a task still writes to it.
pub(super) struct UpstreamConnection {
    /// The upstream's address.
    pub(super) address: SocketAddr,
    reader: OwnedReadHalf,
    pub(super) writing: Writing,
    /// Bytes that were read and not yet used.
    pub(super) buffer: BytesMut,
}

/// The state of the write half.
pub(super) enum Writing {
    /// Free for a request, or used by the current attempt.
    Free(OwnedWriteHalf),
    /// A task sends the remainder of a request whose response has begun. (It must not wait for the
    /// client to take the response: a client that first sends its whole request would never get
    /// there.)
    Task(UploadTask),
    /// It can't be used any more.
    Broken,
}

/// The task. Dropping this aborts it.
pub(super) struct UploadTask(JoinHandle<Result<OwnedWriteHalf, SendError>>);

impl Drop for UploadTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl UpstreamConnection {
    pub(super) fn new(stream: TcpStream, address: SocketAddr) -> Self {
        let (reader, writer) = stream.into_split();
        Self { address, reader, writing: Writing::Free(writer), buffer: BytesMut::new() }
    }

    /// Reads up to `most` bytes into the buffer; 0 is the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.buffer.reserve(most);
        pin!(self.reader.read_buf(&mut self.buffer)).poll(cx)
    }

    /// Whether something has come, as far as the runtime knows.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.reader.as_ref().poll_read_ready(cx).map(drop)
    }

    /// Sends as much of the message as possible now.
    pub(super) fn poll_send(
        &mut self,
        message: &mut Message,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        match &mut self.writing {
            Writing::Free(writer) => message.poll_send(writer, cx),
            Writing::Task(_) | Writing::Broken => {
                Poll::Ready(Err(io::Error::from(io::ErrorKind::BrokenPipe).into()))
            }
        }
    }

    /// Lets a task send the remainder of the message.
    pub(super) fn send_rest_by_task(&mut self, mut message: Message) {
        if let Writing::Free(mut writer) = std::mem::replace(&mut self.writing, Writing::Broken) {
            let task = spawn_local(async move {
                std::future::poll_fn(|cx| message.poll_send(&mut writer, cx)).await?;
                Ok(writer)
            });
            self.writing = Writing::Task(UploadTask(task));
        }
    }

    /// Takes the write half back if the task has ended.
    ///
    /// # Errors
    /// The request's body failed. (If the upstream does not take the rest of the request,
    /// its response is still good.)
    pub(super) fn poll_task(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Result<(), fusebox_resilience::Error> {
        let Writing::Task(task) = &mut self.writing else { return Ok(()) };
        let Poll::Ready(ended) = Pin::new(&mut task.0).poll(cx) else { return Ok(()) };
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

    /// Whether the connection can serve another request.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.writing, Writing::Free(_))
    }

    /// Whether an unused connection has received nothing, neither data nor its end, as far as the
    /// runtime knows. This costs no system call.
    pub(super) fn looks_alive(&self) -> bool {
        is_pending(self.reader.try_read(&mut [0]).map(drop))
    }

    /// The same as far as the kernel knows.
    pub(super) fn is_alive(&self) -> bool {
        is_pending(SockRef::from(self.reader.as_ref()).peek(&mut [MaybeUninit::uninit()]).map(drop))
    }
}

fn is_pending(read: io::Result<()>) -> bool {
    read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
