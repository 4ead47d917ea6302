//! What a pipeline asks: the upstream of its route, and others by fallbacks.

use std::rc::Rc;

use fusebox_resilience::{Budget, Call, EndpointGates, GateRefusal, Outcome, Scope, Upstream};
use futures_util::future::LocalBoxFuture;

use super::HttpUpstream;
use crate::route::OtherUpstream;

/// The upstream of a call, from which its fallbacks reach others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReachedUpstream<'a> {
    /// Those of the worker.
    pub(crate) upstreams: &'a [HttpUpstream],
    /// Its place among them.
    pub(crate) own: usize,
    pub(crate) others: &'a [OtherUpstream],
}

impl Upstream for ReachedUpstream<'_> {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        self.upstreams[self.own].attempt(call, scope)
    }

    fn attempt_through<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
        gates: &'a EndpointGates<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        self.upstreams[self.own].attempt_through(call, scope, gates)
    }

    fn refusal<'a>(&self, gates: &EndpointGates<'a>) -> Option<GateRefusal<'a>> {
        self.upstreams[self.own].refusal(gates)
    }

    fn budget(&self) -> Option<&Budget> {
        self.upstreams[self.own].budget()
    }

    fn has_untried(&self, call: &Call) -> bool {
        self.upstreams[self.own].has_untried(call)
    }

    fn ask_other<'a>(
        &'a self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        (*self).ask(name, call, scope)
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        if self.others.is_empty() {
            return self.upstreams[self.own].detached();
        }
        Some(Rc::new(DetachedUpstream {
            upstreams: self.upstreams.into(),
            own: self.own,
            others: self.others.into(),
        }))
    }
}

impl<'a> ReachedUpstream<'a> {
    fn ask(
        self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        let other = self.others.iter().find(|other| *other.name == *name)?;
        Some(Box::pin(async move {
            let upstream = Self { own: other.upstream, ..self };
            let scope = scope.at(&upstream);
            other.pipeline.execute(call, &scope).await
        }))
    }
}

/// The same for runs that outlive their call. Its connections are those of the worker.
#[derive(Debug)]
struct DetachedUpstream {
    upstreams: Box<[HttpUpstream]>,
    own: usize,
    others: Box<[OtherUpstream]>,
}

impl Upstream for DetachedUpstream {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        self.upstreams[self.own].attempt(call, scope)
    }

    fn attempt_through<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
        gates: &'a EndpointGates<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        self.upstreams[self.own].attempt_through(call, scope, gates)
    }

    fn refusal<'a>(&self, gates: &EndpointGates<'a>) -> Option<GateRefusal<'a>> {
        self.upstreams[self.own].refusal(gates)
    }

    fn budget(&self) -> Option<&Budget> {
        self.upstreams[self.own].budget()
    }

    fn has_untried(&self, call: &Call) -> bool {
        self.upstreams[self.own].has_untried(call)
    }

    fn ask_other<'a>(
        &'a self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        let Self { upstreams, own, others } = self;
        ReachedUpstream { upstreams, own: *own, others }.ask(name, call, scope)
    }
}
