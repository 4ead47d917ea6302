//! Asks a silent upstream whether it is still there.
//!
//! A connection on which calls wait and nothing comes is asked by a PING, and is given up if the
//! answer does not come. One without calls is not asked: nobody waits. Whoever goes on being silent
//! but for the answers is asked ever more seldom, since servers take many PINGs for a flood (those
//! of gRPC by default for more than two in five minutes).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use fusebox_resilience::clock;
use h2::{Ping, PingPong};
use tokio::time::{Sleep, sleep};

use super::watched::Watch;

/// So often it is looked whether anything has come; if not, it is asked,
const SILENCE: Duration = Duration::from_secs(20);
/// so long it may take to answer,
const PATIENCE: Duration = Duration::from_secs(10);
/// and so long it is left alone at most after an answer.
const LONGEST: Duration = Duration::from_secs(300);

/// Asks.
#[derive(Debug)]
pub(super) struct KeepAlive {
    pings: PingPong,
    timer: Pin<Box<Sleep>>,
    silence: Duration,
    is_asked: bool,
}

impl KeepAlive {
    pub(super) fn new(pings: PingPong) -> Self {
        Self { pings, timer: Box::pin(sleep(SILENCE)), silence: SILENCE, is_asked: false }
    }

    /// `Ready`: nobody is there. `is_waited` tells whether calls wait.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        watch: &Watch,
        is_waited: impl Fn() -> bool,
    ) -> Poll<()> {
        // An error: the connection has ended, as it says itself.
        if self.is_asked && self.pings.poll_pong(cx).is_ready() {
            watch.take_read();
            self.is_asked = false;
            self.silence = (2 * self.silence).min(LONGEST);
            self.wait(self.silence);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let is_silent = !watch.take_read();
            match (self.is_asked, is_silent) {
                (true, true) => return Poll::Ready(()),
                // The answer is behind something large.
                (true, false) => self.wait(PATIENCE),
                (false, true) if is_waited() => {
                    self.is_asked = self.pings.send_ping(Ping::opaque()).is_ok();
                    self.wait(PATIENCE);
                }
                (false, _) => {
                    self.silence = SILENCE;
                    self.wait(SILENCE);
                }
            }
        }
        Poll::Pending
    }

    fn wait(&mut self, time: Duration) {
        self.timer.as_mut().reset(clock::now() + time);
    }
}
