//! The two halves of a connection's stream, by what it is made of.
//!
//! An enum, not a trait object: a plain connection costs what it would cost alone.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::client::TlsStream;

use super::secured::{self, SecuredReader, SecuredWriter};

use crate::tunnel::TunnelSide;

/// What is read from.
pub(super) enum StreamReader {
    /// TCP without anything in between.
    Plain(OwnedReadHalf),
    /// TLS above TCP.
    Secured(SecuredReader),
}

/// What is written to. Dropping it ends the stream in this direction.
pub(super) enum StreamWriter {
    /// TCP without anything in between.
    Plain(OwnedWriteHalf),
    /// TLS above TCP.
    Secured(SecuredWriter),
}

/// The halves of a plain connection.
pub(super) fn plain(stream: TcpStream) -> (StreamReader, StreamWriter) {
    let (reader, writer) = stream.into_split();
    (StreamReader::Plain(reader), StreamWriter::Plain(writer))
}

/// The halves of a connection over TLS.
pub(super) fn secured(stream: TlsStream<TcpStream>) -> (StreamReader, StreamWriter) {
    let (reader, writer) = secured::halves(stream);
    (StreamReader::Secured(reader), StreamWriter::Secured(writer))
}

impl StreamReader {
    /// Reads what there is room for; 0 is the end of the stream.
    pub(super) fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(reader) => pin!(reader.read_buf(buffer)).poll(cx),
            Self::Secured(reader) => reader.poll_read(buffer, cx),
        }
    }

    /// Whether something has come, as far as the runtime knows.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(reader) => reader.as_ref().poll_read_ready(cx).map(drop),
            Self::Secured(reader) => reader.poll_read_ready(cx),
        }
    }

    /// Whether nothing has come, neither data nor the end, as far as the runtime knows. This costs
    /// no system call. What has come may be lost.
    pub(super) fn looks_silent(&self) -> bool {
        match self {
            Self::Plain(reader) => is_pending(reader.try_read(&mut [0]).map(drop)),
            Self::Secured(reader) => reader.looks_silent(),
        }
    }

    /// The same as far as the kernel knows.
    pub(super) fn is_silent(&self) -> bool {
        match self {
            Self::Plain(reader) => {
                let peeked = SockRef::from(reader.as_ref()).peek(&mut [MaybeUninit::uninit()]);
                is_pending(peeked.map(drop))
            }
            Self::Secured(reader) => reader.is_silent(),
        }
    }
}

impl TunnelSide for (StreamReader, StreamWriter) {
    fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.0.poll_read(buffer, cx)
    }

    fn writer(&mut self) -> Pin<&mut dyn AsyncWrite> {
        let writer: Pin<&mut StreamWriter> = Pin::new(&mut self.1);
        writer
    }
}

fn is_pending(read: io::Result<()>) -> bool {
    read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl AsyncWrite for StreamWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_write(cx, bytes),
            Self::Secured(writer) => Pin::new(writer).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_write_vectored(cx, pieces),
            Self::Secured(writer) => Pin::new(writer).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(writer) => writer.is_write_vectored(),
            Self::Secured(writer) => writer.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_flush(cx),
            Self::Secured(writer) => Pin::new(writer).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(writer) => Pin::new(writer).poll_shutdown(cx),
            Self::Secured(writer) => Pin::new(writer).poll_shutdown(cx),
        }
    }
}
