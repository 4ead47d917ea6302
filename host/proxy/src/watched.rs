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
    /// As they were when they were last to be loaded, or gone; at first, nobody knows.
    seen: Option<Option<Vec<Stamp>>>,
    last: Option<Vec<Stamp>>,
}

/// What there is to see since they were loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FilesSeen {
    Nothing,
    /// One has changed.
    Anew,
    /// One is gone. That replaces nothing.
    Gone,
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
        Self { paths, seen: None, last: None }
    }

    /// Looks at them.
    pub(crate) fn look(&mut self) -> FilesSeen {
        let now: Option<Vec<_>> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        // Then they are complete, and who removes one to replace it has done so.
        let has_settled = now == self.last;
        let seen = match has_settled && self.seen.as_ref() != Some(&now) {
            false => FilesSeen::Nothing,
            true if now.is_some() => FilesSeen::Anew,
            true => FilesSeen::Gone,
        };
        if seen != FilesSeen::Nothing {
            self.seen = Some(now.clone());
        }
        self.last = now;
        seen
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
