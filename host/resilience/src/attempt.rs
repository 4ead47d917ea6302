//! An attempt from its begin to its end, whichever way it ends.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::Instant;

use crate::call::{Call, PastAttempt};
use crate::clock;
use crate::event::{AttemptEvent, AttemptOutcome};
use crate::outcome::Outcome;
use crate::provenance::Provenance;
use crate::scope::Scope;

/// An attempt under way. Dropped before it has ended, it was cancelled.
#[derive(Debug)]
pub struct Attempt<'a> {
    call: &'a Call,
    provenance: Cell<Provenance>,
    started: Instant,
    ended: bool,
}

impl<'a> Attempt<'a> {
    /// Begins an attempt on this endpoint. Called by the upstream, so that retries and hedges share
    /// one count.
    pub fn begin(call: &'a Call, scope: &Scope<'_>, endpoint: &Arc<str>) -> Self {
        let attempt = call.next_attempt();
        let provenance =
            Provenance { attempt, run: scope.run(), role: scope.role(), address: None };
        let started = clock::now();
        if call.reporter().wants_details() {
            let deadline = scope.deadline();
            let remaining = deadline.map(|end| end.saturating_duration_since(started));
            let kind = AttemptEvent::Started { attempt, endpoint: endpoint.clone(), remaining };
            call.reporter().tell(None, None, Some(&provenance), &kind.into());
        }
        Self { call, provenance: Cell::new(provenance), started, ended: false }
    }

    /// An attempt that goes to no upstream: for trying out a component.
    pub fn detached(call: &'a Call) -> Self {
        let provenance = Provenance { attempt: call.next_attempt(), ..Provenance::default() };
        Self { call, provenance: Cell::new(provenance), started: clock::now(), ended: false }
    }

    /// Its number, from 1.
    pub fn number(&self) -> u32 {
        self.provenance.get().attempt
    }

    /// It reaches for this address.
    pub fn reaches(&self, address: SocketAddr) {
        self.provenance.set(Provenance { address: Some(address), ..self.provenance.get() });
    }

    /// Ends it: numbers the outcome and tells the observers.
    pub fn finish(mut self, mut outcome: Outcome) -> Outcome {
        let number = self.number();
        let short = match &mut outcome {
            Ok(response) => {
                response.set_attempt(number);
                AttemptOutcome::Response(response.status.as_u16())
            }
            Err(error) => {
                error.set_attempt(number);
                AttemptOutcome::Failure(error.kind())
            }
        };
        self.end(short);
        outcome
    }

    fn end(&mut self, outcome: AttemptOutcome) {
        self.ended = true;
        let provenance = self.provenance.get();
        let elapsed = clock::now() - self.started;
        self.call.remember(PastAttempt { provenance, outcome, elapsed });
        let kind = AttemptEvent::Finished { attempt: provenance.attempt, outcome, elapsed };
        self.call.reporter().tell(None, None, Some(&provenance), &kind.into());
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.end(AttemptOutcome::Cancelled);
        }
    }
}
