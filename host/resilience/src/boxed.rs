//! Boxes for futures.

use std::pin::Pin;

/// A box of the future that `make` makes, which moves what it needs.
///
/// `Box::pin` has the future first and then moves all of it, most of which is room for later. Here
/// only what it begins with is written.
#[inline(always)]
pub fn boxed<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    // If there was no memory, a future that there was already would have to be dropped, and so have
    // a place of its own.
    let place = Box::new_uninit();
    Box::into_pin(Box::write(place, make()))
}
