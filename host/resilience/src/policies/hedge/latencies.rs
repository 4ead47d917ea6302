//! How long first attempts take, pure: a quantile of those of the last while.
//!
//! Times are counted on a logarithmic scale, sixteen steps for each doubling, so that none is told
//! wrong by more than a thirtieth.
//!
//! An attempt that was cut would have taken longer than it ran, but nobody knows by how much. To
//! leave it out would make the quantile sink, and with it the delay of hedges, which then cut off
//! more and more. So it counts among those that took longer, until the time at which it was cut:
//! the estimate of Kaplan and Meier.

use std::time::Duration;

use tokio::time::Instant;

/// Doublings from 16 µs, below which nobody hedges, to half an hour.
const DOUBLINGS: u32 = 27;
const SHORTEST: u32 = 14;
const STEPS: u32 = 4;
const BUCKETS: usize = (DOUBLINGS as usize) << STEPS;
const SLICES: usize = 10;

/// Times by bucket.
#[derive(Clone, Debug)]
pub(super) struct LatencyCounts {
    ended: [u32; BUCKETS],
    cut: [u32; BUCKETS],
    calls: usize,
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self { ended: [0; BUCKETS], cut: [0; BUCKETS], calls: 0 }
    }
}

impl LatencyCounts {
    /// How many there are.
    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    fn record(&mut self, time: Duration, is_cut: bool) {
        let counts = if is_cut { &mut self.cut } else { &mut self.ended };
        counts[bucket(time)] += 1;
        self.calls += 1;
    }

    /// Adds others.
    pub(super) fn add(&mut self, others: &Self) {
        self.each(others, |count, other| *count += other);
        self.calls += others.calls;
    }

    fn remove(&mut self, others: &Self) {
        self.each(others, |count, other| *count -= other);
        self.calls -= others.calls;
    }

    fn each(&mut self, others: &Self, change: impl Fn(&mut u32, u32)) {
        let pairs = self.ended.iter_mut().zip(&others.ended);
        pairs.chain(self.cut.iter_mut().zip(&others.cut)).for_each(|(it, of)| change(it, *of));
    }

    /// The time within which this part of the attempts gets its answer. If fewer are known to, it
    /// is the longest time that is known.
    pub(super) fn quantile(&self, quantile: f64) -> Option<Duration> {
        let mut at_risk = self.calls as f64;
        let mut longer = 1.0;
        let mut longest = None;
        for (bucket, (&ended, &cut)) in self.ended.iter().zip(&self.cut).enumerate() {
            if ended + cut == 0 {
                continue;
            }
            longest = Some(middle(bucket));
            longer *= 1.0 - f64::from(ended) / at_risk;
            at_risk -= f64::from(ended + cut);
            if longer <= 1.0 - quantile + 1e-9 {
                break;
            }
        }
        longest
    }
}

fn bucket(time: Duration) -> usize {
    let longest = (1 << (SHORTEST + DOUBLINGS)) - 1;
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(longest).clamp(1 << SHORTEST, longest);
    let doubling = nanos.ilog2();
    let step = (nanos >> (doubling - STEPS)) as usize & ((1 << STEPS) - 1);
    ((doubling - SHORTEST) as usize) << STEPS | step
}

/// The middle of its times.
fn middle(bucket: usize) -> Duration {
    let (doubling, step) = (bucket >> STEPS, bucket as u64 & ((1 << STEPS) - 1));
    let width = 1_u64 << (SHORTEST + doubling as u32 - STEPS);
    Duration::from_nanos(((1 << STEPS) + step) * width + width / 2)
}

/// Times of the last while, in ten slices of it.
#[derive(Debug)]
pub(super) struct LatencyWindow {
    /// How long one slice is.
    length: Duration,
    /// When the one under way ends.
    ends: Instant,
    current: usize,
    slices: [LatencyCounts; SLICES],
    /// Of all slices.
    sum: LatencyCounts,
}

impl LatencyWindow {
    pub(super) fn new(window: Duration, now: Instant) -> Box<Self> {
        let length = (window / SLICES as u32).max(Duration::from_nanos(1));
        Box::new(Self {
            length,
            ends: now + length,
            current: 0,
            slices: Default::default(),
            sum: LatencyCounts::default(),
        })
    }

    /// An attempt took so long, or was cut after it.
    pub(super) fn record(&mut self, time: Duration, is_cut: bool, now: Instant) {
        self.advance(now);
        self.slices[self.current].record(time, is_cut);
        self.sum.record(time, is_cut);
    }

    /// Those of the window.
    pub(super) fn counts(&mut self, now: Instant) -> &LatencyCounts {
        self.advance(now);
        &self.sum
    }

    /// Forgets the slices that have left the window.
    fn advance(&mut self, now: Instant) {
        let mut left = SLICES;
        while now >= self.ends && left > 0 {
            self.current = (self.current + 1) % SLICES;
            self.ends += self.length;
            let slice = &mut self.slices[self.current];
            if slice.calls > 0 {
                self.sum.remove(slice);
                *slice = LatencyCounts::default();
            }
            left -= 1;
        }
        if now >= self.ends {
            // A pause longer than the window: all is empty.
            self.ends = now + self.length;
        }
    }
}

#[cfg(test)]
mod tests;
