//! A tunnel on a stream, which an upstream opens to an extended CONNECT (RFC 8441).
//!
//! To those who asked for it, it is what a switch of protocols is over HTTP/1.1.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fusebox_resilience::{Call, Error, ErrorKind, Response, ResponseBody};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use tokio::io::AsyncWrite;

use super::connection::StreamPlace;
use super::exchange::{poll_head, respond, unsent};
use super::failure::Lost;
use crate::config::UpstreamSettings;
use crate::headers;
use crate::stream_side::StreamSide;
use crate::tunnel::{SwitchedConnection, TunnelSide};
use crate::websocket;

/// Asks for a tunnel and awaits the response's head. Dropped before, it resets the stream.
///
/// # Errors
/// As of a request.
pub(in crate::upstream) async fn open(
    place: StreamPlace,
    head: Request<()>,
    call: &Call,
    settings: &UpstreamSettings,
) -> Result<Response, Lost> {
    let (mut response, mut sending) = place.send(head, false).map_err(unsent)?;
    let mut interim = 0;
    let head = poll_fn(|cx| poll_head(&mut response, &mut interim, &place, cx));
    let Ok(head) = call.timeout(settings.response_timeout.0, head).await else {
        let late = Error::new(ErrorKind::Timeout).with_source("no response in time");
        return Err(Lost::Failed(late));
    };
    let head = head?;
    place.connection().note_answer();
    let Some(protocol) = call.head().headers.get(header::UPGRADE).filter(|_| {
        // Anything else is an answer as to any request.
        head.status().is_success()
    }) else {
        sending.send_data(Bytes::new(), true).ok();
        return Ok(respond(head, place, None, call, settings));
    };
    let (head, receiving) = head.into_parts();
    let mut headers = head.headers;
    switch(&mut headers, protocol, &call.head().headers);
    let side = UpstreamSide { stream: StreamSide::new(sending, receiving), _place: place };
    let connection = SwitchedConnection {
        side: Box::new(side),
        early: BytesMut::new(),
        protocol: protocol.clone(),
        idle_timeout: Duration::default(),
    };
    let body = ResponseBody::tunnel(Box::new(connection));
    Ok(Response::new(StatusCode::SWITCHING_PROTOCOLS, headers, body))
}

/// Makes the headers those of a switch to what was `asked` for.
fn switch(headers: &mut HeaderMap, protocol: &HeaderValue, asked: &HeaderMap) {
    headers::strip_hop_by_hop(headers);
    headers.insert(header::UPGRADE, protocol.clone());
    if websocket::is_websocket(protocol)
        && let Some(key) = asked.get(websocket::KEY)
    {
        headers.insert(websocket::ACCEPT, websocket::accept(key));
    }
}

/// The upstream's side, which has its place on the connection.
struct UpstreamSide {
    stream: StreamSide,
    _place: StreamPlace,
}

impl TunnelSide for UpstreamSide {
    fn poll_read(
        &mut self,
        buffer: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_read(buffer, cx)
    }

    fn writer(&mut self) -> Pin<&mut dyn AsyncWrite> {
        self.stream.writer()
    }
}
