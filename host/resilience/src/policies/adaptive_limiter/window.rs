//! What a limiter learns from: results, and what a window of them comes to.

use std::time::Duration;

use tokio::time::Instant;

/// What came of a call that was admitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct LimiterSample {
    /// When it was admitted.
    pub(super) began: Instant,
    /// When it ended.
    pub(super) ended: Instant,
    /// How long the upstream took.
    pub(super) asked: Duration,
    /// The calls in flight when it was admitted, itself included.
    pub(super) in_flight: usize,
    /// The upstream had too much to do.
    pub(super) is_drop: bool,
}

/// Samples, added up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SampleSums {
    count: u64,
    drops: u64,
    asked: Duration,
    shortest: Option<Duration>,
    /// The most calls in flight.
    peak: usize,
    last: Option<Instant>,
}

impl SampleSums {
    pub(super) fn add(&mut self, sample: &LimiterSample) {
        self.merge(Self {
            count: 1,
            drops: u64::from(sample.is_drop),
            asked: sample.asked,
            shortest: Some(sample.asked),
            peak: sample.in_flight,
            last: Some(sample.ended),
        });
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.drops += other.drops;
        self.asked = self.asked.saturating_add(other.asked);
        self.shortest = [self.shortest, other.shortest].into_iter().flatten().min();
        self.peak = self.peak.max(other.peak);
        self.last = self.last.max(other.last);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn shortest(&self) -> Duration {
        self.shortest.unwrap_or_default()
    }

    /// When the last of them came.
    pub(super) fn last(&self) -> Option<Instant> {
        self.last
    }

    /// What they come to, over this time.
    pub(super) fn reading(&self, time: Duration) -> WindowReading {
        let count = self.count.max(1) as f64;
        WindowReading {
            // Never 0: others are divided by it.
            asked: (self.asked.as_secs_f64() / count).max(1e-9),
            throughput: (self.count - self.drops) as f64 / time.as_secs_f64().max(1e-9),
            drops: self.drops as f64 / count,
            peak: self.peak as f64,
        }
    }
}

/// What a window comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct WindowReading {
    /// The mean time that the upstream took, in seconds: means, so that Little's law holds.
    pub(super) asked: f64,
    /// Results a second that are no drops.
    pub(super) throughput: f64,
    /// The share of drops.
    pub(super) drops: f64,
    /// The most calls in flight.
    pub(super) peak: f64,
}
