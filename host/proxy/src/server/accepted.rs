//! A connection on its way from the acceptor to its end.

use std::future::poll_fn;
use std::net::{IpAddr, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use fusebox_resilience::clock;

use super::connection::{Connection, Shared};
use super::handshake::{self, Opening};
use super::places::{AddressPlace, ConnectionPlace};
use super::shutdown::{ShutdownPhase, ShutdownWatch};
use super::socket::{Socket, Wire};
use crate::headers::{ForwardedRules, Hop};
use crate::sockets;
use crate::tls::ListenerTls;

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) client: IpAddr,
    pub(super) place: ConnectionPlace,
    /// `None`: its address has no limit.
    pub(super) of_address: Option<AddressPlace>,
}

/// Serves a connection until it ends, or is cut.
pub(super) async fn serve(accepted: Accepted, shared: Rc<Shared>, rules: &Rc<ForwardedRules>) {
    let Accepted { stream, client, place: _place, of_address: _of_address } = accepted;
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    sockets::prepare(&stream);

    let mut shutdown = shared.shutdown.join();
    let socket = Socket::new(stream);
    let wire = socket.wire();
    let hop = Hop::new(client, rules);
    match shared.tls.clone() {
        None => {
            let mut connection = Connection::new(socket, wire, hop, shared);
            let mut serving = pin!(connection.serve());
            poll_fn(|cx| poll_until_cut(&mut shutdown, serving.as_mut(), cx)).await;
        }
        Some(tls) => {
            // Boxed: the others need not have its size.
            let mut serving =
                Box::pin(async move { serve_secured(socket, wire, hop, &tls, shared).await });
            poll_fn(|cx| poll_until_cut(&mut shutdown, serving.as_mut(), cx)).await;
        }
    }
}

/// Ready when the connection has ended, or is to be cut.
fn poll_until_cut<T>(
    shutdown: &mut ShutdownWatch,
    serving: Pin<&mut impl Future<Output = T>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    if shutdown.poll_change(cx) == Some(ShutdownPhase::Ended) {
        return Poll::Ready(());
    }
    clock::turn(|| serving.poll(cx)).map(drop)
}

/// The same over TLS.
async fn serve_secured(
    socket: Socket,
    wire: Wire,
    mut hop: Hop,
    tls: &ListenerTls,
    shared: Rc<Shared>,
) {
    match handshake::open(socket, tls, &shared, &mut hop).await {
        Opening::Secured(stream) => {
            let mut connection = Connection::new(*stream, wire, hop, shared);
            // Where an answer breaks off, the end must not look like one that is meant.
            if connection.serve().await {
                connection.close().await;
            }
        }
        Opening::Plain(socket) => {
            Connection::new(socket, wire, hop, shared).refuse_plain().await;
        }
        Opening::End => {}
    }
}
