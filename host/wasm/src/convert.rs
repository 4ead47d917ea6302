//! Every conversion between our types and the contract's, in both directions.

use std::time::Duration;

use fusebox_resilience::{
    AttemptOutcome, ErrorKind, Failure, Outcome, PastAttempt, Response, ResponseBody,
    is_set_by_host,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};

use crate::bindings::fusebox::policy::types;
use crate::errors::BadAnswer;
use crate::wasi::console::Console;

// ===== ours to the contract's =====

/// How what the policy judges ended.
pub(crate) fn outcome(outcome: &Outcome) -> types::Outcome {
    match outcome {
        Ok(response) => types::Outcome::Response(response.status.as_u16()),
        Err(error) => types::Outcome::Failure(failure(error.kind())),
    }
}

fn failure(kind: ErrorKind) -> types::Failure {
    match kind.failure() {
        Failure::Dns => types::Failure::Dns,
        Failure::Connect => types::Failure::Connect,
        Failure::Tls => types::Failure::Tls,
        Failure::ConnectionLost => types::Failure::ConnectionLost,
        Failure::Protocol => types::Failure::Protocol,
        Failure::Timeout => types::Failure::Timeout,
        Failure::CircuitOpen => types::Failure::CircuitOpen,
        Failure::BulkheadFull => types::Failure::BulkheadFull,
        Failure::RateLimited => types::Failure::RateLimited,
        Failure::Overloaded => types::Failure::Overloaded,
        Failure::BudgetExceeded => types::Failure::BudgetExceeded,
        Failure::RetriesExceeded => types::Failure::RetriesExceeded,
        Failure::Other => types::Failure::Other,
    }
}

/// The contract has no word for an attempt that was cancelled: it is none of the failures that it
/// names.
pub(crate) fn past_attempt(past: PastAttempt) -> types::PastAttempt {
    let outcome = match past.outcome {
        AttemptOutcome::Response(status) => types::Outcome::Response(status),
        AttemptOutcome::Failure(kind) => types::Outcome::Failure(failure(kind)),
        AttemptOutcome::Cancelled => types::Outcome::Failure(types::Failure::Other),
    };
    types::PastAttempt {
        number: past.provenance.attempt,
        outcome,
        elapsed_ms: millis(past.elapsed),
    }
}

/// The protocols of requests, and their words.
const PROTOCOLS: [(Version, &str); 3] =
    [(Version::HTTP_10, "HTTP/1.0"), (Version::HTTP_11, "HTTP/1.1"), (Version::HTTP_2, "HTTP/2")];

pub(crate) fn protocol(version: Version) -> &'static str {
    let known = PROTOCOLS.into_iter().find(|(known, _)| *known == version);
    known.map_or("HTTP/1.1", |(_, word)| word)
}

/// The protocol of this word.
pub(crate) fn version(word: &str) -> Option<Version> {
    PROTOCOLS.into_iter().find(|(_, known)| *known == word).map(|(version, _)| version)
}

pub(crate) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

pub(crate) fn headers(
    headers: impl Iterator<Item = (impl AsRef<[u8]>, impl AsRef<[u8]>)>,
) -> Vec<types::Header> {
    headers.map(|(name, value)| types::Header { name: text(name), value: text(value) }).collect()
}

/// A header value as text: each byte is one character (ISO 8859-1).
pub(crate) fn text(value: impl AsRef<[u8]>) -> String {
    let value = value.as_ref();
    match str::from_utf8(value) {
        Ok(text) if text.is_ascii() => text.to_owned(),
        _ => value.iter().copied().map(char::from).collect(),
    }
}

pub(crate) fn utf8(bytes: Vec<u8>, is_whole: bool) -> Option<String> {
    String::from_utf8(bytes)
        .or_else(|error| {
            let cut = error.utf8_error();
            let mut bytes = error.into_bytes();
            if is_whole || cut.error_len().is_some() {
                return Err(());
            }
            bytes.truncate(cut.valid_up_to());
            String::from_utf8(bytes).map_err(drop)
        })
        .ok()
}

/// The body that a component made, which is all there.
pub(crate) fn text_of(response: &Response) -> String {
    String::from_utf8_lossy(&response.body.peeked(usize::MAX, 0, usize::MAX)).into_owned()
}

// ===== the contract's to ours =====

/// A key in bytes: as long as all that the other sources of keys can give by default.
const MAX_KEY: usize = 64 << 10;

/// The key that a guest gives.
///
/// # Errors
/// It is too long.
pub(crate) fn key(answer: Option<String>) -> Result<Option<String>, BadAnswer> {
    match answer {
        Some(key) if key.len() > MAX_KEY => Err(BadAnswer(format!(
            "answered with a key of {} bytes, expected at most {MAX_KEY}",
            key.len()
        ))),
        answer => Ok(answer),
    }
}

/// Headers of a response: as many as most clients take.
pub(crate) const MAX_HEADERS: usize = 100;

/// The guest's response as ours. Headers that only the host may set are left out, and so is the
/// body of a status that has none, with a line on the console.
///
/// # Errors
/// The status is not within 200 to 599, a header name is invalid, or a value has a character that
/// no header may have.
pub(crate) fn into_response(
    answer: types::Response,
    console: &Console,
) -> Result<Response, BadAnswer> {
    let status = StatusCode::from_u16(answer.status)
        .ok()
        .filter(|status| (200..=599).contains(&status.as_u16()))
        .ok_or_else(|| {
            BadAnswer(format!("answered with status `{}`, expected 200 to 599", answer.status))
        })?;
    if answer.headers.len() > MAX_HEADERS {
        return Err(BadAnswer(format!(
            "answered with {} headers, expected at most {MAX_HEADERS}",
            answer.headers.len()
        )));
    }
    let mut headers = HeaderMap::with_capacity(answer.headers.len());
    for types::Header { name, value } in answer.headers {
        let valid = HeaderName::try_from(&name)
            .map_err(|_| BadAnswer(format!("answered with header name `{name}`")))?;
        if is_set_by_host(&valid) {
            console
                .note(&format!("header `{valid}` of the response dropped: only the proxy sets it"));
            continue;
        }
        let value = header_value(&value).ok_or_else(|| {
            BadAnswer(format!("answered with an invalid value for header `{valid}`"))
        })?;
        headers.append(valid, value);
    }
    let body = match answer.body {
        types::Content::Text(text) => text.into_bytes(),
        types::Content::Bytes(bytes) => bytes,
    };
    let body = if body.is_empty() || may_have_body(status) {
        ResponseBody::full(body)
    } else {
        console.note(&format!("body of the response dropped: `{}` has none", status.as_u16()));
        ResponseBody::empty()
    };
    Ok(Response::new(status, headers, body))
}

/// RFC 9110, sections 6.4.1 and 15.3.6.
pub(crate) fn may_have_body(status: StatusCode) -> bool {
    ![StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::NOT_MODIFIED].contains(&status)
}

pub(crate) fn header_value(text: &str) -> Option<HeaderValue> {
    let bytes: Vec<u8> =
        text.chars().map(|character| u8::try_from(character).ok()).collect::<Option<_>>()?;
    HeaderValue::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_keep_every_byte_in_both_directions() {
        let bytes: Vec<u8> =
            (0..=255).filter(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 127)).collect();
        let value = HeaderValue::from_bytes(&bytes).expect("all of these are valid");
        assert_eq!(header_value(&text(&value)), Some(value));
        assert_eq!(header_value("a\u{100}"), None);
        assert_eq!(header_value("a\nb"), None);
    }

    #[test]
    fn a_character_cut_by_the_limit_is_left_out() {
        let cut = "grün".as_bytes()[..3].to_vec();
        assert_eq!(utf8(cut.clone(), false).as_deref(), Some("gr"));
        assert_eq!(utf8(cut, true), None);
        assert_eq!(utf8(vec![b'a', 0xff, b'b'], false), None);
    }

    #[test]
    fn times_saturate() {
        assert_eq!(millis(Duration::from_micros(1999)), 1);
        assert_eq!(millis(Duration::MAX), u32::MAX);
    }
}
