//! The record of a named component: its versions, the results of their calls, and the events about
//! them.
//!
//! What faults lead to is decided by the state machine in [`life`](crate::life).

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusebox_resilience::{ComponentEvent, ComponentId, EventKind, Observers, Reporter};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::cases::capture::{Said, captured};
use crate::config::ComponentConfig;
use crate::contract::ContractExport;
use crate::cross_check::{CrossCheck, CrossChecks, Tell};
use crate::exchange_copy::ExchangeCopy;
use crate::fault::GuestFailure;
use crate::life::{Check, Checked, Consequence, Life, Rules};
use crate::meters::Meters;
use crate::question::GuestQuestion;
use crate::status::{ComponentRejection, ComponentStatus};
use crate::throttle::{Passage, Throttle};
use crate::version::Version;

/// Exchanges that are put to the version before, in a second.
const CHECKS: u32 = 10;

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
    /// Whether faults of the version in use may be checked, so that exchanges are worth a copy.
    may_check: AtomicBool,
    /// Whether the version in use reads trailers, for those who would keep a head for it.
    reads_trailers: AtomicBool,
    checks: CrossChecks,
    printed: Throttle,
    captured: Throttle,
    checked: Throttle,
}

pub(super) struct LedgerRecord {
    pub(super) life: Life<Arc<Version>>,
    /// What policies ask for.
    pub(super) needs: BTreeSet<ContractExport>,
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
        checks: CrossChecks,
    ) -> Self {
        let record = LedgerRecord {
            life: Life::new(Rules::of(&config)),
            needs: BTreeSet::new(),
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
            may_check: AtomicBool::new(false),
            reads_trailers: AtomicBool::new(false),
            checks,
            printed: Throttle::new(config.log_rate),
            captured: Throttle::new(config.capture),
            checked: Throttle::new(CHECKS),
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

    /// From now on only versions with this export are accepted.
    ///
    /// # Errors
    /// The version in use has none.
    pub(crate) fn need(&self, export: ContractExport) -> Result<(), String> {
        let mut record = self.record();
        if record.life.current().is_none_or(|version| version.has(export)) {
            record.needs.insert(export);
            return Ok(());
        }
        let (name, file, export) = (&self.name, self.file.display(), export.name());
        Err(format!("component `{name}` ({file}): missing export `{export}`"))
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

    /// Whether the version in use reads trailers.
    pub(crate) fn reads_trailers(&self) -> bool {
        self.reads_trailers.load(Ordering::Relaxed)
    }

    /// A copy of the exchange, if a fault of `version` on it would be checked.
    pub(crate) fn copy_to_check(
        &self,
        seen: &GuestQuestion<'_>,
        version: &Version,
    ) -> Option<ExchangeCopy> {
        if !self.may_check.load(Ordering::Relaxed) {
            return None;
        }
        let (now, calls) = (Instant::now(), self.meters.calls());
        let record = self.record();
        self.may_check.store(record.life.may_check(now, calls), Ordering::Relaxed);
        record.life.check_against(version.id().generation, now, calls)?;
        drop(record);
        Some(ExchangeCopy::of(seen, self.config.peek().map_or(0, |peek| peek.bytes)))
    }

    /// Records a failed call into `version`, about `exchange` if that can be put to another one.
    pub(crate) fn failed(
        self: &Arc<Self>,
        reporter: &Reporter,
        policy: &Arc<str>,
        version: &Version,
        failure: GuestFailure,
        exchange: Option<ExchangeCopy>,
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
            self.bear_the_consequences(version.id(), exchange);
        }
    }

    fn bear_the_consequences(self: &Arc<Self>, faulty: &ComponentId, copy: Option<ExchangeCopy>) {
        let (now, calls) = (Instant::now(), self.meters.calls());
        let mut record = self.record();
        let against = record.life.check_against(faulty.generation, now, calls).cloned();
        let (check, begins) = match copy.zip(against) {
            None => (Check::Impossible, None),
            Some(_) if self.checked.line(now) == Passage::Dropped => (Check::Skipped, None),
            Some(begins) => (Check::Begins, Some(begins)),
        };
        let consequence = record.life.faulted(faulty.generation, now, calls, check);
        self.bear(record, faulty, consequence);
        if let Some((exchange, against)) = begins {
            let (ledger, faulty, before) = (self.clone(), faulty.clone(), against.id().clone());
            let tell = Tell::new(move |checked| ledger.checked(&faulty, before, checked));
            self.checks.begin(CrossCheck { exchange, against, tell });
        }
    }

    /// Records what came of an exchange that `faulty` faulted on with the version before.
    fn checked(&self, faulty: &ComponentId, before: ComponentId, checked: Checked) {
        let (now, calls) = (Instant::now(), self.meters.calls());
        let mut record = self.record();
        let consequence = record.life.checked(faulty.generation, now, calls, checked);
        if checked == Checked::Faults {
            let component = faulty.clone();
            self.emit(EventKind::Component(ComponentEvent::Excused { component, before }));
        }
        self.bear(record, faulty, consequence);
    }

    fn bear(
        &self,
        record: MutexGuard<'_, LedgerRecord>,
        faulty: &ComponentId,
        consequence: Consequence<Arc<Version>>,
    ) {
        match consequence {
            Consequence::None => self.update(&record),
            Consequence::RolledBack { from, to, faults } => {
                self.rolled_back(record, &from, &to, Some(faults))
            }
            Consequence::Quarantined { faults } => {
                self.update(&record);
                drop(record);
                let (component, interval) = (faulty.clone(), self.config.quarantine_interval.0);
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
        let (now, calls) = (Instant::now(), self.meters.calls());
        self.may_check.store(record.life.may_check(now, calls), Ordering::Relaxed);
        let reads_trailers = record.life.current().is_some_and(|version| version.reads_trailers());
        self.reads_trailers.store(reads_trailers, Ordering::Relaxed);
    }

    /// Emits the lines that the guest printed in a call.
    pub(crate) fn printed(
        &self,
        reporter: &Reporter,
        policy: &Arc<str>,
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
    pub(crate) fn capture(&self, seen: &GuestQuestion<'_>, said: &Said<'_>) {
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
            is_predicate: version.is_some_and(|version| version.has(ContractExport::Predicate)),
            is_fallback: version.is_some_and(|version| version.has(ContractExport::Fallback)),
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
