//! A connection to an endpoint on which HTTP/1.1 is spoken: bytes out, bytes in.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio::task::{JoinHandle, spawn_local};

use super::life::ConnectionLife;
use super::message::Message;
use super::places::UpstreamPlace;
use super::stream::{StreamReader, StreamWriter};
use crate::sending::SendError;
use crate::tunnel::TunnelSide;

/// A connection. Dropping it closes it, even if a task still writes to it.
pub(super) struct UpstreamConnection {
    reader: StreamReader,
    pub(super) writing: Writing,
    /// Bytes that were read and not yet used.
    pub(super) buffer: BytesMut,
    /// In a box: connections are moved about, and this is hardly asked for.
    terms: Box<ConnectionTerms>,
}

/// What stays the same of a connection.
struct ConnectionTerms {
    /// The endpoint's address.
    address: SocketAddr,
    /// `None`: it has no end of its own.
    life: Option<ConnectionLife>,
    _place: UpstreamPlace,
}

/// The state of the write half.
pub(super) enum Writing {
    /// Free for a request, or used by the current attempt.
    Free(StreamWriter),
    /// A task sends the remainder of a request whose response has begun. (It must not wait for the
    /// client to take the response: a client that first sends its whole request would never get
    /// there.)
    Task(UploadTask),
    /// It can't be used any more.
    Broken,
}

/// The task. Dropping this aborts it.
pub(super) struct UploadTask(JoinHandle<Result<StreamWriter, SendError>>);

impl Drop for UploadTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl UpstreamConnection {
    /// One that has this place, for so long.
    pub(super) fn new(
        (reader, writer): (StreamReader, StreamWriter),
        address: SocketAddr,
        place: UpstreamPlace,
        life: Option<ConnectionLife>,
    ) -> Self {
        let (writing, buffer) = (Writing::Free(writer), BytesMut::new());
        let terms = ConnectionTerms { address, life, _place: place };
        Self { reader, writing, buffer, terms: Box::new(terms) }
    }

    /// The endpoint's address.
    pub(super) fn address(&self) -> SocketAddr {
        self.terms.address
    }

    /// It has served a request.
    pub(super) fn spend(&self) {
        if let Some(life) = &self.terms.life {
            life.spend();
        }
    }

    /// Whether it gets no more requests.
    pub(super) fn is_over(&self) -> bool {
        self.terms.life.as_ref().is_some_and(ConnectionLife::is_over)
    }

    /// Reads what the buffer has room for; 0 is the end of the stream.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.reader.poll_read(&mut self.buffer, cx)
    }

    /// Whether something has come, as far as the runtime knows.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.reader.poll_read_ready(cx)
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

    /// A side of a tunnel, and what has come over it. `None`: a request is still being sent.
    pub(super) fn into_side(self) -> Option<(Box<dyn TunnelSide>, BytesMut)> {
        let Self { reader, writing: Writing::Free(writer), buffer, terms } = self else {
            return None;
        };
        Some((Box::new(SwitchedSide { streams: (reader, writer), _terms: terms }), buffer))
    }

    /// Whether the connection can serve another request.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.writing, Writing::Free(_))
    }

    /// Whether an unused connection has received nothing, neither data nor its end, as far as the
    /// runtime knows. This costs no system call.
    pub(super) fn looks_alive(&self) -> bool {
        self.reader.looks_silent()
    }

    /// The same as far as the kernel knows.
    pub(super) fn is_alive(&self) -> bool {
        self.reader.is_silent()
    }
}

/// A connection on which something else is spoken from now on. It keeps its place.
struct SwitchedSide {
    streams: (StreamReader, StreamWriter),
    _terms: Box<ConnectionTerms>,
}

impl TunnelSide for SwitchedSide {
    fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.streams.poll_read(buffer, cx)
    }

    fn writer(&mut self) -> Pin<&mut dyn AsyncWrite> {
        self.streams.writer()
    }
}
