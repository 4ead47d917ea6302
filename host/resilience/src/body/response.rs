//! The response body: it streams to the client, and lets a predicate look at its beginning first.

mod excerpt;
mod peek;

use std::any::Any;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::ahead::Ahead;
use super::end::{BodyEnd, OnEnd};
use super::stream::BodyStream;
use crate::error::{Error, ErrorKind};
use crate::grpc::{GrpcOutcome, GrpcStatus};

/// How much of a response body is read ahead for a question; the client still gets all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peek {
    /// At most so many bytes.
    pub bytes: usize,
    /// For at most so long.
    pub timeout: Duration,
}

/// A response body on its way to the client.
///
/// Dropping it discards the response: its guards are given back at once, and its stream decides
/// what becomes of the connection.
#[derive(Default)]
pub struct ResponseBody {
    /// Read ahead and still to be sent.
    ahead: Ahead,
    rest: Option<BodyStream>,
    /// Who waits for its end.
    waiting: Option<Box<dyn OnEnd>>,
    /// In a box: responses are handed from policy to policy, and hardly any has some of it.
    aside: Option<Box<Aside>>,
}

#[derive(Default)]
struct Aside {
    trailers: Option<HeaderMap>,
    broken: Option<ErrorKind>,
    /// What its trailers say of a call by gRPC whose head has left that open.
    grpc: GrpcOutcome,
    /// A peek has timed out: further ones take what is there and don't wait again.
    waited: bool,
    guards: Vec<Box<dyn Any>>,
    /// What is left of the connection that it came on, which has switched to another protocol.
    tunnel: Option<Box<dyn Any>>,
    /// It is only what has been seen of another body.
    is_excerpt: bool,
}

impl ResponseBody {
    /// No body.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body that is all there.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let mut body = Self::default();
        if !bytes.is_empty() {
            body.ahead.push(bytes);
        }
        body
    }

    /// The same with trailers behind it.
    pub(crate) fn full_with(bytes: impl Into<Bytes>, trailers: HeaderMap) -> Self {
        let mut body = Self::full(bytes);
        body.put_trailers(trailers);
        body
    }

    /// Puts these trailers behind it.
    pub fn put_trailers(&mut self, trailers: HeaderMap) {
        self.aside.get_or_insert_default().trailers = Some(trailers);
    }

    /// How long it is, if that is known and fits into memory.
    pub(crate) fn length(&self) -> Option<usize> {
        self.size_hint().exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX))
    }

    /// Puts back what has been read from its front.
    pub(crate) fn put_back(&mut self, piece: Bytes) {
        self.ahead.push_front(piece);
    }

    /// A body that is still arriving.
    pub fn stream(stream: BodyStream) -> Self {
        Self { rest: (!stream.is_end_stream()).then_some(stream), ..Self::default() }
    }

    /// No body, but the connection behind it, which has switched to another protocol: what comes
    /// over it is nobody's to look into. It lasts until [`end_tunnel`](Self::end_tunnel).
    pub fn tunnel(tunnel: Box<dyn Any>) -> Self {
        // Nobody is to wait for what comes first.
        let aside = Aside { tunnel: Some(tunnel), waited: true, ..Aside::default() };
        Self { rest: Some(Box::pin(Endless)), aside: Some(aside.into()), ..Self::default() }
    }

    /// The connection of a tunnel.
    pub fn tunnel_mut(&mut self) -> Option<&mut dyn Any> {
        self.aside.as_mut()?.tunnel.as_deref_mut()
    }

    /// Takes the connection of a tunnel.
    pub fn take_tunnel(&mut self) -> Option<Box<dyn Any>> {
        self.aside.as_mut()?.tunnel.take()
    }

    /// The tunnel has ended so. If it was discarded, that is told when this is dropped.
    pub fn end_tunnel(&mut self, end: BodyEnd) {
        match end {
            BodyEnd::Discarded => return,
            BodyEnd::Broken(kind) => self.aside.get_or_insert_default().broken = Some(kind),
            BodyEnd::Whole | BodyEnd::Failed(_) => {}
        }
        self.rest = None;
        self.release();
        self.tell(end);
    }

    /// Keeps `guard` until the body has ended or is dropped.
    pub fn hold(&mut self, guard: impl Any) {
        if !self.is_end_stream() {
            self.aside.get_or_insert_default().guards.push(Box::new(guard));
        }
    }

    /// How it ended, if it were dropped now.
    pub fn end(&self) -> BodyEnd {
        match self.aside.as_ref().and_then(|aside| aside.broken) {
            Some(kind) => BodyEnd::Broken(kind),
            None if self.is_end_stream() => self.end_of_all(),
            None => BodyEnd::Discarded,
        }
    }

    /// How it ends now that all of it has come, though some may still have to be sent.
    fn end_of_all(&self) -> BodyEnd {
        let Some(aside) = &self.aside else { return BodyEnd::Whole };
        match (aside.broken, aside.grpc) {
            (Some(kind), _) => BodyEnd::Broken(kind),
            // Clients take it for that, too.
            (None, GrpcOutcome::Open) => BodyEnd::Failed(GrpcStatus::Unknown),
            (None, GrpcOutcome::Ended(GrpcStatus::Ok) | GrpcOutcome::NotGrpc) => BodyEnd::Whole,
            (None, GrpcOutcome::Ended(status)) => BodyEnd::Failed(status),
        }
    }

    /// It is the body of an answer of gRPC, which says in its trailers how the call has ended.
    pub(crate) fn await_grpc_status(&mut self) {
        self.aside.get_or_insert_default().grpc = GrpcOutcome::Open;
    }

    /// With which status the call by gRPC has ended that was left open by the head; `None`: it has
    /// not, or there is none.
    pub fn grpc_end(&self) -> Option<GrpcStatus> {
        let aside = self.aside.as_ref()?;
        match aside.grpc {
            GrpcOutcome::Open if self.has_come() && aside.broken.is_none() => {
                Some(GrpcStatus::Unknown)
            }
            grpc => grpc.status(),
        }
    }

    /// Its trailers, if they have come and not gone on.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.aside.as_ref()?.trailers.as_ref()
    }

    fn note(&mut self, trailers: &HeaderMap) {
        if let Some(aside) = &mut self.aside
            && aside.grpc == GrpcOutcome::Open
        {
            aside.grpc = GrpcStatus::said(trailers).map_or(GrpcOutcome::Open, GrpcOutcome::Ended);
        }
    }

    /// Whether nothing more of it has to come.
    pub fn has_come(&self) -> bool {
        self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    /// Whether some of it has come and waits to be sent.
    pub(crate) fn has_begun(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Tells `waiting` how it ends. It has not come yet.
    pub fn on_end(&mut self, waiting: Box<dyn OnEnd>) {
        self.waiting = Some(match self.waiting.take() {
            Some(first) => Box::new((first, waiting)),
            None => waiting,
        });
    }

    /// The same for what is still to come of it, within another stream.
    pub(crate) fn map_rest(&mut self, map: impl FnOnce(BodyStream) -> BodyStream) {
        self.rest = self.rest.take().map(map);
    }

    /// It goes no further. Tells those who still wait for its end that this was it.
    pub fn settle(&mut self, end: BodyEnd) {
        self.tell(end);
    }

    fn tell(&mut self, end: BodyEnd) {
        if let Some(waiting) = self.waiting.take() {
            waiting.on_end(end);
        }
    }

    /// Lets the guards go: the body has ended.
    fn release(&mut self) {
        if let Some(aside) = &mut self.aside {
            aside.guards.clear();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(data) = self.ahead.pop() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(rest) = &mut self.rest {
            let frame = ready!(rest.as_mut().poll_frame(cx));
            if !matches!(frame, Some(Ok(_))) {
                self.rest = None;
                self.release();
                if let Some(Err(error)) = &frame {
                    self.aside.get_or_insert_default().broken = Some(error.kind());
                }
                let end = self.end_of_all();
                self.tell(end);
            } else if let Some(Ok(frame)) = &frame
                && let Some(trailers) = frame.trailers_ref()
            {
                self.note(trailers);
            }
            if frame.is_some() {
                return Poll::Ready(frame);
            }
        }
        self.release();
        let trailers = self.aside.as_mut().and_then(|aside| aside.trailers.take());
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty()
            && self.aside.as_ref().is_none_or(|aside| aside.trailers.is_none())
            && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.len() as u64;
        let rest = match &self.rest {
            Some(rest) => rest.size_hint(),
            None => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        // HTTP/1 has no place for trailers behind a body whose length was said.
        let has_trailers = self.aside.as_ref().is_some_and(|aside| aside.trailers.is_some());
        if let Some(upper) = rest.upper().filter(|_| !has_trailers) {
            hint.set_upper(upper + ahead);
        }
        hint.set_lower(rest.lower() + ahead);
        hint
    }
}

/// What stands for the conversation in a tunnel.
struct Endless;

impl Body for Endless {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Pending
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("ahead", &self.ahead.len())
            .field("ended", &self.rest.is_none())
            .finish_non_exhaustive()
    }
}
