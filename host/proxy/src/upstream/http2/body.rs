//! The body of a response, as fast as its client takes it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::{Error, ErrorKind, RequestBody};
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use super::connection::StreamPlace;
use super::failure::broken;
use super::upload::UploadRest;
use crate::headers;
use crate::stall::Stall;

/// A response's body. Dropping it before its end resets the stream; the connection goes on.
pub(super) struct Http2Body {
    /// `None`: it has ended.
    receiving: Option<OpenStream>,
    /// How much is still to come, if that is known.
    left: Option<u64>,
    stall: Stall,
    /// The request's body, if it was still being sent when the response began.
    request: RequestBody,
}

/// A stream of which something is still to come.
struct OpenStream {
    stream: RecvStream,
    /// Sends the rest of the request.
    upload: Option<UploadRest>,
    place: StreamPlace,
}

impl Http2Body {
    /// The length is the response's, `stall` limits each silence.
    pub(super) fn new(
        stream: RecvStream,
        length: Option<u64>,
        place: StreamPlace,
        stall: Duration,
    ) -> Self {
        let receiving = Some(OpenStream { stream, upload: None, place });
        Self { receiving, left: length, stall: Stall::new(stall), request: RequestBody::empty() }
    }

    /// Meanwhile a task sends the rest of the request.
    pub(super) fn with_upload(mut self, upload: UploadRest, request: RequestBody) -> Self {
        if let Some(receiving) = &mut self.receiving {
            receiving.upload = Some(upload);
        }
        self.request = request;
        self
    }
}

impl OpenStream {
    /// `None`: the body has ended.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Error>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(cx)
        {
            self.upload = None;
            sent?;
        }
        let connection = self.place.connection();
        while let Some(data) = ready!(self.stream.poll_data(cx)) {
            let data = data.map_err(|error| broken(error, connection))?;
            // The upstream may send so much more. An error: the stream has ended.
            self.stream.flow_control().release_capacity(data.len()).ok();
            if !data.is_empty() {
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        let trailers = trailers.map_err(|error| broken(error, connection))?;
        Poll::Ready(Ok(trailers.map(|mut trailers| {
            headers::strip_trailers(&mut trailers);
            Frame::trailers(trailers)
        })))
    }
}

impl Body for Http2Body {
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
        if let Ok(Some(frame)) = &next {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            this.left = this.left.map(|left| left.saturating_sub(length));
            if receiving.stream.is_end_stream() {
                this.receiving = None;
            }
        } else {
            this.receiving = None;
        }
        Poll::Ready(next.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.receiving.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.receiving.is_none() {
            return SizeHint::with_exact(0);
        }
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
