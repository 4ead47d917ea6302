//! Whether newer content has come while a version is compiled or tried out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

/// How often those who wait look whether they still have to.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

const OPEN: u8 = 0;
const OVERTAKEN: u8 = 1;
const TAKEN: u8 = 2;

/// Set once nobody wants a version any more that is not in use yet: its compiler and its guests
/// end. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overtaken(Arc<AtomicU8>);

impl Overtaken {
    /// Newer content has come. Changes nothing for a version that was taken.
    pub(crate) fn set(&self) {
        self.0.compare_exchange(OPEN, OVERTAKEN, Relaxed, Relaxed).ok();
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed) == OVERTAKEN
    }

    /// The version is taken: from now on nothing overtakes it. Returns `false` if something has.
    pub(crate) fn take(&self) -> bool {
        self.0.compare_exchange(OPEN, TAKEN, Relaxed, Relaxed).is_ok()
    }
}
