//! A permit in use, and what becomes of it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::changed::ChangedBy;
use super::judgement::{BreakerFailure, HeadJudgement, Judgement, ProvisionalJudgement};
use super::late::LateResult;
use super::machine::CircuitTransition;
use super::permit::{CircuitCaller, CircuitPermit};
use super::provisional;
use super::result::CircuitResult;
use super::shared::SharedCircuit;
use crate::call::{Call, PastAttempt};
use crate::clock;
use crate::condition::Asker;
use crate::delay::ComponentDelay;
use crate::error::{Error, ErrorKind};
use crate::event::{AttemptOutcome, CallEvent};
use crate::keyed::{HeldState, StateOf};
use crate::outcome::{self, Outcome, OutcomeExt, Response};
use crate::policy::Next;
use crate::scope::Scope;

/// A permit in use, and what it is used for. Dropped unanswered, it goes back and counts as neither
/// success nor failure, unless an attempt that was cut off with it was a slow one.
pub(super) struct Admission<'a> {
    breaker: &'a Arc<Breaker>,
    circuit: StateOf<'a, SharedCircuit>,
    call: &'a Call,
    /// `None`: it has been answered or given back.
    permit: Option<CircuitPermit>,
    /// The attempt that has the permit. 0: a run has it, whatever its attempts are.
    attempt: u32,
    inside: Inside<'a>,
}

/// What a circuit wants to know of this call.
pub(super) fn caller(call: &Call, scope: &Scope<'_>) -> CircuitCaller {
    CircuitCaller { level: scope.level(call), owes_body: !call.body().has_come() }
}

/// A run of what is inside a breaker. `None`: it has ended. Other attempts of the call may be under
/// way beside its own, so which of them are cut off with the permit shows when this is dropped.
pub(super) struct Inside<'a>(Option<LocalBoxFuture<'a, Outcome>>);

impl Future for Inside<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let Some(run) = &mut self.0 else { return Poll::Pending };
        let outcome = ready!(run.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(outcome)
    }
}

impl<'a> Admission<'a> {
    /// Of a call that is to ask for a permit.
    pub(super) fn of(breaker: &'a Arc<Breaker>, call: &'a Call, next: Next<'a>) -> Self {
        let asker = Asker { policy: &breaker.name, scope: next.scope() };
        let circuit = breaker.circuits.of(call, asker);
        Self { breaker, circuit, call, permit: None, attempt: 0, inside: Inside(None) }
    }

    /// Whether the circuit is closed, so that everybody gets a permit.
    pub(super) fn is_open_to_all(&self) -> bool {
        self.circuit.is_closed()
    }

    /// Asks for a permit, and begins what is inside.
    pub(super) fn begin(&mut self, next: Next<'a>) -> Result<(), Error> {
        let Self { breaker, circuit, call, .. } = self;
        let asking = || caller(call, next.scope());
        let (permit, transition) = circuit.admit_call(asking, clock::now());
        if let Some(transition) = transition {
            call.emit(&breaker.name, circuit.event(transition, circuit.key().cloned()));
        }
        match permit {
            Ok(permit) => {
                self.permit = Some(permit);
                self.inside = Inside(Some(next.run(call)));
                Ok(())
            }
            Err(rejection) => {
                let retry_after = Some(rejection.remaining);
                let kind = ErrorKind::CircuitOpen;
                call.emit(&breaker.name, CallEvent::Rejected { kind, retry_after });
                Err(Error::new(kind).with_retry_after(retry_after))
            }
        }
    }

    /// The permit of one attempt, of a run that others look after.
    pub(super) fn at(
        breaker: &'a Arc<Breaker>,
        circuit: &Arc<SharedCircuit>,
        call: &'a Call,
        attempt: u32,
        permit: CircuitPermit,
    ) -> Self {
        let circuit = StateOf::Held(HeldState::of(circuit.clone()));
        let (permit, inside) = (Some(permit), Inside(None));
        Self { breaker, circuit, call, permit, attempt, inside }
    }

    /// Whether this attempt has the permit.
    pub(super) fn is_of(&self, attempt: u32) -> bool {
        self.attempt == attempt
    }

    /// If it is a trial, its place goes to another one.
    pub(super) fn let_trial_go(&mut self) {
        if self.is_trial() {
            self.release();
        }
    }

    pub(super) fn is_trial(&self) -> bool {
        self.permit.is_some_and(CircuitPermit::is_trial)
    }

    /// Runs what is inside.
    pub(super) fn run(&mut self) -> &mut Inside<'a> {
        &mut self.inside
    }

    /// Runs a trial. If it has to wait for its client for too long, its place goes to another one,
    /// and whatever comes of it is neutral: a slow client must not keep the circuit half-open.
    pub(super) async fn attend(&mut self) -> Outcome {
        let Self { circuit, call, permit, inside, .. } = self;
        call.attend(inside, || release(circuit, permit)).await
    }

    /// The same, and what a component wants to see of a failure that may open the circuit.
    pub(super) async fn judge_ahead(
        &self,
        delay: &ComponentDelay,
        asker: Asker<'_>,
        outcome: &mut Outcome,
    ) -> HeadJudgement {
        let judgement = self.judge(asker, outcome).await;
        if !judgement.is_failure() {
            return judgement;
        }
        delay.prepare(self.call, outcome).await;
        match judgement {
            HeadJudgement::Provisional(judgement) if outcome::trailers(outcome).is_some() => {
                let (settings, answers) = (&self.breaker.settings, judgement.answers);
                let again = settings.judge_again(self.call, asker.policy, outcome, answers);
                HeadJudgement::Last(again.await)
            }
            judgement => judgement,
        }
    }

    pub(super) fn judge<'b>(
        &self,
        asker: Asker<'b>,
        outcome: &'b mut Outcome,
    ) -> impl Future<Output = HeadJudgement> + use<'a, 'b>
    where
        'a: 'b,
    {
        self.breaker.settings.judge(self.call, asker, outcome)
    }

    /// Records what came of it.
    pub(super) fn answer(
        mut self,
        asker: Asker<'_>,
        outcome: &mut Outcome,
        judgement: HeadJudgement,
        now: Instant,
    ) {
        let settings = &self.breaker.settings;
        let is_stand_in = outcome.as_ref().is_ok_and(Response::is_stand_in);
        let slow = settings.are_slow_apart
            && !is_stand_in
            && settings.is_slow(self.call.asked(outcome.attempt()));
        match judgement {
            HeadJudgement::Last(Judgement::Success) => {
                self.succeed(outcome, slow, now);
                self.record_outcome(asker, outcome, None, slow, now);
            }
            HeadJudgement::Last(Judgement::Failure(failure)) => {
                self.record_outcome(asker, outcome, Some(failure), slow, now);
            }
            HeadJudgement::Last(Judgement::Neutral) => self.release(),
            HeadJudgement::Provisional(judgement) => {
                let failure = judgement.failure.clone();
                self.wait_for_trailers(outcome, *judgement, slow, now);
                self.record_outcome(asker, outcome, failure, slow, now);
            }
        }
    }

    /// Waits for the end of a good response's body.
    fn succeed(&mut self, outcome: &mut Outcome, slow: bool, now: Instant) {
        if let (Ok(response), Some(permit)) = (outcome, self.permit)
            && !response.is_stand_in()
            && !response.body.has_come()
        {
            self.late(permit, response, slow, now).follow(self.call, response);
            if permit.is_trial() {
                // It is not over.
                self.permit = None;
            }
        }
    }

    /// Waits for what trailers make of a response. Until then a trial is not over, and a failure
    /// none.
    #[cold]
    fn wait_for_trailers(
        &mut self,
        outcome: &mut Outcome,
        judgement: ProvisionalJudgement,
        slow: bool,
        now: Instant,
    ) {
        if let (Ok(response), Some(permit)) = (outcome, self.permit)
            && response.body.awaits_trailers()
        {
            if permit.is_trial() || judgement.failure.is_some() {
                self.permit = None;
            }
            let late = self.late(permit, response, slow, now);
            provisional::follow(late, judgement, self.call, response);
        }
    }

    fn late(
        &self,
        permit: CircuitPermit,
        response: &Response,
        slow: bool,
        now: Instant,
    ) -> LateResult {
        let attempt = response.attempt();
        LateResult::of(self.breaker, &self.circuit, self.call, permit, attempt, slow, now)
    }

    /// Records what has been decided: the permit is there.
    fn record_outcome(
        &mut self,
        asker: Asker<'_>,
        outcome: &Outcome,
        failure: Option<BreakerFailure>,
        slow: bool,
        now: Instant,
    ) {
        let result = CircuitResult { failed: failure.is_some(), slow };
        let requested = failure.as_ref().and_then(|failure| failure.requested);
        if let Some(transition) = self.record(result, requested, now) {
            let (call, deadline) = (self.call, asker.scope.deadline(self.call));
            let changed_by = ChangedBy { call, outcome, deadline, failure };
            let key = self.circuit.key().cloned();
            self.breaker.changed(&self.circuit, key, transition, changed_by);
        }
    }

    fn record(
        &mut self,
        result: CircuitResult,
        requested: Option<Duration>,
        now: Instant,
    ) -> Option<CircuitTransition> {
        self.circuit.record(self.permit.take()?, result, requested, now)
    }

    fn tell(&self, attempt: u32, transition: CircuitTransition) {
        let changed = self.circuit.event(transition, self.circuit.key().cloned());
        self.call.emit_about(attempt, &self.breaker.name, None, changed);
    }

    fn release(&mut self) {
        release(&self.circuit, &mut self.permit);
    }

    /// A slow one of the attempts that end with this run, which is dropped.
    fn cut_slow(&mut self) -> Option<PastAttempt> {
        if self.attempt > 0 {
            let is_cut = |past: &PastAttempt| past.outcome == AttemptOutcome::Cancelled;
            let cut = self.call.past(self.attempt).filter(is_cut);
            return cut.filter(|cut| self.breaker.settings.is_slow(Some(cut.asked)));
        }
        let before = self.call.ended_attempts();
        drop(self.inside.0.take());
        let cut = self.call.ended_after(before);
        cut.into_iter().find(|cut| self.breaker.settings.is_slow(Some(cut.asked)))
    }
}

/// Gives the permit back, if it is still out.
fn release(circuit: &SharedCircuit, permit: &mut Option<CircuitPermit>) {
    if let Some(permit) = permit.take() {
        circuit.release(permit, clock::now());
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.permit.is_none() {
            return;
        }
        // It is cut off from outside. What was slow by then was so whatever would have come of it.
        if self.breaker.settings.slow_call.is_some()
            && let Some(cut) = self.cut_slow()
        {
            let slow = self.breaker.settings.are_slow_apart;
            let result = CircuitResult { failed: !slow, slow };
            if let Some(transition) = self.record(result, None, clock::now()) {
                self.tell(cut.provenance.attempt, transition);
            }
        } else {
            self.release();
        }
    }
}
