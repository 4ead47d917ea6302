//! A slot: a named place whose component can be replaced while it is in use.
//!
//! Policies hold the slot, not the component, so a swap rebuilds no pipeline and resets no breaker.
//! Each call runs on the version that was current when it began. What takes the place is decided in
//! [`admission`]; what faults lead to, by the state machine in [`life`](crate::life).

mod admission;
mod storage;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fusebox_resilience::{
    ComponentEvent, ComponentId, EventKind, Exchange, Observers, Reporter, clock,
};
use tokio::sync::watch;
use tokio::time::Instant;
use wasmtime::Store;

use crate::attempt;
use crate::cases::{Said, captured};
use crate::component::{FALLBACK, Guest, Needs, PREDICATE, Version};
use crate::config::{ComponentConfig, Isolation};
use crate::engine::Runtime;
use crate::fault::Failure;
use crate::instances::{self, Instance, State};
use crate::life::{Consequence, Life};
use crate::status::{ComponentStatus, Meters, Rejection};
use crate::throttle::{Passage, Throttle};

pub use admission::{Reload, RollBack};

/// A call that is told to the clock of the turn in which it was made.
const LONG: Duration = Duration::from_millis(1);

/// A named place with a component in it.
pub(crate) struct Slot {
    name: Arc<str>,
    file: PathBuf,
    config: Arc<ComponentConfig>,
    runtime: Arc<Runtime>,
    observers: Observers,
    meters: Arc<Meters>,
    swaps: watch::Sender<u64>,
    place: Mutex<Place>,
    /// Whether a call has to look at `place` first, and tell of its success: a component in good
    /// order needs no lock.
    is_troubled: AtomicBool,
    printed: Throttle,
    captured: Throttle,
    /// Held while a new version is made, so that two don't race for the place. A roll-back does
    /// not wait for it.
    admitting: Mutex<()>,
    /// Held while the file is replaced.
    storing: Mutex<()>,
}

struct Place {
    life: Life<Arc<Version>>,
    needs: Needs,
    /// The digests of what was rolled back since other content was in the file: they are not taken
    /// from it again, only when they are pushed.
    rolled_back: BTreeSet<Arc<str>>,
    rejection: Option<Rejection>,
    /// The digest of what was pushed into the file last, as long as the file that it replaced is
    /// at hand.
    pushed: Option<Arc<str>>,
    /// The file still has what was rolled back.
    is_unsettled: bool,
}

/// What a slot is made of.
pub(crate) struct Parts {
    pub(crate) name: Arc<str>,
    pub(crate) file: PathBuf,
    pub(crate) config: Arc<ComponentConfig>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) observers: Observers,
    pub(crate) swaps: watch::Sender<u64>,
}

impl Slot {
    /// Fills a slot from its file. If what is in it is no good and the component is `optional`, it
    /// stays empty.
    ///
    /// # Errors
    /// What is in the file is not an acceptable component.
    pub(crate) fn load(parts: Parts) -> anyhow::Result<Self> {
        let Parts { name, file, config, runtime, observers, swaps } = parts;
        let place = Place {
            life: Life::new(config.rules()),
            needs: Needs::default(),
            rolled_back: BTreeSet::new(),
            rejection: None,
            pushed: None,
            is_unsettled: false,
        };
        let slot = Self {
            name,
            file,
            runtime,
            observers,
            meters: Arc::default(),
            swaps,
            place: Mutex::new(place),
            is_troubled: AtomicBool::new(true),
            printed: Throttle::new(config.log_rate),
            captured: Throttle::new(config.capture),
            admitting: Mutex::new(()),
            storing: Mutex::new(()),
            config,
        };
        slot.fill()?;
        Ok(slot)
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The component's name in the configuration.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(crate) fn config(&self) -> &ComponentConfig {
        &self.config
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// From now on only versions that answer `handle-if` may take the place.
    ///
    /// # Errors
    /// The one that is in it does not.
    pub(crate) fn need_predicate(&self) -> Result<(), String> {
        let mut place = self.place();
        let has = place.life.current().is_none_or(|version| version.exports().has_predicate());
        place.needs.predicate |= has;
        if has { Ok(()) } else { Err(self.missing(PREDICATE)) }
    }

    /// From now on only versions that make fallback responses may take the place.
    ///
    /// # Errors
    /// The one that is in it does not.
    pub(crate) fn need_fallback(&self) -> Result<(), String> {
        let mut place = self.place();
        let has = place.life.current().is_none_or(|version| version.can_respond());
        place.needs.fallback |= has;
        if has { Ok(()) } else { Err(self.missing(FALLBACK)) }
    }

    fn missing(&self, export: &str) -> String {
        format!("component `{}` ({}): missing export `{export}`", self.name, self.file.display())
    }

    /// Whether the component may be called now. If not, that is counted.
    pub(crate) fn may_call(&self) -> bool {
        let may =
            !self.is_troubled.load(Ordering::Relaxed) || self.place().life.may_call(Instant::now());
        if !may {
            self.meters.skipped();
        }
        may
    }

    /// Asks the component about what was seen, if need be on a new instance of `version`. None:
    /// there is none to be asked, or the call failed, and the observers know how.
    pub(crate) fn ask<A>(
        &self,
        seen: &Exchange<'_>,
        version: impl FnOnce() -> Option<Arc<Version>>,
        question: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<A>,
    ) -> Option<A> {
        if !self.may_call() {
            return None;
        }
        let mut instance = match instances::take(&self.meters) {
            Some(instance) => instance,
            None => {
                let version = version()?;
                match Instance::start(&version, self.config.timeout.0) {
                    Ok(instance) => instance,
                    Err(failure) => {
                        self.failed(seen.call.reporter(), seen.policy, &version, failure);
                        return None;
                    }
                }
            }
        };
        let began = Instant::now();
        let answer = attempt::lend(seen, || instance.call(question));
        let took = began.elapsed();
        if took >= LONG {
            clock::elapse();
        }
        instance.tally().called(took);
        match answer {
            Ok(answer) => {
                self.succeeded_with(instance.version());
                self.printed(
                    seen.call.reporter(),
                    seen.policy,
                    instance.version(),
                    instance.printed(),
                );
                if instance.is_reusable() {
                    instances::put(instance);
                }
                Some(answer)
            }
            Err(failure) => {
                self.failed(seen.call.reporter(), seen.policy, instance.version(), failure);
                None
            }
        }
    }

    /// A call into `version` has failed.
    pub(crate) fn failed(
        &self,
        reporter: &Reporter,
        policy: &str,
        version: &Version,
        failure: Failure,
    ) {
        self.meters.faulted(failure.fault);
        let kind = EventKind::Component(ComponentEvent::Faulted {
            component: version.id().clone(),
            fault: failure.fault,
            detail: failure.detail.into(),
        });
        self.printed(reporter, policy, version, failure.printed);
        reporter.emit(policy, kind);
        self.bear_the_consequences(version);
    }

    fn bear_the_consequences(&self, version: &Version) {
        let mut place = self.place();
        match place.life.faulted(version.id().generation, Instant::now(), self.meters.calls()) {
            Consequence::None => self.update(&place),
            Consequence::RolledBack { from, to, faults } => {
                self.rolled_back(place, &from, &to, Some(faults))
            }
            Consequence::Quarantined { faults } => {
                self.update(&place);
                drop(place);
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

    /// A call into `version` has succeeded.
    pub(crate) fn succeeded_with(&self, version: &Version) {
        if self.is_troubled.load(Ordering::Relaxed) {
            self.succeeded(version);
        }
    }

    fn succeeded(&self, version: &Version) {
        let mut place = self.place();
        let is_back = place.life.succeeded(version.id().generation);
        self.update(&place);
        drop(place);
        if is_back {
            self.emit(EventKind::Component(ComponentEvent::Released {
                component: version.id().clone(),
            }));
        }
    }

    fn rolled_back(
        &self,
        mut place: MutexGuard<'_, Place>,
        from: &Version,
        to: &Version,
        faults: Option<u32>,
    ) {
        to.reinstate();
        place.rolled_back.insert(from.id().digest.clone());
        place.is_unsettled = true;
        self.switched(place, Some(from));
        let (component, from) = (to.id().clone(), from.id().clone());
        self.emit(EventKind::Component(ComponentEvent::RolledBack { component, from, faults }));
    }

    /// Another version has taken the place.
    fn switched(&self, place: MutexGuard<'_, Place>, old: Option<&Version>) {
        // Only now, since whoever finds its instance retired must find the new version; and before
        // anybody puts it back.
        old.inspect(|old| old.retire());
        self.update(&place);
        drop(place);
        self.swaps.send_modify(|swaps| *swaps += 1);
    }

    fn update(&self, place: &Place) {
        self.is_troubled.store(place.life.is_troubled(), Ordering::Relaxed);
    }

    /// The guest has printed these lines in a call.
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

    /// Tells of what the component was asked and said, if somebody wants to know and not too often.
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

    /// Starts this thread's instance of the version in use, if it has none. One that does not start
    /// is told of when it is asked.
    pub(crate) fn warm(&self) {
        if self.config.isolation == Isolation::PerCall || instances::has(&self.meters) {
            return;
        }
        let asked = self.current().filter(|version| version.exports().are_any());
        let started =
            asked.and_then(|version| Instance::start(&version, self.config.timeout.0).ok());
        started.into_iter().for_each(instances::put);
    }

    pub(crate) fn status(&self) -> ComponentStatus {
        let (now, calls) = (Instant::now(), self.meters.calls());
        let place = self.place();
        let version = place.life.current();
        ComponentStatus {
            name: self.name.clone(),
            file: self.file.clone(),
            version: version.map(|version| version.id().clone()),
            standing: place.life.standing(now, calls),
            is_predicate: version.is_some_and(|version| version.exports().has_predicate()),
            is_fallback: version.is_some_and(|version| version.can_respond()),
            kept: place.life.kept().map(|version| version.id().clone()).collect(),
            rejection: place.rejection.clone(),
            calls,
            call_times: self.meters.call_times(),
            skipped: self.meters.skips(),
            faults: self.meters.faults(),
            instances: self.meters.instances(),
        }
    }

    fn emit(&self, kind: EventKind) {
        self.observers.emit_for_policy(None, &kind);
    }

    /// The version in use.
    pub(crate) fn current(&self) -> Option<Arc<Version>> {
        self.place().life.current().cloned()
    }

    /// It is only held for a few lines at a time, and nothing in those lines panics.
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    /// Nobody can ask any longer: the instances that workers still keep should go.
    fn drop(&mut self) {
        self.current().inspect(|version| version.retire());
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let component: Option<ComponentId> = self.current().map(|version| version.id().clone());
        f.debug_struct("Slot")
            .field("name", &self.name)
            .field("component", &component)
            .finish_non_exhaustive()
    }
}
