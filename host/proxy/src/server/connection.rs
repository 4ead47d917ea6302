//! One client connection: HTTP/1.1 with keep-alive, and an end when the proxy drains.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::{IpAddr, TcpStream};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use fusebox_resilience::clock;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::sync::OwnedSemaphorePermit;

use super::shutdown::{Shutdown, ShutdownPhase};
use super::stream::{ClientState, ClientStream, HeadPause};
use crate::config::ListenerConfig;
use crate::handler::RequestHandler;
use crate::headers::Hop;
use crate::sockets;

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) client: IpAddr,
    pub(super) place: OwnedSemaphorePermit,
}

/// Serves a connection until it ends.
pub(super) async fn serve(
    accepted: Accepted,
    handler: Rc<RequestHandler>,
    limits: &ListenerConfig,
    trusted: &Rc<[IpNet]>,
    shutdown: Rc<Shutdown>,
) {
    let Accepted { stream, client, place } = accepted;
    let _place = place;
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    sockets::prepare(&stream);

    let whereabouts = Rc::new(Cell::new(ClientState::Idle));
    let stream = ClientStream::new(stream, whereabouts.clone(), limits);
    // Shared by all requests of the connection.
    let hop = Rc::new(Hop::new(client, trusted));
    let service = service_fn(move |request| {
        let (handler, hop) = (handler.clone(), hop.clone());
        let pause = HeadPause::begin(&whereabouts);
        async move { Ok::<_, Infallible>(handler.handle(request, &hop, pause).await) }
    });
    let max_header = limits.max_header.in_memory();
    let connection = http1::Builder::new()
        .max_header_size(max_header)
        .max_buf_size(max_header.max(64 * 1024))
        .writev(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut shutdown_watch = shutdown.join();
    poll_fn(|cx| {
        match shutdown_watch.poll_change(cx) {
            None | Some(ShutdownPhase::Serving) => {}
            Some(ShutdownPhase::Draining) => connection.as_mut().graceful_shutdown(),
            Some(ShutdownPhase::Ended) => return Poll::Ready(()),
        }
        // Errors of the connection have been reported by the call that they concern, if any.
        clock::turn(|| connection.as_mut().poll(cx)).map(drop)
    })
    .await;
}
