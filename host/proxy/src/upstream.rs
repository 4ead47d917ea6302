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

mod balance;
mod body;
mod connection;
mod dial;
mod endpoint;
mod flight;
mod http1;
mod load;
mod message;
mod pool;
pub(crate) mod reached;
pub(crate) mod shared;
mod stream;

use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{Attempt, Budget, Call, Outcome, Scope, Upstream, boxed, clock};
use futures_util::future::LocalBoxFuture;

use crate::buffers::Buffers;
use balance::Balance;
use endpoint::Endpoint;
use flight::Flight;
use shared::SharedUpstream;

/// An upstream of one worker. A clone shares its connections.
#[derive(Clone, Debug)]
pub struct HttpUpstream {
    /// The worker's own handle.
    shared: Rc<Arc<SharedUpstream>>,
    /// In the order of the file.
    endpoints: Rc<[Endpoint]>,
    balance: Rc<Balance>,
}

impl HttpUpstream {
    /// The first attempt makes the first connection. `buffers` are the worker's.
    pub fn new(shared: Arc<SharedUpstream>, buffers: &Rc<Buffers>) -> Self {
        let config = &shared.config;
        let endpoints =
            (0..config.endpoints.len()).map(|place| Endpoint::new(config.clone(), place, buffers));
        Self {
            endpoints: endpoints.collect(),
            balance: Balance::new(config).into(),
            shared: shared.into(),
        }
    }

    /// Closes connections that have been unused for too long or that the upstream has closed.
    pub fn reap(&self) {
        self.endpoints.iter().for_each(Endpoint::reap);
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

    /// The place of the endpoint for the next attempt: one that the call has not tried, if there
    /// is one.
    fn choose(&self, call: &Call) -> usize {
        let choose = |is_candidate: &dyn Fn(usize) -> bool| {
            let cost = |place| self.shared.cost(place, clock::now());
            self.balance.choose(&self.shared.config.endpoints, call, is_candidate, cost)
        };
        let is_new = |place: usize| !call.has_tried(self.endpoints[place].label());
        let new = if call.has_tried_any() { choose(&is_new) } else { None };
        // There are several.
        new.or_else(|| choose(&|_| true)).unwrap_or_default()
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
        assert!(size <= 744, "{size}");
    }
}
