//! What a client may send beside requests and their bodies.
//!
//! Frames that ask for work and bring none on (pings, settings, priorities, window updates, frames
//! that nobody knows) are cheap for a client, and `h2` handles as many as come. So there is a
//! credit of them. It grows with the time, and with what a decent client sends them for: requests
//! (priorities) and what it gets (window updates, and pings that measure how fast it comes). Resets
//! have credits of their own, by how old their streams are.

use std::collections::VecDeque;
use std::time::Duration;

use fusebox_resilience::Http2Fault;
use tokio::time::Instant;

use crate::frames::{FrameHead, FrameKind};

/// The streams that a client may have at once.
pub(super) const MAX_STREAMS: u32 = 100;

/// The frames that a connection may send in advance.
const MOST: u32 = 1_000;

/// How many more it may send after each second,
const A_SECOND: u32 = 50;

/// after each request,
const A_REQUEST: u32 = 4;

/// and after each write of ours: whoever gets data may say for each piece of it, of its stream and
/// of the connection, that there is room again.
const A_WRITE: u32 = 4;

/// The young requests that a connection may give up in advance, and how many more after each
/// second. (Rapid reset, CVE-2023-44487, takes thousands.) nghttp2 has the same bounds, for all
/// resets. A client that is short of processor time needs them: its deadline may pass as soon as it
/// has sent its requests.
pub(super) const MOST_RESETS: u32 = 1_000;
const RESETS_A_SECOND: u32 = 33;

/// A request that was under way for so long had a place of its connection's meanwhile: these bound
/// how many there are, as they do for requests that end well. Clients of gRPC give up each call
/// whose deadline passes, and all of them when a server hangs.
const HELD_A_PLACE: Duration = Duration::from_millis(50);

/// So all places may be given up again after that. As many at once: what has come while nobody
/// looked may be those of a second.
const PLACES_A_SECOND: u32 = MAX_STREAMS * 1_000 / HELD_A_PLACE.as_millis() as u32;

/// Streams that were opened within so long count as opened at once.
const AT_ONCE: Duration = Duration::from_millis(10);

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
    fn spend(&mut self, now: Instant) -> bool {
        let waited = now.saturating_duration_since(self.counted).min(Duration::from_secs(3600));
        // Not before it is one: what is less would be lost.
        if waited * self.a_second >= Duration::from_secs(1) {
            self.counted = now;
            self.earn((waited.as_secs_f64() * f64::from(self.a_second)) as u32);
        }
        let is_there = self.left > 0;
        self.left -= u32::from(is_there);
        is_there
    }
}

/// When which streams were opened, for as long as that matters.
#[derive(Debug, Default)]
struct Openings {
    /// When, and the highest stream of then.
    marks: VecDeque<(Instant, u32)>,
}

impl Openings {
    /// This stream, the highest so far, may have been opened at `since`.
    fn opened(&mut self, stream: u32, since: Instant) {
        if let Some((at, highest)) = self.marks.back_mut()
            && since < *at + AT_ONCE
        {
            *highest = stream;
            return;
        }
        // Of those that are old the last says it for all.
        while self.marks.get(1).is_some_and(|(at, _)| *at + HELD_A_PLACE <= since) {
            self.marks.pop_front();
        }
        self.marks.push_back((since, stream));
    }

    /// Whether this stream may have held a place.
    fn may_have_held(&self, stream: u32, now: Instant) -> bool {
        let mark = self.marks.iter().find(|(_, highest)| stream <= *highest);
        mark.is_some_and(|(at, _)| *at + HELD_A_PLACE <= now)
    }
}

/// What a client may still send.
#[derive(Debug)]
pub(super) struct FloodGuard {
    frames: Credit,
    resets: Credit,
    /// Of the resets of streams that may have held a place.
    places: Credit,
    openings: Openings,
    /// Resets of the client whose requests have not ended yet: a few are of streams that are not
    /// there.
    counted: u32,
}

impl FloodGuard {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            frames: Credit::new(MOST, A_SECOND, now),
            resets: Credit::new(MOST_RESETS, RESETS_A_SECOND, now),
            places: Credit::new(PLACES_A_SECOND, PLACES_A_SECOND, now),
            openings: Openings::default(),
            counted: 0,
        }
    }

    /// A request has come on this stream, the highest so far, and may have been sent at `since`.
    pub(super) fn opened(&mut self, stream: u32, since: Instant) {
        self.openings.opened(stream, since);
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
                let now = now();
                self.counted = (self.counted + 1).min(2 * MAX_STREAMS);
                let is_held = self.openings.may_have_held(frame.stream, now);
                // Those of streams that are not there any more are frames like others.
                let may_go_on = self.frames.spend(now)
                    && (is_held && self.places.spend(now) || self.resets.spend(now));
                return if may_go_on { Ok(()) } else { Err(Http2Fault::ResetFlood) };
            }
            FrameKind::Priority => Http2Fault::PriorityFlood,
            FrameKind::Settings => Http2Fault::SettingsFlood,
            FrameKind::Ping => Http2Fault::PingFlood,
            FrameKind::WindowUpdate => Http2Fault::WindowUpdateFlood,
            FrameKind::GoAway | FrameKind::Other => Http2Fault::UnknownFlood,
        };
        if self.frames.spend(now()) { Ok(()) } else { Err(fault) }
    }

    /// Something has been written.
    pub(super) fn wrote(&mut self) {
        self.frames.earn(A_WRITE);
    }

    /// A request has been given up before its answer had ended: by a reset of the client's, which
    /// has been counted, or for a fault of the client's.
    ///
    /// # Errors
    /// It was one too many.
    pub(super) fn gave_up(&mut self, now: impl Fn() -> Instant) -> Result<(), Http2Fault> {
        if let Some(counted) = self.counted.checked_sub(1) {
            self.counted = counted;
            return Ok(());
        }
        if self.resets.spend(now()) { Ok(()) } else { Err(Http2Fault::ResetFlood) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: FrameHead = FrameHead { kind: FrameKind::Headers, ..PING };
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

    fn reset(stream: u32) -> FrameHead {
        FrameHead { kind: FrameKind::Reset, stream, ..PING }
    }

    #[test]
    fn a_reset_counts_once() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        for _ in 0..MOST_RESETS / 2 {
            assert_eq!(guard.came(HEAD, || start), Ok(()));
            assert_eq!(guard.came(reset(1), || start), Ok(()));
            assert_eq!(guard.gave_up(|| start), Ok(()));
        }
        for _ in 0..MOST_RESETS / 2 {
            assert_eq!(guard.gave_up(|| start), Ok(()), "the server's own");
        }
        assert_eq!(guard.came(reset(1), || start), Err(Http2Fault::ResetFlood));
    }

    #[test]
    fn resets_of_streams_that_are_not_there_pay_for_little() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        guard.opened(1, start);
        let now = start + Duration::from_secs(1);
        let resets = (0..10_000).take_while(|_| guard.came(reset(1), || now).is_ok()).count();
        assert_eq!(resets, MOST as usize);
        let given_up = (0..10_000).take_while(|_| guard.gave_up(|| now).is_ok()).count();
        assert_eq!(given_up, (MOST_RESETS + 2 * MAX_STREAMS) as usize);
    }

    #[test]
    fn what_a_credit_earns_is_not_lost_however_often_it_is_asked() {
        let start = Instant::now();
        let mut credit = Credit::new(100, 20, start);
        assert!((0..100).all(|_| credit.spend(start)));
        // 15 ms are less than one; a minute later it is full, and no more than that.
        let spent =
            (1..=200).filter(|tick| credit.spend(start + *tick * Duration::from_millis(15)));
        assert!((45..=60).contains(&spent.count()));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..1_000).filter(|_| credit.spend(later)).count(), 100);
    }

    #[test]
    fn so_many_requests_may_be_given_up_at_once_and_so_many_a_second() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        for (second, expected) in [(0, MOST_RESETS), (1, RESETS_A_SECOND), (1, 0)] {
            let now = start + Duration::from_secs(second);
            let given_up = (0..10_000).take_while(|_| guard.gave_up(|| now).is_ok()).count();
            assert_eq!(given_up, expected as usize);
        }
    }

    /// The odd numbers, as a client's streams have them.
    fn streams() -> impl Iterator<Item = u32> {
        (1..).step_by(2)
    }

    #[test]
    fn all_places_may_be_given_up_again_and_again() {
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        let mut streams = streams();
        for round in 0..100 {
            let opened = start + round * HELD_A_PLACE;
            let these: Vec<_> = streams.by_ref().take(MAX_STREAMS as usize).collect();
            for stream in &these {
                guard.opened(*stream, opened);
                assert_eq!(guard.came(HEAD, || opened), Ok(()));
            }
            // As they come, and as their calls hear of it later.
            let now = opened + HELD_A_PLACE;
            for stream in &these {
                assert_eq!(guard.came(reset(*stream), || now), Ok(()), "{round}: {stream}");
            }
            for stream in &these {
                assert_eq!(guard.gave_up(|| now), Ok(()), "{round}: {stream}");
            }
        }
        assert_eq!(guard.resets.left, MOST_RESETS);
        assert!(guard.openings.marks.len() <= 7, "{:?}", guard.openings);
    }

    #[test]
    fn who_is_young_or_one_of_too_many_is_counted() {
        let start = Instant::now();
        for (age, count, free) in [
            (HELD_A_PLACE, 500, 500),
            (HELD_A_PLACE - Duration::from_millis(1), 500, 0),
            (Duration::ZERO, 500, 0),
            // One is old, and the others came later.
            (HELD_A_PLACE * 100, 1, 1),
        ] {
            let mut guard = FloodGuard::new(start);
            let these: Vec<_> = streams().take(count).collect();
            these.iter().for_each(|stream| guard.opened(*stream, start));
            let now = start + age;
            let last = these.len() as u32 * 2 + 1;
            guard.opened(last, now);
            these.iter().chain([&last]).for_each(|stream| {
                assert_eq!(guard.came(reset(*stream), || now), Ok(()));
            });
            assert_eq!(MOST_RESETS - guard.resets.left, count as u32 + 1 - free, "{age:?}");
        }
    }

    #[test]
    fn a_flood_ends_however_slowly_it_is_looked_at() {
        // A busy machine: what comes in a turn may be a second old.
        let start = Instant::now();
        let mut guard = FloodGuard::new(start);
        let mut streams = streams();
        let most = PLACES_A_SECOND + MOST_RESETS;
        let turns = (0..).take_while(|turn| {
            let before = start + Duration::from_secs(*turn);
            let now = before + Duration::from_secs(1);
            streams.by_ref().take(most as usize).all(|stream| {
                guard.opened(stream, before);
                assert_eq!(guard.came(HEAD, || now), Ok(()));
                guard.came(reset(stream), || now).is_ok()
            })
        });
        assert_eq!(turns.count(), 1);
    }
}
