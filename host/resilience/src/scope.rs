//! What flows inwards: where a part of the pipeline runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::budget::{Budget, BudgetedCall};
use crate::call::Call;
use crate::clock;
use crate::outcome::Outcome;
use crate::provenance::{Role, RunId};

/// The innermost step: one attempt on the wire.
pub trait Upstream {
    /// Sends the call once. Implementations number the attempt with
    /// [`Attempt::begin`](crate::Attempt::begin).
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome>;

    /// The budget of those who ask it again and name none of their own.
    fn budget(&self) -> Option<&Budget> {
        None
    }
}

/// Where a part of the pipeline runs. A policy that changes it for what is inside makes one of its
/// own from the one that it got, and keeps it in its future.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    upstream: &'a dyn Upstream,
    /// When the nearest timeout around ends it, less all time in which the call has starved: so it
    /// stays the same while that time grows.
    unstarved_deadline: Option<Instant>,
    run: RunId,
    /// The retry that the run is; 0: it is the first. (A [`Role`] would take twice the room.)
    retry: u32,
    budgeted: Option<&'a BudgetedCall<'a>>,
    /// The policy that makes the run; `None` for the first one.
    policy: Option<&'a Arc<str>>,
}

impl<'a> Scope<'a> {
    /// The scope of a whole call to this upstream.
    pub fn new(upstream: &'a dyn Upstream) -> Self {
        Self {
            upstream,
            unstarved_deadline: None,
            run: RunId::default(),
            retry: 0,
            budgeted: None,
            policy: None,
        }
    }

    /// Where attempts go.
    pub fn upstream(&self) -> &'a dyn Upstream {
        self.upstream
    }

    /// When the nearest timeout around ends it, unless the call starves for longer.
    pub fn deadline(&self, call: &Call) -> Option<Instant> {
        Some(self.unstarved_deadline? + call.starved().time)
    }

    /// The run that this is.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Why that run is made.
    pub fn role(&self) -> Role {
        if self.retry == 0 { Role::First } else { Role::Retry(self.retry) }
    }

    /// The budgets that the call counts in.
    pub(crate) fn budgeted(&self) -> Option<&'a BudgetedCall<'a>> {
        self.budgeted
    }

    /// The same within a further budget.
    #[must_use]
    pub(crate) fn budgeted_by<'b>(&self, call: Option<&'b BudgetedCall<'b>>) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { budgeted: call.or(self.budgeted), ..*self }
    }

    /// The policy that makes that run; `None`: it is the first.
    pub fn policy(&self) -> Option<&'a Arc<str>> {
        self.policy
    }

    /// The same, known to be cut when `limit` is over unless something further out cuts it earlier.
    #[must_use]
    pub fn limited(&self, call: &Call, limit: Duration) -> Self {
        let deadline = clock::now() + limit - call.starved().time;
        let nearest = self.unstarved_deadline.map_or(deadline, |outer| outer.min(deadline));
        Self { unstarved_deadline: Some(nearest), ..*self }
    }

    /// The same for a further run, which is this policy's retry of this number, from 1.
    #[must_use]
    pub fn run_again(&self, call: &Call, policy: &'a Arc<str>, retry: u32) -> Self {
        Self { run: call.next_run(), retry, policy: Some(policy), ..*self }
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("unstarved_deadline", &self.unstarved_deadline)
            .field("run", &self.run)
            .field("role", &self.role())
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
