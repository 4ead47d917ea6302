//! The bytes between a client's stream and `h2`: what is seen of them, and how many come in a turn.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use fusebox_resilience::{Http2Fault, clock};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::flood::{FloodGuard, MAX_STREAMS};
use super::own_answers::OwnAnswers;
use crate::frames::{FrameHead, FrameKind, FrameMeter};

/// How much is read in a turn: a client that sends much must not delay its neighbours.
const READ: usize = 32 * 1024;

/// With so many requests that nobody has looked at yet nothing more is read. Whoever gives requests
/// up may send more of them than there are places, and each takes memory until it is looked at.
const MOST_UNSEEN: u64 = 2 * MAX_STREAMS as u64;

/// What `h2` reads from and writes to.
pub(super) struct SessionLink<S> {
    stream: Rc<RefCell<S>>,
    /// What was read before it was known what it is.
    ahead: BytesMut,
    watch: Rc<LinkWatch>,
}

/// What is known of a link.
#[derive(Debug)]
pub(super) struct LinkWatch {
    received: RefCell<Received>,
    /// How much more may be read in this turn.
    room: Cell<usize>,
    /// Whether more would have been read in this turn.
    has_more: Cell<bool>,
    /// Whether nothing more comes in this turn: what else comes begins another one. (No stream
    /// wakes whoever reads it for bytes that it has.)
    is_dry: Cell<bool>,
    /// When there was last nothing to read: what is read after that came after that.
    dry_at: Cell<Instant>,
    /// How many of the streams that the client has opened have been looked at.
    settled: Cell<u64>,
    /// With how many that have not nothing more is read,
    most_unseen: Cell<u64>,
    /// and whether that was so.
    is_full: Cell<bool>,
    /// Whether there are turns: not before the client has said how it speaks.
    has_turns: Cell<bool>,
    /// Whether what is written waits for the client to take it.
    is_blocked: Cell<bool>,
    written: Cell<u64>,
    own_answers: OwnAnswers,
    /// How often all that there was to be written has been.
    flushes: Cell<u64>,
    /// Who waits for the next time.
    waiting: RefCell<Vec<Waker>>,
}

#[derive(Debug)]
struct Received {
    bytes: u64,
    meter: FrameMeter,
    guard: FloodGuard,
    /// The first one too many of a flood, or another end of it.
    fault: Option<Http2Fault>,
    has_settings: bool,
    /// The stream of a block of headers that has not ended.
    block: Option<u32>,
    /// Blocks of headers that have ended.
    blocks: u64,
    /// The highest stream so far, and how many there were.
    highest: u32,
    opened: u64,
}

impl Received {
    /// These bytes have come, none of them before `since`.
    fn pass(&mut self, bytes: &[u8], since: Instant) {
        self.bytes += bytes.len() as u64;
        let Self { meter, guard, fault, has_settings, block, blocks, highest, opened, .. } = self;
        meter.pass(bytes, |frame| {
            if !*has_settings {
                *has_settings = frame.kind == FrameKind::Settings && !frame.is_ack();
                if !*has_settings {
                    fault.get_or_insert(Http2Fault::Protocol);
                }
            }
            if let Err(flood) = guard.came(frame, clock::now) {
                fault.get_or_insert(flood);
            }
            if frame.is_of_block() {
                *block = (!frame.ends_block()).then_some(frame.stream);
                *blocks += u64::from(block.is_none());
                if block.is_none() && frame.stream > *highest {
                    *highest = frame.stream;
                    *opened += 1;
                    guard.opened(frame.stream, since);
                }
            }
        });
    }
}

impl LinkWatch {
    pub(super) fn new() -> Self {
        Self {
            received: RefCell::new(Received {
                bytes: 0,
                meter: FrameMeter::of_client(),
                guard: FloodGuard::new(clock::now()),
                fault: None,
                has_settings: false,
                block: None,
                blocks: 0,
                highest: 0,
                opened: 0,
            }),
            room: Cell::new(READ),
            has_more: Cell::new(false),
            is_dry: Cell::new(false),
            dry_at: Cell::new(clock::now()),
            settled: Cell::new(0),
            most_unseen: Cell::new(MOST_UNSEEN),
            is_full: Cell::new(false),
            has_turns: Cell::new(false),
            is_blocked: Cell::new(false),
            written: Cell::new(0),
            own_answers: OwnAnswers::default(),
            flushes: Cell::new(0),
            waiting: RefCell::default(),
        }
    }

    // ----- what comes -----

    pub(super) fn begin_turn(&self) {
        self.room.set(READ);
        self.has_more.set(false);
        self.is_dry.set(false);
        self.has_turns.set(true);
    }

    /// Whether more would have been read in this turn.
    pub(super) fn has_more(&self) -> bool {
        self.has_more.get()
    }

    /// How much has come.
    pub(super) fn received(&self) -> u64 {
        self.received.borrow().bytes
    }

    /// The streams that the client has opened.
    pub(super) fn opened(&self) -> u64 {
        self.received.borrow().opened
    }

    /// So many of them have been looked at.
    pub(super) fn settle(&self, streams: u64) {
        self.settled.set(streams);
        if self.is_full.get() && !self.has_most() {
            self.is_full.set(false);
            self.has_more.set(true);
        }
    }

    /// How many of them nobody has looked at yet.
    pub(super) fn unseen(&self) -> u64 {
        self.opened().saturating_sub(self.settled.get())
    }

    fn has_most(&self) -> bool {
        self.unseen() >= self.most_unseen.get()
    }

    /// Whatever comes is read away: nobody looks at it any more.
    pub(super) fn give_way(&self) {
        self.most_unseen.set(u64::MAX);
        self.settle(self.settled.get());
    }

    /// If a head has come in part: how many have come whole. A connection begins within one: until
    /// the client has said how it speaks.
    pub(super) fn within_head(&self) -> Option<u64> {
        let received = self.received.borrow();
        let is_of_block = |(head, _): (FrameHead, u32)| head.is_of_block();
        let is_within = !received.has_settings
            || received.block.is_some()
            || received.meter.current().is_some_and(is_of_block);
        is_within.then_some(received.blocks)
    }

    /// How much has come of a frame of data of this stream that has not come whole.
    pub(super) fn partial_data(&self, stream: u32) -> u32 {
        match self.received.borrow().meter.current() {
            Some((head, come)) if head.kind == FrameKind::Data && head.stream == stream => come,
            _ => 0,
        }
    }

    /// What the client has done wrong, as far as it is seen here.
    pub(super) fn fault(&self) -> Option<Http2Fault> {
        self.received.borrow().fault
    }

    /// A request has been given up.
    pub(super) fn gave_up(&self) {
        let received = &mut *self.received.borrow_mut();
        if let Err(flood) = received.guard.gave_up(clock::now) {
            received.fault.get_or_insert(flood);
        }
    }

    // ----- what goes -----

    /// Whether what is written waits for the client to take it.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// How much has gone.
    pub(super) fn written(&self) -> u64 {
        self.written.get()
    }

    /// All that there was to be written has been, unless it is blocked.
    pub(super) fn flushed(&self) {
        if !self.is_blocked.get() && !self.waiting.borrow().is_empty() {
            self.flushes.set(self.flushes.get() + 1);
            self.waiting.borrow_mut().drain(..).for_each(Waker::wake);
        }
    }

    /// Waits until all that there is to be written has been. `since` is `None` at first.
    pub(super) fn poll_flushed(&self, since: &mut Option<u64>, cx: &Context<'_>) -> Poll<()> {
        match *since {
            Some(number) if number < self.flushes.get() => {
                *since = None;
                Poll::Ready(())
            }
            // Its waker does not change.
            Some(_) => Poll::Pending,
            None => {
                *since = Some(self.flushes.get());
                self.waiting.borrow_mut().push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// What `h2` has answered by itself.
    pub(super) fn own_answers(&self) -> &OwnAnswers {
        &self.own_answers
    }

    fn write<S: AsyncWrite + Unpin>(
        &self,
        stream: &RefCell<S>,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.own_answers.offer(slices, self.opened());
        let written = Pin::new(&mut *stream.borrow_mut()).poll_write_vectored(cx, slices);
        self.is_blocked.set(written.is_pending());
        let taken = match &written {
            Poll::Ready(Ok(taken)) => *taken,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        self.own_answers.took(slices, taken);
        if taken > 0 {
            self.written.set(self.written.get() + taken as u64);
            self.received.borrow_mut().guard.wrote();
        }
        written
    }
}

impl<S> SessionLink<S> {
    pub(super) fn new(stream: Rc<RefCell<S>>, ahead: BytesMut, watch: Rc<LinkWatch>) -> Self {
        Self { stream, ahead, watch }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for SessionLink<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.watch.room.get() == 0 {
            this.watch.has_more.set(true);
            return Poll::Pending;
        }
        if this.watch.has_most() {
            // Whoever looks at some lets more be read.
            this.watch.is_full.set(true);
            return Poll::Pending;
        }
        if this.watch.is_dry.get() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        if this.ahead.is_empty() {
            let read = Pin::new(&mut *this.stream.borrow_mut()).poll_read(cx, buffer);
            if read.is_pending() {
                this.watch.is_dry.set(this.watch.has_turns.get());
                this.watch.dry_at.set(clock::now());
            }
            ready!(read)?;
        } else {
            let taken = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead[..taken]);
            this.ahead.advance(taken);
            if this.ahead.is_empty() {
                this.ahead = BytesMut::new();
            }
        }
        let came = &buffer.filled()[before..];
        this.watch.room.set(this.watch.room.get().saturating_sub(came.len()));
        this.watch.received.borrow_mut().pass(came, this.watch.dry_at.get());
        if this.watch.fault().is_some() {
            // Nothing more is read of it.
            this.watch.room.set(0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for SessionLink<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.watch.write(&self.stream, &[IoSlice::new(bytes)], cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.watch.write(&self.stream, slices, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut *self.stream.borrow_mut()).poll_flush(cx);
        self.watch.is_blocked.set(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }
}
