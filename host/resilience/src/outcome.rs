//! How an attempt, or the whole call, ended: a response or an [`Error`], never a panic.

use fusebox_head::HeaderFields;
use http::{HeaderMap, StatusCode};
use http_body::Body;

use crate::body::{BodyEnd, ResponseBody};
use crate::error::{Behind, BoxError, Error, ErrorKind};
use crate::event::ComponentId;
use crate::grpc::{GrpcOutcome, GrpcStatus};

/// How an attempt, or a whole call, ended.
pub type Outcome = Result<Response, Error>;

/// A response on its way out: the head as it came, the body still streaming.
#[derive(Debug)]
pub struct Response {
    /// Its status code.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderFields,
    /// Its body; dropping it discards the response and gives back what it holds.
    pub body: ResponseBody,
    attempt: u32,
    role: ResponseRole,
    /// What its head says of a call by gRPC.
    grpc: GrpcOutcome,
    /// In a box: hardly any response has one.
    made_by: Option<Box<ComponentId>>,
}

/// What policies have made of a response. In one byte: responses are moved from policy to policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseRole {
    /// It is the upstream's.
    Answer,
    /// See [`Response::is_stand_in`], which nobody takes for a failure.
    StandIn,
    /// See [`Response::is_given_up`].
    GivenUp,
}

impl Response {
    /// A response of the upstream.
    pub fn new(status: StatusCode, headers: impl Into<HeaderFields>, body: ResponseBody) -> Self {
        Self {
            status,
            headers: headers.into(),
            body,
            attempt: 0,
            role: ResponseRole::Answer,
            grpc: GrpcOutcome::NotGrpc,
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

    /// How the call by gRPC that it answers has ended, as far as it is known: its body may have
    /// been read ahead to the end.
    pub fn grpc(&self) -> GrpcOutcome {
        match self.grpc {
            GrpcOutcome::Open => self.body.grpc_end().map_or(GrpcOutcome::Open, GrpcOutcome::Ended),
            known => known,
        }
    }

    /// What a client that calls by gRPC makes of its head, whoever has made it; `None`: its end
    /// will say it.
    pub fn grpc_for_client(&self) -> Option<GrpcStatus> {
        let outcome = match self.grpc() {
            GrpcOutcome::NotGrpc => {
                GrpcOutcome::of_head(self.status, &self.headers, self.body.is_end_stream())
            }
            known => known,
        };
        outcome.status()
    }

    /// It answers a call by gRPC.
    pub(crate) fn answers_grpc(&mut self) {
        let is_whole = self.body.is_end_stream();
        self.grpc = GrpcOutcome::of_head(self.status, &self.headers, is_whole);
        if self.grpc == GrpcOutcome::Open {
            self.body.await_grpc_status();
        }
    }

    /// A fallback made it, or a cache had it. Policies further out take it for a success without
    /// asking, whatever its status.
    pub fn is_stand_in(&self) -> bool {
        self.role == ResponseRole::StandIn
    }

    /// A retry policy took it for a failure, and asks no more.
    pub fn is_given_up(&self) -> bool {
        self.role == ResponseRole::GivenUp
    }

    pub(crate) fn give_up(&mut self) {
        self.role = ResponseRole::GivenUp;
    }

    /// Marks it as what stands in for what `attempt` ended with; 0: for an attempt.
    #[must_use]
    pub(crate) fn into_stand_in(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self.role = ResponseRole::StandIn;
        self
    }

    /// What is known of it by now, for questions about it while its body goes on.
    pub(crate) fn excerpt(&self) -> Self {
        Self {
            status: self.status,
            headers: self.headers.to_map().into(),
            body: self.body.excerpt(),
            attempt: self.attempt,
            role: self.role,
            grpc: self.grpc,
            made_by: self.made_by.clone(),
        }
    }

    pub(crate) fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
    }

    /// Gives back what it holds: its head stands for the whole. Returns its headers.
    pub(crate) fn discard(mut self) -> HeaderFields {
        self.body.settle(BodyEnd::Whole);
        self.headers
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
        if let Ok(response) = self {
            response.discard();
        }
    }

    fn last_word(&self) -> Option<Behind> {
        match self {
            Ok(response) => Some(match response.grpc() {
                GrpcOutcome::Ended(status) => Behind::Grpc(status),
                GrpcOutcome::NotGrpc | GrpcOutcome::Open => Behind::Response(response.status),
            }),
            Err(error) => error.last_word(),
        }
    }
}

/// The trailers of a response, if they have come.
pub(crate) fn trailers(outcome: &Outcome) -> Option<&HeaderMap> {
    outcome.as_ref().ok()?.body.trailers()
}

/// A body that died while a predicate looked into it: the response never arrived whole.
pub(crate) fn lost(attempt: u32, cause: BoxError) -> Error {
    Error::new(ErrorKind::ConnectionTerminated).with_source(cause).of_attempt(attempt)
}
