//! The record of a named component: its versions, the results of their calls, and the events about
//! them.
//!
//! What faults lead to is decided by the state machine in [`life`](crate::life).

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusebox_resilience::{ComponentEvent, ComponentId, EventKind, Exchange, Observers, Reporter};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cases::capture::{Said, captured};
use crate::config::ComponentConfig;
use crate::contract::{FALLBACK, PREDICATE};
use crate::fault::GuestFailure;
use crate::life::{Consequence, Life, Rules};
use crate::meters::Meters;
use crate::status::{ComponentRejection, ComponentStatus};
use crate::throttle::{Passage, Throttle};
use crate::version::{Needs, Version};

/// Shared by the seat and all callers.
pub(crate) struct Ledger {
    name: Arc<str>,
    file: PathBuf,
    config: Arc<ComponentConfig>,
    observers: Observers,
    meters: Arc<Meters>,
    swaps: watch::Sender<u64>,
    record: Mutex<LedgerRecord>,
    /// Whether calls must check `record` first and report success. A healthy component needs no
    /// lock.
    is_troubled: AtomicBool,
    printed: Throttle,
    captured: Throttle,
}

pub(super) struct LedgerRecord {
    pub(super) life: Life<Arc<Version>>,
    pub(super) needs: Needs,
    /// The digests that were rolled back since the file last had other content. They are not
    /// loaded from the file again, but may be pushed.
    pub(super) rolled_back: BTreeSet<Arc<str>>,
    pub(super) rejection: Option<ComponentRejection>,
    /// The digest that was last pushed into the file, as long as the file that it replaced is
    /// kept.
    pub(super) pushed: Option<Arc<str>>,
    /// The file may still have content that was rolled back.
    pub(super) is_unsettled: bool,
}

impl Ledger {
    /// It has no version yet.
    pub(super) fn new(
        name: Arc<str>,
        file: PathBuf,
        config: Arc<ComponentConfig>,
        observers: Observers,
        swaps: watch::Sender<u64>,
    ) -> Self {
        let record = LedgerRecord {
            life: Life::new(Rules::of(&config)),
            needs: Needs::default(),
            rolled_back: BTreeSet::new(),
            rejection: None,
            pushed: None,
            is_unsettled: false,
        };
        Self {
            name,
            file,
            observers,
            meters: Arc::default(),
            swaps,
            record: Mutex::new(record),
            is_troubled: AtomicBool::new(true),
            printed: Throttle::new(config.log_rate),
            captured: Throttle::new(config.capture),
            config,
        }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn config(&self) -> &Arc<ComponentConfig> {
        &self.config
    }

    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// From now on only versions that answer `handle-if` are accepted.
    ///
    /// # Errors
    /// The version in use does not.
    pub(crate) fn need_predicate(&self) -> Result<(), String> {
        let mut record = self.record();
        let has = record.life.current().is_none_or(|version| version.exports().has_predicate());
        record.needs.predicate |= has;
        if has { Ok(()) } else { Err(self.missing(PREDICATE)) }
    }

    /// From now on only versions that make fallback responses are accepted.
    ///
    /// # Errors
    /// The version in use does not.
    pub(crate) fn need_fallback(&self) -> Result<(), String> {
        let mut record = self.record();
        let has = record.life.current().is_none_or(|version| version.can_respond());
        record.needs.fallback |= has;
        if has { Ok(()) } else { Err(self.missing(FALLBACK)) }
    }

    fn missing(&self, export: &str) -> String {
        format!("component `{}` ({}): missing export `{export}`", self.name, self.file.display())
    }

    /// Whether the component may be called now. A refusal is counted.
    pub(crate) fn may_call(&self) -> bool {
        let may = !self.is_troubled.load(Ordering::Relaxed)
            || self.record().life.may_call(Instant::now());
        if !may {
            self.meters.skipped();
        }
        may
    }

    /// Records a failed call into `version`.
    pub(crate) fn failed(
        &self,
        reporter: &Reporter,
        policy: &str,
        version: &Version,
        failure: GuestFailure,
    ) {
        self.meters.faulted(failure.fault);
        let kind = EventKind::Component(ComponentEvent::Faulted {
            component: version.id().clone(),
            fault: failure.fault,
            detail: failure.detail.into(),
        });
        self.printed(reporter, policy, version, failure.printed);
        reporter.emit(policy, kind);
        if failure.fault.is_own() {
            self.bear_the_consequences(version);
        }
    }

    fn bear_the_consequences(&self, version: &Version) {
        let mut record = self.record();
        match record.life.faulted(version.id().generation, Instant::now(), self.meters.calls()) {
            Consequence::None => self.update(&record),
            Consequence::RolledBack { from, to, faults } => {
                self.rolled_back(record, &from, &to, Some(faults))
            }
            Consequence::Quarantined { faults } => {
                self.update(&record);
                drop(record);
                let (component, interval) =
                    (version.id().clone(), self.config.quarantine_interval.0);
                self.emit(EventKind::Component(ComponentEvent::Quarantined {
                    component,
                    faults,
                    interval,
                }));
            }
        }
    }

    /// Records a successful call into `version`.
    pub(crate) fn succeeded_with(&self, version: &Version) {
        if self.is_troubled.load(Ordering::Relaxed) {
            self.succeeded(version);
        }
    }

    fn succeeded(&self, version: &Version) {
        let mut record = self.record();
        let is_back = record.life.succeeded(version.id().generation);
        self.update(&record);
        drop(record);
        if is_back {
            self.emit(EventKind::Component(ComponentEvent::Released {
                component: version.id().clone(),
            }));
        }
    }

    pub(super) fn rolled_back(
        &self,
        mut record: MutexGuard<'_, LedgerRecord>,
        from: &Version,
        to: &Version,
        faults: Option<u32>,
    ) {
        to.reinstate();
        record.rolled_back.insert(from.id().digest.clone());
        record.is_unsettled = true;
        self.switched(record, Some(from));
        let (component, from) = (to.id().clone(), from.id().clone());
        self.emit(EventKind::Component(ComponentEvent::RolledBack { component, from, faults }));
    }

    /// Another version is in use now.
    pub(super) fn switched(&self, record: MutexGuard<'_, LedgerRecord>, old: Option<&Version>) {
        // Only now: a caller that finds its instance retired must find the new version. And before
        // a roll-back can reinstate it.
        old.inspect(|old| old.retire());
        self.update(&record);
        drop(record);
        self.swaps.send_modify(|swaps| *swaps += 1);
    }

    fn update(&self, record: &LedgerRecord) {
        self.is_troubled.store(record.life.is_troubled(), Ordering::Relaxed);
    }

    /// Emits the lines that the guest printed in a call.
    pub(crate) fn printed(
        &self,
        reporter: &Reporter,
        policy: &str,
        version: &Version,
        lines: Vec<String>,
    ) {
        for line in lines {
            let emit = |line: String| {
                let kind = EventKind::Component(ComponentEvent::Printed {
                    component: version.id().clone(),
                    line: line.into(),
                });
                reporter.emit(policy, kind);
            };
            if let Passage::Passes { dropped } = self.printed.line(Instant::now()) {
                if dropped > 0 {
                    emit(format!(
                        "({dropped} lines dropped: more than {} in a second)",
                        self.config.log_rate
                    ));
                }
                emit(line);
            }
        }
    }

    /// Emits the exchange as a case, if `capture` is set and its rate allows it.
    pub(crate) fn capture(&self, seen: &Exchange<'_>, said: &Said<'_>) {
        if self.config.capture == 0 || self.captured.line(Instant::now()) == Passage::Dropped {
            return;
        }
        if let Some(version) = self.current() {
            let peeked = self.config.peek().map_or(0, |peek| peek.bytes);
            let case = captured(seen, peeked, said).into();
            seen.call.emit(
                seen.policy,
                EventKind::Component(ComponentEvent::Captured {
                    component: version.id().clone(),
                    case,
                }),
            );
        }
    }

    pub(crate) fn status(&self) -> ComponentStatus {
        let (now, calls) = (Instant::now(), self.meters.calls());
        let record = self.record();
        let version = record.life.current();
        ComponentStatus {
            name: self.name.clone(),
            file: self.file.clone(),
            version: version.map(|version| version.id().clone()),
            standing: record.life.standing(now, calls),
            is_predicate: version.is_some_and(|version| version.exports().has_predicate()),
            is_fallback: version.is_some_and(|version| version.can_respond()),
            kept: record.life.kept().map(|version| version.id().clone()).collect(),
            rejection: record.rejection.clone(),
            calls,
            call_times: self.meters.call_times(),
            skipped: self.meters.skips(),
            faults: self.meters.faults(),
            instances: self.meters.instances(),
            memory: self.meters.memory(),
        }
    }

    pub(super) fn emit(&self, kind: EventKind) {
        self.observers.emit_for_policy(None, &kind);
    }

    /// The version in use.
    pub(crate) fn current(&self) -> Option<Arc<Version>> {
        self.record().life.current().cloned()
    }

    /// Held for a few lines at a time, none of which panics.
    pub(super) fn record(&self) -> MutexGuard<'_, LedgerRecord> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ledger {
    /// No caller is left: workers should drop the instances that they keep.
    fn drop(&mut self) {
        self.current().inspect(|version| version.retire());
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let component: Option<ComponentId> = self.current().map(|version| version.id().clone());
        f.debug_struct("Ledger")
            .field("name", &self.name)
            .field("component", &component)
            .finish_non_exhaustive()
    }
}
