//! Work that outlives the call which began it, such as reading the rest of a response that is to be
//! kept. Policies spawn nothing; they ask their worker for this.

use std::fmt;

use futures_util::future::LocalBoxFuture;

/// Runs such work, on the worker that it came from. There is a bound on how much runs at once, and
/// at a shutdown it is waited for as calls are.
pub trait Background {
    /// Whether there is a place for more.
    fn has_place(&self) -> bool;

    /// Runs `work` beside the calls. Without a place, it is dropped.
    fn run(&self, work: LocalBoxFuture<'static, ()>);
}

/// There is none.
pub(crate) struct NoBackground;

impl Background for NoBackground {
    fn has_place(&self) -> bool {
        false
    }

    fn run(&self, _: LocalBoxFuture<'static, ()>) {}
}

impl fmt::Debug for dyn Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background").finish_non_exhaustive()
    }
}
