//! What flows inwards: where a part of the pipeline runs.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::branch::Branch;
use crate::budget::{Budget, BudgetedCall};
use crate::call::Call;
use crate::clock;
use crate::gate::{EndpointGates, GateRefusal};
use crate::outcome::Outcome;
use crate::preconditions::Preconditions;
use crate::priority::PriorityLevel;
use crate::provenance::{Role, RunId};

/// The innermost step: one attempt on the wire.
pub trait Upstream {
    /// Sends the call once. Implementations number the attempt with
    /// [`Attempt::begin`](crate::Attempt::begin).
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome>;

    /// The same through these gates. Where endpoints are not told apart there are none to look at.
    fn attempt_through<'a>(
        &'a self,
        call: &'a Call,
        scope: &'a Scope<'a>,
        _gates: &'a EndpointGates<'a>,
    ) -> LocalBoxFuture<'a, Outcome> {
        self.attempt(call, scope)
    }

    /// The gates that it is behind.
    fn gates(&self) -> Option<&EndpointGates<'_>> {
        None
    }

    /// What keeps an attempt from all of its endpoints, for the shortest time.
    fn refusal<'a>(&self, _gates: &EndpointGates<'a>) -> Option<GateRefusal<'a>> {
        None
    }

    /// The same upstream for runs that outlive the call; `None`: there are none of it.
    fn detached(&self) -> Option<Rc<dyn Upstream>> {
        None
    }

    /// The budget of those who ask it again and name none of their own.
    fn budget(&self) -> Option<&Budget> {
        None
    }

    /// Whether it has several endpoints, and one of those that get requests is still to be tried by
    /// this call.
    fn has_untried(&self, _call: &Call) -> bool {
        false
    }

    /// Sends the call to another upstream, through the policies that this one has for calls that
    /// come by a fallback. `None`: there is none of this name.
    fn ask_other<'a>(
        &'a self,
        _name: &str,
        _call: &'a Call,
        _scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
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
    role: PackedRole,
    budgeted: Option<&'a BudgetedCall<'a>>,
    preconditions: Option<&'a Preconditions>,
    /// The policy that makes the run; `None` for the first one.
    policy: Option<&'a Arc<str>>,
    /// Which of several runs at once it is within; `None`: runs follow one another.
    branch: Option<&'a Branch<'a>>,
}

/// A [`Role`] in half its room: the number of the retry, or of the hedge with the highest bit; 0:
/// the run is the first.
#[derive(Clone, Copy)]
struct PackedRole(u32);

impl PackedRole {
    const HEDGE: u32 = 1 << 31;
    const FIRST: Self = Self(0);

    fn retry(number: u32) -> Self {
        Self(number & !Self::HEDGE)
    }

    fn hedge(number: u32) -> Self {
        Self(number | Self::HEDGE)
    }

    fn unpack(self) -> Role {
        match self.0 {
            0 => Role::First,
            hedge if hedge & Self::HEDGE != 0 => Role::Hedge(hedge & !Self::HEDGE),
            retry => Role::Retry(retry),
        }
    }
}

impl<'a> Scope<'a> {
    /// The scope of a whole call to this upstream.
    pub fn new(upstream: &'a dyn Upstream) -> Self {
        Self {
            upstream,
            unstarved_deadline: None,
            run: RunId::default(),
            role: PackedRole::FIRST,
            budgeted: None,
            preconditions: None,
            policy: None,
            branch: None,
        }
    }

    /// Where attempts go.
    pub fn upstream(&self) -> &'a dyn Upstream {
        self.upstream
    }

    /// When the nearest timeout around ends it, unless the call starves for longer, or when the
    /// call's own deadline does.
    pub fn deadline(&self, call: &Call) -> Option<Instant> {
        let limit = self.unstarved_deadline.map(|end| end + call.starved().time);
        limit.into_iter().chain(call.request().deadline()).min()
    }

    /// The run that this is.
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Why that run is made.
    pub fn role(&self) -> Role {
        self.role.unpack()
    }

    /// How important that run is. A hedge is a class less important than its call: another attempt
    /// is under way.
    pub(crate) fn level(&self, call: &Call) -> Option<PriorityLevel> {
        let level = call.request().level();
        match self.role() {
            Role::Hedge(_) => level.map(PriorityLevel::one_class_less),
            Role::First | Role::Retry(_) => level,
        }
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

    /// The same as one of several runs at once.
    #[must_use]
    pub(crate) fn branching<'b>(&self, branch: &'b Branch<'b>) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { branch: Some(branch), ..*self }
    }

    /// Which of several runs at once it is within.
    pub(crate) fn branch(&self) -> Option<&'a Branch<'a>> {
        self.branch
    }

    /// The number of the last attempt that began in it, or before it; 0: none has.
    pub(crate) fn last_attempt(&self, call: &Call) -> u32 {
        self.branch.map_or_else(|| call.attempts(), Branch::last_attempt)
    }

    /// The preconditions that attempts send in place of the client's; `None`: the client's.
    pub fn preconditions(&self) -> Option<&'a Preconditions> {
        self.preconditions
    }

    /// The same with these preconditions in place of the client's.
    #[must_use]
    pub(crate) fn on_condition<'b>(&self, preconditions: &'b Preconditions) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { preconditions: Some(preconditions), ..*self }
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
        let role = PackedRole::retry(retry);
        Self { run: call.next_run(), role, policy: Some(policy), ..*self }
    }

    /// The same for a run that this policy makes elsewhere.
    #[must_use]
    pub(crate) fn run_elsewhere(&self, call: &Call, policy: &'a Arc<str>) -> Self {
        Self { run: call.next_run(), role: PackedRole::FIRST, policy: Some(policy), ..*self }
    }

    /// The same with another upstream, on the client's own preconditions.
    #[must_use]
    pub fn at<'b>(&self, upstream: &'b dyn Upstream) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { upstream, preconditions: None, ..*self }
    }

    /// The same with its upstream behind a gate.
    #[must_use]
    pub(crate) fn through<'b>(&self, upstream: &'b dyn Upstream) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { upstream, ..*self }
    }

    /// The same for a further run beside others, which is this policy's hedge of this number, from
    /// 1.
    #[must_use]
    pub(crate) fn run_beside(&self, call: &Call, policy: &'a Arc<str>, hedge: u32) -> Self {
        let role = PackedRole::hedge(hedge);
        Self { run: call.next_run(), role, policy: Some(policy), ..*self }
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
