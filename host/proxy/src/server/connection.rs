//! One client connection over HTTP/1.1: its requests one after the other, each read, answered and
//! sent in turn.
//!
//! What a client can be in, its limit, and what comes after it:
//!
//! | state | limit | then |
//! |---|---|---|
//! | idle: no byte of a request | `idle_timeout`, until its place is needed, `GRACE` | closed |
//! | in a head | `header_timeout`, `request_timeout` | 408, closed |
//! | owing its body | `request_timeout`, and its pace (`pace.rs`) | the call fails: 408, closed |
//! | waiting | those of the call | |
//! | taking its response | its pace | closed |
//! | lingering, after an early answer | see `linger.rs` | closed |
//! | in a tunnel, after a switch of protocols | that of its route (`tunnel.rs`) | closed |
//!
//! After `max_requests` and after `max_age` a response is the last one.
//!
//! The client's end is noticed in each of them, whatever of it lies unread. One that closes its
//! side while it waits has left, as nginx takes it, and its call is cancelled.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fusebox_http1::{HttpExchange, RequestHead, RequestHeadParser};
use fusebox_resilience::{ConnectionLimit, Error, TunnelEnd, clock};
use futures_util::future::LocalBoxFuture;
use http::header;
use http_body::Body;
use tokio::io::AsyncWrite as _;
use tokio::time::{Instant, timeout};

use super::idle::IdlePlace;
use super::incoming::{HEAD_READ, Incoming, IncomingBody};
use super::linger::{drain, linger};
use super::pace::Pace;
use super::preface::begins_as_http2;
use super::shared::{Shared, TURN};
use super::socket::{ClientStream, Wire};
use super::writer::ClientWriter;
use crate::handler::{Begun, ClientBody, ClientResponse, OpenTunnel};
use crate::headers::Hop;
use crate::interim;
use crate::reply::Unread;
use crate::sending::{OutgoingMessage, SendError};
use crate::stall::Stall;

/// A remainder of a request's body up to this length is read, so that its connection can go on; a
/// longer one is cheaper to cut off.
const SHORT_BODY: u64 = 64 * 1024;

/// For how long a client that sends on is read after an early answer: nginx's time.
const LINGER: Duration = Duration::from_secs(30);

/// The same after what was no request, or came too slowly.
const LINGER_REFUSED: Duration = Duration::from_secs(2);

/// How long a client may take to hear that its connection ends.
const CLOSE: Duration = Duration::from_secs(5);

/// A client's connection over a stream.
pub(super) struct Connection<S> {
    incoming: Rc<RefCell<Incoming<S>>>,
    wire: Wire,
    parser: RequestHeadParser,
    hop: Hop,
    shared: Rc<Shared>,
    /// Fires when the client leaves. Only where its silence does not tell.
    departure: Option<LocalBoxFuture<'static, ()>>,
    idle: IdlePlace,
    receiving: Stall,
    sending: Pace,
    /// When it has been open for long enough.
    old_at: Option<Instant>,
    /// Requests begun since the connection last had to wait.
    turn: u32,
}

/// Why there is no further request.
enum NoRequest {
    /// What came is refused.
    Refused(Unread),
    /// The client has left or is silent, or the proxy is to end.
    End,
}

/// How a connection was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServedAs {
    /// All that was to be sent has been.
    Whole,
    /// It ends within an answer.
    Broken,
    /// Not at all: it is one of HTTP/2.
    Http2,
}

/// Whether the connection goes on.
enum After {
    Next,
    /// It is closed; what the client still sends is read away for a moment, so that it sees its
    /// answer.
    Linger(Duration),
    Close,
    /// It ends within an answer, which must not look whole.
    Break,
}

impl<S: ClientStream> Connection<S> {
    /// Over a stream whose socket has this wire.
    pub(super) fn new(stream: S, wire: Wire, hop: Hop, shared: Rc<Shared>) -> Self {
        let limits = &shared.limits;
        let pace = || Pace::new(limits.body_timeout.0, limits.min_rate.0);
        let incoming = Incoming::new(stream, pace(), shared.handler.buffers().clone());
        let of_head = limits.header_timeout;
        let of_head = limits.request_timeout.map_or(of_head, |limit| limit.min(of_head));
        Self {
            incoming: Rc::new(RefCell::new(incoming)),
            wire,
            parser: RequestHeadParser::new(limits.max_header.in_memory()),
            hop,
            departure: None,
            idle: shared.idle.join(),
            receiving: Stall::new(of_head.0),
            sending: pace(),
            old_at: shared.old_at(),
            turn: 0,
            shared,
        }
    }

    /// Serves requests until the connection ends, or the client shows that it speaks HTTP/2.
    pub(super) async fn serve(&mut self) -> ServedAs {
        loop {
            let after = match poll_fn(|cx| self.poll_next(cx)).await {
                Ok((begun, exchange)) => self.exchange(begun, exchange).await,
                Err(NoRequest::Refused(_)) if self.is_http2() => return ServedAs::Http2,
                Err(NoRequest::Refused(unread)) => self.refuse(unread).await,
                Err(NoRequest::End) => After::Close,
            };
            if let Some(limit) = self.incoming.borrow().overdue() {
                self.shared.handler.end_connection(limit, &self.hop);
            }
            match after {
                After::Next => {}
                After::Linger(time) => {
                    linger(&self.incoming, time).await;
                    return ServedAs::Whole;
                }
                After::Close => return ServedAs::Whole,
                After::Break => return ServedAs::Broken,
            }
        }
    }

    /// Whether what is refused is the beginning of HTTP/2. (So nobody else pays for the question.)
    fn is_http2(&self) -> bool {
        let incoming = self.incoming.borrow();
        incoming.requests() == 0 && begins_as_http2(&incoming.buffer)
    }

    /// Its stream, what has been read of it and not used, and whose it is.
    pub(super) fn into_parts(self) -> Option<(S, BytesMut, Hop)> {
        let Self { incoming, hop, .. } = self;
        let (stream, ahead) = Rc::into_inner(incoming)?.into_inner().into_stream();
        Some((stream, ahead, hop))
    }

    /// Answers that what came is no request, and reads the rest away.
    pub(super) async fn refuse_all(&mut self, unread: Unread) {
        if let After::Linger(time) = self.refuse(unread).await {
            linger(&self.incoming, time).await;
        }
    }

    /// Tells the client that this is the end, which it may take its time to hear.
    pub(super) async fn close(&self) {
        let closed = poll_fn(|cx| self.incoming.borrow_mut().stream().poll_shutdown(cx));
        timeout(CLOSE, closed).await.ok();
    }

    /// Waits for a request, and takes it on.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Begun, HttpExchange), NoRequest>> {
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            let mut incoming = self.incoming.borrow_mut();
            if !incoming.buffer.is_empty() {
                let buffers = self.shared.handler.buffers();
                match self.parser.parse_into(&mut incoming.buffer, || buffers.take_headers()) {
                    Ok(Some(head)) => {
                        drop(incoming);
                        return Poll::Ready(Ok(self.begin(head)));
                    }
                    Ok(None) => {}
                    Err(fault) => return refused(Unread::Malformed(fault)),
                }
            }
            match incoming.poll_fill(HEAD_READ, cx) {
                Poll::Ready(Ok(1..)) => self.idle.end_wait(),
                Poll::Ready(_) => return Poll::Ready(Err(NoRequest::End)),
                Poll::Pending => break,
            }
        }
        self.turn = 0;
        if self.parser.has_begun() {
            ready!(self.receiving.poll(cx));
            return refused(Unread::Slow);
        }
        if let Some(limit) = ready!(self.idle.poll_wait(cx)).limit() {
            self.shared.handler.end_connection(limit, &self.hop);
        }
        Poll::Ready(Err(NoRequest::End))
    }

    fn begin(&mut self, head: RequestHead) -> (Begun, HttpExchange) {
        self.turn += 1;
        let exchange = head.exchange.clone();
        let end = self
            .shared
            .limits
            .request_timeout
            .map(|limit| self.receiving.began().unwrap_or_else(clock::now) + limit.0);
        self.receiving.reset();
        self.incoming.borrow_mut().begin(head.framing, exchange.expects_continue(), end);
        let body = IncomingBody::of(&self.incoming);
        (self.shared.handler.begin(head, body, &self.hop), exchange)
    }

    /// Answers a request.
    #[expect(
        clippy::manual_async_fn,
        reason = "what an `async fn` is given has room in its future twice"
    )]
    fn exchange(
        &mut self,
        begun: Begun,
        mut exchange: HttpExchange,
    ) -> impl Future<Output = After> {
        async move {
            {
                // Made where its answer comes: what a future returns is moved with each poll.
                let mut outgoing = None;
                self.wait(begun, &mut exchange, &mut outgoing).await;
                // Without one, the call has been cancelled, or the client has left.
                let Some(message) = &mut outgoing else { return After::Break };
                if !self.send(message).await {
                    return After::Break;
                }
                if exchange.has_switched() {
                    // Boxed to keep the future small: few connections switch.
                    return Box::pin(self.tunnel(outgoing.take())).await;
                }
                // With the body, the call ends.
            }
            self.settle(&exchange).await
        }
    }

    /// Waits for the answer, and makes the response of it.
    #[expect(
        clippy::manual_async_fn,
        reason = "what an `async fn` is given has room in its future twice"
    )]
    fn wait(
        &mut self,
        begun: Begun,
        exchange: &mut HttpExchange,
        outgoing: &mut Option<OutgoingMessage<ClientBody>>,
    ) -> impl Future<Output = ()> {
        async move {
            let mut departure = self.departure.take();
            let mut answer = pin!(self.shared.handler.answer(begun));
            let answered = poll_fn(|cx| {
                interim::collect();
                let polled = answer.as_mut().poll(cx);
                let heads = interim::collected();
                if !heads.is_empty() {
                    self.incoming.borrow_mut().hints.add(heads, exchange);
                }
                if let Poll::Ready(answer) = polled {
                    *outgoing = self.respond(answer, exchange);
                    return Poll::Ready(());
                }
                if let Poll::Ready(Err(_)) = self.incoming.borrow_mut().poll_interim(cx) {
                    return Poll::Ready(());
                }
                poll_left(&self.incoming, &self.wire, &mut departure, cx)
            });
            answered.await;
            self.departure = departure;
        }
    }

    /// Begins the response to a client that has not left.
    fn respond(
        &self,
        mut answer: ClientResponse<ClientBody>,
        exchange: &mut HttpExchange,
    ) -> Option<OutgoingMessage<ClientBody>> {
        if self.incoming.borrow().is_gone() {
            answer.body.nobody_waits();
            return None;
        }
        Some(self.encode(answer, exchange))
    }

    /// Carries what is said in another protocol.
    #[cold]
    fn tunnel(
        &self,
        switch: Option<OutgoingMessage<ClientBody>>,
    ) -> impl Future<Output = After> + use<S> {
        let (incoming, buffers) = (self.incoming.clone(), self.shared.handler.buffers());
        let mut tunnel = switch.and_then(|switch| {
            let early = incoming.borrow_mut().take_rest();
            OpenTunnel::begin(switch.into_body(), early, buffers)
        });
        poll_fn(move |cx| match &mut tunnel {
            Some(tunnel) => tunnel.poll(&mut *incoming.borrow_mut(), cx).map(|end| match end {
                TunnelEnd::Closed => After::Close,
                _ => After::Break,
            }),
            None => Poll::Ready(After::Break),
        })
    }

    /// Answers what is no request.
    async fn refuse(&mut self, unread: Unread) -> After {
        let answer = self.shared.handler.refuse(unread, &self.hop);
        let mut outgoing = self.encode(answer, &mut HttpExchange::without_request());
        match self.send(&mut outgoing).await {
            true => After::Linger(LINGER_REFUSED),
            false => After::Break,
        }
    }

    /// Sends a response. Returns whether it was sent whole; if not, the connection can't be used
    /// any more.
    async fn send<B>(&mut self, outgoing: &mut OutgoingMessage<B>) -> bool
    where
        B: Body<Data = Bytes, Error = Error> + Unpin,
    {
        let mut is_broken = false;
        let sent = poll_fn(|cx| self.poll_send(outgoing, &mut is_broken, cx)).await;
        self.sending.begin(None);
        self.shared.handler.buffers().put_write(outgoing.take_encoded());
        sent
    }

    /// Begins a response.
    fn encode<B>(
        &self,
        answer: ClientResponse<B>,
        exchange: &mut HttpExchange,
    ) -> OutgoingMessage<B>
    where
        B: Body<Data = Bytes, Error = Error> + Unpin,
    {
        if !self.is_kept(exchange) {
            exchange.end_after_this();
        }
        let buffers = self.shared.handler.buffers();
        let mut encoded = buffers.take_write();
        self.incoming.borrow_mut().begin_answer(&mut encoded);
        let date = (!answer.headers.contains(&header::DATE)).then(|| self.shared.dates.now());
        let (own, length) = (answer.own_fields(date.as_ref()), answer.length());
        let encoder =
            exchange.encode_response(answer.status, &answer.headers, own, length, &mut encoded);
        buffers.put_fields(answer.headers);
        OutgoingMessage::new(encoded, encoder, answer.body)
    }

    /// Whether the connection is to serve another request after this one, as far as can be told
    /// before its answer.
    fn is_kept(&self, exchange: &HttpExchange) -> bool {
        let is_kept = exchange.is_kept_alive()
            && !self.shared.shutdown.is_draining()
            && self.incoming.borrow().may_go_on(SHORT_BODY);
        match self.lifetime_limit().filter(|_| is_kept) {
            Some(limit) => {
                self.shared.handler.end_connection(limit, &self.hop);
                false
            }
            None => is_kept,
        }
    }

    /// By which limit the connection has served for long enough.
    fn lifetime_limit(&self) -> Option<ConnectionLimit> {
        let most = self.shared.limits.max_requests;
        if most.is_some_and(|most| self.incoming.borrow().requests() >= most) {
            return Some(ConnectionLimit::MaxRequests);
        }
        let is_old = self.old_at.is_some_and(|old_at| clock::now() >= old_at);
        is_old.then_some(ConnectionLimit::MaxAge)
    }

    fn poll_send<B>(
        &mut self,
        outgoing: &mut OutgoingMessage<B>,
        is_broken: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<bool>
    where
        B: Body<Data = Bytes, Error = Error> + Unpin,
    {
        let before = outgoing.sent();
        let mut writer = ClientWriter(&self.incoming);
        let mut is_sent = false;
        if !*is_broken {
            match outgoing.poll_send(&mut writer, cx) {
                Poll::Ready(Ok(())) => is_sent = true,
                Poll::Ready(Err(SendError::Io(_))) => return Poll::Ready(false),
                Poll::Ready(Err(SendError::Body(_))) => *is_broken = true,
                Poll::Pending => {}
            }
        }
        // What came before the break is for the client, who sees that the rest is missing.
        if *is_broken {
            is_sent = outgoing.poll_flush(&mut writer, cx).is_ready();
        }
        let is_held_back = match Pin::new(&mut writer).poll_flush(cx) {
            Poll::Ready(Err(_)) => return Poll::Ready(false),
            flushed => flushed.is_pending(),
        };
        if is_sent && !is_held_back {
            return Poll::Ready(!*is_broken);
        }
        let is_blocked = outgoing.is_blocked() || is_held_back;
        let sent = outgoing.sent() - before;
        if sent > 0 || !is_blocked {
            self.sending.moved(sent);
        }
        if is_blocked && let Poll::Ready(limit) = self.sending.poll_wait(cx) {
            self.shared.handler.end_connection(limit, &self.hop);
            return Poll::Ready(false);
        }
        poll_left(&self.incoming, &self.wire, &mut self.departure, cx).map(|()| false)
    }

    /// A response has been sent: what is left of its request's body is read away if it is short.
    async fn settle(&self, exchange: &HttpExchange) -> After {
        let (has_ended, is_silent, may_go_on) = {
            let incoming = self.incoming.borrow();
            if incoming.overdue().is_some() {
                return After::Linger(LINGER_REFUSED);
            }
            let has_ended = incoming.has_body_ended();
            (has_ended, incoming.buffer.is_empty(), incoming.may_go_on(SHORT_BODY))
        };
        match exchange.is_kept_alive() {
            true if has_ended => After::Next,
            true if may_go_on && drain(&self.incoming).await => After::Next,
            false if has_ended && is_silent => After::Close,
            _ => After::Linger(LINGER),
        }
    }
}

fn refused<T>(unread: Unread) -> Poll<Result<T, NoRequest>> {
    Poll::Ready(Err(NoRequest::Refused(unread)))
}

/// Notices a client that leaves within its exchange.
fn poll_left<S: ClientStream>(
    incoming: &RefCell<Incoming<S>>,
    wire: &Wire,
    departure: &mut Option<LocalBoxFuture<'static, ()>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut incoming = incoming.borrow_mut();
    // Somebody else may read the body, and what lies there unread would end each wait at once.
    if incoming.has_body_ended() && incoming.buffer.is_empty() && departure.is_none() {
        ready!(wire.poll_read_ready(cx));
        match incoming.poll_fill(HEAD_READ, cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(1..)) => {}
            Poll::Ready(_) => return Poll::Ready(()),
        }
    }
    let left = departure.get_or_insert_with(|| Box::pin(wire.clone().left()));
    ready!(left.as_mut().poll(cx));
    incoming.set_gone();
    Poll::Ready(())
}
