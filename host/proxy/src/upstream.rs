//! Sends requests to an upstream: one attempt, on a connection of the worker to one of its
//! endpoints.
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

mod body;
mod connection;
mod dial;
mod endpoint;
mod http1;
mod message;
mod pool;
pub(crate) mod reached;
mod stream;

use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{Attempt, Budget, Call, Outcome, Scope, Upstream, boxed};
use futures_util::future::LocalBoxFuture;

use crate::buffers::Buffers;
use crate::config::UpstreamConfig;
use endpoint::Endpoint;

/// An upstream of one worker. A clone shares its connections.
#[derive(Clone, Debug)]
pub struct HttpUpstream {
    endpoint: Rc<Endpoint>,
    budget: Arc<Budget>,
}

impl HttpUpstream {
    /// The first attempt makes the first connection. `buffers` are the worker's, `budget` is that
    /// of all workers.
    pub fn new(config: Arc<UpstreamConfig>, budget: Arc<Budget>, buffers: &Rc<Buffers>) -> Self {
        Self { endpoint: Endpoint::new(config, buffers).into(), budget }
    }

    /// Closes connections that have been unused for too long or that the upstream has closed.
    pub fn reap(&self) {
        self.endpoint.reap();
    }
}

impl Upstream for HttpUpstream {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            let attempt = Attempt::begin(call, scope, self.endpoint.label());
            let mut outcome = self.endpoint.exchange(call, &attempt, scope).await;
            attempt.finish_in_place(&mut outcome);
            outcome
        })
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        Some(Rc::new(self.clone()))
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EndpointUrl;
    use fusebox_resilience::Observers;
    use fusebox_resilience::testing::call;
    use tokio::time::Instant;

    /// Bytes: it is made and moved for every attempt.
    #[test]
    fn an_attempt_is_small() {
        let config = UpstreamConfig::new(EndpointUrl::parse("http://b").unwrap());
        let budget = Budget::of_upstream(Instant::now());
        let upstream = HttpUpstream::new(config.into(), budget.into(), &Rc::default());
        let call = call("1", Observers::default());
        let size = size_of_val(&*upstream.attempt(&call, &Scope::new(&upstream)));
        assert!(size <= 752, "{size}");
    }
}
