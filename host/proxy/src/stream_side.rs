//! A stream of HTTP/2 as a side of a tunnel (RFC 8441): its data is what is said, the end of it is
//! the end in that direction.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::AsyncWrite;

use crate::tunnel::TunnelSide;

/// A stream. Dropped before both ends, it is reset.
#[derive(Debug)]
pub(crate) struct StreamSide {
    sending: SendStream<Bytes>,
    receiving: RecvStream,
}

impl StreamSide {
    pub(crate) fn new(sending: SendStream<Bytes>, receiving: RecvStream) -> Self {
        Self { sending, receiving }
    }

    /// Whether the other side has reset it.
    pub(crate) fn is_reset(&mut self, cx: &mut Context<'_>) -> bool {
        self.sending.poll_reset(cx).is_ready()
    }

    /// Ends it as a connection that breaks.
    pub(crate) fn reset(&mut self) {
        self.sending.send_reset(Reason::CANCEL);
    }
}

impl TunnelSide for StreamSide {
    fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        while let Some(data) = ready!(self.receiving.poll_data(cx)) {
            let data = data.map_err(io::Error::other)?;
            if !data.is_empty() {
                buffer.extend_from_slice(&data);
                // The other side may send so much more. An error: the stream has ended.
                self.receiving.flow_control().release_capacity(data.len()).ok();
                return Poll::Ready(Ok(data.len()));
            }
        }
        Poll::Ready(Ok(0))
    }

    fn writer(&mut self) -> Pin<&mut dyn AsyncWrite> {
        let writer: Pin<&mut Self> = Pin::new(self);
        writer
    }
}

impl AsyncWrite for StreamSide {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sending.reserve_capacity(bytes.len());
        while self.sending.capacity() == 0 {
            match ready!(self.sending.poll_capacity(cx)) {
                Some(room) => room.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let length = bytes.len().min(self.sending.capacity());
        let part = Bytes::copy_from_slice(&bytes[..length]);
        self.sending.send_data(part, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sending.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
