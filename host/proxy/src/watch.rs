//! Watches component files: loads each again once it has stopped changing.
//!
//! It polls the files. Polling follows symbolic links (Kubernetes replaces a mounted file by
//! changing one), sees renames, works on every file system, and costs microseconds.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fusebox_wasm::Components;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

/// How often the files are looked at. A file that has changed since it was loaded, and is the same
/// in two looks, is complete.
const INTERVAL: Duration = Duration::from_millis(50);

/// How many components are loaded at a time: a slow one does not block the others, and many changes
/// at once do not start as many compilers.
const LOADS: usize = 2;

/// Watches until it is dropped. The components' events report each load.
pub(crate) async fn watch(components: Components) {
    let mut files: Vec<WatchedFile> =
        components.files().map(|(name, path)| WatchedFile::new(name, path)).collect();
    if files.is_empty() {
        return;
    }
    let places = Arc::new(Semaphore::new(LOADS));
    let mut loads = JoinSet::new();
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        while loads.try_join_next().is_some() {}
        let settling = components.clone();
        // Looking can block on a dead file server, and this runtime accepts connections.
        let looked = spawn_blocking(move || {
            settling.settle();
            let anew: Vec<_> = files
                .iter_mut()
                .filter_map(WatchedFile::settled_anew)
                .map(|file| file.name.clone())
                .collect();
            (files, anew)
        });
        let Ok((looked, anew)) = looked.await else { return };
        files = looked;
        for name in anew {
            loads.spawn_local(load(name, components.clone(), places.clone()));
        }
    }
}

async fn load(name: String, components: Components, places: Arc<Semaphore>) {
    let Ok(place) = places.acquire_owned().await else { return };
    let loaded = spawn_blocking(move || {
        let _place = place;
        components.reload(&name);
    });
    // After a panic the next change tries again.
    loaded.await.ok();
}

struct WatchedFile {
    name: String,
    path: PathBuf,
    loaded: Option<Stamp>,
    last: Option<Stamp>,
}

/// The metadata that changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also changes with permissions, and when the modification time was set back.
    changed: (i64, i64),
}

impl WatchedFile {
    /// The first look always loads the file again, which finds a file that was replaced during the
    /// start.
    fn new(name: &str, path: &Path) -> Self {
        Self { name: name.to_owned(), path: path.to_owned(), loaded: None, last: None }
    }

    /// Returns itself if there is a new file to load.
    fn settled_anew(&mut self) -> Option<&Self> {
        let now = Stamp::of(&self.path);
        let settled = now == self.last;
        self.last = now;
        // A removed file replaces nothing. When it comes back, its stamp has changed.
        let anew = settled && now.is_some() && now != self.loaded;
        if anew {
            self.loaded = now;
        }
        anew.then_some(self)
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata: Metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}
