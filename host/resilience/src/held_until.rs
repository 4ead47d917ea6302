//! For how long a call keeps what it has taken: until the response's head, or until its body ends.

use serde::Deserialize;

use crate::body::{BodyEnd, OnEnd};
use crate::outcome::Outcome;

/// Until when a call keeps what it has taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum HeldUntil {
    /// The head of the response.
    Head,
    /// The end of its body, or its being discarded.
    #[default]
    Body,
}

impl HeldUntil {
    /// Keeps `guard` for so long, now that the head is there.
    pub fn keep(self, guard: impl Sized + 'static, outcome: &mut Outcome) {
        if let (Self::Body, Ok(response)) = (self, outcome)
            && !response.body.has_come()
        {
            response.body.on_end(Box::new(Held(guard)));
        }
    }

    /// The same if there is one.
    pub fn keep_some(self, guard: Option<impl Sized + 'static>, outcome: &mut Outcome) {
        if let Some(guard) = guard {
            self.keep(guard, outcome);
        }
    }
}

/// Kept until a body's end.
struct Held<G>(G);

impl<G> OnEnd for Held<G> {
    fn on_end(self: Box<Self>, _: BodyEnd) {}
}
