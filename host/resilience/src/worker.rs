//! What a worker lends to the calls that it runs.

use crate::event::Observers;
use crate::random::Random;
use crate::timers::Timers;

/// A worker's own observers, timers and chance. Calls share one by reference count, on one thread.
#[derive(Debug)]
pub struct Worker {
    observers: Observers,
    timers: Timers,
    random: Random,
}

impl Worker {
    /// A worker that tells these observers and draws from this chance.
    pub fn new(observers: Observers, random: Random) -> Self {
        Self { observers, timers: Timers::default(), random }
    }

    /// A worker that nobody observes: for trying out a component.
    pub fn unobserved() -> Self {
        Self::new(Observers::default(), Random::with_seed(0))
    }

    /// Who hears of events.
    pub fn observers(&self) -> &Observers {
        &self.observers
    }

    /// For limits on what a call waits for.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// For delays that are drawn.
    pub fn random(&self) -> &Random {
        &self.random
    }
}
