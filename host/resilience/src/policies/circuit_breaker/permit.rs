//! Permits to ask the upstream, and what there is in place of one.

use std::time::Duration;

use crate::priority::PriorityLevel;

/// Leave to ask the upstream once. The machine is told its result, or gets it back by `release`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CircuitPermit {
    pub(super) generation: u64,
    /// From 1; 0: it is none.
    pub(super) trial: u64,
}

impl CircuitPermit {
    /// Of a generation in which the circuit is closed.
    pub(super) fn of_closed(generation: u64) -> Self {
        Self { generation, trial: 0 }
    }

    /// Of half-open.
    pub(super) fn is_trial(self) -> bool {
        self.trial > 0
    }
}

/// What a circuit wants to know of a call that asks for a permit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CircuitCaller {
    /// `None`: all calls are equally important.
    pub(super) level: Option<PriorityLevel>,
    /// Whether its client has yet to send some of its body.
    pub(super) owes_body: bool,
}

/// No permit; `remaining` is how long the circuit stays open, or when to look again whether a trial
/// has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CircuitRejection {
    pub(super) remaining: Duration,
}
