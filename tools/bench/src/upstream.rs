//! The service behind each proxy: a minimal server for the scenarios, so that it is never the
//! bottleneck.
//!
//! | target | answer |
//! |---|---|
//! | `…/fail-once/ID` | 503 the first time, 200 the second |
//! | `…/unavailable` | 503 |
//! | `…/bodies` | 64 KiB |
//! | `…/headers/COUNT/SIZE` | so many headers, all but three with values of so many bytes |
//! | `GRPC_METHOD` | over HTTP/2, a message of gRPC as long as the question |
//! | anything else | 30 bytes of JSON |
//!
//! A request body may be of any length, and is read and dropped. HTTP/2 is spoken with those who
//! begin with it.

mod answers;
mod http2;

use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Handle};

use answers::ServiceState;
pub(crate) use answers::{GRPC_METHOD, LARGE_BODY, SMALL, grpc_message};

use crate::say::say;

const THREADS: usize = 2;
const BACKLOG: u32 = 4096;
const MAX_HEADERS: usize = 160;

/// The threads of all services.
#[derive(Debug)]
pub(crate) struct Servers {
    threads: Vec<Handle>,
}

impl Servers {
    /// Starts them; they end with the process.
    pub(crate) fn start() -> Result<Self> {
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let runtime = Builder::new_current_thread().enable_io().build()?;
            threads.push(runtime.handle().clone());
            let serve = move || runtime.block_on(std::future::pending::<()>());
            std::thread::Builder::new().name("upstream".into()).spawn(serve)?;
        }
        Ok(Self { threads })
    }

    /// Starts a service at this address.
    pub(crate) fn service(&self, address: SocketAddr) -> Result<MeasuredService> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        // The listener belongs to the runtime in which it is made.
        let entered = self.threads[0].enter();
        let listener = socket.listen(BACKLOG)?;
        drop(entered);
        let upstream = MeasuredService { address: listener.local_addr()?, state: Arc::default() };
        let (state, threads) = (Arc::clone(&upstream.state), self.threads.clone());
        let accept = async move {
            for thread in threads.iter().cycle() {
                let (stream, _) = listener.accept().await?;
                state.accepted.fetch_add(1, Ordering::Relaxed);
                stream.set_nodelay(true)?;
                let (stream, state) = (stream.into_std()?, Arc::clone(&state));
                // A client that goes away is no error here; it would be one at the generator.
                thread.spawn(async move {
                    let stream = TcpStream::from_std(stream)?;
                    if http2::begins(&stream).await? {
                        http2::serve(stream, state).await.map_err(io::Error::other)
                    } else {
                        serve(stream, &state).await
                    }
                });
            }
            io::Result::Ok(())
        };
        self.threads[0].spawn(async move {
            if let Err(error) = accept.await {
                say!("the service at {address} is gone: {error}");
            }
        });
        Ok(upstream)
    }
}

/// A service and its counts.
#[derive(Debug)]
pub(crate) struct MeasuredService {
    pub(crate) address: SocketAddr,
    state: Arc<ServiceState>,
}

impl MeasuredService {
    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }
}

/// Answers the requests of one connection.
async fn serve(mut stream: TcpStream, state: &ServiceState) -> io::Result<()> {
    // Small, since there may be ten thousand connections; it grows where needed.
    let mut buffer = vec![0; 2048];
    let mut filled = 0;
    loop {
        let Some(request) = ServiceRequest::parse(&buffer[..filled])? else {
            if filled == buffer.len() {
                buffer.resize(2 * filled, 0);
            }
            match stream.read(&mut buffer[filled..]).await? {
                0 if filled == 0 => return Ok(()),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => filled += count,
            }
            continue;
        };
        let (length, answer) = (request.length, state.answers.to(request.target, state));
        // What is pipelined behind the request stays.
        let here = length.min(filled);
        buffer.copy_within(here..filled, 0);
        filled -= here;
        let mut body = length - here;
        if body > buffer.len() {
            buffer.resize(LARGE_BODY, 0);
        }
        while body > 0 {
            let part = body.min(buffer.len());
            match stream.read(&mut buffer[..part]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => body -= count,
            }
        }
        stream.write_all(&answer.bytes).await?;
    }
}

/// The relevant parts of a request.
struct ServiceRequest<'a> {
    target: &'a [u8],
    /// The length of head and body together.
    length: usize,
}

impl<'a> ServiceRequest<'a> {
    /// Parses a request; `None` if the head is incomplete.
    fn parse(bytes: &'a [u8]) -> io::Result<Option<Self>> {
        let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message);
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut []);
        let parsed =
            request.parse_with_uninit_headers(bytes, &mut headers).map_err(io::Error::other)?;
        let httparse::Status::Complete(head) = parsed else { return Ok(None) };
        let mut body = 0;
        for header in &*request.headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let value = std::str::from_utf8(header.value)
                    .ok()
                    .and_then(|value| value.parse::<usize>().ok());
                body = value.ok_or_else(|| invalid("content-length is no number"))?;
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(invalid("no scenario sends a chunked body, so no proxy should"));
            }
        }
        Ok(Some(Self { target: request.path.unwrap_or_default().as_bytes(), length: head + body }))
    }
}

/// Addresses for proxies and services. Their ports are below those that the kernel gives to
/// outgoing connections, of which a run makes thousands.
#[derive(Debug)]
pub(crate) struct Ports {
    next: u16,
}

impl Ports {
    const FIRST: u16 = 21_000;
    const LAST: u16 = 22_999;

    pub(crate) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The next address of loopback that is free.
    pub(crate) fn next(&mut self) -> Result<SocketAddr> {
        while self.next <= Self::LAST {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.next));
            self.next += 1;
            if std::net::TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
        None.with_context(|| format!("no port from {} to {} is free", Self::FIRST, Self::LAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All responses to these requests on one connection.
    async fn answers(requests: &[u8]) -> (String, u64) {
        let upstream =
            Servers::start().unwrap().service(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let mut stream = TcpStream::connect(upstream.address).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let send = async {
            writer.write_all(requests).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut text = String::new();
        let (read, ()) = tokio::join!(reader.read_to_string(&mut text), send);
        read.unwrap();
        (text, upstream.accepted())
    }

    #[tokio::test]
    async fn requests_on_a_connection_are_answered_in_turn() {
        let body = "x".repeat(LARGE_BODY);
        let requests = [
            "GET / HTTP/1.1\r\n\r\n".to_owned(),
            format!("POST /bodies HTTP/1.1\r\nContent-Length: {LARGE_BODY}\r\n\r\n{body}"),
            "GET /retry/fail-once/1 HTTP/1.1\r\n\r\n".repeat(2),
            "GET /headers/5/7 HTTP/1.1\r\n\r\n".to_owned(),
            "GET /unavailable HTTP/1.1\r\n\r\n".to_owned(),
        ];
        let (text, accepted) = answers(requests.concat().as_bytes()).await;
        let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["200", "200", "503", "200", "200", "503"]);
        let answers: Vec<_> = text.split("HTTP/1.1 ").skip(1).collect();
        assert!(answers[0].contains("content-length: 30\r\n"), "{}", answers[0]);
        assert!(answers[1].ends_with(&body));
        assert_eq!(answers[4].matches(": ").count(), 5);
        assert!(answers[4].contains(": aaaaaaa\r\n"));
        assert_eq!(accepted, 1);
    }

    #[tokio::test]
    async fn a_chunked_body_ends_the_connection() {
        let (text, _) = answers(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert_eq!(text, "");
    }
}
