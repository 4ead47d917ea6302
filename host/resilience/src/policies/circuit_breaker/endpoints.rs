//! A circuit for each endpoint of an upstream: `scope = "endpoint"`.
//!
//! The breaker is a gate for what runs inside it: an attempt goes to no endpoint whose circuit is
//! open, and takes a permit of the circuit of the one that it goes to. What the run comes to is
//! the result of the attempt that it came from. The permits of its other attempts go back: what
//! is inside the breaker has repeated them, or has cut them off.
//!
//! A circuit lives with its endpoint (`endpoint_circuits.rs`). Where all are open, a call is
//! rejected before anything inside the breaker runs.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::admission::{Admission, caller};
use super::breaker::Breaker;
use super::endpoint_circuits::EndpointCircuits;
use crate::call::Call;
use crate::clock;
use crate::condition::Asker;
use crate::event::CircuitState;
use crate::gate::{EndpointGate, EndpointLook, GatedEndpoint};
use crate::gated::GatedUpstream;
use crate::outcome::{Outcome, OutcomeExt as _};
use crate::policy::Next;
use crate::policy_states::PolicyStates;
use crate::scope::{Scope, Upstream as _};

/// A breaker as the gate of a run, and the permits of the run's attempts.
struct BreakerGate<'a> {
    breaker: &'a Arc<Breaker>,
    circuits: &'a EndpointCircuits,
    call: &'a Call,
    scope: &'a Scope<'a>,
    admitted: RefCell<SmallVec<[Admission<'a>; 1]>>,
}

impl<'a> BreakerGate<'a> {
    /// The permit of this attempt. `None`: it had none, or gave it back.
    fn take(&self, attempt: u32) -> Option<Admission<'a>> {
        let mut admitted = self.admitted.borrow_mut();
        let place = admitted.iter().rposition(|admission| admission.is_of(attempt))?;
        Some(admitted.swap_remove(place))
    }

    /// Others may try in place of a call that waits for its client.
    fn let_trials_go(&self) {
        self.admitted.borrow_mut().iter_mut().for_each(Admission::let_trial_go);
    }
}

impl EndpointGate for BreakerGate<'_> {
    fn policy(&self) -> &Arc<str> {
        &self.breaker.name
    }

    fn look(&self, endpoint: &GatedEndpoint, now: Instant) -> Result<EndpointLook, Duration> {
        self.circuits.of(endpoint).look(now)
    }

    fn admit(
        &self,
        endpoint: &GatedEndpoint,
        attempt: u32,
        now: Instant,
    ) -> Result<EndpointLook, Duration> {
        let circuit = self.circuits.of(endpoint);
        let asking = || caller(self.call, self.scope);
        let (permit, transition) = circuit.admit_call(asking, now);
        let mut look = EndpointLook::Ready;
        if let Some(transition) = transition {
            if transition.to == CircuitState::HalfOpen {
                look = EndpointLook::Due;
            }
            self.call.emit(&self.breaker.name, circuit.event(transition, None));
        }
        let permit = permit.map_err(|rejection| rejection.remaining)?;
        let admission = Admission::at(self.breaker, circuit, self.call, attempt, permit);
        self.admitted.borrow_mut().push(admission);
        Ok(look)
    }

    fn withdraw(&self, attempt: u32) {
        drop(self.take(attempt));
    }

    fn are_all_used<'s>(&self, upstream: &'s PolicyStates) -> &'s AtomicBool {
        upstream.of(self.circuits.owner, AtomicBool::default)
    }
}

/// Runs a call through a breaker with these circuits.
pub(super) async fn run(
    breaker: &Arc<Breaker>,
    circuits: &EndpointCircuits,
    call: &Call,
    next: Next<'_>,
) -> Outcome {
    let asker = Asker { policy: &breaker.name, scope: next.scope() };
    let admitted = RefCell::default();
    let gate = BreakerGate { breaker, circuits, call, scope: next.scope(), admitted };
    let upstream = GatedUpstream::new(next.scope().upstream(), &gate);
    if let Some(refusal) = upstream.gates().and_then(|gates| upstream.refusal(gates)) {
        return Err(refusal.reject(call));
    }
    let scope = next.scope().through(&upstream);
    let inside = next.within(&scope).run(call);
    let mut outcome = call.attend(inside, || gate.let_trials_go()).await;
    // Before it is judged: a component's peek is not the upstream's slowness.
    let ended = clock::now();
    // A fallback's answer says nothing of an endpoint.
    let is_stand_in = outcome.as_ref().is_ok_and(|response| response.is_stand_in());
    let of_attempt = gate.take(outcome.attempt()).filter(|_| !is_stand_in);
    if let Some(admission) = of_attempt {
        let judgement = match &breaker.settings.delay {
            None => admission.judge(asker, &mut outcome).await,
            Some(delay) => admission.judge_ahead(delay, asker, &mut outcome).await,
        };
        admission.answer(asker, &mut outcome, judgement, ended);
    }
    outcome
}
