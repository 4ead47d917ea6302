//! A value in as many shards as threads can run at once. Each thread changes its own, so that no
//! two take a cache line from each other, and whoever wants the whole looks at all of them.

use std::sync::OnceLock;
#[cfg(not(test))]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use crossbeam_utils::CachePadded;

/// More would make looking at all of them slow.
const MAX_SHARDS: usize = 64;

/// One of these per thread, or for a few threads if there are more of them than cores.
#[derive(Debug)]
pub(crate) struct Sharded<T>(Box<[CachePadded<T>]>);

impl<T: Default> Default for Sharded<T> {
    fn default() -> Self {
        Self::with_shards(cores().min(MAX_SHARDS))
    }
}

impl<T: Default> Sharded<T> {
    pub(crate) fn with_shards(count: usize) -> Self {
        Self(std::iter::repeat_with(CachePadded::default).take(count.max(1)).collect())
    }
}

impl<T> Sharded<T> {
    /// The shard of this thread. Others may use it too.
    pub(crate) fn own(&self) -> &T {
        &self.0[place() % self.0.len()]
    }

    /// All shards.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &**shard)
    }
}

/// The system is asked once: it reads files.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| available_parallelism().map_or(1, usize::from))
}

/// Threads are numbered as they come.
#[cfg(not(test))]
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    PLACE.with(|place| *place)
}

#[cfg(test)]
loom::thread_local! {
    static PLACE: std::cell::Cell<usize> = std::cell::Cell::new(0);
}

#[cfg(test)]
fn place() -> usize {
    PLACE.with(std::cell::Cell::get)
}

/// Numbers this thread: a model has to do the same each time.
#[cfg(test)]
pub(crate) fn take_place(place: usize) {
    PLACE.with(|it| it.set(place));
}
