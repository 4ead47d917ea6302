//! What is known of a version's calls and faults, and whether it is worse than the one before.

use tokio::time::Instant;

use crate::config::probation::Probation;

/// A version that has had fewer calls is taken to have had so many: it has passed its trial, and it
/// was in use.
const FEW: f64 = 20.0;

/// Whether the exchange on which a version faulted is put to the version before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// It is, and [`Checked`] tells what comes of it.
    Begins,
    /// Too many are already. It will be taken to be as those that are.
    Skipped,
    /// It can't be.
    Impossible,
}

/// What came of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// The version before answers.
    Answers,
    /// It faults too.
    Faults,
    /// It could not be asked.
    Impossible,
    /// There was no time for it.
    Skipped,
}

/// What a version has done while it was current.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ServiceRecord {
    /// Calls in earlier times as the current version.
    calls: u64,
    /// The component's calls when it became current.
    calls_before: u64,
    pub(super) faults: u64,
}

impl ServiceRecord {
    /// It is current from now on.
    pub(super) fn resumed(self, calls: u64) -> Self {
        Self { calls_before: calls, ..self }
    }

    /// It is no longer current.
    pub(super) fn paused(self, calls: u64) -> Self {
        Self { calls: self.calls(calls), ..self }
    }

    pub(super) fn calls(&self, calls: u64) -> u64 {
        self.calls.saturating_add(calls.saturating_sub(self.calls_before))
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct OnProbation {
    since: Instant,
    /// The component's calls before that.
    calls_before: u64,
    /// Faults whose exchange could be put to the version before.
    checkable: u32,
    /// Those that are being put to it;
    pub(super) under_way: u32,
    /// that were, and on which it
    checked: u32,
    /// does not fault.
    own: u32,
    /// Faults whose exchange could not be put to it.
    uncheckable: u32,
}

impl OnProbation {
    pub(super) fn new(now: Instant, calls: u64) -> Self {
        Self {
            since: now,
            calls_before: calls,
            checkable: 0,
            under_way: 0,
            checked: 0,
            own: 0,
            uncheckable: 0,
        }
    }

    /// It begins anew, but its faults are not forgotten.
    pub(super) fn resumed(self, now: Instant, calls: u64) -> Self {
        Self { since: now, calls_before: calls, under_way: 0, ..self }
    }

    pub(super) fn faulted(&mut self, check: Check) {
        let add = |count: &mut u32| *count = count.saturating_add(1);
        match check {
            Check::Impossible => add(&mut self.uncheckable),
            Check::Skipped => add(&mut self.checkable),
            Check::Begins => {
                add(&mut self.checkable);
                add(&mut self.under_way);
            }
        }
    }

    pub(super) fn checked(&mut self, checked: Checked) {
        let add = |count: &mut u32| *count = count.saturating_add(1);
        self.under_way -= 1;
        match checked {
            Checked::Answers => {
                add(&mut self.checked);
                add(&mut self.own);
            }
            Checked::Faults => add(&mut self.checked),
            Checked::Impossible => {
                self.checkable = self.checkable.saturating_sub(1);
                add(&mut self.uncheckable);
            }
            Checked::Skipped => {}
        }
    }

    /// Faults that count.
    pub(super) fn own_faults(&self) -> u32 {
        self.own.saturating_add(self.uncheckable)
    }

    /// Whether it faults by itself more than twice as often as the version before, whose record is
    /// this, with `calls` calls so far; or with more than half of them, whatever that one does.
    ///
    /// Of the faults that were not checked as many are its own, in proportion, as of those that
    /// were. The checks are calls of the version before too. One fault more on its side keeps
    /// chance from mattering.
    pub(super) fn is_worse(&self, calls: u64, before: &ServiceRecord) -> bool {
        let share = f64::from(self.own) / f64::from(self.checked.max(1));
        let own = f64::from(self.uncheckable) + f64::from(self.checkable) * share;
        let rate = own / (calls as f64).max(own);
        let faults = before.faults as f64 + f64::from(self.checked - self.own);
        let calls = (before.calls as f64 + f64::from(self.checked)).max(FEW);
        let rate_before = (faults + 1.0) / (calls + 1.0);
        rate > (2.0 * rate_before).min(0.5)
    }

    /// Whether it has passed it: its time is over, and no fault of that time is being checked.
    pub(super) fn is_over(&self, length: Probation, now: Instant, calls: u64) -> bool {
        self.under_way == 0 && self.has_ended(length, now, calls)
    }

    /// Whether further faults are none of probation.
    pub(super) fn has_ended(&self, length: Probation, now: Instant, calls: u64) -> bool {
        match length {
            Probation::Calls(0) => true,
            Probation::Calls(limit) => calls.saturating_sub(self.calls_before) > limit,
            Probation::Time(limit) => now.saturating_duration_since(self.since) >= limit.0,
        }
    }
}
