//! What happens to a call, to its attempts, and to the conditions that judge them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::body::BodyEnd;
use crate::error::ErrorKind;
use crate::grpc::GrpcStatus;
use crate::slot::Slot;

/// How an attempt ended, short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// A response with this status.
    Response(u16),
    /// No response.
    Failure(ErrorKind),
    /// Nobody waited for it any longer: a timeout around it fired, or the client left.
    Cancelled,
}

/// Why an attempt goes once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SentAgainCause {
    /// The kept connection that it was sent on died before any byte of an answer, and it is safe to
    /// repeat.
    Died,
    /// The upstream said that it has not processed it.
    NotProcessed,
    /// Its endpoint refused the connection, and it goes to another of the upstream's.
    Refused,
}

/// Why the head of a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestFlaw {
    /// Its host is missing or not valid.
    Host,
    /// Its target with the upstream's base path is too long.
    TargetLength,
    /// Its path has dot segments, by which another path may be meant than the route's.
    Path,
    /// It has been here before.
    Loop,
    /// It expects what nobody here can do.
    Expectation,
    /// How far it may go is not said in one number.
    MaxForwards,
    /// Its host is another than the one that its connection over TLS was made for.
    Misdirected,
    /// It asks for a tunnel, in which its route does not let it speak what it wants to.
    Tunnel,
}

impl RequestFlaw {
    /// Every one, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Host,
        Self::TargetLength,
        Self::Path,
        Self::Loop,
        Self::Expectation,
        Self::MaxForwards,
        Self::Misdirected,
        Self::Tunnel,
    ];

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::TargetLength => "target-length",
            Self::Path => "path",
            Self::Loop => "loop",
            Self::Expectation => "expectation",
            Self::MaxForwards => "max-forwards",
            Self::Misdirected => "misdirected",
            Self::Tunnel => "tunnel",
        }
    }
}

impl fmt::Display for RequestFlaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "host missing or not valid",
            Self::TargetLength => "target too long",
            Self::Path => "path with dot segments",
            Self::Loop => "request loop",
            Self::Expectation => "expectation not supported",
            Self::MaxForwards => "max-forwards not valid",
            Self::Misdirected => "host of another connection",
            Self::Tunnel => "protocol of tunnel not supported",
        })
    }
}

/// Something happened to a whole call.
#[derive(Clone, Debug, PartialEq)]
pub enum CallEvent {
    /// A request arrived. A detail.
    Started,
    /// Its head was refused.
    Refused {
        /// Why.
        flaw: RequestFlaw,
    },
    /// As many calls were in flight as may be, and so it got a 503.
    TurnedAway {
        /// How many since that was last to be told; `None` if that was a moment ago.
        count: Option<u64>,
    },
    /// A client that is not trusted said where its request comes from: the first time on its
    /// connection. What it said was replaced.
    ForwardedReplaced {
        /// The connections on which that happened since it was last to be told; `None` if that was
        /// a moment ago.
        connections: Option<u64>,
    },
    /// Its deadline passed before there was an answer.
    DeadlineExceeded {
        /// So long after its arrival.
        limit: Duration,
    },
    /// What it says of its deadline is not valid, and was ignored.
    DeadlineIgnored {
        /// In this header.
        header: &'static str,
    },
    /// Its body was not kept for want of memory, so that it had one attempt.
    BodyNotKept,
    /// A policy turned the call away.
    Rejected {
        /// With this failure.
        kind: ErrorKind,
        /// When asking again may help.
        retry_after: Option<Duration>,
    },
    /// A response body broke off or stalled after its head was sent, so the client's connection was
    /// closed, its stream reset, or a call by gRPC ended with a status that says so.
    ResponseIncomplete {
        /// How.
        kind: ErrorKind,
    },
    /// The call ended, and with it the response body.
    Finished {
        /// The status that the client got; `None` if it left, or the call was cut, before one was
        /// sent.
        status: Option<u16>,
        /// The failure of the call, which made the status one of our own; `None` too if the
        /// request was refused before there was a call to make.
        failure: Option<ErrorKind>,
        /// The status of gRPC that the client got; `None`: it did not call by gRPC, or got none.
        grpc: Option<GrpcStatus>,
        /// The error type of RFC 9209 behind a status of our own.
        error: Option<&'static str>,
        /// The causes of that failure: for the log, never for the client.
        detail: Option<Arc<str>>,
        /// The attempts that were made.
        attempts: u32,
        /// How the response body ended; `None` if no response was begun.
        end: Option<BodyEnd>,
        /// Whether it was cut because the process ends: nobody is to blame.
        is_cut: bool,
        /// Bytes of the response body, or through a tunnel, that were sent.
        bytes: u64,
        /// Bytes that came through a tunnel.
        received: u64,
        /// From the request's arrival to the end of the response body.
        elapsed: Duration,
    },
}

/// Something happened to an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptEvent {
    /// An attempt began. A detail.
    Started {
        /// Its number, from 1.
        attempt: u32,
        /// The endpoint that it goes to, as the configuration names it.
        endpoint: Arc<str>,
        /// The time until the nearest timeout around it.
        remaining: Option<Duration>,
    },
    /// It goes once more, on another connection or to another endpoint.
    SentAgain {
        /// Its number, from 1.
        attempt: u32,
        /// Why.
        cause: SentAgainCause,
    },
    /// An attempt ended.
    Finished {
        /// Its number, from 1.
        attempt: u32,
        /// How it ended.
        outcome: AttemptOutcome,
        /// How long it took.
        elapsed: Duration,
    },
}

/// Something happened to a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum ConditionEvent {
    /// It was asked about an outcome. A detail.
    Asked {
        /// What for.
        slot: Slot,
        /// The component that was asked; `None` if the lists of the configuration answered.
        component: Option<Arc<str>>,
        /// Whether the component failed to answer, and its `on_error` did.
        on_error: bool,
        /// Whether it takes the outcome.
        handled: bool,
    },
}
