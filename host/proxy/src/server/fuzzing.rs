//! A worker's side of HTTP/2 without a socket, for fuzzing: bytes in, bytes out.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use fusebox_resilience::{Observers, clock};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::mpsc;

use super::background::BackgroundTasks;
use super::date::Dates;
use super::handshake_turns::HandshakeTurns;
use super::http2;
use super::idle::IdleQueue;
use super::load::WorkerLoad;
use super::shared::Shared;
use super::shutdown::Shutdown;
use crate::config::ListenerConfig;
use crate::handler::RequestHandler;
use crate::headers::{ForwardedRules, Hop};
use crate::route::RouteTable;
use crate::upstream::WorkerShare;

/// Serves what clients would send over HTTP/2, one after the other.
pub struct FrameServer {
    runtime: LocalRuntime,
    shared: Rc<Shared>,
    rules: Rc<ForwardedRules>,
}

impl FrameServer {
    /// A server with these routes, on the thread that makes it.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn new(
        routes: Arc<RouteTable>,
        limits: ListenerConfig,
        observers: Observers,
    ) -> io::Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let shutdown = Rc::new(Shutdown::default());
        let (alive, _) = mpsc::channel(1);
        let background = BackgroundTasks::new(shutdown.clone(), &alive);
        let handler =
            RequestHandler::new(routes, &limits, None, WorkerShare::WHOLE, observers, background);
        let idle = Rc::new(IdleQueue::new(Arc::<WorkerLoad>::default()));
        let (turns, dates) = (Rc::new(HandshakeTurns::default()), Dates::default());
        let handler = Rc::new(handler);
        let shared = Shared { handler, limits, shutdown, idle, dates, tls: None, turns };
        let rules = ForwardedRules { trusted: Vec::new(), by_x: true, by_standard: false };
        Ok(Self { runtime, shared: shared.into(), rules: rules.into() })
    }

    /// What a client gets that sends these pieces and closes its side.
    pub fn serve(&self, pieces: &[&[u8]]) -> Vec<u8> {
        let got = Rc::new(RefCell::new(Vec::new()));
        let pieces = pieces.iter().rev().filter(|piece| !piece.is_empty());
        let pieces = pieces.map(|piece| piece.to_vec()).collect();
        let stream = ScriptedStream { pieces, got: got.clone() };
        let hop = Hop::new(IpAddr::V4(Ipv4Addr::LOCALHOST), &self.rules);
        let mut serving = Box::pin(http2::serve(stream, BytesMut::new(), hop, self.shared.clone()));
        self.runtime.block_on(std::future::poll_fn(|cx| clock::turn(|| serving.as_mut().poll(cx))));
        got.take()
    }
}

impl fmt::Debug for FrameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameServer").finish_non_exhaustive()
    }
}

/// A client that sends pieces, the last first in the list, and takes everything.
struct ScriptedStream {
    pieces: Vec<Vec<u8>>,
    got: Rc<RefCell<Vec<u8>>>,
}

impl AsyncRead for ScriptedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.pieces.last_mut() {
            let length = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece[..length]);
            piece.drain(..length);
            if piece.is_empty() {
                self.pieces.pop();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ScriptedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.got.borrow_mut().extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
