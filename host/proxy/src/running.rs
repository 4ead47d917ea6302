//! What a compiled configuration consists of: an immutable snapshot that all parts of the proxy
//! read.

use std::collections::BTreeMap;
use std::sync::Arc;

use fusebox_resilience::{Budget, BudgetStatus, Policy};
use fusebox_wasm::Components;
use tokio::time::Instant;

use crate::route::RouteTable;
use crate::tls::{CertificateStatus, ListenerTls};

/// Policies by name.
pub type PoliciesByName = BTreeMap<Arc<str>, Arc<dyn Policy>>;

/// What runs.
#[derive(Debug)]
pub struct Running {
    /// All routes and their upstreams.
    pub routes: Arc<RouteTable>,
    /// All policies, to show and to command them.
    pub policies: PoliciesByName,
    /// The budgets that the configuration declares. Those of upstreams are beside their upstreams.
    pub budgets: BTreeMap<String, Arc<Budget>>,
    /// The components that policies ask.
    pub components: Components,
    /// TLS towards clients. `None`: they do not speak it.
    pub tls: Option<Arc<ListenerTls>>,
}

impl Running {
    /// The certificates in use: those for clients, and those that upstreams are shown.
    pub fn certificates(&self) -> impl Iterator<Item = CertificateStatus> {
        let listener = self.tls.iter().flat_map(|tls| tls.certificates());
        let upstreams = self.routes.tls();
        listener.chain(upstreams.filter_map(|tls| tls.certificate()))
    }

    /// The declared budgets by name, and those of upstreams by the upstream's, as they are used
    /// now.
    pub fn budget_uses(&self) -> impl Iterator<Item = (&str, BudgetStatus)> {
        let now = Instant::now();
        let declared = self.budgets.iter().map(|(name, budget)| (&**name, budget));
        let own = self.routes.upstreams().iter();
        let own = own.map(|upstream| (upstream.label(), &upstream.budget));
        declared.chain(own).map(move |(name, budget)| (name, budget.status(now)))
    }
}
