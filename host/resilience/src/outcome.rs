//! How an attempt, or the whole call, ended: a response or an [`Error`], never a panic.

use http::{HeaderMap, StatusCode};

use crate::body::{BodyEnd, ResponseBody};
use crate::error::{Behind, BoxError, Error, ErrorKind};
use crate::event::ComponentId;

/// How an attempt, or a whole call, ended.
pub type Outcome = Result<Response, Error>;

/// A response on its way out: the head as it came, the body still streaming.
#[derive(Debug)]
pub struct Response {
    /// Its status code.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; dropping it discards the response and gives back what it holds.
    pub body: ResponseBody,
    attempt: u32,
    is_stand_in: bool,
    is_given_up: bool,
    /// In a box: hardly any response has one.
    made_by: Option<Box<ComponentId>>,
}

impl Response {
    /// A response of the upstream.
    pub fn new(status: StatusCode, headers: HeaderMap, body: ResponseBody) -> Self {
        Self {
            status,
            headers,
            body,
            attempt: 0,
            is_stand_in: false,
            is_given_up: false,
            made_by: None,
        }
    }

    /// The same, made by this version of a component.
    #[must_use]
    pub fn made_by(mut self, component: ComponentId) -> Self {
        self.made_by = Some(component.into());
        self
    }

    /// The version of a component that made it, if one did.
    pub fn component(&self) -> Option<&ComponentId> {
        self.made_by.as_deref()
    }

    /// The attempt that it answers, from 1; 0 before one was counted.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A fallback made it, or a cache had it. Policies further out take it for a success without
    /// asking, whatever its status.
    pub fn is_stand_in(&self) -> bool {
        self.is_stand_in
    }

    /// A retry policy took it for a failure, and asks no more.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up
    }

    pub(crate) fn give_up(&mut self) {
        self.is_given_up = true;
    }

    /// Marks it as what stands in for what `attempt` ended with; 0: for an attempt.
    #[must_use]
    pub(crate) fn into_stand_in(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self.is_stand_in = true;
        self
    }

    pub(crate) fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
    }
}

/// Questions that a response and an error both answer.
pub trait OutcomeExt {
    /// The attempt that it came from, from 1; 0 if none was made.
    fn attempt(&self) -> u32;
    /// The failure, if it is one.
    fn error_kind(&self) -> Option<ErrorKind>;
    /// A policy has no use for it: what it holds goes back, and its head stands for the whole.
    fn discard(self);
    /// What the last attempt behind it that asked the upstream came to; `None` if there was none.
    fn last_word(&self) -> Option<Behind>;
}

impl OutcomeExt for Outcome {
    fn attempt(&self) -> u32 {
        match self {
            Ok(response) => response.attempt,
            Err(error) => error.attempt(),
        }
    }

    fn error_kind(&self) -> Option<ErrorKind> {
        self.as_ref().err().map(Error::kind)
    }

    fn discard(self) {
        if let Ok(mut response) = self {
            response.body.settle(BodyEnd::Whole);
        }
    }

    fn last_word(&self) -> Option<Behind> {
        match self {
            Ok(response) => Some(Behind::Response(response.status)),
            Err(error) => error.last_word(),
        }
    }
}

/// A body that died while a predicate looked into it: the response never arrived whole.
pub(crate) fn lost(attempt: u32, cause: BoxError) -> Error {
    Error::new(ErrorKind::ConnectionTerminated).with_source(cause).of_attempt(attempt)
}
