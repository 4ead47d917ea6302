//! What an upstream asks of those who would ask it again: `Retry-After` (RFC 9110, section 10.2.3)
//! in both its forms, `retry-after-ms`, `x-should-retry: false`, and `grpc-retry-pushback-ms` of
//! gRPC's proposal A6, by which a number asks for a time, and anything else for no further attempt.
//!
//! Times of HTTP count on 429 and 503, where they tell a client to come back; of several, the
//! longest. A time of 0, one that has passed and one that is not valid ask for nothing: an upstream
//! that says `Retry-After: 0` wants no favour, and must not be asked again in the same moment.

use std::time::{Duration, SystemTime};

use fusebox_head::{HeaderFields, NameSet, text};
use http::{HeaderName, StatusCode, header};

use crate::call::Call;
use crate::grpc::PUSHBACK;
use crate::outcome::{Outcome, Response};
use crate::scope::Upstream;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// What the upstream asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushback {
    /// To be left alone for so long; not 0.
    Wait(Duration),
    /// Not to be asked again.
    Stop,
}

/// The same as far as it concerns a further attempt of this call. A 503 speaks for the endpoint
/// that it comes from: how long that wants to be left alone is nothing to another one, which this
/// call has not tried. A 429, and what is asked of the call itself, hold wherever it goes.
pub(crate) fn pushback_elsewhere(
    call: &Call,
    outcome: &Outcome,
    upstream: &dyn Upstream,
) -> Option<Pushback> {
    let speaks_for_itself = |response: &Response| {
        response.status == StatusCode::SERVICE_UNAVAILABLE && !is_of_grpc(response)
    };
    pushback(call, outcome).filter(|pushback| {
        let concerns_one =
            matches!(pushback, Pushback::Wait(_)) && outcome.as_ref().is_ok_and(speaks_for_itself);
        !(concerns_one && upstream.has_untried(call))
    })
}

/// What the upstream asks for; `None`: nothing.
fn pushback(call: &Call, outcome: &Outcome) -> Option<Pushback> {
    let response = outcome.as_ref().ok().filter(|response| asks(response))?;
    let should_retry = response.headers.get(&X_SHOULD_RETRY);
    if should_retry.is_some_and(|value| value.eq_ignore_ascii_case(b"false")) {
        return Some(Pushback::Stop);
    }
    match response.headers.get(&PUSHBACK).map(grpc_wait) {
        Some(None) => Some(Pushback::Stop),
        Some(Some(wait)) if !wait.is_zero() => Some(Pushback::Wait(wait)),
        Some(Some(_)) | None => wait(call, response).map(Pushback::Wait),
    }
}

/// Whether the upstream asks for no further attempts of this call for now, if only for a moment.
pub(crate) fn asks_for_rest(call: &Call, outcome: &Outcome, upstream: &dyn Upstream) -> bool {
    pushback_elsewhere(call, outcome, upstream).is_some() || outcome.as_ref().is_ok_and(is_of_grpc)
}

/// Whether it is asked of one call, by gRPC.
fn is_of_grpc(response: &Response) -> bool {
    response.headers.contains(&PUSHBACK)
}

/// How long the upstream asks everybody to leave it alone; `None`: it does not ask. (By gRPC it
/// asks that of one call.)
pub fn requested_delay(call: &Call, outcome: &Outcome) -> Option<Duration> {
    wait(call, outcome.as_ref().ok().filter(|response| asks(response))?)
}

/// Whether any of its headers asks for something. Most do not.
fn asks(Response { headers, .. }: &Response) -> bool {
    const NAMES: NameSet = NameSet::new(&[
        "x-should-retry",
        "retry-after-ms",
        "retry-after",
        "grpc-retry-pushback-ms",
    ]);
    headers.contains_any(&NAMES)
}

fn wait(call: &Call, Response { status, headers, .. }: &Response) -> Option<Duration> {
    if !matches!(status.as_u16(), 429 | 503) {
        return None;
    }
    let millis = first(headers, &RETRY_AFTER_MS).and_then(number).map(Duration::from_millis);
    let seconds = |value| number(value).map(Duration::from_secs);
    let wait = |value| seconds(value).or_else(|| until(date(value)?, call, headers));
    let wait = millis.or_else(|| texts(headers, &header::RETRY_AFTER).filter_map(wait).max())?;
    (!wait.is_zero()).then_some(wait)
}

/// `None`: it is no number.
fn grpc_wait(value: &[u8]) -> Option<Duration> {
    text(value).and_then(number).map(Duration::from_millis)
}

/// Until then, by the clock of the upstream that says so: its clock may differ from ours.
fn until(then: SystemTime, call: &Call, headers: &HeaderFields) -> Option<Duration> {
    let now = first(headers, &header::DATE).and_then(date).unwrap_or_else(|| call.wall_clock());
    then.duration_since(now).ok()
}

fn first<'a>(headers: &'a HeaderFields, name: &HeaderName) -> Option<&'a str> {
    texts(headers, name).next()
}

fn texts<'a>(headers: &'a HeaderFields, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers.get_all(name).filter_map(|value| text(value).map(str::trim))
}

fn number(value: &str) -> Option<u64> {
    /// Certainly longer than anyone waits, and short enough to be reckoned with.
    const MOST: u64 = 1 << 40;
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.parse().unwrap_or(MOST).min(MOST))
}

fn date(value: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(value).ok()
}
