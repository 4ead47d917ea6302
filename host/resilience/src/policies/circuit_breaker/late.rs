//! What comes of a good head when its body ends: a trial is decided by it, and a body that breaks
//! off turns the success that its head was taken for.
//!
//! While all is well, this reads no clock and touches nothing that workers share.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::breaker::{Breaker, BreakerSettings};
use super::changed::ChangedBy;
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
use crate::event::{CircuitBreakerEvent, ComponentId, EventKind};
use crate::keyed::{HeldState, StateOf};
use crate::outcome::Response;
use crate::worker::WorkerHandle;

/// A permit of which the head is known.
pub(super) struct LateResult {
    breaker: Rc<WorkerHandle<Breaker>>,
    /// `None`: its only one.
    circuit: Option<HeldState<SharedCircuit>>,
    /// `None`: it is decided.
    permit: Cell<Option<CircuitPermit>>,
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
    /// Of a response whose head came at `head`.
    pub(super) fn of(
        breaker: &Arc<Breaker>,
        circuit: &StateOf<'_, SharedCircuit>,
        call: &Call,
        permit: CircuitPermit,
        attempt: u32,
        slow: bool,
        head: Instant,
    ) -> Self {
        Self {
            breaker: call.handle(breaker),
            circuit: circuit.to_held(),
            permit: Cell::new(Some(permit)),
            slow,
            head,
            attempt,
            reporter: call.reporter().clone(),
            request: call.body().clone(),
        }
    }

    /// The head is a success: waits for the end of the response.
    pub(super) fn follow(self, call: &Call, response: &mut Response) {
        self.answered(call, response);
        response.body.on_end(Box::new(self));
    }

    /// The head is a success, which a trial is by time, too.
    pub(super) fn answered(&self, call: &Call, response: &mut Response) {
        let Some(permit) = self.permit.get().filter(|permit| permit.is_trial()) else { return };
        let Some(circuit) = self.circuit() else { return };
        let body = Arc::<TrialBody>::default();
        circuit.answered(permit, &body, self.head);
        // What was read ahead has come.
        if !response.body.has_begun() {
            let request = call.body().clone();
            response
                .body
                .map_rest(|stream| Box::pin(TrialStream { stream, request, body: Some(body) }));
        }
    }

    pub(super) fn policy(&self) -> &Arc<str> {
        &self.breaker.name
    }

    pub(super) fn settings(&self) -> &BreakerSettings {
        &self.breaker.settings
    }

    fn circuit(&self) -> Option<&SharedCircuit> {
        let held = self.circuit.as_ref();
        held.map(HeldState::state).or(self.breaker.circuits.only()).map(|circuit| &**circuit)
    }

    fn judge(&self, end: BodyEnd) -> LateJudgement {
        let settings = self.settings();
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

    /// The body has come to its end, and nobody else judges it.
    pub(super) fn ended(&self, end: BodyEnd) {
        match self.judge(end) {
            LateJudgement::Failure(cause) => {
                let transition = self.take_back(cause, None);
                self.tell_change(transition, None);
            }
            LateJudgement::Success => self.succeed_late(),
            LateJudgement::Neutral => self.release(),
        }
    }

    /// What was a success by its head is a failure. Tells so.
    pub(super) fn take_back(
        &self,
        cause: LateFailureCause,
        by: Option<&ComponentId>,
    ) -> Option<CircuitTransition> {
        let permit = self.permit.take()?;
        let transition = self.circuit()?.record_late(permit, self.head, clock::now());
        self.tell(by, CircuitBreakerEvent::FailedLate { cause });
        transition
    }

    /// What was a success by its head is one, which has counted but for a trial.
    pub(super) fn succeed_late(&self) {
        if self.permit.get().is_some_and(CircuitPermit::is_trial) {
            let transition = self.record(false, None);
            self.tell_change(transition, None);
        }
        self.permit.set(None);
    }

    /// Records what has not counted yet.
    pub(super) fn record(
        &self,
        failed: bool,
        requested: Option<Duration>,
    ) -> Option<CircuitTransition> {
        let result = CircuitResult { failed, slow: self.slow };
        self.circuit()?.record(self.permit.take()?, result, requested, clock::now())
    }

    /// It says nothing more about the upstream.
    pub(super) fn release(&self) {
        if let Some(permit) = self.permit.take().filter(|permit| permit.is_trial())
            && let Some(circuit) = self.circuit()
        {
            circuit.release(permit, clock::now());
        }
    }

    /// An outcome has changed the circuit.
    pub(super) fn changed(&self, transition: Option<CircuitTransition>, by: ChangedBy<'_>) {
        if let Some((transition, circuit)) = transition.zip(self.circuit()) {
            self.breaker.changed(circuit, self.key(), transition, by);
        }
    }

    /// Something else than an outcome has changed the circuit.
    pub(super) fn tell_change(
        &self,
        transition: Option<CircuitTransition>,
        by: Option<&ComponentId>,
    ) {
        if let Some((transition, circuit)) = transition.zip(self.circuit()) {
            self.tell(by, circuit.event(transition, self.key()));
        }
    }

    fn key(&self) -> Option<Arc<str>> {
        self.circuit.as_ref().and_then(HeldState::key).cloned()
    }

    fn tell(&self, by: Option<&ComponentId>, event: impl Into<EventKind>) {
        self.reporter.emit_about(self.attempt, &self.breaker.name, by, event);
    }
}

impl OnEnd for LateResult {
    fn on_end(self: Box<Self>, end: BodyEnd) {
        self.ended(end);
    }
}

impl Drop for LateResult {
    fn drop(&mut self) {
        self.release();
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
