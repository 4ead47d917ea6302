//! The only way out: one attempt over HTTP/1.1, on a connection of the worker's own.
//!
//! Connections are kept per worker and upstream, and used last in, first out. A request that comes back unsent, because
//! the upstream had closed an idle connection, goes on a fresh one: the upstream saw nothing of it, so it is no attempt.
//! hyper-util's pooled client would do the same out of sight; here it happens in `HttpUpstream::exchange` and nowhere
//! else.
//!
//! A connection goes back when its response body has ended. A response that is dropped before gives the connection to a
//! task that reads on for a moment: a short rest keeps it alive, a long one is cheaper to cut off. An attempt that is
//! dropped before the response head closes its connection, which is how the upstream sees that nobody waits any longer.

mod body;
mod pool;
mod target;

pub use target::{Limits, Target};

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{Call, Error, ErrorKind, Outcome, Response, ResponseBody, Upstream};
use futures_util::future::LocalBoxFuture;
use http::{Request, StatusCode, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HostHeader;
use crate::headers;
use body::{SentBody, UpstreamBody};
use pool::{Lease, Pool};

/// An upstream as one worker knows it.
#[derive(Debug)]
pub struct HttpUpstream {
    target: Arc<Target>,
    pool: Rc<Pool>,
}

impl HttpUpstream {
    /// No connection is made before the first attempt.
    pub fn new(target: Arc<Target>) -> Self {
        let Limits { idle_timeout, max_idle, .. } = target.limits;
        Self { target, pool: Rc::new(Pool::new(idle_timeout, max_idle)) }
    }

    /// Closes connections that have been idle for too long, or that the upstream has closed.
    pub fn reap(&self) {
        self.pool.reap();
    }

    /// Dropped before the response head, the connection is closed.
    async fn exchange(&self, call: &Call) -> Outcome {
        let (mut request, sent) = self.request(call);
        if let Some(sender) = self.pool.take() {
            match self.send(sender, request, call, &sent).await {
                Ok(outcome) => return outcome,
                Err(unsent) => request = unsent,
            }
        }
        let sender = self.connect().await?;
        self.send(sender, request, call, &sent).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::ConnectionTerminated).with_source("closed before the request was sent"))
        })
    }

    /// `Err` is the request, of which nothing has been sent.
    async fn send(
        &self,
        mut sender: SendRequest<SentBody>,
        request: Request<SentBody>,
        call: &Call,
        sent: &body::Sent,
    ) -> Result<Outcome, Request<SentBody>> {
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut unsent) => {
                return match unsent.take_message() {
                    Some(request) => Err(request),
                    None => Ok(Err(self.failed(call, unsent.into_error()))),
                };
            }
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            // `Upgrade` ends at this hop, so nobody asked for it.
            return Ok(Err(Error::new(ErrorKind::ProtocolError).with_source("switched protocols unasked")));
        }
        let lease = Lease::new(sender, self.pool.clone());
        Ok(Ok(self.respond(response, lease, sent)))
    }

    fn respond(&self, response: http::Response<Incoming>, lease: Lease, sent: &body::Sent) -> Response {
        let (mut head, incoming) = response.into_parts();
        headers::strip_hop_by_hop(&mut head.headers);
        let body = if incoming.is_end_stream() {
            lease.give_back(sent);
            ResponseBody::empty()
        } else {
            let stall = self.target.limits.body_timeout;
            ResponseBody::stream(Box::pin(UpstreamBody::new(incoming, lease, sent.clone(), stall)))
        };
        Response::new(head.status, head.headers, body)
    }

    fn request(&self, call: &Call) -> (Request<SentBody>, body::Sent) {
        let head = call.head();
        let (body, sent) = SentBody::new(call.body().for_attempt());
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = self.target.uri(&head.uri);
        *request.headers_mut() = head.headers.clone();
        let headers = request.headers_mut();
        if self.target.host_header == HostHeader::Upstream || !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.target.authority.clone());
        }
        (request, sent)
    }

    async fn connect(&self) -> Result<SendRequest<SentBody>, Error> {
        let limits = &self.target.limits;
        let stream = match timeout(limits.connect_timeout, self.tcp()).await {
            Ok(stream) => stream?,
            Err(_) => return Err(ErrorKind::ConnectionTimeout.into()),
        };
        let connection =
            Builder::new().max_header_size(limits.max_header).writev(false).handshake(TokioIo::new(stream)).await;
        let (sender, connection) =
            connection.map_err(|error| Error::new(ErrorKind::ConnectionTerminated).with_source(error))?;
        // Ends with the connection: when the upstream closes it, or when its sender is dropped. What went wrong on it
        // reaches whoever is waiting for a response.
        tokio::task::spawn_local(async move { connection.await.ok() });
        Ok(sender)
    }

    async fn tcp(&self) -> Result<TcpStream, Error> {
        let addresses = self.target.resolve().await?;
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(connect_error)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(connect_error(last))
    }

    fn failed(&self, call: &Call, error: hyper::Error) -> Error {
        let kind = match call.body().failure() {
            Some(client) => client,
            None if error.is_parse() => ErrorKind::ProtocolError,
            None => ErrorKind::ConnectionTerminated,
        };
        Error::new(kind).with_source(error)
    }
}

fn connect_error(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorKind::Unroutable,
        io::ErrorKind::TimedOut => ErrorKind::ConnectionTimeout,
        // Out of ports, of files, of memory: our own trouble.
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::OutOfMemory => ErrorKind::Internal,
        _ => ErrorKind::ConnectionRefused,
    };
    Error::new(kind).with_source(error)
}

impl Upstream for HttpUpstream {
    fn attempt<'a>(&'a self, call: &'a Call) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = call.begin_attempt();
            let outcome = self.exchange(call).await;
            attempt.finish(outcome)
        })
    }
}
