//! The handshake of a client's connection: bounded in time, and in how many there are at once.

use fusebox_resilience::HandshakeFailure;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::secured::SecuredSocket;
use super::shared::Shared;
use super::socket::Socket;
use crate::certificate::ShownCertificate;
use crate::headers::Hop;
use crate::tls::{ListenerTls, TlsFailure};

/// The first byte of a message of TLS that begins a handshake.
const HANDSHAKE: u8 = 22;

/// What became of a connection at its beginning.
pub(super) enum Opening {
    /// TLS is spoken.
    Secured(Box<SecuredSocket>),
    /// What comes looks like HTTP without TLS.
    Plain(Socket),
    /// It has ended, which has been told.
    End,
}

/// Makes the handshake, until `end` at the latest.
pub(super) async fn open(
    mut socket: Socket,
    tls: &ListenerTls,
    shared: &Shared,
    hop: &mut Hop,
    end: Instant,
) -> Opening {
    let failed = |failure: TlsFailure, hop: &Hop| {
        shared.handler.fail_handshake(failure.reason, failure.words, hop);
        Opening::End
    };
    let slow =
        |words: &str| TlsFailure { reason: HandshakeFailure::Timeout, words: words.to_owned() };
    // Who sends nothing takes no place from others.
    let first = match timeout_at(end, socket.peek()).await {
        Ok(Some(first)) => first,
        // Somebody looks whether the port is open.
        Ok(None) => return Opening::End,
        Err(_) => return failed(slow("it sent nothing"), hop),
    };
    if first != HANDSHAKE && first.is_ascii_uppercase() {
        return Opening::Plain(socket);
    }
    let place = match tls.try_place() {
        Some(place) => Ok(place),
        None => {
            shared.handler.handshakes_full(tls.max_handshakes);
            timeout_at(end, tls.place()).await
        }
    };
    let Ok(_place) = place else { return failed(slow("there was no place in time"), hop) };
    let accepting = TlsAcceptor::from(tls.current()).accept(socket);
    let stream = match timeout_at(end, accepting).await {
        Ok(Ok(stream)) => SecuredSocket::new(stream),
        Ok(Err(error)) => return failed(TlsFailure::of_handshake(&error), hop),
        Err(_) => return failed(slow("it took too long"), hop),
    };
    let session = stream.session();
    shared.handler.secured(session);
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    hop.secure(shown.and_then(ShownCertificate::of), tls.forwards_certificates);
    Opening::Secured(Box::new(stream))
}
