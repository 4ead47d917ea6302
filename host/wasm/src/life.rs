//! The state machine of a seat: which version is current, which are kept, and what faults lead to.
//!
//! ```text
//!              admit                  probation over
//!   (absent) ---------> probation --------------------> serving
//!                         |   ^                           |   ^
//!   too many faults of    |   | admit                     |   | a trial call succeeds
//!   its own: the previous |   | (from every state)        v   |
//!   version is back       v                             quarantined
//! ```
//!
//! A fault on probation is the version's own if the version before answers the same exchange
//! ([`Check`]): whoever sends what neither can answer must not be able to keep a new version out.
//! What is too many is in [`OnProbation::is_worse`].
//!
//! A roll-back after faults restores the latest proven version, if there is one: a version is
//! proven when its probation is over. A version that was replaced before that continues its
//! probation when it is restored. The latest proven version is always kept. A version that nothing
//! can be rolled back to is quarantined on probation too. Faults of a version that is no longer
//! current change nothing.

mod probation;

use std::time::Duration;

use tokio::time::Instant;

use self::probation::{OnProbation, ServiceRecord};
use crate::config::ComponentConfig;
use crate::config::probation::Probation;

pub(crate) use self::probation::{Check, Checked};

/// The rules about versions that fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) probation: Probation,
    /// Faults that probation tolerates.
    pub(crate) max_faults: u32,
    /// Faults in a row that lead to quarantine.
    pub(crate) quarantine_after: u32,
    /// How often a component in quarantine gets a trial call.
    pub(crate) quarantine_interval: Duration,
    /// How many earlier versions are kept.
    pub(crate) keep: usize,
}

impl Rules {
    pub(crate) fn of(config: &ComponentConfig) -> Self {
        Self {
            probation: config.probation,
            max_faults: config.max_faults,
            quarantine_after: config.quarantine_after,
            quarantine_interval: config.quarantine_interval.0,
            keep: config.keep_versions,
        }
    }
}

/// Where the current version stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentStanding {
    /// No version: the file of an `optional` component has no acceptable content yet.
    Absent,
    /// It is new: faults roll back to the previous version.
    Probation,
    /// Its probation is over.
    Serving,
    /// It kept faulting: it is only called for occasional trials.
    Quarantined,
}

impl ComponentStanding {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Absent, Self::Probation, Self::Serving, Self::Quarantined];

    /// Its word in `/state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Probation => "probation",
            Self::Serving => "serving",
            Self::Quarantined => "quarantined",
        }
    }
}

/// The versions of a seat. `V` is a version; they are told apart by the generation that each was
/// admitted with.
#[derive(Clone, Debug)]
pub(crate) struct Life<V> {
    rules: Rules,
    current: Option<Tenure<V>>,
    /// Earlier versions that can be rolled back to, the latest last.
    kept: Vec<KeptVersion<V>>,
    generations: u64,
}

/// A version's time as the current one.
#[derive(Clone, Debug)]
struct Tenure<V> {
    generation: u64,
    version: V,
    /// `None`: it was over when it was put back.
    probation: Option<OnProbation>,
    record: ServiceRecord,
    faults_in_a_row: u32,
    /// When the next trial call may be made, if it is in quarantine.
    next_trial: Option<Instant>,
}

/// A version that was current.
#[derive(Clone, Debug)]
struct KeptVersion<V> {
    generation: u64,
    version: V,
    /// `None`: its probation was over.
    probation: Option<OnProbation>,
    record: ServiceRecord,
}

/// The consequence of a fault.
#[derive(Debug, PartialEq)]
pub(crate) enum Consequence<V> {
    /// Nothing.
    None,
    /// After `faults` faults of its own on probation, `to` is current again in place of `from`.
    RolledBack { from: V, to: V, faults: u32 },
    /// It is quarantined after `faults` faults in a row.
    Quarantined { faults: u32 },
}

impl<V: Clone> Life<V> {
    /// No version is admitted yet.
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, current: None, kept: Vec::new(), generations: 0 }
    }

    pub(crate) fn current(&self) -> Option<&V> {
        self.current.as_ref().map(|tenure| &tenure.version)
    }

    /// Earlier versions that can be rolled back to, the latest first.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &V> {
        self.kept.iter().rev().map(|kept| &kept.version)
    }

    /// The number that the next version gets.
    pub(crate) fn next_generation(&self) -> u64 {
        self.generations + 1
    }

    /// Makes `version` the current one, on probation, and keeps the one that it replaces. `calls`
    /// is how many calls the component has had. Returns what it replaces.
    pub(crate) fn admit(&mut self, version: V, now: Instant, calls: u64) -> Option<V> {
        self.generations += 1;
        let probation = Some(OnProbation::new(now, calls));
        let new = Tenure {
            generation: self.generations,
            version,
            probation,
            record: ServiceRecord::default().resumed(calls),
            faults_in_a_row: 0,
            next_trial: None,
        };
        let old = self.current.replace(new)?;
        let probation =
            old.probation.filter(|probation| !probation.is_over(self.rules.probation, now, calls));
        self.kept.push(KeptVersion {
            generation: old.generation,
            version: old.version.clone(),
            probation,
            record: old.record.paused(calls),
        });
        while self.kept.len() > self.rules.keep {
            let proven = self.latest_proven();
            let oldest = usize::from(proven == Some(0) && self.kept.len() > 1);
            self.kept.remove(oldest);
        }
        Some(old.version)
    }

    /// The index of the latest kept version whose probation was over.
    fn latest_proven(&self) -> Option<usize> {
        self.kept.iter().rposition(|kept| kept.probation.is_none())
    }

    /// Whether the current version may be called now. In quarantine that is once per interval:
    /// `true` grants a trial call.
    pub(crate) fn may_call(&mut self, now: Instant) -> bool {
        let interval = self.rules.quarantine_interval;
        match self.current.as_mut().map(|tenure| &mut tenure.next_trial) {
            None => false,
            Some(None) => true,
            Some(Some(next)) => {
                let due = now >= *next;
                if due {
                    *next = now + interval;
                }
                due
            }
        }
    }

    /// Records a successful call of this generation. Returns whether that ends its quarantine.
    pub(crate) fn succeeded(&mut self, generation: u64) -> bool {
        match &mut self.current {
            Some(tenure) if tenure.generation == generation => {
                tenure.faults_in_a_row = 0;
                tenure.next_trial.take().is_some()
            }
            _ => false,
        }
    }

    /// The version that faults of this generation would be put to: the one that would be put back.
    pub(crate) fn check_against(&self, generation: u64, now: Instant, calls: u64) -> Option<&V> {
        let tenure = self.current.as_ref().filter(|tenure| tenure.generation == generation)?;
        let probation = tenure.probation.as_ref()?;
        let has_ended = probation.has_ended(self.rules.probation, now, calls);
        self.kept.get(self.target().filter(|_| !has_ended)?).map(|kept| &kept.version)
    }

    /// Whether faults of the current version would be checked.
    pub(crate) fn may_check(&self, now: Instant, calls: u64) -> bool {
        let generation = self.current.as_ref().map(|tenure| tenure.generation);
        generation.is_some_and(|current| self.check_against(current, now, calls).is_some())
    }

    /// The index of the version that faults lead back to.
    fn target(&self) -> Option<usize> {
        self.latest_proven().or_else(|| self.kept.len().checked_sub(1))
    }

    /// Records a failed call of this generation.
    pub(crate) fn faulted(
        &mut self,
        generation: u64,
        now: Instant,
        calls: u64,
        check: Check,
    ) -> Consequence<V> {
        let is_tried = self.check_against(generation, now, calls).is_some();
        let Some(tenure) = self.current.as_mut().filter(|tenure| tenure.generation == generation)
        else {
            return Consequence::None;
        };
        tenure.faults_in_a_row = tenure.faults_in_a_row.saturating_add(1);
        tenure.record.faults = tenure.record.faults.saturating_add(1);
        if let Some(probation) = tenure.probation.as_mut().filter(|_| is_tried) {
            probation.faulted(check);
        }
        if is_tried { self.judge(now, calls) } else { self.quarantine(now) }
    }

    /// Records whether the version before faults on an exchange that this generation faulted on.
    pub(crate) fn checked(
        &mut self,
        generation: u64,
        now: Instant,
        calls: u64,
        checked: Checked,
    ) -> Consequence<V> {
        let tenure = self.current.as_mut().filter(|tenure| tenure.generation == generation);
        let probation = tenure.and_then(|tenure| tenure.probation.as_mut());
        // It may have been replaced and put back since.
        let Some(probation) = probation.filter(|probation| probation.under_way > 0) else {
            return Consequence::None;
        };
        probation.checked(checked);
        // The fault was one of probation, even if its time is over by now.
        self.judge(now, calls)
    }

    /// What the faults of a version on probation lead to.
    fn judge(&mut self, now: Instant, calls: u64) -> Consequence<V> {
        let (Some(tenure), Some(index)) = (&self.current, self.target()) else {
            return Consequence::None;
        };
        let (Some(probation), before) = (tenure.probation, &self.kept[index].record) else {
            return Consequence::None;
        };
        let faults = probation.own_faults();
        if faults > self.rules.max_faults
            && probation.is_worse(tenure.record.calls(calls), before)
            && let Some((from, to)) = self.put_back(index, now, calls)
        {
            return Consequence::RolledBack { from, to, faults };
        }
        // What is being checked may lead to a roll-back, which is better.
        if probation.under_way == 0 { self.quarantine(now) } else { Consequence::None }
    }

    fn quarantine(&mut self, now: Instant) -> Consequence<V> {
        match &mut self.current {
            Some(tenure)
                if tenure.next_trial.is_none()
                    && tenure.faults_in_a_row >= self.rules.quarantine_after =>
            {
                tenure.next_trial = Some(now + self.rules.quarantine_interval);
                Consequence::Quarantined { faults: tenure.faults_in_a_row }
            }
            _ => Consequence::None,
        }
    }

    /// Makes the latest kept version the current one, proven or not, and drops the current one.
    /// Returns both, or `None` if no version is kept.
    pub(crate) fn roll_back(&mut self, now: Instant, calls: u64) -> Option<(V, V)> {
        self.put_back(self.kept.len().checked_sub(1)?, now, calls)
    }

    /// Makes a kept version the current one, and drops the current one and those in between.
    fn put_back(&mut self, index: usize, now: Instant, calls: u64) -> Option<(V, V)> {
        let kept = self.kept.drain(index..).next()?;
        let KeptVersion { generation, version, probation, record } = kept;
        let probation = probation.map(|probation| probation.resumed(now, calls));
        let tenure = Tenure {
            generation,
            version: version.clone(),
            probation,
            record: record.resumed(calls),
            faults_in_a_row: 0,
            next_trial: None,
        };
        let out = self.current.replace(tenure)?;
        Some((out.version, version))
    }

    /// Whether calls must ask [`may_call`](Self::may_call) first, and report success.
    pub(crate) fn is_troubled(&self) -> bool {
        self.current
            .as_ref()
            .is_none_or(|tenure| tenure.faults_in_a_row > 0 || tenure.next_trial.is_some())
    }

    /// Whether the current version is proven.
    #[cfg(test)]
    fn is_proven(&self, now: Instant, calls: u64) -> bool {
        let tenure = self.current.as_ref();
        tenure.is_some_and(|tenure| {
            tenure
                .probation
                .is_none_or(|probation| probation.is_over(self.rules.probation, now, calls))
        })
    }

    pub(crate) fn standing(&self, now: Instant, calls: u64) -> ComponentStanding {
        match &self.current {
            None => ComponentStanding::Absent,
            Some(tenure) if tenure.next_trial.is_some() => ComponentStanding::Quarantined,
            Some(Tenure { probation: Some(probation), .. })
                if !probation.is_over(self.rules.probation, now, calls) =>
            {
                ComponentStanding::Probation
            }
            Some(_) => ComponentStanding::Serving,
        }
    }
}

#[cfg(test)]
mod tests;
