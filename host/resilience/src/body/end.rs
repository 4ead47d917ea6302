//! How a response body ends, and who wants to know.

use std::fmt;

use super::request::RequestBody;
use crate::error::{ErrorKind, Origin};
use crate::grpc::GrpcStatus;

/// How a response body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// All of it came.
    Whole,
    /// It broke off or stalled.
    Broken(ErrorKind),
    /// All of it came, and its trailers say, with this status, that the call by gRPC has failed.
    Failed(GrpcStatus),
    /// Nobody wanted the rest of it.
    Discarded,
}

impl BodyEnd {
    /// Its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole | Self::Failed(_) => "whole",
            Self::Broken(_) => "broken",
            Self::Discarded => "discarded",
        }
    }

    /// What makes a failure of a response whose head was none.
    pub(crate) fn late_failure(self) -> Option<LateFailureCause> {
        match self {
            Self::Broken(kind) => Some(LateFailureCause::Broken(kind)),
            Self::Failed(status) => Some(LateFailureCause::Grpc(status)),
            Self::Whole | Self::Discarded => None,
        }
    }
}

/// What makes a failure of a response whose head was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateFailureCause {
    /// Its body broke off or stalled.
    Broken(ErrorKind),
    /// Its trailers say so, with this status.
    Grpc(GrpcStatus),
    /// A component says so that has seen its trailers.
    Trailers,
}

impl LateFailureCause {
    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Broken(kind) => kind.failure().name(),
            Self::Grpc(status) => status.name(),
            Self::Trailers => "trailers",
        }
    }

    /// Somebody else than the upstream is to blame. What a server says in trailers it says itself.
    pub(crate) fn is_of_others(self, request: &RequestBody) -> bool {
        match self {
            Self::Broken(kind) => {
                kind.origin() != Origin::Upstream || request.starved().is_long_owed()
            }
            Self::Grpc(_) | Self::Trailers => false,
        }
    }
}

impl fmt::Display for LateFailureCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(kind) => kind.fmt(f),
            Self::Grpc(status) => write!(f, "grpc {}: {}", status.number(), status.name()),
            Self::Trailers => f.write_str(self.name()),
        }
    }
}

/// Waits for the end of a response body. Dropped without having heard of it: the call was dropped,
/// with the response on its way to the client.
pub trait OnEnd {
    /// The body has come to its end, or the client has left (`Discarded`).
    fn on_end(self: Box<Self>, end: BodyEnd);
}

/// Several, one after the other.
impl OnEnd for (Box<dyn OnEnd>, Box<dyn OnEnd>) {
    fn on_end(self: Box<Self>, end: BodyEnd) {
        let (first, second) = *self;
        first.on_end(end);
        second.on_end(end);
    }
}
