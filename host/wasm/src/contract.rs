//! The contract with the guests: its text, and the names of the exports that the proxy calls.

use fusebox_resilience::Slot;

/// The contract: what `fusebox wit` prints.
pub const WIT: &str = include_str!("../../../wit/policy.wit");

/// What a component may export of the contract, and policies ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ContractExport {
    /// Answers `handle-if`.
    Predicate,
    /// Makes fallback responses.
    Fallback,
    /// Says how long to wait.
    Delay,
    /// Says whose call it is.
    Key,
}

impl ContractExport {
    pub(crate) const ALL: [Self; 4] = [Self::Predicate, Self::Fallback, Self::Delay, Self::Key];

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Predicate => "fusebox:policy/predicate@0.1.0",
            Self::Fallback => "fusebox:policy/fallback@0.1.0",
            Self::Delay => "fusebox:policy/delay@0.1.0",
            Self::Key => "fusebox:policy/key@0.1.0",
        }
    }

    /// What answers the question of this slot.
    pub(crate) fn of(slot: Slot) -> Self {
        match slot {
            Slot::HandleIf | Slot::AbortIf | Slot::CancelIf | Slot::IgnoreIf => Self::Predicate,
            Slot::Respond => Self::Fallback,
            Slot::Delay => Self::Delay,
            Slot::Key => Self::Key,
        }
    }
}

/// The function of the contract that gives a trailer, in the interface that
/// [`is_attempt`] knows.
pub(crate) const TRAILER: &str = "response-trailer";

/// Whether `import` is the interface about the attempt, in any of its patches.
pub(crate) fn is_attempt(import: &str) -> bool {
    import.starts_with("fusebox:policy/attempt@0.1.")
}

/// The export of a standard HTTP component, in any of its patches.
pub(crate) const HANDLER: &str = "wasi:http/incoming-handler@0.2";

/// Whether `export` is that of a standard HTTP component.
pub(crate) fn is_handler(export: &str) -> bool {
    export.strip_prefix(HANDLER).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
