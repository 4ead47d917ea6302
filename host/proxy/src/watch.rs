//! Watches component files: loads each again once it has stopped changing. A change during a load
//! overtakes it.
//!
//! It polls the files (`watched.rs`).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fusebox_wasm::Components;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::watched::{FilesSeen, WatchedFiles};

/// How often the files are looked at. A file that has changed since it was loaded, and is the same
/// in two looks, is complete.
const INTERVAL: Duration = Duration::from_millis(50);

/// A file that is gone for longer than this is missed. Who replaces one may remove it first, and a
/// build takes its time.
const MISSED: Duration = Duration::from_secs(1);

/// How many components are loaded at a time, so that many changes at once do not start as many
/// compilers;
const LOADS: usize = 2;
/// but one that takes longer than this gives its place to the others.
const LONG: Duration = Duration::from_secs(1);

/// Watches until it is dropped. The components' events report each load.
pub(crate) async fn watch(components: Components) {
    let watched = |(name, path): (&str, &Path)| WatchedFile {
        name: name.to_owned(),
        files: WatchedFiles::new(vec![path.to_owned()]),
        gone: None,
    };
    let mut files: Vec<WatchedFile> = components.files().map(watched).collect();
    if files.is_empty() {
        return;
    }
    let places = Arc::new(Semaphore::new(LOADS));
    let loads: BTreeMap<String, Rc<Loads>> =
        files.iter().map(|file| (file.name.clone(), Rc::default())).collect();
    let mut tasks = JoinSet::new();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while tasks.try_join_next().is_some() {}
        let settling = components.clone();
        // Looking can block on a dead file server, and this runtime accepts connections.
        let looked = spawn_blocking(move || {
            settling.settle();
            let anew: Vec<_> = files
                .iter_mut()
                .filter_map(|file| {
                    let has_news = file.look() || settling.has_untried(&file.name);
                    has_news.then(|| file.name.clone())
                })
                .collect();
            (files, anew)
        });
        let Ok((looked, anew)) = looked.await else { return };
        files = looked;
        for name in anew {
            let Some(loads) = loads.get(&name) else { continue };
            // One that waits will find the newest content.
            if !loads.waits.get() {
                let (components, places) = (components.clone(), places.clone());
                tasks.spawn_local(loads.clone().load(name, components, places));
            }
        }
    }
}

/// The loads of one component.
#[derive(Debug, Default)]
struct Loads {
    /// One waits for a place.
    waits: Cell<bool>,
    under_way: Cell<usize>,
}

impl Loads {
    async fn load(self: Rc<Self>, name: String, components: Components, places: Arc<Semaphore>) {
        // What is newer than a load under way ends that, so it needs no place.
        let place = if self.under_way.get() == 0 {
            self.waits.set(true);
            let place = places.acquire_owned().await.ok();
            self.waits.set(false);
            place
        } else {
            None
        };
        self.under_way.update(|loads| loads + 1);
        let mut load = spawn_blocking(move || components.file_changed(&name));
        if timeout(LONG, &mut load).await.is_err() {
            drop(place);
            // After a panic the next change tries again.
            load.await.ok();
        }
        self.under_way.update(|loads| loads - 1);
    }
}

struct WatchedFile {
    name: String,
    files: WatchedFiles,
    /// Since when, until that is told.
    gone: Option<Instant>,
}

impl WatchedFile {
    /// Whether it has to be read: it is complete anew, or missed, which reading it tells.
    fn look(&mut self) -> bool {
        let seen = self.files.look();
        match seen {
            FilesSeen::Anew => self.gone = None,
            FilesSeen::Gone => self.gone = Some(Instant::now()),
            FilesSeen::Nothing => {}
        }
        let missed = self.gone.take_if(|since| since.elapsed() >= MISSED);
        seen == FilesSeen::Anew || missed.is_some()
    }
}
