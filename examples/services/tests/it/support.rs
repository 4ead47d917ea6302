//! The services, running, and an upstream that answers once per connection.

use std::net::SocketAddr;
use std::process::Command;

use fusebox_dev::{Daemon, LIMIT, Message, Origin, Ran, Wire};
use serde_json::Value;

pub(crate) const NAME_SERVER: &str = env!("CARGO_BIN_EXE_name-server");
pub(crate) const SERVICE_A: &str = env!("CARGO_BIN_EXE_service-a");
pub(crate) const SERVICE_B: &str = env!("CARGO_BIN_EXE_service-b");

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: b\r\n\r\n";

/// A service on a free port.
pub(crate) struct Running {
    pub(crate) daemon: Daemon,
    pub(crate) address: SocketAddr,
    /// The line that named the address.
    pub(crate) first: Value,
    /// Lines of the log that the test has seen.
    seen: usize,
}

impl Running {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        let daemon = Daemon::start(command.args(["--listen", "127.0.0.1:0"]).args(arguments));
        let first = daemon.line("listening");
        let address = first["address"].as_str().and_then(|address| address.parse().ok());
        Self { daemon, address: address.expect("an address"), first, seen: 1 }
    }

    pub(crate) fn service_b(arguments: &[&str]) -> Self {
        Self::start(SERVICE_B, arguments)
    }

    /// Service A with the upstream at this URL.
    pub(crate) fn service_a(upstream: &str) -> Self {
        Self::start(SERVICE_A, &["--upstream", upstream])
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The next line of the log.
    #[track_caller]
    pub(crate) fn line(&mut self) -> Value {
        self.seen += 1;
        self.daemon.wait("another line", |lines| lines.get(self.seen - 1).cloned())
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.address).expect("it listens")
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, request: &str) -> Message {
        self.connect().ask(request)
    }

    #[track_caller]
    pub(crate) fn get(&self) -> Message {
        self.ask(GET)
    }

    /// A request in flight: its head is sent, and the service waits for its body of two bytes.
    #[track_caller]
    pub(crate) fn in_flight(&self) -> Wire {
        let mut wire = self.connect();
        wire.send(
            "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n",
        );
        assert_eq!(wire.head().expect("a response").status(), 100);
        wire
    }
}

/// A program that ends by itself.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> Ran {
    fusebox_dev::run(Command::new(program).args(arguments), LIMIT)
}

/// An upstream that answers every request with the same bytes and closes the connection.
pub(crate) fn answering(answer: impl Into<String>) -> Origin {
    let answer = answer.into();
    Origin::start(move |connection| {
        if connection.request().is_some() {
            // The test may have ended.
            connection.wire.try_send(&answer).ok();
        }
    })
}

/// The same with this status line, with more headers behind it, and this body.
pub(crate) fn responding(head: &str, body: &str) -> Origin {
    answering(format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}
