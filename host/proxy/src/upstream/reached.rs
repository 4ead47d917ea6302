//! What a pipeline asks: the upstream of its route, and others by fallbacks.

use std::rc::Rc;

use fusebox_resilience::{Budget, Call, EndpointGates, GateRefusal, Outcome, Scope, Upstream};
use futures_util::future::LocalBoxFuture;

use super::HttpUpstream;
use crate::route::OtherUpstream;

/// The upstream of a call, from which its fallbacks reach others. Runs that outlive their call have
/// lists of their own; the connections are those of the worker.
#[derive(Debug)]
pub(crate) struct ReachedUpstream<U, O> {
    /// Those of the worker.
    pub(crate) upstreams: U,
    /// Its place among them.
    pub(crate) own: usize,
    pub(crate) others: O,
}

impl<U: AsRef<[HttpUpstream]>, O> ReachedUpstream<U, O> {
    fn own(&self) -> &HttpUpstream {
        &self.upstreams.as_ref()[self.own]
    }
}

impl<U, O> Upstream for ReachedUpstream<U, O>
where
    U: AsRef<[HttpUpstream]>,
    O: AsRef<[OtherUpstream]>,
{
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        self.own().attempt(call, scope)
    }

    fn attempt_through<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
        gates: &'a EndpointGates<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        self.own().attempt_through(call, scope, gates)
    }

    fn refusal<'a>(&self, gates: &EndpointGates<'a>) -> Option<GateRefusal<'a>> {
        self.own().refusal(gates)
    }

    fn budget(&self) -> Option<&Budget> {
        self.own().budget()
    }

    fn has_untried(&self, call: &Call) -> bool {
        self.own().has_untried(call)
    }

    fn ask_other<'a>(
        &'a self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        let other = self.others.as_ref().iter().find(|other| *other.name == *name)?;
        Some(Box::pin(async move {
            let (upstreams, others) = (self.upstreams.as_ref(), self.others.as_ref());
            let upstream = ReachedUpstream { upstreams, own: other.upstream, others };
            other.pipeline.execute(call, &scope.at(&upstream)).await
        }))
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        let (upstreams, others) = (self.upstreams.as_ref(), self.others.as_ref());
        if others.is_empty() {
            return self.own().detached();
        }
        let (upstreams, others) = (Box::from(upstreams), Box::from(others));
        Some(Rc::new(ReachedUpstream::<Box<[_]>, Box<[_]>> { upstreams, own: self.own, others }))
    }
}
