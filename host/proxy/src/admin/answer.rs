//! The forms of an answer of the admin listener.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;

/// An answer, whole.
pub(super) type Answer = Response<Full<Bytes>>;

/// Text.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> Answer {
    let mut response = text(status, format!("{value:#}\n"));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal that says which methods are allowed.
pub(super) fn not_allowed(allow: &'static str) -> Answer {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("{allow} only\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
