//! Looking into a response body before it goes on.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time;

use super::{Peek, ResponseBody};
use crate::body::end::BodyEnd;
use crate::body::event_stream::FirstEvent;
use crate::error::Error;

impl ResponseBody {
    /// Reads ahead until `peek.bytes` are there, the body has ended, or `peek.timeout` has passed.
    /// Cancel-safe: what was read stays.
    ///
    /// # Errors
    /// The body broke off before that.
    pub async fn peek(&mut self, peek: Peek) -> Result<(), Error> {
        if self.ahead.len() >= peek.bytes || self.rest.is_none() {
            return Ok(());
        }
        let limit = self.patience(peek);
        let read = poll_fn(|cx| self.poll_ahead(cx, peek.bytes));
        if let Ok(read) = time::timeout(limit, read).await {
            return read;
        }
        self.aside.get_or_insert_default().waited = true;
        Ok(())
    }

    /// The same for a stream of events, which goes on for as long as its server likes: reads no
    /// further than the end of its first event.
    ///
    /// # Errors
    /// The body broke off before that.
    pub async fn peek_event(&mut self, peek: Peek) -> Result<(), Error> {
        let limit = self.patience(peek);
        let mut event = FirstEvent::default();
        self.ahead.pieces().for_each(|piece| event.push(piece));
        let read = poll_fn(|cx| {
            while self.ahead.len() < peek.bytes && self.rest.is_some() && !event.has_ended() {
                let known = self.ahead.len();
                ready!(self.poll_piece_ahead(cx))?;
                if self.ahead.len() > known
                    && let Some(piece) = self.ahead.last()
                {
                    event.push(piece);
                }
            }
            Poll::Ready(Ok(()))
        });
        if let Ok(read) = time::timeout(limit, read).await {
            return read;
        }
        self.aside.get_or_insert_default().waited = true;
        Ok(())
    }

    /// How long a peek may wait.
    fn patience(&self, peek: Peek) -> Duration {
        let has_waited = self.aside.as_ref().is_some_and(|aside| aside.waited);
        if has_waited { Duration::ZERO } else { peek.timeout }
    }

    fn poll_ahead(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<Result<(), Error>> {
        while self.ahead.len() < bytes && self.rest.is_some() {
            ready!(self.poll_piece_ahead(cx))?;
        }
        // If the end came along with the last of them, that is all of the body. Nobody waits for
        // it, and what breaks from here on is for the client to see.
        if self.ahead.len() == bytes
            && let Poll::Ready(Err(error)) = self.poll_frame_ahead(cx)
        {
            self.rest = Some(Box::pin(Breaking(Some(error))));
        }
        Poll::Ready(Ok(()))
    }

    /// Reads one piece on; a body that breaks off here has ended.
    fn poll_piece_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let read = ready!(self.poll_frame_ahead(cx));
        if let Err(error) = &read {
            self.tell(BodyEnd::Broken(error.kind()));
        }
        Poll::Ready(read)
    }

    fn poll_frame_ahead(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(rest) = &mut self.rest else { return Poll::Ready(Ok(())) };
        match ready!(rest.as_mut().poll_frame(cx)).transpose()? {
            None => {
                self.rest = None;
                self.tell(self.end_of_all());
            }
            Some(frame) => match frame.into_data() {
                Ok(data) => self.ahead.push(data),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.end_with(trailers);
                    }
                }
            },
        }
        Poll::Ready(Ok(()))
    }

    /// Of the first `limit` bytes, those from `offset` on, at most `length`, as far as they have
    /// been read ahead.
    pub fn peeked(&self, limit: usize, offset: usize, length: usize) -> Vec<u8> {
        let end = offset.saturating_add(length).min(limit).min(self.ahead.len());
        let mut wanted = Vec::with_capacity(end.saturating_sub(offset));
        let mut start = 0;
        for chunk in self.ahead.pieces() {
            let from = offset.clamp(start, start + chunk.len()) - start;
            let to = end.clamp(start, start + chunk.len()) - start;
            if from < to {
                wanted.extend_from_slice(&chunk[from..to]);
            }
            start += chunk.len();
        }
        wanted
    }

    /// Whether the first `limit` bytes are the whole body, and have been read ahead.
    pub fn is_peeked_whole(&self, limit: usize) -> bool {
        let is_excerpt = self.aside.as_ref().is_some_and(|aside| aside.is_excerpt);
        self.rest.is_none() && self.ahead.len() <= limit && !is_excerpt
    }
}

/// What is left of a body that broke while nobody waited for it.
struct Breaking(Option<Error>);

impl Body for Breaking {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.0.take().map(Err))
    }
}
