//! What a hedge goes by: which outcomes win, and which requests may be sent more than once.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::call::Call;
use crate::condition::{Asker, Condition};
use crate::error::ErrorKind;
use crate::outcome::{Outcome, OutcomeExt};
use crate::policies::extra_budget::ExtraBudget;
use crate::policies::methods::Methods;

#[derive(Debug)]
pub(super) struct HedgeRules {
    pub(super) name: Arc<str>,
    pub(super) handle_if: Condition,
    pub(super) cancel_if: Condition,
    pub(super) max_hedges: u32,
    pub(super) methods: Methods,
    pub(super) budget: ExtraBudget,
    /// Calls that have come to more than their first attempt.
    pub(super) racing: AtomicUsize,
}

/// What an outcome means to the race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It goes out.
    Wins,
    /// The upstream's failure.
    Failed,
    /// A failure of our own: nobody asked the upstream, so asking again would not help.
    TurnedAway,
}

impl HedgeRules {
    pub(super) async fn judge(
        &self,
        call: &Call,
        asker: Asker<'_>,
        outcome: &mut Outcome,
    ) -> Standing {
        let is_ours = |kind: ErrorKind| kind.is_rejection() || kind.is_own_fault();
        if outcome.error_kind().is_some_and(is_ours) {
            Standing::TurnedAway
        } else if self.handle_if.takes(call, asker, outcome).await.is_handled()
            && !self.cancel_if.takes(call, asker, outcome).await.is_handled()
        {
            Standing::Failed
        } else {
            Standing::Wins
        }
    }

    /// Whether the upstream may get the request twice.
    pub(super) fn may_repeat(&self, call: &Call) -> bool {
        self.methods.contains(&call.head().method) || call.request().has_idempotency_key()
    }
}
