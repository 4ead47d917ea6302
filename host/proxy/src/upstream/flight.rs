//! An attempt under way on one of several endpoints, and what it comes to for the endpoint.

use std::rc::Rc;
use std::time::Duration;

use fusebox_resilience::{
    BodyEnd, Call, GrpcStatus, OnEnd, Origin, Outcome, OutcomeExt as _, Reporter, RequestBody,
    clock, requested_delay,
};
use tokio::time::Instant;

use super::endpoint::Endpoint;
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
    upstream: Rc<UpstreamHandle>,
    endpoint: Rc<Endpoint>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.endpoint.shared().end();
    }
}

impl<'a> Flight<'a> {
    pub(super) fn begin(
        upstream: &Rc<UpstreamHandle>,
        endpoint: &Rc<Endpoint>,
        call: &'a Call,
    ) -> Self {
        endpoint.shared().begin();
        let at = InFlight { upstream: upstream.clone(), endpoint: endpoint.clone() };
        let at = Some(at);
        Self { call, begun: clock::now(), starved: call.starved().time, at }
    }

    /// The attempt has ended so.
    pub(super) fn land(mut self, outcome: &mut Outcome) {
        let Some(at) = self.at.take() else { return };
        let result = judged(self.call, outcome);
        let has_come = outcome.as_ref().map_or(true, |response| response.body.has_come());
        let (upstream, endpoint) = (&at.upstream, at.endpoint.shared());
        for event in upstream.record(endpoint, result, self.asked(), has_come, clock::now()) {
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
            at.endpoint.shared().observe(EndpointResult::Cut, self.asked(), clock::now());
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
        let InFlight { upstream, endpoint } = &self.at;
        let now = clock::now();
        let has_failed = match end {
            BodyEnd::Broken(kind) => {
                kind.origin() == Origin::Upstream && !self.request.starved().is_long_owed()
            }
            BodyEnd::Failed(status) => status == GrpcStatus::Unavailable,
            BodyEnd::Whole | BodyEnd::Discarded => false,
        };
        if has_failed {
            for event in upstream.record_late(endpoint.shared(), now) {
                self.reporter.emit_own_about(self.attempt, event);
            }
        } else if matches!(end, BodyEnd::Whole | BodyEnd::Failed(_)) {
            upstream.record_whole(endpoint.shared(), now);
        }
    }
}
