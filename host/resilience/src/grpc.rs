//! gRPC's statuses: their names, where they are said, and what an answer without one stands for.
//!
//! A call by gRPC ends with its status, which comes in the trailers, or in the head of an answer
//! that has nothing else. So what the head leaves open, the end of the body decides.

use std::fmt;

use fusebox_head::{FieldLookup, HeaderFields, text};
use http::{HeaderName, StatusCode, header};

use crate::config::Problems;

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
    pub fn said(headers: &impl FieldLookup) -> Option<Self> {
        headers.first(&Self::HEADER).map(Self::read)
    }

    /// The one that an answer without any stands for, by its status of HTTP (gRPC's
    /// doc/http-grpc-status-mapping.md).
    pub fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    fn read(value: &[u8]) -> Self {
        let digits = text(value).filter(|text| text.bytes().all(|it| it.is_ascii_digit()));
        let number: Option<usize> = digits.and_then(|digits| digits.parse().ok());
        number.and_then(|number| Self::ALL.get(number)).copied().unwrap_or(Self::Unknown)
    }
}

/// How a call by gRPC has ended, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GrpcOutcome {
    /// It is none.
    #[default]
    NotGrpc,
    /// Its end will say it.
    Open,
    /// With this status.
    Ended(GrpcStatus),
}

impl GrpcOutcome {
    /// What the head of an answer says. `is_whole`: there is nothing else.
    pub(crate) fn of_head(status: StatusCode, headers: &HeaderFields, is_whole: bool) -> Self {
        if let Some(said) = GrpcStatus::said(headers) {
            return Self::Ended(said);
        }
        // What is no answer of gRPC has no end that says something.
        if is_whole || status != StatusCode::OK || !is_grpc(headers) {
            return Self::Ended(GrpcStatus::of_http(status));
        }
        Self::Open
    }

    /// Whether it goes well, as far as it is known.
    pub(crate) fn is_good_so_far(self) -> bool {
        matches!(self, Self::Open | Self::Ended(GrpcStatus::Ok))
    }

    /// The status that it has ended with.
    pub fn status(self) -> Option<GrpcStatus> {
        match self {
            Self::Ended(status) => Some(status),
            Self::NotGrpc | Self::Open => None,
        }
    }
}

/// Whether an answer may be asked for again, as far as its server says (gRPC's proposal A6).
pub(crate) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A set of statuses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct GrpcStatuses(u32);

impl GrpcStatuses {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self(u32::MAX);
    /// A server that is not there for now.
    pub(crate) const UNAVAILABLE: Self = Self::NONE.with(GrpcStatus::Unavailable);
    /// The same, and one that has no room and says when to come back. Without that nobody knows
    /// whether it is a quota that will be used up for long.
    pub(crate) const RETRIABLE: Self = Self(Self::UNAVAILABLE.0 | Self::PUSHED_BACK);
    /// There is too much to do.
    pub(crate) const OVERLOADS: Self = Self::UNAVAILABLE.with(GrpcStatus::ResourceExhausted);

    /// `resource-exhausted` with a time to come back at.
    const PUSHED_BACK: u32 = 1 << GrpcStatus::ALL.len();

    const fn with(self, status: GrpcStatus) -> Self {
        Self(self.0 | 1 << status as u32)
    }

    /// Those of a list, or the default; problems go under `key`.
    pub(crate) fn build(
        list: Option<Vec<String>>,
        default: Self,
        key: &str,
        problems: &mut Problems,
    ) -> Self {
        let Some(list) = list else { return default };
        let mut statuses = Self::NONE;
        for (index, name) in list.iter().enumerate() {
            match GrpcStatus::ALL.into_iter().find(|status| status.name() == name) {
                Some(status) => statuses = statuses.with(status),
                None => {
                    let names = GrpcStatus::ALL.map(GrpcStatus::name).join(", ");
                    let message = format!("unknown status `{name}`; expected {names}");
                    problems.add(format!("{key}[{index}]"), message);
                }
            }
        }
        statuses
    }

    pub(crate) fn contains(self, status: GrpcStatus) -> bool {
        self.0 & (1 << status.number()) != 0
    }

    /// Whether an answer that has ended so is in it, by these headers.
    pub(crate) fn take(self, status: GrpcStatus, headers: &HeaderFields) -> bool {
        let is_pushed_back = || {
            status == GrpcStatus::ResourceExhausted
                && self.0 & Self::PUSHED_BACK != 0
                && headers.contains(&PUSHBACK)
        };
        self.contains(status) || is_pushed_back()
    }

    pub(crate) fn zip(self, other: Self, both: impl Fn(u32, u32) -> u32) -> Self {
        Self(both(self.0, other.0))
    }

    fn names(self) -> impl Iterator<Item = &'static str> {
        let statuses = GrpcStatus::ALL.into_iter().filter(move |status| self.contains(*status));
        let pushed_back = (self.0 & Self::PUSHED_BACK != 0 && self != Self::ALL)
            .then_some("resource-exhausted with pushback");
        statuses.map(GrpcStatus::name).chain(pushed_back)
    }
}

/// `unavailable, aborted`.
impl fmt::Display for GrpcStatuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Debug for GrpcStatuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Whether a message is one of gRPC, which says how the call ended in its trailers. gRPC-Web, which
/// says it in its body, is another protocol.
pub fn is_grpc(headers: &impl FieldLookup) -> bool {
    let kind = headers.first(&header::CONTENT_TYPE);
    let rest = kind.and_then(|kind| kind.split_at_checked(GRPC.len()));
    rest.is_some_and(|(kind, rest)| {
        kind.eq_ignore_ascii_case(GRPC) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
    })
}

const GRPC: &[u8] = b"application/grpc";

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

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
