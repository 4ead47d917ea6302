//! A tunnel that a client has opened on a stream, by an extended CONNECT (RFC 8441).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use fusebox_resilience::TunnelEnd;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Response, header};
use tokio::io::AsyncWrite;

use super::outgoing::SentAs;
use super::response;
use super::session::Session;
use crate::handler::{ClientBody, ClientResponse, OpenTunnel};
use crate::stream_side::StreamSide;
use crate::tunnel::TunnelSide;
use crate::websocket;

/// Answers that the upstream has switched, and carries what is said until both sides have ended.
pub(super) async fn carry(
    answer: ClientResponse<ClientBody>,
    mut respond: SendResponse<Bytes>,
    receiving: RecvStream,
    session: Rc<Session>,
) -> SentAs {
    let (_, mut headers, body) = answer.into_parts(session.shared().dates.now());
    response::strip(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    // The client has sent no key.
    headers.remove(websocket::ACCEPT);
    let buffers = session.shared().handler.buffers();
    let Some(mut tunnel) = OpenTunnel::begin(body, BytesMut::new(), buffers) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return SentAs::Broken;
    };
    let mut head = Response::new(());
    *head.headers_mut() = headers;
    let Ok(sending) = respond.send_response(head, false) else {
        tunnel.client_left();
        return SentAs::GivenUp;
    };
    let client = ClientSide::new(StreamSide::new(sending, receiving), session);
    let mut open = StreamTunnel { tunnel, client };
    match poll_fn(|cx| open.poll(cx)).await {
        TunnelEnd::Closed => SentAs::Whole,
        TunnelEnd::ClientLost => SentAs::GivenUp,
        TunnelEnd::UpstreamLost | TunnelEnd::Idle | TunnelEnd::Cut => {
            open.client.stream.reset();
            SentAs::Broken
        }
    }
}

/// A tunnel and the client on its stream. Whoever leaves the connection leaves the tunnel.
struct StreamTunnel {
    tunnel: OpenTunnel,
    client: ClientSide,
}

impl StreamTunnel {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TunnelEnd> {
        if !self.client.session.take_poll(cx) {
            return Poll::Pending;
        }
        if self.client.stream.is_reset(cx) {
            self.tunnel.client_left();
            return Poll::Ready(TunnelEnd::ClientLost);
        }
        self.tunnel.poll(&mut self.client, cx)
    }
}

impl Drop for StreamTunnel {
    fn drop(&mut self) {
        if self.client.session.has_left() {
            self.tunnel.client_left();
        }
    }
}

/// The client's side. Nothing is handed to its stream while the client takes nothing at all.
struct ClientSide {
    stream: StreamSide,
    /// Since when it waits for that.
    waits: Option<u64>,
    /// Whether something of it may have come that is not read.
    is_ahead: bool,
    session: Rc<Session>,
}

impl ClientSide {
    fn new(stream: StreamSide, session: Rc<Session>) -> Self {
        session.set_ahead(false, true);
        Self { stream, waits: None, is_ahead: true, session }
    }

    fn set_ahead(&mut self, is_ahead: bool) {
        self.session.set_ahead(self.is_ahead, is_ahead);
        self.is_ahead = is_ahead;
    }
}

impl Drop for ClientSide {
    fn drop(&mut self) {
        self.set_ahead(false);
    }
}

impl TunnelSide for ClientSide {
    fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = self.stream.poll_read(buffer, cx);
        self.set_ahead(matches!(read, Poll::Ready(Ok(1..))));
        read
    }

    fn writer(&mut self) -> Pin<&mut dyn AsyncWrite> {
        let writer: Pin<&mut Self> = Pin::new(self);
        writer
    }
}

impl AsyncWrite for ClientSide {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let link = this.session.link();
        if this.waits.is_some() || link.is_blocked() {
            ready!(link.poll_flushed(&mut this.waits, cx));
        }
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
