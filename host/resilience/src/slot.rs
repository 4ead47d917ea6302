//! The questions that a policy may ask a component.

use serde::{Deserialize, Serialize};

/// What a policy asks for.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    /// Is it a failure?
    HandleIf,
    /// Does it end the retries?
    AbortIf,
    /// Does it end the race of hedges?
    CancelIf,
    /// Is it neutral for the breaker?
    IgnoreIf,
    /// What to answer instead?
    Respond,
    /// How long to wait?
    Delay,
    /// Whose call is it?
    Key,
}

impl Slot {
    /// Its word in the log and in the contract with components.
    pub fn name(self) -> &'static str {
        match self {
            Self::HandleIf => "handle-if",
            Self::AbortIf => "abort-if",
            Self::CancelIf => "cancel-if",
            Self::IgnoreIf => "ignore-if",
            Self::Respond => "respond",
            Self::Delay => "delay",
            Self::Key => "key",
        }
    }
}
