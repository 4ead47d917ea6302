//! Serving: accepts connections, hands each request to the [`Service`], drains when it is time to
//! stop.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use http::{Request, Response, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::AnswerBody;
use crate::log::Access;
use crate::stop::Stop;

/// How long requests in flight may take once it is time to stop.
const DRAIN: Duration = Duration::from_secs(10);
/// The pause after an error of `accept`: without free file descriptors it fails again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests.
pub trait Service: Send + Sync + 'static {
    /// The route that a path belongs to, for the access line.
    fn route(&self, path: &str) -> &'static str;

    /// Answers a request, whose body has been read and discarded. `None`: the connection is closed
    /// without an answer; over HTTP/2 the stream is.
    ///
    /// Dropped when the client goes away.
    fn answer(
        &self,
        request: &request::Parts,
    ) -> impl Future<Output = Option<Response<AnswerBody>>> + Send;
}

/// Whether each request has its line on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// One per request.
    Written,
    /// No lines.
    Omitted,
}

/// A socket that listens on `address`.
///
/// # Errors
/// It can't, for example because another process listens there.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on `{address}`"))
}

/// Serves until it is time to stop, then until the requests in flight are answered, or ten seconds
/// have passed.
///
/// Dropped, it drops all connections.
pub async fn serve(listener: TcpListener, service: impl Service, lines: Lines, stop: Stop) {
    let service = Arc::new(service);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let service = service.clone();
                    connections.spawn(connection(stream, peer, service, lines, stop.clone()));
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
            () = stop.requested() => break,
        }
    }
    drop(listener);
    // What is not done by then is dropped with the set.
    let _ = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: Arc<impl Service>,
    lines: Lines,
    stop: Stop,
) {
    // Only latency is at stake.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| exchange(service.clone(), lines, peer, request));
    // HTTP/2 by its preface, for gRPC.
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
    tokio::select! {
        _ = connection.as_mut() => return,
        () = stop.requested() => connection.as_mut().graceful_shutdown(),
    }
    // How it ends is the client's affair.
    let _ = connection.await;
}

async fn exchange(
    service: Arc<impl Service>,
    lines: Lines,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Closed> {
    let (head, mut body) = request.into_parts();
    let mut access = (lines == Lines::Written)
        .then(|| Access::begin(&head, service.route(head.uri.path()), peer));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Closed)?;
        if let (Some(access), Some(data)) = (&mut access, frame.data_ref()) {
            access.received(data.len());
        }
    }
    let Some(response) = service.answer(&head).await else {
        if let Some(access) = &mut access {
            access.closed();
        }
        return Err(Closed);
    };
    if let Some(access) = &mut access {
        let trailers = response.body().trailers();
        access.answered(response.status(), response.headers(), trailers);
    }
    Ok(response.map(|answer| answer.with_access(access)))
}

/// The request gets no answer: an error here makes hyper close the connection, or reset the stream.
#[derive(Debug)]
struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("connection closed")
    }
}

impl std::error::Error for Closed {}
