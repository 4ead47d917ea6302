//! Reads away what a client still sends after its answer.
//!
//! A socket that is closed with something unread is reset, and the client may lose the answer that
//! is on its way to it (RFC 9112, section 9.6). So the proxy closes its own side, and goes on
//! reading for a moment.

use std::cell::RefCell;
use std::future::poll_fn;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::incoming::Incoming;

/// How long a client may be silent meanwhile: nginx's time.
const SILENCE: Duration = Duration::from_secs(5);

/// How much is read away at once.
const READ: usize = 64 * 1024;

/// Closes our side, and reads until the client closes its own, for `time` at most.
pub(super) async fn linger<S>(incoming: &RefCell<Incoming<S>>, time: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let closed = poll_fn(|cx| incoming.borrow_mut().stream().poll_shutdown(cx));
    // Above TLS the client has to take some bytes for it.
    if !matches!(timeout(SILENCE, closed).await, Ok(Ok(()))) {
        return;
    }
    let reading = async {
        loop {
            let read = poll_fn(|cx| {
                let incoming = &mut *incoming.borrow_mut();
                incoming.buffer.clear();
                incoming.poll_fill(READ, cx)
            });
            if !matches!(timeout(SILENCE, read).await, Ok(Ok(1..))) {
                return;
            }
        }
    };
    timeout(time, reading).await.ok();
}

/// Reads away the rest of a request's body. Returns whether it was all there.
pub(super) async fn drain<S>(incoming: &RefCell<Incoming<S>>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let reading = async {
        while let Some(frame) = poll_fn(|cx| incoming.borrow_mut().poll_body(cx)).await {
            if frame.is_err() {
                return false;
            }
        }
        true
    };
    timeout(SILENCE, reading).await.unwrap_or(false)
}
