//! Asking a component: an instance is taken or started, lent the question, called and put back.

use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::clock;
use tokio::time::Instant;
use wasmtime::Store;

use super::ledger::Ledger;
use crate::config::Isolation;
use crate::exports::ContractGuest;
use crate::fault::GuestFailure;
use crate::instance::Instance;
use crate::question::GuestQuestion;
use crate::store::HostState;
use crate::version::Version;
use crate::{attempt, pool};

/// What takes at least so long advances the cached clock of the current turn, and is followed by a
/// turn of everybody else.
const LONG: Duration = Duration::from_millis(1);

/// Asks a component, and records the result in its ledger.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    ledger: Arc<Ledger>,
}

impl Caller {
    pub(crate) fn new(ledger: Arc<Ledger>) -> Self {
        Self { ledger }
    }

    pub(crate) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Asks the component, on a new instance of `version` if the worker has
    /// none. `None`: there is no version, or the call failed; the failure has been reported.
    pub(crate) fn ask<A>(
        &self,
        seen: &GuestQuestion<'_>,
        version: impl FnOnce() -> Option<Arc<Version>>,
        question: impl FnOnce(&ContractGuest, &mut Store<HostState>) -> wasmtime::Result<A>,
    ) -> Option<A> {
        if !self.ledger.may_call() {
            return None;
        }
        let mut instance = match pool::take(self.ledger.meters()) {
            Some(instance) => instance,
            None => {
                let version = version()?;
                let began = Instant::now();
                let started = Instance::start(&version, self.ledger.config().timeout.0);
                look_at(began.elapsed(), seen);
                match started {
                    Ok(instance) => instance,
                    Err(failure) => {
                        self.failed(seen, &version, failure);
                        return None;
                    }
                }
            }
        };
        let began = Instant::now();
        instance.called_at(began);
        let answer = attempt::lend(seen, || instance.call(question));
        let took = began.elapsed();
        look_at(took, seen);
        instance.tally().called(took);
        match answer {
            Ok(answer) => {
                self.ledger.succeeded_with(instance.version());
                self.ledger.printed(
                    seen.call.reporter(),
                    seen.policy,
                    instance.version(),
                    instance.printed(),
                );
                if instance.is_reusable() {
                    pool::put(instance);
                }
                Some(answer)
            }
            Err(failure) => {
                self.failed(seen, instance.version(), failure);
                None
            }
        }
    }

    fn failed(&self, seen: &GuestQuestion<'_>, version: &Version, failure: GuestFailure) {
        let copy = self.ledger.copy_to_check(seen, version);
        self.ledger.failed(seen.call.reporter(), seen.policy, version, failure, copy);
    }
}

/// What took long has made the cached time wrong, and others wait.
#[inline]
fn look_at(took: Duration, seen: &GuestQuestion<'_>) {
    if took >= LONG {
        clock::elapse();
        seen.call.worker().question_turns().lasted();
    }
}

/// Starts this thread's instance of the version in use, if it has none. A failure to start is
/// reported by the next call.
pub(crate) fn warm(ledger: &Ledger) {
    if ledger.config().isolation == Isolation::PerCall || pool::has(ledger.meters()) {
        return;
    }
    let asked = ledger.current().filter(|version| version.exports().are_any());
    let started =
        asked.and_then(|version| Instance::start(&version, ledger.config().timeout.0).ok());
    started.into_iter().for_each(pool::put);
}
