//! A slot: a named place whose component can be replaced while it is in use.
//!
//! Policies hold the slot, not the component, so a swap rebuilds no pipeline and resets no breaker. Each call runs on the
//! version that was current when it began. A new version takes the place only after it was compiled, linked and started
//! once; whatever is wrong with it, the old one stays.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusebox_resilience::{ComponentId, EventKind, Exchange, Observers};
use tokio::time::Instant;
use wasmtime::Store;

use crate::attempt;
use crate::component::{Artifact, FALLBACK, Guest, Needs, PREDICATE, Version, check_exports};
use crate::config::ComponentConfig;
use crate::engine::Runtime;
use crate::fault::Failure;
use crate::instances::{self, Instance, State};
use crate::status::{ComponentStatus, Meters};

/// A named place with a component in it.
pub(crate) struct Slot {
    name: Arc<str>,
    file: PathBuf,
    config: Arc<ComponentConfig>,
    runtime: Arc<Runtime>,
    observers: Observers,
    meters: Arc<Meters>,
    current: Mutex<Current>,
    /// Held while a new version is made, so that two don't race for the place.
    reloading: Mutex<()>,
}

struct Current {
    version: Arc<Version>,
    needs: Needs,
}

/// What became of a reload.
#[derive(Clone, Debug, PartialEq)]
pub enum Reload {
    /// The file has the content that is in use.
    Unchanged,
    /// Calls that begin now run on this version.
    Replaced(ComponentId),
    /// The version in use stays, for this reason.
    Rejected(String),
}

impl Slot {
    /// Fills a slot from `file`.
    ///
    /// # Errors
    /// What is in the file is not an acceptable component.
    pub(crate) fn load(
        name: Arc<str>,
        file: PathBuf,
        config: Arc<ComponentConfig>,
        runtime: Arc<Runtime>,
        observers: Observers,
    ) -> anyhow::Result<Self> {
        let meters = Arc::new(Meters::default());
        let artifact = Artifact::read(&file)?;
        artifact.check_digest(config.sha256.as_deref())?;
        let id = ComponentId { name: name.clone(), digest: artifact.digest().into(), generation: 1 };
        let version = Arc::new(Version::new(&artifact, id, config.clone(), runtime.clone(), meters.clone())?);
        let current = Mutex::new(Current { version: version.clone(), needs: Needs::default() });
        let slot = Self { name, file, config, runtime, observers, meters, current, reloading: Mutex::new(()) };
        slot.try_out(&version)?;
        slot.emit(EventKind::ComponentLoaded { component: version.id().clone(), replaced: None });
        Ok(slot)
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    pub(crate) fn config(&self) -> &ComponentConfig {
        &self.config
    }

    /// From now on only versions that answer `handle-if` may take the place.
    ///
    /// # Errors
    /// The one that is in it does not.
    pub(crate) fn need_predicate(&self) -> Result<(), String> {
        let mut current = self.current();
        let has = current.version.exports().has_predicate();
        current.needs.predicate |= has;
        if has { Ok(()) } else { Err(self.missing(PREDICATE)) }
    }

    /// From now on only versions that make fallback responses may take the place.
    ///
    /// # Errors
    /// The one that is in it does not.
    pub(crate) fn need_fallback(&self) -> Result<(), String> {
        let mut current = self.current();
        let has = current.version.exports().has_fallback();
        current.needs.fallback |= has;
        if has { Ok(()) } else { Err(self.missing(FALLBACK)) }
    }

    fn missing(&self, export: &str) -> String {
        format!("component `{}` ({}): missing export `{export}`", self.name, self.file.display())
    }

    /// Asks the component about what was seen. None: the call failed, and the observers know how.
    pub(crate) fn ask<A>(
        &self,
        seen: &Exchange<'_>,
        question: impl FnOnce(&Guest, &mut Store<State>) -> wasmtime::Result<A>,
    ) -> Option<A> {
        let mut instance = match instances::take(&self.meters) {
            Some(instance) => instance,
            None => {
                let version = self.current().version.clone();
                match Instance::start(&version, self.config.timeout.0) {
                    Ok(instance) => instance,
                    Err(failure) => {
                        self.failed(seen, &version, failure);
                        return None;
                    }
                }
            }
        };
        let began = Instant::now();
        let answer = attempt::lend(seen, || instance.call(question));
        self.meters.called(began.elapsed());
        match answer {
            Ok(answer) => {
                Self::printed(seen, instance.version(), instance.printed());
                if instance.is_reusable() {
                    instances::put(instance);
                }
                Some(answer)
            }
            Err(failure) => {
                self.failed(seen, instance.version(), failure);
                None
            }
        }
    }

    fn failed(&self, seen: &Exchange<'_>, version: &Version, failure: Failure) {
        self.meters.faulted(failure.fault);
        let kind = EventKind::ComponentFaulted {
            component: version.id().clone(),
            fault: failure.fault,
            detail: failure.detail.into(),
        };
        Self::printed(seen, version, failure.printed);
        seen.call.emit(seen.policy, kind);
    }

    fn printed(seen: &Exchange<'_>, version: &Version, lines: Vec<String>) {
        for line in lines {
            let kind = EventKind::ComponentPrinted { component: version.id().clone(), line: line.into() };
            seen.call.emit(seen.policy, kind);
        }
    }

    /// Replaces the component by what is in its file now. Blocks while it compiles: never call it on a worker.
    pub(crate) fn reload(&self) -> Reload {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        match self.replacement().and_then(|version| version.map(|version| self.swap(version)).transpose()) {
            Ok(None) => Reload::Unchanged,
            Ok(Some(component)) => Reload::Replaced(component),
            Err(error) => {
                let reason = format!("{}: {error:#}", self.file.display());
                let kind = EventKind::ComponentRejected { name: self.name.clone(), reason: reason.as_str().into() };
                self.emit(kind);
                Reload::Rejected(reason)
            }
        }
    }

    /// What is in the file, if that is something new.
    fn replacement(&self) -> anyhow::Result<Option<Arc<Version>>> {
        let artifact = Artifact::read(&self.file)?;
        let id = self.current().version.id().clone();
        if *artifact.digest() == *id.digest {
            return Ok(None);
        }
        artifact.check_digest(self.config.sha256.as_deref())?;
        let id = ComponentId { digest: artifact.digest().into(), generation: id.generation + 1, ..id };
        let (config, runtime) = (self.config.clone(), self.runtime.clone());
        let version = Arc::new(Version::new(&artifact, id, config, runtime, self.meters.clone())?);
        self.try_out(&version)?;
        Ok(Some(version))
    }

    fn swap(&self, version: Arc<Version>) -> anyhow::Result<ComponentId> {
        let component = version.id().clone();
        let mut current = self.current();
        check_exports(version.exports(), current.needs)?;
        let old = std::mem::replace(&mut current.version, version);
        drop(current);
        // Only now: whoever finds its instance retired must find the new version.
        old.retire();
        let replaced = Some(old.id().clone());
        self.emit(EventKind::ComponentLoaded { component: component.clone(), replaced });
        Ok(component)
    }

    fn try_out(&self, version: &Arc<Version>) -> anyhow::Result<()> {
        for line in version.try_out()?.printed() {
            self.emit(EventKind::ComponentPrinted { component: version.id().clone(), line: line.into() });
        }
        Ok(())
    }

    pub(crate) fn status(&self) -> ComponentStatus {
        let version = self.current().version.clone();
        let ComponentId { name, digest, generation } = version.id().clone();
        ComponentStatus {
            name,
            file: self.file.clone(),
            digest,
            generation,
            is_predicate: version.exports().has_predicate(),
            is_fallback: version.exports().has_fallback(),
            calls: self.meters.calls(),
            call_time: self.meters.call_time(),
            faults: self.meters.faults(),
            instances: self.meters.instances(),
        }
    }

    fn emit(&self, kind: EventKind) {
        self.observers.emit_for_policy(None, &kind);
    }

    /// It is only held for a line at a time, and nothing in those lines panics.
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    /// Nobody can ask any longer: the instances that workers still keep should go.
    fn drop(&mut self) {
        self.current().version.retire();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").field("component", self.current().version.id()).finish_non_exhaustive()
    }
}
