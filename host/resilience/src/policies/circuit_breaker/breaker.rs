//! A breaker as its permits know it.

use std::sync::Arc;
use std::time::Duration;

use super::endpoint_circuits::EndpointCircuits;
use super::shared::SharedCircuit;
use crate::condition::Condition;
use crate::delay::ComponentDelay;
use crate::keyed::Keyed;

#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) name: Arc<str>,
    pub(super) settings: BreakerSettings,
    /// What outlives the settings: the states, and the results that they are judged by.
    pub(super) circuits: Keyed<SharedCircuit>,
    /// In place of those, if there is one for each endpoint.
    pub(super) of_endpoints: Option<EndpointCircuits>,
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
    /// Who may say for how long it stays open,
    pub(super) delay: Option<ComponentDelay>,
    /// which is at most so long.
    pub(super) max_delay: Duration,
}
