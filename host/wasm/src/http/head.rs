//! The heads of both messages: the client's request as the guest gets it, and the guest's response
//! as the client gets it.

use bytes::Bytes;
use fusebox_resilience::{Exchange, is_set_by_host};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body::Body as _;
use http_body_util::Empty;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::convert::{MAX_HEADERS, may_have_body};
use crate::wasi::console::Console;

/// A request without a body, as the guest gets it.
pub(super) type GuestRequest = http::Request<Empty<Bytes>>;

/// A response as the guest gives it.
pub(super) type GuestResponse = http::Response<HyperOutgoingBody>;

/// The prefix of the headers that describe the failure. Those of the client are dropped.
const OURS: &str = "fusebox-";

/// The client's request without its body; headers describe the failure.
pub(super) fn request(seen: &Exchange<'_>) -> GuestRequest {
    let head = seen.call.head();
    let mut headers = HeaderMap::with_capacity(head.headers.len() + 8);
    for (name, value) in seen.call.headers() {
        if !is_set_by_host(name) && *name != header::EXPECT && !name.as_str().starts_with(OURS) {
            headers.append(name, value.clone());
        }
    }
    if !headers.contains_key(header::HOST) {
        // HTTP/1.0 may do without, the guest's interface may not.
        headers.insert(header::HOST, HeaderValue::from_static(""));
    }
    let mut tell = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    match seen.outcome {
        Ok(response) => tell("fusebox-status", response.status.as_str()),
        Err(error) => tell("fusebox-failure", error.kind().failure().name()),
    }
    tell("fusebox-attempts", &seen.call.attempts().to_string());
    tell("fusebox-route", seen.call.route());
    tell("fusebox-policy", seen.policy);
    let mut request = http::Request::new(Empty::new());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.headers_mut() = headers;
    request
}

/// A response that can be sent.
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The announced length of the body.
    pub(super) length: Option<u64>,
    /// `None`: it has no body.
    pub(super) body: Option<HyperOutgoingBody>,
}

impl Answered {
    /// Takes the body, unless there is to be none. What only the host may set is left out of the
    /// headers, and so is the body of a status that has none, with a line on the console.
    ///
    /// # Errors
    /// The status or the number of headers is no answer.
    pub(super) fn new(
        head: Parts,
        body: &mut Option<HyperOutgoingBody>,
        console: &Console,
    ) -> Result<Self, String> {
        let (status, mut headers) = (head.status, head.headers);
        if !(200..=599).contains(&status.as_u16()) {
            return Err(format!("answered with status `{}`, expected 200 to 599", status.as_u16()));
        }
        if headers.len() > MAX_HEADERS {
            return Err(format!(
                "answered with {} headers, expected at most {MAX_HEADERS}",
                headers.len()
            ));
        }
        // The body is checked against it, so it can be announced again.
        let length = headers.remove(header::CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let refused: Vec<HeaderName> =
            headers.keys().filter(|name| is_set_by_host(name)).cloned().collect();
        for name in refused {
            console
                .note(&format!("header `{name}` of the response dropped: only the proxy sets it"));
            headers.remove(name);
        }
        let has_body = body.as_ref().is_some_and(|body| !body.is_end_stream()) && length != Some(0);
        if has_body && !may_have_body(status) {
            console.note(&format!("body of the response dropped: `{}` has none", status.as_u16()));
        }
        let body = if has_body && may_have_body(status) { body.take() } else { None };
        Ok(Self { status, headers, length, body })
    }
}
