//! A component as a condition.

use std::sync::Arc;

use fusebox_resilience::{Exchange, Peek, Predicate};

use crate::attempt;
use crate::config::OnError;
use crate::slot::Slot;

/// Asks the component in a slot whether an outcome is a failure. If the guest does not answer, its configuration does.
#[derive(Debug)]
pub(crate) struct ComponentPredicate(pub(crate) Arc<Slot>);

impl Predicate for ComponentPredicate {
    fn handles(&self, seen: &Exchange<'_>) -> bool {
        let outcome = attempt::outcome(seen);
        let answer = self.0.ask(seen, |guest, store| guest.predicate().call_handle_if(store, outcome));
        answer.unwrap_or_else(|| match self.0.config().on_error {
            OnError::Default => seen.default_answer(),
            OnError::Handled => true,
            OnError::Unhandled => false,
        })
    }

    fn peek(&self) -> Option<Peek> {
        self.0.config().peek()
    }
}
