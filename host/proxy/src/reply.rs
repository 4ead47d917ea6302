//! What a client gets when there is no upstream response: one table from [`ErrorKind`] to status
//! and words, and beside it the one to gRPC's status.
//!
//! The body is RFC 9457 (`application/problem+json`), the header `Proxy-Status` is RFC 9209, and
//! `Retry-After` is set when it is known. The client learns the kind of failure; causes and
//! internal names go to the log only. Who asks by gRPC gets a head with status 200 and gRPC's own
//! words: its clients make nothing of a body or another status.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use fusebox_http1::RequestFault;
use fusebox_resilience::{Behind, Error, ErrorKind, GrpcStatus, RequestFlaw, ResponseBody};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::{grpc, headers};

const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// A response that the proxy makes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no request.
    Unread(Unread),
    /// No route takes the request.
    NoRoute,
    /// The request's head is refused.
    Flawed(RequestFlaw),
    /// As many calls are in flight as may be.
    Busy {
        /// When the client may try again.
        retry_after: Duration,
    },
    /// A call failed.
    Failed {
        /// The kind of failure.
        kind: ErrorKind,
        /// What was behind it, if that was a failure too; else the same.
        last: ErrorKind,
        /// When the client may try again.
        retry_after: Option<Duration>,
    },
}

/// Why what a client has sent is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It is not valid.
    Malformed(RequestFault),
    /// Its head did not end in time.
    Slow,
    /// It is no TLS, which is spoken here.
    Plain,
    /// It does not begin with a header of the PROXY protocol, as it has to here.
    NotProxied,
}

impl Unread {
    /// Every one.
    pub fn all() -> impl Iterator<Item = Self> {
        RequestFault::ALL.map(Self::Malformed).into_iter().chain([
            Self::Slow,
            Self::Plain,
            Self::NotProxied,
        ])
    }

    /// Its word in log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed(fault) => fault.name(),
            Self::Slow => "slow-head",
            Self::Plain => "plain-http",
            Self::NotProxied => "proxy-header",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::Malformed(fault) => fault.status(),
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Plain | Self::NotProxied => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(fault) => fault.fmt(f),
            Self::Slow => f.write_str("request head incomplete"),
            Self::Plain => f.write_str("plain HTTP where TLS is spoken"),
            Self::NotProxied => f.write_str("no valid header of the PROXY protocol"),
        }
    }
}

impl From<&Error> for Refusal {
    fn from(error: &Error) -> Self {
        let kind = error.kind();
        let last = match error.behind() {
            Some(Behind::Failure(last)) if kind == ErrorKind::RetriesExceeded => last,
            _ => kind,
        };
        Self::Failed { kind, last, retry_after: error.retry_after() }
    }
}

impl From<RequestFlaw> for Refusal {
    fn from(flaw: RequestFlaw) -> Self {
        Self::Flawed(flaw)
    }
}

impl Refusal {
    /// The same, asking the client to stay away for longer by this part of the time.
    #[must_use]
    pub fn later(mut self, part: f64) -> Self {
        if let Self::Failed { retry_after: Some(after), .. } | Self::Busy { retry_after: after } =
            &mut self
        {
            *after += after.mul_f64(part);
        }
        self
    }

    /// The same for whom it is told in whole seconds: what is added is rounded by `chance`, 0 to 1,
    /// for a little of a second would always be a whole one.
    #[must_use]
    pub fn seconds_later(mut self, part: f64, chance: f64) -> Self {
        if let Self::Failed { retry_after: Some(after), .. } | Self::Busy { retry_after: after } =
            &mut self
        {
            let added = after.mul_f64(part) + Duration::from_secs_f64(chance);
            *after = Duration::from_secs(whole_seconds(*after) + added.as_secs());
        }
        self
    }

    /// The status code: the table.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unread(unread) => unread.status(),
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Flawed(flaw) => match flaw {
                RequestFlaw::Host | RequestFlaw::Path | RequestFlaw::MaxForwards => {
                    StatusCode::BAD_REQUEST
                }
                RequestFlaw::TargetLength => StatusCode::URI_TOO_LONG,
                RequestFlaw::Loop => StatusCode::LOOP_DETECTED,
                RequestFlaw::Expectation => StatusCode::EXPECTATION_FAILED,
                RequestFlaw::Misdirected => StatusCode::MISDIRECTED_REQUEST,
                RequestFlaw::Tunnel => StatusCode::NOT_IMPLEMENTED,
            },
            Self::Failed { kind, .. } => match kind {
                ErrorKind::Timeout | ErrorKind::ConnectionTimeout => StatusCode::GATEWAY_TIMEOUT,
                ErrorKind::DnsError
                | ErrorKind::ConnectionRefused
                | ErrorKind::Unroutable
                | ErrorKind::TlsProtocolError
                | ErrorKind::TlsCertificateError
                | ErrorKind::TlsAlertReceived
                | ErrorKind::ConnectionTerminated
                | ErrorKind::ProtocolError
                | ErrorKind::RetriesExceeded => StatusCode::BAD_GATEWAY,
                ErrorKind::CircuitOpen
                | ErrorKind::BulkheadFull
                | ErrorKind::Overloaded
                | ErrorKind::BudgetExceeded
                | ErrorKind::Exhausted => StatusCode::SERVICE_UNAVAILABLE,
                ErrorKind::RateLimited => StatusCode::TOO_MANY_REQUESTS,
                ErrorKind::RequestTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                ErrorKind::RequestIncomplete => StatusCode::REQUEST_TIMEOUT,
                ErrorKind::RequestInvalid => StatusCode::BAD_REQUEST,
                ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            },
        }
    }

    /// The status of gRPC: the other table. It has only those that gRPC's libraries give, too.
    pub fn grpc_status(self) -> GrpcStatus {
        match self {
            Self::NoRoute => GrpcStatus::Unimplemented,
            Self::Busy { .. } => GrpcStatus::ResourceExhausted,
            Self::Unread(_) | Self::Flawed(_) => GrpcStatus::Internal,
            Self::Failed { last, .. } => match last {
                ErrorKind::Timeout => GrpcStatus::DeadlineExceeded,
                ErrorKind::DnsError
                | ErrorKind::ConnectionRefused
                | ErrorKind::Unroutable
                | ErrorKind::ConnectionTimeout
                | ErrorKind::TlsProtocolError
                | ErrorKind::TlsCertificateError
                | ErrorKind::TlsAlertReceived
                | ErrorKind::ConnectionTerminated
                | ErrorKind::CircuitOpen
                | ErrorKind::BudgetExceeded
                | ErrorKind::RetriesExceeded => GrpcStatus::Unavailable,
                ErrorKind::BulkheadFull
                | ErrorKind::RateLimited
                | ErrorKind::Overloaded
                | ErrorKind::RequestTooLarge
                | ErrorKind::Exhausted => GrpcStatus::ResourceExhausted,
                ErrorKind::RequestIncomplete => GrpcStatus::Cancelled,
                ErrorKind::ProtocolError | ErrorKind::RequestInvalid | ErrorKind::Internal => {
                    GrpcStatus::Internal
                }
            },
        }
    }

    /// The error type of RFC 9209, section 2.3.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoRoute => "destination_not_found",
            Self::Flawed(RequestFlaw::Loop) => "proxy_loop_detected",
            Self::Unread(_) | Self::Flawed(_) => "http_request_error",
            Self::Busy { .. } => "http_request_denied",
            Self::Failed { last, .. } => last.name(),
        }
    }

    fn title(self) -> String {
        match self {
            Self::Unread(unread) => unread.to_string(),
            Self::NoRoute => "no route".to_owned(),
            Self::Busy { .. } => "too many requests in flight".to_owned(),
            Self::Flawed(flaw) => flaw.to_string(),
            Self::Failed { kind, .. } => kind.to_string(),
        }
    }

    /// The response, without the headers that all responses get, to a call that made so many
    /// attempts.
    pub fn response(self, request_id: &str, attempts: u32) -> http::Response<ResponseBody> {
        let (status, title) = (self.status(), self.title());
        // All words are constants and the request id has been checked, so nothing needs escaping.
        let body = format!(
            r#"{{"type":"about:blank","title":"{title}","status":{},"request_id":"{request_id}"}}"#,
            status.as_u16()
        );
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        self.put_proxy_status(&title, attempts, &mut headers);
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        let mut response = http::Response::new(ResponseBody::full(Bytes::from(body)));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// The same for a client that asks by gRPC, with a request of this content type: a head and
    /// nothing else.
    pub fn grpc_response(
        self,
        content_type: &HeaderValue,
        attempts: u32,
    ) -> http::Response<ResponseBody> {
        let title = self.title();
        let mut response = http::Response::new(ResponseBody::empty());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, content_type.clone());
        self.put_grpc_end(&title, headers);
        self.put_proxy_status(&title, attempts, headers);
        response
    }

    /// The same behind messages of an answer that has begun.
    pub fn grpc_trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::with_capacity(3);
        self.put_grpc_end(&self.title(), &mut trailers);
        trailers
    }

    fn put_grpc_end(self, title: &str, fields: &mut HeaderMap) {
        let status = HeaderValue::from(u16::from(self.grpc_status().number()));
        fields.insert(GrpcStatus::HEADER, status);
        fields.insert(grpc::MESSAGE, grpc::message(title));
        if let Some(after) = self.retry_after() {
            fields.insert(GRPC_PUSHBACK, HeaderValue::from(whole_millis(after)));
        }
    }

    fn put_proxy_status(self, title: &str, attempts: u32, headers: &mut HeaderMap) {
        let mut told = format!("fusebox; error={}; details=\"{title}\"", self.name());
        if attempts > 1 {
            told += &format!("; attempts={attempts}");
        }
        if let Ok(value) = HeaderValue::try_from(told) {
            headers.insert(headers::PROXY_STATUS, value);
        }
    }

    fn retry_after(self) -> Option<Duration> {
        match self {
            Self::Failed { retry_after, .. } => retry_after,
            Self::Busy { retry_after } => Some(retry_after),
            Self::Unread(_) | Self::NoRoute | Self::Flawed(_) => None,
        }
    }
}

/// Rounded up, and at least 1, so that the client does not come back too early.
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}

/// As `whole_seconds`.
fn whole_millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000).max(1);
    u64::try_from(millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: ErrorKind) -> (u16, &'static str) {
        let refusal = Refusal::from(&Error::new(kind));
        (refusal.status().as_u16(), refusal.name())
    }

    #[test]
    fn the_table_is_that_of_the_design() {
        for (kind, status, name) in [
            (ErrorKind::Timeout, 504, "http_response_timeout"),
            (ErrorKind::ConnectionRefused, 502, "connection_refused"),
            (ErrorKind::ConnectionTerminated, 502, "connection_terminated"),
            (ErrorKind::ProtocolError, 502, "http_protocol_error"),
            (ErrorKind::ConnectionTimeout, 504, "connection_timeout"),
            (ErrorKind::RetriesExceeded, 502, "http_request_error"),
            (ErrorKind::Exhausted, 503, "proxy_internal_error"),
            (ErrorKind::Internal, 500, "proxy_internal_error"),
            (ErrorKind::DnsError, 502, "dns_error"),
            (ErrorKind::TlsProtocolError, 502, "tls_protocol_error"),
            (ErrorKind::CircuitOpen, 503, "destination_unavailable"),
            (ErrorKind::BulkheadFull, 503, "connection_limit_reached"),
            (ErrorKind::RateLimited, 429, "http_request_denied"),
            (ErrorKind::RequestTooLarge, 413, "http_request_error"),
        ] {
            assert_eq!(refused(kind), (status, name), "{kind}");
        }
        assert_eq!(
            (Refusal::NoRoute.status().as_u16(), Refusal::NoRoute.name()),
            (404, "destination_not_found")
        );
    }

    #[test]
    fn retry_after_is_rounded_up_to_whole_seconds() {
        let error =
            Error::new(ErrorKind::CircuitOpen).with_retry_after(Some(Duration::from_millis(1200)));
        let response = Refusal::from(&error).response("id", 1);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        let later = |part, chance| {
            let later = Refusal::from(&error).seconds_later(part, chance).response("id", 1);
            later.headers()[header::RETRY_AFTER].clone()
        };
        // 0.24 s are one for a quarter of them.
        assert_eq!([later(0.2, 0.75), later(0.2, 0.77)], ["2", "3"]);
        assert_eq!([later(1.0, 0.75), later(1.0, 0.85)], ["3", "4"]);
        assert_eq!(later(0.0, 0.99), "2", "exact");
        assert_eq!(
            response.headers()[headers::PROXY_STATUS],
            "fusebox; error=destination_unavailable; details=\"circuit breaker open\""
        );
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
