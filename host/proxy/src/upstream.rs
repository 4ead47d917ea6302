//! The only way out: one attempt over HTTP/1.1, on a connection of the worker's own.
//!
//! Connections are kept per worker and upstream, and used last in, first out. A request that comes
//! back unsent, because the upstream had closed an idle connection, goes on a fresh one: the
//! upstream saw nothing of it, so it is no attempt.
//!
//! The connection is written and read by the attempt itself, with the codec of `fusebox-http1`; no
//! task and no channel is between them. Only a request body that is still being sent when its
//! response begins gets a task.
//!
//! A connection goes back when its response body has ended and its request body was sent whole. A
//! response that is dropped before gives the connection to a task that reads on for a moment: a
//! short rest keeps it alive, a long one is cheaper to cut off. An attempt that is dropped before
//! the response head closes its connection, which is how the upstream sees that nobody waits any
//! longer; and a request body that is still being sent ends with its attempt, so that it takes
//! nothing from the next one.

mod body;
mod buffers;
mod connection;
mod message;
mod pool;
mod target;

pub use target::{Limits, Target};

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fusebox_http1::{BodyDecoder, Decoded, Head, HeadError, HeadParser};
use fusebox_resilience::{
    Attempt, Call, Error, ErrorKind, Outcome, Response, ResponseBody, Scope, Upstream,
};
use futures_util::future::LocalBoxFuture;
use http::{Method, StatusCode};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::headers;
use crate::sockets;
use body::UpstreamBody;
pub use buffers::Buffers;
use connection::Connection;
use message::{Message, SendError};
use pool::{Lease, Pool};

/// How much room a response head gets at first; most have their body beside them in it.
const HEAD_READ: usize = 8 * 1024;

/// An upstream as one worker knows it.
#[derive(Debug)]
pub struct HttpUpstream {
    target: Arc<Target>,
    /// The target's URL; each worker has its own `Arc`.
    endpoint: Arc<str>,
    pool: Rc<Pool>,
    buffers: Rc<Buffers>,
}

/// How far a request is.
enum Sending {
    UnderWay,
    Whole,
    Broken(io::Error),
}

/// Why there is no response head.
enum Lost {
    /// The connection has ended, or broken.
    Connection(Option<io::Error>),
    /// What came is no response.
    Response(HeadError),
    /// The request's body is no good.
    Request(Error),
}

impl HttpUpstream {
    /// No connection is made before the first attempt. `buffers` are the worker's.
    pub fn new(target: Arc<Target>, buffers: &Rc<Buffers>) -> Self {
        let Limits { idle_timeout, max_idle, .. } = target.limits;
        Self {
            endpoint: target.url.as_str().into(),
            target,
            pool: Rc::new(Pool::new(idle_timeout, max_idle)),
            buffers: buffers.clone(),
        }
    }

    /// Closes connections that have been idle for too long, or that the upstream has closed.
    pub fn reap(&self) {
        self.pool.reap();
    }

    /// Dropped before the response head, the connection is closed.
    async fn exchange(&self, call: &Call, attempt: &Attempt<'_>) -> Outcome {
        let mut message = Message::new(call, &self.target, &self.buffers);
        if let Some(connection) = self.pool.take() {
            attempt.reaches(connection.address);
            if let Some(outcome) = self.talk(self.lease(connection), &mut message, call).await {
                return outcome;
            }
        }
        // Boxed: most calls find a connection, and need no room for this.
        let connection = Box::pin(self.connect(attempt)).await?;
        self.talk(self.lease(connection), &mut message, call).await.unwrap_or_else(|| {
            // A connection that was closed as soon as it was made is as good as none.
            Err(Error::new(ErrorKind::ConnectionRefused)
                .with_source("closed before the request was sent"))
        })
    }

    fn lease(&self, connection: Connection) -> Lease {
        Lease::new(connection, self.pool.clone(), self.buffers.take_read())
    }

    /// Sends the message and reads the response. None: nothing of it has been sent.
    #[expect(
        clippy::manual_async_fn,
        reason = "what an `async fn` is given has room in its future twice"
    )]
    fn talk<'a>(
        &'a self,
        mut lease: Lease,
        message: &'a mut Message,
        call: &'a Call,
    ) -> impl Future<Output = Option<Outcome>> + use<'a> {
        async move {
            let limits = &self.target.limits;
            let mut parser = HeadParser::new(limits.max_header, call.head().method == Method::HEAD);
            let mut sending = Sending::UnderWay;
            let head = poll_fn(|cx| {
                if matches!(sending, Sending::UnderWay)
                    && let Poll::Ready(sent) = lease.connection.poll_send(message, cx)
                {
                    sending = match sent {
                        Ok(()) => Sending::Whole,
                        Err(SendError::Body(error)) => {
                            return Poll::Ready(Err(Lost::Request(error)));
                        }
                        // It may have answered all the same, and taken no more because of that.
                        Err(SendError::Io(error)) => Sending::Broken(error),
                    };
                }
                self.poll_head(&mut lease.connection, &mut parser, cx)
            });
            Some(match call.timers().timeout(limits.response_timeout, head).await {
                Ok(Ok(head)) => self.respond(head, lease, sending, message),
                Ok(Err(Lost::Connection(_))) if message.is_untouched() => return None,
                Ok(Err(lost)) => Err(failed(lost, sending)),
                Err(_) => Err(Error::new(ErrorKind::Timeout).with_source("no response in time")),
            })
        }
    }

    fn poll_head(
        &self,
        connection: &mut Connection,
        parser: &mut HeadParser,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Lost>> {
        loop {
            match ready!(connection.poll_read(HEAD_READ, cx)) {
                Ok(0) => return Poll::Ready(Err(Lost::Connection(None))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Lost::Connection(Some(error)))),
            }
            let head = parser.parse_into(&mut connection.buffer, || self.buffers.take_headers());
            if let Some(head) = head.map_err(Lost::Response)? {
                return Poll::Ready(Ok(head));
            }
        }
    }

    fn respond(
        &self,
        head: Head,
        mut lease: Lease,
        sending: Sending,
        message: &mut Message,
    ) -> Outcome {
        let Head { status, mut headers, framing, keep_alive } = head;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            // `Upgrade` ends at this hop, so nobody asked for it.
            return Err(
                Error::new(ErrorKind::ProtocolError).with_source("switched protocols unasked")
            );
        }
        headers::strip_hop_by_hop(&mut headers);
        lease.keep_alive = keep_alive;
        let mut decoder = BodyDecoder::new(framing);
        let at_hand = lease.connection.buffer.len() as u64;
        let body = if decoder.remaining().is_some_and(|length| length <= at_hand) {
            let body = match decoder.decode(&mut lease.connection.buffer) {
                Ok(Decoded::Data(data)) => ResponseBody::full(data),
                _ => ResponseBody::empty(),
            };
            // What is left of the request to be sent ends with its attempt.
            if matches!(sending, Sending::Whole)
                && let Some(buffer) = lease.give_back()
            {
                self.buffers.put_read(buffer);
            }
            body
        } else {
            match sending {
                Sending::UnderWay => lease.connection.send_rest(message.take_rest()),
                Sending::Whole => {}
                Sending::Broken(_) => lease.keep_alive = false,
            }
            ResponseBody::stream(Box::pin(UpstreamBody::new(
                decoder,
                lease,
                self.target.limits.body_timeout,
            )))
        };
        Ok(Response::new(status, headers, body))
    }

    async fn connect(&self, attempt: &Attempt<'_>) -> Result<Connection, Error> {
        match timeout(self.target.limits.connect_timeout, self.tcp(attempt)).await {
            Ok(connection) => connection,
            Err(_) => Err(ErrorKind::ConnectionTimeout.into()),
        }
    }

    /// Tries each address in turn, none for longer than its share of the limit: a silent one must
    /// not hide those after it.
    async fn tcp(&self, attempt: &Attempt<'_>) -> Result<Connection, Error> {
        let addresses = self.target.resolve().await?;
        let share = self.target.limits.connect_timeout
            / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let mut last = Error::from(ErrorKind::DnsError);
        for address in addresses {
            attempt.reaches(address);
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    sockets::prepare(&stream);
                    return Ok(Connection::new(stream, address));
                }
                Ok(Err(error)) => last = connect_error(error),
                Err(_) => last = ErrorKind::ConnectionTimeout.into(),
            }
        }
        Err(last)
    }
}

fn failed(lost: Lost, sending: Sending) -> Error {
    match lost {
        Lost::Request(error) => error,
        Lost::Response(error) => Error::new(ErrorKind::ProtocolError).with_source(error),
        Lost::Connection(read) => {
            let error = Error::new(ErrorKind::ConnectionTerminated);
            match (sending, read) {
                (Sending::Broken(cause), _) | (_, Some(cause)) => error.with_source(cause),
                _ => error.with_source("closed before a response came"),
            }
        }
    }
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
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &self.endpoint);
            let outcome = self.exchange(call, &attempt).await;
            attempt.finish(outcome)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusebox_resilience::Observers;
    use fusebox_resilience::testing::call;

    /// Bytes: it is made and moved for every attempt.
    #[test]
    fn an_attempt_is_small() {
        let config = toml::from_str("url = \"http://b\"").unwrap();
        let upstream = HttpUpstream::new(Target::new(&config).unwrap().into(), &Rc::default());
        let call = call("1", Observers::default());
        let size = size_of_val(&*upstream.attempt(&call, &Scope::new(&upstream)));
        assert!(size <= 752, "{size}");
    }
}
