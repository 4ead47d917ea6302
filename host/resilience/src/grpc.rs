//! gRPC's statuses: their names, and what an answer without one stands for.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// How a gRPC call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum GrpcStatus {
    /// All is well.
    Ok,
    /// The client does not want it any more.
    Cancelled,
    /// Nobody knows.
    Unknown,
    /// The client sent what is wrong whatever the state of things.
    InvalidArgument,
    /// It took too long.
    DeadlineExceeded,
    /// What was asked for is not there.
    NotFound,
    /// What was to be made is there.
    AlreadyExists,
    /// The client may not do that.
    PermissionDenied,
    /// A quota, or room of some kind, is used up.
    ResourceExhausted,
    /// Things are not in the state that is needed.
    FailedPrecondition,
    /// Another call was in the way.
    Aborted,
    /// Past the end of what is there.
    OutOfRange,
    /// Nobody here does that.
    Unimplemented,
    /// Something is broken.
    Internal,
    /// Nobody is there for now.
    Unavailable,
    /// Data is lost.
    DataLoss,
    /// The client did not say who it is.
    Unauthenticated,
}

impl GrpcStatus {
    /// Every one, by number.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The header or trailer that says it.
    pub const HEADER: HeaderName = HeaderName::from_static("grpc-status");

    /// Its number on the wire.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Its word in configuration, log and metrics: gRPC's, in lower case and with hyphens.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
            Self::InvalidArgument => "invalid-argument",
            Self::DeadlineExceeded => "deadline-exceeded",
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::PermissionDenied => "permission-denied",
            Self::ResourceExhausted => "resource-exhausted",
            Self::FailedPrecondition => "failed-precondition",
            Self::Aborted => "aborted",
            Self::OutOfRange => "out-of-range",
            Self::Unimplemented => "unimplemented",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::DataLoss => "data-loss",
            Self::Unauthenticated => "unauthenticated",
        }
    }

    /// The one that headers or trailers say; `None`: they say none. What is no status of gRPC is
    /// `Unknown`, as it is for clients.
    pub fn said(headers: &HeaderMap) -> Option<Self> {
        headers.get(Self::HEADER).map(Self::read)
    }

    fn read(value: &HeaderValue) -> Self {
        let digits = value.to_str().ok().filter(|text| text.bytes().all(|it| it.is_ascii_digit()));
        let number: Option<usize> = digits.and_then(|digits| digits.parse().ok());
        number.and_then(|number| Self::ALL.get(number)).copied().unwrap_or(Self::Unknown)
    }
}

/// A set of statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GrpcStatuses(u32);

impl GrpcStatuses {
    /// False: there is none of this name.
    pub(crate) fn add(&mut self, name: &str) -> bool {
        let found = GrpcStatus::ALL.into_iter().find(|status| status.name() == name);
        found.is_some_and(|status| {
            self.0 |= 1 << status.number();
            true
        })
    }

    pub(crate) fn contains(self, status: GrpcStatus) -> bool {
        self.0 & (1 << status.number()) != 0
    }
}

/// Whether a message is one of gRPC, which says how the call ended in its trailers. gRPC-Web, which
/// says it in its body, is another protocol.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.split_at_checked(GRPC.len()));
    rest.is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

const GRPC: &[u8] = b"application/grpc";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_as_clients_read_it() {
        for (said, status) in [
            ("0", GrpcStatus::Ok),
            ("14", GrpcStatus::Unavailable),
            ("16", GrpcStatus::Unauthenticated),
            ("17", GrpcStatus::Unknown),
            ("-1", GrpcStatus::Unknown),
            ("+14", GrpcStatus::Unknown),
            ("", GrpcStatus::Unknown),
            ("unavailable", GrpcStatus::Unknown),
            ("99999999999999999999999", GrpcStatus::Unknown),
        ] {
            let value = HeaderValue::from_static(said);
            let headers = HeaderMap::from_iter([(GrpcStatus::HEADER, value)]);
            assert_eq!(GrpcStatus::said(&headers), Some(status), "{said}");
        }
        assert_eq!(GrpcStatus::said(&HeaderMap::new()), None);
        for (number, status) in GrpcStatus::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(status.number()), number);
        }
    }

    #[test]
    fn grpc_is_told_from_grpc_web() {
        let is_grpc = |kind| {
            let value = HeaderValue::from_static(kind);
            is_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
        };
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC; x=y"] {
            assert!(is_grpc(kind), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpc-web-text+proto", "text/html", ""] {
            assert!(!is_grpc(kind), "{kind}");
        }
    }
}
