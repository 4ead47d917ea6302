//! Outgoing requests of guests, on the guest's side: whom it may ask, and how much at once.
//!
//! What may go out is handed to the worker ([`requests`](super::requests)), whose connections are
//! not the guest's. Guests follow redirects themselves; each is checked against the grants.

use std::fmt;
use std::sync::Arc;

use http::uri::Scheme;
use http::{Method, Request, Response, Uri};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use crate::bounds::Bounds;
use crate::config::grant::{Grant, HttpHost};
use crate::wasi::console::Console;

/// Requests of one instance that may be under way at once, until their responses have been read.
const CONCURRENT: usize = 8;
/// Bytes that a guest may write to a body at once: with the one that waits, what is in the host's
/// memory of it.
const WRITE: usize = 64 << 10;

/// The outgoing side of one instance.
pub(crate) struct Outgoing {
    way: Way,
    console: Console,
}

enum Way {
    /// In a call that must not wait.
    None,
    /// In a trial, which must not reach other hosts.
    OnTrial,
    Granted {
        hosts: Vec<HttpHost>,
        places: Arc<Semaphore>,
        /// As long as the places, so it never fills.
        requests: mpsc::Sender<OutgoingRequest>,
    },
}

/// A request that may go out.
pub(super) struct OutgoingRequest {
    pub(super) host: HttpHost,
    pub(super) request: Request<WasiBody>,
    pub(super) options: RequestOptions,
    /// Held until the response has been read.
    pub(super) place: OwnedSemaphorePermit,
    /// Closed once the guest does not wait any more.
    pub(super) answer: oneshot::Sender<Result<Response<WasiBody>>>,
}

impl Outgoing {
    /// To no one.
    pub(crate) fn none(console: &Console) -> Self {
        Self { way: Way::None, console: console.clone() }
    }

    /// To no one, since it is only a trial.
    pub(super) fn on_trial(console: &Console) -> Self {
        Self { way: Way::OnTrial, console: console.clone() }
    }

    /// To whom the configuration grants, with the other end of it.
    pub(super) fn granted(
        bounds: &Bounds,
        console: &Console,
    ) -> (Self, mpsc::Receiver<OutgoingRequest>) {
        let host = |grant: &Grant| match grant {
            Grant::Http(host) => Some(host.clone()),
            Grant::Env(_) => None,
        };
        let hosts = bounds.grants.iter().filter_map(host).collect();
        let (requests, receiver) = mpsc::channel(CONCURRENT);
        let places = Arc::new(Semaphore::new(CONCURRENT));
        let way = Way::Granted { hosts, places, requests };
        (Self { way, console: console.clone() }, receiver)
    }

    /// Sends what the guest may, and returns where its response will be.
    fn send(
        &self,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<oneshot::Receiver<Result<Response<WasiBody>>>> {
        let uri = request.uri();
        let deny = |reason: &dyn fmt::Display| {
            self.console.note(&format!("request to {uri} denied: {reason}"));
            Error::HttpRequestDenied
        };
        let (hosts, places, requests) = match &self.way {
            Way::None => return Err(deny(&"it would have to wait, which a policy must not")),
            Way::OnTrial => return Err(deny(&"this is a trial")),
            Way::Granted { hosts, places, requests } => (hosts, places, requests),
        };
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(deny(&"only http and https are spoken here")),
        };
        // One that names a user is none: a user is no part of a host.
        let host = host_of(uri, is_secure).ok_or(Error::HttpRequestUriInvalid)?;
        if !hosts.contains(&host) {
            return Err(deny(&format_args!("`grant = [\"{host}\"]` would allow it")));
        }
        if request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let place =
            places.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        let (answer, answered) = oneshot::channel();
        let out = OutgoingRequest { host, request, options, place, answer };
        requests.try_send(out).map_err(|_| Error::ConnectionLimitReached)?;
        Ok(answered)
    }
}

fn host_of(uri: &Uri, is_secure: bool) -> Option<HttpHost> {
    HttpHost::parse(uri.authority()?.as_str(), is_secure)
}

/// Works beside the response that it comes with: here, nothing does.
type FetchDriver = Box<dyn Future<Output = Result<()>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn default_scheme(&mut self) -> Option<Scheme> {
        Some(Scheme::HTTP)
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: FetchDriver,
    ) -> Box<dyn Future<Output = Result<(Response<WasiBody>, FetchDriver)>> + Send> {
        let answered = self.send(request, options.unwrap_or_default());
        Box::new(async move {
            // The worker has no answer only if it drops the guest too.
            let response = answered?.await.map_err(|_| Error::ConnectionTerminated)??;
            let rest: FetchDriver = Box::new(async { Ok(()) });
            Ok((response, rest))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE
    }
}
