//! Outgoing requests of guests: HTTP/1.1 to granted hosts, over TLS if they say so, within fixed
//! limits.
//!
//! Each request has its own connection, which ends with the response body or with the guest, so no
//! later than the guest's deadline. Guests follow redirects themselves; each is checked against the
//! grants.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Method, Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody, WasiHttpHooks};

use crate::bounds::Bounds;
use crate::config::grant::{Grant, HttpHost};
use crate::wasi::console::Console;

/// How long resolving and connecting may take together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Requests of one instance that may be under way at once, until their responses have been read.
const CONCURRENT: usize = 8;
/// The longest response body, in bytes; it is never in the host's memory whole.
const LARGEST_BODY: u64 = 16 << 20;
/// The longest response head, in bytes.
const LARGEST_HEAD: usize = 64 << 10;
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
        tls: Option<Arc<ClientConfig>>,
    },
}

impl Outgoing {
    /// To no one.
    pub(crate) fn none(console: &Console) -> Self {
        Self { way: Way::None, console: console.clone() }
    }

    /// To no one, since it is only a trial.
    pub(super) fn on_trial(_: &Bounds, console: &Console) -> Self {
        Self { way: Way::OnTrial, console: console.clone() }
    }

    /// To whom the configuration grants.
    pub(super) fn granted(bounds: &Bounds, console: &Console) -> Self {
        let host = |grant: &Grant| match grant {
            Grant::Http(host) => Some(host.clone()),
            Grant::Env(_) => None,
        };
        let hosts = bounds.grants.iter().filter_map(host).collect();
        Self {
            way: Way::Granted {
                hosts,
                places: Arc::new(Semaphore::new(CONCURRENT)),
                tls: bounds.tls.clone(),
            },
            console: console.clone(),
        }
    }

    /// Where to, if the guest may.
    fn admit(&self, uri: &Uri, method: &Method) -> Result<Admitted> {
        let deny = |reason: &dyn fmt::Display| {
            self.console.note(&format!("request to {uri} denied: {reason}"));
            Error::HttpRequestDenied
        };
        let (hosts, places, tls) = match &self.way {
            Way::None => return Err(deny(&"it would have to wait, which a policy must not")),
            Way::OnTrial => return Err(deny(&"this is a trial")),
            Way::Granted { hosts, places, tls } => (hosts, places, tls),
        };
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(deny(&"only http and https are spoken here")),
        };
        // One that names a user is none: a user is no part of a host.
        let host = uri.authority().and_then(|it| HttpHost::parse(it.as_str(), is_secure));
        let host = host.ok_or(Error::HttpRequestUriInvalid)?;
        if !hosts.contains(&host) {
            return Err(deny(&format_args!("`grant = [\"{host}\"]` would allow it")));
        }
        if method == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let place =
            places.clone().try_acquire_owned().map_err(|_| Error::ConnectionLimitReached)?;
        Ok(Admitted { host, tls: tls.clone(), console: self.console.clone(), place })
    }
}

/// A request that may go out.
struct Admitted {
    host: HttpHost,
    tls: Option<Arc<ClientConfig>>,
    console: Console,
    place: OwnedSemaphorePermit,
}

/// What bytes go through.
trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for S {}

/// Drives the connection while the response body is read.
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
        let admitted = self.admit(request.uri(), request.method());
        Box::new(async move {
            let (response, connection) =
                exchange(request, admitted?, options.unwrap_or_default()).await?;
            let rest: FetchDriver = Box::new(async move {
                connection.await;
                Ok(())
            });
            Ok((response, rest))
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        WRITE
    }
}

/// Dropping it closes the connection.
async fn exchange(
    mut request: Request<WasiBody>,
    admitted: Admitted,
    options: RequestOptions,
) -> Result<(Response<WasiBody>, AbortOnDropJoinHandle<()>)> {
    let limit = options.connect_timeout.map_or(CONNECT_TIMEOUT, |asked| asked.min(CONNECT_TIMEOUT));
    let stream =
        timeout(limit, admitted.connect()).await.map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(LARGEST_HEAD).handshake(TokioIo::new(stream)).await?;
    // It ends with the response, whose body reports the error.
    let connection = spawn(async move { drop(connection.await) });
    // The authority is in the Host header.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    let response = sender.send_request(request);
    let response = match options.first_byte_timeout {
        Some(limit) => timeout(limit, response).await.map_err(|_| Error::HttpResponseTimeout)??,
        None => response.await?,
    };
    let body = |incoming| {
        FetchedBody { incoming, left: LARGEST_BODY, _place: admitted.place }.boxed_unsync()
    };
    Ok((response.map(body), connection))
}

impl Admitted {
    async fn connect(&self) -> Result<Box<dyn ByteStream>> {
        let Self { host, tls, console, .. } = self;
        let stream = connect(host).await?;
        if !host.is_secure() {
            return Ok(Box::new(stream));
        }
        let no_tls = || Error::InternalError(Some("there is no TLS here".to_owned()));
        let tls = TlsConnector::from(tls.clone().ok_or_else(no_tls)?);
        let name = ServerName::try_from(host.name().to_owned());
        let name = name.map_err(|_| Error::TlsCertificateError)?;
        match tls.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => {
                console.note(&format!("no TLS with {host}: {error}"));
                Err(tls_error(error))
            }
        }
    }
}

fn tls_error(error: io::Error) -> Error {
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        None => Error::Connect(error),
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some((*alert).into()),
            alert_message: alert.as_str().map(str::to_owned),
        },
        Some(_) => Error::TlsProtocolError,
    }
}

async fn connect(host: &HttpHost) -> Result<TcpStream> {
    let addresses = lookup_host(host.address()).await;
    let addresses = addresses.map_err(|_| Error::DnsError { rcode: None, info_code: None })?;
    let mut last = Error::DestinationNotFound;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Without it requests in small pieces wait for one another.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Err(error) => last = Error::Connect(error),
        }
    }
    Err(last)
}

/// A response body of limited length, which holds its permit until it ends.
struct FetchedBody {
    incoming: Incoming,
    left: u64,
    _place: OwnedSemaphorePermit,
}

impl Body for FetchedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        let Some(frame) = ready!(Pin::new(&mut self.incoming).poll_frame(cx)?) else {
            return Poll::Ready(None);
        };
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        Poll::Ready(Some(match self.left.checked_sub(length) {
            Some(left) => {
                self.left = left;
                Ok(frame)
            }
            None => Err(Error::HttpResponseBodySize(Some(LARGEST_BODY))),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
