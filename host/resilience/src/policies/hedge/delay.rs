//! When the next attempt starts: after a fixed time, or after one that most attempts keep to.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::latencies::{LatencyCounts, LatencyWindow};
use crate::config::ConfigDuration;
use crate::sharded::Sharded;

/// So often in a window a delay that is known is reckoned anew.
const LOOKS: u32 = 100;

/// When the next attempt starts.
#[derive(Debug)]
pub(super) enum HedgeDelay {
    Fixed(Duration),
    Quantile(Quantile),
}

/// `100ms`, or `the time of 95% of attempts`.
impl fmt::Display for HedgeDelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(delay) => ConfigDuration(*delay).fmt(f),
            Self::Quantile(Quantile { quantile, .. }) => {
                write!(f, "the time of {}% of attempts", quantile * 100.0)
            }
        }
    }
}

impl HedgeDelay {
    /// `None`: it is not known yet.
    pub(super) fn at(&self, now: Instant) -> Option<Duration> {
        match self {
            Self::Fixed(delay) => Some(*delay),
            Self::Quantile(quantile) => quantile.at(now),
        }
    }

    /// The one that the file says.
    pub(super) fn fixed(&self) -> Option<Duration> {
        match self {
            Self::Fixed(delay) => Some(*delay),
            Self::Quantile(_) => None,
        }
    }

    /// Who wants to know how long first attempts take.
    pub(super) fn quantile(&self) -> Option<&Quantile> {
        match self {
            Self::Fixed(_) => None,
            Self::Quantile(quantile) => Some(quantile),
        }
    }
}

/// A quantile of how long first attempts take. Each thread counts its own; whoever reckons adds
/// them up.
#[derive(Debug)]
pub(super) struct Quantile {
    quantile: f64,
    min_calls: usize,
    window: Duration,
    shards: Sharded<Mutex<Option<Box<LatencyWindow>>>>,
    origin: Instant,
    /// In nanoseconds; 0: not known. It and its end are read one without the other: both are true
    /// enough for a moment.
    known: AtomicU64,
    /// Until when, in nanoseconds after the origin.
    until: AtomicU64,
}

impl Quantile {
    pub(super) fn new(quantile: f64, min_calls: usize, window: Duration, now: Instant) -> Self {
        Self {
            quantile,
            min_calls,
            window,
            shards: Sharded::default(),
            origin: now,
            known: AtomicU64::new(0),
            until: AtomicU64::new(0),
        }
    }

    /// A first attempt took so long, or was cut after it.
    pub(super) fn record(&self, time: Duration, is_cut: bool, now: Instant) {
        let mut shard = lock(self.shards.own());
        let window = shard.get_or_insert_with(|| LatencyWindow::new(self.window, now));
        window.record(time, is_cut, now);
    }

    fn at(&self, now: Instant) -> Option<Duration> {
        let nanos = now.saturating_duration_since(self.origin).as_nanos() as u64;
        let known = self.known.load(Ordering::Relaxed);
        if known > 0 && nanos < self.until.load(Ordering::Relaxed) {
            return Some(Duration::from_nanos(known));
        }
        let delay = self.reckon(now);
        let known = delay.map_or(0, |delay| delay.as_nanos() as u64);
        self.known.store(known, Ordering::Relaxed);
        self.until.store(nanos + (self.window / LOOKS).as_nanos() as u64, Ordering::Relaxed);
        delay
    }

    fn reckon(&self, now: Instant) -> Option<Duration> {
        let calls = self
            .shards
            .iter()
            .map(|shard| lock(shard).as_mut().map_or(0, |window| window.counts(now).calls()));
        if calls.sum::<usize>() < self.min_calls {
            return None;
        }
        let mut sum = LatencyCounts::default();
        for shard in self.shards.iter() {
            if let Some(window) = &mut *lock(shard) {
                sum.add(window.counts(now));
            }
        }
        sum.quantile(self.quantile)
    }
}

/// Counts cannot be left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
