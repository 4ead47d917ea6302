//! How long attempts wait for the client: time that is not the upstream's.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock;

/// For how long attempts have waited for their client's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Starved {
    /// In all.
    pub time: Duration,
    /// Of that, the wait that is under way.
    pub wait: Duration,
    /// Whether one is waiting now, so that the time grows.
    pub is_starving: bool,
    /// Whether what was waited for last has not come, up to now or to the attempt's end.
    pub is_owed: bool,
}

impl Starved {
    /// For so long an attempt may wait for its client before others see to it that the client's
    /// slowness is not held against the upstream.
    pub const PATIENCE: Duration = Duration::from_secs(1);

    /// Whether the client owes some of its body, after so long a wait in all.
    pub fn is_long_owed(self) -> bool {
        self.is_owed && self.time >= Self::PATIENCE
    }
}

/// Measures it. Attempts that wait at once starve once.
#[derive(Debug, Default)]
pub(super) struct Starvation {
    attempts: usize,
    since: Option<Instant>,
    past: Duration,
    is_owed: bool,
}

impl Starvation {
    /// An attempt has polled the body and found nothing.
    pub(super) fn begin(&mut self) {
        self.attempts += 1;
        self.is_owed = true;
        self.since.get_or_insert_with(clock::now);
    }

    /// It has found something, or has ended without.
    pub(super) fn end(&mut self, has_found: bool) {
        self.is_owed &= !has_found;
        self.attempts -= 1;
        if self.attempts == 0 {
            self.past = self.so_far().time;
            self.since = None;
        }
    }

    pub(super) fn so_far(&self) -> Starved {
        let wait = self.since.map_or(Duration::ZERO, |since| clock::now() - since);
        let is_starving = self.since.is_some();
        Starved { time: self.past + wait, wait, is_starving, is_owed: self.is_owed }
    }
}
