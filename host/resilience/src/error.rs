//! Why a call or an attempt brought no response.
//!
//! [`ErrorKind`] is `Copy` and answers the questions that policies, replies and metrics ask of a
//! failure: whose it is ([`origin`](ErrorKind::origin)), whether the upstream may have seen the
//! request ([`reached_upstream`](ErrorKind::reached_upstream)), and its words:
//! [`name`](ErrorKind::name) is the one of RFC 9209, [`failure`](ErrorKind::failure) the one of the
//! guest contract, which conditions and metrics use too. What happened underneath stays in
//! [`source`](std::error::Error::source), for the log and never for the client.

mod failure;
mod kind;

pub use failure::Failure;
pub use kind::{ErrorKind, Origin, Reached};

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};

use crate::grpc::GrpcStatus;

/// A cause from below: an I/O error, an HTTP error, whatever broke a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A failure as it travels outwards through a pipeline.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    attempt: u32,
    retry_after: Option<Duration>,
    behind: Option<Behind>,
    source: Option<BoxError>,
    /// In a box: hardly any failure has some.
    headers: Option<Box<HeaderMap>>,
}

impl Error {
    /// A failure of this kind, with nothing known beneath it.
    pub fn new(kind: ErrorKind) -> Self {
        Self { kind, attempt: 0, retry_after: None, behind: None, source: None, headers: None }
    }

    /// The same with its cause, which only the log will show.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same with the time after which asking again may help.
    #[must_use]
    pub fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// The same with the last word of the upstream before it, unless it has one already.
    #[must_use]
    pub(crate) fn with_behind(mut self, behind: Option<Behind>) -> Self {
        self.behind = self.last_word().map_or(behind, |_| self.behind);
        self
    }

    /// The same; `last`, which it takes the place of, may have asked to wait.
    #[must_use]
    pub(crate) fn caused_by(mut self, last: Error) -> Self {
        self.retry_after = last.retry_after;
        self.source = Some(last.into());
        self
    }

    /// Headers that a response in its place carries too.
    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        self.headers.get_or_insert_default()
    }

    /// Headers that a response in its place carries too.
    pub fn headers(&self) -> Option<&HeaderMap> {
        self.headers.as_deref()
    }

    /// What happened.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The attempt that ended so, from 1; 0 when none was made.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When asking again may help, if the failing side said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The word of RFC 9209 for this failure: of `retries-exceeded`, the last attempt's.
    pub fn name(&self) -> &'static str {
        match self.behind {
            Some(Behind::Failure(last)) if self.kind == ErrorKind::RetriesExceeded => last.name(),
            _ => self.kind.name(),
        }
    }

    /// Of an error of our own: what the last attempt behind it that asked the upstream came to.
    pub fn behind(&self) -> Option<Behind> {
        self.behind
    }

    /// What the upstream's last word is: this failure, or what is behind it. `None`: nobody asked
    /// the upstream.
    pub(crate) fn last_word(&self) -> Option<Behind> {
        let is_of_upstream = match self.kind {
            ErrorKind::RetriesExceeded => false,
            // A limit may have passed before any attempt was made, or it is the failure of another
            // call, shared.
            kind => kind.origin() == Origin::Upstream && self.attempt > 0,
        };
        if is_of_upstream { Some(Behind::Failure(self.kind)) } else { self.behind }
    }

    /// Whether the upstream may have acted on the request.
    pub fn reached_upstream(&self) -> Reached {
        match self.behind {
            Some(_) => Reached::Maybe,
            None => self.kind.reached_upstream(),
        }
    }

    /// The same, known to come from this attempt.
    pub(crate) fn of_attempt(self, attempt: u32) -> Self {
        Self { attempt, ..self }
    }

    pub(crate) fn set_attempt(&mut self, attempt: u32) {
        self.attempt = attempt;
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

/// What an attempt came to that the upstream was asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// A response with this status.
    Response(StatusCode),
    /// A response that says this status of gRPC.
    Grpc(GrpcStatus),
    /// This failure.
    Failure(ErrorKind),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_exceeded_speaks_with_the_word_of_the_last_failure() {
        let given_up = |behind| Error::new(ErrorKind::RetriesExceeded).with_behind(behind);
        let inner = given_up(Some(Behind::Failure(ErrorKind::ConnectionRefused)));
        assert_eq!(inner.name(), "connection_refused");
        assert_eq!(given_up(inner.last_word()).name(), "connection_refused");
        assert_eq!(given_up(None).name(), "http_request_error");
    }

    #[test]
    fn only_what_asked_the_upstream_has_its_last_word() {
        for kind in ErrorKind::ALL {
            let own = kind == ErrorKind::RetriesExceeded || kind.origin() != Origin::Upstream;
            let error = Error::new(kind).of_attempt(1);
            assert_eq!(error.last_word(), (!own).then_some(Behind::Failure(kind)), "{kind}");
            if own {
                let behind = Some(Behind::Response(StatusCode::BAD_GATEWAY));
                let error = error.with_behind(behind);
                assert_eq!(error.last_word(), behind);
                assert_eq!(error.reached_upstream(), Reached::Maybe);
            }
        }
        assert_eq!(Error::new(ErrorKind::Timeout).last_word(), None, "no attempt was made");
    }
}
