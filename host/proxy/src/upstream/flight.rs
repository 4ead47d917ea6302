//! An attempt under way on one of several endpoints, and what it comes to for the endpoint.

use std::rc::Rc;
use std::time::Duration;

use fusebox_resilience::{
    BodyEnd, Call, GrpcStatus, OnEnd, Origin, Outcome, OutcomeExt as _, Reporter, RequestBody,
    clock, requested_delay,
};
use tokio::time::Instant;

use super::shared::{EndpointResult, UpstreamHandle};

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
    shared: Rc<UpstreamHandle>,
    place: usize,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.end(self.place);
    }
}

impl<'a> Flight<'a> {
    pub(super) fn begin(shared: &Rc<UpstreamHandle>, place: usize, call: &'a Call) -> Self {
        shared.begin(place);
        let at = Some(InFlight { shared: shared.clone(), place });
        Self { call, begun: clock::now(), starved: call.starved().time, at }
    }

    /// The attempt has ended so.
    pub(super) fn land(mut self, outcome: &mut Outcome) {
        let Some(at) = self.at.take() else { return };
        let result = judged(self.call, outcome);
        let has_come = outcome.as_ref().map_or(true, |response| response.body.has_come());
        let events = at.shared.record(at.place, result, self.asked(), has_come, clock::now());
        for event in events {
            self.call.emit_own_about(outcome.attempt(), event);
        }
        if let Ok(response) = outcome
            && !response.body.has_come()
        {
            let attempt = response.attempt();
            let request = self.call.body().clone();
            let reporter = self.call.reporter().clone();
            response.body.on_end(Box::new(BodyInFlight { at, result, attempt, request, reporter }));
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
            // It changes nothing that would have to be told.
            at.shared.record(at.place, EndpointResult::Cut, self.asked(), true, clock::now());
        }
    }
}

fn judged(call: &Call, outcome: &Outcome) -> EndpointResult {
    match outcome {
        Ok(response) => match response.status.as_u16() {
            status @ (429 | 503) => {
                EndpointResult::Busy { rest: requested_delay(call, outcome), is_ill: status == 503 }
            }
            // It does not know how, today or tomorrow.
            501 => EndpointResult::Answered,
            500..=599 => EndpointResult::Ill,
            _ => match GrpcStatus::said(&response.headers) {
                Some(GrpcStatus::Unavailable) => EndpointResult::Busy { rest: None, is_ill: true },
                Some(GrpcStatus::ResourceExhausted) => {
                    EndpointResult::Busy { rest: None, is_ill: false }
                }
                _ => EndpointResult::Answered,
            },
        },
        // An endpoint may close the connection of a client that does not go on.
        Err(error)
            if error.kind().origin() == Origin::Upstream && !call.is_owed(outcome.attempt()) =>
        {
            EndpointResult::Failed
        }
        Err(_) => EndpointResult::Neutral,
    }
}

/// The same while the body of its response comes.
struct BodyInFlight {
    at: InFlight,
    /// What the head was.
    result: EndpointResult,
    attempt: u32,
    request: RequestBody,
    reporter: Reporter,
}

impl OnEnd for BodyInFlight {
    fn on_end(self: Box<Self>, end: BodyEnd) {
        if self.result != EndpointResult::Answered {
            return;
        }
        let (shared, place, now) = (&self.at.shared, self.at.place, clock::now());
        let has_failed = match end {
            BodyEnd::Broken(kind) => {
                kind.origin() == Origin::Upstream && !self.request.starved().is_long_owed()
            }
            BodyEnd::Failed(status) => status == GrpcStatus::Unavailable,
            BodyEnd::Whole | BodyEnd::Discarded => false,
        };
        if has_failed {
            for event in shared.record_late(place, now) {
                self.reporter.emit_own_about(self.attempt, event);
            }
        } else if matches!(end, BodyEnd::Whole | BodyEnd::Failed(_)) {
            shared.record_whole(place, now);
        }
    }
}
