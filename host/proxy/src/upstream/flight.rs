//! An attempt under way on one of several endpoints, and what it comes to for the endpoint.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{
    BodyEnd, Call, OnEnd, Origin, Outcome, OutcomeExt as _, RequestBody, clock, requested_delay,
};
use tokio::time::Instant;

use super::shared::{EndpointResult, SharedUpstream};

/// An attempt under way. Dropped before it has landed, it was cut.
pub(super) struct Flight<'a> {
    call: &'a Call,
    begun: Instant,
    /// For how long the call had starved before.
    starved: Duration,
    /// `None`: it has landed.
    at: Option<InFlight>,
}

/// Counts at its endpoint until it is dropped.
struct InFlight {
    /// The worker's own handle: counting who has the shared one would make workers contend.
    shared: Rc<Arc<SharedUpstream>>,
    place: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.end(self.place);
    }
}

impl<'a> Flight<'a> {
    pub(super) fn begin(shared: &Rc<Arc<SharedUpstream>>, place: usize, call: &'a Call) -> Self {
        shared.begin(place);
        let at = Some(InFlight { shared: shared.clone(), place });
        Self { call, begun: clock::now(), starved: call.starved().time, at }
    }

    /// The attempt has ended so.
    pub(super) fn land(mut self, outcome: &mut Outcome) {
        let Some(at) = self.at.take() else { return };
        let result = judged(self.call, outcome, self.asked());
        at.shared.record(at.place, result, clock::now());
        if let Ok(response) = outcome
            && !response.body.has_come()
        {
            let is_answer = matches!(result, EndpointResult::Answered { .. });
            let request = self.call.body().clone();
            response.body.on_end(Box::new(BodyInFlight { at, is_answer, request }));
        }
    }

    /// How long the endpoint has taken; what it waited for the client's body is not its time.
    fn asked(&self) -> Duration {
        let starved = self.call.starved().time - self.starved;
        (clock::now() - self.begun).saturating_sub(starved)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(at) = self.at.take() {
            let cut = EndpointResult::Cut { asked: self.asked() };
            at.shared.record(at.place, cut, clock::now());
        }
    }
}

fn judged(call: &Call, outcome: &Outcome, asked: Duration) -> EndpointResult {
    match outcome {
        Ok(response) if matches!(response.status.as_u16(), 429 | 503) => {
            EndpointResult::Failed { asked, rest: requested_delay(call, outcome) }
        }
        Ok(_) => EndpointResult::Answered { asked },
        // An endpoint may close the connection of a client that does not go on.
        Err(error)
            if error.kind().origin() == Origin::Upstream && !call.is_owed(outcome.attempt()) =>
        {
            EndpointResult::Failed { asked, rest: None }
        }
        Err(_) => EndpointResult::Neutral,
    }
}

/// The same while the body of its response comes.
struct BodyInFlight {
    at: InFlight,
    /// The head was no failure, so that the body may be one.
    is_answer: bool,
    request: RequestBody,
}

impl OnEnd for BodyInFlight {
    fn on_end(self: Box<Self>, end: BodyEnd) {
        if let BodyEnd::Broken(kind) = end
            && self.is_answer
            && kind.origin() == Origin::Upstream
            && !self.request.starved().is_long_owed()
        {
            self.at.shared.record_late(self.at.place, clock::now());
        }
    }
}
