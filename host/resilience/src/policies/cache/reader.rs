//! The body of a fill as one client reads it, at its own pace.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::fill::{Fill, Looker, Piece};
use super::taken::TakenRoom;
use crate::body::ResponseBody;
use crate::error::{Error, ErrorKind};

/// Where the rest of a body is left that has outgrown its fill: for the client whose request it
/// answers, if that is still there.
#[derive(Debug, Default)]
pub(super) struct Handover(RefCell<Option<(ResponseBody, TakenRoom)>>);

impl Handover {
    /// Leaves the rest of a body, and the room that its beginning takes.
    pub(super) fn leave(&self, rest: ResponseBody, room: TakenRoom) {
        self.0.replace(Some((rest, room)));
    }

    fn take(&self) -> Option<ResponseBody> {
        self.0.take().map(|(rest, _)| rest)
    }
}

/// Reads the body of a fill.
pub(super) struct FillReader {
    source: FillSource,
    sent: usize,
    /// `None`: it is not known before the end.
    length: Option<usize>,
}

enum FillSource {
    Fill { looker: Looker, handover: Option<Rc<Handover>> },
    Rest(ResponseBody),
    Trailers(Option<HeaderMap>),
}

impl FillReader {
    /// For one of those who have no part in filling it. They read only what has a length.
    pub(super) fn new(looker: Looker, length: usize) -> Self {
        let source = FillSource::Fill { looker, handover: None };
        Self { source, sent: 0, length: Some(length) }
    }

    /// For the client whose request it answers.
    pub(super) fn first(fill: &Arc<Fill>, handover: Rc<Handover>, length: Option<usize>) -> Self {
        let source = FillSource::Fill { looker: Looker::new(fill), handover: Some(handover) };
        Self { source, sent: 0, length }
    }
}

impl Body for FillReader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        loop {
            let next = match &mut this.source {
                FillSource::Trailers(trailers) => {
                    return Poll::Ready(trailers.take().map(|it| Ok(Frame::trailers(it))));
                }
                FillSource::Rest(rest) => return Pin::new(rest).poll_frame(cx),
                FillSource::Fill { looker, handover } => {
                    match ready!(looker.poll_body(this.sent, cx)) {
                        Piece::Bytes(bytes) => {
                            this.sent += bytes.len();
                            return Poll::Ready(Some(Ok(Frame::data(bytes))));
                        }
                        Piece::Broken(kind) => Err(kind),
                        Piece::Elsewhere => handover
                            .take()
                            .and_then(|handover| handover.take())
                            .map(FillSource::Rest)
                            .ok_or(ErrorKind::ConnectionTerminated),
                        Piece::Whole(response) => {
                            let rest = response.body.slice(this.sent.min(response.body.len())..);
                            this.sent += rest.len();
                            this.source = FillSource::Trailers(response.trailers.clone());
                            if rest.is_empty() {
                                continue;
                            }
                            return Poll::Ready(Some(Ok(Frame::data(rest))));
                        }
                    }
                }
            };
            match next {
                Ok(source) => this.source = source,
                Err(kind) => {
                    this.source = FillSource::Trailers(None);
                    let error = Error::new(kind).with_source("the body broke off");
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            FillSource::Trailers(trailers) => trailers.is_none(),
            FillSource::Rest(rest) => rest.is_end_stream(),
            FillSource::Fill { .. } => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.source, self.length) {
            (FillSource::Rest(rest), _) => rest.size_hint(),
            (FillSource::Trailers(_), _) => SizeHint::with_exact(0),
            (_, Some(length)) => SizeHint::with_exact((length - self.sent.min(length)) as u64),
            (_, None) => SizeHint::default(),
        }
    }
}
