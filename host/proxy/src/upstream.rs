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
mod agreed;
mod balance;
mod body;
pub(crate) mod care;
mod connection;
mod dial;
mod endpoint;
mod fields;
mod fleet;
mod flight;
mod gated;
pub(crate) mod granted;
mod grpc_health;
mod health;
mod http1;
mod http2;
mod life;
mod limits;
mod line;
mod load;
mod message;
mod names;
mod places;
mod pool;
pub(crate) mod reached;
mod secured;
pub(crate) mod shared;
mod shared_endpoint;
mod stream;
mod tier;

use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::room::Place;
use fusebox_resilience::{
    Attempt, Budget, Call, EndpointGates, Error, ErrorKind, GateRefusal, HeldUntil, Outcome, Scope,
    Upstream, boxed,
};
use futures_util::future::LocalBoxFuture;

use crate::buffers::Buffers;
use endpoint::Endpoint;
use fleet::WorkerFleet;
use flight::Flight;
pub use limits::WorkerShare;
use shared::{SharedUpstream, UpstreamHandle};

/// An upstream of one worker. A clone shares its connections.
#[derive(Clone, Debug)]
pub struct HttpUpstream {
    shared: Rc<UpstreamHandle>,
    endpoints: WorkerEndpoints,
}

/// The endpoints of a worker.
#[derive(Clone, Debug)]
enum WorkerEndpoints {
    /// One for ever: there is no choice, and nothing is kept of it.
    One(Rc<Endpoint>),
    Fleet(Rc<WorkerFleet>),
}

impl HttpUpstream {
    /// The first attempt makes the first connection. `buffers` and `share` are the worker's.
    pub fn new(shared: Arc<SharedUpstream>, share: WorkerShare, buffers: &Rc<Buffers>) -> Self {
        let shared = Rc::new(UpstreamHandle(shared));
        let endpoints = if shared.config.is_fleet() {
            WorkerEndpoints::Fleet(WorkerFleet::new(shared.clone(), share, buffers.clone()).into())
        } else {
            let only = shared.endpoints().borrow().list[0].clone();
            WorkerEndpoints::One(Endpoint::new(&shared, only, share, buffers).into())
        };
        Self { shared, endpoints }
    }

    /// Closes connections that have been unused for too long or that the upstream has closed.
    pub fn reap(&self) {
        self.endpoints().iter().for_each(|endpoint| endpoint.reap());
    }

    /// Its endpoints as they are now.
    fn endpoints(&self) -> Vec<Rc<Endpoint>> {
        match &self.endpoints {
            WorkerEndpoints::One(only) => vec![only.clone()],
            WorkerEndpoints::Fleet(fleet) => fleet.current().endpoints().to_vec(),
        }
    }

    async fn attempt_at_one(&self, fleet: &WorkerFleet, call: &Call, scope: &Scope<'_>) -> Outcome {
        let chosen = match fleet.current().choose(call).cloned() {
            Some(endpoint) => Ok(endpoint),
            // Boxed: hardly ever.
            None => Box::pin(self.first_endpoint(fleet, call)).await,
        };
        let endpoint = match chosen {
            Ok(endpoint) => endpoint,
            Err(error) => return self.not_looked_up(call, scope, error),
        };
        let place = endpoint.enter(call, scope).await?;
        let attempt = Attempt::begin_at(call, scope, endpoint.label());
        let mut flight = Flight::begin(&self.shared, &endpoint, call);
        let mut at = (endpoint, place);
        for _ in 0..MOST_MOVES {
            let mut outcome = at.0.exchange(call, &attempt, scope).await;
            // What was refused may be a stream, whose body had begun to go.
            let may_move = was_refused(&outcome) && call.body().can_repeat();
            let other = may_move.then(|| fleet.current().elsewhere(call).cloned());
            let Some(other) = other.flatten() else {
                return land(attempt, flight, at.1, outcome);
            };
            let Ok(place) = other.enter(call, scope).await else {
                return land(attempt, flight, at.1, outcome);
            };
            attempt.mark(&mut outcome);
            flight.land(&mut outcome);
            attempt.goes_to(other.label());
            flight = Flight::begin(&self.shared, &other, call);
            at = (other, place);
        }
        let outcome = at.0.exchange(call, &attempt, scope).await;
        land(attempt, flight, at.1, outcome)
    }

    /// An attempt that came to no endpoint.
    fn not_looked_up(&self, call: &Call, scope: &Scope<'_>, error: Error) -> Outcome {
        let attempt = Attempt::begin(call, scope, &self.shared.label().into());
        attempt.finish(Err(error))
    }

    /// An attempt at this endpoint, which has this place there.
    async fn fly(
        &self,
        endpoint: &Rc<Endpoint>,
        place: Option<Place>,
        call: &Call,
        scope: &Scope<'_>,
    ) -> Outcome {
        let flight = Flight::begin(&self.shared, endpoint, call);
        let attempt = Attempt::begin_at(call, scope, endpoint.label());
        let outcome = endpoint.exchange(call, &attempt, scope).await;
        land(attempt, flight, place, outcome)
    }

    /// The endpoint for an attempt while none is known: waits until they are looked up.
    async fn first_endpoint(
        &self,
        fleet: &WorkerFleet,
        call: &Call,
    ) -> Result<Rc<Endpoint>, Error> {
        let limit = self.shared.config.settings.connect_timeout.0;
        let problem = fleet.looked_up(limit).await;
        fleet.current().choose(call).cloned().ok_or_else(|| {
            let problem = problem.as_deref().unwrap_or("no answer in time");
            Error::new(ErrorKind::DnsError).with_source(problem)
        })
    }
}

/// To so many other endpoints an attempt goes whose own refuse the connection: fewer than a call
/// remembers.
const MOST_MOVES: usize = 15;

/// Whether the endpoint has processed nothing of the request, and says so at once: then another one
/// may be asked, by an attempt of any method, and without a retry or its budget, since nobody has
/// been asked yet. (nginx and HAProxy go on likewise.)
fn was_refused(outcome: &Outcome) -> bool {
    let refused = [ErrorKind::ConnectionRefused, ErrorKind::Unroutable];
    outcome.as_ref().is_err_and(|error| refused.contains(&error.kind()))
}

/// The attempt has ended so at its endpoint, where it had this place.
fn land(
    attempt: Attempt<'_>,
    flight: Flight<'_>,
    place: Option<Place>,
    outcome: Outcome,
) -> Outcome {
    let mut outcome = attempt.finish(outcome);
    flight.land(&mut outcome);
    HeldUntil::Body.keep_some(place, &mut outcome);
    outcome
}

/// An attempt at the only endpoint, which takes only so many at once.
async fn attempt_within(only: &Endpoint, call: &Call, scope: &Scope<'_>) -> Outcome {
    let place = only.enter(call, scope).await?;
    attempt_at(only, place, call, scope).await
}

/// The same with the place that it has there.
async fn attempt_at(
    only: &Endpoint,
    place: Option<Place>,
    call: &Call,
    scope: &Scope<'_>,
) -> Outcome {
    let attempt = Attempt::begin(call, scope, only.label());
    let outcome = only.exchange(call, &attempt, scope).await;
    let mut outcome = attempt.finish(outcome);
    HeldUntil::Body.keep_some(place, &mut outcome);
    outcome
}

impl Upstream for HttpUpstream {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        let only: &Endpoint = match &self.endpoints {
            WorkerEndpoints::One(only) => only,
            WorkerEndpoints::Fleet(fleet) => {
                return Box::pin(self.attempt_at_one(fleet, call, scope));
            }
        };
        if only.is_limited() {
            return Box::pin(attempt_within(only, call, scope));
        }
        boxed(|| async move {
            let attempt = Attempt::begin(call, scope, only.label());
            let mut outcome = only.exchange(call, &attempt, scope).await;
            attempt.finish_in_place(&mut outcome);
            outcome
        })
    }

    fn attempt_through<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
        gates: &'a EndpointGates<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(self.attempt_gated(call, scope, gates))
    }

    fn refusal<'a>(&self, gates: &EndpointGates<'a>) -> Option<GateRefusal<'a>> {
        self.refusal_of_all(gates)
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        Some(Rc::new(self.clone()))
    }

    fn has_untried(&self, call: &Call) -> bool {
        match &self.endpoints {
            WorkerEndpoints::One(_) => false,
            WorkerEndpoints::Fleet(fleet) => fleet.current().has_untried(call),
        }
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
        let upstream = HttpUpstream::new(shared.into(), WorkerShare::WHOLE, &Rc::default());
        let call = call("1", Observers::default());
        let size = size_of_val(&*upstream.attempt(&call, &Scope::new(&upstream)));
        assert!(size <= 728, "{size}");
    }
}
