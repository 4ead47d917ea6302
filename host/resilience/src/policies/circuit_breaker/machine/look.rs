//! A look at the machine by who has a choice: it takes no permit and changes nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::{CircuitMachine, CircuitPhase, LOOK_AGAIN};
use crate::gate::EndpointLook;

impl CircuitMachine {
    /// Whether a permit may be had, as far as chance does not decide that; if not, for how long.
    pub(in super::super) fn look(&self, now: Instant) -> Result<EndpointLook, Duration> {
        match &self.phase {
            CircuitPhase::Closed { .. } => Ok(EndpointLook::Ready),
            CircuitPhase::Open { since, delay, .. } => {
                let remaining = delay.saturating_sub(now.saturating_duration_since(*since));
                if remaining.is_zero() { Ok(EndpointLook::Due) } else { Err(remaining) }
            }
            CircuitPhase::HalfOpen { trials, .. } => {
                let (most, limit) = (self.settings.trials(), self.settings.trial_timeout);
                let has_place = trials.undecided(limit, now) < most;
                has_place.then_some(EndpointLook::Ready).ok_or(LOOK_AGAIN)
            }
        }
    }
}
