//! A component as a source of fallback responses.

use std::sync::Arc;

use fusebox_resilience::{Answer, Exchange, Peek, Responder, Response};

use crate::cases::capture::Said;
use crate::question::GuestQuestion;
use crate::seat::caller::Caller;
use crate::version::Version;
use crate::{convert, http};

/// Asks the component in a seat for a response: a guest of the contract at once, a standard HTTP
/// component in its own time. A guest that fails has declined.
#[derive(Debug)]
pub(crate) struct ComponentResponder(pub(crate) Caller);

impl ComponentResponder {
    fn ask(&self, seen: &Exchange<'_>, version: Option<Arc<Version>>) -> Option<Response> {
        let (question, outcome) = (GuestQuestion::response(seen), convert::outcome(seen.outcome));
        let version = || version;
        let answer = self.0.ask(&question, version, |guest, store| {
            let answer = guest.fallback().call_respond(&mut *store, outcome)?;
            // Converted within the call, so that an invalid answer is a fault like any other.
            let answer = answer
                .map(|answer| convert::into_response(answer, store.data().console()))
                .transpose()?;
            Ok(answer.map(|answer| answer.made_by(store.data().bounds().component.clone())))
        });
        if let Some(answer) = &answer {
            self.0.ledger().capture(&question, &Said::Responded(answer.as_ref()));
        }
        answer.flatten()
    }
}

impl Responder for ComponentResponder {
    fn respond<'a>(&'a self, seen: &'a Exchange<'a>) -> Answer<'a> {
        // Read once: the next version may be of the other kind.
        match self.0.ledger().current() {
            Some(version) if version.handler().is_some() => Answer::Later(Box::pin(async move {
                if self.0.ledger().may_call() {
                    http::respond(self.0.ledger().clone(), version, seen).await
                } else {
                    None
                }
            })),
            version => Answer::Now(self.ask(seen, version)),
        }
    }

    fn peek(&self) -> Option<Peek> {
        self.0.ledger().config().peek()
    }
}
