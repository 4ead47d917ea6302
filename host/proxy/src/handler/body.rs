//! The bodies between client and proxy: the request body with its limits, and the response body,
//! whose end is the end of the call.

use std::any::Any;
use std::error::Error as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::{
    BodyEnd, Call, CallEvent, Error, ErrorKind, GrpcStatus, ResponseBody, TunnelEvent, UserCall,
};
use http::{HeaderValue, Method, Version, header};
use http_body::{Body, Frame, SizeHint};

use super::in_flight::CallPlace;
use super::response::ClientResponse;
use crate::buffers::Buffers;
use crate::grpc;
use crate::headers;
use crate::reply::Refusal;
use crate::tunnel::SwitchedConnection;

/// A request body from the client, with a limit on its size.
pub(super) struct ClientRequestBody<B> {
    incoming: B,
    left: u64,
}

impl<B> ClientRequestBody<B> {
    pub(super) fn new(incoming: B, limit: u64) -> Self {
        Self { incoming, left: limit }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for ClientRequestBody<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        match this.left.checked_sub(data.map_or(0, |data| data.len() as u64)) {
            Some(left) => {
                this.left = left;
                Poll::Ready(frame)
            }
            None => Poll::Ready(Some(Err(ErrorKind::RequestTooLarge.into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// A call until its end. Dropping it reports the end: after the last byte of the response, or when
/// the client has left.
#[derive(Debug)]
pub(super) struct OngoingCall {
    call: Call,
    status: Option<u16>,
    failure: Option<ErrorKind>,
    /// The status of gRPC that the client got.
    grpc: Option<GrpcStatus>,
    /// The error type of RFC 9209 that the client got.
    error: Option<&'static str>,
    /// The causes of the failure, for the log only.
    detail: Option<Arc<str>>,
    /// The attempt that the answer comes from; 0 if from none.
    attempt: u32,
    /// Whether a body that breaks off ends by trailers that say so.
    ends_as_grpc: bool,
    /// How the response body ended.
    end: Option<BodyEnd>,
    bytes: u64,
    /// Of a tunnel, from the client.
    received: u64,
    buffers: Rc<Buffers>,
    /// `None`: calls have no limit, or it was turned away.
    _place: Option<CallPlace>,
    /// Whose call it is, if that counts.
    user: Option<Box<UserCall>>,
}

impl OngoingCall {
    /// At the end, the memory of the call's headers goes to `buffers`.
    pub(super) fn new(
        call: Call,
        buffers: Rc<Buffers>,
        place: Option<CallPlace>,
        user: Option<Box<UserCall>>,
    ) -> Self {
        Self {
            call,
            status: None,
            failure: None,
            grpc: None,
            error: None,
            detail: None,
            attempt: 0,
            ends_as_grpc: false,
            end: None,
            bytes: 0,
            received: 0,
            buffers,
            _place: place,
            user,
        }
    }

    pub(super) fn call(&self) -> &Call {
        &self.call
    }

    /// Answers with the response of the upstream or a fallback.
    pub(super) fn answer(
        mut self,
        response: fusebox_resilience::Response,
    ) -> ClientResponse<ClientBody> {
        // What stands in for an attempt comes from none.
        self.attempt = if response.is_stand_in() { 0 } else { response.attempt() };
        let is_given_up = response.is_given_up();
        let (is_grpc, is_stand_in) = (self.call.request().is_grpc(), response.is_stand_in());
        if is_grpc {
            self.grpc = response.grpc_for_client();
        }
        let past = self.call.past(self.attempt);
        let is_http2 = past.is_some_and(|past| past.provenance.is_http2);
        let received = if is_http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let mut answer = ClientResponse::of(response, received, self.id());
        // That of another upstream may still be asking.
        if is_stand_in && answer.body.has_come() {
            self.call.cut_body();
        }
        if is_grpc && is_stand_in {
            grpc::end_by_trailers(answer.headers.map_mut(), &mut answer.body);
        }
        let attempts = self.call.attempts();
        if is_given_up && attempts > 1 {
            headers::add_attempts(answer.headers.map_mut(), answer.status, attempts);
        }
        self.ends_as_grpc =
            grpc::may_end_anywhere(self.call.head(), answer.status, &answer.headers);
        self.send(answer)
    }

    /// Answers with a switch to another protocol, in which nothing may move for `idle_timeout`.
    #[cold]
    pub(super) fn switch(
        self,
        mut response: fusebox_resilience::Response,
        idle_timeout: Duration,
    ) -> ClientResponse<ClientBody> {
        let connection = response.body.tunnel_mut();
        match connection.and_then(|it| it.downcast_mut::<SwitchedConnection>()) {
            Some(connection) => {
                connection.idle_timeout = idle_timeout;
                self.answer(response)
            }
            None => self.fail(&ErrorKind::Internal.into(), 0.0),
        }
    }

    /// Answers a failed call. `jitter` is the part of itself by which `Retry-After` may be longer.
    pub(super) fn fail(mut self, error: &Error, jitter: f64) -> ClientResponse<ClientBody> {
        self.detail = causes(error);
        self.attempt = error.attempt();
        let mut answer = self.refuse(Refusal::from(error), jitter);
        if let Some(headers) = error.headers() {
            answer.headers.map_mut().extend(headers.clone());
        }
        answer
    }

    /// Answers with a response that the proxy makes itself. `jitter` is as above.
    pub(super) fn refuse(mut self, refusal: Refusal, jitter: f64) -> ClientResponse<ClientBody> {
        let kind = self.call.head().headers.get(header::CONTENT_TYPE);
        let kind = kind.filter(|kind| grpc::speaks(kind));
        let random = self.call.random();
        let part = jitter * random.fraction();
        let refusal = match kind {
            Some(_) => refusal.later(part),
            None => refusal.seconds_later(part, random.fraction()),
        };
        match refusal {
            Refusal::NoRoute | Refusal::Unread(_) | Refusal::Busy { .. } => {}
            Refusal::Flawed(flaw) => self.call.reporter().emit_own(CallEvent::Refused { flaw }),
            Refusal::Failed { kind, .. } => self.failure = Some(kind),
        }
        self.error = Some(refusal.name());
        let response = match kind {
            Some(kind) => refusal.grpc_response(kind, self.call.attempts()),
            None => refusal.response(self.call.id(), self.call.attempts()),
        };
        self.grpc = kind.map(|_| refusal.grpc_status());
        self.send_own(response)
    }

    /// Answers a request that was for fusebox itself.
    pub(super) fn answer_itself(
        self,
        response: http::Response<ResponseBody>,
    ) -> ClientResponse<ClientBody> {
        self.send_own(response)
    }

    fn id(&self) -> HeaderValue {
        self.call.request().id_header().clone()
    }

    fn send_own(self, response: http::Response<ResponseBody>) -> ClientResponse<ClientBody> {
        // Whether the connection goes on depends on whether somebody reads it.
        self.call.cut_body();
        let id = self.id();
        self.send(ClientResponse::own(response, id))
    }

    fn send(mut self, answer: ClientResponse<ResponseBody>) -> ClientResponse<ClientBody> {
        self.status = Some(answer.status.as_u16());
        answer.map(|body| ClientBody { body, ongoing: self })
    }
}

/// The chain of causes of an error, if there are any.
fn causes(error: &Error) -> Option<Arc<str>> {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let causes: Vec<String> = causes.map(ToString::to_string).collect();
    (!causes.is_empty()).then(|| causes.join(": ").into())
}

impl Drop for OngoingCall {
    fn drop(&mut self) {
        let is_whole = self.end.is_some_and(|end| end != BodyEnd::Discarded);
        self.call.emit_own_about(
            self.attempt,
            CallEvent::Finished {
                status: self.status,
                failure: self.failure,
                grpc: self.grpc.filter(|_| self.status.is_some()),
                error: self.error,
                detail: self.detail.take(),
                attempts: self.call.attempts(),
                end: self.end,
                is_cut: !is_whole && self.call.worker().cuts_calls(),
                bytes: self.bytes,
                received: self.received,
                elapsed: self.call.elapsed(),
            },
        );
        if let Some(user) = self.user.take() {
            user.end(self.call.asked_in_all());
        }
        if let Some(headers) = self.call.take_headers() {
            self.buffers.put_headers(headers);
        }
    }
}

/// A response body on its way to the client. The call ends when it is dropped.
#[derive(Debug)]
pub(crate) struct ClientBody {
    body: ResponseBody,
    ongoing: OngoingCall,
}

impl ClientBody {
    /// The client has left before its response began, so the log shows no status.
    pub(crate) fn nobody_waits(&mut self) {
        self.ongoing.status = None;
    }

    /// The connection to the upstream, if it has switched to another protocol.
    pub(super) fn take_tunnel(&mut self) -> Option<Box<dyn Any>> {
        self.body.take_tunnel()
    }

    /// The tunnel ended so, after so many bytes from the client and to it.
    pub(super) fn end_tunnel(&mut self, end: BodyEnd, received: u64, sent: u64) {
        (self.ongoing.received, self.ongoing.bytes) = (received, sent);
        self.body.end_tunnel(end);
    }

    pub(super) fn emit(&self, event: TunnelEvent) {
        self.ongoing.call.emit_own_about(self.ongoing.attempt, event);
    }

    /// How the body ended. One that HTTP does not send (RFC 9110, section 6.4.1) is never read.
    fn end(&self) -> BodyEnd {
        let is_head = self.ongoing.call.head().method == Method::HEAD;
        match (self.body.end(), self.ongoing.status) {
            (BodyEnd::Discarded, Some(204 | 304)) => BodyEnd::Whole,
            (BodyEnd::Discarded, _) if is_head => BodyEnd::Whole,
            (end, _) => end,
        }
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let end = self.end();
        self.body.settle(end);
        if matches!(end, BodyEnd::Whole | BodyEnd::Failed(_)) {
            self.ongoing.grpc = self.body.grpc_end().or(self.ongoing.grpc);
        }
        // Without a status there was nobody to answer.
        if self.ongoing.status.is_some() {
            self.ongoing.end = Some(end);
        } else {
            self.ongoing.bytes = 0;
        }
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                self.ongoing.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Some(Err(error)) => {
                let attempt = self.ongoing.attempt;
                let kind = CallEvent::ResponseIncomplete { kind: error.kind() };
                self.ongoing.call.emit_own_about(attempt, kind);
                if self.ongoing.ends_as_grpc {
                    let refusal = Refusal::from(error);
                    self.ongoing.grpc = Some(refusal.grpc_status());
                    return Poll::Ready(Some(Ok(Frame::trailers(refusal.grpc_trailers()))));
                }
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
