//! The only way out: one attempt over HTTP/1.1, on a connection of the worker's own.
//!
//! Connections are kept per worker and upstream, and used last in, first out. A request that comes back unsent, because
//! the upstream had closed an idle connection, goes on a fresh one: the upstream saw nothing of it, so it is no attempt.
//! hyper-util's pooled client would do the same out of sight; here it happens in `HttpUpstream::exchange` and nowhere
//! else.
//!
//! A connection goes back when its response body has ended and its request body was sent whole. A response that is dropped
//! before gives the connection to a task that reads on for a moment: a short rest keeps it alive, a long one is cheaper to
//! cut off. An attempt that is dropped before the response head closes its connection, which is how the upstream sees that
//! nobody waits any longer; and a request body that is still being sent ends with its attempt, so that it takes nothing from
//! the next one.

mod body;
mod pool;
mod target;

pub use target::{Limits, Target};

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{Call, Error, ErrorKind, Outcome, Response, ResponseBody, Upstream};
use futures_util::future::LocalBoxFuture;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::HostHeader;
use crate::headers;
use crate::sockets;
use body::{Sent, SentBody, UpstreamBody};
use pool::{Connection, Lease, Pool};

/// The least that hyper wants to read and write with.
const MIN_BUFFER: usize = 64 * 1024;

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
        if let Some(connection) = self.pool.take() {
            match self.send(connection, request, call, &sent).await {
                Ok(outcome) => return outcome,
                Err(unsent) => request = unsent,
            }
        }
        let connection = self.connect().await?;
        self.send(connection, request, call, &sent).await.unwrap_or_else(|_| {
            // A connection that was closed as soon as it was made is as good as none.
            Err(Error::new(ErrorKind::ConnectionRefused).with_source("closed before the request was sent"))
        })
    }

    /// `Err` is the request, of which nothing has been sent.
    async fn send(
        &self,
        connection: Connection,
        request: Request<SentBody>,
        call: &Call,
        sent: &Sent,
    ) -> Result<Outcome, Request<SentBody>> {
        let mut lease = Lease::new(connection, self.pool.clone(), sent.clone());
        let limit = self.target.limits.response_timeout;
        let response = match timeout(limit, lease.sender().try_send_request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(mut unsent)) => {
                return match unsent.take_message() {
                    Some(request) => Err(request),
                    None => Ok(Err(failed(call, unsent.into_error()))),
                };
            }
            Err(_) => return Ok(Err(Error::new(ErrorKind::Timeout).with_source("no response in time"))),
        };
        Ok(self.respond(response, lease))
    }

    fn respond(&self, response: http::Response<Incoming>, lease: Lease) -> Outcome {
        let (mut head, incoming) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            // `Upgrade` ends at this hop, so nobody asked for it.
            return Err(Error::new(ErrorKind::ProtocolError).with_source("switched protocols unasked"));
        }
        if let Some(coding) = head.headers.get(header::TRANSFER_ENCODING) {
            // hyper undoes this coding alone; another would reach the client without its name.
            if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Error::new(ErrorKind::ProtocolError).with_source("unknown transfer coding"));
            }
            // It overrides a length beside it, which must not go on (RFC 9112, section 6.3).
            head.headers.remove(header::CONTENT_LENGTH);
        }
        headers::strip_hop_by_hop(&mut head.headers);
        let body = if incoming.is_end_stream() {
            lease.give_back();
            ResponseBody::empty()
        } else {
            ResponseBody::stream(Box::pin(UpstreamBody::new(incoming, lease, self.target.limits.body_timeout)))
        };
        Ok(Response::new(head.status, head.headers, body))
    }

    fn request(&self, call: &Call) -> (Request<SentBody>, Sent) {
        let head = call.head();
        let (body, sent) = SentBody::new(call.body().for_attempt());
        let is_chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = self.target.uri(&head.uri);
        *request.headers_mut() = head.headers.clone();
        let headers = request.headers_mut();
        if self.target.host_header == HostHeader::Upstream || !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, self.target.authority.clone());
        }
        if is_chunked {
            // Without it hyper leaves out the body of a GET.
            headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        (request, sent)
    }

    async fn connect(&self) -> Result<Connection, Error> {
        let limits = &self.target.limits;
        let stream = match timeout(limits.connect_timeout, self.tcp()).await {
            Ok(stream) => stream?,
            Err(_) => return Err(ErrorKind::ConnectionTimeout.into()),
        };
        let made = Builder::new()
            .max_header_size(limits.max_header)
            .max_buf_size(limits.max_header.max(MIN_BUFFER))
            .writev(false)
            .handshake(TokioIo::new(stream));
        let (sender, connection) =
            made.await.map_err(|error| Error::new(ErrorKind::ConnectionTerminated).with_source(error))?;
        // Ends with the connection: when the upstream closes it, or when its `Connection` is dropped. What went wrong on it
        // reaches whoever is waiting for a response.
        let task = tokio::task::spawn_local(async move { connection.await.ok() });
        Ok(Connection::new(sender, task.abort_handle()))
    }

    /// Tries each address in turn, none for longer than its share of the limit: a silent one must not hide those after it.
    async fn tcp(&self) -> Result<TcpStream, Error> {
        let addresses = self.target.resolve().await?;
        let share = self.target.limits.connect_timeout / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = Error::from(ErrorKind::DnsError);
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    sockets::prepare(&stream);
                    return Ok(stream);
                }
                Ok(Err(error)) => last = connect_error(error),
                Err(_) => last = ErrorKind::ConnectionTimeout.into(),
            }
        }
        Err(last)
    }
}

fn failed(call: &Call, error: hyper::Error) -> Error {
    let kind = match call.body().failure() {
        Some(client) => client,
        None if error.is_parse() => ErrorKind::ProtocolError,
        // Of the request body, though the client is not to blame.
        None if error.is_user() => ErrorKind::Internal,
        None => ErrorKind::ConnectionTerminated,
    };
    Error::new(kind).with_source(error)
}

fn connect_error(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorKind::Unroutable,
        io::ErrorKind::TimedOut => ErrorKind::ConnectionTimeout,
        _ if sockets::is_of_our_own(&error) => ErrorKind::Internal,
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
