//! What is said at the door to clients who are not let in. No worker ever sees them.

use std::fs::File;
use std::net::Shutdown;
use std::time::Duration;

use futures_util::FutureExt;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, copy, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A 503 without a body, with these words.
macro_rules! unavailable {
    ($error:literal, $details:literal) => {
        concat!(
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n",
            "proxy-status: fusebox; error=",
            $error,
            "; details=\"",
            $details,
            "\"\r\ncontent-length: 0\r\n\r\n"
        )
        .as_bytes()
    };
}

/// The answer to a client for whom there is no descriptor.
const EXHAUSTED: &[u8] = unavailable!("proxy_internal_error", "out of resources");

/// The answer to a client whose address has as many connections as it may have.
const TOO_MANY: &[u8] = unavailable!("http_request_denied", "too many connections");

/// Who stands at the door.
#[derive(Clone, Copy, Debug)]
pub(super) enum Visitors {
    Plain,
    /// A handshake would be too much for those who are not let in: their sockets are closed.
    OverTls,
}

/// What can't be read or written now is not waited for.
fn tell(stream: &TcpStream, answer: &[u8]) {
    // With something unread the connection would be reset, and the answer lost.
    let mut request = [0; 16 * 1024];
    stream.try_read(&mut request).ok();
    stream.try_write(answer).ok();
}

/// A descriptor that is kept for when there is no other: with it the clients that wait are told so,
/// rather than left waiting.
pub(super) struct Reserve {
    /// `None`: it could not be had.
    descriptor: Option<File>,
    /// The clients that were told, since this was last said.
    turned_away: usize,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { descriptor: Self::take(), turned_away: 0 }
    }
}

impl Reserve {
    /// How many clients are told at once.
    const CLIENTS: usize = 64;

    fn take() -> Option<File> {
        File::open("/dev/null").ok()
    }

    /// Tells the clients that wait.
    pub(super) fn turn_away(&mut self, listener: &TcpListener, visitors: Visitors) {
        self.descriptor = None;
        for _ in 0..Self::CLIENTS {
            let Some(Ok((stream, _))) = listener.accept().now_or_never() else { break };
            self.turned_away += 1;
            if let Visitors::Plain = visitors {
                tell(&stream, EXHAUSTED);
            }
        }
        self.descriptor = Self::take();
    }

    /// How many have been told since this was last asked.
    pub(super) fn take_turned_away(&mut self) -> usize {
        std::mem::take(&mut self.turned_away)
    }
}

/// Clients who have been told to go, and whose request may be on its way: were it to meet a closed
/// socket, they might lose the answer.
#[derive(Default)]
pub(super) struct Departing(JoinSet<()>);

impl Departing {
    /// How many are seen off at once; the sockets of the others are closed.
    const MOST: usize = 64;

    /// For how long,
    const TIME: Duration = Duration::from_secs(1);
    /// and how much they may still send.
    const REST: u64 = 64 * 1024;

    /// Tells a client that its address has too many connections.
    pub(super) fn tell(&mut self, stream: TcpStream, visitors: Visitors) {
        while self.0.try_join_next().is_some() {}
        if let Visitors::OverTls = visitors {
            return;
        }
        tell(&stream, TOO_MANY);
        if self.0.len() >= Self::MOST {
            return;
        }
        SockRef::from(&stream).shutdown(Shutdown::Write).ok();
        self.0.spawn_local(async move {
            let mut rest = stream.take(Self::REST);
            timeout(Self::TIME, copy(&mut rest, &mut sink())).await.ok();
        });
    }
}
