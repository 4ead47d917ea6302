//! Sends requests to an upstream: one attempt, on a connection of the worker to one of its
//! endpoints, which `balance.rs` chooses if there are several.
//!
//! Unused connections are kept per worker and endpoint, last in, first out. An endpoint may close
//! one while a request is on its way to it. If nothing of the request was sent, or it is safe to
//! repeat (idempotent, by its method or a key, and with a body that is still there) and no byte of
//! an answer has come, it goes once more, on a new connection. The endpoint has done nothing wrong,
//! so this is no second attempt. For this a body is held while its attempt is on a kept connection,
//! whatever the policies, until the answer's head.
//!
//! A connection returns to the pool when its response body has ended and its request body was sent
//! whole. If a response is dropped before its end, a task reads on for a moment: a short remainder
//! keeps the connection alive, a long one is cheaper to cut off. If an attempt is dropped before
//! the response head, the connection is closed, so that the upstream sees that nobody waits. A
//! request body that is still being sent ends with its attempt.

mod addresses;
mod balance;
mod body;
pub(crate) mod care;
mod connection;
mod dial;
mod endpoint;
mod fields;
mod flight;
mod health;
mod http1;
mod http2;
mod load;
mod message;
mod pool;
pub(crate) mod reached;
mod secured;
pub(crate) mod shared;
mod stream;

use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{
    Attempt, Budget, Call, Outcome, Request as ClientRequest, RequestBody, Scope, Upstream, Worker,
    boxed, clock,
};
use futures_util::future::LocalBoxFuture;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, header};

use crate::buffers::Buffers;
use crate::observe::wall_clock;
use balance::Balance;
use endpoint::Endpoint;
use flight::Flight;
use shared::{SharedUpstream, UpstreamHandle};

/// An upstream of one worker. A clone shares its connections.
#[derive(Clone, Debug)]
pub struct HttpUpstream {
    shared: Rc<UpstreamHandle>,
    /// In the order of the file.
    endpoints: Rc<[Endpoint]>,
    balance: Rc<Balance>,
}

impl HttpUpstream {
    /// The first attempt makes the first connection. `buffers` are the worker's.
    pub fn new(shared: Arc<SharedUpstream>, buffers: &Rc<Buffers>) -> Self {
        let config = &shared.config;
        let endpoints =
            (0..config.endpoints.len()).map(|place| Endpoint::new(&shared, place, buffers));
        Self {
            endpoints: endpoints.collect(),
            balance: Balance::new(config).into(),
            shared: UpstreamHandle(shared).into(),
        }
    }

    /// Closes connections that have been unused for too long or that the upstream has closed.
    pub fn reap(&self) {
        self.endpoints.iter().for_each(Endpoint::reap);
    }

    /// Asks one of its endpoints for this path: not for a client, and nobody is told.
    pub(crate) async fn check(&self, place: usize, path: &PathAndQuery) -> Outcome {
        let mut head = Request::new(()).into_parts().0;
        head.uri = path.clone().into();
        head.headers.insert(header::USER_AGENT, HeaderValue::from_static("fusebox"));
        let id = HeaderValue::from_static("check");
        let request = ClientRequest::new(id, "check".into(), head, wall_clock::now());
        let call = Call::new(request, RequestBody::empty(), Worker::unobserved().into());
        let attempt = Attempt::detached(&call, None);
        let outcome = self.endpoints[place].exchange(&call, &attempt, &Scope::new(self)).await;
        attempt.finish(outcome)
    }

    async fn attempt_at_one(&self, call: &Call, scope: &Scope<'_>) -> Outcome {
        let place = self.choose(call);
        let flight = Flight::begin(&self.shared, place, call);
        let endpoint = &self.endpoints[place];
        let attempt = Attempt::begin_at(call, scope, endpoint.label());
        let outcome = endpoint.exchange(call, &attempt, scope).await;
        let mut outcome = attempt.finish(outcome);
        flight.land(&mut outcome);
        outcome
    }

    /// The place of the endpoint for the next attempt: of those that get requests, one that the
    /// call has not tried, if there is one.
    fn choose(&self, call: &Call) -> usize {
        let choose = |is_candidate: &dyn Fn(usize) -> bool| {
            let now = clock::now();
            let cost = |place| self.shared.cost(place, now);
            self.balance.choose(&self.shared.config.endpoints, call, is_candidate, cost)
        };
        let is_used = |place: usize| self.shared.is_used(place) && self.has_turn(place, call);
        let is_new =
            |place: usize| is_used(place) && !call.has_tried(self.endpoints[place].label());
        let new = if call.has_tried_any() { choose(&is_new) } else { None };
        let chosen = new.or_else(|| choose(&is_used)).or_else(|| choose(&|_| true));
        // There are several.
        chosen.unwrap_or_default()
    }

    /// Whether an endpoint that has just come back takes its turn. (Where loads are compared, what
    /// it gets follows from its share.)
    fn has_turn(&self, place: usize, call: &Call) -> bool {
        !matches!(*self.balance, Balance::RoundRobin(_)) || {
            let share = self.shared.share(place, clock::now());
            share >= 1.0 || call.random().fraction() < share
        }
    }
}

impl Upstream for HttpUpstream {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        // One endpoint is no choice, and nothing is kept of it.
        let [only] = &*self.endpoints else {
            return Box::pin(self.attempt_at_one(call, scope));
        };
        boxed(|| async move {
            let attempt = Attempt::begin(call, scope, only.label());
            let mut outcome = only.exchange(call, &attempt, scope).await;
            attempt.finish_in_place(&mut outcome);
            outcome
        })
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        Some(Rc::new(self.clone()))
    }

    fn has_untried(&self, call: &Call) -> bool {
        let is_untried = |(place, endpoint): (usize, &Endpoint)| {
            self.shared.is_used(place) && !call.has_tried(endpoint.label())
        };
        self.shared.has_several() && self.endpoints.iter().enumerate().any(is_untried)
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.shared.budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EndpointUrl, UpstreamConfig};
    use fusebox_resilience::Observers;
    use fusebox_resilience::testing::call;

    /// Bytes: it is made and moved for every attempt.
    #[test]
    fn an_attempt_is_small() {
        let config = UpstreamConfig::new(EndpointUrl::parse("http://b").unwrap());
        let shared = SharedUpstream::new(config.into());
        let upstream = HttpUpstream::new(shared.into(), &Rc::default());
        let call = call("1", Observers::default());
        let size = size_of_val(&*upstream.attempt(&call, &Scope::new(&upstream)));
        assert!(size <= 728, "{size}");
    }
}
