//! The state machine of a seat: which version is current, which are kept, and what faults lead to.
//!
//! ```text
//!              admit                  probation over
//!   (absent) ---------> probation --------------------> serving
//!                         |   ^                           |   ^
//!   more than max_faults: |   | admit                     |   | a trial call succeeds
//!   the previous version  |   | (from every state)        v   |
//!   is back, and serves   v                             quarantined
//! ```
//!
//! A roll-back after faults restores the latest proven version, if there is one: a version is
//! proven when its probation is over. A version that was replaced before that continues its
//! probation when it is restored. The latest proven version is always kept. A version that nothing
//! can be rolled back to is quarantined on probation too. Faults of a version that is no longer
//! current change nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::ComponentConfig;
use crate::config::probation::Probation;

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
    /// `None`: probation is over.
    probation: Option<OnProbation>,
    faults_in_a_row: u32,
    /// When the next trial call may be made, if it is in quarantine.
    next_trial: Option<Instant>,
}

/// A version that was current.
#[derive(Clone, Debug)]
struct KeptVersion<V> {
    generation: u64,
    version: V,
    /// Its faults on probation; `None`: its probation was over.
    faults: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct OnProbation {
    since: Instant,
    /// The component's calls before that.
    calls_before: u64,
    faults: u32,
}

/// The consequence of a fault.
#[derive(Debug, PartialEq)]
pub(crate) enum Consequence<V> {
    /// Nothing.
    None,
    /// After `faults` faults on probation, `to` is current again in place of `from`.
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
        let probation = Some(OnProbation { since: now, calls_before: calls, faults: 0 });
        let new = Tenure {
            generation: self.generations,
            version,
            probation,
            faults_in_a_row: 0,
            next_trial: None,
        };
        let old = self.current.replace(new)?;
        let on_probation =
            old.probation.filter(|probation| !probation.is_over(self.rules.probation, now, calls));
        let faults = on_probation.map(|probation| probation.faults);
        self.kept.push(KeptVersion {
            generation: old.generation,
            version: old.version.clone(),
            faults,
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
        self.kept.iter().rposition(|kept| kept.faults.is_none())
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

    /// Records a failed call of this generation.
    pub(crate) fn faulted(&mut self, generation: u64, now: Instant, calls: u64) -> Consequence<V> {
        let rules = self.rules;
        let Some(tenure) = self.current.as_mut().filter(|tenure| tenure.generation == generation)
        else {
            return Consequence::None;
        };
        tenure.faults_in_a_row = tenure.faults_in_a_row.saturating_add(1);
        let in_a_row = tenure.faults_in_a_row;
        if let Some(probation) = &mut tenure.probation {
            if probation.is_over(rules.probation, now, calls) {
                tenure.probation = None;
            } else {
                probation.faults = probation.faults.saturating_add(1);
                let faults = probation.faults;
                if let Some(latest) = self.kept.len().checked_sub(1) {
                    // It can be rolled back, so it is not quarantined before that.
                    if faults <= rules.max_faults {
                        return Consequence::None;
                    }
                    let target = self.latest_proven().unwrap_or(latest);
                    if let Some((from, to)) = self.put_back(target, now, calls) {
                        return Consequence::RolledBack { from, to, faults };
                    }
                }
            }
        }
        match &mut self.current {
            Some(tenure) if tenure.next_trial.is_none() && in_a_row >= rules.quarantine_after => {
                tenure.next_trial = Some(now + rules.quarantine_interval);
                Consequence::Quarantined { faults: in_a_row }
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
        let KeptVersion { generation, version, faults } = self.kept.drain(index..).next()?;
        let probation =
            faults.map(|faults| OnProbation { since: now, calls_before: calls, faults });
        let tenure = Tenure {
            generation,
            version: version.clone(),
            probation,
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

impl OnProbation {
    fn is_over(&self, length: Probation, now: Instant, calls: u64) -> bool {
        match length {
            Probation::Calls(0) => true,
            Probation::Calls(limit) => calls.saturating_sub(self.calls_before) > limit,
            Probation::Time(limit) => now.saturating_duration_since(self.since) >= limit.0,
        }
    }
}

#[cfg(test)]
mod tests;
