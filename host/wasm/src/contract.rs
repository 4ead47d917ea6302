//! The contract with the guests: its text, and the names of the exports that the proxy calls.

/// The contract: what `fusebox wit` prints.
pub const WIT: &str = include_str!("../../../wit/policy.wit");

/// The export of a component that answers `handle-if`.
pub(crate) const PREDICATE: &str = "fusebox:policy/predicate@0.1.0";
/// The export of a component that makes fallback responses.
pub(crate) const FALLBACK: &str = "fusebox:policy/fallback@0.1.0";
/// The export of a standard HTTP component, in any of its patches.
pub(crate) const HANDLER: &str = "wasi:http/incoming-handler@0.2";

/// Whether `export` is that of a standard HTTP component.
pub(crate) fn is_handler(export: &str) -> bool {
    export.strip_prefix(HANDLER).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
