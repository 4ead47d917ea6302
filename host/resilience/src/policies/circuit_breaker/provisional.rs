//! What a head was judged by before a component has seen the trailers: what that says in the end
//! counts in its place.
//!
//! A good head counts when it comes, like any other, and is taken back. A failure waits: that
//! trailers are not there yet can be what makes it one, and a circuit that it had opened would have
//! learnt nothing by them.

use std::cell::{Cell, RefCell};

use super::changed::ChangedBy;
use super::judgement::{BreakerAnswers, BreakerFailure, Judgement, ProvisionalJudgement};
use super::late::LateResult;
use crate::asked_again::{self, AsksAgain, SeenResponse};
use crate::body::{BodyEnd, LateFailureCause};
use crate::call::Call;
use crate::grpc::{GrpcOutcome, GrpcStatus};
use crate::outcome::{Outcome, Response};

/// Waits for the trailers of this response.
pub(super) fn follow(
    late: LateResult,
    judgement: ProvisionalJudgement,
    call: &Call,
    response: &mut Response,
) {
    let ProvisionalJudgement { failure, answers } = judgement;
    if failure.is_none() {
        late.answered(call, response);
    }
    let answers = RefCell::new(answers);
    let result = ProvisionalResult { late, failure: Cell::new(failure), answers };
    asked_again::follow(result, call, response);
}

struct ProvisionalResult {
    late: LateResult,
    /// What the head was taken for, until that is decided. `None`: a success.
    failure: Cell<Option<BreakerFailure>>,
    answers: RefCell<BreakerAnswers>,
}

impl AsksAgain for ProvisionalResult {
    fn reads_trailers(&self) -> bool {
        self.late.settings().reads_trailers()
    }

    async fn ask(&self, seen: SeenResponse) {
        let SeenResponse { call, mut outcome } = seen;
        let (policy, settings) = (self.late.policy(), self.late.settings());
        let answers = self.answers.take();
        let judgement = settings.judge_again(&call, policy, &mut outcome, answers).await;
        self.decide(judgement, &call, &outcome);
    }

    fn ended(&self, end: BodyEnd, seen: SeenResponse) {
        match self.failure.take() {
            None => self.late.ended(end),
            Some(failure) => self.fail(failure, &seen.call, &seen.outcome),
        }
    }
}

impl ProvisionalResult {
    fn decide(&self, judgement: Judgement, call: &Call, outcome: &Outcome) {
        match (self.failure.take(), judgement) {
            (None, Judgement::Failure(failure)) => {
                let transition = self.late.take_back(cause(outcome), failure.by.as_ref());
                let failure = Some(failure);
                self.late.changed(transition, ChangedBy { call, outcome, deadline: None, failure });
            }
            (None, Judgement::Success) => self.late.succeed_late(),
            (Some(_), Judgement::Failure(failure)) => self.fail(failure, call, outcome),
            (Some(_), Judgement::Success) => {
                let transition = self.late.record(false, None);
                let failure = None;
                self.late.changed(transition, ChangedBy { call, outcome, deadline: None, failure });
            }
            (_, Judgement::Neutral) => self.late.release(),
        }
    }

    /// A failure of which nothing has counted yet.
    fn fail(&self, failure: BreakerFailure, call: &Call, outcome: &Outcome) {
        let transition = self.late.record(true, failure.requested);
        let failure = Some(failure);
        self.late.changed(transition, ChangedBy { call, outcome, deadline: None, failure });
    }
}

impl Drop for ProvisionalResult {
    /// It was a failure for all that is known.
    fn drop(&mut self) {
        if let Some(failure) = self.failure.take() {
            let transition = self.late.record(true, failure.requested);
            self.late.tell_change(transition, failure.by.as_ref());
        }
    }
}

/// What makes a failure of a good head whose trailers have come.
fn cause(outcome: &Outcome) -> LateFailureCause {
    match outcome.as_ref().map(Response::grpc) {
        Ok(GrpcOutcome::Ended(status)) if status != GrpcStatus::Ok => {
            LateFailureCause::Grpc(status)
        }
        _ => LateFailureCause::Trailers,
    }
}
