//! Component files that change: each is loaded again once it has stopped changing.
//!
//! Files are looked at rather than subscribed to: a look follows symbolic links (Kubernetes swings one to replace a mounted
//! file), sees a rename over the name, works on every file system, and costs microseconds.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fusebox_wasm::Components;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

/// How often the files are looked at. A file that looks the same twice in a row, and other than when it was loaded, has
/// been replaced and is complete.
const INTERVAL: Duration = Duration::from_millis(50);

/// Watches until it is dropped. What comes of each change is told by the components' own events.
pub(crate) async fn watch(components: Components) {
    let mut files: Vec<File> = components.files().map(|(name, path)| File::new(name, path)).collect();
    if files.is_empty() {
        return;
    }
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let components = components.clone();
        // A look can hang on a dead file server, compiling takes milliseconds to seconds, and this runtime accepts connections.
        let looked = spawn_blocking(move || {
            for file in files.iter_mut().filter_map(File::settled_anew) {
                components.reload(&file.name);
            }
            components.settle();
            files
        });
        match looked.await {
            Ok(looked) => files = looked,
            Err(_) => return,
        }
    }
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
    /// The first look loads it again, which does nothing but find a file that was replaced while the proxy started.
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
