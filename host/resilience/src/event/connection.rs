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
    /// It took too long with a head, or to say how it speaks HTTP/2. (In HTTP/1 that is refused.)
    HeaderTimeout,
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
    pub const ALL: [Self; 9] = [
        Self::IdleTimeout,
        Self::BodyTimeout,
        Self::MinRate,
        Self::HeaderTimeout,
        Self::RequestTimeout,
        Self::MaxRequests,
        Self::MaxAge,
        Self::MaxConnections,
        Self::MaxConnectionsPerAddress,
    ];

    /// Those by which a stream may end whose connection goes on.
    pub const OF_STREAMS: [Self; 3] = [Self::BodyTimeout, Self::MinRate, Self::RequestTimeout];

    /// The key that it is configured by.
    pub fn key(self) -> &'static str {
        match self {
            Self::IdleTimeout => "idle_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::MinRate => "min_rate",
            Self::HeaderTimeout => "header_timeout",
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
    /// It has lasted for longest, and another needs its place.
    CrowdedOut,
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
    pub const ALL: [Self; 8] = [
        Self::Left,
        Self::Timeout,
        Self::CrowdedOut,
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
            Self::CrowdedOut => "crowded-out",
            Self::NoCertificate => "no-certificate",
            Self::Certificate => "certificate",
            Self::Incompatible => "incompatible",
            Self::Alert => "alert",
            Self::Invalid => "invalid",
        }
    }
}

/// For what a client's connection over HTTP/2 ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2Fault {
    /// What it sent is not HTTP/2.
    Protocol,
    /// It sent more than there was room for, or opened more room than there can be.
    FlowControl,
    /// A frame was longer than it may be.
    FrameSize,
    /// Its headers can't be read.
    Compression,
    /// Too much of anything else than the following.
    Flood,
    /// It gave up too many requests.
    ResetFlood,
    /// Too many pings.
    PingFlood,
    /// Too many settings.
    SettingsFlood,
    /// Too many priorities.
    PriorityFlood,
    /// It opened room too often.
    WindowUpdateFlood,
    /// Too many frames that nobody knows.
    UnknownFlood,
    /// It had requests, and did not answer a ping.
    PingUnanswered,
}

impl Http2Fault {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 12] = [
        Self::Protocol,
        Self::FlowControl,
        Self::FrameSize,
        Self::Compression,
        Self::Flood,
        Self::ResetFlood,
        Self::PingFlood,
        Self::SettingsFlood,
        Self::PriorityFlood,
        Self::WindowUpdateFlood,
        Self::UnknownFlood,
        Self::PingUnanswered,
    ];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::FlowControl => "flow-control",
            Self::FrameSize => "frame-size",
            Self::Compression => "compression",
            Self::Flood => "flood",
            Self::ResetFlood => "reset-flood",
            Self::PingFlood => "ping-flood",
            Self::SettingsFlood => "settings-flood",
            Self::PriorityFlood => "priority-flood",
            Self::WindowUpdateFlood => "window-update-flood",
            Self::UnknownFlood => "unknown-flood",
            Self::PingUnanswered => "ping-unanswered",
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
    /// A request over HTTP/2 was malformed, or one too many, and its stream was reset.
    StreamRefused {
        /// The client's address.
        client: IpAddr,
        /// How often that happened since it was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
    /// A limit ended a stream of it; it goes on.
    StreamEnded {
        /// The client's address.
        client: IpAddr,
        /// Which one.
        limit: ConnectionLimit,
        /// How often it did so since that was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
    /// It ended for what its client did in HTTP/2.
    Http2Failed {
        /// The client's address.
        client: IpAddr,
        /// What that was.
        fault: Http2Fault,
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

impl ConnectionEvent {
    /// The reason of [`StreamRefused`](Self::StreamRefused) in log and metrics.
    pub const STREAM_REFUSED: &'static str = "stream";
}
