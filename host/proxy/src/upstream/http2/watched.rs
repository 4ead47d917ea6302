//! A connection's stream, watched as it is read and written: whether anything comes, and how much
//! at a time; and which requests have not been written to their end.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::frames::FrameMeter;

/// How much is read before those who wait for it have their turn. What is not flow-controlled, such
/// as interim responses, lies in memory until then.
const TURN: usize = 64 * 1024;

/// What is known of what has been read and written.
#[derive(Debug)]
pub(super) struct Watch {
    has_read: Cell<bool>,
    /// How much was read in this turn.
    read: Cell<usize>,
    speaks: Cell<Speaks>,
    written: RefCell<FrameMeter>,
    /// The streams whose request has ended, but for what may wait for a window.
    unwritten: RefCell<Vec<u32>>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            has_read: Cell::default(),
            read: Cell::default(),
            speaks: Cell::default(),
            written: RefCell::new(FrameMeter::of_client()),
            unwritten: RefCell::default(),
        }
    }
}

/// What the other side speaks, by its first bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Speaks {
    #[default]
    Unknown,
    Http1,
    Other,
}

impl Watch {
    /// Begins a turn.
    pub(super) fn begin_turn(&self) {
        self.read.set(0);
    }

    /// Whether anything was read since this was last asked.
    pub(super) fn take_read(&self) -> bool {
        self.has_read.take()
    }

    /// Whether the other side has answered the preface in HTTP/1.
    pub(super) fn speaks_http1(&self) -> bool {
        self.speaks.get() == Speaks::Http1
    }

    /// All of the request of this stream has been handed over.
    pub(super) fn handed_over(&self, stream: u32) {
        self.unwritten.borrow_mut().push(stream);
    }

    /// Whether some of that has not been written.
    pub(super) fn owes(&self, stream: u32) -> bool {
        self.unwritten.borrow().contains(&stream)
    }

    /// It has been written to its end, or never will be.
    pub(super) fn forget(&self, stream: u32) {
        let unwritten = &mut *self.unwritten.borrow_mut();
        if let Some(index) = unwritten.iter().position(|other| *other == stream) {
            unwritten.swap_remove(index);
        }
    }

    /// The first so many of these bytes have been written.
    fn wrote(&self, pieces: &[IoSlice<'_>], mut length: usize) {
        let written = &mut *self.written.borrow_mut();
        for piece in pieces {
            let part = &piece[..length.min(piece.len())];
            length -= part.len();
            written.pass(part, |frame| {
                if frame.ends_stream() {
                    self.forget(frame.stream);
                }
            });
        }
    }

    fn note(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.has_read.set(true);
        self.read.set(self.read.get() + bytes.len());
        if self.speaks.get() == Speaks::Unknown {
            let is_http1 = bytes.starts_with(b"HTTP/1.");
            self.speaks.set(if is_http1 { Speaks::Http1 } else { Speaks::Other });
        }
    }
}

/// A stream that is watched.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) watch: Rc<Watch>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.watch.read.get() >= TURN {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let known = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.watch.note(&buffer.filled()[known..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = written {
            self.watch.wrote(&[IoSlice::new(bytes)], length);
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        if let Poll::Ready(Ok(length)) = written {
            self.watch.wrote(pieces, length);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn watched(sends: &[u8]) -> (impl AsyncRead + Unpin + use<>, Rc<Watch>) {
        let (stream, mut other) = duplex(sends.len());
        let watch = Rc::<Watch>::default();
        futures_util::future::FutureExt::now_or_never(other.write_all(sends)).unwrap().unwrap();
        (Watched { stream, watch: watch.clone() }, watch)
    }

    #[tokio::test]
    async fn a_turn_ends_when_enough_was_read() {
        let (mut stream, watch) = watched(&vec![0; 4 * TURN]);
        let mut buffer = vec![0; TURN / 2];
        for _ in 0..3 {
            watch.begin_turn();
            for _ in 0..2 {
                stream.read_exact(&mut buffer).await.unwrap();
            }
            let read = poll_fn(|cx| {
                let mut buffer = ReadBuf::new(&mut buffer);
                Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut buffer).is_ready())
            });
            assert!(!read.await);
        }
        assert!(watch.take_read());
        assert!(!watch.take_read());
    }

    #[tokio::test]
    async fn an_answer_in_http_1_is_known() {
        for (sends, is_http1) in [("HTTP/1.1 400 Bad Request\r\n", true), ("\0\0\0\x04", false)] {
            let (mut stream, watch) = watched(sends.as_bytes());
            assert!(!watch.speaks_http1());
            stream.read_exact(&mut vec![0; sends.len()]).await.unwrap();
            assert_eq!(watch.speaks_http1(), is_http1, "{sends}");
        }
    }
}
