//! What happens on connections, to the server and on the admin listener.

use fusebox_resilience::{
    AdminEvent, CertificateEvent, ConnectionEvent, ConnectionLimit, Http2Fault, ServerEvent,
};

use super::say::Say;
use super::words::milliseconds;
use crate::observe::level::Level;

pub(super) fn connection(of: &ConnectionEvent, say: &impl Say) {
    match of {
        ConnectionEvent::Refused { client, status, reason, words, count: Some(count) } => {
            say.say(Level::Info, format_args!("Request refused: {words}"), |line| {
                line.field("reason", reason)
                    .field("status", status)
                    .field("ip", client)
                    .field("count", count);
            });
        }
        ConnectionEvent::Ended { client, limit, count: Some(count) } => {
            let (level, why) = match limit {
                ConnectionLimit::IdleTimeout => (Level::Debug, "no request came"),
                ConnectionLimit::BodyTimeout => (Level::Info, "it moved nothing for too long"),
                ConnectionLimit::MinRate => (Level::Info, "it was too slow"),
                ConnectionLimit::HeaderTimeout => (Level::Info, "its head took too long"),
                ConnectionLimit::RequestTimeout => (Level::Info, "its request took too long"),
                ConnectionLimit::MaxRequests => (Level::Debug, "it has had its requests"),
                ConnectionLimit::MaxAge => (Level::Debug, "it is old enough"),
                ConnectionLimit::MaxConnections => (Level::Warn, "its place was needed"),
                ConnectionLimit::MaxConnectionsPerAddress => {
                    (Level::Warn, "its address has too many")
                }
            };
            say.say(level, format_args!("Connection ended: {why}"), |line| {
                line.field("limit", limit.key()).field("ip", client).field("count", count);
            });
        }
        &ConnectionEvent::Secured { version, is_resumed } => {
            say.say(Level::Debug, "Connection secured", |line| {
                line.field("tls", version).field("resumed", is_resumed);
            });
        }
        ConnectionEvent::HandshakeFailed { client, reason, words, count: Some(count) } => {
            say.say(Level::Info, format_args!("TLS handshake failed: {words}"), |line| {
                line.field("reason", reason.name()).field("ip", client).field("count", count);
            });
        }
        ConnectionEvent::StreamRefused { client, count: Some(count) } => {
            say.say(Level::Info, "Request refused: its stream was reset", |line| {
                line.field("reason", ConnectionEvent::STREAM_REFUSED)
                    .field("ip", client)
                    .field("count", count);
            });
        }
        ConnectionEvent::StreamEnded { client, limit, count: Some(count) } => {
            let why = match limit {
                ConnectionLimit::BodyTimeout => "it moved nothing for too long",
                ConnectionLimit::RequestTimeout => "its request took too long",
                _ => "it was too slow",
            };
            say.say(Level::Info, format_args!("Stream ended: {why}"), |line| {
                line.field("limit", limit.key()).field("ip", client).field("count", count);
            });
        }
        ConnectionEvent::Http2Failed { client, fault, count: Some(count) } => {
            let (level, why) = match fault {
                Http2Fault::Protocol => (Level::Info, "what came is not HTTP/2"),
                Http2Fault::FlowControl => (Level::Info, "more came than there was room for"),
                Http2Fault::FrameSize => (Level::Info, "a frame is too long"),
                Http2Fault::Compression => (Level::Info, "its headers can't be read"),
                Http2Fault::Flood => (Level::Warn, "too much came"),
                Http2Fault::ResetFlood => (Level::Warn, "it gave up too many requests"),
                Http2Fault::PingFlood => (Level::Warn, "too many pings"),
                Http2Fault::SettingsFlood => (Level::Warn, "too many settings"),
                Http2Fault::PriorityFlood => (Level::Warn, "too many priorities"),
                Http2Fault::WindowUpdateFlood => (Level::Warn, "too many window updates"),
                Http2Fault::UnknownFlood => (Level::Warn, "too many unknown frames"),
                Http2Fault::PingUnanswered => (Level::Info, "it does not answer"),
            };
            say.say(level, format_args!("Connection ended: {why}"), |line| {
                line.field("fault", fault.name()).field("ip", client).field("count", count);
            });
        }
        // A moment after the last one: counted, and told with the next.
        ConnectionEvent::Refused { count: None, .. }
        | ConnectionEvent::StreamRefused { count: None, .. }
        | ConnectionEvent::StreamEnded { count: None, .. }
        | ConnectionEvent::Http2Failed { count: None, .. }
        | ConnectionEvent::Ended { count: None, .. }
        | ConnectionEvent::HandshakeFailed { count: None, .. } => {}
    }
}

pub(super) fn certificate(of: &CertificateEvent, say: &impl Say) {
    match of {
        CertificateEvent::Replaced { file, until } => {
            say.say(Level::Info, "Certificate replaced", |line| {
                let until = until.and_then(|until| jiff::Timestamp::try_from(until).ok());
                line.text("file", file.as_bytes()).maybe("until", until);
            });
        }
        CertificateEvent::Rejected { file, reason } => {
            say.say(Level::Error, format_args!("Certificate rejected: {reason}"), |line| {
                line.text("file", file.as_bytes());
            });
        }
    }
}

pub(super) fn server(of: &ServerEvent, say: &impl Say) {
    match *of {
        ServerEvent::Full { places, count: Some(count) } => {
            say.say(Level::Warn, "all places for connections are taken", |line| {
                line.field("max_connections", places).field("count", count);
            });
        }
        ServerEvent::HandshakesFull { places, count: Some(count) } => {
            say.say(Level::Warn, "all places for TLS handshakes are taken", |line| {
                line.field("max_handshakes", places).field("count", count);
            });
        }
        // A moment after the last one: counted, and told with the next.
        ServerEvent::Full { count: None, .. } | ServerEvent::HandshakesFull { count: None, .. } => {
        }
        ServerEvent::WorkerStalled { worker, silence } => {
            say.say(Level::Error, format_args!("Worker {worker} stalled"), |line| {
                line.field("worker", worker).field("silent_ms", milliseconds(silence));
            });
        }
        ServerEvent::WorkerResumed { worker, silence } => {
            say.say(Level::Warn, format_args!("Worker {worker} resumed"), |line| {
                line.field("worker", worker).field("silent_ms", milliseconds(silence));
            });
        }
        ServerEvent::WorkerLost { worker, silence } => {
            let message = format_args!("Worker {worker} lost: the process ends");
            say.say(Level::Error, message, |line| {
                line.field("worker", worker).maybe("silent_ms", silence.map(milliseconds));
            });
        }
    }
}

pub(super) fn admin(of: &AdminEvent, say: &impl Say) {
    match of {
        AdminEvent::Denied { client, request, reason, count: Some(count) } => {
            let reason = reason.name();
            say.say(Level::Warn, format_args!("Admin request denied: {reason}"), |line| {
                line.text("client", client.as_bytes())
                    .text("request", request.as_bytes())
                    .field("reason", reason)
                    .field("count", *count);
            });
        }
        AdminEvent::Changed { client, request, status } => {
            say.say(Level::Info, "Admin change", |line| {
                line.text("client", client.as_bytes())
                    .text("request", request.as_bytes())
                    .maybe("status", *status);
            });
        }
        AdminEvent::Crowded { count: Some(count) } => {
            say.say(Level::Warn, "Admin connections crowded out", |line| {
                line.field("count", *count);
            });
        }
        // A moment after the last one: counted, and told with the next.
        AdminEvent::Denied { count: None, .. } | AdminEvent::Crowded { count: None } => {}
    }
}
