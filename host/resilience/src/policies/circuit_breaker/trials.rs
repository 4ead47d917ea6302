//! The trials of a half-open circuit.
//!
//! A trial succeeds when its response has come whole. It need not: a download may go on for hours.
//! So 1 s after its head it has succeeded if the upstream owes nothing, that is, if some of the
//! body came, or its client does not take what there is.
//!
//! A call whose client is slow with its body gives its place back after a while. So that one such
//! client after the other does not have all places all the time, those that owe nothing come first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How long after a good head a trial may succeed without its end.
const SETTLING: Duration = Duration::from_secs(1);

/// How long places are kept for calls that owe nothing, after one of them has found none.
const KEPT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Trials {
    under_way: Vec<CircuitTrial>,
    begun: u64,
    /// Those that have succeeded, though their bodies may still break off.
    settled: Vec<u64>,
    /// When a call that owed nothing last found no place.
    turned_away: Option<Instant>,
}

#[derive(Debug)]
struct CircuitTrial {
    number: u64,
    since: Instant,
    head: Option<TrialHead>,
}

#[derive(Debug)]
struct TrialHead {
    at: Instant,
    body: Arc<TrialBody>,
}

/// What is known of the body of a trial's response while it comes.
#[derive(Debug, Default)]
pub(super) struct TrialBody {
    /// It was waited for, and nothing of it has come yet. Read by whoever looks, on any thread;
    /// nothing else is told by it.
    is_owed: AtomicBool,
}

impl TrialBody {
    pub(super) fn set_owed(&self, is_owed: bool) {
        self.is_owed.store(is_owed, Ordering::Relaxed);
    }
}

impl Trials {
    /// Those under way.
    pub(super) fn count(&self) -> usize {
        self.under_way.len()
    }

    /// Those under way that time has not decided.
    pub(super) fn undecided(&self, limit: Duration, now: Instant) -> usize {
        let is_expired = |since: Instant| now.saturating_duration_since(since) >= limit;
        let under_way = self.under_way.iter();
        under_way.filter(|trial| !trial.is_good(now) && !is_expired(trial.since)).count()
    }

    /// Whether there is a place, of `most`, for another one, whose client may owe its body.
    pub(super) fn have_place(&mut self, most: usize, owes_body: bool, now: Instant) -> bool {
        let has_place = self.count() < most;
        if owes_body {
            let is_kept = |since: Instant| now.saturating_duration_since(since) < KEPT;
            return has_place && !self.turned_away.is_some_and(is_kept);
        }
        if !has_place {
            self.turned_away = Some(now);
        }
        has_place
    }

    /// Begins one, and numbers it, from 1.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        self.begun += 1;
        self.under_way.push(CircuitTrial { number: self.begun, since: now, head: None });
        self.begun
    }

    /// Ends one. False: it has ended already.
    pub(super) fn end(&mut self, number: u64) -> bool {
        let index = self.under_way.iter().position(|trial| trial.number == number);
        index.map(|index| self.under_way.swap_remove(index)).is_some()
    }

    /// It got a good head.
    pub(super) fn answered(&mut self, number: u64, body: &Arc<TrialBody>, now: Instant) {
        if let Some(trial) = self.under_way.iter_mut().find(|trial| trial.number == number) {
            trial.head = Some(TrialHead { at: now, body: body.clone() });
        }
    }

    /// Whether it has succeeded by [`settle`](Self::settle), which says so once.
    pub(super) fn was_settled(&mut self, number: u64) -> bool {
        let index = self.settled.iter().position(|settled| *settled == number);
        index.map(|index| self.settled.swap_remove(index)).is_some()
    }

    /// Ends those that have taken too long, and says how many: they have failed.
    pub(super) fn expire(&mut self, limit: Duration, now: Instant) -> usize {
        let before = self.under_way.len();
        self.under_way.retain(|trial| {
            now.saturating_duration_since(trial.since) < limit || trial.is_good(now)
        });
        before - self.under_way.len()
    }

    /// Ends those that have succeeded without their end, and says how many.
    pub(super) fn settle(&mut self, now: Instant) -> usize {
        let good = self.under_way.extract_if(.., |trial| trial.is_good(now));
        let before = self.settled.len();
        self.settled.extend(good.map(|trial| trial.number));
        self.settled.len() - before
    }
}

impl CircuitTrial {
    fn is_good(&self, now: Instant) -> bool {
        self.head.as_ref().is_some_and(|head| {
            now.saturating_duration_since(head.at) >= SETTLING
                && !head.body.is_owed.load(Ordering::Relaxed)
        })
    }
}
