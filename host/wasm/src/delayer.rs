//! A component as one who knows how long to wait.

use std::time::Duration;

use fusebox_resilience::{DelayDecision, Delayer, Exchange, Peek};

use crate::bindings::exports::fusebox::policy::delay::Decision;
use crate::cases::capture::Said;
use crate::convert;
use crate::question::GuestQuestion;
use crate::seat::caller::Caller;

/// Asks the component in a seat how long to wait. If the guest fails, the policy's own delay holds.
#[derive(Debug)]
pub(crate) struct ComponentDelayer(pub(crate) Caller);

impl Delayer for ComponentDelayer {
    fn after(&self, seen: &Exchange<'_>, own: Duration, count: u32) -> DelayDecision {
        let question = GuestQuestion::delay(seen, own, count);
        let (outcome, own) = (convert::outcome(seen.outcome), convert::millis(own));
        let version = || self.0.ledger().current();
        let answer = self.0.ask(&question, version, |guest, store| {
            let decision = guest.delay().call_after(&mut *store, outcome, own, count)?;
            Ok((decision, store.data().bounds().component.clone()))
        });
        let Some((decision, by)) = answer else { return DelayDecision::Own };
        self.0.ledger().capture(&question, &Said::Delay(decision));
        match decision {
            Decision::Own => DelayDecision::Own,
            Decision::Wait(milliseconds) => {
                DelayDecision::Wait { time: Duration::from_millis(milliseconds.into()), by }
            }
            Decision::GiveUp => DelayDecision::GiveUp { by },
        }
    }

    fn peek(&self) -> Option<Peek> {
        self.0.ledger().config().peek()
    }
}
