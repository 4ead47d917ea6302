//! HTTP/1 over a socket as bytes, for both sides.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use socket2::{Domain, SockRef, Socket, Type};

use crate::message::{Message, fields};
use crate::session::Session;
use crate::wait::LIMIT;

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    /// `None`: it is plain.
    session: Option<Session>,
    /// Received and not yet taken.
    ahead: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream.set_write_timeout(Some(LIMIT)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, session: None, ahead: Vec::new() }
    }

    /// A connection to this address.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self::new(TcpStream::connect(address)?))
    }

    /// A connection to this address from that one, which is one of this machine's.
    #[track_caller]
    pub fn connect_from(from: IpAddr, to: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(from, 0).into()).expect("an address of ours");
        socket.connect(&to.into()).expect("it listens");
        Self::new(socket.into())
    }

    /// The same over TLS, as a client that asks for this name.
    ///
    /// # Errors
    /// The handshake fails.
    pub fn securing(mut self, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        self.session = Some(Session::client(config, name, &mut self.stream)?);
        Ok(self)
    }

    /// The same over TLS, as a server.
    ///
    /// # Errors
    /// The handshake fails.
    pub fn secured(mut self, config: &Arc<ServerConfig>) -> io::Result<Self> {
        self.session = Some(Session::server(config, &mut self.stream)?);
        Ok(self)
    }

    /// What TLS says of the connection.
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("a connection over TLS")
    }

    /// Sends a message of TLS itself, which is no data.
    #[track_caller]
    pub fn refresh(&mut self) {
        let session = self.session.as_mut().expect("a connection over TLS");
        session.refresh(&mut self.stream).expect("the other side takes it");
    }

    /// Our end of the connection.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a socket")
    }

    /// Sends all of it.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the other side takes it");
    }

    /// Sends as much as the other side takes.
    ///
    /// # Errors
    /// It did not take all.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.session {
            Some(session) => session.write_all(bytes.as_ref(), &mut self.stream),
            None => self.stream.write_all(bytes.as_ref()),
        }
    }

    /// No more will be sent, which TLS says too.
    pub fn finish(&mut self) {
        if let Some(session) = &mut self.session {
            session.finish(&mut self.stream).expect("the other side takes it");
        }
        self.cut();
    }

    /// No more will be sent; TLS does not say so.
    pub fn cut(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a connection");
    }

    /// When it is dropped, the other side gets a reset.
    pub fn resets(&mut self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a socket");
    }

    /// A handle for another thread to send with.
    pub fn sender(&self) -> Self {
        assert!(self.session.is_none(), "one thread has a session");
        Self::new(self.stream.try_clone().expect("a socket"))
    }

    /// False: nothing will come any more.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; 64 * 1024];
        let length = match &mut self.session {
            Some(session) => session.read(&mut buffer, &mut self.stream)?,
            None => self.stream.read(&mut buffer)?,
        };
        self.ahead.extend_from_slice(&buffer[..length]);
        Ok(length > 0)
    }

    fn need(&mut self, what: &str) -> io::Result<()> {
        if self.fill()? { Ok(()) } else { Err(io::Error::other(format!("closed within {what}"))) }
    }

    fn until(&mut self, end: &str, what: &str) -> io::Result<String> {
        loop {
            if let Some(at) =
                self.ahead.windows(end.len()).position(|window| window == end.as_bytes())
            {
                let text = String::from_utf8_lossy(&self.ahead[..at]).into_owned();
                self.ahead.drain(..at + end.len());
                return Ok(text);
            }
            self.need(what)?;
        }
    }

    pub(crate) fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            self.need("a body")?;
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// So many bytes of a body.
    #[track_caller]
    pub fn exactly(&mut self, length: usize) -> Vec<u8> {
        self.take(length).unwrap_or_else(|error| panic!("{error}, of which {:?} came", self.ahead))
    }

    /// So many bytes, or fewer if then nothing comes any more.
    pub fn up_to(&mut self, length: usize) -> Vec<u8> {
        while self.ahead.len() < length && matches!(self.fill(), Ok(true)) {}
        self.ahead.drain(..length.min(self.ahead.len())).collect()
    }

    /// A chunk's data; empty is the last one, whose trailers are not read.
    fn try_chunk(&mut self) -> io::Result<Vec<u8>> {
        let line = self.until("\r\n", "a chunk")?;
        let length = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16);
        let data =
            self.take(length.map_err(|_| io::Error::other(format!("no chunk length: {line:?}")))?)?;
        if !data.is_empty() {
            self.until("\r\n", "a chunk")?;
        }
        Ok(data)
    }

    /// The next chunk's data.
    #[track_caller]
    pub fn chunk(&mut self) -> Vec<u8> {
        self.try_chunk().expect("a chunk")
    }

    /// The head of whatever comes next. None: the other side has closed the connection, or left
    /// half a head.
    pub fn head(&mut self) -> Option<Message> {
        self.try_head().ok()
    }

    fn try_head(&mut self) -> io::Result<Message> {
        Ok(Message::parse(&self.until("\r\n\r\n", "a head")?))
    }

    fn body(&mut self, message: &mut Message, may_last_to_the_end: bool) -> io::Result<()> {
        if message.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.try_chunk()?;
                if chunk.is_empty() {
                    break;
                }
                message.body.extend_from_slice(&chunk);
            }
            loop {
                let line = self.until("\r\n", "trailers")?;
                if line.is_empty() {
                    return Ok(());
                }
                message.trailers.extend(fields([line.as_str()].into_iter()));
            }
        }
        let length: Option<usize> =
            message.header("content-length").map(|length| length.parse().expect("a length"));
        match length {
            Some(length) => loop {
                let missing = length - message.body.len();
                let there = missing.min(self.ahead.len());
                message.body.extend(self.ahead.drain(..there));
                if there == missing {
                    return Ok(());
                }
                self.need("a body")?;
            },
            None if may_last_to_the_end => loop {
                message.body.append(&mut self.ahead);
                if !self.fill()? {
                    return Ok(());
                }
            },
            None => Ok(()),
        }
    }

    /// The next request, whole. None: there is none.
    pub fn request(&mut self) -> Option<Message> {
        let mut request = self.head()?;
        request.broken = self.body(&mut request, false).err().map(|error| error.to_string());
        Some(request)
    }

    /// The next response, if there is one.
    fn try_response(&mut self) -> io::Result<Message> {
        let mut response = self.try_head()?;
        self.body(&mut response, true)?;
        Ok(response)
    }

    /// The next response, however it ends.
    #[track_caller]
    pub fn any_response(&mut self) -> Message {
        let mut response = self.try_head().expect("a response");
        if !matches!(response.status(), 100..=199 | 204 | 304) {
            response.broken = self.body(&mut response, true).err().map(|error| error.to_string());
        }
        response
    }

    /// The next response, which is all there.
    #[track_caller]
    pub fn response(&mut self) -> Message {
        let response = self.any_response();
        assert_eq!(response.broken, None, "{response:?}");
        response
    }

    /// Sends a request and receives its response.
    #[track_caller]
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request);
        self.response()
    }

    /// Waits until the other side is gone; what it had still to say is the answer.
    pub fn rest(&mut self) -> Vec<u8> {
        while matches!(self.fill(), Ok(true)) {}
        std::mem::take(&mut self.ahead)
    }

    /// Waits for the end, before which nothing must come.
    ///
    /// # Errors
    /// It breaks off: the other side is gone, or over TLS its end is not said.
    #[track_caller]
    pub fn end(&mut self) -> io::Result<()> {
        let is_more = self.fill()?;
        assert!(!is_more, "{:?}", String::from_utf8_lossy(&self.ahead));
        Ok(())
    }

    /// Waits for a moment, in which nothing must come.
    #[track_caller]
    pub fn stays_silent(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a socket");
        let read = self.fill();
        self.stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let error = read.err().map(|error| error.kind());
        let silent = matches!(error, Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        assert!(silent, "{error:?} {:?}", String::from_utf8_lossy(&self.ahead));
    }
}

/// Asks a listener that may be about to end, on a connection of its own.
///
/// # Errors
/// No whole response came.
pub fn try_ask(
    address: SocketAddr,
    request: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<Message> {
    let mut wire = Wire::connect(address)?;
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\
         content-length: {length}\r\n\r\n"
    );
    wire.try_send(head)?;
    // What is refused is not read to its end.
    wire.try_send(body).ok();
    wire.try_response()
}
