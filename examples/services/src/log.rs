//! The log: JSON lines on stdout, named as Go's `slog` and its access log for chi name them.
//!
//! An [`Access`] is born with its request and writes its line when it is dropped, so that a request
//! that ends in any other way than with an answer has a line too: the client went away, or the
//! service closed the connection.

use std::io::Write;
use std::net::SocketAddr;

use fusebox_resilience::{GrpcStatus, is_grpc};
use http::{HeaderMap, HeaderName, StatusCode, header, request};
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

/// The header with the id of a request, which is in every log.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Logs where a service listens, and the seed of a random one.
pub fn listening(service: &str, address: SocketAddr, seed: Option<u64>) {
    #[derive(Serialize)]
    struct Listening<'a> {
        service: &'a str,
        address: SocketAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        seed: Option<u64>,
    }
    write(LineLevel::Info, "listening", Listening { service, address, seed });
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "UPPERCASE")]
enum LineLevel {
    Info,
    Warn,
    Error,
}

fn write(level: LineLevel, msg: &str, fields: impl Serialize) {
    #[derive(Serialize)]
    struct Line<'a, F> {
        time: String,
        level: LineLevel,
        msg: &'a str,
        #[serde(flatten)]
        fields: F,
    }
    let line = Line { time: Timestamp::now().to_string(), level, msg, fields };
    if let Ok(mut line) = serde_json::to_vec(&line) {
        line.push(b'\n');
        // A reader that has gone is no error: the service goes on.
        let _ = std::io::stdout().lock().write_all(&line);
    }
}

/// A request in flight, whose access line is written when this is dropped.
#[derive(Debug)]
pub(crate) struct Access {
    since: Instant,
    request: LoggedRequest,
    request_id: String,
    end: End,
    length: usize,
}

#[derive(Debug, Serialize)]
struct LoggedRequest {
    time: String,
    method: String,
    host: String,
    path: String,
    query: String,
    route: &'static str,
    ip: SocketAddr,
    referer: String,
    length: usize,
}

#[derive(Clone, Copy, Debug)]
enum End {
    ClientGone,
    Closed,
    Answered(StatusCode),
    AnsweredByGrpc(GrpcStatus),
}

impl Access {
    /// Begins when the request has arrived.
    pub(crate) fn begin(head: &request::Parts, route: &'static str, peer: SocketAddr) -> Self {
        Self {
            since: Instant::now(),
            request: LoggedRequest {
                time: Timestamp::now().to_string(),
                method: head.method.to_string(),
                host: host(head),
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                route,
                ip: peer,
                referer: text(&head.headers, header::REFERER),
                length: 0,
            },
            request_id: text(&head.headers, REQUEST_ID),
            end: End::ClientGone,
            length: 0,
        }
    }

    /// Counts bytes of the request's body.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.request.length += bytes;
    }

    /// Records the head of the answer, and the trailers that it will have. Its request id counts if
    /// the request had none.
    pub(crate) fn answered(
        &mut self,
        status: StatusCode,
        headers: &HeaderMap,
        trailers: Option<&HeaderMap>,
    ) {
        let said = || GrpcStatus::said(trailers.unwrap_or(headers));
        self.end = match is_grpc(headers).then(said).flatten() {
            Some(said) => End::AnsweredByGrpc(said),
            None => End::Answered(status),
        };
        if self.request_id.is_empty() {
            self.request_id = text(headers, REQUEST_ID);
        }
    }

    /// Counts bytes of the answer's body.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.length += bytes;
    }

    /// Records that there is no answer.
    pub(crate) fn closed(&mut self) {
        self.end = End::Closed;
    }
}

impl Drop for Access {
    fn drop(&mut self) {
        #[derive(Serialize)]
        struct Groups<'a> {
            request: &'a LoggedRequest,
            response: LoggedResponse,
            request_id: &'a str,
        }
        #[derive(Serialize)]
        struct LoggedResponse {
            time: String,
            /// In nanoseconds, as a `time.Duration` of Go.
            latency: u128,
            /// None: there was no answer.
            status: Option<u16>,
            length: usize,
        }
        let (level, msg, status) = match self.end {
            End::ClientGone => (LineLevel::Warn, "client gone".to_owned(), None),
            End::Closed => (LineLevel::Warn, "connection closed".to_owned(), None),
            End::Answered(status) => {
                let level = match status.as_u16() {
                    500.. => LineLevel::Error,
                    400.. => LineLevel::Warn,
                    _ => LineLevel::Info,
                };
                let reason = status.canonical_reason().unwrap_or("unknown status");
                (level, format!("{}: {reason}", status.as_u16()), Some(status.as_u16()))
            }
            End::AnsweredByGrpc(status) => {
                let level = match status {
                    GrpcStatus::Ok => LineLevel::Info,
                    GrpcStatus::Unimplemented | GrpcStatus::ResourceExhausted => LineLevel::Warn,
                    _ => LineLevel::Error,
                };
                let msg = format!("grpc {}: {}", status.number(), status.name());
                (level, msg, Some(StatusCode::OK.as_u16()))
            }
        };
        let response = LoggedResponse {
            time: Timestamp::now().to_string(),
            latency: self.since.elapsed().as_nanos(),
            status,
            length: self.length,
        };
        write(
            level,
            &msg,
            Groups { request: &self.request, response, request_id: &self.request_id },
        );
    }
}

/// The host that is asked, which HTTP/2 has in the target.
fn host(head: &request::Parts) -> String {
    let target = head.uri.authority().map(|authority| authority.to_string());
    target.unwrap_or_else(|| text(&head.headers, header::HOST))
}

fn text(headers: &HeaderMap, name: HeaderName) -> String {
    headers
        .get(name)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default()
}
