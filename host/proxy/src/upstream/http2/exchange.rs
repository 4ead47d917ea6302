//! An exchange over HTTP/2: a stream of a connection that it shares with others.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use fusebox_resilience::{AttemptBody, BodyHold, Call, Error, ErrorKind, Response, ResponseBody};
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, Method, Request, StatusCode, header};

use super::body::Http2Body;
use super::connection::{StreamPlace, Unsent};
use super::failure::Lost;
use super::upload::StreamUpload;
use crate::config::UpstreamSettings;
use crate::headers;
use crate::interim;

/// Interim responses (1xx) to one request.
const MOST_INTERIM: u32 = 100;

/// A request, as it is sent on a stream.
pub(in crate::upstream) struct Http2Request {
    pub(super) head: Request<()>,
    pub(super) body: AttemptBody,
    /// Whether the head is all of it.
    pub(super) is_bodiless: bool,
    /// Of what is sent again, so that nothing is forgotten before.
    pub(super) hold: Option<BodyHold>,
}

/// Sends the request and awaits the response's head. Dropped before, it resets the stream.
///
/// # Errors
/// There is no response. What was lost may be sent again, as [`Lost`] says.
pub(in crate::upstream) async fn talk(
    place: StreamPlace,
    request: Http2Request,
    call: &Call,
    settings: &UpstreamSettings,
) -> Result<Response, Lost> {
    let Http2Request { head, body, is_bodiless, hold } = request;
    let (mut response, stream) = place.send(head, is_bodiless).map_err(unsent)?;
    let mut upload =
        Some(StreamUpload::new(stream, body, is_bodiless, hold, place.connection().watch.clone()));
    let mut interim = 0;
    let head = poll_fn(|cx| {
        if let Some(sending) = &mut upload
            && let Poll::Ready(sent) = sending.poll_send(cx)
        {
            upload = None;
            sent.map_err(Lost::Failed)?;
        }
        poll_head(&mut response, &mut interim, &place, cx)
    });
    match call.timeout(settings.response_timeout.0, head).await {
        Ok(head) => {
            let head = head?;
            place.connection().note_answer();
            Ok(respond(head, place, upload, call, settings))
        }
        Err(_) => {
            Err(Lost::Failed(Error::new(ErrorKind::Timeout).with_source("no response in time")))
        }
    }
}

/// What becomes of a head that was not sent.
pub(super) fn unsent(unsent: Unsent) -> Lost {
    match unsent {
        Unsent::NoConnection => Lost::NotProcessed(
            Error::new(ErrorKind::ConnectionRefused).with_source("closed before anything was sent"),
        ),
        Unsent::Invalid(error) => Lost::Failed(Error::new(ErrorKind::Internal).with_source(error)),
    }
}

/// Awaits a response's head.
pub(super) fn poll_head(
    response: &mut ResponseFuture,
    interim: &mut u32,
    place: &StreamPlace,
    cx: &mut Context<'_>,
) -> Poll<Result<http::Response<RecvStream>, Lost>> {
    let invalid = |what: &'static str| {
        Poll::Ready(Err(Lost::Failed(Error::new(ErrorKind::ProtocolError).with_source(what))))
    };
    while let Some(head) = ready!(response.poll_informational(cx)) {
        let head = head.map_err(|error| Lost::new(error, place.connection(), *interim > 0))?;
        let (head, ()) = head.into_parts();
        *interim += 1;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            return invalid("switched protocols, which HTTP/2 does not know");
        }
        if *interim > MOST_INTERIM {
            return invalid("more than 100 interim responses");
        }
        interim::came(head.status, head.headers);
    }
    Pin::new(response).poll(cx).map_err(|error| Lost::new(error, place.connection(), *interim > 0))
}

/// The response of this head, whose body comes on its stream.
pub(super) fn respond(
    head: http::Response<RecvStream>,
    place: StreamPlace,
    upload: Option<StreamUpload>,
    call: &Call,
    settings: &UpstreamSettings,
) -> Response {
    let (head, stream) = head.into_parts();
    let (status, mut headers) = (head.status, head.headers);
    headers::strip_hop_by_hop(&mut headers);
    // These have no body. What comes of one all the same is not wanted.
    let is_bodiless = call.head().method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if is_bodiless || stream.is_end_stream() {
        ResponseBody::empty()
    } else {
        let length = length(&headers);
        // Whether somebody is still there, the connection sees to.
        let silence = call.request().grpc_idle_timeout().unwrap_or(settings.body_timeout.0);
        let mut body = Http2Body::new(stream, length, place, silence);
        if let Some(upload) = upload {
            body = body.with_upload(upload.by_task(), call.body().clone());
        }
        ResponseBody::stream(Box::pin(body))
    };
    Response::new(status, headers, body)
}

/// The length that a response says. That it says one, and that what comes is as long, is seen to
/// by the connection.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
