//! A connection on its way from the acceptor to its end.

use std::future::poll_fn;
use std::net::{IpAddr, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use fusebox_resilience::clock;

use super::connection::{Connection, Shared};
use super::places::{AddressPlace, ConnectionPlace};
use super::shutdown::ShutdownPhase;
use super::socket::Socket;
use crate::headers::{ForwardedRules, Hop};
use crate::sockets;

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
    let mut connection = Connection::new(socket, wire, Hop::new(client, rules), shared);
    let mut serving = pin!(connection.serve());
    poll_fn(|cx| {
        if shutdown.poll_change(cx) == Some(ShutdownPhase::Ended) {
            return Poll::Ready(());
        }
        clock::turn(|| serving.as_mut().poll(cx))
    })
    .await;
}
