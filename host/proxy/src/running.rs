//! What a compiled configuration consists of: an immutable snapshot that all parts of the proxy
//! read.

use std::collections::BTreeMap;
use std::sync::Arc;

use fusebox_resilience::CircuitBreaker;
use fusebox_wasm::Components;

use crate::config::PolicyKind;
use crate::route::RouteTable;

/// What runs.
#[derive(Debug)]
pub struct Running {
    /// All routes and their upstreams.
    pub routes: Arc<RouteTable>,
    /// The kind of each policy, by name.
    pub kinds: BTreeMap<Arc<str>, PolicyKind>,
    /// The circuit breakers by name, to show and to move them.
    pub breakers: BTreeMap<Arc<str>, Arc<CircuitBreaker>>,
    /// The components that policies ask.
    pub components: Components,
}
