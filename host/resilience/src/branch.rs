//! One of several runs that a policy makes at once, and the attempts within it.
//!
//! Where runs follow one another, whatever attempt began last is the one that the run under way has
//! made. Where they race that is not so, and each run counts its own.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

use crate::call::Call;
use crate::clock;

/// One of several runs at once. Attempts within it note their begin and their end.
#[derive(Debug, Default)]
pub(crate) struct Branch<'a> {
    /// Which it is within.
    outer: Option<&'a Branch<'a>>,
    /// The numbers of the first and the last attempt that began; 0: none has.
    first: Cell<u32>,
    last: Cell<u32>,
    running: Cell<u32>,
    /// When the last one began, and for how long the call had starved before.
    began: Cell<Option<(Instant, Duration)>>,
}

impl<'a> Branch<'a> {
    /// A branch within the outer one, if there is one.
    pub(crate) fn within(outer: Option<&'a Self>) -> Self {
        Self { outer, ..Self::default() }
    }

    fn and_outer(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |branch| branch.outer)
    }

    /// An attempt begins.
    pub(crate) fn begin(&self, attempt: u32, now: Instant, starved: Duration) {
        for branch in self.and_outer() {
            if branch.first.get() == 0 {
                branch.first.set(attempt);
            }
            branch.last.set(attempt);
            branch.running.set(branch.running.get() + 1);
            branch.began.set(Some((now, starved)));
        }
    }

    /// It ends.
    pub(crate) fn end(&self) {
        for branch in self.and_outer() {
            branch.running.set(branch.running.get() - 1);
        }
    }

    /// The number of the first attempt; 0: none has begun.
    pub(crate) fn first_attempt(&self) -> u32 {
        self.first.get()
    }

    /// The number of the last attempt that began; 0: none has.
    pub(crate) fn last_attempt(&self) -> u32 {
        self.last.get()
    }

    /// Whether an attempt is under way. If not, the time is ours: a queue, or a delay.
    pub(crate) fn is_asking(&self) -> bool {
        self.running.get() > 0
    }

    /// The time since the last attempt began, whether or not it has ended, less that in which the
    /// client was waited for.
    pub(crate) fn asked(&self, call: &Call) -> Option<Duration> {
        let (began, starved) = self.began.get()?;
        Some((clock::now() - began).saturating_sub(call.starved().time.saturating_sub(starved)))
    }
}
