//! What an outcome says about the upstream, for policies that count how it does.
//!
//! Nothing, if the client or we are at fault, or if nobody asked the upstream. Else it is what
//! `handle_if` makes of it; and a response that was taken for a success by its head is a failure if
//! its body breaks off by the upstream's fault, or its trailers say so.
//!
//! What a component makes of a head that wants to see the trailers is provisional: a success counts
//! at once, and a failure when it is one in the end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use crate::asked_again::{self, AsksAgain, SeenResponse, may_have_trailers};
use crate::body::{BodyEnd, OnEnd, RequestBody};
use crate::call::{Call, Reporter};
use crate::condition::{Asker, ComponentAnswers, Condition};
use crate::error::{Behind, ErrorKind, Origin};
use crate::event::ComponentId;
use crate::outcome::{self, Outcome, OutcomeExt, Response};
use crate::predicate::Verdict;
use crate::worker::WorkerHandle;

/// What an outcome says about the upstream.
#[derive(Debug)]
pub(crate) enum Blame {
    Success,
    /// The version of a component may have decided it.
    Failure(Option<ComponentId>),
    Nothing,
}

/// What an outcome says when there is a head.
#[derive(Debug)]
pub(crate) enum HeadBlame {
    Last(Blame),
    Provisional(Box<ProvisionalBlame>),
}

/// A component will be asked again when trailers have come.
#[derive(Debug)]
pub(crate) struct ProvisionalBlame {
    /// Not `Nothing`, which stays so.
    blame: Blame,
    answers: ComponentAnswers,
}

/// What this outcome says, by this condition.
pub(crate) async fn judge(
    handle_if: &Condition,
    call: &Call,
    asker: Asker<'_>,
    outcome: &mut Outcome,
) -> HeadBlame {
    if handle_if.reads_trailers() && may_have_trailers(call, outcome) {
        // Boxed to keep the common path's future small.
        return Box::pin(judge_provisionally(handle_if, call, asker, outcome)).await;
    }
    if concerns_nobody(outcome) {
        return HeadBlame::Last(Blame::Nothing);
    }
    let verdict = handle_if.takes(call, asker, outcome).await;
    HeadBlame::Last(judged(handle_if, call, outcome, verdict))
}

async fn judge_provisionally(
    handle_if: &Condition,
    call: &Call,
    asker: Asker<'_>,
    outcome: &mut Outcome,
) -> HeadBlame {
    let (deadline, mut answers) = (asker.scope.deadline(call), ComponentAnswers::default());
    let blame = judge_given(handle_if, call, asker.policy, deadline, outcome, &mut answers).await;
    if !may_have_trailers(call, outcome) {
        // A component has looked into the body, up to its end. Another was asked before.
        return HeadBlame::Last(match outcome::trailers(outcome) {
            Some(_) if handle_if.forget_readers(&mut answers) => {
                let policy = asker.policy;
                judge_given(handle_if, call, policy, deadline, outcome, &mut answers).await
            }
            _ => blame,
        });
    }
    if matches!(blame, Blame::Nothing) {
        return HeadBlame::Last(blame);
    }
    HeadBlame::Provisional(ProvisionalBlame { blame, answers }.into())
}

async fn judge_given(
    handle_if: &Condition,
    call: &Call,
    policy: &Arc<str>,
    deadline: Option<Instant>,
    outcome: &mut Outcome,
    answers: &mut ComponentAnswers,
) -> Blame {
    if concerns_nobody(outcome) {
        return Blame::Nothing;
    }
    let verdict = handle_if.takes_given(call, policy, deadline, outcome, answers).await;
    judged(handle_if, call, outcome, verdict)
}

/// What it says if the condition says this of it.
fn judged(handle_if: &Condition, call: &Call, outcome: &Outcome, verdict: Verdict) -> Blame {
    if let Verdict::Handled(by) = verdict {
        let is_of_client = was_given_up_for_its_client(call, outcome);
        return if is_of_client { Blame::Nothing } else { Blame::Failure(by) };
    }
    match outcome {
        Err(_) if handle_if.takes_behind(call, outcome) => Blame::Failure(None),
        Err(error) if error.kind().is_rejection() => Blame::Nothing,
        _ => Blame::Success,
    }
}

/// It says nothing about the upstream: the client or we are at fault, or nobody asked the upstream.
/// Of rejections, that is for the conditions to say.
pub(crate) fn concerns_nobody(outcome: &Outcome) -> bool {
    let error = match outcome {
        // The failure of another call, shared.
        Ok(response) => return response.attempt() == 0 && !response.is_stand_in(),
        Err(error) => error,
    };
    let kind = error.kind();
    let is_of_ours_or_the_client = kind.is_own_fault() || kind.origin() == Origin::Client;
    // Whatever is behind it: without that fault, another attempt might have gone well.
    is_of_ours_or_the_client || !kind.is_rejection() && error.last_word().is_none()
}

/// The upstream has closed the connection while its client owed it the request's body.
pub(crate) fn was_given_up_for_its_client(call: &Call, outcome: &Outcome) -> bool {
    outcome.last_word() == Some(Behind::Failure(ErrorKind::ConnectionTerminated))
        && call.is_owed(outcome.attempt())
}

/// A policy that counts what comes late, and a late failure as one more.
pub(crate) trait CountsLate: Send + Sync + 'static {
    /// What it counts it in.
    type Held: 'static;

    fn name(&self) -> &Arc<str>;

    /// Which failures are some.
    fn handle_if(&self) -> &Condition;

    /// What has become of this attempt's response is one, or a success that has not counted yet.
    /// The version of a component may have decided it.
    fn count_late(
        &self,
        held: &Self::Held,
        failed: bool,
        by: Option<&ComponentId>,
        attempt: u32,
        reporter: &Reporter,
    );
}

/// What is to be counted now of an outcome that is judged so. Has `policy` hear of what comes
/// later: that a response, a success so far, becomes a failure, or what trailers make of it.
pub(crate) fn follow<T: CountsLate>(
    policy: &Arc<T>,
    held: impl FnOnce() -> T::Held,
    call: &Call,
    outcome: &mut Outcome,
    blame: HeadBlame,
) -> Blame {
    match blame {
        HeadBlame::Last(Blame::Success) => {
            if let Ok(response) = outcome
                && !response.is_stand_in()
                && !response.body.has_come()
            {
                let late = LateFailure::of(policy, held(), call, response);
                response.body.on_end(Box::new(late));
            }
            Blame::Success
        }
        HeadBlame::Last(blame) => blame,
        HeadBlame::Provisional(provisional) => {
            follow_trailers(policy, held(), call, outcome, *provisional)
        }
    }
}

#[cold]
fn follow_trailers<T: CountsLate>(
    policy: &Arc<T>,
    held: T::Held,
    call: &Call,
    outcome: &mut Outcome,
    provisional: ProvisionalBlame,
) -> Blame {
    let ProvisionalBlame { blame, answers } = provisional;
    let Ok(response) = outcome else { return blame };
    let (now, failure) = match blame {
        Blame::Failure(by) => (Blame::Nothing, Some(by)),
        Blame::Success | Blame::Nothing => (blame, None),
    };
    let late = LateFailure::of(policy, held, call, response);
    let (failure, answers) = (Cell::new(failure), RefCell::new(answers));
    asked_again::follow(ProvisionalCount { late, failure, answers }, call, response);
    now
}

struct LateFailure<T: CountsLate> {
    policy: Rc<WorkerHandle<T>>,
    held: T::Held,
    attempt: u32,
    reporter: Reporter,
    request: RequestBody,
}

impl<T: CountsLate> LateFailure<T> {
    fn of(policy: &Arc<T>, held: T::Held, call: &Call, response: &Response) -> Self {
        Self {
            policy: call.handle(policy),
            held,
            attempt: response.attempt(),
            reporter: call.reporter().clone(),
            request: call.body().clone(),
        }
    }

    fn ended(&self, end: BodyEnd) {
        if let Some(cause) = end.late_failure()
            && !cause.is_of_others(&self.request)
            && self.policy.handle_if().takes_late(self.reporter.request(), self.attempt, cause)
        {
            self.count(true, None);
        }
    }

    fn count(&self, failed: bool, by: Option<&ComponentId>) {
        self.policy.count_late(&self.held, failed, by, self.attempt, &self.reporter);
    }
}

impl<T: CountsLate> OnEnd for LateFailure<T> {
    fn on_end(self: Box<Self>, end: BodyEnd) {
        self.ended(end);
    }
}

/// What a head was judged by before a component has seen the trailers.
struct ProvisionalCount<T: CountsLate> {
    late: LateFailure<T>,
    /// The failure that it was taken for and who decided it, until that is counted. `None`: it is a
    /// success, which has counted.
    failure: Cell<Option<Option<ComponentId>>>,
    answers: RefCell<ComponentAnswers>,
}

impl<T: CountsLate> AsksAgain for ProvisionalCount<T> {
    fn reads_trailers(&self) -> bool {
        self.late.policy.handle_if().reads_trailers()
    }

    async fn ask(&self, seen: SeenResponse) {
        let SeenResponse { call, mut outcome } = seen;
        let policy = &**self.late.policy;
        let (handle_if, mut answers) = (policy.handle_if(), self.answers.take());
        handle_if.forget_readers(&mut answers);
        // No limit ends a call whose head is on its way.
        let blame =
            judge_given(handle_if, &call, policy.name(), None, &mut outcome, &mut answers).await;
        match (self.failure.take(), blame) {
            (_, Blame::Failure(by)) => self.late.count(true, by.as_ref()),
            (Some(_), Blame::Success) => self.late.count(false, None),
            (None, Blame::Success) | (_, Blame::Nothing) => {}
        }
    }

    fn ended(&self, end: BodyEnd, _: SeenResponse) {
        match self.failure.take() {
            None => self.late.ended(end),
            Some(by) => self.late.count(true, by.as_ref()),
        }
    }
}

impl<T: CountsLate> Drop for ProvisionalCount<T> {
    /// It was a failure for all that is known.
    fn drop(&mut self) {
        if let Some(by) = self.failure.take() {
            self.late.count(true, by.as_ref());
        }
    }
}
