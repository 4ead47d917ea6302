//! What a compiled configuration consists of: an immutable snapshot that all parts of the proxy
//! read.

use std::collections::BTreeMap;
use std::sync::Arc;

use fusebox_resilience::Policy;
use fusebox_wasm::Components;

use crate::route::RouteTable;

/// Policies by name.
pub type PoliciesByName = BTreeMap<Arc<str>, Arc<dyn Policy>>;

/// What runs.
#[derive(Debug)]
pub struct Running {
    /// All routes and their upstreams.
    pub routes: Arc<RouteTable>,
    /// All policies, to show and to command them.
    pub policies: PoliciesByName,
    /// The components that policies ask.
    pub components: Components,
}
