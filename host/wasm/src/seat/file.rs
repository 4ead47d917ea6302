//! The file of a seat: replaced by a push, and put back after a roll-back.

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use super::reload::RollBack;
use super::{FileContent, Seat, storage};
use crate::artifact::Artifact;
use crate::overtaken::Overtaken;

impl Seat {
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
        let settled = self.settle_file(&mut self.content()).and_then(|()| {
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
        let is_unsettled = self.ledger.record().is_unsettled;
        if is_unsettled {
            self.settle_or_say(&mut self.content());
        }
    }

    pub(super) fn settle_or_say(&self, content: &mut FileContent) {
        if let Err(error) = self.settle_file(content) {
            self.reject(None, format!("{error:#}"));
        }
    }

    fn settle_file(&self, content: &mut FileContent) -> anyhow::Result<()> {
        let mut guard = self.ledger.record();
        let record = &mut *guard;
        let is_unsettled = std::mem::take(&mut record.is_unsettled);
        let rolled_back =
            record.pushed.take_if(|pushed| is_unsettled && record.rolled_back.contains(pushed));
        let current = record.life.current().map(|version| version.id().digest.clone());
        drop(guard);
        if let (Some(pushed), Some(current)) = (rolled_back, current) {
            storage::put_back(self.file(), &pushed, &current).with_context(|| {
                format!("{}: can't be put back as it was before the push", self.file().display())
            })?;
            content.is_put_back(current);
        }
        Ok(())
    }

    /// Writes pushed content into the file, unless that has newer content.
    pub(super) fn store(&self, artifact: &Artifact, overtaken: &Overtaken) -> anyhow::Result<()> {
        // While it is held nobody finds newer content. What the watcher will find is no news.
        let mut content = self.content();
        ensure!(overtaken.take(), "is overtaken");
        let replaced = storage::store(self.file(), artifact)
            .with_context(|| format!("can't be written to {}", self.file().display()))?;
        content.is_replaced(artifact.digest());
        if replaced {
            self.ledger.record().pushed = Some(artifact.digest().clone());
        }
        Ok(())
    }
}
