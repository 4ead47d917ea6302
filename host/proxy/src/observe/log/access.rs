//! The access line. It is the one line that every request pays for, so it is put together from
//! whole pieces rather than field by field.

use std::time::Duration;

use fusebox_resilience::{
    BodyEnd, CallEvent, ClientCertificate, ErrorKind, Event, Failure, GrpcStatus, Origin,
    Provenance, Request,
};
use http::{HeaderMap, Method, StatusCode, Version, header};

use crate::observe::level::Level;
use crate::observe::line::{Line, SinceEpoch};

/// What [`CallEvent::Finished`] says.
pub(super) struct AccessLine<'a> {
    status: Option<u16>,
    failure: Option<ErrorKind>,
    grpc: Option<GrpcStatus>,
    error: Option<&'static str>,
    detail: Option<&'a str>,
    attempts: u32,
    end: Option<BodyEnd>,
    is_cut: bool,
    bytes: u64,
    received: u64,
    elapsed: Duration,
    /// The attempt that the answer comes from.
    provenance: Option<&'a Provenance>,
    /// Where it went, of several endpoints of its upstream.
    endpoint: Option<&'a str>,
}

impl<'a> AccessLine<'a> {
    /// The line about the end of a call; `None` for another event.
    pub(super) fn of(event: &'a CallEvent, about: &Event<'a>) -> Option<Self> {
        let &CallEvent::Finished {
            status,
            failure,
            grpc,
            error,
            ref detail,
            attempts,
            end,
            is_cut,
            bytes,
            received,
            elapsed,
        } = event
        else {
            return None;
        };
        let detail = detail.as_deref();
        let Event { provenance, endpoint, .. } = *about;
        let endpoint = endpoint.map(|endpoint| &**endpoint);
        Some(Self {
            status,
            failure,
            grpc,
            error,
            detail,
            attempts,
            end,
            is_cut,
            bytes,
            received,
            elapsed,
            provenance,
            endpoint,
        })
    }

    pub(super) fn level(&self) -> Level {
        match (self.grpc, self.status) {
            // Its status is 200, whatever has happened.
            (Some(grpc), Some(200)) => Level::of_grpc(grpc),
            (_, Some(status)) => Level::of(status),
            (_, None) if self.is_cut => Level::Warn,
            (_, None) => Level::Info,
        }
    }

    /// Writes the line between its braces.
    pub(super) fn write(&self, request: &Request, line: &mut Line<'_>) {
        let level = self.level();
        let status = self.status.and_then(|status| StatusCode::from_u16(status).ok());
        let arrived = SinceEpoch::of(request.started_at());
        // What stands in it twice is not made twice. It is now, but for what the wall clock was set
        // forth or back meanwhile.
        let now = line.time_text(arrived.after(self.elapsed));
        let arrived = line.time_text(arrived);
        line.piece("\"time\":").time(&now);
        line.piece(",\"level\":\"").piece(level.name()).piece("\",\"msg\":\"");
        self.message(status, line);
        // Ids and addresses are short, and have no character that would need an escape.
        line.piece("\",\"request_id\":\"").piece(request.id());
        line.piece("\",\"route\":\"");
        let route = line.noting(|line| line.text_value(request.route().as_bytes()));

        let head = request.head();
        let said = ToldHeaders::of(&head.headers);
        let host = said
            .host
            .unwrap_or_else(|| head.uri.authority().map_or("", |host| host.as_str()).as_bytes());
        line.piece("\",\"request\":{\"time\":").time(&arrived);
        line.piece(",\"method\":\"");
        match head.method {
            // Most requests are.
            Method::GET => line.piece("GET"),
            ref other => line.text_value(other.as_str().as_bytes()),
        };
        line.piece("\",\"host\":\"").text_value(host);
        line.piece("\",\"path\":\"").text_value(head.uri.path().as_bytes());
        line.piece("\",\"query\":\"").text_value(head.uri.query().unwrap_or_default().as_bytes());
        line.piece("\",\"route\":\"").again(route);
        line.piece("\",\"ip\":\"").piece(request.client_address());
        line.piece("\",\"referer\":\"").text_value(said.referer.unwrap_or_default());
        line.piece("\",\"user_agent\":\"").text_value(said.user_agent.unwrap_or_default());
        if head.version == Version::HTTP_2 {
            line.piece("\",\"protocol\":\"HTTP/2");
        }
        line.piece("\",\"length\":").number(said.length() + self.received);
        if let Some(ClientCertificate { subject, names }) = request.certificate() {
            line.open("certificate").text("subject", subject.as_bytes()).field("names", names);
            line.close();
        }

        line.piece("},\"response\":{\"time\":").time(&now);
        line.piece(",\"latency\":")
            .number(u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX));
        if let Some(status) = status {
            line.piece(",\"status\":").status(status);
        }
        if let Some(grpc) = self.grpc {
            line.piece(",\"grpc_status\":\"").piece(grpc.name()).piece("\"");
        }
        line.piece(",\"length\":").number(self.bytes);
        if let Some(end) = self.end {
            let end = if self.is_cut { "cut" } else { end.name() };
            line.piece(",\"end\":\"").piece(end).piece("\"");
        }
        line.piece("},\"attempts\":").number(self.attempts.into());
        if let Some(provenance) = self.provenance
            && self.comes_from_upstream()
        {
            line.field("attempt", provenance.attempt);
            if let Some(endpoint) = self.endpoint {
                line.text("endpoint", endpoint.as_bytes());
            }
            if let Some(address) = provenance.address {
                line.address(address);
            }
            if provenance.is_http2 {
                line.field("upstream_protocol", "HTTP/2");
            }
        }
        if let Some(error) = self.error {
            let failure = self.failure.map_or(Failure::Other, ErrorKind::failure);
            line.field("failure", failure.name()).field("error", error);
        }
        if let Some(detail) = self.detail {
            line.text("detail", detail.as_bytes());
        }
    }

    /// Whether the answer is a failure for which the client is not to blame.
    fn comes_from_upstream(&self) -> bool {
        match self.failure {
            Some(kind) => kind.origin() != Origin::Client,
            None => self.level() == Level::Error,
        }
    }

    /// As in `200: OK`, or in `grpc 14: unavailable`.
    fn message(&self, status: Option<StatusCode>, line: &mut Line<'_>) {
        let Some(status) = status else {
            line.piece(if self.is_cut { "cut by shutdown" } else { "client closed request" });
            return;
        };
        if let Some(grpc) = self.grpc {
            line.piece("grpc ").number(grpc.number().into()).piece(": ").piece(grpc.name());
            return;
        }
        line.status(status);
        if let Some(reason) = status.canonical_reason() {
            line.piece(": ").piece(reason);
        }
    }
}

/// What the line tells of a request's headers: the first of each name.
#[derive(Default)]
struct ToldHeaders<'a> {
    host: Option<&'a [u8]>,
    referer: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
}

impl<'a> ToldHeaders<'a> {
    /// To go through all of them costs less than to look each up.
    fn of(headers: &'a HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, value) in headers {
            let said = match *name {
                header::HOST => &mut said.host,
                header::REFERER => &mut said.referer,
                header::USER_AGENT => &mut said.user_agent,
                header::CONTENT_LENGTH => &mut said.content_length,
                _ => continue,
            };
            said.get_or_insert(value.as_bytes());
        }
        said
    }

    /// The announced length of the body.
    fn length(&self) -> u64 {
        let length = self.content_length.and_then(|length| str::from_utf8(length).ok());
        length.and_then(|length| length.parse().ok()).unwrap_or(0)
    }
}
