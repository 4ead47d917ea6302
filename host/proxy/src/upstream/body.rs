//! The body of a response. At its end the connection returns to the pool.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fusebox_http1::{BodyDecoder, Decoded};
use fusebox_resilience::{BoxError, Error, ErrorKind, RequestBody};
use http_body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use super::pool::Lease;
use crate::stall::Stall;

/// How many bytes of a discarded response are read to keep its connection,
const DRAIN_BYTES: u64 = 16 * 1024;
/// and for how long.
const DRAIN_TIME: Duration = Duration::from_millis(50);

/// A response body. At its end the connection returns to the pool; if it is dropped before, a task
/// reads on for a moment.
pub(super) struct UpstreamBody {
    /// `None`: it has ended.
    receiving: Option<Receiving>,
    stall: Stall,
    /// The request's body, if it was still being sent when the response began.
    request: RequestBody,
}

/// What is left to receive, and the connection.
struct Receiving {
    decoder: BodyDecoder,
    lease: Lease,
}

impl UpstreamBody {
    pub(super) fn new(
        decoder: BodyDecoder,
        lease: Lease,
        stall: Duration,
        request: RequestBody,
    ) -> Self {
        let receiving = Some(Receiving { decoder, lease });
        Self { receiving, stall: Stall::new(stall), request }
    }

    fn end(&mut self) {
        if let Some(Receiving { lease, .. }) = self.receiving.take() {
            lease.give_back();
        }
    }
}

impl Receiving {
    /// `None`: the body has ended.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        self.lease.connection.poll_task(cx)?;
        loop {
            let buffer = &mut self.lease.connection.buffer;
            match self.decoder.decode(buffer).map_err(no_http)? {
                Decoded::Data(data) => return Poll::Ready(Ok(Some(Frame::data(data)))),
                Decoded::Trailers(trailers) => {
                    return Poll::Ready(Ok(Some(Frame::trailers(trailers))));
                }
                Decoded::End => return Poll::Ready(Ok(None)),
                Decoded::More => {}
            }
            if ready!(self.lease.poll_read(self.decoder.wanted(), cx)).map_err(broken_off)? == 0 {
                self.decoder.end_of_input().map_err(broken_off)?;
            }
        }
    }

    /// Whether reading the remainder is cheaper than making another connection.
    fn is_short(&self) -> bool {
        self.lease.is_reusable() && self.decoder.remaining().unwrap_or(0) <= DRAIN_BYTES
    }

    /// Reads the remainder; if it is short and complete, the connection returns to the pool.
    async fn drain(mut self) {
        let mut left = DRAIN_BYTES;
        while let Ok(Some(frame)) = poll_fn(|cx| self.poll_frame(cx)).await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(less) => left = less,
                None => return,
            }
        }
        if self.decoder.is_end() {
            self.lease.give_back();
        }
    }
}

fn no_http(error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::ProtocolError).with_source(error)
}

fn broken_off(error: impl Into<BoxError>) -> Error {
    Error::new(ErrorKind::ConnectionTerminated).with_source(error)
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        let Some(receiving) = &mut this.receiving else { return Poll::Ready(None) };
        let Poll::Ready(next) = receiving.poll_frame(cx) else {
            // As long as the client owes some of the request, the upstream may have to wait for it.
            ready!(this.stall.poll_starved(|| this.request.starved(), cx));
            this.receiving = None;
            return Poll::Ready(Some(Err(
                Error::new(ErrorKind::Timeout).with_source("response body stalled")
            )));
        };
        this.stall.reset();
        if next.is_err() {
            this.receiving = None;
        } else if receiving.decoder.is_end() {
            this.end();
        }
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(receiving) = &self.receiving else { return SizeHint::with_exact(0) };
        receiving.decoder.remaining().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Some(receiving) = self.receiving.take().filter(Receiving::is_short) {
            tokio::task::spawn_local(timeout(DRAIN_TIME, receiving.drain()));
        }
    }
}
