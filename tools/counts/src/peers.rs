//! The program's peers: a client with one connection, and an upstream that answers at once.

mod http2;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use crate::case::{CountedCase, PeerProtocol};
use http2::Http2Client;

/// How long anything is waited for.
const LIMIT: Duration = Duration::from_secs(60);

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Starts a case's upstream, which runs as long as this process. It sends its responses in turn,
/// each as soon as `ready` returns.
pub(crate) fn upstream(
    case: &CountedCase,
    ready: impl Fn() -> Result<()> + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (protocol, trailers) = (case.upstream, case.trailers());
    let shared = Arc::new((case.responses(), trailers, ready));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = shared.clone();
            thread::spawn(move || {
                let (responses, trailers, ready) = &*shared;
                match protocol {
                    PeerProtocol::Http1 => serve(stream, responses, ready),
                    PeerProtocol::Http2 => {
                        http2::serve(stream, responses, trailers.as_ref(), ready)
                    }
                }
            });
        }
    });
    Ok(address)
}

fn serve(
    stream: TcpStream,
    responses: &[Response<Bytes>],
    ready: &impl Fn() -> Result<()>,
) -> Result<()> {
    let mut connection = PeerConnection::new(stream)?;
    let responses: Vec<_> = responses.iter().map(response).collect();
    for response in responses.iter().cycle() {
        connection.receive()?;
        ready()?;
        connection.send(response)?;
    }
    Ok(())
}

/// A client, with one connection, that asks the same again and again.
#[derive(Debug)]
pub(crate) enum PeerClient {
    Http1(PeerConnection, Vec<u8>),
    Http2(Box<(Http2Client, Request<Bytes>)>),
}

impl PeerClient {
    /// That of a case.
    pub(crate) fn open(case: &CountedCase, address: SocketAddr) -> Result<Self> {
        let asked = case.request();
        Ok(match case.client {
            PeerProtocol::Http1 => Self::Http1(PeerConnection::open(address)?, request(&asked)),
            PeerProtocol::Http2 => Self::Http2(Box::new((Http2Client::open(address)?, asked))),
        })
    }

    /// Asks, and returns the response's status.
    pub(crate) fn ask(&mut self) -> Result<u16> {
        match self {
            Self::Http1(connection, request) => connection.ask(request),
            Self::Http2(peer) => peer.0.ask(&peer.1),
        }
    }
}

/// A request as HTTP/1.1 has it.
fn request(request: &Request<Bytes>) -> Vec<u8> {
    let (method, uri) = (request.method(), request.uri());
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let line = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\n");
    message(line, request.headers(), request.body())
}

/// A response as HTTP/1.1 has it.
fn response(response: &Response<Bytes>) -> Vec<u8> {
    let line = format!("HTTP/1.1 {}\r\n", response.status());
    message(line, response.headers(), response.body())
}

fn message(line: String, headers: &HeaderMap, body: &[u8]) -> Vec<u8> {
    let mut message = line.into_bytes();
    for (name, value) in headers {
        message.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(body);
    message
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl PeerConnection {
    fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(message)?)
    }

    /// Sends a request and returns the response's status.
    fn ask(&mut self, request: &[u8]) -> Result<u16> {
        self.send(request)?;
        let head = self.receive()?;
        head.get(9..12)
            .and_then(|status| status.parse().ok())
            .with_context(|| format!("no response: {head}"))
    }

    /// The head of the next message, once the whole message has come.
    fn receive(&mut self) -> Result<String> {
        self.received.clear();
        let mut whole = None;
        let mut buffer = vec![0; 128 << 10];
        while whole.is_none_or(|(_, length)| self.received.len() < length) {
            let length = self.stream.read(&mut buffer)?;
            ensure!(length > 0, "the connection was closed");
            self.received.extend_from_slice(&buffer[..length]);
            if whole.is_none() {
                whole = length_of(&self.received)?;
            }
        }
        let Some((head, length)) = whole else { bail!("no message") };
        ensure!(self.received.len() == length, "more than one message came");
        Ok(String::from_utf8_lossy(&self.received[..head]).into_owned())
    }
}

/// The lengths of the head and of all of the message, once the head is there.
fn length_of(received: &[u8]) -> Result<Option<(usize, usize)>> {
    let Some(end) = received.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD)
    else {
        return Ok(None);
    };
    let head = end + END_OF_HEAD.len();
    let text = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
    ensure!(!text.contains("transfer-encoding:"), "a body without a length: {text}");
    let body = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let body: usize = body.map_or(Ok(0), |length| length.trim().parse())?;
    Ok(Some((head, head + body)))
}
