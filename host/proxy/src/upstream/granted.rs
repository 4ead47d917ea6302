//! Whom components may ask: upstreams of the worker, whose connections and limits they share with
//! routes that ask the same.

use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{
    Call, Event, EventKind, Observer, Observers, Outcome, Random, Scope, Upstream, WayOut, Worker,
};
use futures_util::future::LocalBoxFuture;

use super::HttpUpstream;
use crate::interim;
use crate::route::RouteTable;

/// The way out of a worker that has these upstreams of the table. `None`: components ask nobody.
pub(crate) fn way_out(
    routes: &RouteTable,
    upstreams: &[HttpUpstream],
    observers: &Observers,
) -> Option<WayOut> {
    if routes.granted().is_empty() {
        return None;
    }
    let granted = routes.granted().iter().map(|(grant, place)| {
        let upstream: Rc<dyn Upstream> = Rc::new(GrantedUpstream(upstreams[*place].clone()));
        (grant.clone(), upstream)
    });
    let observer: Arc<dyn Observer> = Arc::new(NoAttempts(observers.unshared()));
    let worker = Worker::new(Observers::new([observer]), Random::with_seed(fastrand::u64(..)));
    Some(WayOut::new(granted.collect(), worker))
}

/// An upstream as components ask it.
struct GrantedUpstream(HttpUpstream);

impl Upstream for GrantedUpstream {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        // The client whose call the component answers gets nothing of this.
        Box::pin(interim::to_nobody(self.0.attempt(call, scope)))
    }
}

/// Hears of everything but attempts: those of components are told by components.
struct NoAttempts(Observers);

impl Observer for NoAttempts {
    fn observe(&self, event: &Event<'_>) {
        if !matches!(event.kind, EventKind::Attempt(_)) {
            self.0.emit(event);
        }
    }

    fn wants_details(&self) -> bool {
        self.0.wants_details()
    }
}
