//! The other side of a connection, which says its piece and then ends. The fuzz targets include
//! this file.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the other side says, piece by piece.
pub(crate) struct Script {
    pieces: std::vec::IntoIter<Bytes>,
    /// `None`: the connection is closed.
    end: Option<io::ErrorKind>,
    /// Whether it may begin.
    asked: bool,
    waiting: Option<Waker>,
}

impl Script {
    /// What is said once the other side has been `asked`, if it has to be. Then the connection is
    /// closed, or ends with this.
    pub(crate) fn new(mut pieces: Vec<Bytes>, asked: bool, end: Option<io::ErrorKind>) -> Self {
        // To read nothing is to read the end.
        pieces.retain(|piece| !piece.is_empty());
        Self { pieces: pieces.into_iter(), end, asked, waiting: None }
    }
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(mut piece) = self.pieces.next() {
            let now = piece.split_to(piece.len().min(buffer.remaining()));
            buffer.put_slice(&now);
            if !piece.is_empty() {
                let rest: Vec<Bytes> = std::iter::once(piece).chain(self.pieces.by_ref()).collect();
                self.pieces = rest.into_iter();
            }
        } else if let Some(end) = self.end {
            return Poll::Ready(Err(end.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        self.waiting.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
