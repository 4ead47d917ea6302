//! What happens to the endpoints of an upstream with several.

use std::sync::Arc;
use std::time::Duration;

/// An endpoint, and the upstream that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointName {
    /// The name of the upstream.
    pub upstream: Arc<str>,
    /// The URL of the endpoint.
    pub endpoint: Arc<str>,
}

/// Something happened to an endpoint.
#[derive(Clone, Debug, PartialEq)]
pub enum EndpointEvent {
    /// It gets no requests for a time, since it has failed.
    Ejected {
        /// Which.
        name: EndpointName,
        /// So often in a row.
        failures: u32,
        /// For so long.
        time: Duration,
    },
    /// That time is over.
    Returned {
        /// Which.
        name: EndpointName,
    },
    /// It gets no requests, since its checks fail.
    Down {
        /// Which.
        name: EndpointName,
        /// How the last one failed.
        reason: String,
    },
    /// Its checks pass again.
    Up {
        /// Which.
        name: EndpointName,
    },
    /// Its name can't be looked up any more; the last addresses are used.
    LookupFails {
        /// Which.
        name: EndpointName,
        /// Why.
        reason: String,
    },
    /// Its name can be looked up again.
    LookupWorks {
        /// Which.
        name: EndpointName,
    },
    /// More than half of an upstream's endpoints would get no requests, so that all get some.
    AllUsed {
        /// The name of the upstream.
        upstream: Arc<str>,
        /// How many would get none.
        out: usize,
        /// Of how many.
        count: usize,
    },
    /// That is over.
    SomeUsed {
        /// The name of the upstream.
        upstream: Arc<str>,
        /// How many get no requests.
        out: usize,
        /// Of how many.
        count: usize,
    },
}
