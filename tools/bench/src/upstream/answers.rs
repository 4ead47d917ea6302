//! How the service answers, over either version of HTTP.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::StatusCode;

/// Bytes of a large body, in both directions.
pub(crate) const LARGE_BODY: usize = 64 * 1024;

/// The method of gRPC that is called.
pub(crate) const GRPC_METHOD: &str = "/bench.Bench/Say";

/// A message of gRPC, and what stands before it.
pub(crate) fn grpc_message() -> Vec<u8> {
    [&[0, 0, 0, 0, SMALL.len() as u8][..], SMALL].concat()
}

/// The answer to most requests.
pub(crate) const SMALL: &[u8] = br#"{"message": "hello, I am up!"}"#;

/// When everything is answered.
pub(super) const DATE: &str = "Thu, 01 Jan 2026 00:00:00 GMT";

/// What a service counts, and how it answers.
#[derive(Debug, Default)]
pub(super) struct ServiceState {
    pub(super) accepted: AtomicU64,
    pub(super) answers: Answers,
    /// Targets that were answered with 503 once.
    failed: Mutex<HashSet<Vec<u8>>>,
}

/// A response.
#[derive(Clone, Debug)]
pub(super) struct ServiceAnswer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    /// The whole in HTTP/1.1.
    pub(super) bytes: Vec<u8>,
}

/// The responses.
#[derive(Debug)]
pub(super) struct Answers {
    small: ServiceAnswer,
    large: ServiceAnswer,
    unavailable: ServiceAnswer,
}

impl Default for Answers {
    fn default() -> Self {
        let new = ServiceAnswer::new;
        Self {
            small: new(StatusCode::OK, "", SMALL),
            large: new(StatusCode::OK, "", &[b'x'; LARGE_BODY]),
            unavailable: new(StatusCode::SERVICE_UNAVAILABLE, "", br#"{"message": "I am down"}"#),
        }
    }
}

impl Answers {
    pub(super) fn to(&self, target: &[u8], state: &ServiceState) -> Cow<'_, ServiceAnswer> {
        let borrow = Cow::Borrowed;
        let target = std::str::from_utf8(target).unwrap_or_default();
        let mut parts = target.rsplit('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("bodies"), ..) => borrow(&self.large),
            (Some("unavailable"), ..) => borrow(&self.unavailable),
            (Some(_), Some("fail-once"), _) => {
                let mut failed = state.failed.lock().unwrap_or_else(PoisonError::into_inner);
                if failed.remove(target.as_bytes()) {
                    return borrow(&self.small);
                }
                failed.insert(target.into());
                borrow(&self.unavailable)
            }
            (Some(size), Some(count), Some("headers")) => {
                let (size, count) = (size.parse().unwrap_or(0), count.parse().unwrap_or(0));
                let headers: String =
                    (3..count).map(|n| format!("x-answer-{n}: {}\r\n", "a".repeat(size))).collect();
                Cow::Owned(ServiceAnswer::new(StatusCode::OK, &headers, b"{}"))
            }
            _ => borrow(&self.small),
        }
    }
}

impl ServiceAnswer {
    /// With these headers beside the usual ones.
    fn new(status: StatusCode, headers: &str, body: &[u8]) -> Self {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\ndate: {DATE}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n{headers}\r\n"
        );
        let bytes = [head.as_bytes(), body].concat();
        Self { status, body: Bytes::copy_from_slice(body), bytes }
    }
}
