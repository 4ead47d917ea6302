//! What layers of proxies tell each other, so that retries in several of them do not multiply:
//! three layers that each make two retries would turn one request into 27.
//!
//! Inwards, each attempt from the second on carries a mark, [`ATTEMPT`] with its number. Outwards,
//! a failure that went out after retries says how many attempts were made, in `Proxy-Status` (RFC
//! 9209). A layer that sees either leaves the retries to the one that makes them.
//!
//! Clients of gRPC that retry say so too, in `grpc-previous-rpc-attempts` (gRPC's proposal A6), to
//! which the own attempts are added.

use fusebox_head::text;
use http::{HeaderName, HeaderValue};

use crate::call::Call;
use crate::outcome::{Outcome, Response};

/// The header of the mark: `x-fusebox-attempt: 2`.
pub const ATTEMPT: HeaderName = HeaderName::from_static("x-fusebox-attempt");
/// The header in which Envoy tells upstreams the number of an attempt, from 1.
const ENVOY_ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
/// How many attempts were made before this one.
const GRPC_PREVIOUS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// The errors of RFC 9209 with which a fusebox turns a call away without asking anybody.
const REJECTIONS: [&str; 3] =
    ["destination_unavailable", "connection_limit_reached", "http_request_denied"];

/// The marks that an attempt carries, by the order of their names. What they do not name is passed
/// on as the request came with it.
#[derive(Debug)]
pub struct Marks([Option<HeaderValue>; 3]);

/// What lives for as long as marks do.
static NAMES: [HeaderName; 3] = [ATTEMPT, ENVOY_ATTEMPT_COUNT, GRPC_PREVIOUS];

impl Marks {
    /// Those of the attempt of this number: the larger of it and of the mark that its request came
    /// with. `for_envoy`: its upstream wants the number in Envoy's header too, from the first
    /// attempt on.
    pub fn of(call: &Call, attempt: u32, for_envoy: bool) -> Self {
        if attempt == 1 && !for_envoy {
            return Self([None, None, None]);
        }
        let is_further = attempt > 1;
        let number = number(attempt.max(received(call)));
        let previous = (is_further && call.request().is_grpc())
            .then(|| HeaderValue::from(said(call, &GRPC_PREVIOUS).saturating_add(attempt - 1)));
        Self([is_further.then(|| number.clone()), for_envoy.then_some(number), previous])
    }

    /// The headers that they are.
    pub fn fields(&self) -> impl Iterator<Item = (&HeaderName, &HeaderValue)> + Clone {
        NAMES.iter().zip(&self.0).filter_map(|(name, mark)| Some((name, mark.as_ref()?)))
    }
}

fn number(attempt: u32) -> HeaderValue {
    match attempt {
        // The usual ones need no memory of their own.
        1 => HeaderValue::from_static("1"),
        2 => HeaderValue::from_static("2"),
        3 => HeaderValue::from_static("3"),
        more => HeaderValue::from(more),
    }
}

/// Whether a layer further out or further in makes the retries of this call.
pub(crate) fn retries_elsewhere(call: &Call, outcome: &Outcome) -> bool {
    is_extra(call) || outcome.as_ref().is_ok_and(was_retried_or_rejected)
}

/// Whether the call is itself a further attempt of a layer further out.
pub(crate) fn is_extra(call: &Call) -> bool {
    received(call) > 1
}

/// The mark that the request came with; 0 if there is none.
fn received(call: &Call) -> u32 {
    let mark = said(call, &ATTEMPT);
    match call.request().is_grpc().then(|| said(call, &GRPC_PREVIOUS)) {
        Some(previous) if previous > 0 => mark.max(previous.saturating_add(1)),
        _ => mark,
    }
}

/// The number that the request has there; 0 if there is none.
fn said(call: &Call, name: &HeaderName) -> u32 {
    // Hardly any request has it, and to compare the few names takes less than a lookup.
    let mut headers = call.head().headers.iter();
    let value = headers.find_map(|(other, value)| (other == name).then_some(value));
    value.and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// Whether a proxy on the way says that it made several attempts, or another fusebox that it turned
/// the call away.
fn was_retried_or_rejected(response: &Response) -> bool {
    let fields = response.headers.get_all(&PROXY_STATUS).filter_map(text);
    fields.flat_map(|field| split(field, ',')).any(|member| {
        let mut parts = split(member, ';');
        let name = parts.next();
        parts.filter_map(|part| part.split_once('=')).any(|(key, value)| match key {
            "attempts" => value.parse::<u32>().is_ok_and(|attempts| attempts > 1),
            "error" => name == Some("fusebox") && REJECTIONS.contains(&value),
            "details" => name == Some("fusebox") && value == "\"budget exceeded\"",
            _ => false,
        })
    })
}

/// The parts of a structured field (RFC 9651) between separators that are not within a string.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut is_string, mut is_escaped) = (false, false);
    let parts = text.split(move |char: char| {
        let is_separator = char == separator && !is_string;
        is_string ^= char == '"' && !is_escaped;
        is_escaped = char == '\\' && is_string && !is_escaped;
        is_separator
    });
    parts.map(str::trim)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::body::ResponseBody;
    use crate::event::Observers;
    use crate::testing;

    fn says(fields: &[&'static str]) -> bool {
        let field = |field: &&'static str| (PROXY_STATUS, HeaderValue::from_static(field));
        let headers: HeaderMap = fields.iter().map(field).collect();
        let status = StatusCode::SERVICE_UNAVAILABLE;
        was_retried_or_rejected(&Response::new(status, headers, ResponseBody::empty()))
    }

    #[test]
    fn what_was_tried_twice_or_turned_away_is_told_from_what_was_tried_once() {
        for field in [
            "fusebox; received-status=503; attempts=3",
            "fusebox;error=connection_refused;details=\"connection refused\";attempts=2",
            "cache.example; hit, fusebox; attempts=2 , edge",
            "edge; details=\"a \\\" b, c\"; attempts=4",
            "fusebox; error=destination_unavailable; details=\"circuit breaker open\"",
            "fusebox; error=http_request_denied",
            "fusebox; error=http_request_error; details=\"budget exceeded\"",
        ] {
            assert!(says(&["edge", field]), "{field}");
        }
        for field in [
            "",
            "fusebox; received-status=503; attempts=1",
            "fusebox; attempts=many",
            "fusebox; error=connection_refused; details=\"connection refused\"",
            "edge; error=destination_unavailable",
            "edge; details=\"fusebox; attempts=3\"",
            "edge; details=\"x\\\", fusebox; attempts=3\"",
            "fusebox; error=http_request_error; details=\"retries exceeded\"",
        ] {
            assert!(!says(&[field]), "{field}");
        }
        assert!(!says(&[]));
    }

    #[test]
    fn the_mark_is_the_larger_of_the_received_one_and_the_own_number() {
        for (received, attempt, sent) in [
            (None, 1, None),
            (None, 2, Some("2")),
            (Some("3"), 1, None),
            (Some("3"), 2, Some("3")),
            (Some("3"), 4, Some("4")),
            (Some("x"), 2, Some("2")),
        ] {
            let mut request = http::Request::get("http://service-b/");
            if let Some(received) = received {
                request = request.header(ATTEMPT, received);
            }
            let body = crate::body::RequestBody::empty();
            let call = testing::call_with("1", request, body, Observers::default());
            let marks = |for_envoy| {
                let marks = Marks::of(&call, attempt, for_envoy);
                let text =
                    |(name, mark): (_, &HeaderValue)| format!("{name}: {}", mark.to_str().unwrap());
                marks.fields().map(text).collect()
            };
            let mark = sent.map(|sent| format!("x-fusebox-attempt: {sent}"));
            let count = format!("x-envoy-attempt-count: {}", sent.or(received).unwrap_or("1"));
            let without: Vec<String> = marks(false);
            assert_eq!(without, Vec::from_iter(mark.clone()), "{received:?}");
            let with: Vec<String> = marks(true);
            assert_eq!(with, mark.into_iter().chain([count]).collect::<Vec<_>>(), "{received:?}");
        }
    }
}
