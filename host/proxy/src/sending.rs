//! A message on its way out: its head, and the pieces of its body as they come. Both directions
//! send so, requests to an upstream and responses to a client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use fusebox_http1::{BodyEncoder, WrongLength};
use fusebox_resilience::{Error, ErrorKind};
use http::HeaderMap;
use http_body::Body;
use tokio::io::AsyncWrite;

/// Pieces of a body up to this size are copied behind the head, so that both go out in one write.
/// Larger ones are written from where they are.
const COPY: usize = 8 * 1024;

/// How many bytes are gathered before a write.
const GATHER: usize = 16 * 1024;

/// What had more room was for a long head, and is not kept while the body goes out.
const LONGEST: usize = 32 * 1024;

/// The part of a message that is not sent yet.
pub(crate) struct OutgoingMessage<B> {
    /// Encoded bytes; the first `written` of them are sent.
    encoded: Vec<u8>,
    written: usize,
    /// A piece of the body, to be sent after `encoded`.
    piece: Bytes,
    body: B,
    encoder: BodyEncoder,
    /// Boxed: hardly any message has trailers.
    trailers: Option<Box<HeaderMap>>,
    /// Whether all of it is encoded.
    has_ended: bool,
    /// How many bytes are sent.
    sent: u64,
}

/// Why a message was not sent whole.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The connection failed.
    Io(io::Error),
    /// The message's body failed.
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

impl<B: Body<Data = Bytes, Error = Error> + Unpin> OutgoingMessage<B> {
    /// A message whose head is in `encoded`.
    pub(crate) fn new(encoded: Vec<u8>, encoder: BodyEncoder, body: B) -> Self {
        let has_ended = encoder.is_full();
        Self {
            encoded,
            written: 0,
            piece: Bytes::new(),
            body,
            encoder,
            trailers: None,
            has_ended,
            sent: 0,
        }
    }

    /// Its body, of which nothing is sent any more.
    pub(crate) fn into_body(self) -> B {
        self.body
    }

    /// How many bytes are sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Whether all that there is to send waits for the other side to take it.
    pub(crate) fn is_blocked(&self) -> bool {
        self.written < self.encoded.len() || !self.piece.is_empty()
    }

    /// Whether all of it is encoded.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// The memory of what was encoded, to be used again.
    pub(crate) fn take_encoded(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.encoded)
    }

    /// Sends the remainder.
    ///
    /// # Errors
    /// See [`SendError`]. After one of the body, what came before it may still be flushed.
    pub(crate) fn poll_send(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            let is_silent = self.gather(cx)?;
            ready!(self.poll_flush(writer, cx))?;
            if self.has_ended {
                return Poll::Ready(Ok(()));
            }
            if is_silent {
                return Poll::Pending;
            }
        }
    }

    /// Sends what is encoded.
    pub(crate) fn poll_flush(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.is_blocked() {
            ready!(self.poll_write(writer, cx))?;
        }
        self.encoded.clear();
        if self.encoded.capacity() > LONGEST {
            self.encoded = Vec::new();
        }
        self.written = 0;
        Poll::Ready(Ok(()))
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
                Some(Err(frame)) => self.trailers = frame.into_trailers().ok().map(Box::new),
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
        self.encoder.end(self.trailers.as_deref(), &mut self.encoded)
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
        self.sent += written as u64;
        let of_encoded = written.min(encoded.len());
        self.written += of_encoded;
        let of_piece = written - of_encoded;
        if of_piece > 0 {
            self.piece.advance(of_piece);
            if self.piece.is_empty() {
                // What is sent would hold the buffer that it was read into.
                self.piece = Bytes::new();
                self.encoded.clear();
                self.written = 0;
                self.encoder.end_piece(&mut self.encoded);
            }
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fusebox_http1::HttpExchange;
    use futures_util::stream::{StreamExt as _, iter, pending};
    use http::StatusCode;
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    /// Memory that somebody may still hold.
    struct Memory {
        bytes: Vec<u8>,
        _held: Arc<()>,
    }

    impl AsRef<[u8]> for Memory {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }

    #[test]
    fn a_long_head_that_is_sent_holds_nothing_though_the_body_is_waited_for() {
        for length in [100, 60 * 1024] {
            let body = StreamBody::new(pending::<Result<Frame<Bytes>, Error>>());
            let encoder = HttpExchange::without_request().encode_response(
                StatusCode::OK,
                &HeaderMap::new().into(),
                [].into_iter(),
                None,
                &mut Vec::new(),
            );
            let mut message = OutgoingMessage::new(vec![b'x'; length], encoder, body);
            let mut sent = Vec::new();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(message.poll_send(&mut sent, &mut cx).is_pending());
            assert_eq!(sent.len(), length);
            assert!(message.encoded.capacity() <= LONGEST, "{length}");
        }
    }

    #[test]
    fn a_piece_that_is_sent_is_held_no_longer_though_the_next_is_waited_for() {
        for length in [1, COPY, COPY + 1, 4 * COPY] {
            let held = Arc::new(());
            let memory = Memory { bytes: vec![b'x'; length], _held: held.clone() };
            let piece = Bytes::from_owner(memory);
            let frames = iter([Ok::<_, Error>(Frame::data(piece))]).chain(pending());
            let body = StreamBody::new(frames);
            let mut encoded = Vec::new();
            let encoder = HttpExchange::without_request().encode_response(
                StatusCode::OK,
                &HeaderMap::new().into(),
                [].into_iter(),
                None,
                &mut encoded,
            );
            let mut message = OutgoingMessage::new(encoded, encoder, body);
            let mut sent = Vec::new();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            assert!(message.poll_send(&mut sent, &mut cx).is_pending());
            assert!(sent.len() >= length, "{length}");
            assert_eq!(Arc::strong_count(&held), 1, "{length}");
        }
    }
}
