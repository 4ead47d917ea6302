//! How much a line matters.

use fusebox_resilience::GrpcStatus;
use serde::Deserialize;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For somebody who looks for something.
    Debug,
    /// What the program is there for.
    Info,
    /// Somebody may want to act.
    Warn,
    /// Somebody should.
    Error,
}

impl Level {
    /// Its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    /// The level of an access line with this status.
    pub(crate) fn of(status: u16) -> Self {
        match status {
            500.. => Self::Error,
            400.. => Self::Warn,
            _ => Self::Info,
        }
    }

    /// The level of an access line with this status of gRPC.
    pub(crate) fn of_grpc(status: GrpcStatus) -> Self {
        match status {
            GrpcStatus::Ok => Self::Info,
            GrpcStatus::Unknown
            | GrpcStatus::DeadlineExceeded
            | GrpcStatus::Internal
            | GrpcStatus::Unavailable
            | GrpcStatus::DataLoss => Self::Error,
            GrpcStatus::Cancelled
            | GrpcStatus::InvalidArgument
            | GrpcStatus::NotFound
            | GrpcStatus::AlreadyExists
            | GrpcStatus::PermissionDenied
            | GrpcStatus::ResourceExhausted
            | GrpcStatus::FailedPrecondition
            | GrpcStatus::Aborted
            | GrpcStatus::OutOfRange
            | GrpcStatus::Unimplemented
            | GrpcStatus::Unauthenticated => Self::Warn,
        }
    }
}
