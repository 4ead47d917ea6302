//! A component as a source of fallback responses.

use std::sync::Arc;

use fusebox_resilience::{Exchange, Peek, Responder, Response};

use crate::attempt;
use crate::cases::Said;
use crate::slot::Slot;

/// Asks the component in a slot for a response. A guest that fails to answer has declined.
#[derive(Debug)]
pub(crate) struct ComponentResponder(pub(crate) Arc<Slot>);

impl Responder for ComponentResponder {
    fn respond(&self, seen: &Exchange<'_>) -> Option<Response> {
        let outcome = attempt::outcome(seen);
        let answer = self.0.ask(seen, |guest, store| {
            let answer = guest.fallback().call_respond(&mut *store, outcome)?;
            // Within the call, so that an answer that can't be sent is a fault like any other.
            let answer = answer.map(|answer| attempt::into_response(answer, store.data().console())).transpose()?;
            Ok(answer.map(|answer| answer.made_by(store.data().version().id().clone())))
        });
        if let Some(answer) = &answer {
            self.0.capture(seen, &Said::Responded(answer.as_ref()));
        }
        answer.flatten()
    }

    fn peek(&self) -> Option<Peek> {
        self.0.config().peek()
    }
}
