//! An upstream with several endpoints, each of which plays a script.

use std::cell::{Cell, RefCell};

use fusebox_resilience::testing::Script;
use fusebox_resilience::{
    Call, EndpointGates, EndpointName, GateRefusal, GatedEndpoint, Outcome, Scope, Upstream,
};
use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

/// Asks them in turns, passing over those that gates keep closed.
pub(crate) struct Several<U = Script> {
    pub(crate) endpoints: Vec<U>,
    gated: RefCell<Vec<GatedEndpoint>>,
    turn: Cell<usize>,
}

impl Several {
    /// `http://0`, `http://1` and so on, which play these scripts.
    #[track_caller]
    pub(crate) fn playing<const N: usize>(scripts: [&str; N]) -> Self {
        Self::of(scripts.map(Script::new))
    }

    /// How many attempts came to each.
    pub(crate) fn attempts<const N: usize>(&self) -> [usize; N] {
        std::array::from_fn(|place| self.endpoints[place].arrivals().len())
    }
}

impl<U: Upstream> Several<U> {
    pub(crate) fn of(endpoints: impl Into<Vec<U>>) -> Self {
        let endpoints = endpoints.into();
        let gated = (0..endpoints.len()).map(gated).collect::<Vec<_>>();
        Self { endpoints, gated: gated.into(), turn: Cell::new(0) }
    }

    /// This endpoint goes, and one that is new has its name.
    pub(crate) fn replace(&self, place: usize) {
        self.gated.borrow_mut()[place] = gated(place);
    }

    fn next<'a>(&self, call: &Call, gates: &EndpointGates<'a>) -> Result<usize, GateRefusal<'a>> {
        let (now, gated) = (Instant::now(), self.gated.borrow());
        let mut closed = Vec::new();
        for _ in 0..gated.len() {
            let place = self.turn.replace((self.turn.get() + 1) % gated.len());
            let look = gates.look(&gated[place], now);
            match look.and_then(|_| gates.admit(&gated[place], call.attempts() + 1, now)) {
                Ok(_) => return Ok(place),
                Err(refusal) => closed.push(refusal),
            }
        }
        Err(closed.into_iter().min_by_key(GateRefusal::remaining).expect("endpoints"))
    }
}

fn gated(place: usize) -> GatedEndpoint {
    let endpoint = format!("http://{place}").into();
    GatedEndpoint::new(EndpointName { upstream: "b".into(), endpoint })
}

impl<U: Upstream> Upstream for Several<U> {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        let place = self.turn.replace((self.turn.get() + 1) % self.endpoints.len());
        self.endpoints[place].attempt(call, scope)
    }

    fn attempt_through<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
        gates: &'a EndpointGates<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let place = self.next(call, gates).map_err(|closed| closed.reject(call))?;
            self.endpoints[place].attempt(call, scope).await
        })
    }

    /// Each attempt goes to the next one.
    fn has_untried(&self, call: &Call) -> bool {
        (call.attempts() as usize) < self.endpoints.len()
    }

    fn refusal<'a>(&self, gates: &EndpointGates<'a>) -> Option<GateRefusal<'a>> {
        let (now, gated) = (Instant::now(), self.gated.borrow());
        let closed: Option<Vec<_>> = gated.iter().map(|it| gates.look(it, now).err()).collect();
        closed?.into_iter().min_by_key(GateRefusal::remaining)
    }
}
