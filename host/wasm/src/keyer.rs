//! A component as one who knows whose call it is.

use fusebox_resilience::{KeyQuestion, Keyer};

use crate::cases::capture::Said;
use crate::convert;
use crate::question::GuestQuestion;
use crate::seat::caller::Caller;

/// Asks the component in a seat whose call it is. If the guest fails, it is nobody's.
#[derive(Debug)]
pub(crate) struct ComponentKeyer(pub(crate) Caller);

impl Keyer for ComponentKeyer {
    fn key(&self, seen: &KeyQuestion<'_>) -> Option<String> {
        let question = GuestQuestion::key(seen);
        let version = || self.0.ledger().current();
        let answer = self.0.ask(&question, version, |guest, store| {
            // Looked at within the call, so that an invalid answer is a fault like any other.
            Ok(convert::key(guest.key().call_key(store)?)?)
        });
        if let Some(key) = &answer {
            self.0.ledger().capture(&question, &Said::Key(key.as_deref()));
        }
        answer.flatten()
    }
}
