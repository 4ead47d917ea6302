//! A request and its response on a stream.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use fusebox_resilience::{Error, ResponseBody, clock};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body;

use super::body::{StreamBody, Upload};
use super::outgoing::{OutgoingBody, SentAs};
use super::session::Session;
use super::{request, response, tunnel};
use crate::handler::{Begun, ClientBody, ClientResponse};
use crate::interim;
use crate::reply::Unread;

/// How many interim responses go on within an exchange.
const MOST_HINTS: u32 = 8;

/// A stream whose request is taken on.
pub(super) struct StreamExchange {
    begun: Result<Begun, ClientResponse<ResponseBody>>,
    respond: SendResponse<Bytes>,
    is_head: bool,
    /// `None`: the request has no body.
    upload: Option<Rc<Upload>>,
    /// What its client says in the tunnel that it asks for.
    tunnel: Option<RecvStream>,
}

impl StreamExchange {
    /// Takes a request on, whatever becomes of it.
    pub(super) fn begin(
        session: &Rc<Session>,
        request: Request<h2::RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let (parts, stream) = request.into_parts();
        let is_head = parts.method == Method::HEAD;
        let wants_tunnel = parts.method == Method::CONNECT;
        let handler = &session.shared().handler;
        let head = match request::head(parts) {
            Ok(head) => head,
            Err(fault) => {
                let answer = handler.refuse(Unread::Malformed(fault), session.hop());
                return Self { begun: Err(answer), respond, is_head, upload: None, tunnel: None };
            }
        };
        if wants_tunnel {
            let begun = Ok(handler.begin(head, None::<StreamBody>, session.hop()));
            return Self { begun, respond, is_head, upload: None, tunnel: Some(stream) };
        }
        let upload = (!stream.is_end_stream()).then(Rc::<Upload>::default);
        let body = upload.clone().map(|upload| {
            upload.is_awaited.set(expects_continue(&head.headers));
            let length = request::length(&head.headers);
            let limit = session.shared().limits.request_timeout;
            let end = limit.map(|limit| clock::now() + limit.0);
            StreamBody::new(stream, session.clone(), upload, length, end)
        });
        let begun = handler.begin(head, body, session.hop());
        if let Some(upload) = &upload {
            upload.idle_timeout.set(begun.grpc_idle_timeout());
        }
        Self { begun: Ok(begun), respond, is_head, upload, tunnel: None }
    }

    /// Answers it. Dropping the future cancels the call.
    #[expect(
        clippy::manual_async_fn,
        reason = "what an `async fn` is given has room in its future twice"
    )]
    pub(super) fn run(self, session: Rc<Session>) -> impl Future<Output = ()> {
        async move {
            let Self { begun, mut respond, is_head, upload, tunnel } = self;
            let sent = match begun {
                Ok(begun) => match answer(begun, &mut respond, upload.as_deref(), &session).await {
                    Some(answer) if answer.status == StatusCode::SWITCHING_PROTOCOLS => {
                        // Boxed to keep the future small: few streams are tunnels.
                        Box::pin(switch(answer, respond, tunnel, session.clone())).await
                    }
                    Some(answer) => {
                        send(answer, respond, is_head, upload.as_deref(), &session).await
                    }
                    None => SentAs::GivenUp,
                },
                Err(answer) => send(answer, respond, is_head, None, &session).await,
            };
            if sent == SentAs::GivenUp {
                session.link().gave_up();
            }
        }
    }
}

fn expects_continue(headers: &HeaderMap) -> bool {
    let mut said = headers.get_all(header::EXPECT).iter();
    said.any(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

/// `None`: the client no longer wants it.
async fn answer(
    begun: Begun,
    respond: &mut SendResponse<Bytes>,
    upload: Option<&Upload>,
    session: &Session,
) -> Option<ClientResponse<ClientBody>> {
    let mut answer = pin!(session.shared().handler.answer(begun));
    let mut hints = 0;
    poll_fn(|cx| {
        if !session.take_poll(cx) {
            return Poll::Pending;
        }
        let is_given_up = respond.poll_reset(cx).is_ready();
        if is_given_up {
            return Poll::Ready(None);
        }
        interim::collect();
        let polled = answer.as_mut().poll(cx);
        let heads = interim::collected();
        if let Some(upload) = upload
            && upload.is_due.take()
            && upload.is_awaited.take()
        {
            inform(respond, StatusCode::CONTINUE, HeaderMap::new());
        }
        for head in heads {
            if hints < MOST_HINTS && !session.link().is_blocked() {
                hints += 1;
                inform(respond, head.status, head.headers);
            }
        }
        polled.map(|answer| {
            if let Some(upload) = upload {
                upload.is_answered.set(true);
            }
            Some(answer)
        })
    })
    .await
}

/// Sends an interim response. Nothing depends on it.
fn inform(respond: &mut SendResponse<Bytes>, status: StatusCode, headers: HeaderMap) {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    let mut interim = Response::new(());
    *interim.status_mut() = status;
    *interim.headers_mut() = headers;
    response::strip(interim.headers_mut());
    interim.headers_mut().remove(header::CONTENT_LENGTH);
    respond.send_informational(interim).ok();
}

/// Goes on as a tunnel.
async fn switch(
    answer: ClientResponse<ClientBody>,
    mut respond: SendResponse<Bytes>,
    tunnel: Option<RecvStream>,
    session: Rc<Session>,
) -> SentAs {
    let Some(stream) = tunnel else {
        // Nobody has asked for it.
        respond.send_reset(Reason::INTERNAL_ERROR);
        return SentAs::Broken;
    };
    match is_wanted(&mut respond, &session).await {
        true => tunnel::carry(answer, respond, stream, session).await,
        false => SentAs::GivenUp,
    }
}

/// Waits until a head may go out: they wait, too, as long as the client takes nothing. `false`: the
/// client no longer wants it.
async fn is_wanted(respond: &mut SendResponse<Bytes>, session: &Session) -> bool {
    let mut waits = None;
    let is_wanted = poll_fn(|cx| {
        if waits.is_none() && !session.link().is_blocked() {
            // If the client does not want it, the head can't be sent.
            return Poll::Ready(true);
        }
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(false);
        }
        session.link().poll_flushed(&mut waits, cx).map(|()| true)
    });
    is_wanted.await
}

async fn send<B>(
    answer: ClientResponse<B>,
    mut respond: SendResponse<Bytes>,
    is_head: bool,
    upload: Option<&Upload>,
    session: &Session,
) -> SentAs
where
    B: Body<Data = Bytes, Error = Error> + Unpin,
{
    if !is_wanted(&mut respond, session).await {
        return SentAs::GivenUp;
    }
    let date = session.shared().dates.now();
    let (head, body, is_whole) = response::head(answer, is_head, date);
    // Nobody but an upgrade, which there is none of, has another one.
    if head.status().is_informational() {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return SentAs::Broken;
    }
    let Ok(stream) = respond.send_response(head, is_whole) else { return SentAs::GivenUp };
    // A call by gRPC whose request is still open.
    let stream_of = upload.filter(|upload| upload.idle_timeout.get().is_some());
    let mut pace = session.pace();
    if stream_of.is_some() {
        pace.be_lenient();
    }
    let mut outgoing = OutgoingBody::new(stream, body, is_whole, pace);
    poll_fn(|cx| {
        if !session.take_poll(cx) {
            return Poll::Pending;
        }
        let polled = outgoing.poll_send(session, cx);
        if let Some(upload) = stream_of
            && outgoing.take_moved()
        {
            upload.answered_at.set(Some(clock::now()));
        }
        polled
    })
    .await
}
