//! What caches do.

use std::time::Duration;

use crate::error::ErrorKind;

/// A cache did something.
#[derive(Clone, Debug, PartialEq)]
pub enum CacheEvent {
    /// A call went by it. Counted by its result.
    Used {
        /// Where the answer came from.
        result: CacheResult,
        /// How old the answer was, if it was kept.
        age: Option<Duration>,
    },
    /// It answered with what was stale.
    ServedStale {
        /// Why.
        reason: StaleReason,
        /// How old that was.
        age: Duration,
    },
    /// It keeps a response. A detail.
    Stored {
        /// Its bytes, headers included.
        bytes: u64,
        /// For how long it is fresh.
        lifetime: Duration,
    },
    /// It does not keep a response. A detail.
    Refused {
        /// Why.
        reason: NotStored,
    },
    /// The body of a response that it wanted to keep broke off.
    Broken {
        /// How.
        kind: ErrorKind,
    },
    /// A request waited too long for the answer to another one, and asks by itself.
    WaitedTooLong,
    /// A request that changes what it was sent to made it forget that. A detail.
    Invalidated,
    /// An operator made it forget all.
    Purged {
        /// How many responses that were.
        entries: u64,
    },
}

/// Where a cache's answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// It was kept, and fresh.
    Hit,
    /// It was kept, and stale.
    Stale,
    /// It was kept, and the upstream said that it is still valid.
    Revalidated,
    /// From the upstream: it was not kept.
    Miss,
    /// From the upstream, together with others that asked for the same.
    Collapsed,
    /// From the upstream: such requests are not answered from what is kept.
    Bypass,
}

impl CacheResult {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 6] =
        [Self::Hit, Self::Stale, Self::Revalidated, Self::Miss, Self::Collapsed, Self::Bypass];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Miss => "miss",
            Self::Collapsed => "collapsed",
            Self::Bypass => "bypass",
        }
    }
}

/// Why a cache answers with what is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleReason {
    /// The upstream failed, or nobody could ask it.
    Error,
    /// It is being validated meanwhile.
    WhileRevalidating,
    /// The client takes it so.
    MaxStale,
}

impl StaleReason {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 3] = [Self::Error, Self::WhileRevalidating, Self::MaxStale];

    /// Its word in log, metrics and `Cache-Status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "stale-if-error",
            Self::WhileRevalidating => "stale-while-revalidate",
            Self::MaxStale => "max-stale",
        }
    }
}

/// Why a cache does not keep a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// It is part of one, stands for another one, or has to be understood and is not.
    Status,
    /// The client or the upstream says so.
    NoStore,
    /// It is for one user.
    Private,
    /// It sets a cookie.
    SetCookie,
    /// Its request was authorized, and nothing says that it is for all.
    Authorization,
    /// It depends on more than the request: `Vary: *`.
    Vary,
    /// Nothing says for how long, or it could never be used.
    Freshness,
    /// It is a failure.
    Failure,
    /// It is longer than `max_entry`.
    Size,
    /// There is no room for bodies under way.
    Room,
    /// As much work is done behind calls as may be.
    Busy,
    /// What it is of has been changed or purged meanwhile.
    Outdated,
}

impl NotStored {
    /// Its word in log and `Cache-Status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::SetCookie => "set-cookie",
            Self::Authorization => "authorization",
            Self::Vary => "vary",
            Self::Freshness => "freshness",
            Self::Failure => "failure",
            Self::Size => "size",
            Self::Room => "room",
            Self::Busy => "busy",
            Self::Outdated => "outdated",
        }
    }
}
