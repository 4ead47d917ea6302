//! A permit in use, and what becomes of it: whose fault an outcome is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use super::breaker::Breaker;
use super::late;
use super::machine::CircuitTransition;
use super::permit::{CircuitCaller, CircuitPermit};
use super::result::CircuitResult;
use super::shared::SharedCircuit;
use crate::blame::{concerns_nobody, was_given_up_for_its_client};
use crate::call::{Call, PastAttempt};
use crate::clock;
use crate::condition::Asker;
use crate::delay::ComponentDelay;
use crate::delayer::DelayDecision;
use crate::error::{Error, ErrorKind};
use crate::event::{AttemptOutcome, CallEvent, ComponentId};
use crate::keyed::{HeldState, StateOf};
use crate::outcome::{Outcome, OutcomeExt, Response};
use crate::policy::Next;
use crate::predicate::Verdict;
use crate::retry_after::requested_delay;
use crate::scope::Scope;

/// What an outcome means to the breaker.
pub(super) enum Judgement {
    Success,
    Failure { requested: Option<Duration>, by: Option<ComponentId> },
    Neutral,
}

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
    ) -> Judgement {
        let judgement = self.judge(asker, outcome).await;
        if matches!(judgement, Judgement::Failure { .. }) {
            delay.prepare(self.call, outcome).await;
        }
        judgement
    }

    pub(super) async fn judge(&self, asker: Asker<'_>, outcome: &mut Outcome) -> Judgement {
        let (call, settings) = (self.call, &self.breaker.settings);
        if concerns_nobody(outcome)
            || settings.ignore_if.takes_behind(call, outcome)
            || settings.ignore_if.takes(call, asker, outcome).await.is_handled()
        {
            return Judgement::Neutral;
        }
        if let Verdict::Handled(by) = settings.handle_if.takes(call, asker, outcome).await {
            if was_given_up_for_its_client(call, outcome) {
                return Judgement::Neutral;
            }
            // A shorter one does not say that the upstream needs rest.
            let requested = requested_delay(call, outcome)
                .filter(|delay| settings.retry_after && *delay >= Duration::from_secs(1));
            return Judgement::Failure { requested, by };
        }
        match outcome {
            Err(_) if settings.handle_if.takes_behind(call, outcome) => {
                Judgement::Failure { requested: None, by: None }
            }
            // However long it took to come to it.
            Ok(response) if response.is_stand_in() => Judgement::Success,
            Err(error) if error.kind().is_rejection() => Judgement::Neutral,
            _ if !settings.are_slow_apart && self.is_slow(call.asked(outcome.attempt())) => {
                Judgement::Failure { requested: None, by: None }
            }
            _ => Judgement::Success,
        }
    }

    fn is_slow(&self, asked: Option<Duration>) -> bool {
        let limit = self.breaker.settings.slow_call;
        limit.is_some_and(|limit| asked.is_some_and(|asked| asked > limit))
    }

    /// Records what came of it.
    pub(super) fn answer(
        mut self,
        asker: Asker<'_>,
        outcome: &mut Outcome,
        judgement: Judgement,
        now: Instant,
    ) {
        let attempt = outcome.attempt();
        let is_stand_in = outcome.as_ref().is_ok_and(Response::is_stand_in);
        let slow = self.breaker.settings.are_slow_apart
            && !is_stand_in
            && self.is_slow(self.call.asked(attempt));
        match judgement {
            Judgement::Success => {
                self.succeed(outcome, slow, now);
                let result = CircuitResult { failed: false, slow };
                if let Some(transition) = self.record(result, None, now) {
                    self.changed(asker, outcome, transition, None, None);
                }
            }
            Judgement::Failure { requested, by } => {
                let result = CircuitResult { failed: true, slow };
                if let Some(transition) = self.record(result, requested, now) {
                    self.changed(asker, outcome, transition, requested, by);
                }
            }
            Judgement::Neutral => self.release(),
        }
    }

    /// Waits for the end of a good response's body.
    fn succeed(&mut self, outcome: &mut Outcome, slow: bool, now: Instant) {
        if let (Ok(response), Some(permit)) = (outcome, self.permit)
            && !response.is_stand_in()
            && !response.body.has_come()
        {
            late::follow(self.breaker, &self.circuit, self.call, permit, response, slow, now);
            if permit.is_trial() {
                // It is not over.
                self.permit = None;
            }
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

    /// The outcome has changed the circuit. If it has opened, a component may say for how long: it
    /// is asked without the lock, so meanwhile the circuit's own delay holds.
    #[cold]
    fn changed(
        &self,
        asker: Asker<'_>,
        outcome: &Outcome,
        mut transition: CircuitTransition,
        requested: Option<Duration>,
        mut by: Option<ComponentId>,
    ) {
        let settings = &self.breaker.settings;
        if let (Some(delay), Some(own)) = (&settings.delay, transition.delay)
            && let DelayDecision::Wait { time, by: delayer } =
                delay.after(self.call, asker, outcome, own, transition.openings)
        {
            let time = time.max(requested.unwrap_or_default()).min(settings.max_delay);
            if self.circuit.stay_open(transition.generation, time) {
                transition.delay = Some(time);
                by = Some(delayer);
            }
        }
        self.tell(outcome.attempt(), by.as_ref(), transition);
    }

    fn tell(&self, attempt: u32, by: Option<&ComponentId>, transition: CircuitTransition) {
        let changed = self.circuit.event(transition, self.circuit.key().cloned());
        self.call.emit_about(attempt, &self.breaker.name, by, changed);
    }

    fn release(&mut self) {
        release(&self.circuit, &mut self.permit);
    }

    /// A slow one of the attempts that end with this run, which is dropped.
    fn cut_slow(&mut self) -> Option<PastAttempt> {
        if self.attempt > 0 {
            let is_cut = |past: &PastAttempt| past.outcome == AttemptOutcome::Cancelled;
            let cut = self.call.past(self.attempt).filter(is_cut);
            return cut.filter(|cut| self.is_slow(Some(cut.asked)));
        }
        let before = self.call.ended_attempts();
        drop(self.inside.0.take());
        let cut = self.call.ended_after(before);
        cut.into_iter().find(|cut| self.is_slow(Some(cut.asked)))
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
                self.tell(cut.provenance.attempt, None, transition);
            }
        } else {
            self.release();
        }
    }
}
