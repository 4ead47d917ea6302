//! Fallback: answers in place of a failure.
//!
//! **What it protects from.** Showing a client a failure for which there is a useful substitute.
//! The substitute is static, a component makes it from what it sees of the original outcome, or
//! another upstream is asked for it. A component that declines or fails to answer lets the original
//! outcome out, and so does an upstream whose answer would be replaced too.
//!
//! **Events.** [`FallbackEvent`].
//!
//! **Composition.** Usually outermost. Its answer counts as a success for every policy outside it,
//! whatever its status, so a retry or breaker around it sees no failure. It does not run when the
//! caller is gone or a timeout around it fired.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Deserialize;

use crate::body::ResponseBody;
use crate::boxed::boxed;
use crate::call::Call;
use crate::condition::{self, Asker, Condition, ConditionConfig};
use crate::config::{Problem, Problems};
use crate::event::{EventKind, FallbackEvent};
use crate::native::Native;
use crate::outcome::{Outcome, OutcomeExt, Response};
use crate::outline::{Acts, ActsResult, Outline};
use crate::parts::Parts;
use crate::policy::{Next, Policy, PolicyConfig};
use crate::predicate::{Answer, Exchange, Responder, Verdict};
use crate::slot::Slot;

/// `kind = "fallback"`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct FallbackConfig {
    /// Which outcomes are replaced. Default: 429, 5xx except 501, any failure.
    pub handle_if: Option<ConditionConfig>,
    /// By what.
    pub respond: RespondConfig,
}

/// A static response, the component that makes one, or the upstream that is asked for one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RespondConfig {
    /// The component that answers.
    pub component: Option<String>,
    /// The `[upstreams.NAME]` that the request is sent to.
    pub upstream: Option<String>,
    /// Default 200.
    pub status: Option<i64>,
    /// Headers of the static response.
    pub headers: Option<BTreeMap<String, String>>,
    /// Its body, sent as UTF-8. Default: none.
    pub body: Option<String>,
}

impl PolicyConfig for FallbackConfig {
    const KIND: &'static str = "fallback";

    type Policy = Fallback;

    fn build(self, name: Arc<str>, parts: &dyn Parts) -> Result<Fallback, Vec<Problem>> {
        let mut problems = Problems::default();
        let handle_if = ConditionConfig::build(
            self.handle_if,
            "handle_if",
            Slot::HandleIf,
            Native::ANY_FAILURE,
            parts,
            &mut problems,
        );
        let source = self.respond.build(parts, &mut problems);
        problems.into_result(Fallback { name, handle_if, source })
    }

    fn upstreams(&self) -> Vec<&str> {
        self.respond.upstream.iter().map(String::as_str).collect()
    }
}

impl RespondConfig {
    fn build(self, parts: &dyn Parts, problems: &mut Problems) -> FallbackSource {
        let Self { component, upstream, status, headers, body } = self;
        let is_empty = status.is_none() && headers.is_none() && body.is_none();
        let mut answer = StaticResponse {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: Bytes::from(body.unwrap_or_default()),
        };
        let is_one = [component.is_some(), upstream.is_some(), !is_empty];
        if !is_one.contains(&true) {
            problems.add(
                "respond",
                "expected `component`, `upstream`, or at least one of `status`, `headers` and \
                 `body`",
            );
        }
        problems.require(is_one.iter().filter(|it| **it).count() <= 1, "respond", || {
            "either a `component`, an `upstream`, or a static response".into()
        });
        if let Some(component) = component {
            match parts.responder(&component) {
                Ok(responder) => return FallbackSource::Component(responder),
                Err(message) => problems.add("respond.component", message),
            }
        }
        if let Some(upstream) = upstream {
            if let Err(message) = parts.upstream(&upstream) {
                problems.add("respond.upstream", message);
            }
            return FallbackSource::Upstream(upstream.into());
        }
        if let Some(status) = status {
            problems.require_within(status, 200..=599, "respond.status");
            let status = u16::try_from(status).ok().and_then(|it| StatusCode::from_u16(it).ok());
            answer.status = status.unwrap_or_default();
        }
        for (name, value) in headers.unwrap_or_default() {
            let key = format!("respond.headers.{name}");
            match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
                (Ok(name), Ok(value)) => {
                    problems.require(!is_set_by_host(&name), &key, || "is set by the proxy".into());
                    answer.headers.append(name, value);
                }
                (Err(_), _) => problems.add(key, "is not a valid header name"),
                (_, Err(_)) => problems.add(key, format!("is not a valid header value: `{value}`")),
            }
        }
        FallbackSource::Static(answer)
    }
}

/// Where answers come from.
#[derive(Debug)]
enum FallbackSource {
    Static(StaticResponse),
    Component(Arc<dyn Responder>),
    /// The upstream of this name.
    Upstream(Arc<str>),
}

/// Headers that say how this very message travels: no source of responses may set them.
pub fn is_set_by_host(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
        || ["keep-alive", "proxy-connection"].contains(&name.as_str())
}

/// The same response for every call, whole each time. (failsafe-go hands out one response object,
/// whose body the first caller reads empty.)
#[derive(Debug)]
struct StaticResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Responder for StaticResponse {
    fn respond<'a>(&'a self, _: &'a Exchange<'a>) -> Answer<'a> {
        let body = ResponseBody::full(self.body.clone());
        Answer::Now(Some(Response::new(self.status, self.headers.clone(), body)))
    }
}

/// Answers in place of a failure.
#[derive(Debug)]
pub struct Fallback {
    name: Arc<str>,
    handle_if: Condition,
    source: FallbackSource,
}

impl Fallback {
    /// Dropped while it waits for the responder or its peek, it leaves the outcome to its owner.
    async fn answer(
        &self,
        call: &Call,
        asker: Asker<'_>,
        outcome: &mut Outcome,
    ) -> Option<Response> {
        let responder: &dyn Responder = match &self.source {
            FallbackSource::Static(answer) => answer,
            FallbackSource::Component(responder) => &**responder,
            FallbackSource::Upstream(upstream) => return self.ask(upstream, call, asker).await,
        };
        if let Some(wanted) = responder.peek() {
            condition::peek(call, wanted, outcome).await;
        }
        call.worker().question_turns().next().await;
        let seen = Exchange {
            call,
            outcome,
            policy: asker.policy,
            slot: Slot::Respond,
            deadline: asker.scope.deadline(call),
            default: &Native::NOTHING,
        };
        responder.respond(&seen).ready().await
    }

    /// What another upstream answers, unless that is a failure too, or the request can't be sent
    /// again.
    async fn ask(&self, upstream: &str, call: &Call, asker: Asker<'_>) -> Option<Response> {
        if !call.body().can_repeat() {
            return None;
        }
        let scope = asker.scope.run_elsewhere(call, &self.name);
        let mut outcome = scope.upstream().ask_other(upstream, call, &scope)?.await;
        if self.handle_if.takes(call, asker, &mut outcome).await.is_handled() {
            call.discard(outcome);
            return None;
        }
        outcome.ok()
    }
}

impl Policy for Fallback {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn kind(&self) -> &'static str {
        FallbackConfig::KIND
    }

    fn repeats(&self) -> bool {
        matches!(self.source, FallbackSource::Upstream(_))
    }

    fn announces(&self) -> Vec<EventKind> {
        let served = FallbackEvent::Served { status: 200, component: None };
        vec![served.into(), FallbackEvent::Declined.into()]
    }

    fn outline(&self) -> Outline<'_> {
        let (answer, result, asks, peeked) = match &self.source {
            FallbackSource::Static(answer) => {
                let result = ActsResult::Answer { may_decline: false };
                (answer.status.as_str().to_owned(), result, None, 0)
            }
            FallbackSource::Component(responder) => {
                let peeked = responder.peek().map_or(0, |peek| peek.bytes);
                let result = ActsResult::Answer { may_decline: true };
                ("what a component answers".to_owned(), result, None, peeked)
            }
            FallbackSource::Upstream(upstream) => {
                let result = ActsResult::Answer { may_decline: true };
                (format!("what {upstream} answers"), result, Some(&**upstream), 0)
            }
        };
        Outline {
            acts: Some(Acts {
                on: &self.handle_if,
                but_on: None,
                never: "it never answers",
                result,
            }),
            asks,
            peeked: self.handle_if.peeked().max(peeked),
            ..Outline::passing(format!("{answer} in place of {}", self.handle_if))
        }
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        boxed(|| async move {
            let asker = Asker { policy: &self.name, scope: next.scope() };
            let mut outcome = next.run(call).await;
            let Verdict::Handled(by) = self.handle_if.takes(call, asker, &mut outcome).await else {
                return outcome;
            };
            let attempt = outcome.attempt();
            // Boxed to keep the common path's future small.
            let response = Box::pin(self.answer(call, asker, &mut outcome)).await;
            let event = match &response {
                Some(response) => FallbackEvent::Served {
                    status: response.status.as_u16(),
                    component: response.component().cloned(),
                },
                None => FallbackEvent::Declined,
            };
            call.emit_about(attempt, &self.name, by.as_ref(), event);
            match response {
                Some(response) => {
                    call.discard(outcome);
                    Ok(response.into_stand_in(attempt))
                }
                None => outcome,
            }
        })
    }
}
