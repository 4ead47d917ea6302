//! A request on its way to the upstream.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use fusebox_http1::{BodyEncoder, RequestFraming, encode_request};
use fusebox_resilience::{AttemptBody, BodyHold, Call};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::fields::Fields;
use crate::buffers::Buffers;
use crate::config::EndpointUrl;
use crate::sending::{OutgoingMessage, SendError};

/// The part of a request that is not sent yet.
pub(super) struct Message {
    outgoing: OutgoingMessage<AttemptBody>,
    buffers: Rc<Buffers>,
    /// Until it is sent, what it sends of the body is held.
    hold: Option<BodyHold>,
}

impl Drop for Message {
    fn drop(&mut self) {
        self.buffers.put_write(self.outgoing.take_encoded());
    }
}

impl Message {
    /// The request with these fields.
    pub(super) fn new(
        call: &Call,
        fields: &Fields<'_>,
        endpoint: &EndpointUrl,
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
        let target = endpoint.path(&head.uri);
        let encoder = encode_request(&mut encoded, &head.method, &target, fields.all(), framing);
        let outgoing = OutgoingMessage::new(encoded, encoder, body);
        Self { outgoing, buffers: buffers.clone(), hold: None }
    }

    /// The same request, sent again with what is held of the body.
    pub(super) fn holding(mut self, hold: Option<BodyHold>) -> Self {
        self.hold = hold;
        self
    }

    /// Takes the part that is not sent yet, and leaves an empty message.
    pub(super) fn take_unsent(&mut self) -> Self {
        let (no_body, empty) = (BodyEncoder::default(), AttemptBody::default());
        let nothing = OutgoingMessage::new(Vec::new(), no_body, empty);
        let outgoing = std::mem::replace(&mut self.outgoing, nothing);
        Self { outgoing, buffers: self.buffers.clone(), hold: self.hold.take() }
    }

    /// The worker's.
    pub(super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    /// Whether nothing of it was sent.
    pub(super) fn is_untouched(&self) -> bool {
        self.outgoing.sent() == 0
    }

    /// Sends the remainder.
    pub(super) fn poll_send(
        &mut self,
        writer: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let sent = self.outgoing.poll_send(writer, cx);
        if let Poll::Ready(Err(_)) = sent {
            return sent;
        }
        // TLS may hold back what it has taken.
        ready!(Pin::new(writer).poll_flush(cx))?;
        sent
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("has_ended", &self.outgoing.has_ended())
            .finish_non_exhaustive()
    }
}
