//! A component as a condition of a policy.

use std::sync::Arc;

use fusebox_resilience::{Exchange, Peek, Predicate, Verdict};

use crate::cases::capture::Said;
use crate::config::OnError;
use crate::convert;
use crate::question::GuestQuestion;
use crate::seat::caller::Caller;

/// Asks the component in a seat whether an outcome is a failure. If the guest fails, `on_error`
/// answers.
#[derive(Debug)]
pub(crate) struct ComponentPredicate(pub(crate) Caller);

impl Predicate for ComponentPredicate {
    fn judge(&self, seen: &Exchange<'_>) -> Verdict {
        let (question, outcome) = (GuestQuestion::condition(seen), convert::outcome(seen.outcome));
        let answer = self.0.ask(
            &question,
            || self.0.ledger().current(),
            |guest, store| {
                let is_handled = guest.predicate().call_handle_if(&mut *store, outcome)?;
                // The identity's digest is shared by all workers: cloning it, which writes its
                // reference count, is only done for a verdict that is reported.
                let is_reported = is_handled || seen.call.reporter().wants_details();
                let by = is_reported.then(|| store.data().bounds().component.clone());
                Ok(if is_handled { Verdict::Handled(by) } else { Verdict::Unhandled(by) })
            },
        );
        if let Some(verdict) = &answer {
            self.0.ledger().capture(&question, &Said::Handled(verdict.is_handled()));
        }
        answer.unwrap_or_else(|| {
            Verdict::native(match self.0.ledger().config().on_error {
                OnError::Default => seen.default_answer(),
                OnError::Handled => true,
                OnError::Unhandled => false,
            })
        })
    }

    fn component(&self) -> Option<&Arc<str>> {
        Some(self.0.ledger().name())
    }

    fn peek(&self) -> Option<Peek> {
        self.0.ledger().config().peek()
    }

    fn reads_trailers(&self) -> bool {
        self.0.ledger().reads_trailers()
    }
}
