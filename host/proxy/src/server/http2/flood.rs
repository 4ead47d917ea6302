//! What a client may send beside requests and their bodies.
//!
//! Frames that ask for work and bring none on (pings, settings, priorities, window updates, frames
//! that nobody knows) are cheap for a client, and `h2` handles as many as come. So there is a
//! credit of them. It grows with the time, and with what a decent client sends them for: requests
//! (priorities) and what it gets (window updates, and pings that measure how fast it comes). Resets
//! have a credit of their own.

use std::time::Duration;

use fusebox_resilience::Http2Fault;
use tokio::time::Instant;

use super::meter::{FrameHead, FrameKind};

/// The frames that a connection may send in advance.
const MOST: u32 = 1_000;

/// How many more it may send after each second,
const A_SECOND: u32 = 50;

/// after each request,
const A_REQUEST: u32 = 4;

/// and after each write of ours: whoever gets data may say for each piece of it, of its stream and
/// of the connection, that there is room again.
const A_WRITE: u32 = 4;

/// The requests that a connection may give up in advance: two times as many as it may have at once.
const MOST_RESETS: u32 = 200;

/// How many more after each second. (Rapid reset, CVE-2023-44487, takes thousands.)
const RESETS_A_SECOND: u32 = 20;

/// A request that was under way for so long had a place of its connection's meanwhile: these bound
/// how many there are, as they do for requests that end well. Clients of gRPC give up each call
/// whose deadline passes, and all of them when a server hangs.
const HELD_A_PLACE: Duration = Duration::from_millis(50);

/// So many, and more after a while.
#[derive(Debug)]
struct Credit {
    left: u32,
    most: u32,
    a_second: u32,
    counted: Instant,
}

impl Credit {
    fn new(most: u32, a_second: u32, now: Instant) -> Self {
        Self { left: most, most, a_second, counted: now }
    }

    fn earn(&mut self, more: u32) {
        self.left = (self.left + more).min(self.most);
    }

    /// `false`: there is none left.
    fn spend(&mut self, now: impl Fn() -> Instant) -> bool {
        if self.left == 0 {
            let now = now();
            let waited = now.saturating_duration_since(self.counted).min(Duration::from_secs(3600));
            self.counted = now;
            self.earn((waited.as_secs_f64() * f64::from(self.a_second)) as u32);
        }
        let is_there = self.left > 0;
        self.left -= u32::from(is_there);
        is_there
    }
}

/// What a client may still send.
#[derive(Debug)]
pub(super) struct FloodGuard {
    frames: Credit,
    resets: Credit,
    /// Resets of the client that have been counted as they came.
    counted: u64,
}

impl FloodGuard {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            frames: Credit::new(MOST, A_SECOND, now),
            resets: Credit::new(MOST_RESETS, RESETS_A_SECOND, now),
            counted: 0,
        }
    }

    /// A frame has come.
    ///
    /// # Errors
    /// It was one too many.
    pub(super) fn came(
        &mut self,
        frame: FrameHead,
        now: impl Fn() -> Instant,
    ) -> Result<(), Http2Fault> {
        let fault = match frame.kind {
            // What they bring on has limits of its own, and of empty ones `h2` takes few.
            FrameKind::Data | FrameKind::Continuation | FrameKind::PushPromise => return Ok(()),
            FrameKind::Headers => {
                self.frames.earn(A_REQUEST);
                return Ok(());
            }
            FrameKind::Reset => {
                self.counted += 1;
                let is_one_more = self.resets.spend(now);
                return if is_one_more { Ok(()) } else { Err(Http2Fault::ResetFlood) };
            }
            FrameKind::Priority => Http2Fault::PriorityFlood,
            FrameKind::Settings => Http2Fault::SettingsFlood,
            FrameKind::Ping => Http2Fault::PingFlood,
            FrameKind::WindowUpdate => Http2Fault::WindowUpdateFlood,
            FrameKind::GoAway | FrameKind::Other => Http2Fault::UnknownFlood,
        };
        if self.frames.spend(now) { Ok(()) } else { Err(fault) }
    }

    /// Something has been written.
    pub(super) fn wrote(&mut self) {
        self.frames.earn(A_WRITE);
    }

    /// A request has been given up before its answer had ended, after so long: by a reset of the
    /// client's, or for a fault of the client's.
    ///
    /// # Errors
    /// It was one too many.
    pub(super) fn gave_up(
        &mut self,
        after: Duration,
        now: impl Fn() -> Instant,
    ) -> Result<(), Http2Fault> {
        let is_counted = self.counted > 0;
        self.counted -= u64::from(is_counted);
        if after >= HELD_A_PLACE {
            self.resets.earn(is_counted.into());
            return Ok(());
        }
        if is_counted {
            return Ok(());
        }
        if self.resets.spend(now) { Ok(()) } else { Err(Http2Fault::ResetFlood) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: FrameHead = FrameHead { length: 8, kind: FrameKind::Ping, flags: 0, stream: 0 };

    #[test]
    fn a_flood_ends_with_the_credit_and_a_trickle_never() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        let pings = |guard: &mut FloodGuard, second: u64| {
            let now = start + Duration::from_secs(second);
            (0..10_000).take_while(|_| guard.came(PING, || now).is_ok()).count()
        };
        assert_eq!(pings(&mut guard, 0), MOST as usize);
        assert_eq!(pings(&mut guard, 2), 2 * A_SECOND as usize);
        assert_eq!(guard.came(PING, || start), Err(Http2Fault::PingFlood));
        let mut guard = FloodGuard::new(start);
        for tick in 0..u64::from(10 * MOST) {
            let now = start + Duration::from_secs(tick) / A_SECOND;
            assert_eq!(guard.came(PING, || now), Ok(()), "{tick}");
        }
    }

    #[test]
    fn requests_and_answers_earn_what_a_decent_client_sends_for_them() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        let frame = |kind| FrameHead { kind, ..PING };
        for number in 0..10 * MOST {
            let decent = [FrameKind::Headers, FrameKind::Priority, FrameKind::Ping];
            for kind in decent {
                assert_eq!(guard.came(frame(kind), || start), Ok(()), "{number}");
            }
            guard.wrote();
            for _ in 0..A_WRITE {
                let update = guard.came(frame(FrameKind::WindowUpdate), || start);
                assert_eq!(update, Ok(()), "{number}");
            }
        }
    }

    #[test]
    fn a_reset_counts_once() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        let reset = FrameHead { kind: FrameKind::Reset, ..PING };
        for _ in 0..MOST_RESETS / 2 {
            assert_eq!(guard.came(reset, || start), Ok(()));
            assert_eq!(guard.gave_up(Duration::ZERO, || start), Ok(()));
        }
        for _ in 0..MOST_RESETS / 2 {
            assert_eq!(guard.gave_up(Duration::ZERO, || start), Ok(()), "the server's own");
        }
        assert_eq!(guard.came(reset, || start), Err(Http2Fault::ResetFlood));
    }

    #[test]
    fn so_many_requests_may_be_given_up_at_once_and_so_many_a_second() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        for (second, expected) in [(0, MOST_RESETS), (1, RESETS_A_SECOND), (1, 0)] {
            let now = start + Duration::from_secs(second);
            let gave_up = |guard: &mut FloodGuard| guard.gave_up(Duration::ZERO, || now).is_ok();
            let given_up = (0..1_000).take_while(|_| gave_up(&mut guard)).count();
            assert_eq!(given_up, expected as usize);
        }
    }

    #[test]
    fn what_held_a_place_may_be_given_up_for_ever() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        let reset = FrameHead { kind: FrameKind::Reset, ..PING };
        for round in 0..100 {
            for _ in 0..MOST_RESETS / 2 {
                assert_eq!(guard.came(reset, || start), Ok(()), "{round}");
            }
            for _ in 0..MOST_RESETS / 2 {
                assert_eq!(guard.gave_up(HELD_A_PLACE, || start), Ok(()), "{round}");
            }
        }
        let short = HELD_A_PLACE - Duration::from_millis(1);
        let given_up = (0..1_000).take_while(|_| guard.gave_up(short, || start).is_ok()).count();
        assert_eq!(given_up, MOST_RESETS as usize);
    }
}
