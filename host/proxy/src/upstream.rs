//! Sends requests to an upstream: one attempt over HTTP/1.1, on a connection of the worker.
//!
//! Unused connections are kept per worker and upstream, last in, first out. An upstream may close
//! one while a request is on its way to it. If nothing of the request was sent, or it is safe to
//! repeat (idempotent, by its method or a key, and with a body that is still there) and no byte of
//! an answer has come, it goes once more, on a new connection. The upstream has done nothing wrong,
//! so this is no second attempt. For this a body is held while its attempt is on a kept connection,
//! whatever the policies, until the answer's head.
//!
//! The attempt itself writes to and reads from the connection, with the codec of `fusebox-http1`;
//! there is no task or channel between them. Only a request body that is still being sent when the
//! response begins gets a task.
//!
//! A connection returns to the pool when its response body has ended and its request body was sent
//! whole. If a response is dropped before its end, a task reads on for a moment: a short remainder
//! keeps the connection alive, a long one is cheaper to cut off. If an attempt is dropped before
//! the response head, the connection is closed, so that the upstream sees that nobody waits. A
//! request body that is still being sent ends with its attempt.

mod body;
mod connection;
mod message;
mod pool;

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fusebox_http1::{BodyDecoder, Decoded, ResponseFault, ResponseHead, ResponseHeadParser};
use fusebox_resilience::{
    Attempt, AttemptEvent, Budget, Call, Error, ErrorKind, Outcome, RequestBody, Response,
    ResponseBody, Scope, Upstream, clock,
};
use futures_util::future::LocalBoxFuture;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::buffers::Buffers;
use crate::config::{Endpoint, UpstreamConfig, UpstreamSettings};
use crate::deadline;
use crate::headers;
use crate::interim;
use crate::route::OtherUpstream;
use crate::sending::SendError;
use crate::sockets;
use body::UpstreamBody;
use connection::UpstreamConnection;
use message::Message;
use pool::{Lease, Pool};

/// The room for a response head at first; most bodies begin in the same read.
const HEAD_READ: usize = 8 * 1024;

/// An upstream of one worker. A clone shares its connections.
#[derive(Clone, Debug)]
pub struct HttpUpstream {
    config: Arc<UpstreamConfig>,
    /// The endpoint's URL; each worker has its own `Arc`.
    endpoint: Arc<str>,
    budget: Arc<Budget>,
    pool: Rc<Pool>,
    buffers: Rc<Buffers>,
}

/// Progress of sending the request.
enum SendProgress {
    UnderWay,
    Whole,
    Broken(io::Error),
}

/// Why there is no response head.
enum NoResponse {
    /// The connection has ended or failed.
    Connection(Option<io::Error>),
    /// What arrived is not a valid response.
    Response(ResponseFault),
    /// The request's body failed.
    Request(Error),
}

impl HttpUpstream {
    /// The first attempt makes the first connection. `buffers` are the worker's, `budget` is that
    /// of all workers.
    pub fn new(config: Arc<UpstreamConfig>, budget: Arc<Budget>, buffers: &Rc<Buffers>) -> Self {
        let (idle_timeout, max_idle) = (config.settings.idle_timeout.0, config.settings.max_idle);
        let pool = Pool::new(idle_timeout, max_idle, buffers.clone());
        Self {
            endpoint: config.endpoint.url.as_str().into(),
            config,
            budget,
            pool: Rc::new(pool),
            buffers: buffers.clone(),
        }
    }

    /// Closes connections that have been unused for too long or that the upstream has closed.
    pub fn reap(&self) {
        self.pool.reap();
    }

    /// Dropped before the response head, it closes the connection.
    async fn exchange(&self, call: &Call, attempt: &Attempt<'_>, scope: &Scope<'_>) -> Outcome {
        let mut message = self.message(call, attempt, scope);
        if let Some(connection) = self.pool.take() {
            attempt.reaches(connection.address);
            let lease = self.lease(connection);
            let hold = call.request().is_idempotent().then(|| call.body().hold());
            if let Some(outcome) = self.talk(lease, true, &mut message, call).await {
                return outcome;
            }
            if !message.is_untouched() {
                message = self.message(call, attempt, scope).holding(hold);
                let attempt = attempt.number();
                call.reporter().emit_own(AttemptEvent::SentAgain { attempt });
            }
        }
        // Boxed to keep the future small: most calls find a connection in the pool.
        let connection = Box::pin(self.connect(attempt)).await?;
        let lease = self.lease(connection);
        self.talk(lease, false, &mut message, call).await.unwrap_or_else(|| {
            // The upstream closed a new connection at once: the same as a refused one.
            Err(Error::new(ErrorKind::ConnectionRefused)
                .with_source("closed before anything was sent"))
        })
    }

    fn message(&self, call: &Call, attempt: &Attempt<'_>, scope: &Scope<'_>) -> Message {
        let (told, conditions) = (self.told(call, scope), scope.preconditions());
        Message::new(call, attempt.number(), told, conditions, &self.config, &self.buffers)
    }

    /// What the upstream is told of the time that it is waited for.
    fn told(&self, call: &Call, scope: &Scope<'_>) -> Vec<(HeaderName, HeaderValue)> {
        let UpstreamSettings { forward_deadline, deadline_margin, .. } = &self.config.settings;
        if forward_deadline.is_empty() && call.request().deadline().is_none() {
            return Vec::new();
        }
        let Some(end) = scope.deadline(call) else { return Vec::new() };
        let left = end.saturating_duration_since(clock::now());
        let left = left.saturating_sub(deadline_margin.0);
        deadline::told(&call.head().headers, forward_deadline, left)
    }

    fn lease(&self, connection: UpstreamConnection) -> Lease {
        Lease::new(connection, self.pool.clone())
    }

    /// Sends the message and reads the response. `None`: nothing of it was sent, or it was sent on
    /// a kept connection that died, and is safe to repeat.
    #[expect(
        clippy::manual_async_fn,
        reason = "what an `async fn` is given has room in its future twice"
    )]
    fn talk<'a>(
        &'a self,
        mut lease: Lease,
        is_kept: bool,
        message: &'a mut Message,
        call: &'a Call,
    ) -> impl Future<Output = Option<Outcome>> + use<'a> {
        async move {
            let settings = &self.config.settings;
            let mut parser = ResponseHeadParser::new(
                settings.max_header.in_memory(),
                call.head().method == Method::HEAD,
            );
            let mut sending = SendProgress::UnderWay;
            let head = poll_fn(|cx| {
                if matches!(sending, SendProgress::UnderWay)
                    && let Poll::Ready(sent) = lease.connection.poll_send(message, cx)
                {
                    sending = match sent {
                        Ok(()) => SendProgress::Whole,
                        Err(SendError::Body(error)) => {
                            return Poll::Ready(Err(NoResponse::Request(error)));
                        }
                        // The upstream may have answered without reading the whole request.
                        Err(SendError::Io(error)) => SendProgress::Broken(error),
                    };
                }
                self.poll_head(&mut lease.connection, &mut parser, cx)
            });
            Some(match call.timeout(settings.response_timeout.0, head).await {
                Ok(Ok(head)) => self.respond(head, lease, sending, message, call),
                Ok(Err(NoResponse::Connection(_)))
                    if message.is_untouched()
                        || is_kept && !parser.has_begun() && can_repeat(call) =>
                {
                    return None;
                }
                Ok(Err(lost)) => Err(failed(lost, sending)),
                Err(_) => Err(Error::new(ErrorKind::Timeout).with_source("no response in time")),
            })
        }
    }

    fn poll_head(
        &self,
        connection: &mut UpstreamConnection,
        parser: &mut ResponseHeadParser,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, NoResponse>> {
        loop {
            match ready!(connection.poll_read(HEAD_READ, cx)) {
                Ok(0) => return Poll::Ready(Err(NoResponse::Connection(None))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(NoResponse::Connection(Some(error)))),
            }
            let map = || self.buffers.take_headers();
            let head = parser.parse_into(&mut connection.buffer, map, interim::came);
            if let Some(head) = head.map_err(NoResponse::Response)? {
                return Poll::Ready(Ok(head));
            }
        }
    }

    fn respond(
        &self,
        head: ResponseHead,
        mut lease: Lease,
        sending: SendProgress,
        message: &mut Message,
        call: &Call,
    ) -> Outcome {
        let ResponseHead { status, mut headers, framing, keep_alive } = head;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // The proxy removes `Upgrade` from requests, so this was not asked for.
            return Err(Error::new(ErrorKind::ProtocolError)
                .with_source("switched protocols without being asked"));
        }
        headers::strip_hop_by_hop(&mut headers);
        lease.keep_alive = keep_alive;
        let mut decoder = BodyDecoder::of_response(framing);
        let at_hand = lease.connection.buffer.len() as u64;
        let body = if decoder.remaining().is_some_and(|length| length <= at_hand) {
            let body = match decoder.decode(&mut lease.connection.buffer) {
                Ok(Decoded::Data(data)) => ResponseBody::full(data),
                _ => ResponseBody::empty(),
            };
            // A request body that is still being sent ends here, and so does its connection.
            if matches!(sending, SendProgress::Whole) {
                lease.give_back();
            }
            body
        } else {
            let mut request = RequestBody::empty();
            match sending {
                SendProgress::UnderWay => {
                    lease.connection.send_rest_by_task(message.take_unsent());
                    request = call.body().clone();
                }
                SendProgress::Whole => {}
                SendProgress::Broken(_) => lease.keep_alive = false,
            }
            ResponseBody::stream(Box::pin(UpstreamBody::new(
                decoder,
                lease,
                self.config.settings.body_timeout.0,
                request,
            )))
        };
        Ok(Response::new(status, headers, body))
    }

    async fn connect(&self, attempt: &Attempt<'_>) -> Result<UpstreamConnection, Error> {
        match timeout(self.config.settings.connect_timeout.0, self.tcp(attempt)).await {
            Ok(connection) => connection,
            Err(_) => Err(ErrorKind::ConnectionTimeout.into()),
        }
    }

    /// Tries the addresses in order, each for its share of the limit, so that an address that does
    /// not respond does not block the others.
    async fn tcp(&self, attempt: &Attempt<'_>) -> Result<UpstreamConnection, Error> {
        let addresses = resolve(&self.config.endpoint).await?;
        let share = self.config.settings.connect_timeout.0
            / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = Error::from(ErrorKind::DnsError);
        for address in addresses {
            attempt.reaches(address);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    sockets::prepare(&stream);
                    return Ok(UpstreamConnection::new(stream, address));
                }
                Ok(Err(error)) => last = connect_error(error),
                Err(_) => last = ErrorKind::ConnectionTimeout.into(),
            }
        }
        Err(last)
    }
}

/// The addresses to try, in order.
async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Error> {
    if let Ok(address) = endpoint.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, endpoint.port)]);
    }
    let dns_error = |source| match sockets::is_of_our_own(&source) || sockets::is_out_of_files() {
        true => exhausted(source),
        false => Error::new(ErrorKind::DnsError).with_source(source),
    };
    let addresses: Vec<_> =
        lookup_host((&*endpoint.host, endpoint.port)).await.map_err(dns_error)?.collect();
    if addresses.is_empty() { Err(ErrorKind::DnsError.into()) } else { Ok(addresses) }
}

/// Whether the upstream may get the request twice, and there is all of it.
fn can_repeat(call: &Call) -> bool {
    call.request().is_idempotent() && call.body().can_repeat()
}

fn failed(lost: NoResponse, sending: SendProgress) -> Error {
    match lost {
        NoResponse::Request(error) => error,
        NoResponse::Response(error) => Error::new(ErrorKind::ProtocolError).with_source(error),
        NoResponse::Connection(read) => {
            let error = Error::new(ErrorKind::ConnectionTerminated);
            match (sending, read) {
                (SendProgress::Broken(cause), _) | (_, Some(cause)) => error.with_source(cause),
                _ => error.with_source("closed before the response"),
            }
        }
    }
}

fn connect_error(error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorKind::Unroutable,
        io::ErrorKind::TimedOut => ErrorKind::ConnectionTimeout,
        _ if sockets::is_of_our_own(&error) => return exhausted(error),
        _ => ErrorKind::ConnectionRefused,
    };
    Error::new(kind).with_source(error)
}

/// Other calls may end, and give back what they use, in the next moment.
fn exhausted(source: io::Error) -> Error {
    Error::new(ErrorKind::Exhausted)
        .with_retry_after(Some(Duration::from_secs(1)))
        .with_source(source)
}

/// The upstream of a call, from which its fallbacks reach others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReachedUpstream<'a> {
    /// Those of the worker.
    pub(crate) upstreams: &'a [HttpUpstream],
    /// Its place among them.
    pub(crate) own: usize,
    pub(crate) others: &'a [OtherUpstream],
}

impl Upstream for ReachedUpstream<'_> {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        self.upstreams[self.own].attempt(call, scope)
    }

    fn budget(&self) -> Option<&Budget> {
        self.upstreams[self.own].budget()
    }

    fn ask_other<'a>(
        &'a self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        (*self).ask(name, call, scope)
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        if self.others.is_empty() {
            return self.upstreams[self.own].detached();
        }
        Some(Rc::new(DetachedUpstream {
            upstreams: self.upstreams.into(),
            own: self.own,
            others: self.others.into(),
        }))
    }
}

impl<'a> ReachedUpstream<'a> {
    fn ask(
        self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        let other = self.others.iter().find(|other| *other.name == *name)?;
        Some(Box::pin(async move {
            let upstream = Self { own: other.upstream, ..self };
            let scope = scope.at(&upstream);
            other.pipeline.execute(call, &scope).await
        }))
    }
}

/// The same for runs that outlive their call. Its connections are those of the worker.
#[derive(Debug)]
struct DetachedUpstream {
    upstreams: Box<[HttpUpstream]>,
    own: usize,
    others: Box<[OtherUpstream]>,
}

impl Upstream for DetachedUpstream {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        self.upstreams[self.own].attempt(call, scope)
    }

    fn budget(&self) -> Option<&Budget> {
        self.upstreams[self.own].budget()
    }

    fn ask_other<'a>(
        &'a self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        let Self { upstreams, own, others } = self;
        ReachedUpstream { upstreams, own: *own, others }.ask(name, call, scope)
    }
}

impl Upstream for HttpUpstream {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &self.endpoint);
            let outcome = self.exchange(call, &attempt, scope).await;
            attempt.finish(outcome)
        })
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        Some(Rc::new(self.clone()))
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusebox_resilience::Observers;
    use fusebox_resilience::testing::call;
    use tokio::time::Instant;

    /// Bytes: it is made and moved for every attempt.
    #[test]
    fn an_attempt_is_small() {
        let config = UpstreamConfig::new(Endpoint::parse("http://b").unwrap());
        let budget = Budget::of_upstream(Instant::now());
        let upstream = HttpUpstream::new(config.into(), budget.into(), &Rc::default());
        let call = call("1", Observers::default());
        let size = size_of_val(&*upstream.attempt(&call, &Scope::new(&upstream)));
        assert!(size <= 752, "{size}");
    }
}
