//! What policies do: an enum for each kind of policy.

use std::sync::Arc;
use std::time::Duration;

use super::component::ComponentId;
use super::endpoint::EndpointName;
use crate::body::LateFailureCause;

/// A timeout policy did something.
#[derive(Clone, Debug, PartialEq)]
pub enum TimeoutEvent {
    /// It cut the call off.
    Exceeded {
        /// Its limit.
        limit: Duration,
    },
    /// It cut a response body off.
    BodyCut {
        /// By which limit.
        limit: BodyLimit,
    },
}

/// A limit of a timeout policy on response bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLimit {
    /// Its upstream was waited for too long.
    Time,
    /// It came too slowly.
    Rate,
}

impl BodyLimit {
    /// Its key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "body_limit",
            Self::Rate => "min_rate",
        }
    }

    /// What is the matter.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Time => "response body longer than `body_limit`",
            Self::Rate => "response body slower than `min_rate`",
        }
    }
}

/// A retry policy did something.
#[derive(Clone, Debug, PartialEq)]
pub enum RetryEvent {
    /// A further attempt will follow.
    Scheduled {
        /// Its number among the retries, from 1.
        retry: u32,
        /// When.
        delay: Duration,
    },
    /// The policy gave up: `max_retries` or `max_duration` is reached.
    Exhausted {
        /// The retries that were made.
        retries: u32,
    },
    /// `abort_if` ended the retries.
    Aborted,
    /// A handled failure was not retried.
    Skipped {
        /// Why.
        reason: NoRetry,
    },
}

/// Why a failure that a retry policy handles was not retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRetry {
    /// The upstream may have acted on it, and the method is not idempotent.
    Method,
    /// The request body is longer than what is kept for replay.
    Body,
    /// The request body was not kept: the memory for all of them is full.
    Memory,
    /// The upstream asks for a longer wait than the policy may wait.
    RetryAfter,
    /// The upstream asks not to be asked again.
    Upstream,
    /// Another layer of proxies makes the retries, or has turned the call away.
    Retried,
    /// The wait would end past the deadline.
    Deadline,
    /// An open circuit breaker stays open for longer than the policy may wait.
    CircuitOpen,
    /// The retry budget is spent.
    Budget,
    /// The component that was asked how long to wait gives up, or asks for too long a wait.
    Component,
}

impl NoRetry {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Method,
        Self::Body,
        Self::Memory,
        Self::RetryAfter,
        Self::Upstream,
        Self::Retried,
        Self::Deadline,
        Self::CircuitOpen,
        Self::Budget,
        Self::Component,
    ];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Body => "body",
            Self::Memory => "memory",
            Self::RetryAfter => "retry-after",
            Self::Upstream => "upstream",
            Self::Retried => "retried",
            Self::Deadline => "deadline",
            Self::CircuitOpen => "circuit-open",
            Self::Budget => "budget",
            Self::Component => "component",
        }
    }
}

/// A circuit breaker did something.
#[derive(Clone, Debug, PartialEq)]
pub enum CircuitBreakerEvent {
    /// It changed its state.
    StateChanged {
        /// From.
        from: CircuitState,
        /// To.
        to: CircuitState,
        /// How long it stays open, if it opened.
        delay: Option<Duration>,
        /// Whose circuit it is, if there is one for each key,
        key: Option<Arc<str>>,
        /// or for each endpoint.
        endpoint: Option<EndpointName>,
    },
    /// A response whose head it took for a success was a failure: its body broke off, or its
    /// trailers say so. It counts in place of the success, unless the state has changed since.
    FailedLate {
        /// Which of both.
        cause: LateFailureCause,
    },
}

/// Where a circuit breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CircuitState {
    /// Traffic flows.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls try whether the upstream is well again.
    HalfOpen,
}

impl CircuitState {
    /// Its word in log, metrics and `/state`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// A fallback did something.
#[derive(Clone, Debug, PartialEq)]
pub enum FallbackEvent {
    /// It answered.
    Served {
        /// The status of its answer.
        status: u16,
        /// The version of a component that made the answer; `None` if it is static.
        component: Option<ComponentId>,
    },
    /// Its component declined, or failed to answer: the original outcome goes out.
    Declined,
}

/// An adaptive throttler did something.
#[derive(Clone, Debug, PartialEq)]
pub enum AdaptiveThrottlerEvent {
    /// The share of calls that it admits has changed.
    ShareChanged {
        /// From, 0 to 1.
        from: f64,
        /// To.
        to: f64,
    },
}

/// A policy had a call wait for its turn.
#[derive(Clone, Debug, PartialEq)]
pub enum QueueEvent {
    /// It waits. A detail.
    Joined {
        /// How many wait before it.
        ahead: usize,
    },
    /// Its turn has come.
    Admitted {
        /// How long it has waited.
        waited: Duration,
    },
}

/// A hedge policy did something.
#[derive(Clone, Debug, PartialEq)]
pub enum HedgeEvent {
    /// A further attempt starts.
    Launched {
        /// Its number among the hedges, from 1.
        hedge: u32,
        /// For how long the upstream had been asked by the one before.
        asked: Duration,
    },
    /// What a hedge came to goes out, rather than what the first attempt came to.
    Won {
        /// Its number among the hedges, from 1.
        hedge: u32,
    },
    /// An attempt was still under way when another one had won, and was cancelled.
    Cancelled {
        /// Its number among the hedges; 0: it is the first attempt.
        hedge: u32,
    },
    /// No further attempt starts.
    Skipped {
        /// Why.
        reason: NoHedge,
    },
}

/// A policy tells calls apart by a key.
#[derive(Clone, Debug, PartialEq)]
pub enum KeysEvent {
    /// There are as many keys as may be, and none of them may be forgotten: the call shares a state
    /// with other newcomers.
    Overflowed {
        /// How many calls that has concerned since it was last to be told; `None` if that was a
        /// moment ago.
        count: Option<u64>,
    },
}

/// Why a hedge policy starts no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoHedge {
    /// The method is not idempotent, so the upstream must not be asked twice.
    Method,
    /// The request body is longer than what is kept for replay.
    Body,
    /// The request body was not kept: the memory for all of them is full.
    Memory,
    /// The upstream asks to be left alone.
    RetryAfter,
    /// Another layer of proxies makes further attempts, or has turned the call away.
    Retried,
    /// The budget is spent.
    Budget,
    /// The request asks for another protocol: its upstream would begin two conversations.
    Upgrade,
}

impl NoHedge {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 7] = [
        Self::Method,
        Self::Body,
        Self::Memory,
        Self::RetryAfter,
        Self::Retried,
        Self::Budget,
        Self::Upgrade,
    ];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Body => "body",
            Self::Memory => "memory",
            Self::RetryAfter => "retry-after",
            Self::Retried => "retried",
            Self::Budget => "budget",
            Self::Upgrade => "upgrade",
        }
    }
}

/// An adaptive limiter did something.
#[derive(Clone, Debug, PartialEq)]
pub enum AdaptiveLimiterEvent {
    /// Its limit has changed.
    LimitChanged {
        /// From.
        from: usize,
        /// To.
        to: usize,
        /// Why.
        kind: LimitChangeKind,
    },
}

/// Why the limit of an adaptive limiter changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitChangeKind {
    /// There is room: it grows by a little.
    Grown,
    /// An experiment: does throughput grow with it?
    Up,
    /// An experiment, as calls wait in the upstream: does throughput stay with a lower one?
    Cut,
    /// The same, now and then.
    Dip,
    /// An experiment has ended that changed nothing for the better.
    Back,
    /// The upstream says that it has too much to do.
    Drops,
    /// It is far more than is in use.
    Capped,
}

impl LimitChangeKind {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 7] =
        [Self::Grown, Self::Up, Self::Cut, Self::Dip, Self::Back, Self::Drops, Self::Capped];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grown => "grown",
            Self::Up => "up",
            Self::Cut => "cut",
            Self::Dip => "dip",
            Self::Back => "back",
            Self::Drops => "drops",
            Self::Capped => "capped",
        }
    }
}
