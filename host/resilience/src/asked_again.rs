//! Asking a component once more, when the trailers of a response have come.
//!
//! A policy judges a response by its head, since somebody waits for that. One that only counts may
//! change its mind, and a component of its condition may read trailers
//! ([`Predicate::reads_trailers`](crate::Predicate::reads_trailers)). So for such a one what the
//! head was judged by is kept: the head itself, and what was read ahead of the body. When trailers
//! have come, that is judged again with them; they go on to the client when it is done. What ends
//! without them, or is left by its client before, has been judged.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, Version};
use http_body::{Body, Frame, SizeHint};

use crate::body::{BodyEnd, BodyStream, OnEnd};
use crate::call::Call;
use crate::error::Error;
use crate::outcome::{Outcome, Response};

/// One who has judged a response by its head, and may have to change that. Dropped without having
/// been asked or told: the call was dropped, or its client has left.
pub(crate) trait AsksAgain: 'static {
    /// Whether there still is a component that reads trailers.
    fn reads_trailers(&self) -> bool;

    /// Trailers have come. Until this is ready they don't go on.
    async fn ask(&self, seen: SeenResponse);

    /// The body has come to its end without them.
    fn ended(&self, end: BodyEnd, seen: SeenResponse);
}

/// What is kept of a response, with its call.
pub(crate) struct SeenResponse {
    pub(crate) call: Call,
    pub(crate) outcome: Outcome,
}

/// Whether this is a response behind which trailers may still come.
pub(crate) fn may_have_trailers(call: &Call, outcome: &Outcome) -> bool {
    let Ok(response) = outcome else { return false };
    !response.is_stand_in()
        && response.body.awaits_trailers()
        // HTTP/1 has no place for them behind a body whose length was said, on either side.
        && (response.body.length().is_none()
            || call.head().version == Version::HTTP_2
                && call.past(response.attempt()).is_some_and(|past| past.provenance.is_http2))
}

/// Has `judge` asked again when the trailers of this response have come.
pub(crate) fn follow(judge: impl AsksAgain, call: &Call, response: &mut Response) {
    let seen = SeenResponse { call: call.afterwards(), outcome: Ok(response.excerpt()) };
    let waiting = Rc::new(TrailersWait { judge, seen: RefCell::new(Some(seen)) });
    let again = waiting.clone();
    response.body.map_rest(|stream| Box::pin(TrailersStream { stream, again, asking: None }));
    response.body.on_end(Box::new(TrailersMissed(waiting)));
}

struct TrailersWait<J> {
    judge: J,
    /// `None`: it has been asked, or told.
    seen: RefCell<Option<SeenResponse>>,
}

impl<J: AsksAgain> TrailersWait<J> {
    /// What to ask about, if somebody is to be asked.
    fn seen_with(&self, trailers: &HeaderMap) -> Option<SeenResponse> {
        if !self.judge.reads_trailers() {
            return None;
        }
        let mut seen = self.seen.take()?;
        if let Ok(response) = &mut seen.outcome {
            response.body.end_with(trailers.clone());
        }
        Some(seen)
    }
}

struct TrailersMissed<J>(Rc<TrailersWait<J>>);

impl<J: AsksAgain> OnEnd for TrailersMissed<J> {
    fn on_end(self: Box<Self>, end: BodyEnd) {
        if let Some(seen) = self.0.seen.take() {
            self.0.judge.ended(end, seen);
        }
    }
}

/// A body whose trailers wait until somebody has looked at them.
struct TrailersStream<J> {
    stream: BodyStream,
    again: Rc<TrailersWait<J>>,
    /// The question under way, and what waits for it.
    asking: Option<(LocalBoxFuture<'static, ()>, Frame<Bytes>)>,
}

impl<J: AsksAgain> Body for TrailersStream<J> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.asking.is_none() {
            let frame = match ready!(this.stream.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            let seen = frame.trailers_ref().and_then(|trailers| this.again.seen_with(trailers));
            let Some(seen) = seen else { return Poll::Ready(Some(Ok(frame))) };
            let again = this.again.clone();
            this.asking = Some((Box::pin(async move { again.judge.ask(seen).await }), frame));
        }
        if let Some((asking, _)) = &mut this.asking {
            ready!(asking.as_mut().poll(cx));
        }
        Poll::Ready(this.asking.take().map(|(_, trailers)| Ok(trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.asking.is_none() && self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.size_hint()
    }
}
