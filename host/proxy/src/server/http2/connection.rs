//! A connection: it reads and writes frames, takes requests on, and lets its streams go on.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::{ConnectionLimit, Http2Fault, clock};
use futures_util::stream::{FuturesUnordered, Stream as _};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::exchange::StreamExchange;
use super::limits::ClientLimits;
use super::link::SessionLink;
use super::session::Session;
use super::waker::SessionWaker;
use crate::server::idle::IdlePlace;
use crate::server::shared::{GRACE, TURN};

/// How often in a turn all that is due is done.
const ROUNDS: u32 = 4;

/// How long a client that has been told why a connection ends may take to read that.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// Nothing more has to be said or heard.
    Quietly,
    /// The client has been told why, and may still be sending.
    Told,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionPhase {
    Open,
    /// Since then the client knows that it is to send no more requests.
    Ending(Instant),
    /// Since then the end is told. No stream goes on.
    Closing(Instant, SessionEnd),
}

/// A connection, whose streams are beside it.
pub(super) struct Http2Connection<S> {
    connection: h2::server::Connection<SessionLink<S>, Bytes>,
    session: Rc<Session>,
    phase: SessionPhase,
    waker: Option<Arc<SessionWaker>>,
    limits: ClientLimits,
    idle: IdlePlace,
    is_idle: bool,
    accepted: u64,
    /// Streams that `h2` has refused by itself.
    refused: u64,
    /// When it has been open for long enough.
    old_at: Option<Instant>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Http2Connection<S> {
    pub(super) fn new(
        mut connection: h2::server::Connection<SessionLink<S>, Bytes>,
        session: Rc<Session>,
    ) -> Self {
        Self {
            limits: ClientLimits::new(session.clone(), connection.ping_pong()),
            connection,
            phase: SessionPhase::Open,
            waker: None,
            idle: session.shared().idle.join(),
            is_idle: false,
            accepted: 0,
            refused: 0,
            old_at: session.shared().old_at(),
            session,
        }
    }

    /// Serves it and its streams, which are made by `run`.
    pub(super) fn poll<F: Future<Output = ()>>(
        &mut self,
        streams: &mut FuturesUnordered<F>,
        run: &impl Fn(StreamExchange) -> F,
        cx: &mut Context<'_>,
    ) -> Poll<SessionEnd> {
        let waker = self.waker.get_or_insert_with(|| SessionWaker::new(cx.waker())).clone();
        waker.begin_turn();
        let own = Waker::from(waker.clone());
        let ended = self.poll_turn(streams, run, &waker, &mut Context::from_waker(&own));
        waker.end_turn();
        ended
    }

    fn poll_turn<F: Future<Output = ()>>(
        &mut self,
        streams: &mut FuturesUnordered<F>,
        run: &impl Fn(StreamExchange) -> F,
        waker: &SessionWaker,
        cx: &mut Context<'_>,
    ) -> Poll<SessionEnd> {
        self.session.begin_turn();
        let (mut left, mut have_streams_more) = (TURN, false);
        for round in 0..ROUNDS {
            let is_woken = waker.take_due();
            while let Poll::Ready(Some(())) = Pin::new(&mut *streams).poll_next(cx) {}
            // A stream that hands something over says so.
            let has_handed = waker.take_due();
            let before = left;
            if (round == 0 || is_woken || has_handed)
                && let Poll::Ready(ended) = self.poll_frames(streams, run, &mut left, cx)
            {
                return Poll::Ready(ended);
            }
            self.session.link().flushed();
            have_streams_more = has_handed || left < before;
            let is_due = have_streams_more || waker.is_due();
            if !is_due || !self.session.has_polls() {
                break;
            }
        }
        if have_streams_more || left == 0 && self.has_requests() || self.session.link().has_more() {
            waker.set_due();
        }
        let ended = self.poll_limits(streams.is_empty(), cx);
        if let SessionPhase::Closing(..) = self.phase {
            streams.clear();
        }
        ended
    }

    /// Reads and writes, and takes on as many requests as are `left`.
    fn poll_frames<F: Future<Output = ()>>(
        &mut self,
        streams: &mut FuturesUnordered<F>,
        run: &impl Fn(StreamExchange) -> F,
        left: &mut u32,
        cx: &mut Context<'_>,
    ) -> Poll<SessionEnd> {
        if *left == 0 {
            let Poll::Ready(closed) = self.connection.poll_closed(cx) else {
                self.look_for_faults(cx);
                return Poll::Pending;
            };
            return Poll::Ready(closed.map_or_else(|it| self.broken(&it), |()| self.closed()));
        }
        while *left > 0 {
            match ready!(self.poll_request(cx)) {
                Ok(next) => streams.push(run(next)),
                Err(ended) => return Poll::Ready(ended),
            }
            *left -= 1;
            // To ask `h2` for one more that cannot be there costs as much as for one that is.
            if !self.has_requests() {
                self.end_requests(cx);
                break;
            }
        }
        Poll::Pending
    }

    /// Reads and writes until there is a request.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<StreamExchange, SessionEnd>> {
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    if let Some(exchange) = self.take_on(request, respond, cx) {
                        return Poll::Ready(Ok(exchange));
                    }
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(self.broken(&error))),
                Poll::Ready(None) => return Poll::Ready(Err(self.closed())),
                Poll::Pending => {
                    self.end_requests(cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// `None`: nobody wants it any more, or it is refused.
    fn take_on(
        &mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) -> Option<StreamExchange> {
        self.accepted += 1;
        let stream = respond.stream_id().as_u32();
        let link = self.session.link();
        link.settle(self.accepted + self.refused);
        link.own_answers().hand_on(stream, self.accepted + self.refused);
        if respond.poll_reset(cx).is_ready() {
            link.gave_up();
            return None;
        }
        let is_late = match self.phase {
            SessionPhase::Open => false,
            SessionPhase::Ending(since) => clock::now() >= since + GRACE,
            SessionPhase::Closing(..) => true,
        };
        if is_late {
            respond.send_reset(Reason::REFUSED_STREAM);
            return None;
        }
        if std::mem::take(&mut self.is_idle) {
            self.idle.end_wait();
        }
        let most = self.session.shared().limits.max_requests;
        if most.is_some_and(|most| self.accepted >= most) && self.phase == SessionPhase::Open {
            self.session.end_connection(ConnectionLimit::MaxRequests);
            self.begin_end(cx);
        }
        Some(StreamExchange::begin(&self.session, request, respond))
    }

    /// Whether there may be some that have come whole and are not taken on yet.
    fn has_requests(&self) -> bool {
        self.session.link().unseen() > 0
    }

    /// There are no more for now.
    fn end_requests(&mut self, cx: &Context<'_>) {
        self.count_refused();
        self.look_for_faults(cx);
    }

    /// All that has come has been looked at: what is missing, `h2` has refused by itself.
    fn count_refused(&mut self) {
        let link = self.session.link();
        if link.is_blocked() {
            return;
        }
        let refused = link.opened().saturating_sub(self.accepted);
        link.settle(self.accepted + refused);
        let mut answered = link.own_answers().settle(self.accepted + refused);
        while self.refused < refused {
            self.refused += 1;
            link.gave_up();
            if answered > 0 {
                answered -= 1;
                self.session.refuse_head();
            } else {
                self.session.refuse_stream();
            }
        }
    }

    fn look_for_faults(&mut self, cx: &Context<'_>) {
        let Some(fault) = self.session.link().fault() else { return };
        if !matches!(self.phase, SessionPhase::Closing(..)) {
            self.session.fail(fault);
            let is_flood = fault != Http2Fault::Protocol;
            let reason = if is_flood { Reason::ENHANCE_YOUR_CALM } else { Reason::PROTOCOL_ERROR };
            self.close(reason, SessionEnd::Told, cx);
        }
    }

    /// The client is to send no more requests; those that it has sent are answered.
    fn begin_end(&mut self, cx: &Context<'_>) {
        self.connection.graceful_shutdown();
        self.phase = SessionPhase::Ending(clock::now());
        cx.waker().wake_by_ref();
    }

    /// It ends now.
    fn close(&mut self, reason: Reason, ended: SessionEnd, cx: &Context<'_>) {
        self.connection.abrupt_shutdown(reason);
        self.session.link().give_way();
        self.phase = SessionPhase::Closing(clock::now(), ended);
        cx.waker().wake_by_ref();
    }

    /// It has ended, by us or by the client.
    fn closed(&self) -> SessionEnd {
        match self.phase {
            SessionPhase::Closing(_, ended) => ended,
            SessionPhase::Open | SessionPhase::Ending(_) => {
                self.session.set_left();
                SessionEnd::Quietly
            }
        }
    }

    /// `h2` has ended it.
    fn broken(&self, error: &h2::Error) -> SessionEnd {
        if !error.is_library() {
            self.session.set_left();
            return SessionEnd::Quietly;
        }
        // What is seen of the frames says more than a code.
        let seen = self.session.link().fault();
        self.session.fail(seen.unwrap_or(match error.reason() {
            Some(Reason::FLOW_CONTROL_ERROR) => Http2Fault::FlowControl,
            Some(Reason::FRAME_SIZE_ERROR) => Http2Fault::FrameSize,
            Some(Reason::COMPRESSION_ERROR) => Http2Fault::Compression,
            Some(Reason::ENHANCE_YOUR_CALM) => Http2Fault::Flood,
            _ => Http2Fault::Protocol,
        }));
        SessionEnd::Told
    }

    /// What there is to wait for, and whether it has come to an end.
    fn poll_limits(&mut self, is_empty: bool, cx: &mut Context<'_>) -> Poll<SessionEnd> {
        self.limits.begin();
        if let Poll::Ready(limit) = self.limits.poll_writing(cx) {
            self.session.end_connection(limit);
            return Poll::Ready(SessionEnd::Quietly);
        }
        if let SessionPhase::Closing(since, ended) = self.phase {
            if self.limits.is_over(since + LAST_WORDS) {
                return Poll::Ready(ended);
            }
        } else if self.limits.is_slow_with_head() {
            self.session.end_connection(ConnectionLimit::HeaderTimeout);
            self.close(Reason::NO_ERROR, SessionEnd::Told, cx);
        } else {
            let is_resting =
                is_empty && !self.connection.has_streams() && !self.limits.is_in_head();
            if !is_resting && self.limits.is_gone(cx) {
                self.session.fail(Http2Fault::PingUnanswered);
                return Poll::Ready(SessionEnd::Quietly);
            }
            self.look_at_end(is_resting, cx);
        }
        self.limits.wait(cx);
        Poll::Pending
    }

    /// Whether it is to end, now that it does not at once.
    fn look_at_end(&mut self, is_resting: bool, cx: &mut Context<'_>) {
        if let SessionPhase::Ending(since) = self.phase {
            if is_resting && self.limits.is_over(since + GRACE) {
                self.close(Reason::NO_ERROR, SessionEnd::Quietly, cx);
            }
            return;
        }
        if self.session.shared().shutdown.is_draining() {
            return self.begin_end(cx);
        }
        if self.old_at.is_some_and(|old_at| self.limits.is_over(old_at)) {
            self.session.end_connection(ConnectionLimit::MaxAge);
            return self.begin_end(cx);
        }
        if !is_resting {
            if std::mem::take(&mut self.is_idle) {
                self.idle.end_wait();
            }
            return;
        }
        self.is_idle = true;
        if let Poll::Ready(end) = self.idle.poll_wait(cx) {
            if let Some(limit) = end.limit() {
                self.session.end_connection(limit);
            }
            self.close(Reason::NO_ERROR, SessionEnd::Quietly, cx);
        }
    }
}
