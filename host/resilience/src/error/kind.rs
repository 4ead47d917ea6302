//! What happened in place of a response, whose failure it is, and its words.

use std::fmt;

use super::failure::Failure;

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
    /// The upstream broke off after the TLS handshake, and said so in TLS: it does not take our
    /// certificate, for one.
    TlsAlertReceived,
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
    pub const ALL: [Self; 21] = [
        Self::DnsError,
        Self::ConnectionRefused,
        Self::Unroutable,
        Self::ConnectionTimeout,
        Self::TlsProtocolError,
        Self::TlsCertificateError,
        Self::TlsAlertReceived,
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
            | Self::TlsAlertReceived
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
            Self::TlsAlertReceived => "tls_alert_received",
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
            Self::TlsProtocolError | Self::TlsCertificateError | Self::TlsAlertReceived => {
                Failure::Tls
            }
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
            Self::TlsAlertReceived => "upstream ended tls",
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

#[cfg(test)]
mod tests {
    use super::*;

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
