//! Outgoing requests of guests, on the worker's side: an attempt each, on the connections that the
//! worker has to the host, with all that holds there.
//!
//! Whoever polls the guest polls these too, so nothing is spawned, and what the guest asks ends
//! with it. To the call that the guest answers they are nothing: they are no attempts of its route,
//! and no policy hears of them.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::{
    AttemptOutcome, Call, ComponentEvent, ComponentId, Error as CallError, ErrorKind, Exchange,
    Failure, ReplayLimit, Reporter, Request, RequestBody, Response, Scope, WayOut, clock,
    is_set_by_host,
};
use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, Uri, header};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use wasmtime_wasi_http::{Error, Result, WasiBody};

use super::fetched;
use super::outgoing::OutgoingRequest;
use crate::config::grant::HttpHost;
use crate::version::Version;
use crate::wasi::console::Console;

/// Of a request body, in bytes, to send it once more if a kept connection turns out to be dead.
const KEPT: usize = 64 << 10;

/// What a guest asks. Dropped, all of it ends.
pub(super) struct GuestRequests {
    receiver: mpsc::Receiver<OutgoingRequest>,
    under_way: FuturesUnordered<LocalBoxFuture<'static, ()>>,
    fetcher: Rc<Fetcher>,
}

impl GuestRequests {
    /// Those of a guest of `version` that answers `seen`.
    pub(super) fn new(
        receiver: mpsc::Receiver<OutgoingRequest>,
        version: &Version,
        seen: &Exchange<'_>,
        console: &Console,
    ) -> Self {
        let fetcher = Fetcher {
            way_out: WayOut::of(seen.call.worker()),
            reporter: seen.call.reporter().clone(),
            policy: seen.policy.clone(),
            component: version.id().clone(),
            console: console.clone(),
        };
        Self { receiver, under_way: FuturesUnordered::new(), fetcher: Rc::new(fetcher) }
    }

    /// Goes on with what was asked. There is nothing to wait for at its end.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(request)) = self.receiver.poll_recv(cx) {
            self.under_way.push(Box::pin(self.fetcher.clone().answer(request)));
        }
        while let Poll::Ready(Some(())) = self.under_way.poll_next_unpin(cx) {}
    }
}

/// Who asks, and for whose call.
struct Fetcher {
    way_out: Option<Rc<WayOut>>,
    reporter: Reporter,
    policy: Arc<str>,
    component: ComponentId,
    console: Console,
}

impl Fetcher {
    async fn answer(self: Rc<Self>, out: OutgoingRequest) {
        let OutgoingRequest { host, request, options, place, mut answer } = out;
        let asked = tokio::select! {
            biased;
            () = answer.closed() => return,
            asked = self.ask(&host, request, options.first_byte_timeout) => asked,
        };
        let (response, call) = match asked {
            Ok(asked) => asked,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let Response { status, headers, body, .. } = response;
        let (pieces, for_guest) = fetched::channel(body.size_hint(), place);
        let mut response = http::Response::new(for_guest);
        (*response.status_mut(), *response.headers_mut()) = (status, headers.into_map());
        if answer.send(Ok(response)).is_ok() {
            pieces.send(body, options.between_bytes_timeout).await;
        }
        // Until here a request body may still be on its way.
        drop(call);
    }

    /// The response head, and the call that it is of. Dropped before, it is cancelled.
    async fn ask(
        &self,
        host: &HttpHost,
        request: http::Request<WasiBody>,
        limit: Option<Duration>,
    ) -> Result<(Response, Call)> {
        let grant = host.to_string();
        let nobody = || Error::InternalError(Some("there is no way out".to_owned()));
        let way_out = self.way_out.as_ref().ok_or_else(nobody)?;
        let upstream = way_out.upstream(&grant).ok_or_else(nobody)?;
        let call = self.call(request, way_out)?;
        let mut told = AskedHost {
            fetcher: self,
            host: grant.as_str().into(),
            since: clock::now(),
            outcome: AttemptOutcome::Cancelled,
        };
        let scope = Scope::new(&**upstream);
        let attempt = upstream.attempt(&call, &scope);
        let outcome = match limit {
            None => attempt.await,
            Some(limit) => timeout(limit, attempt).await.unwrap_or_else(|_| {
                Err(CallError::new(ErrorKind::Timeout).with_source("no response in time"))
            }),
        };
        told.outcome = match &outcome {
            Ok(response) => AttemptOutcome::Response(response.status.as_u16()),
            Err(error) => AttemptOutcome::Failure(error.kind()),
        };
        drop(told);
        match outcome {
            Ok(response) => Ok((response, call)),
            Err(error) => {
                if let Some(words) = std::error::Error::source(&error)
                    && error.kind().failure() == Failure::Tls
                {
                    self.console.note(&format!("no TLS with {grant}: {words}"));
                }
                Err(for_guest(&error))
            }
        }
    }

    /// A call of its own, with the id of the one that led to it.
    fn call(&self, request: http::Request<WasiBody>, way_out: &WayOut) -> Result<Call> {
        let (mut head, body) = request.into_parts();
        let length = length(&head.headers);
        let unfit: Vec<_> =
            head.headers.keys().filter(|name| is_set_by_host(name)).cloned().collect();
        for name in unfit {
            head.headers.remove(name);
        }
        // The body is sent at once.
        head.headers.remove(header::EXPECT);
        // The authority is in the Host header.
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path.parse::<Uri>().map_err(|_| Error::HttpRequestUriInvalid)?;
        head.version = http::Version::HTTP_11;
        let of = self.reporter.request();
        let (id, route) = (of.id_header().clone(), of.route().clone());
        let request = Request::new(id, route, head, of.wall_clock());
        let limit = ReplayLimit { bytes: KEPT, is_for_attempts: false };
        let body = SentBody { body, length };
        let body = RequestBody::kept_in(Box::pin(body), limit, &Rc::default());
        Ok(Call::new(request, body, way_out.worker().clone()))
    }
}

/// What was asked, told once it has come to something.
struct AskedHost<'a> {
    fetcher: &'a Fetcher,
    host: Arc<str>,
    since: Instant,
    outcome: AttemptOutcome,
}

impl Drop for AskedHost<'_> {
    fn drop(&mut self) {
        let Fetcher { reporter, policy, component, .. } = self.fetcher;
        let event = ComponentEvent::Asked {
            component: component.clone(),
            host: self.host.clone(),
            outcome: self.outcome,
            elapsed: clock::now() - self.since,
        };
        reporter.emit(policy, event);
    }
}

/// The length that a guest announces; its interface holds it to that.
fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A request body as the guest makes it.
struct SentBody {
    body: WasiBody,
    length: Option<u64>,
}

impl Body for SentBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let incomplete = |error: Error| {
            CallError::new(ErrorKind::RequestIncomplete).with_source(error.to_string())
        };
        Pin::new(&mut self.body).poll_frame(cx).map_err(incomplete)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(|| self.body.size_hint(), SizeHint::with_exact)
    }
}

/// A failure in the words of the guest's interface.
fn for_guest(error: &CallError) -> Error {
    match error.kind() {
        ErrorKind::DnsError => Error::DnsError { rcode: None, info_code: None },
        ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        ErrorKind::Unroutable => Error::DestinationIpUnroutable,
        ErrorKind::ConnectionTimeout => Error::ConnectionTimeout,
        ErrorKind::TlsProtocolError => Error::TlsProtocolError,
        ErrorKind::TlsCertificateError => Error::TlsCertificateError,
        ErrorKind::TlsAlertReceived => {
            Error::TlsAlertReceived { alert_id: None, alert_message: None }
        }
        ErrorKind::ConnectionTerminated => Error::ConnectionTerminated,
        ErrorKind::ProtocolError | ErrorKind::RequestIncomplete => Error::HttpProtocolError,
        ErrorKind::Timeout => Error::HttpResponseTimeout,
        // As many connections, or attempts, as there may be.
        ErrorKind::BulkheadFull => Error::ConnectionLimitReached,
        kind => Error::InternalError(Some(kind.to_string())),
    }
}
