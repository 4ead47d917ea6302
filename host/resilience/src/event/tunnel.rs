//! What happens to a connection that has switched to another protocol.

use std::sync::Arc;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides had said all.
    Closed,
    /// The client broke off.
    ClientLost,
    /// The upstream broke off.
    UpstreamLost,
    /// Nothing moved for too long.
    Idle,
    /// The process was to end.
    Cut,
}

impl TunnelEnd {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 5] =
        [Self::Closed, Self::ClientLost, Self::UpstreamLost, Self::Idle, Self::Cut];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClientLost => "client-lost",
            Self::UpstreamLost => "upstream-lost",
            Self::Idle => "idle",
            Self::Cut => "cut",
        }
    }
}

/// Something happened to a tunnel.
#[derive(Clone, Debug, PartialEq)]
pub enum TunnelEvent {
    /// It began.
    Opened {
        /// What is spoken in it, as far as that is known.
        protocol: Arc<str>,
    },
    /// So much has moved since the last of these. A detail that is always made, seldom and at the
    /// end.
    Moved {
        /// Bytes from the client.
        received: u64,
        /// Bytes to the client.
        sent: u64,
    },
    /// It ended, after so much in all.
    Ended {
        /// How.
        end: TunnelEnd,
        /// Bytes from the client.
        received: u64,
        /// Bytes to the client.
        sent: u64,
    },
}
