//! Peers that speak HTTP/2, without TLS.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::{RecvStream, server};
use http::{HeaderMap, Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// Serves a connection to the upstream.
pub(super) fn serve(
    stream: std::net::TcpStream,
    responses: &[Response<Bytes>],
    trailers: Option<&HeaderMap>,
    ready: &impl Fn() -> Result<()>,
) -> Result<()> {
    runtime()?.block_on(async {
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        stream.set_nodelay(true)?;
        let mut connection = server::handshake(stream).await?;
        for response in responses.iter().cycle() {
            let Some(request) = connection.accept().await else { break };
            let (request, mut respond) = request?;
            tokio::select! {
                read = read(request.into_body()) => read?,
                // What reads the frames.
                closed = poll_fn(|cx| connection.poll_closed(cx)) => closed?,
            }
            ready()?;
            let (head, body) = response.clone().into_parts();
            let mut stream = respond.send_response(Response::from_parts(head, ()), false)?;
            stream.send_data(body, trailers.is_none())?;
            if let Some(trailers) = trailers {
                stream.send_trailers(trailers.clone())?;
            }
        }
        Ok(())
    })
}

/// Reads a body and its trailers away.
async fn read(mut body: RecvStream) -> Result<()> {
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    body.trailers().await?;
    Ok(())
}

/// A client with one connection.
#[derive(Debug)]
pub(crate) struct Http2Client {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
}

impl Http2Client {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let runtime = runtime()?;
        let requests = runtime.block_on(async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (requests, connection) = client::handshake(stream).await?;
            tokio::spawn(connection);
            anyhow::Ok(requests)
        })?;
        Ok(Self { runtime, requests })
    }

    /// Sends a request, and returns the response's status.
    pub(super) fn ask(&mut self, request: &Request<Bytes>) -> Result<u16> {
        let Self { runtime, requests } = self;
        let answered = async {
            let (head, body) = request.clone().into_parts();
            let is_whole = body.is_empty();
            let (response, mut stream) =
                requests.send_request(Request::from_parts(head, ()), is_whole)?;
            if !is_whole {
                stream.send_data(body, true)?;
            }
            let response = response.await?;
            let status = response.status();
            read(response.into_body()).await?;
            anyhow::Ok(status.as_u16())
        };
        match runtime.block_on(async { timeout(LIMIT, answered).await }) {
            Ok(status) => status,
            Err(_) => bail!("no response"),
        }
    }
}

fn runtime() -> Result<Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("a runtime")
}
