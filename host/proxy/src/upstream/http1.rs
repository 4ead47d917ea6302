//! An exchange over HTTP/1.1, on a connection that is leased for it.
//!
//! The exchange itself writes to and reads from the connection, with the codec of `fusebox-http1`;
//! there is no task or channel between them. Only a request body that is still being sent when the
//! response begins gets a task.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use fusebox_http1::{BodyDecoder, Decoded, ResponseFault, ResponseHead, ResponseHeadParser};
use fusebox_resilience::{
    Call, Error, ErrorKind, HandshakeFailure, Outcome, RequestBody, Response, ResponseBody,
};
use http::{HeaderMap, Method, StatusCode, Version, header};

use super::body::UpstreamBody;
use super::connection::UpstreamConnection;
use super::message::Message;
use super::pool::Lease;
use crate::buffers::Buffers;
use crate::config::UpstreamSettings;
use crate::headers;
use crate::interim;
use crate::sending::SendError;
use crate::tls::TlsFailure;
use crate::tunnel::SwitchedConnection;
use crate::websocket;

/// The room for a response head at first; most bodies begin in the same read.
const HEAD_READ: usize = 8 * 1024;

/// Progress of sending the request.
enum SendProgress {
    UnderWay,
    Whole,
    Broken(io::Error),
}

/// Why there is no response head.
enum NoResponse {
    /// The connection has ended or failed.
    Connection(Option<io::Error>),
    /// What arrived is not a valid response.
    Response(ResponseFault),
    /// The request's body failed.
    Request(Error),
}

/// Sends the message and reads the response. `None`: nothing of it was sent, or it was sent on
/// a kept connection that died, and is safe to repeat.
#[expect(
    clippy::manual_async_fn,
    reason = "what an `async fn` is given has room in its future twice"
)]
pub(super) fn talk<'a>(
    mut lease: Lease,
    message: &'a mut Message,
    call: &'a Call,
    settings: &'a UpstreamSettings,
) -> impl Future<Output = Option<Outcome>> + use<'a> {
    async move {
        let mut parser = ResponseHeadParser::new(
            settings.max_header.in_memory(),
            call.head().method == Method::HEAD,
        );
        let mut sending = SendProgress::UnderWay;
        let head = poll_fn(|cx| {
            if matches!(sending, SendProgress::UnderWay)
                && let Poll::Ready(sent) = lease.connection.poll_send(message, cx)
            {
                sending = match sent {
                    Ok(()) => SendProgress::Whole,
                    Err(SendError::Body(error)) => {
                        return Poll::Ready(Err(NoResponse::Request(error)));
                    }
                    // The upstream may have answered without reading the whole request.
                    Err(SendError::Io(error)) => SendProgress::Broken(error),
                };
            }
            poll_head(&mut lease.connection, &mut parser, message.buffers(), cx)
        });
        Some(match call.timeout(settings.response_timeout.0, head).await {
            Ok(Ok(head)) => respond(head, lease, sending, message, call, settings),
            Ok(Err(NoResponse::Connection(_)))
                if message.is_untouched()
                    || lease.is_kept && !parser.has_begun() && can_repeat(call) =>
            {
                return None;
            }
            Ok(Err(lost)) => Err(failed(lost, sending)),
            Err(_) => Err(Error::new(ErrorKind::Timeout).with_source("no response in time")),
        })
    }
}

fn poll_head(
    connection: &mut UpstreamConnection,
    parser: &mut ResponseHeadParser,
    buffers: &Buffers,
    cx: &mut Context<'_>,
) -> Poll<Result<ResponseHead, NoResponse>> {
    loop {
        connection.buffer.reserve(HEAD_READ);
        match ready!(connection.poll_read(cx)) {
            Ok(0) => return Poll::Ready(Err(NoResponse::Connection(None))),
            Ok(_) => {}
            Err(error) => return Poll::Ready(Err(NoResponse::Connection(Some(error)))),
        }
        let index = || buffers.take_index();
        let head = parser.parse_into(&mut connection.buffer, index, interim::came);
        if let Some(head) = head.map_err(NoResponse::Response)? {
            return Poll::Ready(Ok(head));
        }
    }
}

fn respond(
    head: ResponseHead,
    mut lease: Lease,
    sending: SendProgress,
    message: &mut Message,
    call: &Call,
    settings: &UpstreamSettings,
) -> Outcome {
    let ResponseHead { status, mut headers, framing, keep_alive } = head;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return switch(headers.into_map(), lease, &sending, call);
    }
    headers::strip_response(&mut headers);
    lease.keep_alive = keep_alive;
    let mut decoder = BodyDecoder::of_response(framing);
    let at_hand = lease.connection.buffer.len() as u64;
    let body = if decoder.remaining().is_some_and(|length| length <= at_hand) {
        let body = match decoder.decode(&mut lease.connection.buffer) {
            Ok(Decoded::Data(data)) => ResponseBody::full(data),
            _ => ResponseBody::empty(),
        };
        // A request body that is still being sent ends here, and so does its connection.
        if matches!(sending, SendProgress::Whole) {
            lease.give_back();
        }
        body
    } else {
        let mut request = RequestBody::empty();
        match sending {
            SendProgress::UnderWay => {
                lease.connection.send_rest_by_task(message.take_unsent());
                request = call.body().clone();
            }
            SendProgress::Whole => {}
            SendProgress::Broken(_) => lease.keep_alive = false,
        }
        ResponseBody::stream(Box::pin(UpstreamBody::new(
            decoder,
            lease,
            settings.body_timeout.0,
            request,
        )))
    };
    Ok(Response::new(status, headers, body))
}

/// The connection has switched to another protocol.
#[cold]
fn switch(mut headers: HeaderMap, lease: Lease, sending: &SendProgress, call: &Call) -> Outcome {
    let wrong = |words| Err(Error::new(ErrorKind::ProtocolError).with_source(words));
    let asked = &call.head().headers;
    if !asked.contains_key(header::UPGRADE) {
        return wrong("switched protocols without being asked");
    }
    let Some(protocol) = headers::switched_to(asked, &headers) else {
        return wrong("switched to another protocol than was asked for");
    };
    // A client of HTTP/1.1 has a key of its own, and looks itself.
    if call.head().version == Version::HTTP_2
        && websocket::is_websocket(&protocol)
        && let Some(key) = asked.get(websocket::KEY)
        && headers.get(websocket::ACCEPT) != Some(&websocket::accept(key))
    {
        return wrong("switched with a Sec-WebSocket-Accept that is not for our key");
    }
    // The rest of a request in the middle of another protocol would be a part of that.
    let SendProgress::Whole = sending else {
        return wrong("switched protocols before the request was sent");
    };
    headers::strip_hop_by_hop(&mut headers);
    headers.insert(header::UPGRADE, protocol.clone());
    let Some((side, early)) = lease.into_side() else {
        return wrong("switched protocols before the request was sent");
    };
    let connection =
        SwitchedConnection { side, early, protocol, idle_timeout: Duration::default() };
    let body = ResponseBody::tunnel(Box::new(connection));
    Ok(Response::new(StatusCode::SWITCHING_PROTOCOLS, headers, body))
}

/// Whether the upstream may get the request twice, and there is all of it.
fn can_repeat(call: &Call) -> bool {
    call.request().is_idempotent() && call.body().can_repeat()
}

fn failed(lost: NoResponse, sending: SendProgress) -> Error {
    match lost {
        NoResponse::Request(error) => error,
        NoResponse::Response(error) => Error::new(ErrorKind::ProtocolError).with_source(error),
        NoResponse::Connection(read) => {
            // What came tells more than that nothing can be sent any more.
            let cause = match (sending, read) {
                (_, Some(cause)) | (SendProgress::Broken(cause), _) => cause,
                _ => {
                    return Error::new(ErrorKind::ConnectionTerminated)
                        .with_source("closed before the response");
                }
            };
            match TlsFailure::of(&cause) {
                Some(TlsFailure { reason: HandshakeFailure::Alert, words }) => {
                    Error::new(ErrorKind::TlsAlertReceived).with_source(words)
                }
                _ => Error::new(ErrorKind::ConnectionTerminated).with_source(cause),
            }
        }
    }
}
