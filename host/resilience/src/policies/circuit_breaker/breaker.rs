//! A breaker as its permits know it.

use std::sync::Arc;
use std::time::Duration;

use super::shared::SharedCircuit;
use crate::condition::Condition;

#[derive(Debug)]
pub(super) struct Breaker {
    pub(super) name: Arc<str>,
    pub(super) settings: BreakerSettings,
    /// What outlives the settings: the state, and the results that it is judged by.
    pub(super) circuit: SharedCircuit,
}

/// How outcomes are judged.
#[derive(Debug)]
pub(super) struct BreakerSettings {
    pub(super) handle_if: Condition,
    pub(super) ignore_if: Condition,
    pub(super) slow_call: Option<Duration>,
    pub(super) retry_after: bool,
}
