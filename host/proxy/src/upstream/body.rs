//! The bodies of one exchange: the request's, which knows when it has been sent whole, and the response's, which gives its
//! connection back.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::{AttemptBody, Error, ErrorKind};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::timeout;

use super::pool::Lease;
use crate::stall::Stall;

/// How much of a discarded response is read to keep its connection,
const DRAIN_BYTES: u64 = 16 * 1024;
/// and for how long.
const DRAIN_TIME: Duration = Duration::from_millis(50);

/// Whether a request body has been sent whole.
#[derive(Clone, Debug)]
pub(super) struct Sent(Option<Rc<Cell<bool>>>);

impl Sent {
    pub(super) fn is_whole(&self) -> bool {
        self.0.as_ref().is_none_or(|sent| sent.get())
    }
}

/// A request body on the wire.
#[derive(Debug)]
pub(super) struct SentBody {
    body: AttemptBody,
    sent: Sent,
}

impl SentBody {
    pub(super) fn new(body: AttemptBody) -> (Self, Sent) {
        let sent = Sent((!body.is_end_stream()).then(Rc::default));
        (Self { body, sent: sent.clone() }, sent)
    }
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        // A body of a known length is not polled again after its last byte.
        if (matches!(frame, Poll::Ready(None)) || self.body.is_end_stream())
            && let Some(sent) = &self.sent.0
        {
            sent.set(true);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body from the wire. At its end its connection goes back; dropped before, a task reads on for a moment.
pub(super) struct UpstreamBody {
    /// None: it has ended.
    rest: Option<(Incoming, Lease)>,
    stall: Stall,
}

impl UpstreamBody {
    pub(super) fn new(incoming: Incoming, lease: Lease, stall: Duration) -> Self {
        Self { rest: Some((incoming, lease)), stall: Stall::new(stall) }
    }

    fn end(&mut self) {
        if let Some((_, lease)) = self.rest.take() {
            lease.give_back();
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Some((incoming, _)) = &mut this.rest else { return Poll::Ready(None) };
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Pending => {
                ready!(this.stall.poll(cx));
                this.rest = None;
                Poll::Ready(Some(Err(Error::new(ErrorKind::Timeout).with_source("response body stalled"))))
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                this.rest = None;
                Poll::Ready(Some(Err(Error::new(ErrorKind::ConnectionTerminated).with_source(error))))
            }
            Poll::Ready(Some(Ok(frame))) => {
                this.stall.reset();
                if incoming.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.rest.as_ref().map_or(SizeHint::with_exact(0), |(incoming, _)| incoming.size_hint())
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Some((incoming, lease)) = self.rest.take()
            && lease.is_reusable()
            && incoming.size_hint().lower() <= DRAIN_BYTES
        {
            tokio::task::spawn_local(async move {
                if let Ok(true) = timeout(DRAIN_TIME, drain(incoming)).await {
                    lease.give_back();
                }
            });
        }
    }
}

/// Whether the rest was short and came whole.
async fn drain(mut incoming: Incoming) -> bool {
    let mut left = DRAIN_BYTES;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await {
        let Ok(frame) = frame else { return false };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(length) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}
