//! Watches the files of certificates: reads them again once they have stopped changing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fusebox_resilience::{CertificateEvent, Observers};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::watched::{FilesSeen, WatchedFiles};

/// How often the files are looked at. A certificate and its key are seldom replaced at once: both
/// have to be the same in two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// What is made of files, and can be made of them again.
pub(crate) trait Reloads: Send + Sync {
    /// The files of each part, which are read together. A part may have none.
    fn parts(&self) -> Vec<Vec<PathBuf>>;

    /// Reads the files of a part again, and uses what they have from now on. `None`: that is in use
    /// already.
    ///
    /// # Errors
    /// It can't be used, and what was in use stays.
    fn reload(&self, part: usize) -> Result<Option<Replaced>, Rejected>;
}

/// A file whose new content is in use.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(super) file: String,
    /// Until when it is valid, if it is a certificate of our own.
    pub(super) until: Option<SystemTime>,
}

/// A file whose new content is not used.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(super) file: String,
    pub(super) reason: String,
}

/// Watches until it is dropped. Events report what becomes of changes.
pub(crate) async fn watch(all: Vec<Arc<dyn Reloads>>, observers: Observers) {
    let parts = all.into_iter().flat_map(|of| {
        let parts = of.parts().into_iter().enumerate().filter(|(_, paths)| !paths.is_empty());
        let watched = parts.map(|(part, paths)| (part, WatchedFiles::new(paths)));
        watched.map(|(part, files)| (of.clone(), part, files)).collect::<Vec<_>>()
    });
    let mut parts: Vec<_> = parts.collect();
    if parts.is_empty() {
        return;
    }
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let observers = observers.clone();
        // Reading can block on a dead file server, and this runtime accepts connections.
        let looked = spawn_blocking(move || {
            for (of, part, files) in &mut parts {
                // Reading says which one is gone; what was in use stays.
                if files.look() != FilesSeen::Nothing {
                    report(of.reload(*part), &observers);
                }
            }
            parts
        });
        let Ok(looked) = looked.await else { return };
        parts = looked;
    }
}

fn report(reloaded: Result<Option<Replaced>, Rejected>, observers: &Observers) {
    let event = match reloaded {
        Ok(None) => return,
        Ok(Some(Replaced { file, until })) => CertificateEvent::Replaced { file, until },
        Err(Rejected { file, reason }) => CertificateEvent::Rejected { file, reason },
    };
    observers.emit_for_policy(None, &event.into());
}
