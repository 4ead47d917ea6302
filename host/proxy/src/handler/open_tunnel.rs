//! A call whose connection has switched to another protocol, until its tunnel has ended.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use fusebox_resilience::{BodyEnd, ErrorKind, TunnelEnd, TunnelEvent, clock};
use tokio::time::Instant;

use super::body::ClientBody;
use crate::buffers::Buffers;
use crate::tunnel::{SwitchedConnection, Tunnel, TunnelSide};

/// How often it is told at most what has moved.
const TELL: Duration = Duration::from_secs(10);

/// A tunnel, and the call that it is the end of. Dropping it ends both.
pub(crate) struct OpenTunnel {
    tunnel: Tunnel,
    body: ClientBody,
    end: TunnelEnd,
    /// What has been told: bytes of the client, and to it.
    told: (u64, u64),
    told_at: Instant,
}

impl OpenTunnel {
    /// From a client that has already sent `early`. `None`: the body is that of a response.
    pub(crate) fn begin(
        mut body: ClientBody,
        early: BytesMut,
        buffers: &Rc<Buffers>,
    ) -> Option<Self> {
        let upstream = body.take_tunnel()?.downcast::<SwitchedConnection>().ok()?;
        let protocol = String::from_utf8_lossy(upstream.protocol.as_bytes()).into();
        body.emit(TunnelEvent::Opened { protocol });
        let tunnel = Tunnel::new(early, *upstream, buffers.clone());
        let told_at = clock::now();
        Some(Self { tunnel, body, end: TunnelEnd::Cut, told: (0, 0), told_at })
    }

    /// Carries what can be carried now. Ready when it has ended.
    pub(crate) fn poll(
        &mut self,
        client: &mut dyn TunnelSide,
        cx: &mut Context<'_>,
    ) -> Poll<TunnelEnd> {
        let polled = self.tunnel.poll(client, cx);
        let moved = self.tunnel.moved();
        if moved != self.told && clock::now() - self.told_at >= TELL {
            self.tell();
        }
        if let Poll::Ready(end) = polled {
            self.end = end;
        }
        polled
    }

    /// The client is gone, which the tunnel does not see, unless it has ended before.
    pub(crate) fn client_left(&mut self) {
        if self.end == TunnelEnd::Cut {
            self.end = TunnelEnd::ClientLost;
        }
    }

    fn tell(&mut self) {
        let moved = self.tunnel.moved();
        let (received, sent) = (moved.0 - self.told.0, moved.1 - self.told.1);
        (self.told, self.told_at) = (moved, clock::now());
        self.body.emit(TunnelEvent::Moved { received, sent });
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.tell();
        let (received, sent) = self.tunnel.moved();
        let end = self.end;
        self.body.emit(TunnelEvent::Ended { end, received, sent });
        let end = match end {
            TunnelEnd::Closed => BodyEnd::Whole,
            TunnelEnd::UpstreamLost => BodyEnd::Broken(ErrorKind::ConnectionTerminated),
            TunnelEnd::ClientLost | TunnelEnd::Idle | TunnelEnd::Cut => BodyEnd::Discarded,
        };
        self.body.end_tunnel(end, received, sent);
    }
}
