//! Peers that speak HTTP/2, without TLS.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use h2::client::{self, SendRequest};
use h2::server;
use http::{Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::{self, Runtime};
use tokio::time::timeout;

/// How long an answer is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// Serves a connection to the upstream.
pub(super) fn serve(
    stream: std::net::TcpStream,
    responses: &[Response<Bytes>],
    ready: &impl Fn() -> Result<()>,
) -> Result<()> {
    runtime()?.block_on(async {
        stream.set_nonblocking(true)?;
        let stream = TcpStream::from_std(stream)?;
        stream.set_nodelay(true)?;
        let mut connection = server::handshake(stream).await?;
        for response in responses.iter().cycle() {
            let Some(request) = connection.accept().await else { break };
            let (_, mut respond) = request?;
            ready()?;
            let (head, body) = response.clone().into_parts();
            let mut stream = respond.send_response(Response::from_parts(head, ()), false)?;
            stream.send_data(body, true)?;
        }
        Ok(())
    })
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

    /// Sends a request without a body, and returns the response's status.
    pub(super) fn ask(&mut self, request: &Request<()>) -> Result<u16> {
        let Self { runtime, requests } = self;
        let answered = async {
            let (response, _) = requests.send_request(request.clone(), true)?;
            let response = response.await?;
            let status = response.status();
            let mut body = response.into_body();
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data?.len())?;
            }
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
