//! An attempt from its begin to its end, whichever way it ends.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::body::Starved;
use crate::branch::Branch;
use crate::call::{Call, PastAttempt};
use crate::clock;
use crate::event::{AttemptEvent, AttemptOutcome, EventKind, SentAgainCause};
use crate::outcome::Outcome;
use crate::provenance::{Provenance, Role, RunId};
use crate::scope::Scope;

/// An attempt under way. Dropped before it has ended, it was cancelled.
#[derive(Debug)]
pub struct Attempt<'a> {
    call: &'a Call,
    number: u32,
    run: RunId,
    role: Role,
    /// The policy that makes its run.
    policy: Option<&'a Arc<str>>,
    branch: Option<&'a Branch<'a>>,
    address: Cell<Option<SocketAddr>>,
    is_http2: Cell<bool>,
    started: Instant,
    /// For how long the call had starved before.
    starved: Duration,
    ended: bool,
}

impl<'a> Attempt<'a> {
    /// Begins an attempt on this endpoint. Called by the upstream, so that all policies share one
    /// count.
    pub fn begin(call: &'a Call, scope: &Scope<'a>, endpoint: &Arc<str>) -> Self {
        let mut begun = Self::new(call, scope.run(), scope.role(), scope.policy());
        if let Some(branch) = scope.branch() {
            branch.begin(begun.number, begun.started, begun.starved);
            begun.branch = Some(branch);
        }
        if call.reporter().wants_details() {
            let deadline = scope.deadline(call);
            let remaining = deadline.map(|end| end.saturating_duration_since(begun.started));
            let attempt = begun.number;
            let kind = AttemptEvent::Started { attempt, endpoint: endpoint.clone(), remaining };
            call.reporter().tell(begun.policy, None, Some(&begun.provenance()), &kind.into());
        }
        begun
    }

    /// The same on one of several endpoints of its upstream: the call will know that it was tried.
    pub fn begin_at(call: &'a Call, scope: &Scope<'a>, endpoint: &Arc<str>) -> Self {
        call.endpoints().add(call.attempts() + 1, endpoint);
        Self::begin(call, scope, endpoint)
    }

    /// An attempt that goes to no upstream, as if it had reached this address: for trying out a
    /// component.
    pub fn detached(call: &'a Call, address: Option<SocketAddr>) -> Self {
        let attempt = Self::new(call, RunId::default(), Role::First, None);
        attempt.address.set(address);
        attempt
    }

    fn new(call: &'a Call, run: RunId, role: Role, policy: Option<&'a Arc<str>>) -> Self {
        let number = call.next_attempt();
        let (address, started) = (Cell::new(None), clock::now());
        let starved = call.starved().time;
        let (branch, ended) = (None, false);
        let is_http2 = Cell::new(false);
        Self { call, number, run, role, policy, branch, address, is_http2, started, starved, ended }
    }

    fn provenance(&self) -> Provenance {
        let Self { number, run, role, .. } = *self;
        let (address, is_http2) = (self.address.get(), self.is_http2.get());
        Provenance { attempt: number, run, role, address, is_http2 }
    }

    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// It reaches for this address.
    pub fn reaches(&self, address: SocketAddr) {
        self.address.set(Some(address));
    }

    /// It is made over HTTP/2, or not.
    pub fn goes_by_http2(&self, is_http2: bool) {
        self.is_http2.set(is_http2);
    }

    /// Emits what happened in it.
    pub fn emit(&self, kind: impl Into<EventKind>) {
        self.call.reporter().tell(None, None, Some(&self.provenance()), &kind.into());
    }

    /// Numbers what is not its outcome: it [goes elsewhere](Self::goes_to).
    pub fn mark(&self, outcome: &mut Outcome) {
        match outcome {
            Ok(response) => response.set_attempt(self.number),
            Err(error) => error.set_attempt(self.number),
        }
    }

    /// It goes to this endpoint of its upstream, since the one before has refused the connection.
    pub fn goes_to(&self, endpoint: &Arc<str>) {
        let (attempt, cause) = (self.number, SentAgainCause::Refused);
        self.emit(AttemptEvent::SentAgain { attempt, cause });
        self.call.endpoints().add(attempt, endpoint);
    }

    /// Ends it: numbers the outcome and tells the observers.
    pub fn finish(self, mut outcome: Outcome) -> Outcome {
        self.finish_in_place(&mut outcome);
        outcome
    }

    /// The same with an outcome that stays where it is.
    pub fn finish_in_place(mut self, outcome: &mut Outcome) {
        let number = self.number();
        let mut is_ahead = false;
        let short = match outcome {
            Ok(response) => {
                response.set_attempt(number);
                if self.call.request().is_grpc() {
                    response.answers_grpc();
                    is_ahead = response.grpc().is_good_so_far();
                }
                AttemptOutcome::Response(response.status.as_u16())
            }
            Err(error) => {
                error.set_attempt(number);
                AttemptOutcome::Failure(error.kind())
            }
        };
        self.end(short, is_ahead);
    }

    /// `is_ahead`: the answer did not need what the client may still say, which was not waited for
    /// then. (An error may be all that comes to a server of waiting for it.)
    fn end(&mut self, outcome: AttemptOutcome, is_ahead: bool) {
        self.ended = true;
        if let Some(branch) = self.branch {
            branch.end();
        }
        let provenance = self.provenance();
        let elapsed = clock::now() - self.started;
        let starved = self.call.starved();
        let unneeded = if is_ahead { starved.wait } else { Duration::ZERO };
        // Of this attempt alone.
        let time = (starved.time - self.starved).saturating_sub(unneeded);
        let starved = Starved { time, ..starved };
        let asked = elapsed.saturating_sub(starved.time);
        let is_owed = starved.is_long_owed();
        self.call.remember(PastAttempt { provenance, outcome, elapsed, asked, is_owed });
        let kind = AttemptEvent::Finished { attempt: provenance.attempt, outcome, elapsed };
        self.call.reporter().tell(self.policy, None, Some(&provenance), &kind.into());
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(AttemptOutcome::Cancelled, false);
        }
    }
}
