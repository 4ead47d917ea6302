//! What threads share state with: the standard library's, and in this crate's unit tests loom's,
//! which tries every order in which threads can get there. loom's works within `loom::model` only.

#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(not(test))]
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
}

#[cfg(test)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(test)]
pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
}
