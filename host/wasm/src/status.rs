//! What a component has done so far, for `/state` and `/metrics`.

use std::path::PathBuf;
use std::sync::Arc;

use fusebox_resilience::{ComponentId, Fault};
use tokio::time::Instant;

use crate::life::ComponentStanding;
use crate::meters::CallHistogram;

/// A component's current state. Its numbers count from its first version on.
#[derive(Clone, Debug)]
pub struct ComponentStatus {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its file.
    pub file: PathBuf,
    /// The version in use; `None` if an `optional` component has none yet.
    pub version: Option<ComponentId>,
    /// Where that version stands.
    pub standing: ComponentStanding,
    /// Whether it answers `handle-if`.
    pub is_predicate: bool,
    /// Whether it makes fallback responses.
    pub is_fallback: bool,
    /// The versions that can be rolled back to, the latest first.
    pub kept: Vec<ComponentId>,
    /// The last version that was not taken.
    pub rejection: Option<ComponentRejection>,
    /// Calls into it that have ended, however they ended.
    pub calls: u64,
    /// What they took.
    pub call_times: CallHistogram,
    /// Questions that `on_error` answered without a call: there was no version, it was in
    /// quarantine, or had as many instances as it may.
    pub skipped: u64,
    /// How many calls failed, and starts, by how they did; every kind once.
    pub faults: Vec<(Fault, u64)>,
    /// Instances that workers keep, or that handle requests.
    pub instances: usize,
    /// Bytes of linear memory that they hold.
    pub memory: usize,
}

/// A version that was not taken.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentRejection {
    /// Its SHA-256 in hex; `None` if it could not be read.
    pub digest: Option<Arc<str>>,
    /// Why.
    pub reason: Arc<str>,
    /// When.
    pub at: Instant,
}
