//! What the tests share: a running binary, a client, and an upstream that answers with given bytes.

use std::net::SocketAddr;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub(crate) const SERVICE_A: &str = env!("CARGO_BIN_EXE_service-a");
pub(crate) const SERVICE_B: &str = env!("CARGO_BIN_EXE_service-b");

/// When to say that what a test waits for will not happen.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("it happens in time")
}

/// A service on a free port; dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
    /// The line that named the address.
    pub(crate) first: Value,
}

impl Running {
    pub(crate) async fn start(program: &str, args: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(["--listen", "127.0.0.1:0"])
            .args(args)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
        let first = next(&mut lines).await.expect("a line that names the address");
        assert_eq!(first["msg"], "listening");
        let address =
            first["address"].as_str().expect("an address").parse().expect("a valid address");
        Self { child, lines, address, first }
    }

    pub(crate) async fn service_b(args: &[&str]) -> Self {
        Self::start(SERVICE_B, args).await
    }

    pub(crate) async fn service_a(upstream: &str) -> Self {
        Self::start(SERVICE_A, &["--upstream", upstream]).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The next line of the log.
    pub(crate) async fn line(&mut self) -> Value {
        next(&mut self.lines).await.expect("another line")
    }

    /// What is left of the log once the service has ended.
    pub(crate) async fn rest(&mut self) -> Vec<Value> {
        let mut rest = Vec::new();
        while let Some(line) = next(&mut self.lines).await {
            rest.push(line);
        }
        rest
    }

    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().await;
        assert!(sent.expect("a shell").success());
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        within(self.child.wait()).await.expect("its exit code")
    }

    pub(crate) async fn get(&self) -> Result<Answer, Error> {
        get(&self.url()).await
    }

    /// A request in flight: its head is sent, its body of two bytes awaited by the service.
    pub(crate) async fn in_flight(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let head =
            "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("sent");
        assert_eq!(read_head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
        stream
    }
}

async fn next(lines: &mut Lines<BufReader<ChildStdout>>) -> Option<Value> {
    let line = within(lines.next_line()).await.expect("readable output")?;
    Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("not JSON: {line}: {error}")))
}

/// A binary that ends by itself.
pub(crate) async fn output(program: &str, args: &[&str]) -> Output {
    within(Command::new(program).args(args).kill_on_drop(true).output()).await.expect("it runs")
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a readable value"))
    }
}

pub(crate) async fn get(url: &str) -> Result<Answer, Error> {
    send(Request::get(url), "").await
}

/// Sends a request on a connection of its own.
pub(crate) async fn send(
    request: http::request::Builder,
    body: impl Into<Bytes>,
) -> Result<Answer, Error> {
    let request = request.body(Full::new(body.into())).expect("a valid request");
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (head, body) = within(client.request(request)).await?.into_parts();
    let body = within(body.collect()).await.expect("a whole body").to_bytes();
    let body = String::from_utf8(body.to_vec()).expect("a readable body");
    Ok(Answer { status: head.status, headers: head.headers, body })
}

pub(crate) fn request(method: Method, url: &str) -> http::request::Builder {
    Request::builder().method(method).uri(url)
}

/// Reads up to the end of a head.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match within(stream.read_u8()).await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).expect("a readable head")
}

/// An upstream that answers every request with the same bytes, closes the connection, and keeps the
/// heads it got.
pub(crate) struct Stub {
    address: SocketAddr,
    heads: mpsc::UnboundedReceiver<String>,
}

impl Stub {
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (sender, heads) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = read_head(&mut stream).await;
                // The test may have ended.
                let _ = sender.send(head);
                let _ = stream.write_all(&answer).await;
            }
        });
        Self { address, heads }
    }

    /// The same with a head of this status line and these headers, and a body of this length.
    pub(crate) async fn responding(head: &str, body: &str) -> Self {
        Self::answering(format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
            .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) async fn head(&mut self) -> String {
        within(self.heads.recv()).await.expect("a request")
    }
}
