//! A seat: the place of a named component, which can be replaced while in use, from its file or by
//! a push.
//!
//! Policies hold the seat's ledger, not a version, so a swap rebuilds no pipeline and resets no
//! breaker. Each call runs on the version that was current when it began.
//!
//! A version takes the seat only after it was read, compiled, linked and tried out; otherwise the
//! current version stays. All of that blocks while it compiles: never call it on a worker.

pub(crate) mod caller;
pub(crate) mod ledger;
mod storage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail, ensure};
use fusebox_resilience::{ComponentEvent, ComponentId, EventKind, Observers};
use tokio::sync::watch;
use tokio::time::Instant;

use self::ledger::Ledger;
use crate::artifact::Artifact;
use crate::cases::Cases;
use crate::cases::run::run_all;
use crate::config::ComponentConfig;
use crate::probe::{PATIENCE, try_out};
use crate::runtime::Runtime;
use crate::status::ComponentRejection;
use crate::version::{Version, check_exports};

/// The result of loading a new version.
#[derive(Clone, Debug, PartialEq)]
pub enum Reload {
    /// The content is that of the version in use.
    Unchanged,
    /// Calls now run on this version.
    Replaced(ComponentId),
    /// The version in use stays, for this reason.
    Rejected(String),
}

/// The result of a manual roll-back.
#[derive(Clone, Debug, PartialEq)]
pub struct RollBack {
    /// The version now in use.
    pub component: ComponentId,
    /// The version that was in use.
    pub from: ComponentId,
    /// Why a restart would load another version, if it would: its file has other content.
    pub warning: Option<String>,
}

/// Where a version comes from.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    File,
    Push,
}

/// The parts of a seat.
pub(crate) struct SeatParts {
    pub(crate) name: Arc<str>,
    pub(crate) file: PathBuf,
    pub(crate) config: Arc<ComponentConfig>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) observers: Observers,
    pub(crate) swaps: watch::Sender<u64>,
}

/// Decides which versions are used under a name.
#[derive(Debug)]
pub(crate) struct Seat {
    ledger: Arc<Ledger>,
    runtime: Arc<Runtime>,
    /// Held while a new version is made, so that two don't race for the seat. A roll-back does not
    /// wait for it.
    admitting: Mutex<()>,
    /// Held while the file is replaced.
    storing: Mutex<()>,
}

impl Seat {
    /// Fills a seat from its file. If its content is not acceptable and the component is
    /// `optional`, the seat stays empty.
    ///
    /// # Errors
    /// The file is not an acceptable component.
    pub(crate) fn load(parts: SeatParts) -> anyhow::Result<Self> {
        let SeatParts { name, file, config, runtime, observers, swaps } = parts;
        let ledger = Arc::new(Ledger::new(name, file, config, observers, swaps));
        let (admitting, storing) = (Mutex::new(()), Mutex::new(()));
        let seat = Self { ledger, runtime, admitting, storing };
        seat.fill()?;
        Ok(seat)
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The first version.
    fn fill(&self) -> anyhow::Result<()> {
        let first =
            Artifact::read(self.file()).map_err(|error| (None, error)).and_then(|artifact| {
                let digest = artifact.digest().clone();
                self.prepare(&artifact).map_err(|error| (Some(digest), error))
            });
        match first {
            Ok(version) => {
                self.switch(version);
                Ok(())
            }
            Err((digest, error)) if self.config().optional => {
                self.reject(digest, format!("{}: {error:#}", self.file().display()));
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Replaces the component by the content of its file.
    pub(crate) fn reload(&self) -> Reload {
        let _one_at_a_time = self.admitting();
        // Otherwise the file may still have content that was just rolled back.
        self.settle_or_say();
        match Artifact::read(self.file()) {
            Ok(artifact) => {
                let mut record = self.ledger.record();
                if !record.rolled_back.contains(artifact.digest()) {
                    record.rolled_back.clear();
                }
                drop(record);
                self.admit(&artifact, Source::File)
            }
            // Its absence was reported before.
            Err(error) if self.ledger.current().is_none() && is_not_found(&error) => {
                Reload::Unchanged
            }
            Err(error) => self.reject(None, format!("{}: {error:#}", self.file().display())),
        }
    }

    /// Replaces the component by these bytes, and its file: a restart finds them there.
    pub(crate) fn push(&self, bytes: Vec<u8>) -> Reload {
        let _one_at_a_time = self.admitting();
        // Otherwise content that was just rolled back would be kept as the previous file.
        self.settle_or_say();
        self.admit(&Artifact::new(bytes), Source::Push)
    }

    fn admit(&self, artifact: &Artifact, source: Source) -> Reload {
        let digest = artifact.digest();
        let is_in_use = self.ledger.current().is_some_and(|version| version.id().digest == *digest);
        let done = match source {
            Source::File if is_in_use => return Reload::Unchanged,
            Source::File => {
                self.check_not_rolled_back(digest).and_then(|()| self.prepare(artifact)).map(Some)
            }
            // The file may have other content by now.
            Source::Push if is_in_use => self.store(artifact).map(|()| None),
            Source::Push => self.prepare(artifact).and_then(|version| {
                self.store(artifact)?;
                Ok(Some(version))
            }),
        };
        match done {
            Ok(None) => Reload::Unchanged,
            Ok(Some(version)) => Reload::Replaced(self.switch(version)),
            Err(error) => {
                let origin = match source {
                    Source::File => self.file().display().to_string(),
                    Source::Push => "pushed".to_owned(),
                };
                self.reject(Some(digest.clone()), format!("{origin}: {error:#}"))
            }
        }
    }

    fn check_not_rolled_back(&self, digest: &Arc<str>) -> anyhow::Result<()> {
        let is_out = self.ledger.record().rolled_back.contains(digest);
        ensure!(
            !is_out,
            "has the content that was rolled back; change it, or push it to have it all the same"
        );
        Ok(())
    }

    /// Makes a version of the artifact, and checks that it may take the seat.
    fn prepare(&self, artifact: &Artifact) -> anyhow::Result<Arc<Version>> {
        artifact.check_digest(self.config().sha256.as_deref())?;
        let generation = self.ledger.record().life.next_generation();
        let id = ComponentId {
            name: self.ledger.name().clone(),
            digest: artifact.digest().clone(),
            generation,
        };
        let (config, runtime) = (self.config().clone(), self.runtime.clone());
        let compiled =
            artifact.compile(runtime.compiler(), runtime.engine(), config.compile_limits())?;
        if let Some(reason) = compiled.unconfined {
            let (name, reason) = (id.name.clone(), reason.into());
            self.ledger.emit(ComponentEvent::Unconfined { name, reason }.into());
        }
        let meters = self.ledger.meters().clone();
        let version = Version::link(&compiled.component, id, config, runtime, meters)?;
        let version = Arc::new(version);
        for line in try_out(&version)? {
            self.ledger.emit(EventKind::Component(ComponentEvent::Printed {
                component: version.id().clone(),
                line: line.into(),
            }));
        }
        check_exports(&version, self.ledger.record().needs)?;
        if let Some(file) = &self.config().cases {
            pass(&version, file)?;
        }
        Ok(version)
    }

    fn switch(&self, version: Arc<Version>) -> ComponentId {
        let component = version.id().clone();
        let mut record = self.ledger.record();
        let old = record.life.admit(version, Instant::now(), self.ledger.meters().calls());
        record.rejection = None;
        record.is_unsettled = false;
        if record.pushed.as_ref().is_some_and(|pushed| *pushed != component.digest) {
            record.pushed = None;
        }
        self.ledger.switched(record, old.as_deref());
        let replaced = old.map(|old| old.id().clone());
        self.ledger.emit(EventKind::Component(ComponentEvent::Loaded {
            component: component.clone(),
            replaced,
        }));
        component
    }

    fn reject(&self, digest: Option<Arc<str>>, reason: String) -> Reload {
        let said: Arc<str> = reason.as_str().into();
        let rejection =
            ComponentRejection { digest: digest.clone(), reason: said.clone(), at: Instant::now() };
        self.ledger.record().rejection = Some(rejection);
        self.ledger.emit(EventKind::Component(ComponentEvent::Rejected {
            name: self.ledger.name().clone(),
            digest,
            reason: said,
        }));
        Reload::Rejected(reason)
    }

    /// Restores the previous version, and its file if a push replaced it.
    ///
    /// # Errors
    /// No earlier version is kept.
    pub(crate) fn roll_back(&self) -> Result<RollBack, String> {
        let mut record = self.ledger.record();
        let Some((from, to)) = record.life.roll_back(Instant::now(), self.ledger.meters().calls())
        else {
            return Err(format!(
                "component `{}` has no earlier version to roll back to",
                self.ledger.name()
            ));
        };
        self.ledger.rolled_back(record, &from, &to, None);
        let settled = self.settle_file().and_then(|()| {
            let is_there = *Artifact::read(self.file())?.digest() == to.id().digest;
            ensure!(is_there, "{} has other content", self.file().display());
            Ok(())
        });
        let warning =
            settled.err().map(|error| format!("a restart takes what is in the file: {error:#}"));
        Ok(RollBack { component: to.id().clone(), from: from.id().clone(), warning })
    }

    /// After a roll-back of a pushed version: restores the file that the push replaced.
    pub(crate) fn settle(&self) {
        if !self.ledger.record().is_unsettled {
            return;
        }
        self.settle_or_say();
    }

    fn settle_or_say(&self) {
        if let Err(error) = self.settle_file() {
            self.reject(None, format!("{error:#}"));
        }
    }

    fn settle_file(&self) -> anyhow::Result<()> {
        let _one_at_a_time = self.storing();
        let mut guard = self.ledger.record();
        let record = &mut *guard;
        let is_unsettled = std::mem::take(&mut record.is_unsettled);
        let rolled_back =
            record.pushed.take_if(|pushed| is_unsettled && record.rolled_back.contains(pushed));
        let current = record.life.current().map(|version| version.id().digest.clone());
        drop(guard);
        match (rolled_back, current) {
            (Some(pushed), Some(current)) => storage::put_back(self.file(), &pushed, &current)
                .with_context(|| {
                    format!(
                        "{}: can't be put back as it was before the push",
                        self.file().display()
                    )
                }),
            _ => Ok(()),
        }
    }

    fn store(&self, artifact: &Artifact) -> anyhow::Result<()> {
        let _one_at_a_time = self.storing();
        let replaced = storage::store(self.file(), artifact)
            .with_context(|| format!("can't be written to {}", self.file().display()))?;
        if replaced {
            self.ledger.record().pushed = Some(artifact.digest().clone());
        }
        Ok(())
    }

    fn file(&self) -> &Path {
        self.ledger.file()
    }

    fn config(&self) -> &Arc<ComponentConfig> {
        self.ledger.config()
    }

    fn admitting(&self) -> MutexGuard<'_, ()> {
        self.admitting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn storing(&self) -> MutexGuard<'_, ()> {
        self.storing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the cases in `file` against a version.
fn pass(version: &Arc<Version>, file: &Path) -> anyhow::Result<()> {
    ensure!(version.exports().are_any(), "`cases` are not for standard HTTP components");
    let cases = Cases::read(file, None)?;
    let reports =
        run_all(version, cases.all(), PATIENCE).with_context(|| file.display().to_string())?;
    let failed: Vec<_> = reports.iter().filter(|report| !report.passed()).collect();
    if let Some(first) = failed.first() {
        let differences: Vec<_> = first.differences.iter().map(ToString::to_string).collect();
        let (place, count, all) = (file.display(), failed.len(), reports.len());
        bail!(
            "{place}: {count} of {all} cases failed; line {}, `{}`: {}",
            first.line,
            first.name,
            differences.join("; ")
        );
    }
    Ok(())
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}
