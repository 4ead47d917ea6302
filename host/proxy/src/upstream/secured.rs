//! The two halves of a connection over TLS.

use std::cell::RefCell;
use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use fusebox_resilience::{Error, ErrorKind, HandshakeFailure};
use rustls::ClientConnection;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::tls::{HTTP_2, Offer, TlsFailure, UpstreamTls};

type SharedStream = Rc<RefCell<TlsStream<TcpStream>>>;

/// What is read from.
pub(super) struct SecuredReader(SharedStream);

/// What is written to. Dropping it tells the endpoint that no more comes.
pub(super) struct SecuredWriter(SharedStream);

/// Makes the handshake of TLS with an endpoint whose URL has this host, until `end` at the latest.
///
/// # Errors
/// It fails: no request has gone out.
pub(super) async fn secure(
    stream: TcpStream,
    tls: &UpstreamTls,
    host: &str,
    offer: Offer,
    end: Instant,
) -> Result<TlsStream<TcpStream>, Error> {
    let name = tls.name(host).ok_or_else(|| {
        Error::new(ErrorKind::TlsCertificateError)
            .with_source("the host of the URL is no name that a certificate can be for")
    })?;
    let connecting = TlsConnector::from(tls.current(offer)).connect(name, stream);
    let Ok(connected) = timeout_at(end, connecting).await else {
        return Err(Error::new(ErrorKind::ConnectionTimeout)
            .with_source("the handshake of TLS took too long"));
    };
    let stream = connected.map_err(|error| {
        let TlsFailure { reason, words } = TlsFailure::of_handshake(&error);
        let kind = match reason {
            HandshakeFailure::Certificate => ErrorKind::TlsCertificateError,
            _ => ErrorKind::TlsProtocolError,
        };
        Error::new(kind).with_source(words)
    })?;
    if !tls.takes(stream.get_ref().1.alpn_protocol()) {
        return Err(Error::new(ErrorKind::TlsProtocolError)
            .with_source("it does not say that it speaks HTTP/2 (h2 by ALPN)"));
    }
    Ok(stream)
}

/// Whether both sides have agreed on HTTP/2.
pub(super) fn is_http2(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

/// The halves of a connection whose handshake has ended.
pub(super) fn halves(stream: TlsStream<TcpStream>) -> (SecuredReader, SecuredWriter) {
    let shared = Rc::new(RefCell::new(stream));
    (SecuredReader(shared.clone()), SecuredWriter(shared))
}

impl SecuredReader {
    pub(super) fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self.0.borrow_mut();
        pin!(stream.read_buf(buffer)).poll(cx)
    }

    /// Whether something has come, as far as the runtime knows; it may be a message of TLS itself.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let stream = self.0.borrow();
        let (socket, session) = stream.get_ref();
        // What is decrypted and not taken yet makes no socket ready.
        if !session.wants_read() {
            return Poll::Ready(());
        }
        socket.poll_read_ready(cx).map(drop)
    }

    /// Whether nothing has come, neither data nor the end, as far as the runtime knows.
    pub(super) fn looks_silent(&self) -> bool {
        let stream = &mut *self.0.borrow_mut();
        let (socket, session) = stream.get_mut();
        is_silent(session, |buffer| socket.try_read(buffer))
    }

    /// The same as far as the kernel knows.
    pub(super) fn is_silent(&self) -> bool {
        let stream = &mut *self.0.borrow_mut();
        let (socket, session) = stream.get_mut();
        is_silent(session, |buffer| (&*SockRef::from(&*socket)).read(buffer))
    }
}

/// Whether nothing but messages of TLS itself can be read, such as tickets, which is where these
/// are taken in.
fn is_silent(
    session: &mut ClientConnection,
    read: impl FnMut(&mut [u8]) -> io::Result<usize>,
) -> bool {
    let mut source = SocketSource(read);
    loop {
        // It wants nothing more once there is data or the end.
        if !session.wants_read() {
            return false;
        }
        match session.read_tls(&mut source) {
            Ok(0) => return false,
            Ok(_) if session.process_new_packets().is_err() => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

struct SocketSource<F>(F);

impl<F: FnMut(&mut [u8]) -> io::Result<usize>> Read for SocketSource<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.0)(buffer)
    }
}

impl AsyncWrite for SecuredWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }
}

impl Drop for SecuredWriter {
    fn drop(&mut self) {
        let stream = &mut *self.0.borrow_mut();
        let (socket, session) = stream.get_mut();
        // What can't go out at once is not waited for.
        session.send_close_notify();
        let mut sink = SocketSink(|bytes: &[u8]| socket.try_write(bytes));
        while session.wants_write() && session.write_tls(&mut sink).is_ok_and(|sent| sent > 0) {}
        SockRef::from(&*socket).shutdown(Shutdown::Write).ok();
    }
}

struct SocketSink<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<usize>> io::Write for SocketSink<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
