//! A request on its way to the upstream.

use std::fmt;
use std::io::{self, IoSlice};
use std::iter;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use fusebox_http1::{BodyEncoder, RequestFraming, WrongLength, encode_request};
use fusebox_resilience::{
    ATTEMPT, AttemptBody, Call, ENVOY_ATTEMPT_COUNT, Error, ErrorKind, attempt_count, mark,
};
use http::{HeaderMap, header};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::buffers::Buffers;
use crate::config::UpstreamConfig;

/// Pieces of a body up to this size are copied behind the head, so that both go out in one write.
/// Larger ones are written from where they are.
const COPY: usize = 8 * 1024;

/// How many bytes are gathered before a write.
const GATHER: usize = 16 * 1024;

/// The part of a request that is not sent yet.
pub(super) struct Message {
    /// Encoded bytes; the first `written` of them are sent.
    encoded: Vec<u8>,
    written: usize,
    /// A piece of the body, to be sent after `encoded`.
    piece: Bytes,
    body: AttemptBody,
    encoder: BodyEncoder,
    /// Boxed: hardly any request has trailers.
    trailers: Option<Box<Trailers>>,
    /// Whether all of it is encoded.
    has_ended: bool,
    is_untouched: bool,
    buffers: Rc<Buffers>,
}

#[derive(Default)]
struct Trailers {
    /// The `Trailer` header.
    announced: HeaderMap,
    fields: Option<HeaderMap>,
}

impl Trailers {
    /// `None`: the head announces no trailers, so none may be sent.
    fn announced(head: &HeaderMap) -> Option<Box<Self>> {
        let names = head.get_all(header::TRAILER).iter();
        let announced: HeaderMap = names.map(|names| (header::TRAILER, names.clone())).collect();
        (!announced.is_empty()).then(|| Box::new(Self { announced, fields: None }))
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.buffers.put_write(std::mem::take(&mut self.encoded));
    }
}

/// Why a request was not sent whole.
#[derive(Debug)]
pub(super) enum SendError {
    /// The connection failed.
    Io(io::Error),
    /// The request's body failed.
    Body(Error),
}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<WrongLength> for SendError {
    fn from(error: WrongLength) -> Self {
        Self::Body(Error::new(ErrorKind::Internal).with_source(error))
    }
}

impl Message {
    /// The request of the attempt of this number.
    pub(super) fn new(
        call: &Call,
        attempt: u32,
        upstream: &UpstreamConfig,
        buffers: &Rc<Buffers>,
    ) -> Self {
        let body = call.body().for_attempt();
        let framing = match body.size_hint().exact() {
            _ if body.is_end_stream() => RequestFraming::None,
            Some(length) => RequestFraming::Length(length),
            None => RequestFraming::Chunked,
        };
        let head = call.head();
        let mut encoded = buffers.take_write();
        let host = (&header::HOST, upstream.host(&head.headers));
        let is_counted = upstream.settings.envoy_attempt_count;
        let marks = [
            (ATTEMPT, mark(call, attempt)),
            (ENVOY_ATTEMPT_COUNT, is_counted.then(|| attempt_count(call, attempt))),
        ];
        let marks = marks.iter().filter_map(|(name, mark)| Some((name, mark.as_ref()?)));
        let is_mark = |name| marks.clone().any(|(mark, _)| mark == name);
        let others = call.headers().filter(|(name, _)| **name != header::HOST && !is_mark(*name));
        let headers = iter::once(host).chain(others).chain(marks.clone());
        encode_request(
            &mut encoded,
            &head.method,
            &upstream.endpoint.path(&head.uri),
            headers,
            framing,
        );
        let trailers = if framing == RequestFraming::Chunked {
            Trailers::announced(&head.headers)
        } else {
            None
        };
        Self {
            encoded,
            written: 0,
            piece: Bytes::new(),
            body,
            encoder: BodyEncoder::new(framing),
            trailers,
            has_ended: framing == RequestFraming::None,
            is_untouched: true,
            buffers: buffers.clone(),
        }
    }

    /// Takes the part that is not sent yet, and leaves an empty message.
    pub(super) fn take_unsent(&mut self) -> Self {
        let buffers = self.buffers.clone();
        let nothing = Self {
            encoded: Vec::new(),
            written: 0,
            piece: Bytes::new(),
            body: AttemptBody::default(),
            encoder: BodyEncoder::new(RequestFraming::None),
            trailers: None,
            has_ended: true,
            is_untouched: false,
            buffers,
        };
        std::mem::replace(self, nothing)
    }

    /// Whether nothing of it was sent.
    pub(super) fn is_untouched(&self) -> bool {
        self.is_untouched
    }

    /// Sends the remainder.
    pub(super) fn poll_send(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            let is_silent = self.gather(cx)?;
            while self.written < self.encoded.len() || !self.piece.is_empty() {
                ready!(self.poll_write(writer, cx))?;
            }
            self.encoded.clear();
            self.written = 0;
            if self.has_ended {
                return Poll::Ready(Ok(()));
            }
            if is_silent {
                return Poll::Pending;
            }
        }
    }

    /// Encodes what there is of the body, up to a piece that is too large to be copied. Returns
    /// whether the body has no more data now.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, SendError> {
        while !self.has_ended && self.piece.is_empty() && self.encoded.len() < GATHER {
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame.transpose().map_err(SendError::Body)?,
                Poll::Pending => return Ok(true),
            };
            match frame.map(http_body::Frame::into_data) {
                None => self.end()?,
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => self.encode(data)?,
                Some(Err(frame)) => {
                    if let Some(trailers) = &mut self.trailers {
                        trailers.fields = frame.into_trailers().ok();
                    }
                }
            }
        }
        Ok(false)
    }

    fn encode(&mut self, data: Bytes) -> Result<(), WrongLength> {
        self.encoder.begin_piece(data.len(), &mut self.encoded)?;
        if data.len() > COPY {
            self.piece = data;
        } else {
            self.encoded.extend_from_slice(&data);
            self.encoder.end_piece(&mut self.encoded);
        }
        // A body of known length ends here; it need not be polled for its end.
        if self.encoder.is_full() { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), WrongLength> {
        self.has_ended = true;
        let trailers = self.trailers.take().map(|trailers| *trailers).unwrap_or_default();
        self.encoder.end(&trailers.announced, trailers.fields.as_ref(), &mut self.encoded)
    }

    fn poll_write(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let encoded = &self.encoded[self.written..];
        let writer = Pin::new(writer);
        let written = if self.piece.is_empty() {
            writer.poll_write(cx, encoded)
        } else {
            writer.poll_write_vectored(cx, &[IoSlice::new(encoded), IoSlice::new(&self.piece)])
        };
        let written = ready!(written)?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.is_untouched = false;
        let of_encoded = written.min(encoded.len());
        self.written += of_encoded;
        let of_piece = written - of_encoded;
        if of_piece > 0 {
            self.piece.advance(of_piece);
            if self.piece.is_empty() {
                self.encoded.clear();
                self.written = 0;
                self.encoder.end_piece(&mut self.encoded);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("has_ended", &self.has_ended).finish_non_exhaustive()
    }
}
