//! An upstream over HTTP/2 that says what it is told, frame by frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;

use crate::origin::{Origin, OriginConnection};
use crate::raw_frame::{PREFACE, RawFrame, flag, kind};
use crate::wire::Wire;

/// A connection to it, after the greeting.
#[derive(Debug)]
pub struct FramedConnection<'a> {
    /// Among all connections, from 0.
    pub number: usize,
    /// The origin's end.
    pub wire: &'a mut Wire,
}

impl FramedConnection<'_> {
    /// The next frame that is about a stream, or ends the connection. Settings and pings are
    /// answered. `None`: the other side has closed the connection.
    pub fn next_frame(&mut self) -> Option<RawFrame> {
        loop {
            let frame = self.wire.frame()?;
            match frame.kind {
                kind::SETTINGS | kind::PING if frame.flags & flag::ACK == 0 => {
                    let payload = if frame.kind == kind::PING { frame.payload } else { Vec::new() };
                    let answer = RawFrame::new(frame.kind, flag::ACK, 0, payload);
                    self.wire.try_send(answer.bytes()).ok()?;
                }
                kind::SETTINGS | kind::PING => {}
                kind::WINDOW_UPDATE if frame.stream == 0 => {}
                _ => return Some(frame),
            }
        }
    }

    /// Sends frames, as far as they are taken.
    pub fn send(&mut self, frames: &[RawFrame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(RawFrame::bytes).collect();
        self.wire.try_send(bytes).ok();
    }

    /// Closes the connection in this direction.
    pub fn close(&mut self) {
        self.wire.finish();
    }

    /// Answers without a body.
    pub fn answer(&mut self, stream: u32, status: &str) {
        self.send(&[RawFrame::headers(stream, &[(":status", status)], true)]);
    }
}

impl Origin {
    /// One that is asked over HTTP/2, and serves each request, by its stream, like this.
    pub fn framed(serve: impl Fn(&mut FramedConnection<'_>, u32) + Send + Sync + 'static) -> Self {
        Self::framed_with(&[RawFrame::settings(&[])], serve)
    }

    /// The same, that greets with these frames.
    pub fn framed_with(
        greeting: &[RawFrame],
        serve: impl Fn(&mut FramedConnection<'_>, u32) + Send + Sync + 'static,
    ) -> Self {
        Self::start(connection(greeting, serve))
    }

    /// The same over TLS, with the usual greeting.
    pub fn framed_secured(
        config: ServerConfig,
        serve: impl Fn(&mut FramedConnection<'_>, u32) + Send + Sync + 'static,
    ) -> Self {
        Self::secured(config, connection(&[RawFrame::settings(&[])], serve))
    }
}

/// Greets, and serves each request.
fn connection(
    greeting: &[RawFrame],
    serve: impl Fn(&mut FramedConnection<'_>, u32) + Send + Sync + 'static,
) -> impl Fn(&mut OriginConnection) + Send + Sync + 'static {
    let (greeting, connections) = (greeting.to_vec(), Arc::new(AtomicUsize::new(0)));
    move |connection| {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        let mut connection = FramedConnection { number, wire: &mut connection.wire };
        if !connection.wire.greets() {
            return;
        }
        connection.send(&greeting);
        while let Some(frame) = connection.next_frame() {
            if frame.kind == kind::HEADERS {
                serve(&mut connection, frame.stream);
            }
        }
    }
}

impl Wire {
    /// Takes what a client of HTTP/2 sends first. `false`: it did not.
    pub fn greets(&mut self) -> bool {
        self.take(PREFACE.len()).is_ok_and(|bytes| bytes == PREFACE)
    }
}
