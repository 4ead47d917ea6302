//! What comes of a good head when its body ends: a trial is decided by it, and a body that breaks
//! off turns the success that its head was taken for.
//!
//! While all is well, this reads no clock and touches nothing that workers share.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::breaker::Breaker;
use super::machine::CircuitTransition;
use super::permit::CircuitPermit;
use super::result::CircuitResult;
use super::shared::SharedCircuit;
use super::trials::TrialBody;
use crate::body::{BodyEnd, BodyStream, LateFailureCause, OnEnd, RequestBody};
use crate::call::{Call, Reporter};
use crate::clock;
use crate::condition::Condition;
use crate::error::Error;
use crate::event::{CircuitBreakerEvent, EventKind};
use crate::keyed::{HeldState, StateOf};
use crate::outcome::Response;
use crate::worker::WorkerHandle;

/// Waits for the end of this response, whose head came at `head` and is a success.
pub(super) fn follow(
    breaker: &Arc<Breaker>,
    circuit: &StateOf<'_, SharedCircuit>,
    call: &Call,
    permit: CircuitPermit,
    response: &mut Response,
    slow: bool,
    head: Instant,
) {
    if permit.is_trial() {
        let body = Arc::<TrialBody>::default();
        circuit.answered(permit, &body, head);
        // What was read ahead has come.
        if !response.body.has_begun() {
            let request = call.body().clone();
            response
                .body
                .map_rest(|stream| Box::pin(TrialStream { stream, request, body: Some(body) }));
        }
    }
    response.body.on_end(Box::new(LateResult {
        breaker: call.handle(breaker),
        circuit: circuit.to_held(),
        permit: Some(permit),
        slow,
        head,
        attempt: response.attempt(),
        reporter: call.reporter().clone(),
        request: call.body().clone(),
    }));
}

/// A permit of which the head is known.
struct LateResult {
    breaker: Rc<WorkerHandle<Breaker>>,
    /// `None`: its only one.
    circuit: Option<HeldState<SharedCircuit>>,
    /// `None`: it is decided.
    permit: Option<CircuitPermit>,
    /// Whether the head was slow, where that is counted apart.
    slow: bool,
    head: Instant,
    attempt: u32,
    reporter: Reporter,
    request: RequestBody,
}

/// What the end of a body means.
enum LateJudgement {
    Success,
    Failure(LateFailureCause),
    Neutral,
}

impl LateResult {
    fn judge(&self, end: BodyEnd) -> LateJudgement {
        let settings = &self.breaker.settings;
        let takes = |condition: &Condition, cause| {
            condition.takes_late(self.reporter.request(), self.attempt, cause)
        };
        match end.late_failure() {
            None if end == BodyEnd::Discarded => LateJudgement::Neutral,
            None => LateJudgement::Success,
            Some(cause)
                if cause.is_of_others(&self.request) || takes(&settings.ignore_if, cause) =>
            {
                LateJudgement::Neutral
            }
            Some(cause) if takes(&settings.handle_if, cause) => LateJudgement::Failure(cause),
            Some(_) => LateJudgement::Success,
        }
    }

    fn decide(&mut self, judgement: &LateJudgement) {
        let Some(permit) = self.permit.take() else { return };
        let held = self.circuit.as_ref();
        let circuit = held.map(HeldState::state).or(self.breaker.circuits.only());
        let Some(circuit) = circuit else { return };
        match judgement {
            &LateJudgement::Failure(cause) => {
                let transition = circuit.record_late(permit, self.head, clock::now());
                let changed = transition.map(|it| self.event(circuit, it));
                self.tell(CircuitBreakerEvent::FailedLate { cause });
                changed.into_iter().for_each(|changed| self.tell(changed));
            }
            // It has been recorded with its head.
            _ if !permit.is_trial() => {}
            LateJudgement::Success => {
                let result = CircuitResult { failed: false, slow: self.slow };
                if let Some(transition) = circuit.record(permit, result, None, clock::now()) {
                    self.tell(self.event(circuit, transition));
                }
            }
            LateJudgement::Neutral => circuit.release(permit, clock::now()),
        }
    }

    fn tell(&self, event: impl Into<EventKind>) {
        self.reporter.emit_about(self.attempt, &self.breaker.name, None, event);
    }

    fn event(&self, circuit: &SharedCircuit, transition: CircuitTransition) -> CircuitBreakerEvent {
        circuit.event(transition, self.circuit.as_ref().and_then(HeldState::key).cloned())
    }
}

impl OnEnd for LateResult {
    fn on_end(mut self: Box<Self>, end: BodyEnd) {
        let judgement = self.judge(end);
        self.decide(&judgement);
    }
}

impl Drop for LateResult {
    fn drop(&mut self) {
        self.decide(&LateJudgement::Neutral);
    }
}

/// The body of a trial's response: notes whether the upstream owes it, rather than its client the
/// rest of the request.
struct TrialStream {
    stream: BodyStream,
    request: RequestBody,
    /// `None`: some of it has come.
    body: Option<Arc<TrialBody>>,
}

impl Body for TrialStream {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = self.stream.as_mut().poll_frame(cx);
        if let Some(body) = &self.body {
            body.set_owed(frame.is_pending() && !self.request.starved().is_starving);
            if frame.is_ready() {
                self.body = None;
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.stream.size_hint()
    }
}
