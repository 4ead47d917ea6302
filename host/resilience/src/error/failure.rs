//! The words for failures that conditions, metrics and guests use.

use serde::{Deserialize, Serialize};

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
