//! Why a call or an attempt brought no response.
//!
//! [`ErrorKind`] is `Copy` and answers the questions that policies, replies and metrics ask of a
//! failure: whose it is ([`origin`](ErrorKind::origin)), whether the upstream may have seen the
//! request ([`reached_upstream`](ErrorKind::reached_upstream)), and its words:
//! [`name`](ErrorKind::name) is the one of RFC 9209, [`failure`](ErrorKind::failure) the one of the
//! guest contract, which conditions and metrics use too. What happened underneath stays in
//! [`source`](std::error::Error::source), for the log and never for the client.

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};

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
}

impl Error {
    /// A failure of this kind, with nothing known beneath it.
    pub fn new(kind: ErrorKind) -> Self {
        Self { kind, attempt: 0, retry_after: None, behind: None, source: None }
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
            // A limit may have passed before any attempt was made.
            ErrorKind::Timeout => self.attempt > 0,
            kind => kind.origin() == Origin::Upstream,
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
    /// This failure.
    Failure(ErrorKind),
}

/// What happened in place of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The upstream's name could not be resolved.
    DnsError,
    /// The upstream refused the connection.
    ConnectionRefused,
    /// No route to the upstream.
    Unroutable,
    /// No connection within the connect limit.
    ConnectionTimeout,
    /// The TLS handshake failed.
    TlsProtocolError,
    /// The upstream's certificate was not accepted.
    TlsCertificateError,
    /// The connection broke before the response, or its part that a predicate asked for, was
    /// complete.
    ConnectionTerminated,
    /// What came back was not valid HTTP.
    ProtocolError,
    /// A timeout policy's limit passed.
    Timeout,
    /// A circuit breaker is open.
    CircuitOpen,
    /// A bulkhead is full.
    BulkheadFull,
    /// A rate limiter is exhausted.
    RateLimited,
    /// An adaptive limiter or throttler turned the call away.
    Overloaded,
    /// A retry budget is spent.
    BudgetExceeded,
    /// A retry policy gave up.
    RetriesExceeded,
    /// The client's request body is larger than the listener allows.
    RequestTooLarge,
    /// The client went away, or its request body broke off or stalled.
    RequestIncomplete,
    /// The client's request body is not valid HTTP.
    RequestInvalid,
    /// This process or system is out of descriptors, ports or memory.
    Exhausted,
    /// Another fault of our own.
    Internal,
}

/// Whose failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client sent something unusable, or left.
    Client,
    /// We turned the call away, or broke.
    Proxy,
    /// The upstream, or the way to it.
    Upstream,
}

/// Whether the upstream may have acted on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Certainly not: sending it again repeats nothing.
    No,
    /// Perhaps.
    Maybe,
}

impl ErrorKind {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 20] = [
        Self::DnsError,
        Self::ConnectionRefused,
        Self::Unroutable,
        Self::ConnectionTimeout,
        Self::TlsProtocolError,
        Self::TlsCertificateError,
        Self::ConnectionTerminated,
        Self::ProtocolError,
        Self::Timeout,
        Self::CircuitOpen,
        Self::BulkheadFull,
        Self::RateLimited,
        Self::Overloaded,
        Self::BudgetExceeded,
        Self::RetriesExceeded,
        Self::RequestTooLarge,
        Self::RequestIncomplete,
        Self::RequestInvalid,
        Self::Exhausted,
        Self::Internal,
    ];

    /// Whose failure it is.
    pub fn origin(self) -> Origin {
        match self {
            Self::RequestTooLarge | Self::RequestIncomplete | Self::RequestInvalid => {
                Origin::Client
            }
            Self::CircuitOpen
            | Self::BulkheadFull
            | Self::RateLimited
            | Self::Overloaded
            | Self::BudgetExceeded
            | Self::Exhausted
            | Self::Internal => Origin::Proxy,
            Self::DnsError
            | Self::ConnectionRefused
            | Self::Unroutable
            | Self::ConnectionTimeout
            | Self::TlsProtocolError
            | Self::TlsCertificateError
            | Self::ConnectionTerminated
            | Self::ProtocolError
            | Self::Timeout
            | Self::RetriesExceeded => Origin::Upstream,
        }
    }

    /// A policy of ours turned the attempt away: nobody asked the upstream.
    pub fn is_rejection(self) -> bool {
        matches!(
            self,
            Self::CircuitOpen
                | Self::BulkheadFull
                | Self::RateLimited
                | Self::Overloaded
                | Self::BudgetExceeded
        )
    }

    /// We broke, or ran out of something: no policy's decision, and not the upstream's doing.
    pub fn is_own_fault(self) -> bool {
        matches!(self, Self::Exhausted | Self::Internal)
    }

    /// Whether the upstream may have seen the request, which decides if sending it again can repeat
    /// something.
    pub fn reached_upstream(self) -> Reached {
        match self {
            Self::DnsError
            | Self::ConnectionRefused
            | Self::Unroutable
            | Self::ConnectionTimeout
            | Self::TlsProtocolError
            | Self::TlsCertificateError
            | Self::Exhausted => Reached::No,
            // It only turns further attempts away.
            Self::BudgetExceeded => Reached::Maybe,
            kind if kind.is_rejection() => Reached::No,
            _ => Reached::Maybe,
        }
    }

    /// The error type of RFC 9209, section 2.3.
    pub fn name(self) -> &'static str {
        match self {
            Self::DnsError => "dns_error",
            Self::ConnectionRefused => "connection_refused",
            Self::Unroutable => "destination_ip_unroutable",
            Self::ConnectionTimeout => "connection_timeout",
            Self::TlsProtocolError => "tls_protocol_error",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ProtocolError => "http_protocol_error",
            Self::Timeout => "http_response_timeout",
            Self::CircuitOpen | Self::Overloaded => "destination_unavailable",
            Self::BulkheadFull => "connection_limit_reached",
            Self::RateLimited => "http_request_denied",
            Self::BudgetExceeded
            | Self::RetriesExceeded
            | Self::RequestTooLarge
            | Self::RequestIncomplete
            | Self::RequestInvalid => "http_request_error",
            Self::Exhausted | Self::Internal => "proxy_internal_error",
        }
    }

    /// The word that conditions, metrics and guests use.
    pub fn failure(self) -> Failure {
        match self {
            Self::DnsError => Failure::Dns,
            Self::ConnectionRefused | Self::Unroutable | Self::ConnectionTimeout => {
                Failure::Connect
            }
            Self::TlsProtocolError | Self::TlsCertificateError => Failure::Tls,
            Self::ConnectionTerminated => Failure::ConnectionLost,
            Self::ProtocolError => Failure::Protocol,
            Self::Timeout => Failure::Timeout,
            Self::CircuitOpen => Failure::CircuitOpen,
            Self::BulkheadFull => Failure::BulkheadFull,
            Self::RateLimited => Failure::RateLimited,
            Self::Overloaded => Failure::Overloaded,
            Self::BudgetExceeded => Failure::BudgetExceeded,
            Self::RetriesExceeded => Failure::RetriesExceeded,
            Self::RequestTooLarge
            | Self::RequestIncomplete
            | Self::RequestInvalid
            | Self::Exhausted
            | Self::Internal => Failure::Other,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DnsError => "upstream name not resolved",
            Self::ConnectionRefused => "connection refused",
            Self::Unroutable => "no route to upstream",
            Self::ConnectionTimeout => "connecting timed out",
            Self::TlsProtocolError => "tls handshake failed",
            Self::TlsCertificateError => "upstream certificate not accepted",
            Self::ConnectionTerminated => "connection lost",
            Self::ProtocolError => "upstream sent invalid http",
            Self::Timeout => "timeout exceeded",
            Self::CircuitOpen => "circuit breaker open",
            Self::BulkheadFull => "bulkhead full",
            Self::RateLimited => "rate limit exceeded",
            Self::Overloaded => "overloaded",
            Self::BudgetExceeded => "budget exceeded",
            Self::RetriesExceeded => "retries exceeded",
            Self::RequestTooLarge => "request body too large",
            Self::RequestIncomplete => "request incomplete",
            Self::RequestInvalid => "request body not valid",
            Self::Exhausted => "out of resources",
            Self::Internal => "internal error",
        })
    }
}

/// The failures of the guest contract (`failure` in `wit/policy.wit`), by which conditions select.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// The name of the upstream could not be resolved.
    Dns,
    /// No connection: refused, unreachable, or not there in time.
    Connect,
    /// The TLS handshake or the certificate failed.
    Tls,
    /// The connection broke before the response head was complete.
    ConnectionLost,
    /// What came back was not valid HTTP.
    Protocol,
    /// A timeout policy's limit passed.
    Timeout,
    /// A circuit breaker is open.
    CircuitOpen,
    /// A bulkhead is full.
    BulkheadFull,
    /// A rate limiter is exhausted.
    RateLimited,
    /// An adaptive limiter or throttler turned the attempt away.
    Overloaded,
    /// A retry budget is spent.
    BudgetExceeded,
    /// A retry policy gave up.
    RetriesExceeded,
    /// Anything else.
    Other,
}

impl Failure {
    /// All of them, in the contract's order.
    pub const ALL: [Self; 13] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::ConnectionLost,
        Self::Protocol,
        Self::Timeout,
        Self::CircuitOpen,
        Self::BulkheadFull,
        Self::RateLimited,
        Self::Overloaded,
        Self::BudgetExceeded,
        Self::RetriesExceeded,
        Self::Other,
    ];

    /// Its word in configuration, metrics and the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::ConnectionLost => "connection-lost",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::CircuitOpen => "circuit-open",
            Self::BulkheadFull => "bulkhead-full",
            Self::RateLimited => "rate-limited",
            Self::Overloaded => "overloaded",
            Self::BudgetExceeded => "budget-exceeded",
            Self::RetriesExceeded => "retries-exceeded",
            Self::Other => "other",
        }
    }
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

    #[test]
    fn a_rejection_never_reached_the_upstream() {
        for kind in [ErrorKind::CircuitOpen, ErrorKind::BulkheadFull, ErrorKind::RateLimited] {
            assert!(kind.is_rejection());
            assert_eq!(kind.reached_upstream(), Reached::No);
            assert_eq!(kind.origin(), Origin::Proxy);
        }
        assert_eq!(ErrorKind::Timeout.reached_upstream(), Reached::Maybe);
    }
}
