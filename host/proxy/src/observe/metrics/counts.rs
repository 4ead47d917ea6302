//! Counters that one thread writes and any thread reads, without a lock and without an atomic
//! addition.

use std::array;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fusebox_resilience::{AttemptOutcome, CacheResult, Failure, GrpcStatus, Origin};

/// A number that grows. Only one thread may add at a time.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    fn add_one(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The bounds of durations, in microseconds: from a cache's answer to a patient client's limit.
pub(super) const BOUNDS: [u64; 16] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// Durations, by the bound that they are within; the last are beyond all.
pub(super) const BUCKETS: usize = BOUNDS.len() + 1;

/// How long things took.
#[derive(Debug, Default)]
pub(super) struct Durations {
    buckets: [Count; BUCKETS],
    /// The bits of a float: the nanoseconds of ten thousand patient clients would overflow in
    /// three weeks.
    seconds: AtomicU64,
}

impl Durations {
    fn add(&self, elapsed: Duration) {
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let is_within = |bound: &u64| nanos <= bound * 1000;
        let bucket = BOUNDS.iter().position(is_within).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add_one();
        let seconds = self.seconds() + elapsed.as_secs_f64();
        self.seconds.store(seconds.to_bits(), Relaxed);
    }

    pub(super) fn buckets(&self) -> [u64; BUCKETS] {
        array::from_fn(|bucket| self.buckets[bucket].get())
    }

    pub(super) fn seconds(&self) -> f64 {
        f64::from_bits(self.seconds.load(Relaxed))
    }
}

/// The statuses that are counted by themselves. A response may have any of three digits; the rest
/// is `other`.
pub(super) const STATUSES: std::ops::Range<u16> = 100..600;
/// Counters of this many statuses come together, when the first of them is seen: few routes see
/// many.
const PAGE: usize = 50;
const PAGES: usize = (STATUSES.end - STATUSES.start) as usize / PAGE;

/// Classes of statuses, then failures in their order, then cancelled, then the client's failures.
pub(super) const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
pub(super) const CANCELLED: usize = CLASSES.len() + Failure::ALL.len();
pub(super) const CLIENT: usize = CANCELLED + 1;
pub(super) const OUTCOMES: usize = CLIENT + 1;

/// What one thread counts of a route. Aligned, so that no other thread writes into its first and
/// last cache lines.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Counts {
    pub(super) request_durations: Durations,
    pub(super) attempt_durations: Durations,
    attempts: [Count; OUTCOMES],
    statuses: [OnceLock<Box<[Count; PAGE]>>; PAGES],
    pub(super) other_status: Count,
    pub(super) no_status: Count,
    cache: [Count; CacheResult::ALL.len()],
    /// Few routes have any.
    grpc: OnceLock<Box<[Count; GrpcStatus::ALL.len()]>>,
}

impl Counts {
    pub(super) fn attempt(&self, outcome: AttemptOutcome, elapsed: Duration) {
        self.attempts[outcome_index(outcome)].add_one();
        self.attempt_durations.add(elapsed);
    }

    pub(super) fn request(&self, status: Option<u16>, elapsed: Duration) {
        let counter = match status {
            Some(status) if STATUSES.contains(&status) => {
                let index = usize::from(status - STATUSES.start);
                &self.statuses[index / PAGE]
                    .get_or_init(|| Box::new(array::from_fn(|_| Count::default())))[index % PAGE]
            }
            Some(_) => &self.other_status,
            None => &self.no_status,
        };
        counter.add_one();
        self.request_durations.add(elapsed);
    }

    pub(super) fn cache(&self, result: CacheResult) {
        self.cache[result as usize].add_one();
    }

    pub(super) fn grpc(&self, status: GrpcStatus) {
        let counts = self.grpc.get_or_init(Box::default);
        counts[usize::from(status.number())].add_one();
    }

    /// By number; none if none was seen.
    pub(super) fn grpc_statuses(&self) -> impl Iterator<Item = u64> {
        self.grpc.get().into_iter().flat_map(|counts| counts.iter().map(Count::get))
    }

    /// In the order of `CacheResult::ALL`.
    pub(super) fn cached(&self) -> impl Iterator<Item = u64> {
        self.cache.iter().map(Count::get)
    }

    /// In the order of their indices.
    pub(super) fn attempts(&self) -> impl Iterator<Item = u64> {
        self.attempts.iter().map(Count::get)
    }

    /// Each status that was seen, with its count.
    pub(super) fn statuses(&self) -> impl Iterator<Item = (u16, u64)> {
        let pages = (STATUSES.start..).step_by(PAGE).zip(&self.statuses);
        let counts = pages.flat_map(|(first, page)| {
            (first..).zip(page.get().into_iter().flat_map(|page| page.iter()))
        });
        counts.map(|(status, count)| (status, count.get())).filter(|(_, count)| *count > 0)
    }
}

/// How an attempt ended, by its place in [`Counts::attempts`].
pub(super) fn outcome_index(outcome: AttemptOutcome) -> usize {
    match outcome {
        AttemptOutcome::Response(status) => {
            let class = Some(usize::from(status / 100)).filter(|class| *class < CLASSES.len());
            class.unwrap_or_default()
        }
        AttemptOutcome::Failure(kind) if kind.origin() == Origin::Client => CLIENT,
        AttemptOutcome::Failure(kind) => failure_index(kind.failure()),
        AttemptOutcome::Cancelled => CANCELLED,
    }
}

/// The word for a place in [`Counts::attempts`].
pub(super) fn outcome_word(index: usize) -> &'static str {
    match index {
        CANCELLED => "cancelled",
        CLIENT => "client",
        class if class < CLASSES.len() => CLASSES[class],
        failure => Failure::ALL[failure - CLASSES.len()].name(),
    }
}

/// `Failure::ALL` has them in the order of their declaration. What is none of the others is counted
/// with the statuses that are.
pub(super) fn failure_index(failure: Failure) -> usize {
    if failure == Failure::Other { 0 } else { CLASSES.len() + failure as usize }
}
