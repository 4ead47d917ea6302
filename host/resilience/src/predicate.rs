//! The two questions only the user can answer, as two traits: [`Predicate`] (is this outcome a
//! failure?) and [`Responder`] (what do we answer instead?).
//!
//! They are the WebAssembly boundary: implemented natively by [`Condition`](crate::Condition)'s
//! lists and by static responses, and by components in the crate above. Asking cannot fail: a
//! broken guest becomes its configured answer and an event before the policy hears of it. A
//! predicate answers at once; a responder may take its time ([`Answer`]).

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::body::Peek;
use crate::call::Call;
use crate::clock;
use crate::event::ComponentId;
use crate::native::Native;
use crate::outcome::{Outcome, OutcomeExt, Response};
use crate::slot::Slot;

/// Is this outcome a failure for the policy that asks?
pub trait Predicate: Send + Sync + fmt::Debug {
    /// Whether the policy takes the outcome as a failure and handles it.
    fn judge(&self, seen: &Exchange<'_>) -> Verdict;

    /// The name of the component that judges; `None` if it is none.
    fn component(&self) -> Option<&Arc<str>> {
        None
    }

    /// How much of the response body it wants to see. The policy waits for that much before it
    /// asks.
    fn peek(&self) -> Option<Peek> {
        None
    }

    /// Whether it looks at trailers: then a policy that counts outcomes asks it once more, about a
    /// response whose trailers have come after it was asked. The answer may change.
    fn reads_trailers(&self) -> bool {
        false
    }
}

/// What a condition says of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is no failure, for this policy. By whom is said for details only: nothing else of a
    /// healthy request has to write to the identity's reference count.
    Unhandled(Option<ComponentId>),
    /// It is one, says this version of a component; none: the configuration says so.
    Handled(Option<ComponentId>),
}

impl Verdict {
    /// The configuration's.
    pub fn native(is_handled: bool) -> Self {
        if is_handled { Self::Handled(None) } else { Self::Unhandled(None) }
    }

    /// The version of a component that says so, as far as it is known.
    pub fn decided_by(&self) -> Option<&ComponentId> {
        let (Self::Unhandled(by) | Self::Handled(by)) = self;
        by.as_ref()
    }

    /// Whether it is a failure.
    pub fn is_handled(&self) -> bool {
        matches!(self, Self::Handled(_))
    }
}

/// What do we answer instead?
pub trait Responder: Send + Sync + fmt::Debug {
    /// What to answer.
    fn respond<'a>(&'a self, seen: &'a Exchange<'a>) -> Answer<'a>;

    /// How much of the original response body it wants to see.
    fn peek(&self) -> Option<Peek> {
        None
    }
}

/// What a responder answers. None: the original outcome goes out.
pub enum Answer<'a> {
    /// This, at once and without an allocation.
    Now(Option<Response>),
    /// What comes of this. Dropped before it is ready, it leaves nothing behind.
    Later(LocalBoxFuture<'a, Option<Response>>),
}

impl Answer<'_> {
    /// Waits for it.
    pub async fn ready(self) -> Option<Response> {
        match self {
            Self::Now(response) => response,
            Self::Later(response) => response.await,
        }
    }
}

impl fmt::Debug for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(response) => f.debug_tuple("Now").field(response).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// An outcome being judged: who asks what, about which outcome of which call.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The call.
    pub call: &'a Call,
    /// What it came to, as the asking policy sees it.
    pub outcome: &'a Outcome,
    /// The policy that asks.
    pub policy: &'a Arc<str>,
    /// What it asks for.
    pub slot: Slot,
    pub(crate) deadline: Option<Instant>,
    pub(crate) default: &'a Native,
}

impl<'a> Exchange<'a> {
    /// As if a policy asked whose slot has no default condition and which no timeout surrounds: for
    /// trying out a component.
    pub fn of(call: &'a Call, outcome: &'a Outcome, policy: &'a Arc<str>, slot: Slot) -> Self {
        Self { call, outcome, policy, slot, deadline: None, default: &Native::NOTHING }
    }

    /// The same, with a timeout around the policy that ends the call then.
    #[must_use]
    pub fn until(self, deadline: Option<Instant>) -> Self {
        Self { deadline, ..self }
    }
}

impl Exchange<'_> {
    /// The attempt that the outcome came from, from 1; 0 if none was made.
    pub fn number(&self) -> u32 {
        self.outcome.attempt()
    }

    /// The address that this attempt reached, or tried last.
    pub fn address(&self) -> Option<SocketAddr> {
        self.call.past(self.number())?.provenance.address
    }

    /// When the nearest timeout policy around the asking one ends the request.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Until then.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(clock::now()))
    }

    /// What the slot answers when it has no condition: the answer of a component that is out of
    /// order.
    pub fn default_answer(&self) -> bool {
        self.default.takes(self.outcome)
    }
}
