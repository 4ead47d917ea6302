//! An upstream behind a gate.

use std::rc::Rc;

use futures_util::future::LocalBoxFuture;

use crate::budget::Budget;
use crate::call::Call;
use crate::gate::{EndpointGate, EndpointGates, GateRefusal};
use crate::outcome::Outcome;
use crate::scope::{Scope, Upstream};

/// An upstream whose endpoints a gate looks at. Other upstreams, and runs that outlive the call,
/// are not behind it.
pub(crate) struct GatedUpstream<'a> {
    upstream: &'a dyn Upstream,
    gates: EndpointGates<'a>,
}

impl<'a> GatedUpstream<'a> {
    /// This upstream behind a further gate.
    pub(crate) fn new(upstream: &'a dyn Upstream, gate: &'a dyn EndpointGate) -> Self {
        Self { upstream, gates: EndpointGates::within(gate, upstream.gates()) }
    }
}

impl Upstream for GatedUpstream<'_> {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        self.upstream.attempt_through(call, scope, &self.gates)
    }

    fn attempt_through<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
        gates: &'a EndpointGates<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        self.upstream.attempt_through(call, scope, gates)
    }

    fn gates(&self) -> Option<&EndpointGates<'_>> {
        Some(&self.gates)
    }

    fn refusal<'a>(&self, gates: &EndpointGates<'a>) -> Option<GateRefusal<'a>> {
        self.upstream.refusal(gates)
    }

    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        self.upstream.detached()
    }

    fn budget(&self) -> Option<&Budget> {
        self.upstream.budget()
    }

    fn has_untried(&self, call: &Call) -> bool {
        self.upstream.has_untried(call)
    }

    fn ask_other<'a>(
        &'a self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        self.upstream.ask_other(name, call, scope)
    }
}
