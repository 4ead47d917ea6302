//! The pool: instances that a worker keeps for its next calls, at most one for each component.
//!
//! A worker takes an instance out while it calls it, so a call that fails simply does not put it
//! back: the guest's state is dropped, and later calls cannot see it.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::time::Instant;

use crate::instance::Instance;
use crate::meters::Meters;

thread_local! {
    /// A handful, so a list.
    static INSTANCES: RefCell<Vec<Instance>> = const { RefCell::new(Vec::new()) };
}

/// Takes out this thread's instance of the component with these meters, unless it is of a version
/// that was replaced.
pub(crate) fn take(meters: &Arc<Meters>) -> Option<Instance> {
    INSTANCES.with_borrow_mut(|instances| {
        let index = instances
            .iter()
            .position(|instance| Arc::ptr_eq(instance.version().meters(), meters))?;
        Some(instances.swap_remove(index)).filter(|instance| !instance.version().is_retired())
    })
}

/// Keeps an instance for this thread's next call.
pub(crate) fn put(instance: Instance) {
    INSTANCES.with_borrow_mut(|instances| instances.push(instance));
}

/// Whether this thread has an instance of the component with these meters.
pub(crate) fn has(meters: &Arc<Meters>) -> bool {
    INSTANCES.with_borrow(|instances| {
        instances.iter().any(|instance| Arc::ptr_eq(instance.version().meters(), meters))
    })
}

/// Drops this thread's instances that have grown and were last called before this time. Returns
/// whether there were any.
pub(crate) fn drop_grown(before: Instant) -> bool {
    INSTANCES.with_borrow_mut(|instances| {
        let count = instances.len();
        instances.retain(|instance| !instance.has_grown() || instance.last_call() >= before);
        instances.len() < count
    })
}

/// Drops this thread's instances of versions that were replaced.
pub(crate) fn drop_stale() {
    INSTANCES
        .with_borrow_mut(|instances| instances.retain(|instance| !instance.version().is_retired()));
}
