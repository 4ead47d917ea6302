//! A tunnel: what is left of two connections that have switched to another protocol. Bytes are
//! carried both ways, each way until its sender has said all.
//!
//! What one side does not take is not read from the other: each way holds at most [`READ`] bytes,
//! and nothing while it waits for some. An end goes on as an end in its own way, so that the other
//! way may go on for as long as it likes (a half-close). A side that breaks off ends both ways; if
//! that shows in what it does not take, what it has sent before still goes on.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use fusebox_resilience::TunnelEnd;
use http::HeaderValue;
use tokio::io::AsyncWrite;

use crate::buffers::{Buffers, Loan};
use crate::stall::Stall;

/// How much is read at once.
const READ: usize = 64 * 1024;

/// So often each way is read before others have their turn.
const ROUNDS: usize = 4;

/// A side of a tunnel.
pub(crate) trait TunnelSide {
    /// Reads what there is room for; 0 is the end of what it says.
    fn poll_read(&mut self, buffer: &mut BytesMut, cx: &mut Context<'_>)
    -> Poll<io::Result<usize>>;

    /// Where it is told something.
    fn writer(&mut self) -> Pin<&mut dyn AsyncWrite>;
}

/// A connection to an upstream that has switched.
pub(crate) struct SwitchedConnection {
    pub(crate) side: Box<dyn TunnelSide>,
    /// What came behind the head of the switch.
    pub(crate) early: BytesMut,
    /// What is spoken now.
    pub(crate) protocol: HeaderValue,
    /// For so long nothing may move.
    pub(crate) idle_timeout: Duration,
}

impl fmt::Debug for SwitchedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SwitchedConnection")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// Carries bytes between a client and an upstream.
pub(crate) struct Tunnel {
    upstream: Box<dyn TunnelSide>,
    /// From the client.
    up: Direction,
    /// To the client.
    down: Direction,
    stall: Stall,
    buffers: Rc<Buffers>,
}

impl Tunnel {
    /// From a client that has already sent `early`.
    pub(crate) fn new(early: BytesMut, upstream: SwitchedConnection, buffers: Rc<Buffers>) -> Self {
        Self {
            upstream: upstream.side,
            up: Direction::new(early),
            down: Direction::new(upstream.early),
            stall: Stall::new(upstream.idle_timeout),
            buffers,
        }
    }

    /// Bytes that the client has sent, and that it has got.
    pub(crate) fn moved(&self) -> (u64, u64) {
        (self.up.moved, self.down.moved)
    }

    /// Carries what can be carried now. Ready when it has ended.
    pub(crate) fn poll(
        &mut self,
        client: &mut dyn TunnelSide,
        cx: &mut Context<'_>,
    ) -> Poll<TunnelEnd> {
        let Self { upstream, up, down, stall, buffers } = self;
        let before = (up.moved, down.moved);
        let has_up_ended = up.poll(client, &mut **upstream, buffers, cx);
        let has_down_ended = down.poll(&mut **upstream, client, buffers, cx);
        let lost = |way: &Direction, by_sender, by_receiver| match way.phase {
            Phase::Ended(Some(LostSide::Sender)) => Some(by_sender),
            Phase::Ended(Some(LostSide::Receiver)) => Some(by_receiver),
            _ => None,
        };
        let by_up = lost(up, TunnelEnd::ClientLost, TunnelEnd::UpstreamLost);
        let by_down = lost(down, TunnelEnd::UpstreamLost, TunnelEnd::ClientLost);
        let has_lost_sender = up.has_lost_sender() || down.has_lost_sender();
        if has_lost_sender || has_up_ended.is_ready() && has_down_ended.is_ready() {
            return Poll::Ready(by_up.or(by_down).unwrap_or(TunnelEnd::Closed));
        }
        if (up.moved, down.moved) != before {
            stall.reset();
        }
        ready!(stall.poll(cx));
        Poll::Ready(TunnelEnd::Idle)
    }
}

/// One direction of a tunnel.
struct Direction {
    /// What has come; the first `written` bytes have gone out.
    buffer: BytesMut,
    /// Of that, once it is a large one.
    loan: Option<Loan>,
    written: usize,
    phase: Phase,
    /// Bytes that have gone out.
    moved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Its sender has said all.
    Ending,
    /// Nothing goes in it any more; perhaps since a side was lost.
    Ended(Option<LostSide>),
}

/// Which end of a direction was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LostSide {
    Sender,
    Receiver,
}

impl Direction {
    fn new(early: BytesMut) -> Self {
        Self { buffer: early, loan: None, written: 0, phase: Phase::Open, moved: 0 }
    }

    fn has_lost_sender(&self) -> bool {
        self.phase == Phase::Ended(Some(LostSide::Sender))
    }

    /// Ready when it has ended.
    fn poll(
        &mut self,
        from: &mut dyn TunnelSide,
        to: &mut dyn TunnelSide,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        for _ in 0..ROUNDS {
            if let Phase::Ended(_) = self.phase {
                return Poll::Ready(());
            }
            if ready!(self.poll_write(to, cx)).is_err() {
                self.end(Some(LostSide::Receiver), buffers);
                return Poll::Ready(());
            }
            if self.phase == Phase::Ending {
                let ended = ready!(to.writer().poll_shutdown(cx));
                self.end(ended.err().map(|_| LostSide::Receiver), buffers);
                return Poll::Ready(());
            }
            if self.loan.is_none() {
                let (buffer, loan) = buffers.take_large();
                (self.buffer, self.loan) = (buffer, Some(loan));
            }
            buffers.make_room(&mut self.buffer, READ);
            match from.poll_read(&mut self.buffer, cx) {
                Poll::Pending => {
                    self.release(buffers);
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => self.phase = Phase::Ending,
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => {
                    self.end(Some(LostSide::Sender), buffers);
                    return Poll::Ready(());
                }
            }
        }
        // It may have more at hand, and others wait.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends on what has come.
    fn poll_write(
        &mut self,
        to: &mut dyn TunnelSide,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.buffer.len() {
            let rest = &self.buffer[self.written..];
            let written = ready!(to.writer().poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.moved += written as u64;
        }
        ready!(to.writer().poll_flush(cx))?;
        self.buffer.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn end(&mut self, lost: Option<LostSide>, buffers: &Buffers) {
        self.phase = Phase::Ended(lost);
        self.buffer.clear();
        self.release(buffers);
    }

    /// Gives the empty buffer back.
    fn release(&mut self, buffers: &Buffers) {
        let buffer = std::mem::take(&mut self.buffer);
        if let Some(loan) = self.loan.take() {
            buffers.put_large(buffer, loan);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    const IDLE: Duration = Duration::from_secs(3600);

    /// What fits between two ends before one of them has to read.
    const ROOM: usize = 1000;

    impl TunnelSide for DuplexStream {
        fn poll_read(
            &mut self,
            buffer: &mut BytesMut,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<usize>> {
            pin!(self.read_buf(buffer)).poll(cx)
        }

        fn writer(&mut self) -> Pin<&mut dyn AsyncWrite> {
            let writer: Pin<&mut Self> = Pin::new(self);
            writer
        }
    }

    /// A tunnel with the near end of its client, and the far ends of both.
    fn tunnel(early: [&str; 2]) -> (Tunnel, DuplexStream, DuplexStream, DuplexStream) {
        let (client, near) = duplex(ROOM);
        let (upstream, far) = duplex(ROOM);
        let switched = SwitchedConnection {
            side: Box::new(far),
            early: BytesMut::from(early[1]),
            protocol: HeaderValue::from_static("x"),
            idle_timeout: IDLE,
        };
        let tunnel = Tunnel::new(BytesMut::from(early[0]), switched, Rc::default());
        (tunnel, near, client, upstream)
    }

    async fn run(tunnel: &mut Tunnel, near: &mut DuplexStream) -> TunnelEnd {
        poll_fn(|cx| tunnel.poll(near, cx)).await
    }

    async fn all(stream: &mut DuplexStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn each_way_ends_with_its_sender_and_what_came_early_goes_first() {
        let (mut tunnel, mut near, mut client, mut upstream) = tunnel(["early ", "soon "]);
        let talking = async {
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            assert_eq!(all(&mut upstream).await, "early question");
            upstream.write_all(b"answer").await.unwrap();
            upstream.shutdown().await.unwrap();
            assert_eq!(all(&mut client).await, "soon answer");
        };
        let (end, ()) = tokio::join!(run(&mut tunnel, &mut near), talking);
        assert_eq!((end, tunnel.moved()), (TunnelEnd::Closed, (14, 11)));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_moves_for_so_long_at_most() {
        let (mut tunnel, mut near, mut client, upstream) = tunnel(["", ""]);
        let begin = Instant::now();
        let talking = async {
            for _ in 0..3 {
                tokio::time::sleep(IDLE - Duration::from_secs(1)).await;
                client.write_all(b"x").await.unwrap();
            }
            // Nobody reads it: that something comes is not enough.
            client.write_all(&[b'x'; 10 * ROOM]).await.ok();
        };
        let end = tokio::select! {
            end = run(&mut tunnel, &mut near) => end,
            () = async { talking.await; std::future::pending().await } => unreachable!(),
        };
        assert_eq!(end, TunnelEnd::Idle);
        assert_eq!(begin.elapsed().as_secs(), 4 * 3600 - 3);
        drop(upstream);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_taken_is_not_read() {
        let (mut tunnel, mut near, mut client, mut upstream) = tunnel(["", ""]);
        let much = vec![b'x'; 10 * READ];
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let blocked = async {
            let sent = timeout(IDLE / 2, writer.write_all(&much)).await;
            assert!(sent.is_err(), "nobody takes it");
        };
        tokio::select! {
            _ = run(&mut tunnel, &mut near) => unreachable!(),
            () = blocked => {}
        }
        assert!(tunnel.moved().0 as usize <= ROOM && tunnel.up.buffer.len() <= READ);
        // The other way is not held up.
        let answered = async {
            upstream.write_all(b"answer").await.unwrap();
            let mut answer = [0; 6];
            reader.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"answer");
        };
        tokio::select! {
            _ = run(&mut tunnel, &mut near) => unreachable!(),
            () = answered => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_any_more_is_lost_once_it_has_said_all() {
        let (mut tunnel, mut near, mut client, upstream) = tunnel(["", "last words"]);
        drop(upstream);
        let talking = async {
            client.write_all(b"x").await.unwrap();
            assert_eq!(all(&mut client).await, "last words");
        };
        let (end, ()) = tokio::join!(run(&mut tunnel, &mut near), talking);
        assert_eq!(end, TunnelEnd::UpstreamLost);
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_waits_holds_no_buffer() {
        let (mut tunnel, mut near, mut client, mut upstream) = tunnel(["a", "b"]);
        let talking = async {
            upstream.read_exact(&mut [0]).await.unwrap();
            client.read_exact(&mut [0]).await.unwrap();
        };
        tokio::select! {
            _ = run(&mut tunnel, &mut near) => unreachable!(),
            () = talking => {}
        }
        assert!(timeout(IDLE / 2, run(&mut tunnel, &mut near)).await.is_err());
        assert_eq!((tunnel.up.buffer.capacity(), tunnel.down.buffer.capacity()), (0, 0));
    }
}
