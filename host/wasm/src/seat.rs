//! A seat: the place of a named component, which can be replaced while in use, from its file or by
//! a push.
//!
//! Policies hold the seat's ledger, not a version, so a swap rebuilds no pipeline and resets no
//! breaker. Each call runs on the version that was current when it began.
//!
//! A version takes the seat only after it was read, compiled, linked and tried out; otherwise the
//! current version stays. All of that blocks while it compiles: never call it on a worker. Newer
//! content ends it ([`turns`]).

pub(crate) mod caller;
mod content;
mod file;
pub(crate) mod ledger;
pub(crate) mod reload;
mod storage;
mod turns;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, bail, ensure};
use fusebox_resilience::{ComponentEvent, ComponentId, EventKind, Observers};
use tokio::sync::watch;
use tokio::time::Instant;

use self::content::{FileContent, Found};
use self::ledger::Ledger;
use self::reload::Reload;
use self::turns::{QueuePlace, SeatTurn, Turns};
use crate::artifact::Artifact;
use crate::cases::Cases;
use crate::cases::run::run_all;
use crate::config::ComponentConfig;
use crate::cross_check::CrossChecks;
use crate::overtaken::Overtaken;
use crate::probe::{PATIENCE, try_out};
use crate::runtime::Runtime;
use crate::shortage::{is_shortage, try_again_at};
use crate::status::ComponentRejection;
use crate::version::{Version, check_exports};

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
    pub(crate) checks: CrossChecks,
}

/// Decides which versions are used under a name.
#[derive(Debug)]
pub(crate) struct Seat {
    ledger: Arc<Ledger>,
    runtime: Arc<Runtime>,
    /// Orders those who make a new version. A roll-back does not wait for them.
    turns: Turns,
    /// Held while the file is read or replaced: what is read later is newer.
    content: Mutex<FileContent>,
}

impl Seat {
    /// Fills a seat from its file. If its content is not acceptable and the component is
    /// `optional`, the seat stays empty.
    ///
    /// # Errors
    /// The file is not an acceptable component.
    pub(crate) fn load(parts: SeatParts) -> anyhow::Result<Self> {
        let SeatParts { name, file, config, runtime, observers, swaps, checks } = parts;
        let ledger = Arc::new(Ledger::new(name, file, config, observers, swaps, checks));
        let seat = Self { ledger, runtime, turns: Turns::default(), content: Mutex::default() };
        seat.fill()?;
        Ok(seat)
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The first version.
    fn fill(&self) -> anyhow::Result<()> {
        let began = Instant::now();
        let first = self.read().map_err(|error| (None, error)).and_then(|artifact| {
            let digest = artifact.digest().clone();
            let prepared = self.prepare(&artifact, &Overtaken::default());
            prepared.map_err(|error| (Some(digest), error))
        });
        match first {
            Ok(version) => {
                self.switch(version);
                Ok(())
            }
            Err((digest, error)) if self.config().optional => {
                self.refuse(&mut self.content(), digest.as_ref(), &error, began);
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Reads the file before anybody asks for its turn.
    fn read(&self) -> anyhow::Result<Artifact> {
        let artifact = Artifact::read(self.file())?;
        self.content().found(artifact.digest());
        Ok(artifact)
    }

    /// Replaces the component by the content of its file. If that is overtaken, the result is that
    /// of the newer content.
    pub(crate) fn reload(&self) -> Reload {
        loop {
            let (artifact, place) = match self.look(false) {
                Ok(found) => found,
                Err(result) => return result,
            };
            let result = match place {
                QueuePlace::Newest(candidate) => {
                    self.turns.turn(candidate).map(|turn| self.admit_file(&artifact, turn))
                }
                QueuePlace::Same(candidate) => Some(self.turns.result(&candidate)),
                QueuePlace::Behind(candidate) => {
                    self.turns.result(&candidate);
                    None
                }
            };
            if let Some(result) = result.filter(|result| *result != Reload::Overtaken) {
                return result;
            }
        }
    }

    /// The same for whoever need not know the result: content that somebody else tries already is
    /// left to them. With `only_news` so is content that was tried before.
    pub(crate) fn file_changed(&self, only_news: bool) {
        if let Ok((artifact, QueuePlace::Newest(candidate))) = self.look(only_news) {
            match self.turns.turn(candidate) {
                Some(turn) => drop(self.admit_file(&artifact, turn)),
                None => self.content().is_to_be_tried(artifact.digest(), Instant::now()),
            }
        }
    }

    /// Whether the file may have content that was overtaken by what came to nothing, or that could
    /// not be tried for want of something, and it is time to try it.
    pub(crate) fn has_untried(&self) -> bool {
        self.turns.are_idle() && self.content().is_due(Instant::now())
    }

    /// The content of the file and its place among what wants the seat, or else the result.
    fn look(&self, only_news: bool) -> Result<(Artifact, QueuePlace), Reload> {
        // What is read later is newer, so it must not get its place before.
        let mut content = self.content();
        // Otherwise the file may still have content that was just rolled back.
        self.settle_or_say(&mut content);
        let began = Instant::now();
        match Artifact::read(self.file()) {
            Ok(artifact) => {
                let digest = artifact.digest();
                let Found { is_news, is_untried, is_back } = content.found(digest);
                if is_back {
                    // That it was away is no more to be said; what else was refused is.
                    let mut record = self.ledger.record();
                    record.rejection.take_if(|rejection| rejection.digest.is_none());
                }
                if only_news && !is_news && !is_untried {
                    return Err(Reload::Unchanged);
                }
                let place = self.turns.enter(digest, is_news);
                if is_untried && matches!(place, QueuePlace::Behind(_)) {
                    content.is_to_be_tried(digest, began);
                }
                Ok((artifact, place))
            }
            // Its absence was reported before.
            Err(error) if self.ledger.current().is_none() && is_not_found(&error) => {
                content.is_lost();
                Err(Reload::Unchanged)
            }
            Err(error) => Err(self.refuse(&mut content, None, &error, began)),
        }
    }

    fn admit_file(&self, artifact: &Artifact, turn: SeatTurn<'_>) -> Reload {
        let mut record = self.ledger.record();
        if !record.rolled_back.contains(artifact.digest()) {
            record.rolled_back.clear();
        }
        drop(record);
        self.admit(artifact, Source::File, turn)
    }

    /// Replaces the component by these bytes, and its file: a restart finds them there.
    pub(crate) fn push(&self, bytes: Vec<u8>) -> Reload {
        let artifact = Artifact::new(bytes);
        let candidate = loop {
            match self.turns.enter(artifact.digest(), true) {
                QueuePlace::Newest(candidate) => break candidate,
                // If it is good, it has yet to be stored in the file.
                QueuePlace::Same(other) | QueuePlace::Behind(other) => {
                    match self.turns.result(&other) {
                        Reload::Replaced(_) | Reload::Unchanged => {}
                        result => return result,
                    }
                }
            }
        };
        let Some(turn) = self.turns.turn(candidate) else { return Reload::Overtaken };
        // Otherwise content that was just rolled back would be kept as the previous file.
        self.settle_or_say(&mut self.content());
        self.admit(&artifact, Source::Push, turn)
    }

    fn admit(&self, artifact: &Artifact, source: Source, turn: SeatTurn<'_>) -> Reload {
        let (digest, began) = (artifact.digest(), Instant::now());
        let is_in_use = self.ledger.current().is_some_and(|version| version.id().digest == *digest);
        let prepare = || self.prepare(artifact, turn.overtaken());
        let store = || self.store(artifact, turn.overtaken());
        let done = match source {
            Source::File if is_in_use => return turn.ends(Reload::Unchanged),
            Source::File => self.check_not_rolled_back(digest).and_then(|()| {
                let version = prepare()?;
                ensure!(turn.overtaken().take(), "is overtaken");
                Ok(Some(version))
            }),
            // The file may have other content by now.
            Source::Push if is_in_use => store().map(|()| None),
            Source::Push => prepare().and_then(|version| {
                store()?;
                Ok(Some(version))
            }),
        };
        let result = match done {
            Ok(None) => Reload::Unchanged,
            Ok(Some(version)) => Reload::Replaced(self.switch(version)),
            // Whatever else went wrong, it may be because of that.
            Err(_) if turn.overtaken().is_set() => {
                if source == Source::File {
                    self.content().is_to_be_tried(digest, began);
                }
                self.overtaken(digest.clone())
            }
            Err(error) => match source {
                Source::File => self.refuse(&mut self.content(), Some(digest), &error, began),
                Source::Push => self.reject(Some(digest.clone()), format!("pushed: {error:#}")),
            },
        };
        turn.ends(result)
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
    fn prepare(&self, artifact: &Artifact, overtaken: &Overtaken) -> anyhow::Result<Arc<Version>> {
        artifact.check_digest(self.config().sha256.as_deref())?;
        let generation = self.ledger.record().life.next_generation();
        let id = ComponentId {
            name: self.ledger.name().clone(),
            digest: artifact.digest().clone(),
            generation,
        };
        let (config, runtime) = (self.config().clone(), self.runtime.clone());
        let compiled = artifact.compile(
            runtime.compiler(),
            runtime.engine(),
            config.compile_limits(),
            overtaken,
        )?;
        if let Some(reason) = compiled.unconfined {
            let (name, reason) = (id.name.clone(), reason.into());
            self.ledger.emit(ComponentEvent::Unconfined { name, reason }.into());
        }
        let meters = self.ledger.meters().clone();
        let version =
            Version::link(&compiled.component, id, config, runtime, meters, overtaken.clone())?;
        let version = Arc::new(version);
        for line in try_out(&version)? {
            self.ledger.emit(EventKind::Component(ComponentEvent::Printed {
                component: version.id().clone(),
                line: line.into(),
            }));
        }
        check_exports(&version, &self.ledger.record().needs)?;
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

    /// Refuses what is in the file, for what came of it when it was tried from `began` on. If it is
    /// not to blame for that it is tried again, and what it is refused for is said once.
    fn refuse(
        &self,
        content: &mut FileContent,
        digest: Option<&Arc<str>>,
        error: &anyhow::Error,
        began: Instant,
    ) -> Reload {
        let reason = format!("{}: {error:#}", self.file().display());
        if !is_shortage(error) {
            if digest.is_none() {
                content.is_lost();
            }
            return self.reject(digest.cloned(), reason);
        }
        match digest {
            Some(digest) => content.is_to_be_tried(digest, try_again_at(began)),
            None => content.is_to_be_read(try_again_at(began)),
        }
        let reason = format!("{reason}; it will be tried again");
        let said = self.ledger.record().rejection.as_ref().is_some_and(|rejection| {
            rejection.digest.as_ref() == digest && *rejection.reason == *reason
        });
        if said { Reload::Rejected(reason) } else { self.reject(digest.cloned(), reason) }
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

    fn overtaken(&self, digest: Arc<str>) -> Reload {
        self.ledger.emit(EventKind::Component(ComponentEvent::Overtaken {
            name: self.ledger.name().clone(),
            digest,
        }));
        Reload::Overtaken
    }

    fn file(&self) -> &Path {
        self.ledger.file()
    }

    fn config(&self) -> &Arc<ComponentConfig> {
        self.ledger.config()
    }

    fn content(&self) -> MutexGuard<'_, FileContent> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
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
