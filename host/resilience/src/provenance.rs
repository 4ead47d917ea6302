//! Where an outcome comes from: which attempt, made for which run of a repeating policy, at which
//! address.

use std::net::SocketAddr;

/// One run of the rest of the pipeline by a policy that repeats it. Unique within a call; the
/// call's own first run is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RunId(pub(crate) u32);

impl RunId {
    /// Its number, from 0.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// Why a run is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It is the first.
    #[default]
    First,
    /// A retry policy makes it after a failure; its number among the retries, from 1.
    Retry(u32),
    /// A hedge policy makes it beside others; its number among the hedges, from 1.
    Hedge(u32),
}

impl Role {
    /// Its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry(_) => "retry",
            Self::Hedge(_) => "hedge",
        }
    }
}

/// Where an outcome comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// The innermost run that it was made for.
    pub run: RunId,
    /// Why that run was made.
    pub role: Role,
    /// The address that it reached, or tried last; `None` if it came to no address.
    pub address: Option<SocketAddr>,
    /// Whether it was made over HTTP/2, as far as it came; else it was over HTTP/1.1.
    pub is_http2: bool,
}
