//! Watches the files of certificates: reads them again once they have stopped changing.

use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{CertificateEvent, Observers};
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use super::listener::{ListenerTls, Rejected, Replaced};
use crate::watched::WatchedFiles;

/// How often the files are looked at. A certificate and its key are seldom replaced at once: both
/// have to be the same in two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// Watches until it is dropped. Events report what becomes of changes.
pub(crate) async fn watch(tls: Arc<ListenerTls>, observers: Observers) {
    let files = tls.files().into_iter();
    let mut files: Vec<_> = files.map(|(part, paths)| (part, WatchedFiles::new(paths))).collect();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (tls, observers) = (tls.clone(), observers.clone());
        // Reading can block on a dead file server, and this runtime accepts connections.
        let looked = spawn_blocking(move || {
            for (part, files) in &mut files {
                if files.settled_anew() {
                    report(tls.reload(*part), &observers);
                }
            }
            files
        });
        let Ok(looked) = looked.await else { return };
        files = looked;
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
