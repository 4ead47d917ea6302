//! A component as a condition.

use std::sync::Arc;

use fusebox_resilience::{Exchange, Peek, Predicate, Verdict};

use crate::attempt;
use crate::cases::Said;
use crate::config::OnError;
use crate::slot::Slot;

/// Asks the component in a slot whether an outcome is a failure. If the guest does not answer, its
/// configuration does.
#[derive(Debug)]
pub(crate) struct ComponentPredicate(pub(crate) Arc<Slot>);

impl Predicate for ComponentPredicate {
    fn judge(&self, seen: &Exchange<'_>) -> Verdict {
        let outcome = attempt::outcome(seen);
        let answer = self.0.ask(
            seen,
            || self.0.current(),
            |guest, store| {
                let is_handled = guest.predicate().call_handle_if(&mut *store, outcome)?;
                // The digest is shared by all workers: only what somebody will be told of is worth
                // counting its users.
                Ok(if is_handled {
                    Verdict::Handled(Some(store.data().version().id().clone()))
                } else {
                    Verdict::Unhandled
                })
            },
        );
        if let Some(verdict) = &answer {
            self.0.capture(seen, &Said::Handled(verdict.is_handled()));
        }
        answer.unwrap_or_else(|| {
            Verdict::native(match self.0.config().on_error {
                OnError::Default => seen.default_answer(),
                OnError::Handled => true,
                OnError::Unhandled => false,
            })
        })
    }

    fn component(&self) -> Option<&Arc<str>> {
        Some(self.0.name())
    }

    fn peek(&self) -> Option<Peek> {
        self.0.config().peek()
    }
}
