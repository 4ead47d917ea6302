//! What others may know of the machine: a call that goes on without it, and an observer.

use std::time::Duration;

use tokio::time::Instant;

use super::window::WindowCounts;
use crate::event::CircuitState;

/// Where a machine stands, as far as a call must know to go on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CircuitStanding {
    /// Calls are let through. Settled, a success changes nothing: it takes the place of another.
    Closed { generation: u64, is_settled: bool },
    /// Calls are rejected until then; none: for longer than time is told.
    Open { until: Option<Instant> },
    /// A share of the calls is let through.
    Ramping,
    /// Trials.
    HalfOpen,
}

/// What an observer may know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CircuitStatus {
    /// Where it stands. Open turns half-open on the first call after the delay, so it may be open
    /// with nothing remaining.
    pub state: CircuitState,
    /// The results that it is judged by.
    pub counts: WindowCounts,
    /// How many of them were slow, if those are counted apart.
    pub slow_calls: usize,
    /// The share of calls that is admitted: between 0 and 1 only after closing.
    pub admitted: f64,
    /// How long it stays open.
    pub remaining_delay: Duration,
    /// Trials under way.
    pub trials: usize,
    /// How many openings in a row there were.
    pub openings: u32,
}
