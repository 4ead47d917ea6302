//! The attempt that a guest asks about, and every conversion between our types and the contract's,
//! in both directions.
//!
//! The exchange is lent to the host functions for the time of one call ([`lend`]) through the
//! thread that runs it, since a store can own things but not borrow them. Outside of a call nothing
//! is lent, and asking is a fault of the guest.

use std::time::Duration;

use fusebox_resilience::{
    AttemptOutcome, ErrorKind, Exchange, Failure, PastAttempt, Response, ResponseBody, Slot,
    is_set_by_host,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use scoped_tls_hkt::scoped_thread_local;

use crate::bindings::fusebox::policy::{attempt, settings, types};
use crate::fault::{BadAnswer, Misuse};
use crate::instances::State;
use crate::wasi::Console;

scoped_thread_local!(static EXCHANGE: for<'a> &'a Exchange<'a>);

/// Lends `seen` to the host functions while `call` runs.
pub(crate) fn lend<R>(seen: &Exchange<'_>, call: impl FnOnce() -> R) -> R {
    EXCHANGE.set(seen, call)
}

impl State {
    fn ask<R>(&mut self, question: impl FnOnce(&Exchange<'_>) -> R) -> wasmtime::Result<R> {
        self.count_call()?;
        if EXCHANGE.is_set() {
            Ok(EXCHANGE.with(question))
        } else {
            Err(Misuse("asked about an attempt outside of a call").into())
        }
    }

    fn head<R>(
        &mut self,
        question: impl FnOnce(&http::request::Parts) -> R,
    ) -> wasmtime::Result<R> {
        self.ask(|seen| question(seen.call.head()))
    }

    fn response<R>(
        &mut self,
        question: impl FnOnce(&Response) -> R,
    ) -> wasmtime::Result<Option<R>> {
        self.ask(|seen| seen.outcome.as_ref().ok().map(question))
    }
}

impl attempt::Host for State {
    fn route(&mut self) -> wasmtime::Result<String> {
        self.ask(|seen| seen.call.route().to_string())
    }

    fn policy(&mut self) -> wasmtime::Result<String> {
        self.ask(|seen| seen.policy.to_owned())
    }

    fn asked(&mut self) -> wasmtime::Result<types::Slot> {
        self.ask(|seen| match seen.slot {
            Slot::HandleIf => types::Slot::HandleIf,
            Slot::AbortIf => types::Slot::AbortIf,
            Slot::CancelIf => types::Slot::CancelIf,
            Slot::IgnoreIf => types::Slot::IgnoreIf,
            Slot::Respond => types::Slot::Respond,
        })
    }

    fn number(&mut self) -> wasmtime::Result<u32> {
        self.ask(|seen| seen.number())
    }

    fn history(&mut self) -> wasmtime::Result<Vec<types::PastAttempt>> {
        self.ask(|seen| seen.call.history().into_iter().map(past_attempt).collect())
    }

    fn elapsed_ms(&mut self) -> wasmtime::Result<u32> {
        self.ask(|seen| millis(seen.call.elapsed()))
    }

    fn remaining_ms(&mut self) -> wasmtime::Result<Option<u32>> {
        self.ask(|seen| seen.remaining().map(millis))
    }

    fn method(&mut self) -> wasmtime::Result<String> {
        self.head(|head| head.method.to_string())
    }

    fn scheme(&mut self) -> wasmtime::Result<String> {
        self.head(|head| head.uri.scheme_str().unwrap_or("http").to_owned())
    }

    /// Of the target if it has one, else the `Host` header: most requests name only a path.
    fn authority(&mut self) -> wasmtime::Result<String> {
        self.head(|head| match head.uri.authority() {
            Some(authority) => authority.to_string(),
            None => head.headers.get(header::HOST).map(text).unwrap_or_default(),
        })
    }

    fn path_with_query(&mut self) -> wasmtime::Result<String> {
        self.head(|head| head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned())
    }

    fn request_header(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.ask(|seen| seen.call.header(&name).map(text))
    }

    fn request_headers(&mut self) -> wasmtime::Result<Vec<types::Header>> {
        self.ask(|seen| headers(seen.call.headers()))
    }

    fn failure_detail(&mut self) -> wasmtime::Result<Option<String>> {
        self.ask(|seen| seen.outcome.as_ref().err().map(|error| error.name().to_owned()))
    }

    fn response_header(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        Ok(self.response(|response| response.headers.get(&name).map(text))?.flatten())
    }

    fn response_headers(&mut self) -> wasmtime::Result<Vec<types::Header>> {
        Ok(self.response(|response| headers(response.headers.iter()))?.unwrap_or_default())
    }

    fn response_body(&mut self, offset: u32, length: u32) -> wasmtime::Result<Vec<u8>> {
        let limit = self.peek_bytes();
        let bytes = self
            .response(|response| response.body.peeked(limit, offset as usize, length as usize))?;
        Ok(bytes.unwrap_or_default())
    }

    /// A character that the peek's limit cuts in two is left out; it does not make the rest
    /// unreadable.
    fn response_body_text(&mut self) -> wasmtime::Result<Option<String>> {
        let limit = self.peek_bytes();
        if limit == 0 {
            return self.ask(|_| None);
        }
        let seen = self.response(|response| {
            (response.body.peeked(limit, 0, limit), response.body.is_peeked_whole(limit))
        })?;
        Ok(seen.and_then(|(bytes, is_whole)| utf8(bytes, is_whole)))
    }

    fn response_body_complete(&mut self) -> wasmtime::Result<bool> {
        let limit = self.peek_bytes();
        Ok(self.response(|response| response.body.is_peeked_whole(limit))?.unwrap_or(false))
    }
}

impl settings::Host for State {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(self.version().config().settings.get(&name).cloned())
    }
}

impl types::Host for State {}

// ===== ours to the contract's =====

/// How what the policy judges ended.
pub(crate) fn outcome(seen: &Exchange<'_>) -> types::Outcome {
    match seen.outcome {
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
fn past_attempt(past: PastAttempt) -> types::PastAttempt {
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

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn headers<'a>(
    headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> Vec<types::Header> {
    headers
        .map(|(name, value)| types::Header { name: name.as_str().to_owned(), value: text(value) })
        .collect()
}

/// A header value as text: each byte is one character (ISO 8859-1).
pub(crate) fn text(value: &HeaderValue) -> String {
    match value.to_str() {
        Ok(text) => text.to_owned(),
        Err(_) => value.as_bytes().iter().copied().map(char::from).collect(),
    }
}

fn utf8(bytes: Vec<u8>, is_whole: bool) -> Option<String> {
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

// ===== the contract's to ours =====

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
