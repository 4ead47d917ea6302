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

/// A limit of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointLimit {
    /// The number of connections.
    Connections,
    /// The number of attempts at once.
    InFlight,
}

impl EndpointLimit {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Connections, Self::InFlight];

    /// The key that sets it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::InFlight => "max_in_flight",
        }
    }
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
    /// That is over: its time, or that its checks failed, too.
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
    /// A call is turned away that wanted to ask it.
    Full {
        /// Which.
        name: EndpointName,
        /// By which of its limits.
        limit: EndpointLimit,
        /// For so long it had waited.
        waited: Duration,
    },
    /// Its name can't be looked up any more; the last addresses are used, if there are any.
    LookupFails {
        /// Which.
        name: EndpointName,
        /// Why.
        reason: String,
        /// Whether there are any.
        is_known: bool,
    },
    /// Its name can be looked up again.
    LookupWorks {
        /// Which.
        name: EndpointName,
    },
    /// The name of an upstream's endpoints has other addresses.
    Changed {
        /// The name of the upstream.
        upstream: Arc<str>,
        /// The URLs of endpoints that are new,
        added: Box<[Arc<str>]>,
        /// and of those that have gone.
        removed: Box<[Arc<str>]>,
        /// How many there are now.
        count: usize,
    },
    /// Another tier of an upstream's endpoints gets the requests: the first that has one in.
    TierUsed {
        /// The name of the upstream.
        upstream: Arc<str>,
        /// The tier that got them before.
        from: u16,
        /// The tier that gets them now.
        to: u16,
    },
    /// More than half of an upstream's endpoints would get no requests, so that all get some.
    AllUsed {
        /// The name of the upstream.
        upstream: Arc<str>,
        /// The tier that they are of, if there are several.
        tier: Option<u16>,
        /// How many would get none.
        out: usize,
        /// Of how many.
        count: usize,
    },
    /// That is over.
    SomeUsed {
        /// The name of the upstream.
        upstream: Arc<str>,
        /// The tier that they are of, if there are several.
        tier: Option<u16>,
        /// How many get no requests.
        out: usize,
        /// Of how many.
        count: usize,
    },
}
