//! The access line. It is the one line that every request pays for, so it is put together from
//! whole pieces rather than field by field.

use std::time::Duration;

use fusebox_resilience::{Call, ErrorKind};
use http::{HeaderMap, HeaderName, StatusCode, header};

use super::line::{Line, Scratch, SinceEpoch};
use super::{Level, Log};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// What `CallFinished` says.
pub(super) struct Ended<'a> {
    pub(super) status: Option<u16>,
    pub(super) failure: Option<ErrorKind>,
    pub(super) detail: Option<&'a str>,
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
}

impl Log {
    pub(super) fn access(&self, call: &Call, ended: &Ended<'_>) {
        let level = ended.status.map_or(Level::Info, Level::of);
        if self.access && level >= self.level {
            Scratch::with(|scratch| {
                self.queue.push(scratch.written(|line| ended.write(level, call, line)))
            });
        }
    }
}

impl Ended<'_> {
    fn write(&self, level: Level, call: &Call, line: &mut Line<'_>) {
        let arrived = SinceEpoch::of(call.started_at());
        // It is now, but for what the wall clock was set forth or back meanwhile.
        let now = arrived.after(self.elapsed);
        line.piece("\"time\":").time(now);
        line.piece(",\"level\":\"").piece(level.name()).piece("\",\"msg\":\"");
        self.message(line);
        line.piece("\",\"request_id\":\"").text_value(call.id().as_bytes());
        line.piece("\",\"route\":\"").text_value(call.route().as_bytes());

        let head = call.head();
        let host = value(&head.headers, &header::HOST)
            .unwrap_or_else(|| head.uri.authority().map_or("", |host| host.as_str()).as_bytes());
        let text = |name| value(&head.headers, name).unwrap_or_default();
        line.piece("\",\"request\":{\"time\":").time(arrived);
        // A method is a token, of which no sign needs an escape.
        line.piece(",\"method\":\"").piece(head.method.as_str());
        line.piece("\",\"host\":\"").text_value(host);
        line.piece("\",\"path\":\"").text_value(head.uri.path().as_bytes());
        line.piece("\",\"query\":\"").text_value(head.uri.query().unwrap_or_default().as_bytes());
        line.piece("\",\"route\":\"").text_value(call.route().as_bytes());
        line.piece("\",\"ip\":\"").text_value(client_address(call));
        line.piece("\",\"referer\":\"").text_value(text(&header::REFERER));
        line.piece("\",\"user_agent\":\"").text_value(text(&header::USER_AGENT));
        line.piece("\",\"length\":").number(announced_length(&head.headers));

        line.piece("},\"response\":{\"time\":").time(now);
        line.piece(",\"latency\":")
            .number(u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX));
        if let Some(status) = self.status {
            line.piece(",\"status\":").number(status.into());
        }
        line.piece(",\"length\":").number(self.bytes);
        line.piece("},\"attempts\":").number(call.attempts().into());
        line.maybe("failure", self.failure.map(ErrorKind::name));
        if let Some(detail) = self.detail {
            line.text("detail", detail.as_bytes());
        }
    }

    /// As in `200: OK`.
    fn message(&self, line: &mut Line<'_>) {
        let Some(status) = self.status else {
            line.piece("client closed request");
            return;
        };
        line.number(status.into());
        if let Some(reason) =
            StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason())
        {
            line.piece(": ").piece(reason);
        }
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(|value| value.as_bytes())
}

fn announced_length(headers: &HeaderMap) -> u64 {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

/// The last element of `X-Forwarded-For`: the only one that we wrote ourselves.
fn client_address(call: &Call) -> &[u8] {
    let fields = call.headers().filter(|(name, _)| *name == FORWARDED_FOR);
    let addresses = fields.last().map_or(&[][..], |(_, value)| value.as_bytes());
    addresses.rsplit(|byte| *byte == b',').next().unwrap_or_default().trim_ascii()
}
