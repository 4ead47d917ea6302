//! Conditions: which outcomes a policy takes.
//!
//! A condition is native (two lists, of statuses and of failures; one left out keeps the slot's
//! default) or asks a component, which then decides alone. `only` beside a component narrows it:
//! outside it the guest is not called and the outcome is not taken. (In failsafe-go one condition
//! silently disables the default of the other kind; a handler that looks at statuses then takes a
//! timeout for a success.)

use std::future::{Ready, ready};
use std::sync::Arc;

use futures_util::future::{Either, LocalBoxFuture};
use http::Method;
use serde::Deserialize;

use crate::body::Peek;
use crate::call::Call;
use crate::config::Problems;
use crate::error::{ErrorKind, Origin};
use crate::event::ConditionEvent;
use crate::native::{Native, StatusConfig};
use crate::outcome::{self, Outcome, OutcomeExt, Response};
use crate::parts::Parts;
use crate::predicate::{Exchange, Predicate, Verdict};
use crate::scope::Scope;
use crate::slot::Slot;

// ===== what the file says =====

/// A condition as the file says it: native lists, or a component.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ConditionConfig {
    /// Statuses: `"503"`, `"5xx"`, `"500-502"`. Left out: the slot's default.
    pub status: Option<Vec<StatusConfig>>,
    /// Failures by the names of the guest contract, or `"any"`. Left out: the slot's default.
    pub failure: Option<Vec<String>>,
    /// The component that decides.
    pub component: Option<String>,
    /// Outside this the component is not asked and the outcome is not taken.
    pub only: Option<OnlyConfig>,
}

/// The filter in front of a component. A list left out means all of that kind.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct OnlyConfig {
    /// Statuses that the component is asked about.
    pub status: Option<Vec<StatusConfig>>,
    /// Failures that the component is asked about.
    pub failure: Option<Vec<String>>,
}

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
        let decider = Self::decider(config.unwrap_or_default(), key, &default, parts, problems);
        Condition { slot, default, decider }
    }

    fn decider(
        self,
        key: &str,
        default: &Native,
        parts: &dyn Parts,
        problems: &mut Problems,
    ) -> Decider {
        let Self { status, failure, component, only } = self;
        if let Some(component) = component {
            problems.require(status.is_none() && failure.is_none(), key, || {
                "a component decides alone; put `status` and `failure` into `only` to narrow \
                 what it is asked about"
                    .into()
            });
            let only = only.map(|OnlyConfig { status, failure }| {
                Native::EVERYTHING.replaced(status, failure, &format!("{key}.only"), problems)
            });
            match parts.predicate(&component) {
                Ok(predicate) => return Decider::Ask { predicate, only },
                Err(message) => problems.add(format!("{key}.component"), message),
            }
        } else if only.is_some() {
            problems.add(format!("{key}.only"), "narrows a `component`, but none is named");
        }
        Decider::Native(default.replaced(status, failure, key, problems))
    }
}

// ===== what runs =====

/// Which outcomes a policy takes.
#[derive(Clone, Debug)]
pub struct Condition {
    slot: Slot,
    default: Native,
    decider: Decider,
}

#[derive(Clone, Debug)]
enum Decider {
    Native(Native),
    Ask { predicate: Arc<dyn Predicate>, only: Option<Native> },
}

/// Who asks a question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) policy: &'a str,
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
    /// Ready at once unless a component wants to see the beginning of the body. Dropped while it
    /// waits for that, it leaves the outcome to its owner, who drops it.
    pub(crate) fn takes<'a>(
        &'a self,
        call: &'a Call,
        asker: Asker<'a>,
        outcome: &'a mut Outcome,
    ) -> Takes<'a> {
        let predicate = match self.asks(call, asker, outcome) {
            Ok(predicate) => predicate,
            Err(verdict) => return Either::Left(ready(verdict)),
        };
        let Some(wanted) = predicate.peek() else {
            return Either::Left(ready(self.ask(predicate, call, asker, outcome)));
        };
        Either::Right(Box::pin(async move {
            peek(call, wanted, outcome).await;
            self.asks(call, asker, outcome).map_or_else(
                |verdict| verdict,
                |predicate| self.ask(predicate, call, asker, outcome),
            )
        }))
    }

    /// Whether it takes a failure that comes after the response head, when there is no outcome any
    /// more that a component could be asked about: then the default answers in its place.
    pub(crate) fn takes_late(&self, kind: ErrorKind) -> bool {
        let failed = Err(kind.into());
        match &self.decider {
            Decider::Native(native) => native.takes(&failed),
            Decider::Ask { only, .. } => {
                only.as_ref().is_none_or(|only| only.takes(&failed)) && self.default.takes(&failed)
            }
        }
    }

    /// Whether the lists take the response that is behind an error of our own. (A component judges
    /// the error.)
    pub(crate) fn takes_behind(&self, outcome: &Outcome) -> bool {
        match &self.decider {
            Decider::Native(native) => native.takes_behind(outcome),
            Decider::Ask { .. } => false,
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
        match outcome {
            Ok(response) if response.is_fallback() => return Err(Verdict::native(false)),
            Err(error) if error.kind().origin() == Origin::Client => {
                return Err(Verdict::native(false));
            }
            _ => {}
        }
        match &self.decider {
            Decider::Native(native) => {
                let verdict = Verdict::native(native.takes(outcome));
                if call.reporter().wants_details() && *native != Native::NOTHING {
                    self.report(call, asker, outcome, None, &verdict);
                }
                Err(verdict)
            }
            Decider::Ask { only: Some(only), .. } if !only.takes(outcome) => {
                Err(Verdict::native(false))
            }
            Decider::Ask { predicate, .. } => Ok(&**predicate),
        }
    }

    fn ask(
        &self,
        predicate: &dyn Predicate,
        call: &Call,
        asker: Asker<'_>,
        outcome: &Outcome,
    ) -> Verdict {
        let verdict = predicate.judge(&Exchange {
            call,
            outcome,
            policy: asker.policy,
            slot: self.slot,
            deadline: asker.scope.deadline(call),
            default: &self.default,
        });
        if call.reporter().wants_details() {
            self.report(call, asker, outcome, predicate.component(), &verdict);
        }
        verdict
    }

    /// Tells who wants details what was asked and answered.
    #[cold]
    fn report(
        &self,
        call: &Call,
        asker: Asker<'_>,
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
        call.emit_about(outcome.attempt(), asker.policy, verdict.decided_by(), kind);
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
    let kind = response.headers.get(http::header::CONTENT_TYPE);
    kind.and_then(|value| value.as_bytes().get(..EVENT_STREAM.len()))
        .is_some_and(|kind| kind.eq_ignore_ascii_case(EVENT_STREAM))
}
