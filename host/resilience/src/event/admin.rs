//! What happens on the admin listener.

use std::sync::Arc;

/// Why the admin listener denies a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Its bearer token is missing or wrong.
    Token,
    /// Its host is none of the listener's.
    Host,
    /// It comes from a page of another host.
    Origin,
}

impl Denial {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Token, Self::Host, Self::Origin];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Host => "host",
            Self::Origin => "origin",
        }
    }
}

/// Something happened on the admin listener.
#[derive(Clone, Debug, PartialEq)]
pub enum AdminEvent {
    /// A request was denied.
    Denied {
        /// Who asked: an address, or a user and a process.
        client: Arc<str>,
        /// Method and path.
        request: Arc<str>,
        /// Why.
        reason: Denial,
        /// How many since it was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
    /// Somebody with the token asked for a change.
    Changed {
        /// Who: an address, or a user and a process.
        client: Arc<str>,
        /// Method and path.
        request: Arc<str>,
        /// The status of the answer; `None` if nobody waited for it.
        status: Option<u16>,
    },
    /// All places for connections were taken, and the oldest connection was closed.
    Crowded {
        /// How many since it was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
}
