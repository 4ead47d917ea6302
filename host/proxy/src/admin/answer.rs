//! Answers of the admin listener.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;

/// An answer.
pub(super) type AdminAnswer = Response<Full<Bytes>>;

/// An answer in plain text. It holds for now: a cache between must not say so later.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> AdminAnswer {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> AdminAnswer {
    let mut response = text(status, format!("{value:#}\n"));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A 405 with the allowed methods.
pub(super) fn not_allowed(allow: &'static str) -> AdminAnswer {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("{allow} only\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
