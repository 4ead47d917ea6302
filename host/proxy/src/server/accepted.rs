//! A connection on its way from the acceptor to its end.

use std::future::poll_fn;
use std::net::{IpAddr, TcpStream};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use fusebox_resilience::clock;
use tokio::time::Instant;

use super::connection::{Connection, ServedAs};
use super::handshake::{self, Opening};
use super::http2;
use super::places::{AddressPlace, ConnectionPlace};
use super::proxied::{self, NoHeader};
use super::shared::Shared;
use super::shutdown::{ShutdownPhase, ShutdownWatch};
use super::socket::{Socket, Wire};
use crate::handler::RequestHandler;
use crate::headers::{ForwardedRules, Hop};
use crate::reply::Unread;
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
    #[cfg(not(target_os = "linux"))]
    crate::sockets::prepare(&stream);
    let (mut shutdown, handler) = (shared.shutdown.join(), shared.handler.clone());
    let socket = Socket::new(stream);
    let wire = socket.wire();
    if shared.tls.is_none() && !shared.limits.proxy_protocol {
        let hop = Hop::new(client, rules);
        let mut connection = Connection::new(socket, wire, hop, shared.clone());
        let served = {
            let mut serving = pin!(connection.serve());
            poll_fn(|cx| poll_until_cut(&mut shutdown, &handler, serving.as_mut(), cx)).await
        };
        if served == Some(ServedAs::Http2)
            && let Some((stream, ahead, hop)) = connection.into_parts()
        {
            let mut serving = Box::pin(http2::serve(stream, ahead, hop, shared));
            poll_fn(|cx| poll_until_cut(&mut shutdown, &handler, serving.as_mut(), cx)).await;
        }
    } else {
        // Boxed: the others need not have its size.
        let mut serving = Box::pin(serve_below(socket, wire, client, rules.clone(), shared));
        poll_fn(|cx| poll_until_cut(&mut shutdown, &handler, serving.as_mut(), cx)).await;
    }
}

/// Ready when the connection has ended, or, with nothing, when it is to be cut.
fn poll_until_cut<T>(
    shutdown: &mut ShutdownWatch,
    handler: &RequestHandler,
    serving: Pin<&mut impl Future<Output = T>>,
    cx: &mut Context<'_>,
) -> Poll<Option<T>> {
    if shutdown.poll_change(cx) == Some(ShutdownPhase::Ended) {
        handler.cut_calls();
        return Poll::Ready(None);
    }
    clock::turn(|| serving.poll(cx)).map(Some)
}

/// The same with something below HTTP.
async fn serve_below(
    mut socket: Socket,
    wire: Wire,
    client: IpAddr,
    rules: Rc<ForwardedRules>,
    shared: Rc<Shared>,
) {
    let end = Instant::now() + shared.limits.header_timeout.0;
    let is_trusted = rules.trusted.iter().any(|network| network.contains(&client));
    let mut client = client;
    if shared.limits.proxy_protocol {
        let refused = match proxied::address(&mut socket, end).await {
            // Nobody is believed whom nobody has named.
            Ok(Some(address)) if is_trusted => {
                client = address;
                None
            }
            Ok(_) => None,
            Err(NoHeader::Wrong) => Some(Unread::NotProxied),
            Err(NoHeader::Slow) => Some(Unread::Slow),
            Err(NoHeader::Left) => return,
        };
        if let Some(unread) = refused {
            let hop = Hop::new(client, &rules);
            return Connection::new(socket, wire, hop, shared).refuse_all(unread).await;
        }
    }
    let hop = Hop::new(client, &rules);
    match shared.tls.clone() {
        Some(tls) => serve_secured(socket, wire, hop, &tls, shared, end).await,
        None => {
            let mut connection = Connection::new(socket, wire, hop, shared.clone());
            if connection.serve().await == ServedAs::Http2
                && let Some((stream, ahead, hop)) = connection.into_parts()
            {
                Box::pin(http2::serve(stream, ahead, hop, shared)).await;
            }
        }
    }
}

/// The same over TLS, whose handshake has to end in time.
async fn serve_secured(
    socket: Socket,
    wire: Wire,
    mut hop: Hop,
    tls: &ListenerTls,
    shared: Rc<Shared>,
    end: Instant,
) {
    match handshake::open(socket, tls, &shared, &mut hop, end).await {
        Opening::Secured(stream) if stream.is_http2() => {
            Box::pin(http2::serve(*stream, BytesMut::new(), hop, shared)).await;
        }
        Opening::Secured(stream) => {
            let mut connection = Connection::new(*stream, wire, hop, shared.clone());
            match connection.serve().await {
                ServedAs::Whole => connection.close().await,
                // Where an answer breaks off, the end must not look like one that is meant.
                ServedAs::Broken => {}
                // It has not asked for it.
                ServedAs::Http2 => {
                    if let Some((stream, ahead, hop)) = connection.into_parts() {
                        Box::pin(http2::serve(stream, ahead, hop, shared)).await;
                    }
                }
            }
        }
        Opening::Plain(socket) => {
            Connection::new(socket, wire, hop, shared).refuse_all(Unread::Plain).await;
        }
        Opening::End => {}
    }
}
