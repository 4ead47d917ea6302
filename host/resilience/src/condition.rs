//! Conditions: which outcomes a policy takes.
//!
//! A condition is native (two lists, of statuses and of failures; one left out keeps the slot's
//! default) or asks a component, which then decides alone. `only` beside a component narrows it:
//! outside it the guest is not called and the outcome is not taken. (In failsafe-go one condition
//! silently disables the default of the other kind; a handler that looks at statuses then takes a
//! timeout for a success.)
//!
//! Or it is a tree of such conditions and of further native parts (`condition/tree.rs`). Components
//! in it are asked only if the rest leaves the answer open.
//!
//! A component is asked about an outcome once; one that reads trailers, once more when these have
//! come, by policies that count outcomes (`asked_again.rs`).

mod answers;
mod bounds;
mod config;
mod tree;

pub(crate) use answers::ComponentAnswers;
pub use config::{AttemptsConfig, ConditionConfig, OnlyConfig, WordsConfig};

use std::future::{Ready, ready};
use std::sync::Arc;

use futures_util::future::{Either, LocalBoxFuture};
use http::Method;
use tokio::time::Instant;

use crate::body::{LateFailureCause, Peek};
use crate::call::Call;
use crate::config::Problems;
use crate::error::Origin;
use crate::event::ConditionEvent;
use crate::native::Native;
use crate::outcome::{self, Outcome, OutcomeExt, Response};
use crate::parts::Parts;
use crate::predicate::{Exchange, Predicate, Verdict};
use crate::request::Request;
use crate::scope::Scope;
use crate::slot::Slot;
use tree::{Decider, Judged, Missing, Seen, Tree};

impl ConditionConfig {
    /// The condition for `slot`, whose answer without any condition is `default`. Problems go to
    /// `problems`, under `key`.
    pub(crate) fn build(
        config: Option<Self>,
        key: &str,
        slot: Slot,
        default: Native,
        parts: &dyn Parts,
        problems: &mut Problems,
    ) -> Condition {
        let decider = config.unwrap_or_default().decider(key, &default, parts, problems);
        Condition { slot, default, decider }
    }
}

/// Which outcomes a policy takes.
#[derive(Clone, Debug)]
pub struct Condition {
    slot: Slot,
    default: Native,
    decider: Decider,
}

/// Who asks a question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) policy: &'a Arc<str>,
    /// Where the policy runs.
    pub(crate) scope: &'a Scope<'a>,
}

impl Condition {
    /// Whether the condition takes this outcome.
    ///
    /// A fallback's answer is never taken, nor is what only the client is to blame for. The outcome
    /// may change: a body that breaks off while a component wants to see its beginning makes it
    /// `connection-lost`.
    ///
    /// Ready at once unless a component wants to see the beginning of the body, or has to wait for
    /// its turn. Dropped while it waits, it leaves the outcome to its owner, who drops it.
    pub(crate) fn takes<'a>(
        &'a self,
        call: &'a Call,
        asker: Asker<'a>,
        outcome: &'a mut Outcome,
    ) -> Takes<'a> {
        if let Decider::Tree(tree) = &self.decider {
            return self.takes_by(tree, call, asker, outcome);
        }
        let predicate = match self.asks(call, asker, outcome) {
            Ok(predicate) => predicate,
            Err(verdict) => return Either::Left(ready(verdict)),
        };
        let (wanted, turns) = (predicate.peek(), call.worker().question_turns());
        if wanted.is_none() && !turns.are_due() {
            return Either::Left(ready(self.ask_now(predicate, call, asker, outcome)));
        }
        Either::Right(Box::pin(async move {
            if let Some(wanted) = wanted {
                peek(call, wanted, outcome).await;
            }
            turns.next().await;
            self.asks(call, asker, outcome).map_or_else(
                |verdict| verdict,
                |predicate| self.ask_now(predicate, call, asker, outcome),
            )
        }))
    }

    /// The same for those who ask again. What its components have said of this outcome holds, and
    /// what they say now is put with it. `deadline` is when the nearest limit ends the call.
    pub(crate) async fn takes_given(
        &self,
        call: &Call,
        policy: &Arc<str>,
        deadline: Option<Instant>,
        outcome: &mut Outcome,
        answers: &mut ComponentAnswers,
    ) -> Verdict {
        if is_not_judged(outcome) {
            return Verdict::native(false);
        }
        let mut is_asked = false;
        loop {
            let answered = |index| answers.get(index);
            let index = match self.decider.takes(judged(call, outcome), &answered) {
                Err(Missing::Answer(index)) => index,
                known => {
                    let verdict = answers.verdict(known == Ok(true));
                    if !is_asked && call.reporter().wants_details() && !self.decider.is_nothing() {
                        self.report(call, policy, outcome, None, &verdict);
                    }
                    return verdict;
                }
            };
            let Some(predicate) = self.decider.predicate(index) else {
                return Verdict::native(false);
            };
            if let Some(wanted) = predicate.peek()
                && outcome.is_ok()
            {
                peek(call, wanted, outcome).await;
                if outcome.is_err() {
                    // Its body has broken off: something else is judged now.
                    continue;
                }
            }
            call.worker().question_turns().next().await;
            let verdict = self.ask(predicate, call, policy, deadline, outcome);
            answers.put(index, &verdict, outcome::trailers(outcome).is_some());
            is_asked = true;
        }
    }

    /// Whether a component in it wants to be asked again when trailers have come. One that does
    /// not may take its place meanwhile.
    #[inline]
    pub(crate) fn reads_trailers(&self) -> bool {
        match &self.decider {
            Decider::Native(_) => false,
            Decider::Ask { predicate, .. } => predicate.reads_trailers(),
            Decider::Tree(tree) => tree.predicates.iter().any(|it| it.reads_trailers()),
        }
    }

    /// Forgets what those components have said which are to be asked again, now that trailers have
    /// come. Returns whether there are some.
    pub(crate) fn forget_readers(&self, answers: &mut ComponentAnswers) -> bool {
        answers.forget(|index| self.decider.predicate(index).is_some_and(|it| it.reads_trailers()))
    }

    /// Whether it takes a failure that comes after the response head, when there is no outcome any
    /// more that a component could be asked about: then the default answers in its place.
    pub(crate) fn takes_late(
        &self,
        request: &Request,
        attempt: u32,
        cause: LateFailureCause,
    ) -> bool {
        let judged = Judged { method: &request.head().method, attempt, seen: Seen::Late(cause) };
        self.decider.takes(judged, &|_| Some(self.default.takes_late(cause))) == Ok(true)
    }

    /// Whether the lists take the response that is behind an error of our own. (A component judges
    /// the error.)
    pub(crate) fn takes_behind(&self, call: &Call, outcome: &Outcome) -> bool {
        match &self.decider {
            Decider::Native(native) => native.takes_behind(outcome),
            Decider::Ask { .. } => false,
            Decider::Tree(tree) => {
                let judged = Judged { seen: Seen::Behind(outcome), ..judged(call, outcome) };
                tree.takes(judged, &|_| None) == Ok(true)
            }
        }
    }

    /// What a tree makes of the outcome.
    #[cold]
    fn takes_by<'a>(
        &'a self,
        tree: &'a Tree,
        call: &'a Call,
        asker: Asker<'a>,
        outcome: &'a mut Outcome,
    ) -> Takes<'a> {
        if is_not_judged(outcome) {
            return Either::Left(ready(Verdict::native(false)));
        }
        match tree.takes(judged(call, outcome), &|_| None) {
            Err(Missing::Answer(_)) => Either::Right(Box::pin(async move {
                let deadline = asker.scope.deadline(call);
                let answers = &mut ComponentAnswers::default();
                self.takes_given(call, asker.policy, deadline, outcome, answers).await
            })),
            known => {
                let verdict = Verdict::native(known == Ok(true));
                if call.reporter().wants_details() {
                    self.report(call, asker.policy, outcome, None, &verdict);
                }
                Either::Left(ready(verdict))
            }
        }
    }

    /// The component that has to be asked, or the verdict that is certain without. Inline, since it
    /// is asked four times for a usual request and most of its cost was to be called.
    #[inline(always)]
    fn asks(
        &self,
        call: &Call,
        asker: Asker<'_>,
        outcome: &Outcome,
    ) -> Result<&dyn Predicate, Verdict> {
        if is_not_judged(outcome) {
            return Err(Verdict::native(false));
        }
        match &self.decider {
            Decider::Native(native) => {
                let verdict = Verdict::native(native.takes(outcome));
                if call.reporter().wants_details() && *native != Native::NOTHING {
                    self.report(call, asker.policy, outcome, None, &verdict);
                }
                Err(verdict)
            }
            Decider::Ask { only: Some(only), .. } if !only.takes(outcome) => {
                Err(Verdict::native(false))
            }
            Decider::Ask { predicate, .. } => Ok(&**predicate),
            // It has been taken apart before.
            Decider::Tree(_) => Err(Verdict::native(false)),
        }
    }

    fn ask_now(
        &self,
        predicate: &dyn Predicate,
        call: &Call,
        asker: Asker<'_>,
        outcome: &Outcome,
    ) -> Verdict {
        self.ask(predicate, call, asker.policy, asker.scope.deadline(call), outcome)
    }

    fn ask(
        &self,
        predicate: &dyn Predicate,
        call: &Call,
        policy: &Arc<str>,
        deadline: Option<Instant>,
        outcome: &Outcome,
    ) -> Verdict {
        let (slot, default) = (self.slot, &self.default);
        let seen = Exchange { call, outcome, policy, slot, deadline, default };
        let verdict = predicate.judge(&seen);
        if call.reporter().wants_details() {
            self.report(call, policy, outcome, predicate.component(), &verdict);
        }
        verdict
    }

    /// Tells who wants details what was asked and answered.
    #[cold]
    fn report(
        &self,
        call: &Call,
        policy: &Arc<str>,
        outcome: &Outcome,
        component: Option<&Arc<str>>,
        verdict: &Verdict,
    ) {
        let kind = ConditionEvent::Asked {
            slot: self.slot,
            component: component.cloned(),
            on_error: component.is_some() && verdict.decided_by().is_none(),
            handled: verdict.is_handled(),
        };
        call.emit_about(outcome.attempt(), policy, verdict.decided_by(), kind);
    }
}

fn judged<'a>(call: &'a Call, outcome: &'a Outcome) -> Judged<'a> {
    let method = &call.head().method;
    Judged { method, attempt: outcome.attempt(), seen: Seen::Outcome(outcome) }
}

/// A fallback's answer, and what only the client is to blame for.
fn is_not_judged(outcome: &Outcome) -> bool {
    match outcome {
        Ok(response) => response.is_stand_in(),
        Err(error) => error.kind().origin() == Origin::Client,
    }
}

/// A verdict, which hardly ever has to be waited for: every loop has room for this, and what waits
/// is in a box.
pub(crate) type Takes<'a> = Either<Ready<Verdict>, LocalBoxFuture<'a, Verdict>>;

/// Reads ahead in a response's body, where it can have one: in a stream of events until the first
/// of them is there, since the next may come much later.
pub(crate) async fn peek(call: &Call, wanted: Peek, outcome: &mut Outcome) {
    let Ok(response) = outcome else { return };
    if call.head().method == Method::HEAD || matches!(response.status.as_u16(), 204 | 304) {
        return;
    }
    let peeked = if is_event_stream(response) {
        response.body.peek_event(wanted).await
    } else {
        response.body.peek(wanted).await
    };
    if let Err(error) = peeked {
        *outcome = Err(outcome::lost(outcome.attempt(), error.into()));
    }
}

const EVENT_STREAM: &[u8] = b"text/event-stream";

fn is_event_stream(response: &Response) -> bool {
    let kind = response.headers.get(&http::header::CONTENT_TYPE);
    kind.and_then(|kind| kind.get(..EVENT_STREAM.len()))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(EVENT_STREAM))
}
