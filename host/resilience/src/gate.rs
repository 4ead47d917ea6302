//! Where a policy has a say in which endpoint an attempt goes to.
//!
//! A policy that keeps a state of each endpoint is a gate for what runs inside it. Whoever chooses
//! an endpoint looks through the gates, which changes nothing, and asks them to admit the attempt
//! to the one that is chosen. So one that a gate keeps closed is passed over.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::Instant;

use crate::call::Call;
use crate::error::{Error, ErrorKind};
use crate::event::{CallEvent, EndpointName};
use crate::policy_states::PolicyStates;

/// An endpoint, as gates know it.
#[derive(Debug)]
pub struct GatedEndpoint {
    name: EndpointName,
    states: PolicyStates,
}

impl GatedEndpoint {
    /// One of which no gate knows anything.
    pub fn new(name: EndpointName) -> Self {
        Self { name, states: PolicyStates::default() }
    }

    /// Which it is.
    pub(crate) fn name(&self) -> &EndpointName {
        &self.name
    }

    /// What gates keep of it.
    pub(crate) fn states(&self) -> &PolicyStates {
        &self.states
    }
}

/// What is known of an endpoint that an attempt may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointLook {
    /// Nothing more.
    Ready,
    /// It was closed, and the time has come to try it again.
    Due,
}

/// A policy that has a say.
pub(crate) trait EndpointGate {
    /// The policy's name.
    fn policy(&self) -> &Arc<str>;

    /// Whether an attempt may go there; if not, for how long. Nothing changes by it.
    fn look(&self, endpoint: &GatedEndpoint, now: Instant) -> Result<EndpointLook, Duration>;

    /// The same, and if it may, the attempt of this number goes there. It may have been admitted by
    /// a gate that was due, and says so.
    fn admit(
        &self,
        endpoint: &GatedEndpoint,
        attempt: u32,
        now: Instant,
    ) -> Result<EndpointLook, Duration>;

    /// The attempt of this number, which was admitted last, does not go there.
    fn withdraw(&self, attempt: u32);

    /// Whether all endpoints of an upstream are used, since more than half are closed: what it
    /// keeps of the upstream.
    fn are_all_used<'a>(&self, upstream: &'a PolicyStates) -> &'a AtomicBool;
}

/// The gates around an attempt, the innermost first.
#[derive(Clone, Copy)]
pub struct EndpointGates<'a> {
    gate: &'a dyn EndpointGate,
    outer: Option<&'a EndpointGates<'a>>,
}

/// An endpoint is closed.
#[derive(Clone, Copy, Debug)]
pub struct GateRefusal<'a> {
    /// By this policy,
    policy: &'a Arc<str>,
    /// for so long.
    remaining: Duration,
}

impl GateRefusal<'_> {
    /// For how long it is closed.
    pub fn remaining(&self) -> Duration {
        self.remaining
    }

    /// The failure of a call that is turned away by it, which the observers are told.
    pub fn reject(self, call: &Call) -> Error {
        let (kind, retry_after) = (ErrorKind::CircuitOpen, Some(self.remaining));
        call.emit(self.policy, CallEvent::Rejected { kind, retry_after });
        Error::new(kind).with_retry_after(retry_after)
    }
}

impl<'a> EndpointGates<'a> {
    /// This one within the others.
    pub(crate) fn within(gate: &'a dyn EndpointGate, outer: Option<&'a EndpointGates<'a>>) -> Self {
        Self { gate, outer }
    }

    fn all(&self) -> impl Iterator<Item = &'a dyn EndpointGate> {
        std::iter::successors(Some(*self), |gates| gates.outer.copied()).map(|gates| gates.gate)
    }

    /// The policy of the innermost one.
    pub fn policy(&self) -> &'a Arc<str> {
        self.gate.policy()
    }

    /// Whether an attempt may go to this endpoint. Nothing changes by it.
    ///
    /// # Errors
    /// It may not, and which of the gates is closed for longest.
    pub fn look(
        &self,
        endpoint: &GatedEndpoint,
        now: Instant,
    ) -> Result<EndpointLook, GateRefusal<'a>> {
        let (mut found, mut refusal) = (EndpointLook::Ready, None);
        for gate in self.all() {
            match gate.look(endpoint, now) {
                Ok(EndpointLook::Ready) => {}
                Ok(EndpointLook::Due) => found = EndpointLook::Due,
                Err(remaining) => {
                    let closed = GateRefusal { policy: gate.policy(), remaining };
                    refusal = refusal
                        .filter(|other: &GateRefusal<'_>| other.remaining >= remaining)
                        .or(Some(closed));
                }
            }
        }
        refusal.map_or(Ok(found), Err)
    }

    /// Lets the attempt of this number go to this endpoint. It begins before anything else does.
    ///
    /// # Errors
    /// One of them does not, which may depend on chance.
    pub fn admit(
        &self,
        endpoint: &GatedEndpoint,
        attempt: u32,
        now: Instant,
    ) -> Result<EndpointLook, GateRefusal<'a>> {
        let mut found = EndpointLook::Ready;
        for (count, gate) in self.all().enumerate() {
            match gate.admit(endpoint, attempt, now) {
                Ok(EndpointLook::Ready) => {}
                Ok(EndpointLook::Due) => found = EndpointLook::Due,
                Err(remaining) => {
                    self.all().take(count).for_each(|gate| gate.withdraw(attempt));
                    return Err(GateRefusal { policy: gate.policy(), remaining });
                }
            }
        }
        Ok(found)
    }

    /// Whether all endpoints of an upstream are used, since more than half are closed. It is for
    /// those who choose to set and to tell.
    pub fn are_all_used<'s>(&self, upstream: &'s PolicyStates) -> &'s AtomicBool {
        self.gate.are_all_used(upstream)
    }
}

impl std::fmt::Debug for EndpointGates<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all().map(|gate| gate.policy())).finish()
    }
}
