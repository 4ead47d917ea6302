//! What comes from a client: its stream, what has been read of it, and the current request's body.
//!
//! The connection and the body of its current request share this. The body reads for as long as the
//! request owes some of it, whoever polls it; the connection reads before and after.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use fusebox_http1::{BodyDecoder, BodyError, Decoded, Framing};
use fusebox_resilience::{BoxError, ConnectionLimit, Error, ErrorKind};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::Instant;

use super::hints::Hints;
use super::pace::Pace;
use crate::buffers::{Buffers, Loan};
use crate::tunnel::TunnelSide;

/// The room for a request head at first; most bodies begin in the same read.
pub(super) const HEAD_READ: usize = 8 * 1024;

/// What a client is told that waits for it before it sends its body (RFC 9110, section 15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Pieces of a body that are shorter are put together with those that have come with them: a chunk
/// for each byte would cost a core.
const SHORT: usize = 1024;

/// A client's stream, and what has been read of it.
pub(super) struct Incoming<S> {
    stream: S,
    /// What was read and not used. Without a place in memory while there is nothing.
    pub(super) buffer: BytesMut,
    /// Of that, if it is a large buffer.
    loan: Option<Loan>,
    decoder: BodyDecoder,
    /// What came behind a piece that was put together, and is no data.
    behind: Option<Result<Decoded, BodyError>>,
    /// The number of requests so far: a body of an earlier one reads nothing.
    requests: u64,
    /// Whether somebody may still read the body.
    is_wanted: bool,
    /// What is left to be sent before the client sends its body.
    owed: &'static [u8],
    /// What else goes out before the final response.
    pub(super) hints: Hints,
    is_gone: bool,
    /// That of the current request's body.
    pace: Pace,
    /// By which limit the client was too slow.
    overdue: Option<ConnectionLimit>,
    buffers: Rc<Buffers>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Incoming<S> {
    /// Buffers are taken from and given back to `buffers`.
    pub(super) fn new(stream: S, pace: Pace, buffers: Rc<Buffers>) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            loan: None,
            decoder: BodyDecoder::of_request(Framing::Length(0)),
            behind: None,
            requests: 0,
            is_wanted: false,
            owed: &[],
            hints: Hints::default(),
            is_gone: false,
            pace,
            overdue: None,
            buffers,
        }
    }

    /// The stream, and what was read and not used.
    pub(super) fn into_stream(self) -> (S, BytesMut) {
        (self.stream, self.buffer)
    }

    pub(super) fn stream(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.stream)
    }

    /// A request begins, whose body ends so, and has to be there at that time.
    pub(super) fn begin(&mut self, framing: Framing, expects_continue: bool, end: Option<Instant>) {
        self.requests += 1;
        self.decoder = BodyDecoder::of_request(framing);
        self.pace.begin(end);
        self.behind = None;
        self.owed = if expects_continue && !self.decoder.is_end() { CONTINUE } else { &[] };
    }

    /// Whether the whole body of the current request has been read.
    pub(super) fn has_body_ended(&self) -> bool {
        self.decoder.is_end() && self.behind.is_none()
    }

    /// Whether the next request can be got at, as far as it is known: somebody reads the body, or
    /// what is left of it is `short` at most. A client that waits for a word of ours sends either
    /// its body or the next request.
    pub(super) fn may_go_on(&self, short: u64) -> bool {
        let is_awaited = self.owed.len() == CONTINUE.len();
        self.has_body_ended()
            || !is_awaited
                && self.overdue.is_none()
                && (self.is_wanted || self.decoder.remaining().is_some_and(|left| left <= short))
    }

    /// Sends what goes out before the final response, but for the word to go on, if that has not
    /// begun: whoever wants the body sends it.
    pub(super) fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.owed.len() < CONTINUE.len() {
            ready!(self.poll_owed(cx))?;
        }
        self.hints.poll_send(Pin::new(&mut self.stream), cx)
    }

    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.owed.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, self.owed))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.owed = &self.owed[written..],
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The final response begins in `out`: nothing goes out before it any more, but for the rest of
    /// what has begun to. How fast the rest of the request comes may depend on it.
    pub(super) fn begin_answer(&mut self, out: &mut Vec<u8>) {
        if self.owed.len() < CONTINUE.len() {
            out.extend_from_slice(self.owed);
        }
        self.owed = &[];
        self.hints.end(out);
        self.pace.be_lenient();
    }

    /// The number of requests so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// By which limit the client was too slow with a body.
    pub(super) fn overdue(&self) -> Option<ConnectionLimit> {
        self.overdue
    }

    /// Whether the client has closed its side or broken off.
    pub(super) fn is_gone(&self) -> bool {
        self.is_gone
    }

    pub(super) fn set_gone(&mut self) {
        self.is_gone = true;
    }

    /// Reads into the buffer, which holds no memory while nothing comes and nothing is in it.
    /// 0: the client has left.
    pub(super) fn poll_fill(
        &mut self,
        most: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.buffer.is_empty() {
            self.choose_buffer(most > HEAD_READ);
        }
        self.buffers.make_room(&mut self.buffer, most);
        let Poll::Ready(read) = pin!(self.stream.read_buf(&mut self.buffer)).poll(cx) else {
            self.release();
            return Poll::Pending;
        };
        self.is_gone |= !matches!(read, Ok(1..));
        Poll::Ready(read)
    }

    /// What has come behind the last request: nothing more will be one.
    pub(super) fn take_rest(&mut self) -> BytesMut {
        self.loan = None;
        std::mem::take(&mut self.buffer)
    }

    /// A head stays in memory for as long as its call, and so does all of the buffer that it came
    /// in. So it never comes in one of those for bodies.
    #[inline]
    fn choose_buffer(&mut self, is_large: bool) {
        if self.loan.is_some() != is_large {
            self.release();
        }
        if self.buffer.capacity() > 0 {
            return;
        }
        if is_large {
            let (buffer, loan) = self.buffers.take_large();
            (self.buffer, self.loan) = (buffer, Some(loan));
        } else {
            self.buffer = self.buffers.take_read();
        }
    }

    /// Gives an empty buffer back.
    fn release(&mut self) {
        if !self.buffer.is_empty() {
            return;
        }
        let loan = self.loan.take();
        if self.buffer.capacity() > 0 {
            let buffer = std::mem::take(&mut self.buffer);
            match loan {
                Some(loan) => self.buffers.put_large(buffer, loan),
                None => self.buffers.put_read(buffer),
            }
        }
    }

    /// The body has come.
    fn end_loan(&mut self) {
        if self.loan.is_some() {
            self.release();
        }
    }

    /// The next piece of the current request's body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.owed.is_empty() {
            // What is before it has to be out.
            let before = ready!(self.hints.poll_send(Pin::new(&mut self.stream), cx));
            if before.is_err() || ready!(self.poll_owed(cx)).is_err() {
                return Poll::Ready(Some(Err(self.incomplete("client left"))));
            }
        }
        loop {
            let decoded = self.behind.take();
            match decoded.unwrap_or_else(|| self.decoder.decode(&mut self.buffer)) {
                Ok(Decoded::Data(data)) => {
                    let data = self.gather(data);
                    if self.decoder.is_end() {
                        self.end_loan();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Decoded::Trailers(trailers)) => {
                    self.end_loan();
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Ok(Decoded::End) => {
                    self.end_loan();
                    return Poll::Ready(None);
                }
                Ok(Decoded::More) => {}
                Err(error) => return Poll::Ready(Some(Err(invalid(error)))),
            }
            let Poll::Ready(read) = self.poll_fill(self.decoder.wanted(), cx) else {
                self.overdue = Some(ready!(self.pace.poll_wait(cx)));
                return Poll::Ready(Some(Err(self.too_slow())));
            };
            match read {
                Ok(read @ 1..) => self.pace.moved(read as u64),
                Ok(0) => {
                    let error = self.decoder.end_of_input().err().map(BoxError::from);
                    let error = error.unwrap_or_else(|| "client left".into());
                    return Poll::Ready(Some(Err(self.incomplete(error))));
                }
                Err(error) => return Poll::Ready(Some(Err(self.incomplete(error)))),
            }
        }
    }

    /// A piece of the body, with those behind it that have come, if it is short.
    fn gather(&mut self, first: Bytes) -> Bytes {
        if first.len() >= SHORT || self.buffer.is_empty() {
            return first;
        }
        let mut gathered = BytesMut::from(first);
        while gathered.len() < HEAD_READ {
            match self.decoder.decode(&mut self.buffer) {
                Ok(Decoded::Data(data)) => gathered.extend_from_slice(&data),
                Ok(Decoded::More | Decoded::End) => break,
                behind => {
                    self.behind = Some(behind);
                    break;
                }
            }
        }
        gathered.freeze()
    }

    fn too_slow(&self) -> Error {
        let words = match self.overdue {
            Some(ConnectionLimit::MinRate) => "request body slower than `min_rate`",
            Some(ConnectionLimit::RequestTimeout) => "request longer than `request_timeout`",
            _ => "request body stalled",
        };
        Error::new(ErrorKind::RequestIncomplete).with_source(words)
    }

    fn incomplete(&mut self, source: impl Into<BoxError>) -> Error {
        self.is_gone = true;
        Error::new(ErrorKind::RequestIncomplete).with_source(source)
    }
}

/// A client whose connection has switched to another protocol.
impl<S: AsyncRead + AsyncWrite + Unpin> TunnelSide for Incoming<S> {
    fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        pin!(self.stream.read_buf(buffer)).poll(cx)
    }

    fn writer(&mut self) -> Pin<&mut dyn AsyncWrite> {
        self.stream() as Pin<&mut S>
    }
}

fn invalid(error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::RequestInvalid).with_source(error)
}

/// The body of a request, read from its client's stream.
pub(super) struct IncomingBody<S> {
    incoming: Rc<RefCell<Incoming<S>>>,
    request: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> IncomingBody<S> {
    /// Of the current request. `None`: it has no body.
    pub(super) fn of(incoming: &Rc<RefCell<Incoming<S>>>) -> Option<Self> {
        let mut current = incoming.borrow_mut();
        current.is_wanted = !current.has_body_ended();
        current.is_wanted.then(|| Self { incoming: incoming.clone(), request: current.requests })
    }
}

impl<S> Drop for IncomingBody<S> {
    fn drop(&mut self) {
        let mut incoming = self.incoming.borrow_mut();
        if incoming.requests == self.request {
            incoming.is_wanted = false;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Body for IncomingBody<S> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let incoming = &mut *self.incoming.borrow_mut();
        if incoming.requests != self.request {
            let error = Error::new(ErrorKind::RequestIncomplete);
            return Poll::Ready(Some(Err(error.with_source("its exchange has ended"))));
        }
        incoming.poll_body(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.borrow().has_body_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let remaining = self.incoming.borrow().decoder.remaining();
        remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
