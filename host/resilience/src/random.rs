//! Chance: one seeded generator, handed out by [`Parts`](crate::config::Parts).
//!
//! Pure functions take a number, not the generator, so that a test decides what chance decides.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// A shared, seeded source of random numbers. Clones draw from the same sequence.
#[derive(Clone)]
pub struct Random(Arc<Mutex<fastrand::Rng>>);

impl Random {
    /// A generator with this seed: the same seed, the same sequence.
    pub fn with_seed(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// A number in 0 (included) to 1 (excluded).
    pub fn fraction(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).f64()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}
