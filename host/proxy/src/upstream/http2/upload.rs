//! A request's body on its way, as far as the upstream's windows let it.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fusebox_resilience::{AttemptBody, BodyHold, Error};
use h2::{Reason, SendStream};
use http_body::{Body, Frame};
use tokio::task::{JoinHandle, spawn_local};

use super::watched::Watch;
use crate::headers;

/// The part of a request's body that is not sent yet. Dropped before the end, it resets the stream.
pub(super) struct StreamUpload {
    stream: SendStream<Bytes>,
    body: AttemptBody,
    /// What has come of it and waits for a window. Nothing more is taken until it has gone.
    piece: Bytes,
    watch: Rc<Watch>,
    /// Whether nothing has been handed over.
    is_new: bool,
    /// Whether there was no window yet for the first piece.
    is_early: bool,
    has_ended: bool,
    /// Of what is sent again, nothing is forgotten before.
    _hold: Option<BodyHold>,
}

impl StreamUpload {
    /// On a stream that `watch` sees. `has_ended`: there is no body.
    pub(super) fn new(
        stream: SendStream<Bytes>,
        body: AttemptBody,
        has_ended: bool,
        hold: Option<BodyHold>,
        watch: Rc<Watch>,
    ) -> Self {
        let (piece, is_new, is_early) = (Bytes::new(), true, false);
        Self { stream, body, piece, watch, is_new, is_early, has_ended, _hold: hold }
    }

    /// Sends the rest, or as much as the upstream takes: it may answer without. Whoever waits for
    /// the response asks again, so nobody is woken when the last of it has been written.
    ///
    /// # Errors
    /// The body failed.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if !self.piece.is_empty() && !ready!(self.poll_piece(cx)) {
                // What ended the stream is told to those who wait for the response.
                return Poll::Ready(Ok(()));
            }
            if self.has_ended {
                return if self.is_owed() { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose()?.map(Frame::into_data)
            {
                None => self.end(),
                Some(Ok(data)) => self.piece = data,
                Some(Err(frame)) => {
                    if let Ok(mut trailers) = frame.into_trailers() {
                        headers::strip_trailers(&mut trailers);
                        self.has_ended = self.stream.send_trailers(trailers).is_ok();
                        self.note_end();
                    }
                }
            }
        }
    }

    /// Sends what there is a window for, until the piece has gone. `false`: the stream has ended.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while !self.piece.is_empty() {
            let room = ready!(self.poll_room(cx));
            if room == 0 {
                return Poll::Ready(false);
            }
            let part = self.piece.split_to(room.min(self.piece.len()));
            if self.piece.is_empty() {
                // It would hold the memory of what was sent.
                self.piece = Bytes::new();
                self.has_ended = self.body.is_end_stream();
            }
            if self.stream.send_data(part, self.has_ended).is_err() {
                return Poll::Ready(false);
            }
            self.note_end();
        }
        Poll::Ready(true)
    }

    /// How much of the piece may be handed over; 0: the stream has ended.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        // A stream has no window before its head is written, which the connection's task does. What
        // there is by then goes with the head: to wait would take one more turn of the whole call,
        // and one more write. `h2` keeps what the window is too small for.
        if std::mem::take(&mut self.is_new) {
            self.is_early = true;
            return Poll::Ready(self.piece.len());
        }
        loop {
            self.stream.reserve_capacity(self.piece.len());
            let room = self.stream.capacity();
            if room > 0 {
                return Poll::Ready(room);
            }
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(0),
            }
        }
    }

    fn end(&mut self) {
        self.has_ended = true;
        // An error: the stream has ended.
        if self.stream.send_data(Bytes::new(), true).is_ok() {
            self.note_end();
        }
    }

    fn note_end(&self) {
        if self.has_ended && self.is_early {
            self.watch.handed_over(self.id());
        }
    }

    /// Whether it has been handed over to its end, and not all of it has been written.
    fn is_owed(&self) -> bool {
        self.is_early && self.watch.owes(self.id())
    }

    fn id(&self) -> u32 {
        self.stream.stream_id().as_u32()
    }

    /// Lets a task send the rest. (It must not wait for the client to take the response: a client
    /// that first sends its whole request would never get there.)
    pub(super) fn by_task(mut self) -> UploadRest {
        UploadRest(spawn_local(async move { poll_fn(|cx| self.poll_send(cx)).await }))
    }
}

impl Drop for StreamUpload {
    fn drop(&mut self) {
        if self.is_owed() {
            // Where the response has ended `h2` takes the stream for closed, and would keep it, and
            // its place, until there is a window.
            self.stream.send_reset(Reason::CANCEL);
            self.watch.forget(self.id());
        }
    }
}

/// A task that sends the rest. Dropping this ends it, and with it the request.
#[derive(Debug)]
pub(super) struct UploadRest(JoinHandle<Result<(), Error>>);

impl UploadRest {
    /// Whether the body has failed. Not asked again after it has ended.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A task that is lost ends like one that the upstream took no more from.
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.unwrap_or(Ok(())))
    }
}

impl Drop for UploadRest {
    fn drop(&mut self) {
        self.0.abort();
    }
}
