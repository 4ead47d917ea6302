//! Limits the lines of a component that reach the log, over all workers: a guest that prints on
//! every call of a busy route must not flood it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(1);

/// A limit on lines in each second.
#[derive(Debug)]
pub(crate) struct Throttle {
    limit: u32,
    window: Mutex<ThrottleWindow>,
}

#[derive(Debug)]
struct ThrottleWindow {
    since: Instant,
    passed: u32,
    dropped: u64,
}

/// Whether a line passes.
#[derive(Debug, PartialEq)]
pub(crate) enum Passage {
    /// It passes; `dropped` lines were dropped in the window before.
    Passes { dropped: u64 },
    /// It is dropped, and counted.
    Dropped,
}

impl Throttle {
    pub(crate) fn new(limit: u32) -> Self {
        Self {
            limit,
            window: Mutex::new(ThrottleWindow { since: Instant::now(), passed: 0, dropped: 0 }),
        }
    }

    pub(crate) fn line(&self, now: Instant) -> Passage {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dropped = 0;
        if now.saturating_duration_since(window.since) >= WINDOW {
            dropped = window.dropped;
            *window = ThrottleWindow { since: now, passed: 0, dropped: 0 };
        }
        if window.passed >= self.limit {
            window.dropped += 1 + dropped;
            return Passage::Dropped;
        }
        window.passed += 1;
        Passage::Passes { dropped }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_told_in_the_next_window() {
        let throttle = Throttle::new(2);
        let start = Instant::now();
        let passages: Vec<_> = (0..5).map(|_| throttle.line(start)).collect();
        let passes = |dropped| Passage::Passes { dropped };
        assert_eq!(
            passages,
            [passes(0), passes(0), Passage::Dropped, Passage::Dropped, Passage::Dropped]
        );
        assert_eq!(throttle.line(start + WINDOW), passes(3));
        assert_eq!(throttle.line(start + WINDOW), passes(0));
        let silent = Throttle::new(0);
        assert_eq!(silent.line(start), Passage::Dropped);
        assert_eq!(silent.line(start + WINDOW), Passage::Dropped);
    }
}
