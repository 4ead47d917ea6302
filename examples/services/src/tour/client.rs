//! The tour's own client: one connection, one request at a time, whole answers.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long an answer may take: the slowest story has one after thirteen seconds.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a body may be; `/metrics` is the longest.
const MOST: usize = 1 << 20;

/// A whole answer.
#[derive(Debug)]
pub(super) struct WholeAnswer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

/// A connection, which is closed when dropped.
#[derive(Debug)]
pub(super) struct TourConnection {
    host: HeaderValue,
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

impl TourConnection {
    pub(super) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("connect to `{address}`"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // What goes wrong here, the sender learns.
            let _ = connection.await;
        });
        Ok(Self { host: HeaderValue::try_from(address.to_string())?, sender, _driver: driver })
    }

    /// Sends a request whose URI is a path, and reads the whole answer.
    pub(super) async fn send(
        &mut self,
        mut request: Request<Full<Bytes>>,
    ) -> anyhow::Result<WholeAnswer> {
        request.headers_mut().insert(header::HOST, self.host.clone());
        let exchange = async {
            self.sender.ready().await?;
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = Limited::new(body, MOST)
                .collect()
                .await
                .map_err(anyhow::Error::from_boxed)?
                .to_bytes();
            let body = String::from_utf8_lossy(&body).into_owned();
            anyhow::Ok(WholeAnswer { status: head.status, headers: head.headers, body })
        };
        timeout(LIMIT, exchange).await.with_context(|| format!("no answer after {LIMIT:?}"))?
    }
}

/// Sends one request on a connection of its own.
pub(super) async fn send(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<WholeAnswer> {
    TourConnection::open(address).await?.send(request).await
}

/// Gets this path.
pub(super) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<WholeAnswer> {
    send(address, request(Method::GET, path, "")?).await
}

pub(super) fn request(
    method: Method,
    path: &str,
    body: &'static str,
) -> anyhow::Result<Request<Full<Bytes>>> {
    Ok(Request::builder()
        .method(method)
        .uri(path)
        .body(Full::new(Bytes::from_static(body.as_bytes())))?)
}
