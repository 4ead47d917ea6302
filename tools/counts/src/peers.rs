//! The program's peers: a client with one connection, and an upstream that answers at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long anything is waited for.
const LIMIT: Duration = Duration::from_secs(60);

const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// Starts an upstream, which runs as long as this process. It sends these responses in turn, each
/// as soon as `ready` returns.
pub(crate) fn upstream(
    responses: Vec<Vec<u8>>,
    ready: impl Fn() -> Result<()> + Send + Sync + 'static,
) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let shared = Arc::new((responses, ready));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = shared.clone();
            thread::spawn(move || {
                let (responses, ready) = &*shared;
                let mut connection = PeerConnection::new(stream)?;
                for response in responses.iter().cycle() {
                    connection.receive()?;
                    ready()?;
                    connection.send(response)?;
                }
                anyhow::Ok(())
            });
        }
    });
    Ok(address)
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct PeerConnection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl PeerConnection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Self::new(stream)
    }

    fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(message)?)
    }

    /// Sends a request and returns the response's status.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<u16> {
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
