//! Interim responses on their way out to a client, before its final one.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use fusebox_http1::HttpExchange;
use tokio::io::AsyncWrite;

use crate::interim::InterimHead;

/// How many interim responses go on within an exchange,
const MOST: u32 = 8;

/// and how many bytes of them.
const LONGEST: usize = 16 * 1024;

/// Those of the current exchange.
#[derive(Debug, Default)]
pub(super) struct Hints {
    encoded: Vec<u8>,
    /// How much of that is sent.
    sent: usize,
    count: u32,
}

impl Hints {
    /// Takes what has come from the upstream. What is too much is dropped: nothing depends on a
    /// hint.
    pub(super) fn add(&mut self, heads: Vec<InterimHead>, exchange: &HttpExchange) {
        for InterimHead { status, headers } in heads {
            if self.count == MOST {
                return;
            }
            self.count += 1;
            let before = self.encoded.len();
            exchange.encode_interim(status, headers.iter(), &mut self.encoded);
            if self.encoded.len() > LONGEST {
                self.encoded.truncate(before);
            }
        }
    }

    /// Sends what there is.
    pub(super) fn poll_send(
        &mut self,
        mut writer: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.sent < self.encoded.len() {
            match ready!(writer.as_mut().poll_write(cx, &self.encoded[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.sent += written,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The final response begins: what is not sent yet goes before it.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if self.count > 0 {
            out.extend_from_slice(&self.encoded[self.sent..]);
            *self = Self::default();
        }
    }
}
