//! The handshake of a client's connection: bounded in time, and in how many there are at once.

use std::future::poll_fn;

use fusebox_resilience::{ConnectionLimit, HandshakeFailure};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::idle::WaitEnd;
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
    // Who sends nothing takes no place among the handshakes.
    let first = match first_byte(&mut socket, shared, end).await {
        Ok(first) => first,
        Err(Silence::TooLong) => return failed(slow("it sent nothing"), hop),
        Err(Silence::CrowdedOut) => {
            shared.handler.end_connection(ConnectionLimit::MaxConnections, hop);
            return Opening::End;
        }
        Err(Silence::Left) => return Opening::End,
    };
    if first != HANDSHAKE && first.is_ascii_uppercase() {
        return Opening::Plain(socket);
    }
    let (mut place, is_full) = tls.places.take();
    if is_full {
        shared.handler.handshakes_full(tls.places.count());
    }
    let accepting = shared.turns.take(TlsAcceptor::from(tls.current()).accept(socket));
    let accepted = tokio::select! {
        biased;
        accepted = timeout_at(end, accepting) => accepted,
        () = place.lost() => return failed(crowded_out(), hop),
    };
    let stream = match accepted {
        Ok(Ok(stream)) => SecuredSocket::new(stream),
        Ok(Err(error)) => return failed(TlsFailure::of_handshake(&error), hop),
        Err(_) => return failed(slow("it took too long"), hop),
    };
    let session = stream.session();
    shared.handler.secured(session);
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    hop.secure(shown.and_then(ShownCertificate::of), tls.forwards_certificates);
    if tls.is_strict {
        hop.bind(session.server_name());
    }
    Opening::Secured(Box::new(stream))
}

/// Why nothing has come.
enum Silence {
    TooLong,
    /// Another connection needs the place.
    CrowdedOut,
    /// Somebody looks whether the port is open, or the proxy is to end.
    Left,
}

/// Waits for the first byte, as a connection that is idle.
async fn first_byte(socket: &mut Socket, shared: &Shared, end: Instant) -> Result<u8, Silence> {
    let idle = shared.idle.join();
    let waited = poll_fn(|cx| {
        idle.poll_wait(cx).map(|end| match end {
            WaitEnd::TooLong => Silence::TooLong,
            WaitEnd::CrowdedOut => Silence::CrowdedOut,
            WaitEnd::Drained => Silence::Left,
        })
    });
    tokio::select! {
        biased;
        first = timeout_at(end, socket.peek()) => match first {
            Ok(Some(first)) => Ok(first),
            Ok(None) => Err(Silence::Left),
            Err(_) => Err(Silence::TooLong),
        },
        silence = waited => Err(silence),
    }
}

fn slow(words: &str) -> TlsFailure {
    TlsFailure { reason: HandshakeFailure::Timeout, words: words.to_owned() }
}

fn crowded_out() -> TlsFailure {
    let words = "another needed its place".to_owned();
    TlsFailure { reason: HandshakeFailure::CrowdedOut, words }
}
