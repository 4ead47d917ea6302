//! The body of a request that comes on a stream.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::{ConnectionLimit, Error, ErrorKind};
use h2::{Reason, RecvStream};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::request::fault_of;
use super::session::Session;
use crate::server::pace::Pace;

/// What the body of a request and the answer to it tell each other.
#[derive(Debug, Default)]
pub(super) struct Upload {
    /// Whether the client waits for a word before it sends its body,
    pub(super) is_awaited: Cell<bool>,
    /// and somebody wants the body, so that the word is due.
    pub(super) is_due: Cell<bool>,
    /// Whether the answer has begun,
    pub(super) is_answered: Cell<bool>,
    /// and when some of it was sent last.
    pub(super) answered_at: Cell<Option<Instant>>,
    /// For how long nothing may move, in either direction, in a call by gRPC.
    pub(super) idle_timeout: Cell<Option<Duration>>,
}

/// The body of a request.
pub(super) struct StreamBody {
    stream: RecvStream,
    session: Rc<Session>,
    upload: Rc<Upload>,
    /// What is left of the length that was announced.
    left: Option<u64>,
    pace: Pace,
    /// How much of a frame under way has been counted.
    counted: u32,
    /// Whether what has come is not read yet.
    is_ahead: bool,
    has_data_ended: bool,
    has_ended: bool,
}

impl StreamBody {
    /// Of a request that has one, of this length if it is known, to be whole at `end`.
    pub(super) fn new(
        stream: RecvStream,
        session: Rc<Session>,
        upload: Rc<Upload>,
        length: Option<u64>,
        end: Option<Instant>,
    ) -> Self {
        let mut pace = session.pace();
        pace.begin(end);
        session.set_ahead(false, true);
        Self {
            stream,
            session,
            upload,
            left: length,
            pace,
            counted: 0,
            is_ahead: true,
            has_data_ended: false,
            has_ended: false,
        }
    }

    fn set_ahead(&mut self, is_ahead: bool) {
        self.session.set_ahead(self.is_ahead, is_ahead);
        self.is_ahead = is_ahead;
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        match self.stream.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                self.set_ahead(true);
                self.upload.is_awaited.set(false);
                let length = data.len();
                self.pace.moved((length as u64).saturating_sub(self.counted.into()));
                self.counted = 0;
                self.left = self.left.map(|left| left.saturating_sub(length as u64));
                // Whoever takes it bounds what is kept of it.
                self.stream.flow_control().release_capacity(length).ok();
                Poll::Ready(Some(Ok(data)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(incomplete(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                self.set_ahead(false);
                let limit = ready!(self.poll_pace(cx));
                Poll::Ready(Some(Err(self.too_slow(limit))))
            }
        }
    }

    /// The client owes more of it.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionLimit> {
        if self.upload.is_awaited.get() {
            self.upload.is_due.set(true);
        }
        if self.upload.is_answered.get() {
            self.pace.be_lenient();
        }
        // Whether somebody is still there, the connection sees to.
        if let Some(idle_timeout) = self.upload.idle_timeout.get() {
            self.pace.be_patient(idle_timeout);
            if let Some(answered_at) = self.upload.answered_at.get() {
                self.pace.excuse(answered_at);
            }
        }
        let come = self.session.link().partial_data(self.stream.stream_id().as_u32());
        if come > self.counted {
            self.pace.moved((come - self.counted).into());
            self.counted = come;
        }
        // Others that nobody reads may take up the room that the connection has.
        if let Some(until) = self.session.full_until() {
            self.pace.excuse(until);
        }
        self.pace.poll_wait(cx)
    }

    fn too_slow(&mut self, limit: ConnectionLimit) -> Error {
        self.end();
        self.session.end_stream(limit);
        let words = match limit {
            ConnectionLimit::MinRate => "request body slower than `min_rate`",
            ConnectionLimit::RequestTimeout => "request longer than `request_timeout`",
            _ => "request body stalled",
        };
        Error::new(ErrorKind::RequestIncomplete).with_source(words)
    }

    fn end(&mut self) {
        self.set_ahead(false);
        self.has_ended = true;
    }
}

fn incomplete(error: h2::Error) -> Error {
    let is_wrong = error.is_library() && error.reason() == Some(Reason::PROTOCOL_ERROR);
    let kind = if is_wrong { ErrorKind::RequestInvalid } else { ErrorKind::RequestIncomplete };
    Error::new(kind).with_source(error)
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.has_ended {
            return Poll::Ready(None);
        }
        while !this.has_data_ended {
            match ready!(this.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    if this.stream.is_end_stream() {
                        this.end();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => {
                    this.end();
                    return Poll::Ready(Some(Err(error)));
                }
                None => this.has_data_ended = true,
            }
        }
        let trailers = ready!(this.stream.poll_trailers(cx));
        this.end();
        match trailers {
            Ok(Some(trailers)) if fault_of(&trailers).is_some() => {
                let error = Error::new(ErrorKind::RequestInvalid);
                Poll::Ready(Some(Err(error.with_source("a trailer that is none"))))
            }
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(incomplete(error)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.set_ahead(false);
    }
}
