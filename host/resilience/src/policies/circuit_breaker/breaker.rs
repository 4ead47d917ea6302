//! A breaker as its permits know it.

use std::sync::Arc;
use std::time::Duration;

use super::machine::CircuitTransition;
use super::shared::SharedCircuit;
use crate::condition::Condition;
use crate::event::CircuitBreakerEvent;
use crate::keyed::Keyed;
use crate::request::Request;

#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) name: Arc<str>,
    pub(super) settings: BreakerSettings,
    /// What outlives the settings: the states, and the results that they are judged by.
    pub(super) circuits: Keyed<SharedCircuit>,
}

impl Breaker {
    /// The circuit of this request has changed.
    pub(super) fn changed(
        &self,
        CircuitTransition { from, to, delay }: CircuitTransition,
        request: &Request,
    ) -> CircuitBreakerEvent {
        CircuitBreakerEvent::StateChanged { from, to, delay, key: self.circuits.key_of(request) }
    }
}

/// How outcomes are judged.
#[derive(Debug)]
pub(super) struct BreakerSettings {
    /// When the circuit opens, and for how long.
    pub(super) words: String,
    pub(super) handle_if: Condition,
    pub(super) ignore_if: Condition,
    pub(super) slow_call: Option<Duration>,
    /// Slow calls are no failures, but counted apart.
    pub(super) are_slow_apart: bool,
    pub(super) retry_after: bool,
}
