//! The seam: a policy is a loop around the rest of the pipeline.
//!
//! A policy gets the call and the rest of the pipeline, and runs the rest zero, one or several
//! times, in sequence or at once. Everything it runs borrows the call and lives in the future that
//! it returned, so dropping that future cancels everything inside; policies spawn nothing.

use std::fmt;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::call::Call;
use crate::outcome::Outcome;

/// A loop around the rest of the pipeline.
///
/// Per-call state lives in the returned future; what is shared between calls (a breaker's counts)
/// lives in the policy, which is one object for all workers and is therefore `Send + Sync`,
/// although its futures are not.
pub trait Policy: Send + Sync + fmt::Debug {
    /// The name that the configuration gave it.
    fn name(&self) -> &Arc<str>;

    /// Runs the call. Dropping the future cancels the call; whatever was acquired goes back
    /// neutrally.
    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome>;
}

/// The innermost step: one attempt on the wire.
pub trait Upstream {
    /// Sends the call once. Implementations number the attempt with [`Call::begin_attempt`].
    fn attempt<'a>(&'a self, call: &'a Call) -> LocalBoxFuture<'a, Outcome>;
}

/// The rest of the pipeline, `Copy` so that a policy can run it again, or several times at once.
#[derive(Clone, Copy)]
pub struct Next<'a> {
    policies: &'a [Arc<dyn Policy>],
    upstream: &'a dyn Upstream,
    deadline: Option<Instant>,
}

impl<'a> Next<'a> {
    /// Runs what is left of the pipeline.
    pub fn run(self, call: &'a Call) -> LocalBoxFuture<'a, Outcome> {
        match self.policies.split_first() {
            Some((policy, rest)) => policy.run(call, Next { policies: rest, ..self }),
            None => self.upstream.attempt(call),
        }
    }

    /// When the nearest timeout around the caller ends it.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The same rest, known to be cut at `deadline` unless something further out cuts it earlier.
    #[must_use]
    pub fn until(self, deadline: Instant) -> Self {
        let nearest = self.deadline.map_or(deadline, |outer| outer.min(deadline));
        Self { deadline: Some(nearest), ..self }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.policies.iter().map(|policy| policy.name());
        f.debug_struct("Next")
            .field("deadline", &self.deadline)
            .field("policies", &names.collect::<Vec<_>>())
            .finish()
    }
}

/// Policies in order, outermost first: `[a, b, c]` runs `a(b(c(upstream)))`, as failsafe-go's
/// `With(a, b, c)` does.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    policies: Arc<[Arc<dyn Policy>]>,
}

impl Pipeline {
    /// A pipeline of these policies, outermost first.
    pub fn new(policies: impl Into<Arc<[Arc<dyn Policy>]>>) -> Self {
        Self { policies: policies.into() }
    }

    /// Its policies, outermost first.
    pub fn policies(&self) -> &[Arc<dyn Policy>] {
        &self.policies
    }

    /// Runs the call through the policies to the upstream. Dropping the future cancels all of it.
    pub fn execute<'a>(
        &'a self,
        call: &'a Call,
        upstream: &'a dyn Upstream,
    ) -> LocalBoxFuture<'a, Outcome> {
        Next { policies: &self.policies, upstream, deadline: None }.run(call)
    }
}
