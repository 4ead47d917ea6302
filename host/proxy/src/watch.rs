//! Component files that change: each is loaded again once it has stopped changing.
//!
//! Files are looked at rather than subscribed to: a look follows symbolic links (Kubernetes swings
//! one to replace a mounted file), sees a rename over the name, works on every file system, and
//! costs microseconds.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fusebox_wasm::Components;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

/// How often the files are looked at. A file that looks the same twice in a row, and other than
/// when it was loaded, has been replaced and is complete.
const INTERVAL: Duration = Duration::from_millis(50);

/// How many components are loaded at a time: one that takes long to compile holds back no other,
/// and a hundred that change at once do not become a hundred compilers.
const LOADS: usize = 2;

/// Watches until it is dropped. What comes of each change is told by the components' own events.
pub(crate) async fn watch(components: Components) {
    let mut files: Vec<File> =
        components.files().map(|(name, path)| File::new(name, path)).collect();
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
        // A look can hang on a dead file server, and this runtime accepts connections.
        let looked = spawn_blocking(move || {
            settling.settle();
            let anew: Vec<_> = files
                .iter_mut()
                .filter_map(File::settled_anew)
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
    // Should it have panicked, the next change may do better.
    loaded.await.ok();
}

struct File {
    name: String,
    path: PathBuf,
    loaded: Option<Stamp>,
    last: Option<Stamp>,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Moves with permissions too, and when the time above was set back.
    changed: (i64, i64),
}

impl File {
    /// The first look loads it again, which does nothing but find a file that was replaced while
    /// the proxy started.
    fn new(name: &str, path: &Path) -> Self {
        Self { name: name.to_owned(), path: path.to_owned(), loaded: None, last: None }
    }

    /// Itself, if there is something new to load.
    fn settled_anew(&mut self) -> Option<&Self> {
        let now = Stamp::of(&self.path);
        let settled = now == self.last;
        self.last = now;
        // A file that is gone replaces nothing; when it is back it has a new stamp.
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
