//! A response on its way out on its stream.
//!
//! Nothing is handed to `h2` while the client takes nothing, and no more than the stream's window
//! has room for: so what a client that reads slowly may hold of a connection is what its streams
//! hand over in one turn.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fusebox_http1::may_trail;
use fusebox_resilience::Error;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName};
use http_body::Body;

use super::session::Session;
use crate::server::pace::Pace;

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentAs {
    Whole,
    /// It broke off.
    Broken,
    /// The client was too slow.
    TooSlow,
    /// The client no longer wants it.
    GivenUp,
}

/// The body of a response whose head is sent.
pub(super) struct OutgoingBody<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// Of it, what is not handed over yet.
    piece: Bytes,
    pace: Pace,
    /// How it has ended; what is handed over may not be sent yet.
    end: Option<SentAs>,
    /// Since when it waits for that.
    waits: Option<u64>,
    /// Whether some of it was handed over since this was last asked.
    has_moved: bool,
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> OutgoingBody<B> {
    /// `is_whole`: there is no body, or none that is sent.
    pub(super) fn new(stream: SendStream<Bytes>, body: B, is_whole: bool, pace: Pace) -> Self {
        let end = is_whole.then_some(SentAs::Whole);
        let (piece, waits, has_moved) = (Bytes::new(), None, false);
        Self { stream, body, piece, pace, end, waits, has_moved }
    }

    /// Whether some of it was handed over since this was last asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.has_moved)
    }

    /// Sends the remainder.
    pub(super) fn poll_send(&mut self, session: &Session, cx: &mut Context<'_>) -> Poll<SentAs> {
        if self.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(SentAs::GivenUp);
        }
        if self.end.is_none() {
            if self.waits.is_some() || session.link().is_blocked() {
                ready!(session.link().poll_flushed(&mut self.waits, cx));
            }
            self.end = Some(ready!(self.poll_data(session, cx)));
        }
        match self.end {
            Some(SentAs::TooSlow) => self.stream.send_reset(Reason::CANCEL),
            Some(SentAs::GivenUp) => {}
            _ => ready!(session.link().poll_flushed(&mut self.waits, cx)),
        }
        // What came before the break is with the client.
        if self.end == Some(SentAs::Broken) {
            self.stream.send_reset(Reason::INTERNAL_ERROR);
        }
        Poll::Ready(self.end.unwrap_or(SentAs::Whole))
    }

    /// Hands over what there is.
    fn poll_data(&mut self, session: &Session, cx: &mut Context<'_>) -> Poll<SentAs> {
        loop {
            if !self.piece.is_empty() {
                let Poll::Ready(room) = self.poll_room(cx) else {
                    let limit = ready!(self.pace.poll_wait(cx));
                    session.end_stream(limit);
                    return Poll::Ready(SentAs::TooSlow);
                };
                let piece = self.piece.split_to(room.min(self.piece.len()));
                self.pace.moved(piece.len() as u64);
                self.has_moved = true;
                let is_last = self.piece.is_empty() && self.body.is_end_stream();
                if self.stream.send_data(piece, is_last).is_err() || room == 0 {
                    return Poll::Ready(SentAs::GivenUp);
                }
                if is_last {
                    return Poll::Ready(SentAs::Whole);
                }
                continue;
            }
            // What is sent would hold the buffer that it was read into.
            self.piece = Bytes::new();
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                self.pace.moved(0);
                return Poll::Pending;
            };
            match frame.transpose().map(|frame| frame.map(http_body::Frame::into_data)) {
                Err(_) => return Poll::Ready(SentAs::Broken),
                Ok(Some(Ok(data))) => self.piece = data,
                Ok(Some(Err(frame))) => {
                    return Poll::Ready(self.finish(frame.into_trailers().unwrap_or_default()));
                }
                Ok(None) => return Poll::Ready(self.finish(HeaderMap::new())),
            }
        }
    }

    /// How much the client takes; 0: nothing more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.stream.capacity() > 0 {
            return Poll::Ready(self.stream.capacity());
        }
        self.stream.reserve_capacity(self.piece.len());
        loop {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                room => return Poll::Ready(room.and_then(Result::ok).unwrap_or(0)),
            }
        }
    }

    fn finish(&mut self, trailers: HeaderMap) -> SentAs {
        let trailers = passing(trailers);
        let sent = match trailers.is_empty() {
            true => self.stream.send_data(Bytes::new(), true),
            false => self.stream.send_trailers(trailers),
        };
        sent.map_or(SentAs::GivenUp, |()| SentAs::Whole)
    }
}

/// Those trailers that may be some.
fn passing(mut trailers: HeaderMap) -> HeaderMap {
    let others: Vec<HeaderName> =
        trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in others {
        trailers.remove(name);
    }
    trailers
}
