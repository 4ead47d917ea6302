//! What becomes of a new version, and of a roll-back.

use fusebox_resilience::ComponentId;

/// The result of loading a new version.
#[derive(Clone, Debug, PartialEq)]
pub enum Reload {
    /// The content is that of the version in use.
    Unchanged,
    /// Calls now run on this version.
    Replaced(ComponentId),
    /// The version in use stays, for this reason.
    Rejected(String),
    /// Newer content came meanwhile, and is tried in its place.
    Overtaken,
}

/// The result of a manual roll-back.
#[derive(Clone, Debug, PartialEq)]
pub struct RollBack {
    /// The version now in use.
    pub component: ComponentId,
    /// The version that was in use.
    pub from: ComponentId,
    /// Why a restart would load another version, if it would: its file has other content.
    pub warning: Option<String>,
}
