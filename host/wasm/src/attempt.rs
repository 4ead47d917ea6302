//! The host functions by which a guest asks about the attempt.
//!
//! The question is lent to the host functions for the time of one call ([`lend`]) through the
//! thread that runs it, since a store can own things but not borrow them. Outside of a call nothing
//! is lent, and asking is a fault of the guest.

use fusebox_resilience::{Outcome, OutcomeExt as _, Response, Slot};
use http::{HeaderName, header};
use scoped_tls_hkt::scoped_thread_local;

use crate::bindings::fusebox::policy::{attempt, settings, types};
use crate::convert::{headers, millis, past_attempt, protocol, text, utf8};
use crate::errors::Misuse;
use crate::question::GuestQuestion;
use crate::store::HostState;

scoped_thread_local!(static QUESTION: for<'a> &'a GuestQuestion<'a>);

/// Lends `seen` to the host functions while `call` runs.
pub(crate) fn lend<R>(seen: &GuestQuestion<'_>, call: impl FnOnce() -> R) -> R {
    QUESTION.set(seen, call)
}

/// What is asked before there is an outcome is asked about none.
const NO_OUTCOME: Misuse = Misuse("asked about an outcome, and there is none yet");

impl HostState {
    fn ask<R>(&mut self, question: impl FnOnce(&GuestQuestion<'_>) -> R) -> wasmtime::Result<R> {
        self.count_call()?;
        if QUESTION.is_set() {
            Ok(QUESTION.with(question))
        } else {
            Err(Misuse("asked about an attempt outside of a call").into())
        }
    }

    fn outcome<R>(&mut self, question: impl FnOnce(&Outcome) -> R) -> wasmtime::Result<R> {
        Ok(self.ask(|seen| seen.outcome().map(question).ok_or(NO_OUTCOME))??)
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
        self.outcome(|outcome| outcome.as_ref().ok().map(question))
    }
}

impl attempt::Host for HostState {
    fn route(&mut self) -> wasmtime::Result<String> {
        self.ask(|seen| seen.call.route().to_string())
    }

    fn policy(&mut self) -> wasmtime::Result<String> {
        self.ask(|seen| seen.policy.to_string())
    }

    fn asked(&mut self) -> wasmtime::Result<types::Slot> {
        let slot = self.ask(|seen| match seen.slot() {
            // The contract's list is closed: it has no word for a delay.
            Slot::HandleIf | Slot::Delay => Ok(types::Slot::HandleIf),
            Slot::AbortIf => Ok(types::Slot::AbortIf),
            Slot::CancelIf => Ok(types::Slot::CancelIf),
            Slot::IgnoreIf => Ok(types::Slot::IgnoreIf),
            Slot::Respond => Ok(types::Slot::Respond),
            Slot::Key => Err(NO_OUTCOME),
        })?;
        Ok(slot?)
    }

    fn number(&mut self) -> wasmtime::Result<u32> {
        self.outcome(|outcome| outcome.attempt())
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
        self.outcome(|outcome| outcome.as_ref().err().map(|error| error.name().to_owned()))
    }

    fn response_header(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let Ok(name) = HeaderName::try_from(name) else { return Ok(None) };
        Ok(self.response(|response| response.headers.get(&name).map(text))?.flatten())
    }

    fn response_headers(&mut self) -> wasmtime::Result<Vec<types::Header>> {
        Ok(self.response(|response| headers(response.headers.iter()))?.unwrap_or_default())
    }

    fn response_body(&mut self, offset: u32, length: u32) -> wasmtime::Result<Vec<u8>> {
        let limit = self.bounds().peek;
        let bytes = self
            .response(|response| response.body.peeked(limit, offset as usize, length as usize))?;
        Ok(bytes.unwrap_or_default())
    }

    /// A character that the peek's limit cuts in two is left out; it does not make the rest
    /// unreadable.
    fn response_body_text(&mut self) -> wasmtime::Result<Option<String>> {
        let limit = self.bounds().peek;
        if limit == 0 {
            return self.outcome(|_| None);
        }
        let seen = self.response(|response| {
            (response.body.peeked(limit, 0, limit), response.body.is_peeked_whole(limit))
        })?;
        Ok(seen.and_then(|(bytes, is_whole)| utf8(bytes, is_whole)))
    }

    fn response_body_complete(&mut self) -> wasmtime::Result<bool> {
        let limit = self.bounds().peek;
        Ok(self.response(|response| response.body.is_peeked_whole(limit))?.unwrap_or(false))
    }

    /// Whatever it may see of the body: trailers have come when all of that has.
    fn response_trailer(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        let trailer = self.response(|response| response.body.trailers()?.get(&name).map(text))?;
        Ok(trailer.flatten())
    }

    fn protocol(&mut self) -> wasmtime::Result<String> {
        self.head(|head| protocol(head.version).to_owned())
    }

    fn endpoint(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.ask(|seen| {
            let address = seen.address().map(|address| address.to_string());
            seen.outcome().map(|_| address).ok_or(NO_OUTCOME)
        })??)
    }

    fn endpoint_protocol(&mut self) -> wasmtime::Result<Option<String>> {
        Ok(self.ask(|seen| {
            let version = seen.version().map(|version| protocol(version).to_owned());
            seen.outcome().map(|_| version).ok_or(NO_OUTCOME)
        })??)
    }
}

impl settings::Host for HostState {
    fn get(&mut self, name: String) -> wasmtime::Result<Option<String>> {
        self.count_call()?;
        Ok(self.bounds().settings.get(&name).cloned())
    }
}

impl types::Host for HostState {}
