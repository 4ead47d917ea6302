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
use tokio::sync::OwnedSemaphorePermit;

use super::course::{Course, Phase};
use super::stream::{Client, ClientStream, HeadPause};
use crate::config::ListenerConfig;
use crate::handler::Handler;
use crate::headers::Hop;
use crate::sockets;

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) client: IpAddr,
    pub(super) place: OwnedSemaphorePermit,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    accepted: Accepted,
    handler: Rc<Handler>,
    limits: &ListenerConfig,
    course: Rc<Course>,
) {
    let Accepted { stream, client, place } = accepted;
    let _place = place;
    let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { return };
    sockets::prepare(&stream);

    let whereabouts = Rc::new(Cell::new(Client::Idle));
    let stream = ClientStream::new(stream, whereabouts.clone(), limits);
    // Once for all requests of the connection.
    let hop = Rc::new(Hop::new(client));
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
    let mut participant = course.join();
    poll_fn(|cx| {
        match participant.poll_change(cx) {
            None | Some(Phase::Serving) => {}
            Some(Phase::Draining) => connection.as_mut().graceful_shutdown(),
            Some(Phase::Ended) => return Poll::Ready(()),
        }
        // What went wrong with the client has been reported by the call it concerned, if any.
        clock::turn(|| connection.as_mut().poll(cx)).map(drop)
    })
    .await;
}
