//! The body of an answer: one piece, perhaps delayed, and perhaps trailers, that owns the request's
//! access line.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::log::Access;

/// The body of an answer. When it is dropped, sent or not, the access line is written.
#[derive(Debug, Default)]
pub struct AnswerBody {
    data: Option<Bytes>,
    trailers: Option<HeaderMap>,
    after: Option<Pin<Box<Sleep>>>,
    access: Option<Access>,
}

impl AnswerBody {
    /// A body of these bytes.
    pub fn new(data: impl Into<Bytes>) -> Self {
        Self { data: Some(data.into()).filter(|data| !data.is_empty()), ..Self::default() }
    }

    /// The same, sent this long after its head.
    #[must_use]
    pub fn late(self, delay: Duration) -> Self {
        Self { after: Some(Box::pin(sleep(delay))).filter(|_| !delay.is_zero()), ..self }
    }

    pub(crate) fn with_trailers(self, trailers: HeaderMap) -> Self {
        Self { trailers: Some(trailers), ..self }
    }

    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    pub(crate) fn with_access(self, access: Option<Access>) -> Self {
        Self { access, ..self }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(after) = &mut self.after {
            ready!(after.as_mut().poll(cx));
            self.after = None;
        }
        let Some(data) = self.data.take() else {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        };
        if let Some(access) = &mut self.access {
            access.sent(data.len());
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        // What trailers follow has no length in its head.
        if self.trailers.is_some() {
            return SizeHint::default();
        }
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
