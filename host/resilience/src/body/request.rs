//! The request body: it streams to the upstream while it keeps what has passed, up to a limit, so
//! that a further attempt can send it again.
//!
//! Past the limit it keeps nothing, and the call has one attempt. If no policy makes further
//! attempts, it keeps something only while it is held: for as long as its only attempt may have to
//! send it once more.
//!
//! It may also be gathered: what the client has sent is kept before any attempt asks for it, so
//! that a slow client keeps only itself waiting. Of a stream of messages that is the first one.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::kept::{KeptBody, ReplayMemory};
use super::part::BodyPart;
use super::starvation::{Starvation, Starved};
use super::stream::BodyStream;
use crate::error::{Error, ErrorKind};

/// The client's request body, which every attempt reads from its beginning for as long as it was
/// kept.
#[derive(Clone, Default)]
pub struct RequestBody {
    /// None: there is no body.
    shared: Option<Rc<RefCell<Replay>>>,
}

/// How much of a request body is kept to be sent again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayLimit {
    /// So many bytes; of a longer body nothing.
    pub bytes: usize,
    /// Whether for further attempts. If not, then only while it is [held](RequestBody::hold).
    pub is_for_attempts: bool,
}

struct Replay {
    source: Option<BodyStream>,
    hint: SizeHint,
    /// What has come, unless it is forgotten.
    kept: KeptBody,
    /// How many bytes have passed and are not kept any more.
    forgotten: usize,
    /// How many bytes some attempt has taken.
    passed: usize,
    /// What has come, is not kept, and has not passed: there is no room for it.
    next: Option<Bytes>,
    limit: ReplayLimit,
    holds: usize,
    /// Whether it is forgotten for want of memory.
    is_squeezed: bool,
    trailers: Option<HeaderMap>,
    failure: Option<ErrorKind>,
    /// Attempts that wait for the source, which itself wakes only the one that polled it last.
    waiting: Vec<Waker>,
    starvation: Starvation,
}

impl RequestBody {
    /// No body.
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body of which up to `limit` bytes are kept for further attempts; 0 keeps nothing.
    pub fn new(source: BodyStream, limit: usize) -> Self {
        let limit = ReplayLimit { bytes: limit, is_for_attempts: true };
        Self::kept_in(source, limit, &Rc::default())
    }

    /// A body that is kept as long as there is room in `memory`.
    pub fn kept_in(source: BodyStream, limit: ReplayLimit, memory: &Rc<ReplayMemory>) -> Self {
        if source.is_end_stream() {
            return Self::empty();
        }
        let replay = Replay {
            hint: source.size_hint(),
            source: Some(source),
            kept: KeptBody::new(memory.clone()),
            forgotten: 0,
            passed: 0,
            next: None,
            limit,
            holds: 0,
            is_squeezed: false,
            trailers: None,
            failure: None,
            waiting: Vec::new(),
            starvation: Starvation::default(),
        };
        Self { shared: Some(Rc::new(RefCell::new(replay))) }
    }

    /// The body as the next attempt sends it.
    pub fn for_attempt(&self) -> AttemptBody {
        AttemptBody { reader: self.shared.as_ref().map(BodyReader::new), sent: Sent::default() }
    }

    /// From now on it is kept, for as long as the hold lives, whether or not for further attempts.
    pub fn hold(&self) -> BodyHold {
        let shared = self.shared.clone().filter(|shared| {
            let replay = &mut *shared.borrow_mut();
            let is_new = !replay.limit.is_for_attempts;
            replay.holds += usize::from(is_new);
            is_new
        });
        BodyHold(shared)
    }

    /// Whether there is no body at all.
    pub fn is_empty(&self) -> bool {
        self.shared.is_none()
    }

    /// Whether the client has sent all of it. If it also [can be repeated](Self::can_repeat),
    /// several attempts can send it at once, and none of them waits for the client.
    pub fn has_come(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| shared.borrow().has_come())
    }

    /// Whether nothing more can be [gathered](Self::gather).
    pub(crate) fn is_gathered(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| {
            let replay = shared.borrow();
            replay.has_come() || !replay.has_room()
        })
    }

    /// Waits until the client has sent so much of it, all of it, or as much as may be kept. Whoever
    /// is about to take what others wait for does this first. An attempt then sends what has come,
    /// and streams the rest.
    ///
    /// # Errors
    /// The client's side has failed.
    pub(crate) async fn gather(&self, part: BodyPart) -> Result<(), Error> {
        let Some(shared) = &self.shared else { return Ok(()) };
        let mut reader = BodyReader::new(shared);
        poll_fn(|cx| reader.poll(|replay| replay.poll_gather(part, cx))).await
    }

    /// Takes what the client has sent so far, as far as it may be kept.
    pub(crate) async fn take_what_has_come(&self) {
        let Some(shared) = &self.shared else { return };
        let mut reader = BodyReader::new(shared);
        poll_fn(|cx| {
            // A failure will be told to whoever wants to have it.
            drop(reader.poll(|replay| replay.poll_gather(BodyPart::Whole, cx)));
            Poll::Ready(())
        })
        .await;
    }

    /// Whether a further attempt would send all of it: none of it has been forgotten, and the
    /// client has not failed.
    pub fn can_repeat(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| {
            let replay = shared.borrow();
            replay.forgotten == 0 && replay.failure.is_none()
        })
    }

    /// Whether it is not kept because there was no memory for it.
    pub fn is_squeezed(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.borrow().is_squeezed)
    }

    /// The call has ended, so nobody needs the rest: an attempt that still sends it fails, which
    /// ends its connection.
    pub(crate) fn cut(&self) {
        if let Some(shared) = &self.shared {
            let replay = &mut *shared.borrow_mut();
            if replay.source.take().is_some() {
                replay.failure = Some(ErrorKind::RequestIncomplete);
                replay.wake_all();
            }
        }
    }

    /// For how long attempts have waited for the client to send it.
    pub fn starved(&self) -> Starved {
        self.shared
            .as_ref()
            .map_or_else(Starved::default, |shared| shared.borrow().starvation.so_far())
    }

    /// What ended it early on the client's side.
    pub fn failure(&self) -> Option<ErrorKind> {
        self.shared.as_ref().and_then(|shared| shared.borrow().failure)
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody").field("is_empty", &self.is_empty()).finish_non_exhaustive()
    }
}

impl Replay {
    fn has_come(&self) -> bool {
        let is_over = self.source.as_ref().is_none_or(|source| source.is_end_stream());
        is_over && self.next.is_none() && self.failure.is_none()
    }

    /// Whether more of it may be kept.
    fn has_room(&self) -> bool {
        let is_within = self.forgotten == 0 && self.kept.length() < self.limit.bytes;
        is_within && self.next.is_none()
    }

    /// Keeps what comes, as far as it is wanted and there is room.
    fn poll_gather(&mut self, part: BodyPart, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(kind) = self.failure {
            return Poll::Ready(Err(kind.into()));
        }
        while self.has_room() && !part.is_in(&self.kept) {
            let Some(data) = ready!(self.poll_source(cx)).transpose()? else { break };
            let fits = self.kept.length() + data.len() <= self.limit.bytes;
            let is_kept = data.is_empty() || fits && self.kept.push(&data);
            self.is_squeezed |= self.limit.is_for_attempts && fits && !is_kept;
            self.next = (!is_kept).then_some(data);
        }
        Poll::Ready(Ok(()))
    }

    /// Takes what comes next; keeps it, or from the limit on forgets everything.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        let next = match self.next.take() {
            Some(data) => Some(Ok(data)),
            None => ready!(self.poll_source(cx)),
        };
        if let Some(Ok(data)) = &next {
            self.keep(data);
        }
        Poll::Ready(next)
    }

    /// Takes the next data from the client.
    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let Some(source) = &mut self.source else { return Poll::Ready(None) };
            let frame = match source.as_mut().poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    if !self.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                        self.waiting.push(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
            };
            self.wake_all();
            match frame {
                None => self.source = None,
                Some(Err(error)) => {
                    self.source = None;
                    self.failure = Some(error.kind());
                    return Poll::Ready(Some(Err(error)));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => return Poll::Ready(Some(Ok(data))),
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
            }
        }
    }

    fn keep(&mut self, data: &Bytes) {
        if data.is_empty() {
            return;
        }
        let ReplayLimit { bytes, is_for_attempts } = self.limit;
        let is_wanted = is_for_attempts || self.holds > 0;
        let fits = self.forgotten == 0 && self.kept.length() + data.len() <= bytes;
        if is_wanted && fits && self.kept.push(data) {
            return;
        }
        self.is_squeezed |= is_for_attempts && fits;
        self.forget();
        self.forgotten += data.len();
    }

    fn forget(&mut self) {
        self.forgotten += self.kept.length();
        self.kept.clear();
    }

    fn wake_all(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// Keeps a request body, until it is dropped. No attempt may then be behind: what has passed is
/// forgotten.
#[derive(Default)]
pub struct BodyHold(Option<Rc<RefCell<Replay>>>);

impl Drop for BodyHold {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            let replay = &mut *shared.borrow_mut();
            replay.holds -= 1;
            // What was gathered and has not passed is still to be sent.
            if replay.holds == 0 && replay.passed == replay.forgotten + replay.kept.length() {
                replay.forget();
            }
        }
    }
}

impl fmt::Debug for BodyHold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyHold").field("holds", &self.0.is_some()).finish()
    }
}

/// Somebody who waits for the client, in an attempt or before it.
struct BodyReader {
    shared: Rc<RefCell<Replay>>,
    /// Whether there was nothing when it last looked.
    is_starving: bool,
}

impl BodyReader {
    fn new(shared: &Rc<RefCell<Replay>>) -> Self {
        Self { shared: shared.clone(), is_starving: false }
    }

    /// What `poll` comes to; notes whether it waits for the client.
    fn poll<T>(&mut self, poll: impl FnOnce(&mut Replay) -> Poll<T>) -> Poll<T> {
        let replay = &mut *self.shared.borrow_mut();
        let polled = poll(replay);
        match (self.is_starving, polled.is_pending()) {
            (false, true) => replay.starvation.begin(),
            (true, false) => replay.starvation.end(true),
            _ => {}
        }
        self.is_starving = polled.is_pending();
        polled
    }
}

impl Drop for BodyReader {
    /// Another one may have been waiting behind this one's waker.
    fn drop(&mut self) {
        let replay = &mut *self.shared.borrow_mut();
        if self.is_starving {
            replay.starvation.end(false);
        }
        replay.wake_all();
    }
}

/// A request body as one attempt sends it. Dropping it leaves what was kept to the next attempt.
#[derive(Default)]
pub struct AttemptBody {
    /// None: there is no body.
    reader: Option<BodyReader>,
    sent: Sent,
}

/// How far an attempt is.
#[derive(Default)]
struct Sent {
    /// In bytes.
    position: usize,
    trailers: bool,
}

impl Sent {
    fn poll_next(
        &mut self,
        replay: &mut Replay,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.position < replay.forgotten {
            return Poll::Ready(Some(Err(
                Error::new(ErrorKind::Internal).with_source("request body no longer kept")
            )));
        }
        if let Some(data) = replay.kept.at(self.position - replay.forgotten) {
            self.advance(replay, data.len());
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(kind) = replay.failure {
            return Poll::Ready(Some(Err(kind.into())));
        }
        match ready!(replay.poll_next(cx)) {
            Some(data) => {
                self.advance(replay, data.as_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(data.map(Frame::data)))
            }
            None if self.trailers => Poll::Ready(None),
            None => {
                self.trailers = true;
                Poll::Ready(replay.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn advance(&mut self, replay: &mut Replay, bytes: usize) {
        self.position += bytes;
        replay.passed = replay.passed.max(self.position);
    }
}

impl Body for AttemptBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Self { reader, sent } = &mut *self;
        let Some(reader) = reader else { return Poll::Ready(None) };
        reader.poll(|replay| sent.poll_next(replay, cx))
    }

    fn is_end_stream(&self) -> bool {
        self.reader.as_ref().is_none_or(|reader| {
            let replay = reader.shared.borrow();
            replay.has_come()
                && self.sent.position >= replay.forgotten + replay.kept.length()
                && (self.sent.trailers || replay.trailers.is_none())
        })
    }

    fn size_hint(&self) -> SizeHint {
        match &self.reader {
            None => SizeHint::with_exact(0),
            // Asked once, before the first frame: what the client announced for the whole.
            Some(reader) if self.sent.position == 0 => reader.shared.borrow().hint,
            Some(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for AttemptBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptBody").field("position", &self.sent.position).finish_non_exhaustive()
    }
}
