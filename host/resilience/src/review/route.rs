//! What is known of a route besides its policies, and what a call through it comes to.

use std::time::Duration;

use http::Method;

use crate::policies::methods::Methods;

/// What is known of a route besides its policies.
#[derive(Clone, Copy, Debug)]
pub struct ReviewedRoute<'a> {
    /// How long an attempt takes at most.
    pub attempt: Duration,
    /// Whether its requests are calls by gRPC.
    pub is_grpc: bool,
    /// The methods that it takes. `None`: any.
    pub methods: Option<&'a [Method]>,
    /// The longest that a client waits.
    pub max_deadline: Option<Duration>,
}

impl ReviewedRoute<'_> {
    /// The methods in its list that may do something once more each time they are carried out. All
    /// of gRPC is POST, whatever it does.
    pub(super) fn changing(&self) -> impl Iterator<Item = &Method> {
        let listed = self.methods.unwrap_or_default().iter().filter(|_| !self.is_grpc);
        listed.filter(|method| !Methods::is_idempotent(method))
    }

    /// Whether it takes any such request.
    pub(super) fn may_change(&self) -> bool {
        !self.is_grpc && self.methods.is_none() || self.changing().next().is_some()
    }
}

/// What a call comes to at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worst {
    /// Requests to the upstream. `None`: there is no bound.
    pub requests: Option<u64>,
    /// Until the response head, without the time in which the client is waited for. `None`: there
    /// is no bound.
    pub time: Option<Duration>,
}

impl Worst {
    /// It ends then in any case.
    pub(super) fn until(self, end: Option<Duration>) -> Self {
        Self { time: self.time.into_iter().chain(end).min(), ..self }
    }

    /// Both, one after the other.
    pub(super) fn and_then(self, next: Self) -> Self {
        let (requests, times) = (self.requests.zip(next.requests), self.time.zip(next.time));
        Self {
            requests: requests.map(|(one, two)| one.saturating_add(two)),
            time: times.map(|(one, two)| one.saturating_add(two)),
        }
    }
}
