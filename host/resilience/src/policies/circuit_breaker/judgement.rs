//! What an outcome means to a breaker.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::breaker::BreakerSettings;
use crate::asked_again::may_have_trailers;
use crate::blame::{concerns_nobody, was_given_up_for_its_client};
use crate::call::Call;
use crate::condition::{Asker, ComponentAnswers};
use crate::event::ComponentId;
use crate::outcome::{self, Outcome, OutcomeExt as _};
use crate::predicate::Verdict;
use crate::retry_after::requested_delay;

/// What an outcome means to a breaker.
pub(super) enum Judgement {
    Success,
    Failure(BreakerFailure),
    Neutral,
}

/// A failure.
#[derive(Clone, Default)]
pub(super) struct BreakerFailure {
    /// For how long the upstream is to be left alone, if it says so.
    pub(super) requested: Option<Duration>,
    /// The version of a component may have decided it.
    pub(super) by: Option<ComponentId>,
}

/// What it means when there is a head.
pub(super) enum HeadJudgement {
    Last(Judgement),
    Provisional(Box<ProvisionalJudgement>),
}

/// A component will be asked again when trailers have come. What is neutral by its head stays so.
pub(super) struct ProvisionalJudgement {
    /// `None`: a success.
    pub(super) failure: Option<BreakerFailure>,
    pub(super) answers: BreakerAnswers,
}

/// What the components of a breaker's conditions have said.
#[derive(Default)]
pub(super) struct BreakerAnswers {
    handle_if: ComponentAnswers,
    ignore_if: ComponentAnswers,
}

impl HeadJudgement {
    /// Whether it is a failure, so far.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Last(judgement) => matches!(judgement, Judgement::Failure(_)),
            Self::Provisional(provisional) => provisional.failure.is_some(),
        }
    }
}

impl BreakerSettings {
    /// Whether a component wants to be asked again when trailers have come.
    #[inline]
    pub(super) fn reads_trailers(&self) -> bool {
        self.handle_if.reads_trailers() || self.ignore_if.reads_trailers()
    }

    pub(super) async fn judge(
        &self,
        call: &Call,
        asker: Asker<'_>,
        outcome: &mut Outcome,
    ) -> HeadJudgement {
        if self.reads_trailers() && may_have_trailers(call, outcome) {
            // Boxed to keep the common path's future small.
            return Box::pin(self.judge_provisionally(call, asker, outcome)).await;
        }
        if self.is_left_out(call, outcome)
            || self.ignore_if.takes(call, asker, outcome).await.is_handled()
        {
            return HeadJudgement::Last(Judgement::Neutral);
        }
        let verdict = self.handle_if.takes(call, asker, outcome).await;
        HeadJudgement::Last(self.judged(call, outcome, verdict))
    }

    async fn judge_provisionally(
        &self,
        call: &Call,
        asker: Asker<'_>,
        outcome: &mut Outcome,
    ) -> HeadJudgement {
        let (deadline, mut answers) = (asker.scope.deadline(call), BreakerAnswers::default());
        let judgement = self.judge_given(call, asker.policy, deadline, outcome, &mut answers).await;
        if !may_have_trailers(call, outcome) {
            // A component has looked into the body, up to its end. Another was asked before.
            return HeadJudgement::Last(match outcome::trailers(outcome) {
                Some(_) if self.forget_readers(&mut answers) => {
                    self.judge_given(call, asker.policy, deadline, outcome, &mut answers).await
                }
                _ => judgement,
            });
        }
        let failure = match judgement {
            Judgement::Neutral => return HeadJudgement::Last(judgement),
            Judgement::Success => None,
            Judgement::Failure(failure) => Some(failure),
        };
        HeadJudgement::Provisional(ProvisionalJudgement { failure, answers }.into())
    }

    /// Judges once more, now that trailers have come.
    pub(super) async fn judge_again(
        &self,
        call: &Call,
        policy: &Arc<str>,
        outcome: &mut Outcome,
        mut answers: BreakerAnswers,
    ) -> Judgement {
        self.forget_readers(&mut answers);
        // No limit ends a call whose head is on its way.
        self.judge_given(call, policy, None, outcome, &mut answers).await
    }

    fn forget_readers(&self, answers: &mut BreakerAnswers) -> bool {
        let of_handle_if = self.handle_if.forget_readers(&mut answers.handle_if);
        self.ignore_if.forget_readers(&mut answers.ignore_if) || of_handle_if
    }

    async fn judge_given(
        &self,
        call: &Call,
        policy: &Arc<str>,
        deadline: Option<Instant>,
        outcome: &mut Outcome,
        answers: &mut BreakerAnswers,
    ) -> Judgement {
        if self.is_left_out(call, outcome) {
            return Judgement::Neutral;
        }
        let BreakerAnswers { handle_if, ignore_if } = answers;
        let ignores = self.ignore_if.takes_given(call, policy, deadline, outcome, ignore_if);
        if ignores.await.is_handled() {
            return Judgement::Neutral;
        }
        let handles = self.handle_if.takes_given(call, policy, deadline, outcome, handle_if);
        let verdict = handles.await;
        self.judged(call, outcome, verdict)
    }

    /// It concerns nobody, or `ignore_if` takes what is behind it.
    fn is_left_out(&self, call: &Call, outcome: &Outcome) -> bool {
        concerns_nobody(outcome) || self.ignore_if.takes_behind(call, outcome)
    }

    /// What it means if `ignore_if` does not take it, and `handle_if` says this.
    fn judged(&self, call: &Call, outcome: &Outcome, verdict: Verdict) -> Judgement {
        if let Verdict::Handled(by) = verdict {
            if was_given_up_for_its_client(call, outcome) {
                return Judgement::Neutral;
            }
            // A shorter one does not say that the upstream needs rest.
            let requested = requested_delay(call, outcome)
                .filter(|delay| self.retry_after && *delay >= Duration::from_secs(1));
            return Judgement::Failure(BreakerFailure { requested, by });
        }
        match outcome {
            Err(_) if self.handle_if.takes_behind(call, outcome) => {
                Judgement::Failure(BreakerFailure::default())
            }
            // However long it took to come to it.
            Ok(response) if response.is_stand_in() => Judgement::Success,
            Err(error) if error.kind().is_rejection() => Judgement::Neutral,
            _ if !self.are_slow_apart && self.is_slow(call.asked(outcome.attempt())) => {
                Judgement::Failure(BreakerFailure::default())
            }
            _ => Judgement::Success,
        }
    }

    /// Whether what the upstream took is too long.
    pub(super) fn is_slow(&self, asked: Option<Duration>) -> bool {
        self.slow_call.is_some_and(|limit| asked.is_some_and(|asked| asked > limit))
    }
}
