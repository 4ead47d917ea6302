//! A case as a policy would see it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use fusebox_resilience::{
    Attempt, AttemptOutcome, Call, Error, Failure, Outcome, PastAttempt, Provenance, Request,
    RequestBody, Response, ResponseBody, Slot, Worker,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::case::{ComponentCase, Expect, Headers, kind};
use crate::contract::ContractExport;
use crate::convert::{header_value, version};
use crate::question::{Asks, GuestQuestion};

/// The names that a guest sees where a case says nothing.
const ROUTE: &str = "/";
const POLICY: &str = "policy";
const AUTHORITY: &str = "localhost";
/// What a policy would wait where a case says nothing.
const OWN: Duration = Duration::from_millis(100);

/// Everything of an exchange but the time that remains.
pub(crate) struct AskedCase {
    call: Call,
    asks: Asks<Outcome>,
    policy: Arc<str>,
    /// It does not say what is asked, only that the call fails.
    is_any: bool,
    remaining: Option<Duration>,
}

impl AskedCase {
    /// # Errors
    /// The case holds what no request or response can.
    pub(crate) fn of(case: &ComponentCase) -> Result<Self> {
        let outcome = outcome(case)?;
        let slot = slot(case);
        let past = case.history.iter().zip(1..).map(|(past, number)| PastAttempt {
            provenance: Provenance { attempt: number, ..Provenance::default() },
            outcome: match (past.status, past.failure) {
                (Some(status), _) => AttemptOutcome::Response(status),
                (None, Some(failure)) => {
                    kind(failure, None).map_or(AttemptOutcome::Cancelled, AttemptOutcome::Failure)
                }
                (None, None) => AttemptOutcome::Cancelled,
            },
            elapsed: past.elapsed.map_or(Duration::ZERO, |elapsed| elapsed.0),
            asked: past.elapsed.map_or(Duration::ZERO, |elapsed| elapsed.0),
            is_owed: false,
        });
        let history: Vec<_> = past.collect();
        let made = u32::try_from(history.len()).unwrap_or(u32::MAX);
        let is_rejection = outcome.as_ref().err().is_some_and(|error| error.kind().is_rejection());
        let attempt = case.attempt.unwrap_or(if is_rejection { 0 } else { made + 1 });
        let route = case.route.as_deref().unwrap_or(ROUTE);
        let begun = attempt.saturating_sub(1).max(made.min(attempt));
        let id = HeaderValue::from_static("case");
        let request = Request::new(id, route.into(), head(case)?, SystemTime::UNIX_EPOCH)
            .arrived(case.elapsed.map_or(Duration::ZERO, |elapsed| elapsed.0));
        let call = Call::new(request, RequestBody::empty(), Worker::unobserved().into())
            .resumed(begun, history);
        let outcome = if attempt == 0 {
            outcome
        } else {
            let attempt = Attempt::detached(&call, case.endpoint);
            attempt.goes_by_http2(goes_by_http2(case)?);
            attempt.finish(outcome)
        };
        let asks = match slot {
            Slot::HandleIf | Slot::AbortIf | Slot::CancelIf | Slot::IgnoreIf => {
                Asks::Condition(slot, outcome)
            }
            Slot::Respond => Asks::Response(outcome),
            Slot::Delay => {
                let own = case.own.map_or(OWN, |own| own.0);
                Asks::Delay { outcome, own, count: case.count.unwrap_or(1) }
            }
            Slot::Key => Asks::Key,
        };
        let policy = case.policy.as_deref().unwrap_or(POLICY).into();
        Ok(Self {
            call,
            asks,
            policy,
            is_any: case.asked.is_none() && case.expect.fault.is_some(),
            remaining: case.remaining.map(|remaining| remaining.0),
        })
    }

    /// Calls `ask` with the question, as it is now. A case of a fault that does not say what is
    /// asked is about the first thing that can be asked of what has these exports.
    pub(crate) fn show<R>(
        &self,
        has: impl Fn(ContractExport) -> bool,
        ask: impl FnOnce(&GuestQuestion<'_>) -> R,
    ) -> R {
        let deadline = self.remaining.and_then(|remaining| Instant::now().checked_add(remaining));
        let asks = match self.asks.as_ref() {
            Asks::Condition(_, outcome) if self.is_any && !has(ContractExport::Predicate) => {
                if has(ContractExport::Fallback) {
                    Asks::Response(outcome)
                } else {
                    Asks::Delay { outcome, own: OWN, count: 1 }
                }
            }
            asks => asks,
        };
        ask(&GuestQuestion { call: &self.call, policy: &self.policy, asks, deadline })
    }
}

/// What is asked.
fn slot(case: &ComponentCase) -> Slot {
    let Expect { response, declined, delay, key, .. } = &case.expect;
    match case.asked {
        Some(asked) => asked,
        None if response.is_some() || declined.is_some() => Slot::Respond,
        None if delay.is_some() => Slot::Delay,
        None if key.is_some() => Slot::Key,
        None => Slot::HandleIf,
    }
}

/// Whether it is asked how long to wait.
pub(super) fn asks_for_delay(case: &ComponentCase) -> bool {
    slot(case) == Slot::Delay
}

/// Whether it is asked before there is an outcome.
pub(super) fn has_no_outcome(case: &ComponentCase) -> bool {
    slot(case) == Slot::Key
}

fn outcome(case: &ComponentCase) -> Result<Outcome> {
    if let Some(response) = &case.response {
        let status = StatusCode::from_u16(response.status).context("response.status")?;
        let body = match (&response.body, &response.body_bytes) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(bytes)) => {
                bytes.chars().map(|character| u8::try_from(character).unwrap_or(b'?')).collect()
            }
            (None, None) => Vec::new(),
        };
        let mut body = ResponseBody::full(body);
        if !response.trailers.is_empty() {
            body.put_trailers(headers(&response.trailers)?);
        }
        return Ok(Ok(Response::new(status, headers(&response.headers)?, body)));
    }
    let failure = case.failure.unwrap_or(Failure::Other);
    let kind = kind(failure, case.failure_detail.as_deref()).context("no such failure")?;
    Ok(Err(Error::new(kind)))
}

fn goes_by_http2(case: &ComponentCase) -> Result<bool> {
    match case.endpoint_protocol.as_deref() {
        Some("HTTP/2") => Ok(true),
        None | Some("HTTP/1.1") => Ok(false),
        Some(word) => bail!("endpoint_protocol: expected HTTP/1.1 or HTTP/2, found `{word}`"),
    }
}

fn head(case: &ComponentCase) -> Result<http::request::Parts> {
    let request = &case.request;
    ensure!(
        request.path.starts_with('/'),
        "request.path: expected one that begins with `/`, found `{}`",
        request.path
    );
    let mut uri = http::Uri::builder().path_and_query(request.path.as_str());
    let authority = request.authority.as_deref().unwrap_or(AUTHORITY);
    if let Some(scheme) = &request.scheme {
        uri = uri.scheme(scheme.as_str()).authority(authority);
    }
    let method = request.method.as_str();
    let built = http::Request::builder()
        .method(method)
        .uri(uri.build().context("request")?)
        .body(())
        .context("request")?;
    let (mut head, ()) = built.into_parts();
    if let Some(word) = &request.protocol {
        head.version = version(word).with_context(|| {
            format!("request.protocol: expected HTTP/1.0, HTTP/1.1 or HTTP/2, found `{word}`")
        })?;
    }
    head.headers = headers(&request.headers)?;
    if !head.headers.contains_key(header::HOST) {
        head.headers.insert(header::HOST, authority.try_into().context("request.authority")?);
    }
    Ok(head)
}

fn headers(named: &Headers) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, values) in named {
        let place = || format!("header `{name}`");
        for value in values.iter() {
            let name = HeaderName::try_from(name).with_context(place)?;
            let value = header_value(value);
            let value = value.with_context(|| {
                format!("{}: a value with a character that no header may have", place())
            })?;
            headers.try_append(name, value).context("more headers than a message may have")?;
        }
    }
    Ok(headers)
}
