//! Bodies by hand.

use std::cell::Cell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fusebox_resilience::{BodyStream, Error, ErrorKind, RequestBody, ResponseBody};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::support::time::ms;

/// A piece of a body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Piece {
    Data(&'static str),
    Trailer(&'static str, &'static str),
    /// Nothing for so many milliseconds.
    Wait(u64),
    Break(ErrorKind),
    Hang,
}

/// A body of these pieces, and the number of bytes that have been taken from it so far.
pub(crate) fn pieces(pieces: impl Into<VecDeque<Piece>>) -> (BodyStream, Rc<Cell<usize>>) {
    let taken = Rc::new(Cell::new(0));
    (Box::pin(Pieces { pieces: pieces.into(), wait: None, taken: taken.clone() }), taken)
}

/// The same as a request body of which `limit` bytes are kept.
pub(crate) fn request_body(limit: usize, of: impl Into<VecDeque<Piece>>) -> RequestBody {
    RequestBody::new(pieces(of).0, limit)
}

/// The same as a response body.
pub(crate) fn response_body(of: impl Into<VecDeque<Piece>>) -> ResponseBody {
    ResponseBody::stream(pieces(of).0)
}

struct Pieces {
    pieces: VecDeque<Piece>,
    wait: Option<Pin<Box<Sleep>>>,
    taken: Rc<Cell<usize>>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(wait) = &mut self.wait {
                ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            let Some(piece) = self.pieces.pop_front() else { return Poll::Ready(None) };
            return Poll::Ready(Some(match piece {
                Piece::Data(data) => {
                    self.taken.set(self.taken.get() + data.len());
                    Ok(Frame::data(Bytes::from_static(data.as_bytes())))
                }
                Piece::Trailer(name, value) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert(name, HeaderValue::from_static(value));
                    Ok(Frame::trailers(trailers))
                }
                Piece::Wait(millis) => {
                    self.wait = Some(Box::pin(sleep(ms(millis))));
                    continue;
                }
                Piece::Break(kind) => Err(kind.into()),
                Piece::Hang => {
                    self.pieces.push_front(Piece::Hang);
                    return Poll::Pending;
                }
            }));
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
