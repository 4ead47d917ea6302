//! What happens on a client's connection beside its calls.

use std::net::IpAddr;

/// A limit of the listener, by which a connection may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionLimit {
    /// No request came.
    IdleTimeout,
    /// It neither sent nor took anything for too long.
    BodyTimeout,
    /// It moved too little while it was waited for.
    MinRate,
    /// It took too long to send a request.
    RequestTimeout,
    /// It has served as many requests as it may.
    MaxRequests,
    /// It has been open for as long as it may.
    MaxAge,
    /// All places were taken, this one had been idle for longest, and another client came.
    MaxConnections,
    /// Its address had as many as it may have: it was refused.
    MaxConnectionsPerAddress,
}

impl ConnectionLimit {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::IdleTimeout,
        Self::BodyTimeout,
        Self::MinRate,
        Self::RequestTimeout,
        Self::MaxRequests,
        Self::MaxAge,
        Self::MaxConnections,
        Self::MaxConnectionsPerAddress,
    ];

    /// The key that it is configured by.
    pub fn key(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::MinRate => "min_rate",
            Self::RequestTimeout => "request_timeout",
            Self::MaxRequests => "max_requests",
            Self::MaxAge => "max_age",
            Self::MaxConnections => "max_connections",
            Self::MaxConnectionsPerAddress => "max_connections_per_address",
        }
    }
}

/// Why a handshake of TLS fails: what the other side does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// It leaves.
    Left,
    /// It is too slow.
    Timeout,
    /// It has no certificate, and needs one.
    NoCertificate,
    /// Its certificate is not taken.
    Certificate,
    /// It has no version, cipher suite or protocol that we have.
    Incompatible,
    /// It breaks off, and says why.
    Alert,
    /// It sends what is not TLS, or wrong.
    Invalid,
}

impl HandshakeFailure {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Left,
        Self::Timeout,
        Self::NoCertificate,
        Self::Certificate,
        Self::Incompatible,
        Self::Alert,
        Self::Invalid,
    ];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Timeout => "timeout",
            Self::NoCertificate => "no-certificate",
            Self::Certificate => "certificate",
            Self::Incompatible => "incompatible",
            Self::Alert => "alert",
            Self::Invalid => "invalid",
        }
    }
}

/// Something happened on a client's connection.
#[derive(Clone, Debug, PartialEq)]
pub enum ConnectionEvent {
    /// What came was no request, or not all of one in time: the client was told so, and the
    /// connection ends.
    Refused {
        /// The client's address.
        client: IpAddr,
        /// What the client got.
        status: u16,
        /// Why, in a word for metrics.
        reason: &'static str,
        /// Why, in words.
        words: String,
        /// How often that happened since it was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
    /// A limit ended it.
    Ended {
        /// The client's address.
        client: IpAddr,
        /// Which one.
        limit: ConnectionLimit,
        /// How often it did so since that was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
    /// A handshake of TLS has ended well: what comes is secret from here on.
    Secured {
        /// The version of TLS.
        version: &'static str,
        /// Whether it resumes an earlier session.
        is_resumed: bool,
    },
    /// A handshake of TLS has failed, and the connection ends.
    HandshakeFailed {
        /// The client's address.
        client: IpAddr,
        /// Why, in a word.
        reason: HandshakeFailure,
        /// Why, in words.
        words: String,
        /// How often that happened since it was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
}
