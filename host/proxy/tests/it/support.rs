//! The only helpers: [`Proxy`], the real program with a configuration in a directory of its own;
//! [`Origin`], an upstream that sends exactly what it is told and remembers what it got; [`Wire`],
//! HTTP/1 over a socket as bytes, for both sides; [`wat_component`], guests as text.
//!
//! Nothing here sleeps and hopes: whatever has to come is waited for, up to [`LIMIT`], which only a
//! failing test reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::time::Instant;

/// How long anything is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A route for everything, without policies. `ORIGIN` becomes the origin's URL.
pub(crate) const ROUTE: &str = "[[routes]]\nupstream = \"ORIGIN\"\n";

/// Asks until `found` answers.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "this never came: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Tells the traffic of a test to end, even when the test fails: without it the test would wait for
/// that for ever.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ===== messages on a wire =====

/// A request or a response as it came.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Message {
    /// The first line.
    pub(crate) start: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// Without its framing.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// Why the body is not all there.
    pub(crate) broken: Option<String>,
}

impl Message {
    fn parse(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self { start, headers: fields(lines), ..Self::default() }
    }

    /// A header that must not be there twice.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = values.next();
        assert_eq!(values.next(), None, "`{name}` is there twice");
        first
    }

    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        let status = self.start.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("no response: {self:?}"))
    }

    /// The second word of a request's first line.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    lines.filter(|line| !line.is_empty()).map(field).collect()
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    /// Received and not yet taken.
    ahead: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        stream.set_write_timeout(Some(LIMIT)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self { stream, ahead: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the other side takes it");
    }

    /// Sends as much as the other side takes.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// No more will be sent.
    pub(crate) fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("a connection");
    }

    /// A handle for another thread to send with.
    pub(crate) fn sender(&self) -> Self {
        Self { stream: self.stream.try_clone().expect("a socket"), ahead: Vec::new() }
    }

    /// False: nothing will come any more.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = vec![0; 64 * 1024];
        let length = self.stream.read(&mut buffer)?;
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

    fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.ahead.len() < length {
            self.need("a body")?;
        }
        Ok(self.ahead.drain(..length).collect())
    }

    /// So many bytes of a body.
    #[track_caller]
    pub(crate) fn exactly(&mut self, length: usize) -> Vec<u8> {
        self.take(length).unwrap_or_else(|error| panic!("{error}, of which {:?} came", self.ahead))
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
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        self.try_chunk().expect("a chunk")
    }

    /// The head of whatever comes next. None: the other side has closed the connection, or left
    /// half a head.
    pub(crate) fn head(&mut self) -> Option<Message> {
        Some(Message::parse(&self.until("\r\n\r\n", "a head").ok()?))
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
    pub(crate) fn request(&mut self) -> Option<Message> {
        let mut request = self.head()?;
        request.broken = self.body(&mut request, false).err().map(|error| error.to_string());
        Some(request)
    }

    /// The next response, if there is one.
    fn try_response(&mut self) -> io::Result<Message> {
        let mut response = Message::parse(&self.until("\r\n\r\n", "a head")?);
        self.body(&mut response, true)?;
        Ok(response)
    }

    /// The next response, however it ends.
    #[track_caller]
    pub(crate) fn any_response(&mut self) -> Message {
        let mut response = self.head().expect("a response");
        if !matches!(response.status(), 100..=199 | 204 | 304) {
            response.broken = self.body(&mut response, true).err().map(|error| error.to_string());
        }
        response
    }

    /// The next response, which is all there.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        let response = self.any_response();
        assert_eq!(response.broken, None, "{response:?}");
        response
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request);
        self.response()
    }

    /// Waits until the other side is gone; what it had still to say is the answer.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while matches!(self.fill(), Ok(true)) {}
        std::mem::take(&mut self.ahead)
    }

    /// Waits for a moment, in which nothing must come.
    #[track_caller]
    pub(crate) fn stays_silent(&mut self, time: Duration) {
        self.stream.set_read_timeout(Some(time)).expect("a socket");
        let read = self.fill();
        self.stream.set_read_timeout(Some(LIMIT)).expect("a socket");
        let error = read.err().map(|error| error.kind());
        let silent = matches!(error, Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
        assert!(silent, "{error:?} {:?}", String::from_utf8_lossy(&self.ahead));
    }
}

/// A GET of this path whose request id is `id`.
pub(crate) fn get(path: &str, id: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: b.example\r\nx-request-id: {id}\r\n\r\n")
}

/// A POST of this body to `/` whose request id is `id`.
pub(crate) fn post(body: &str, id: &str) -> String {
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nhost: b.example\r\nx-request-id: {id}\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// A response with this status, more headers (each with its line end), and this body.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status} Whatever\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// A 200 with this body.
pub(crate) fn ok(body: &str) -> String {
    answer(200, "", body)
}

// ===== the origin =====

/// A scripted upstream. What it serves runs in a thread for each connection.
#[derive(Debug)]
pub(crate) struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    seen: Mutex<Vec<Seen>>,
    connections: Mutex<usize>,
    ended: AtomicBool,
}

/// A request that came to an origin.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Among all requests, from 0.
    pub(crate) number: usize,
    pub(crate) request: Message,
}

/// A connection to an origin.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) wire: Wire,
    shared: Arc<Shared>,
}

impl Connection {
    /// The next request, whole, which the origin remembers. None: the proxy has closed the
    /// connection.
    pub(crate) fn request(&mut self) -> Option<Seen> {
        let request = self.wire.request()?;
        Some(self.remember(request))
    }

    /// The head of the next request.
    pub(crate) fn head(&mut self) -> Option<Seen> {
        let request = self.wire.head()?;
        Some(self.remember(request))
    }

    fn remember(&self, request: Message) -> Seen {
        let mut seen = lock(&self.shared.seen);
        let new = Seen { number: seen.len(), request };
        seen.push(new.clone());
        new
    }
}

impl Origin {
    pub(crate) fn start(serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"), serve)
    }

    fn on(listener: TcpListener, serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Self {
        let origin =
            Self { address: listener.local_addr().expect("an address"), shared: Arc::default() };
        let (shared, serve) = (origin.shared.clone(), Arc::new(serve));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if shared.ended.load(Ordering::SeqCst) {
                    break;
                }
                *lock(&shared.connections) += 1;
                let mut connection = Connection { wire: Wire::new(stream), shared: shared.clone() };
                let serve = serve.clone();
                thread::spawn(move || serve(&mut connection));
            }
        });
        origin
    }

    /// Answers each request with the next of these, and with the last one for ever. An empty one:
    /// it closes the connection in place of an answer.
    pub(crate) fn answering(answers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let answers: Vec<String> = answers.into_iter().map(Into::into).collect();
        Self::start(move |connection| {
            while let Some(seen) = connection.request() {
                let answer = answers.get(seen.number).or(answers.last()).expect("an answer");
                if answer.is_empty() || connection.wire.try_send(answer).is_err() {
                    return;
                }
            }
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn only(&self) -> Message {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen[0].request.clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        *lock(&self.shared.connections)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.address)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        TcpStream::connect(self.address).ok();
    }
}

/// An upstream that does not answer the door.
#[derive(Debug)]
pub(crate) struct ClosedDoor {
    socket: Socket,
    _visitors: Vec<Socket>,
}

impl ClosedDoor {
    /// A port that is taken, so that nobody else gets it, but where nobody listens: connections are
    /// refused.
    pub(crate) fn refusing() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        Self { socket, _visitors: Vec::new() }
    }

    /// One whose queue is full: connections are not made.
    pub(crate) fn full() -> Self {
        let mut door = Self::refusing();
        door.socket.listen(0).expect("it listens");
        let address = door.socket.local_addr().expect("an address");
        // The system rounds up; what it takes no longer, it takes for none of us.
        while door._visitors.len() < 16 {
            let visitor = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let made = visitor.connect_timeout(&address, Duration::from_millis(200)).is_ok();
            if !made {
                return door;
            }
            door._visitors.push(visitor);
        }
        panic!("its queue does not get full");
    }

    /// Somebody moves in.
    pub(crate) fn opened(self, serve: impl Fn(&mut Connection) + Send + Sync + 'static) -> Origin {
        self.socket.listen(16).expect("it listens");
        Origin::on(self.socket.into(), serve)
    }
}

impl fmt::Display for ClosedDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self
            .socket
            .local_addr()
            .ok()
            .and_then(|address| address.as_socket())
            .expect("an address");
        write!(f, "http://{address}")
    }
}

// ===== the proxy =====

/// The program itself, running.
#[derive(Debug)]
pub(crate) struct Proxy {
    child: Child,
    directory: TempDir,
    log: Arc<LogLines>,
    address: SocketAddr,
    admin: SocketAddr,
}

#[derive(Debug, Default)]
struct LogLines {
    lines: Mutex<Vec<Value>>,
    changed: Condvar,
}

impl LogLines {
    fn read(&self, output: impl Read) {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let line =
                serde_json::from_str(&line).unwrap_or_else(|_| format!("not JSON: {line}").into());
            lock(&self.lines).push(line);
            self.changed.notify_all();
        }
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, find: impl Fn(&[Value]) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        let mut lines = lock(&self.lines);
        loop {
            if let Some(found) = find(&lines) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the log never had {what}:\n{}", print(&lines));
            lines =
                self.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn print(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

impl Proxy {
    /// In front of `origin`, whose URL takes the place of `ORIGIN` in `config`. The listeners are
    /// there already; `config` may begin with more top-level keys.
    #[track_caller]
    pub(crate) fn before(origin: &impl fmt::Display, config: &str) -> Self {
        Self::with_files(origin, &[], config)
    }

    /// Likewise, with files beside the configuration.
    #[track_caller]
    pub(crate) fn with_files(
        origin: &impl fmt::Display,
        files: &[(&str, &[u8])],
        config: &str,
    ) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).expect("a file");
        }
        fs::write(directory.path().join("token"), "open sesame\n").expect("a file");
        let listeners =
            "listen = '127.0.0.1:0'\nadmin = { listen = '127.0.0.1:0', token_file = 'token' }\n";
        Self::run(
            directory,
            &format!("{listeners}{}", config.replace("ORIGIN", &origin.to_string())),
        )
    }

    /// With this whole configuration, which has an admin listener.
    #[track_caller]
    pub(crate) fn run(directory: TempDir, config: &str) -> Self {
        Self::spawn(directory, config).listening()
    }

    /// With this whole configuration in a file of that name, which the program, running in the
    /// directory, is told.
    #[track_caller]
    pub(crate) fn run_file(directory: TempDir, file: &str, config: &str) -> Self {
        Self::spawn_file(directory, file, config).listening()
    }

    #[track_caller]
    fn listening(self) -> Self {
        let mut proxy = self;
        let line = proxy.line("listening");
        let address = |key: &str| line[key].as_str().and_then(|address| address.parse().ok());
        proxy.address = address("listen").expect("an address");
        proxy.admin = address("admin").expect("an address");
        proxy
    }

    /// Not yet known to listen.
    #[track_caller]
    pub(crate) fn spawn(directory: TempDir, config: &str) -> Self {
        Self::spawn_file(directory, "fusebox.toml", config)
    }

    #[track_caller]
    fn spawn_file(directory: TempDir, file: &str, config: &str) -> Self {
        fs::write(directory.path().join(file), config).expect("a file");
        Self::start(directory, file)
    }

    /// The same directory and configuration, after this one's end.
    #[track_caller]
    pub(crate) fn again(mut self) -> Self {
        self.end();
        let other = tempfile::tempdir().expect("a directory");
        Self::start(std::mem::replace(&mut self.directory, other), "fusebox.toml").listening()
    }

    #[track_caller]
    fn start(directory: TempDir, file: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fusebox"))
            .args(["run", file])
            .current_dir(directory.path())
            .env("XDG_CACHE_HOME", directory.path().join("cache"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program");
        let log = Arc::new(LogLines::default());
        let output = child.stdout.take().expect("its output");
        let lines = log.clone();
        thread::spawn(move || lines.read(output));
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { child, directory, log, address: nowhere, admin: nowhere }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Wire {
        Wire::new(TcpStream::connect(self.address).expect("it listens"))
    }

    /// Asks on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        self.connect().ask(request)
    }

    // ----- what it says -----

    /// Waits for the first line with this message.
    #[track_caller]
    pub(crate) fn line(&self, message: &str) -> Value {
        let is_it = |line: &&Value| line["msg"] == message;
        self.log.wait(message, |lines| lines.iter().find(is_it).cloned())
    }

    /// The lines so far that have this message.
    pub(crate) fn lines(&self, message: &str) -> Vec<Value> {
        lock(&self.log.lines).iter().filter(|line| line["msg"] == message).cloned().collect()
    }

    /// Waits for the first line with this message that says more than what was known.
    #[track_caller]
    pub(crate) fn line_after(&self, known: usize, message: &str) -> Value {
        let is_it = |line: &&Value| line["msg"] == message;
        self.log.wait(message, |lines| lines.iter().filter(is_it).nth(known).cloned())
    }

    /// Waits for the end of the request `id`, and gives all its lines. Its access line is the last.
    #[track_caller]
    pub(crate) fn story(&self, id: &str) -> Vec<Value> {
        self.log.wait(&format!("the access line of `{id}`"), |lines| {
            let mut story = lines.iter().filter(|line| line["request_id"] == id);
            let end = story.clone().position(|line| line.get("request").is_some())?;
            Some(story.by_ref().take(end + 1).cloned().collect())
        })
    }

    /// The messages of that.
    #[track_caller]
    pub(crate) fn told(&self, id: &str) -> Vec<String> {
        self.story(id)
            .iter()
            .map(|line| line["msg"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    // ----- the admin listener -----

    #[track_caller]
    pub(crate) fn admin(&self, request: &str) -> Message {
        self.admin_with(request, "")
    }

    /// The same with more headers, each with its line end.
    #[track_caller]
    pub(crate) fn admin_with(&self, request: &str, headers: &str) -> Message {
        let mut wire = Wire::new(TcpStream::connect(self.admin).expect("it listens"));
        let head = request.starts_with("HEAD");
        wire.send(format!(
            "{request} HTTP/1.1\r\nhost: admin\r\n{headers}connection: close\r\n\r\n"
        ));
        if head { wire.head().expect("a response") } else { wire.response() }
    }

    /// The same with a body.
    #[track_caller]
    pub(crate) fn admin_sending(&self, request: &str, headers: &str, body: &[u8]) -> Message {
        try_admin(self.admin, request, headers, body).expect("it listens")
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(self.admin("GET /state").text()).expect("JSON")
    }

    /// Waits until these series have these values.
    #[track_caller]
    pub(crate) fn counts(&self, expected: &[(&str, f64)]) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let series = metrics(self.admin("GET /metrics").text());
            let found = expected
                .iter()
                .map(|(name, _)| (*name, series.get(*name).copied().unwrap_or(f64::NAN)));
            let found: Vec<(&str, f64)> = found.collect();
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "expected {expected:?}\nfound {found:?}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The series that counts this fault of the version of the component `c` that is in use.
    #[track_caller]
    pub(crate) fn fault_series(&self, fault: &str) -> String {
        let digest = self.state()["components"]["c"]["digest"].clone();
        format!(
            r#"fusebox_component_faults_total{{component="c",digest={digest},fault="{fault}"}}"#
        )
    }

    /// The most memory that it has had so far, in bytes.
    #[track_caller]
    pub(crate) fn peak_memory(&self) -> u64 {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok());
        peak.map(|kib: u64| kib << 10).unwrap_or_else(|| panic!("no peak: {status}"))
    }

    /// How long its threads and ours have been ready to run while the processors were with others.
    #[track_caller]
    pub(crate) fn queued(&self) -> Duration {
        let tasks = ["self".to_owned(), self.child.id().to_string()]
            .map(|id| fs::read_dir(format!("/proc/{id}/task")));
        let tasks = tasks.into_iter().flat_map(|tasks| tasks.expect("it runs")).flatten();
        // A thread that has ended since has no file.
        let times = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
        let queued = times.filter_map(|times| times.split(' ').nth(1)?.parse().ok());
        queued.map(Duration::from_nanos).sum()
    }

    // ----- its end -----

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status().expect("`kill`");
        assert!(sent.success());
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        eventually("the end of the program", || self.child.try_wait().expect("a child"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "shown with the test that failed")]
            {
                eprintln!("the log of the proxy:\n{}", print(&lock(&self.log.lines)));
            }
        }
    }
}

/// Asks an admin listener that may be on its way out.
pub(crate) fn try_admin(
    admin: SocketAddr,
    request: &str,
    headers: &str,
    body: &[u8],
) -> io::Result<Message> {
    let mut wire = Wire::new(TcpStream::connect(admin)?);
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: admin\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    wire.try_send(head)?;
    // What is refused is not read to its end.
    wire.try_send(body).ok();
    wire.try_response()
}

/// What the program did in this directory.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

/// Runs the program to its end, in a directory of the test's own.
#[track_caller]
pub(crate) fn fusebox(directory: &Path, arguments: &[&str]) -> Ran {
    fusebox_elsewhere(directory, &directory.join("cache"), arguments)
}

/// Likewise, with these variables.
#[track_caller]
pub(crate) fn fusebox_with(
    directory: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Ran {
    ran(directory, &directory.join("cache"), arguments, variables)
}

/// Likewise in any other, with a cache that is the test's own.
#[track_caller]
pub(crate) fn fusebox_elsewhere(directory: &Path, cache: &Path, arguments: &[&str]) -> Ran {
    ran(directory, cache, arguments, &[])
}

#[track_caller]
fn ran(directory: &Path, cache: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_fusebox"))
        .args(arguments)
        .current_dir(directory)
        .env("XDG_CACHE_HOME", cache)
        .env("FUSEBOX_TEST", "from the environment")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    let text = |mut output: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut text = String::new();
            output.read_to_string(&mut text).expect("text");
            text
        })
    };
    let out = text(Box::new(child.stdout.take().expect("its output")));
    let error = text(Box::new(child.stderr.take().expect("its output")));
    // A build compiles what a language's tools need, the first time.
    let limit =
        if arguments.get(..2) == Some(&["component", "build"]) { 10 * LIMIT } else { LIMIT };
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.try_wait().expect("a child") {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill().ok();
                panic!("`fusebox {}` does not end", arguments.join(" "));
            }
            None => thread::park_timeout(Duration::from_millis(2)),
        }
    };
    Ran { code: status.code(), out: out.join().expect("text"), error: error.join().expect("text") }
}

// ===== metrics =====

/// The series of a text in the format of Prometheus, which is checked line by line.
#[track_caller]
pub(crate) fn metrics(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeSet::new());
    let (mut family, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap_or_else(|| panic!("no help: {line}"));
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(of) = line.strip_prefix("# TYPE ") {
            let (name, of) = of.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
            assert!(["counter", "gauge", "histogram"].contains(&of), "{line}");
            assert!(helped.contains(name) && typed.insert(name.to_owned()), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            (family, kind) = (name.to_owned(), of.to_owned());
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let (metric, labels) = name.split_once('{').unwrap_or((name, "}"));
            let suffix = metric
                .strip_prefix(family.as_str())
                .unwrap_or_else(|| panic!("outside its family: {line}"));
            let suffixes: &[&str] =
                if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(suffixes.contains(&suffix), "{line}");
            assert!(metric.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            labels_are_well_formed(labels, line);
            assert!(kind == "gauge" || value >= 0.0, "{line}");
            assert!(series.insert(name.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    assert_eq!(helped, typed);
    series
}

/// `name="value",…}`
#[track_caller]
fn labels_are_well_formed(labels: &str, line: &str) {
    let mut rest = labels;
    while rest != "}" {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        assert!(
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{line}"
        );
        let mut escaped = false;
        let end = value.find(|letter| {
            let end = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            end
        });
        rest = &value[end.unwrap_or_else(|| panic!("no end: {line}")) + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

// ===== guests =====

/// A component around these fields of a core module. It exports the predicate if they export
/// `handle-if`, the fallback if they export `respond`, and the standard handler of requests if they
/// export `handle`. They find an imported memory of four pages, whose second page the host writes
/// lists to, and may import `response-body` and, from `wasi`, `stderr` and `write`.
#[track_caller]
pub(crate) fn wat_component(fields: &str) -> Vec<u8> {
    let wasi = if fields.contains(r#"(import "wasi""#) { WASI } else { "" };
    let with_wasi = if wasi.is_empty() {
        ""
    } else {
        r#"(with "wasi" (instance (export "stderr" (func $get-stderr)) (export "write" (func $write))))"#
    };
    let mut exports = String::new();
    if fields.contains(r#"(export "handle-if")"#) {
        exports += r#"
          (func $handle-if (param "outcome" $outcome) (result bool) (canon lift (core func $guest "handle-if")))
          (instance $predicate (export "handle-if" (func $handle-if)))
          (export "fusebox:policy/predicate@0.1.0" (instance $predicate))"#;
    }
    if fields.contains(r#"(export "respond")"#) {
        exports += r#"
          (func $respond (param "outcome" $outcome) (result (option $response))
            (canon lift (core func $guest "respond") (memory $memory) (realloc (core func $realloc))))
          (instance $fallback (export "respond" (func $respond)))
          (export "fusebox:policy/fallback@0.1.0" (instance $fallback))"#;
    }
    let mut http = "";
    if fields.contains(r#"(export "handle")"#) {
        http = HTTP;
        exports += r#"
          (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $guest "handle")))
          (instance $handler (export "handle" (func $handle)))
          (export "wasi:http/incoming-handler@0.2.3" (instance $handler))"#;
    }
    let text = format!(
        r#"(component {TYPES} {ATTEMPT} {wasi} {http}
          (core func $response-body
            (canon lower (func $attempt "response-body") (memory $memory) (realloc (core func $realloc))))
          (core module $guest (import "memory" "memory" (memory 4)) {fields})
          (core instance $guest (instantiate $guest
            (with "memory" (instance $allocator))
            (with "attempt" (instance (export "response-body" (func $response-body))))
            {with_wasi}))
          {exports})"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The types of the contract, as components import them.
pub(crate) const TYPES: &str = r#"
  (import "fusebox:policy/types@0.1.0" (instance $types
    (type $header' (record (field "name" string) (field "value" string)))
    (export "header" (type $header (eq $header')))
    (type $failure' (enum "dns" "connect" "tls" "connection-lost" "protocol" "timeout" "circuit-open" "bulkhead-full"
      "rate-limited" "overloaded" "budget-exceeded" "retries-exceeded" "other"))
    (export "failure" (type $failure (eq $failure')))
    (type $outcome' (variant (case "response" u16) (case "failure" $failure)))
    (export "outcome" (type $outcome (eq $outcome')))
    (type $content' (variant (case "text" string) (case "bytes" (list u8))))
    (export "content" (type $content (eq $content')))
    (type $response' (record (field "status" u16) (field "headers" (list $header)) (field "body" $content)))
    (export "response" (type $response (eq $response')))))
  (alias export $types "header" (type $header))
  (alias export $types "outcome" (type $outcome))
  (alias export $types "response" (type $response))
"#;

const ATTEMPT: &str = r#"
  (import "fusebox:policy/attempt@0.1.0" (instance $attempt
    (export "response-body" (func (param "offset" u32) (param "length" u32) (result (list u8))))))
  (core module $allocator
    (memory (export "memory") 4)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536)))
  (core instance $allocator (instantiate $allocator))
  (alias core export $allocator "memory" (core memory $memory))
  (alias core export $allocator "realloc" (core func $realloc))
"#;

const WASI: &str = r#"
  (import "wasi:io/error@0.2.3" (instance $error (export "error" (type (sub resource)))))
  (alias export $error "error" (type $error))
  (import "wasi:io/streams@0.2.3" (instance $streams
    (alias outer 1 $error (type $error')) (export "error" (type $error (eq $error')))
    (type $stream-error' (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $stream-error')))
    (export "output-stream" (type $output-stream (sub resource)))
    (export "[method]output-stream.blocking-write-and-flush" (func (param "self" (borrow $output-stream))
      (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stderr@0.2.3" (instance $stderr
    (alias outer 1 $output-stream (type $output-stream'))
    (export "output-stream" (type $output-stream (eq $output-stream')))
    (export "get-stderr" (func (result (own $output-stream))))))
  (core func $get-stderr (canon lower (func $stderr "get-stderr")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
"#;

const HTTP: &str = r#"
  (import "wasi:http/types@0.2.3" (instance $http
    (export "incoming-request" (type (sub resource))) (export "response-outparam" (type (sub resource)))))
  (alias export $http "incoming-request" (type $request))
  (alias export $http "response-outparam" (type $out))
"#;

/// A predicate whose `handle-if` has this body: the outcome's case is in `$case` (0: a response, 1:
/// a failure), its status or the number of its failure in `$value`.
#[track_caller]
pub(crate) fn predicate(body: &str) -> Vec<u8> {
    wat_component(&handle_if(body))
}

/// The field for that.
pub(crate) fn handle_if(body: &str) -> String {
    format!(
        r#"(func (export "handle-if") (param $case i32) (param $value i32) (result i32) {body})"#
    )
}

/// The fields of a fallback that answers this, which has no quotes.
pub(crate) fn responds(status: u16, text: &str) -> String {
    let length = text.len();
    format!(
        r#"(data (i32.const 1024) "{text}")
        (func (export "respond") (param i32 i32) (result i32)
          (i32.store8 (i32.const 128) (i32.const 1))
          (i32.store16 (i32.const 132) (i32.const {status}))
          (i64.store (i32.const 136) (i64.const 0))
          (i32.store8 (i32.const 144) (i32.const 0))
          (i32.store (i32.const 148) (i32.const 1024))
          (i32.store (i32.const 152) (i32.const {length}))
          (i32.const 128))"#
    )
}

/// `handle-if` of a guest that takes this status alone.
pub(crate) fn is_status(status: u16) -> String {
    format!(
        "(i32.and (i32.eqz (local.get $case)) (i32.eq (local.get $value) (i32.const {status})))"
    )
}
