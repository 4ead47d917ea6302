//! What an outcome says about the upstream, for policies that count how it does.
//!
//! Nothing, if the client or we are at fault, or if nobody asked the upstream. Else it is what
//! `handle_if` makes of it; and a response that was taken for a success by its head is a failure if
//! its body breaks off by the upstream's fault, or its trailers say so.

use std::rc::Rc;
use std::sync::Arc;

use crate::body::{BodyEnd, OnEnd, RequestBody};
use crate::call::{Call, Reporter};
use crate::condition::{Asker, Condition};
use crate::error::{Behind, ErrorKind, Origin};
use crate::event::ComponentId;
use crate::outcome::{Outcome, OutcomeExt, Response};
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

/// What this outcome says, by this condition.
pub(crate) async fn judge(
    handle_if: &Condition,
    call: &Call,
    asker: Asker<'_>,
    outcome: &mut Outcome,
) -> Blame {
    if concerns_nobody(outcome) {
        return Blame::Nothing;
    }
    if let Verdict::Handled(by) = handle_if.takes(call, asker, outcome).await {
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

/// A policy that counts a late failure as one more.
pub(crate) trait CountsLate: Send + Sync + 'static {
    /// What it counts it in.
    type Held: 'static;

    /// Which failures are some.
    fn handle_if(&self) -> &Condition;

    /// What has become of this attempt's response is one.
    fn failed_late(&self, held: &Self::Held, attempt: u32, reporter: &Reporter);
}

/// Has `policy` hear of it if this response, a success so far, becomes a failure.
pub(crate) fn follow<T: CountsLate>(
    policy: &Arc<T>,
    held: impl FnOnce() -> T::Held,
    call: &Call,
    outcome: &mut Outcome,
) {
    if let Ok(response) = outcome
        && !response.is_stand_in()
        && !response.body.has_come()
    {
        follow_body(policy, held(), call, response);
    }
}

fn follow_body<T: CountsLate>(
    policy: &Arc<T>,
    held: T::Held,
    call: &Call,
    response: &mut Response,
) {
    let attempt = response.attempt();
    response.body.on_end(Box::new(LateFailure {
        policy: call.handle(policy),
        held,
        attempt,
        reporter: call.reporter().clone(),
        request: call.body().clone(),
    }));
}

struct LateFailure<T: CountsLate> {
    policy: Rc<WorkerHandle<T>>,
    held: T::Held,
    attempt: u32,
    reporter: Reporter,
    request: RequestBody,
}

impl<T: CountsLate> OnEnd for LateFailure<T> {
    fn on_end(self: Box<Self>, end: BodyEnd) {
        if let Some(cause) = end.late_failure()
            && !cause.is_of_others(&self.request)
            && self.policy.handle_if().takes_late(self.reporter.request(), self.attempt, cause)
        {
            self.policy.failed_late(&self.held, self.attempt, &self.reporter);
        }
    }
}
