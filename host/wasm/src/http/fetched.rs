//! The response to a guest's request, on its way from the worker to the guest.
//!
//! The guest's interface wants what may go to another thread, and a worker's connections may not.
//! So the body goes through a channel, a piece at a time: a guest that is slow keeps its upstream
//! waiting.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::ResponseBody;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, Result, WasiBody};

/// The longest response body, in bytes; it is never in the host's memory whole.
const LARGEST_BODY: u64 = 16 << 20;

/// The worker's end.
pub(super) struct FetchedPieces(mpsc::Sender<Result<Frame<Bytes>>>);

/// The guest's end, which holds its place until it is dropped.
struct FetchedBody {
    pieces: mpsc::Receiver<Result<Frame<Bytes>>>,
    length: SizeHint,
    _place: OwnedSemaphorePermit,
}

/// Both ends of a body of this length.
pub(super) fn channel(length: SizeHint, place: OwnedSemaphorePermit) -> (FetchedPieces, WasiBody) {
    let (sender, pieces) = mpsc::channel(1);
    let body = FetchedBody { pieces, length, _place: place };
    (FetchedPieces(sender), body.boxed_unsync())
}

impl FetchedPieces {
    /// Sends the body until it ends, or the guest wants no more of it, or nothing comes for so
    /// long.
    pub(super) async fn send(self, mut body: ResponseBody, silence: Option<Duration>) {
        let mut left = LARGEST_BODY;
        loop {
            let next = async {
                match silence {
                    None => Ok(body.frame().await),
                    Some(silence) => timeout(silence, body.frame()).await,
                }
            };
            let next = tokio::select! {
                biased;
                () = self.0.closed() => return,
                next = next => next,
            };
            let piece = match next {
                Ok(None) => return,
                Ok(Some(Ok(frame))) => within(&mut left, frame),
                Ok(Some(Err(_))) => Err(Error::HttpResponseIncomplete),
                Err(_) => Err(Error::ConnectionReadTimeout),
            };
            let is_last = piece.is_err();
            if self.0.send(piece).await.is_err() || is_last {
                return;
            }
        }
    }
}

fn within(left: &mut u64, frame: Frame<Bytes>) -> Result<Frame<Bytes>> {
    let length = frame.data_ref().map_or(0, |data| data.len() as u64);
    *left = left.checked_sub(length).ok_or(Error::HttpResponseBodySize(Some(LARGEST_BODY)))?;
    Ok(frame)
}

impl Body for FetchedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        self.pieces.poll_recv(cx)
    }

    fn size_hint(&self) -> SizeHint {
        self.length
    }
}
