//! Files that are looked at now and then: whether they have changed since they were loaded, and
//! have stopped changing.
//!
//! Looking follows symbolic links (Kubernetes replaces a mounted file by changing one), sees
//! renames, works on every file system, and costs microseconds.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files that are loaded together.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    paths: Vec<PathBuf>,
    loaded: Option<Vec<Stamp>>,
    last: Option<Vec<Stamp>>,
}

/// The metadata that changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also changes with permissions, and when the modification time was set back.
    changed: (i64, i64),
}

impl WatchedFiles {
    /// The first look always loads the files again, which finds those that were replaced during
    /// the start.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, loaded: None, last: None }
    }

    /// Looks at them. Returns whether there is something new to load: one has changed since they
    /// were loaded, and all are as they were at the last look, so they are complete.
    pub(crate) fn settled_anew(&mut self) -> bool {
        let now: Option<Vec<_>> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        let settled = now == self.last;
        // A removed file replaces nothing. When it comes back, its stamp has changed.
        let anew = settled && now.is_some() && now != self.loaded;
        if anew {
            self.loaded.clone_from(&now);
        }
        self.last = now;
        anew
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
