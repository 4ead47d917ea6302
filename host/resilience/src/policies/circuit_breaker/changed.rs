//! What is told of a circuit that an outcome has changed, and who may say for how long it is open.

use std::sync::Arc;

use tokio::time::Instant;

use super::breaker::Breaker;
use super::judgement::BreakerFailure;
use super::machine::CircuitTransition;
use super::shared::SharedCircuit;
use crate::call::Call;
use crate::delayer::DelayDecision;
use crate::outcome::{Outcome, OutcomeExt as _};

/// What has changed a circuit.
pub(super) struct ChangedBy<'a> {
    pub(super) call: &'a Call,
    pub(super) outcome: &'a Outcome,
    /// When the nearest limit ends the call.
    pub(super) deadline: Option<Instant>,
    /// `None`: the outcome is a success.
    pub(super) failure: Option<BreakerFailure>,
}

impl Breaker {
    /// An outcome has changed the circuit, which is that of `key`. If it has opened, a component
    /// may say for how long: it is asked without the lock, so meanwhile its own delay holds.
    #[cold]
    pub(super) fn changed(
        &self,
        circuit: &SharedCircuit,
        key: Option<Arc<str>>,
        mut transition: CircuitTransition,
        changed_by: ChangedBy<'_>,
    ) {
        let ChangedBy { call, outcome, deadline, failure } = changed_by;
        let BreakerFailure { requested, mut by } = failure.unwrap_or_default();
        if let (Some(delay), Some(own)) = (&self.settings.delay, transition.delay)
            && let DelayDecision::Wait { time, by: delayer } =
                delay.after(call, &self.name, deadline, outcome, own, transition.openings)
        {
            let time = time.max(requested.unwrap_or_default()).min(self.settings.max_delay);
            if circuit.stay_open(transition.generation, time) {
                transition.delay = Some(time);
                by = Some(delayer);
            }
        }
        let changed = circuit.event(transition, key);
        call.emit_about(outcome.attempt(), &self.name, by.as_ref(), changed);
    }
}
