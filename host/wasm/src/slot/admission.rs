//! How a version takes the place: from a file or from a push, by way of everything that may keep it
//! out.
//!
//! A version takes the place only after it was read, compiled, linked and tried out; whatever is
//! wrong with it, what is there stays. All of it blocks, for as long as compiling takes: never call
//! it on a worker.

use std::io;
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use anyhow::{Context as _, bail, ensure};
use fusebox_resilience::{ComponentEvent, ComponentId, EventKind};
use tokio::time::Instant;

use super::{Slot, storage};
use crate::cases::{Cases, run_all};
use crate::component::{Artifact, Version, check_exports};
use crate::probe::{PATIENCE, try_out};
use crate::status::Rejection;

/// What became of a new version.
#[derive(Clone, Debug, PartialEq)]
pub enum Reload {
    /// It is the one that is in use.
    Unchanged,
    /// Calls that begin now run on this version.
    Replaced(ComponentId),
    /// What is in use stays, for this reason.
    Rejected(String),
}

/// What a roll-back by hand did.
#[derive(Clone, Debug, PartialEq)]
pub struct RollBack {
    /// The version that answers now.
    pub component: ComponentId,
    /// The version that did.
    pub from: ComponentId,
    /// Why a restart would take another version, if it would: its file has other content.
    pub warning: Option<String>,
}

/// Where a version comes from.
#[derive(Clone, Copy, PartialEq)]
enum Source {
    File,
    Push,
}

impl Slot {
    /// The first version.
    pub(super) fn fill(&self) -> anyhow::Result<()> {
        let first =
            Artifact::read(&self.file).map_err(|error| (None, error)).and_then(|artifact| {
                let digest = artifact.digest().clone();
                self.prepare(&artifact).map_err(|error| (Some(digest), error))
            });
        match first {
            Ok(version) => {
                self.switch(version);
                Ok(())
            }
            Err((digest, error)) if self.config.optional => {
                self.reject(digest, format!("{}: {error:#}", self.file.display()));
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Replaces the component by what is in its file now.
    pub(crate) fn reload(&self) -> Reload {
        let _one_at_a_time = self.admitting();
        // Else the file may still have what was rolled back a moment ago.
        self.settle_or_say();
        match Artifact::read(&self.file) {
            Ok(artifact) => {
                let mut place = self.place();
                if !place.rolled_back.contains(artifact.digest()) {
                    place.rolled_back.clear();
                }
                drop(place);
                self.admit(&artifact, Source::File)
            }
            // Whoever waits for it has been told.
            Err(error) if self.current().is_none() && is_not_found(&error) => Reload::Unchanged,
            Err(error) => self.reject(None, format!("{}: {error:#}", self.file.display())),
        }
    }

    /// Replaces the component by these bytes, and its file: a restart finds them there.
    pub(crate) fn push(&self, bytes: Vec<u8>) -> Reload {
        let _one_at_a_time = self.admitting();
        // Else what was rolled back a moment ago would be kept as the previous file.
        self.settle_or_say();
        self.admit(&Artifact::new(bytes), Source::Push)
    }

    fn admit(&self, artifact: &Artifact, source: Source) -> Reload {
        let digest = artifact.digest();
        let is_in_use = self.current().is_some_and(|version| version.id().digest == *digest);
        let done = match source {
            Source::File if is_in_use => return Reload::Unchanged,
            Source::File => {
                self.check_not_rolled_back(digest).and_then(|()| self.prepare(artifact)).map(Some)
            }
            // The file may have something else by now.
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
                    Source::File => self.file.display().to_string(),
                    Source::Push => "pushed".to_owned(),
                };
                self.reject(Some(digest.clone()), format!("{origin}: {error:#}"))
            }
        }
    }

    fn check_not_rolled_back(&self, digest: &Arc<str>) -> anyhow::Result<()> {
        let is_out = self.place().rolled_back.contains(digest);
        ensure!(
            !is_out,
            "has the content that was rolled back; change it, or push it to have it all the same"
        );
        Ok(())
    }

    /// Everything between bytes and a version that can take the place.
    fn prepare(&self, artifact: &Artifact) -> anyhow::Result<Arc<Version>> {
        artifact.check_digest(self.config.sha256.as_deref())?;
        let generation = self.place().life.next_generation();
        let id =
            ComponentId { name: self.name.clone(), digest: artifact.digest().clone(), generation };
        let (config, runtime) = (self.config.clone(), self.runtime.clone());
        let version = Arc::new(Version::new(artifact, id, config, runtime, self.meters.clone())?);
        for line in try_out(&version)? {
            self.emit(EventKind::Component(ComponentEvent::Printed {
                component: version.id().clone(),
                line: line.into(),
            }));
        }
        check_exports(&version, self.place().needs)?;
        if let Some(file) = &self.config.cases {
            pass(&version, file)?;
        }
        Ok(version)
    }

    fn switch(&self, version: Arc<Version>) -> ComponentId {
        let component = version.id().clone();
        let mut place = self.place();
        let old = place.life.admit(version, Instant::now(), self.meters.calls());
        place.rejection = None;
        place.is_unsettled = false;
        if place.pushed.as_ref().is_some_and(|pushed| *pushed != component.digest) {
            place.pushed = None;
        }
        self.switched(place, old.as_deref());
        let replaced = old.map(|old| old.id().clone());
        self.emit(EventKind::Component(ComponentEvent::Loaded {
            component: component.clone(),
            replaced,
        }));
        component
    }

    fn reject(&self, digest: Option<Arc<str>>, reason: String) -> Reload {
        let said: Arc<str> = reason.as_str().into();
        let rejection =
            Rejection { digest: digest.clone(), reason: said.clone(), at: Instant::now() };
        self.place().rejection = Some(rejection);
        self.emit(EventKind::Component(ComponentEvent::Rejected {
            name: self.name.clone(),
            digest,
            reason: said,
        }));
        Reload::Rejected(reason)
    }

    /// Puts the version before the one in use back in its place, and its file if it was replaced by
    /// a push.
    ///
    /// # Errors
    /// No earlier version is kept.
    pub(crate) fn roll_back(&self) -> Result<RollBack, String> {
        let mut place = self.place();
        let Some((from, to)) = place.life.roll_back(Instant::now(), self.meters.calls()) else {
            return Err(format!(
                "component `{}` has no earlier version to roll back to",
                self.name
            ));
        };
        self.rolled_back(place, &from, &to, None);
        let settled = self.settle_file().and_then(|()| {
            let is_there = *Artifact::read(&self.file)?.digest() == to.id().digest;
            ensure!(is_there, "{} has other content", self.file.display());
            Ok(())
        });
        let warning =
            settled.err().map(|error| format!("a restart takes what is in the file: {error:#}"));
        Ok(RollBack { component: to.id().clone(), from: from.id().clone(), warning })
    }

    /// After a roll-back of what was pushed: puts the file back that the push replaced. Does
    /// nothing if there is nothing to do.
    pub(crate) fn settle(&self) {
        if !self.place().is_unsettled {
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
        let mut guard = self.place();
        let place = &mut *guard;
        let is_unsettled = std::mem::take(&mut place.is_unsettled);
        let rolled_back =
            place.pushed.take_if(|pushed| is_unsettled && place.rolled_back.contains(pushed));
        let current = place.life.current().map(|version| version.id().digest.clone());
        drop(guard);
        match (rolled_back, current) {
            (Some(pushed), Some(current)) => storage::put_back(&self.file, &pushed, &current)
                .with_context(|| {
                    format!("{}: can't be put back as it was before the push", self.file.display())
                }),
            _ => Ok(()),
        }
    }

    fn store(&self, artifact: &Artifact) -> anyhow::Result<()> {
        let _one_at_a_time = self.storing();
        let replaced = storage::store(&self.file, artifact)
            .with_context(|| format!("can't be written to {}", self.file.display()))?;
        if replaced {
            self.place().pushed = Some(artifact.digest().clone());
        }
        Ok(())
    }

    fn admitting(&self) -> MutexGuard<'_, ()> {
        self.admitting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn storing(&self) -> MutexGuard<'_, ()> {
        self.storing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a version pass the cases in `file`, as they are now.
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
