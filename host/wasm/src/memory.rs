//! The memory of all guests together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use fusebox_resilience::config::ConfigSize;

use crate::meters::Meters;

/// Bounds the linear memory of all guests of a configuration together, over all components and
/// workers. Clones share the bound.
#[derive(Clone, Debug)]
pub struct ComponentMemory(Arc<SharedMemory>);

#[derive(Debug)]
struct SharedMemory {
    limit: usize,
    held: AtomicUsize,
}

impl Default for ComponentMemory {
    fn default() -> Self {
        Self::within(ConfigSize::gib(2))
    }
}

impl ComponentMemory {
    /// At most so much.
    pub fn within(limit: ConfigSize) -> Self {
        Self(Arc::new(SharedMemory { limit: limit.in_memory(), held: AtomicUsize::new(0) }))
    }

    fn try_take(&self, bytes: usize) -> bool {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.0.limit);
        self.0.held.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Relaxed);
    }
}

/// What one instance holds, which it gives back when it is dropped. Only growing is counted, so a
/// call that needs no more memory writes nothing that workers share.
#[derive(Debug)]
pub(crate) struct MemoryAccount {
    total: ComponentMemory,
    /// Of the component.
    meters: Arc<Meters>,
    held: usize,
}

impl MemoryAccount {
    pub(crate) fn open(total: &ComponentMemory, meters: &Arc<Meters>) -> Self {
        Self { total: total.clone(), meters: meters.clone(), held: 0 }
    }

    /// Bytes.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// The bound for all guests.
    pub(crate) fn limit(&self) -> ConfigSize {
        ConfigSize(self.total.0.limit as u64)
    }

    /// Returns `false`, and takes nothing, if all guests together would hold too much.
    pub(crate) fn try_take(&mut self, bytes: usize) -> bool {
        let has = self.total.try_take(bytes);
        if has {
            self.held += bytes;
            self.meters.memory_taken(bytes);
        }
        has
    }

    pub(crate) fn give_back(&mut self, bytes: usize) {
        self.held -= bytes;
        self.total.give_back(bytes);
        self.meters.memory_given_back(bytes);
    }
}

impl Drop for MemoryAccount {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever instances take and give back: never more than the bound, and nothing is lost.
        #[test]
        fn what_is_held_is_what_was_taken_and_within_the_bound(
            steps in prop::collection::vec((0..4_usize, 0..60_usize, any::<bool>()), 0..100),
        ) {
            let total = ComponentMemory::within(ConfigSize(100));
            let meters = Arc::new(Meters::default());
            let mut accounts: Vec<_> =
                (0..4).map(|_| Some(MemoryAccount::open(&total, &meters))).collect();
            for (index, bytes, ends) in steps {
                let others: usize = accounts.iter().flatten().map(MemoryAccount::held).sum();
                match &mut accounts[index] {
                    account if ends => drop(account.take()),
                    Some(account) => {
                        prop_assert_eq!(account.try_take(bytes), others + bytes <= 100);
                    }
                    account => *account = Some(MemoryAccount::open(&total, &meters)),
                }
                let held: usize = accounts.iter().flatten().map(MemoryAccount::held).sum();
                prop_assert_eq!(total.0.held.load(Relaxed), held);
                prop_assert_eq!(meters.memory(), held);
                prop_assert!(held <= 100);
            }
        }
    }
}
