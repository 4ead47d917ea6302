//! A client's socket: what bytes come and go over, and what tells that the client has left.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What a client's bytes go over.
pub(super) trait ClientStream: AsyncRead + AsyncWrite + Unpin + 'static {
    /// Whether it may hold back what it has taken to send, until it is flushed.
    const HOLDS_BACK: bool;
}

/// A client's bytes. What is above it (TLS, say) may wrap it: the [`Wire`] stays as it is.
pub(super) struct Socket {
    reader: OwnedReadHalf,
    writer: Rc<OwnedWriteHalf>,
}

/// A second handle of a client's socket.
#[derive(Clone)]
pub(super) struct Wire(Rc<OwnedWriteHalf>);

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        let (reader, writer) = stream.into_split();
        Self { reader, writer: Rc::new(writer) }
    }

    pub(super) fn wire(&self) -> Wire {
        Wire(self.writer.clone())
    }

    /// Waits for the first byte, which is still to be read then. `None`: the client has left.
    pub(super) async fn peek(&mut self) -> Option<u8> {
        let mut first = [0];
        match self.reader.peek(&mut first).await {
            Ok(1..) => Some(first[0]),
            _ => None,
        }
    }

    /// Waits for more, and looks at it: at most `most` bytes, which are still to be read then, go
    /// behind `bytes`. Returns their number. 0: the client has left.
    pub(super) async fn look(&mut self, bytes: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        let known = bytes.len();
        bytes.resize(known + most, 0);
        let seen = self.reader.peek(&mut bytes[known..]).await;
        bytes.truncate(known + seen.as_ref().map_or(0, |seen| *seen));
        seen
    }

    /// Reads away what has been looked at.
    pub(super) async fn skip(&mut self, length: usize) -> io::Result<()> {
        let mut seen = vec![0; length];
        self.reader.read_exact(&mut seen).await.map(drop)
    }

    fn poll_writing(
        &self,
        cx: &mut Context<'_>,
        write: impl Fn(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = self.writer.as_ref().as_ref();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

impl ClientStream for Socket {
    const HOLDS_BACK: bool = false;
}

impl Wire {
    /// Whether something has come: bytes, or the client's end.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_ref().as_ref().poll_read_ready(cx).map(drop)
    }

    /// Waits until the client has closed its side or broken off, whatever of it lies unread.
    pub(super) async fn left(self) {
        // Of a socket that was not registered for urgent data, only the end is told under this.
        self.0.ready(Interest::PRIORITY).await.ok();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(cx, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream: &TcpStream = self.writer.as_ref().as_ref();
        Poll::Ready(socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write))
    }
}
