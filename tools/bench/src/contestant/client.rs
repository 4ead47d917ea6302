//! Asks a contestant for something, in the way in which it is loaded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Version};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::upstream::{GRPC_METHOD, SMALL, grpc_message};

/// How many requests a connection of HTTP/2 has at once.
const STREAMS: usize = 8;

/// The name in certificates of contestants.
pub(super) const HOST: &str = "bench";

/// How a contestant is asked.
#[derive(Clone, Debug)]
pub(super) enum Client {
    Plain,
    Tls(Arc<ClientConfig>),
    Http2,
}

impl Client {
    /// The response to a `GET`, head and body.
    pub(super) async fn get(&self, address: SocketAddr, target: &str) -> Result<String> {
        let exchange = async {
            let stream = TcpStream::connect(address).await?;
            match self {
                Self::Plain => http1(stream, target).await,
                Self::Tls(config) => {
                    let connector = TlsConnector::from(config.clone());
                    let stream = connector.connect(ServerName::try_from(HOST)?, stream).await?;
                    http1(stream, target).await
                }
                Self::Http2 => http2(stream, target).await,
            }
        };
        let answer = tokio::time::timeout(Duration::from_secs(20), exchange).await;
        answer.context("it does not answer")?
    }

    /// Asks `times` times over a new connection, in each way that there is.
    pub(super) async fn ask_often(&self, address: SocketAddr, times: usize) -> Result<()> {
        let connect = || TcpStream::connect(address);
        match self {
            Self::Plain => often_http1(connect().await?, times).await,
            Self::Http2 => often_http2(connect().await?, times, true).await,
            Self::Tls(config) => {
                let host = ServerName::try_from(HOST)?;
                let connector = TlsConnector::from(config.clone());
                let stream = connector.connect(host.clone(), connect().await?).await?;
                often_http1(stream, times).await?;
                let mut config = ClientConfig::clone(config);
                config.alpn_protocols = vec![b"h2".into()];
                let connector = TlsConnector::from(Arc::new(config));
                often_http2(connector.connect(host, connect().await?).await?, times, false).await
            }
        }
    }
}

async fn http1(mut stream: impl AsyncRead + AsyncWrite + Unpin, target: &str) -> Result<String> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Some end without a word of TLS.
    let read = stream.read_to_end(&mut answer).await;
    if answer.is_empty() {
        read?;
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The head as it would be in HTTP/1.1.
async fn http2(stream: TcpStream, target: &str) -> Result<String> {
    let (mut requests, connection) = h2::client::handshake(stream).await?;
    let asking = async {
        let request = Request::get(format!("http://{HOST}{target}")).version(Version::HTTP_2);
        let (response, _) = requests.send_request(request.body(())?, true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut answer = format!("HTTP/1.1 {}\r\n", head.status);
        for (name, value) in &head.headers {
            answer += &format!("{name}: {}\r\n", value.to_str()?);
        }
        answer += "\r\n";
        while let Some(piece) = body.data().await {
            answer += &String::from_utf8_lossy(&piece?);
        }
        Ok(answer)
    };
    tokio::select! {
        answer = asking => answer,
        ended = connection => anyhow::bail!("it ends the connection: {ended:?}"),
    }
}

async fn often_http1(mut stream: impl AsyncRead + AsyncWrite + Unpin, times: usize) -> Result<()> {
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\n\r\n");
    let mut answer = Vec::new();
    for _ in 0..times {
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        while !answer.ends_with(SMALL) {
            ensure!(stream.read_buf(&mut answer).await? > 0, "it ends within an answer");
        }
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    Ok(())
}

/// With several requests at once; `has_grpc`: half of them are calls of gRPC.
async fn often_http2<S>(stream: S, times: usize, has_grpc: bool) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(connection);
    let mut asking = JoinSet::new();
    for stream in 0..STREAMS {
        let mut requests = requests.clone();
        asking.spawn(async move {
            for time in 0..times / STREAMS {
                requests = requests.ready().await?;
                ask_http2(&mut requests, has_grpc && (stream + time) % 2 == 0).await?;
            }
            Ok(())
        });
    }
    asking.join_all().await.into_iter().collect()
}

async fn ask_http2(requests: &mut SendRequest<Bytes>, is_grpc: bool) -> Result<()> {
    let (method, target) = if is_grpc { ("POST", GRPC_METHOD) } else { ("GET", "/") };
    let mut request = Request::builder().method(method).version(Version::HTTP_2);
    if is_grpc {
        request = request.header("content-type", "application/grpc").header("te", "trailers");
    }
    let request = request.uri(format!("http://{HOST}{target}")).body(())?;
    let (response, mut sending) = requests.send_request(request, !is_grpc)?;
    if is_grpc {
        sending.send_data(grpc_message().into(), true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    ensure!(head.status == 200, "{target}: {}", head.status);
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    body.trailers().await?;
    Ok(())
}
