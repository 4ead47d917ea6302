//! Chance: one seeded generator a worker.
//!
//! Pure functions take a number, not the generator, so that a test decides what chance decides.

use std::cell::RefCell;
use std::fmt;

/// A seeded source of random numbers.
pub struct Random(RefCell<fastrand::Rng>);

impl Random {
    /// A generator with this seed: the same seed, the same sequence.
    pub fn with_seed(seed: u64) -> Self {
        Self(RefCell::new(fastrand::Rng::with_seed(seed)))
    }

    /// A number in 0 (included) to 1 (excluded).
    pub fn fraction(&self) -> f64 {
        self.0.borrow_mut().f64()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
