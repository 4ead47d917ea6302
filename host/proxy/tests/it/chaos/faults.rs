//! What upstreams over HTTP/1.1 do, what they do before a request can be sent, and what they do in
//! TLS.

use std::fmt;
use std::thread;
use std::time::Duration;

use fusebox_dev::{Authority, ClosedDoor, Origin, OriginConnection, answer, ok};

/// Whether time plays a part: only then limits are short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timing {
    Slow,
    Fast,
}

/// An upstream that is ill in one way, and always.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// As the configuration says it.
    pub(super) protocol: &'static str,
    pub(super) upstream: Upstream,
    pub(super) timing: Timing,
}

/// What answers to its URL.
pub(super) enum Upstream {
    Origin(Origin),
    /// One that speaks no TLS, or breaks it off.
    NotSecured(Origin),
    Door(ClosedDoor),
    Name(&'static str),
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Origin(origin) => origin.fmt(f),
            Self::NotSecured(origin) => write!(f, "https://{}", origin.address()),
            Self::Door(door) => door.fmt(f),
            Self::Name(url) => f.write_str(url),
        }
    }
}

impl Fault {
    fn new(name: &'static str, upstream: Upstream) -> Self {
        Self { name, protocol: "http1", upstream, timing: Timing::Fast }
    }

    pub(super) const fn slow(mut self) -> Self {
        self.timing = Timing::Slow;
        self
    }

    const fn speaking_http2(mut self) -> Self {
        self.protocol = "http2";
        self
    }
}

/// One that does this with each request, and then closes the connection.
fn does(name: &'static str, does: impl Fn(&mut OriginConnection) + Send + Sync + 'static) -> Fault {
    let serve = move |connection: &mut OriginConnection| {
        if connection.request().is_some() {
            does(connection);
        }
    };
    Fault::new(name, Upstream::Origin(Origin::start(serve)))
}

/// One that sends this, and closes the connection.
fn sends(name: &'static str, bytes: impl Into<Vec<u8>>) -> Fault {
    let bytes = bytes.into();
    does(name, move |connection| {
        connection.wire.try_send(&bytes).ok();
    })
}

/// One that sends this, and resets the connection.
fn resets(name: &'static str, bytes: &'static str) -> Fault {
    does(name, move |connection| {
        connection.wire.try_send(bytes).ok();
        // What was sent before a reset may be lost with it.
        thread::park_timeout(Duration::from_millis(50));
        connection.wire.resets();
    })
}

/// One that sends this, and nothing more for as long as it is waited for.
fn stalls(name: &'static str, bytes: &'static str) -> Fault {
    let fault = does(name, move |connection| {
        connection.wire.try_send(bytes).ok();
        connection.wire.rest();
    });
    fault.slow()
}

/// One that sends the first of these at once, and the other in pieces of this length, each after
/// this time.
fn drips(
    name: &'static str,
    at_once: &'static str,
    drips: &'static str,
    length: usize,
    pause: u64,
) -> Fault {
    let fault = does(name, move |connection| {
        connection.wire.try_send(at_once).ok();
        for piece in drips.as_bytes().chunks(length) {
            thread::park_timeout(Duration::from_millis(pause));
            if connection.wire.try_send(piece).is_err() {
                return;
            }
        }
    });
    fault.slow()
}

const HALF_A_HEAD: &str = "HTTP/1.1 200 OK\r\nx-half: a hea";
const HALF_A_BODY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nbegun";
const HALF_A_CHUNK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nbegun";

/// Before any byte of HTTP.
pub(super) fn before_http() -> Vec<Fault> {
    vec![
        Fault::new("refuses connections", Upstream::Door(ClosedDoor::refusing())),
        Fault::new("takes no connection", Upstream::Door(ClosedDoor::full())).slow(),
        Fault::new("has a name that nobody knows", Upstream::Name("http://nobody.invalid:1")),
    ]
}

pub(super) fn over_http1() -> Vec<Fault> {
    let flood = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1000);
    let large = format!("HTTP/1.1 200 OK\r\nx-a: {}\r\n\r\n", "x".repeat(70_000));
    vec![
        sends("answers 200", ok("whole")),
        sends("answers 404", answer(404, "", "")),
        sends("answers 429", answer(429, "", "")),
        sends("answers 500", answer(500, "", "")),
        sends("answers 503, and asks for 60 s", answer(503, "retry-after: 60\r\n", "")),
        sends("closes before the head", ""),
        resets("resets before the head", ""),
        sends("closes within the head", HALF_A_HEAD),
        resets("resets within the head", HALF_A_HEAD),
        sends("closes within the body", HALF_A_BODY),
        resets("resets within the body", HALF_A_BODY),
        sends("closes within a chunk", HALF_A_CHUNK),
        sends(
            "closes before the last chunk",
            &HALF_A_CHUNK.replace("9\r\nbegun", "5\r\nbegun\r\n")[..],
        ),
        sends("ends a body with the connection", "HTTP/1.1 200 OK\r\n\r\nwhole"),
        stalls("hangs", ""),
        stalls("hangs within the head", HALF_A_HEAD),
        stalls("hangs within the body", HALF_A_BODY),
        drips("drips a head", "", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 4, 150),
        drips("drips a body", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", "and so on", 1, 60),
        sends("speaks no HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        sends(
            "says two lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
        sends(
            "sends more than its length",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole, and more",
        ),
        sends("sends a chunk without a length", &HALF_A_CHUNK.replace("9\r\n", "x\r\n")[..]),
        sends("sends a head that is too large", large),
        sends("sends interim responses without end", flood),
        sends(
            "switches protocols",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        ),
    ]
}

/// Who signs the certificate that is right, and who is not known.
pub(super) struct Authorities {
    pub(super) known: Authority,
    unknown: Authority,
}

impl Authorities {
    pub(super) fn new() -> Self {
        Self { known: Authority::new("known"), unknown: Authority::new("unknown") }
    }

    fn serving(&self, serve: impl Fn(&mut OriginConnection) + Send + Sync + 'static) -> Upstream {
        let config = self.known.issue("b", &["b.example"]).server();
        Upstream::Origin(Origin::secured(config, serve))
    }
}

fn served(
    bytes: &'static str,
    says_its_end: bool,
) -> impl Fn(&mut OriginConnection) + Send + Sync + 'static {
    move |connection| {
        if connection.request().is_some() {
            connection.wire.try_send(bytes).ok();
            if says_its_end {
                connection.wire.finish()
            } else {
                connection.wire.cut()
            }
            connection.wire.rest();
        }
    }
}

pub(super) fn over_tls(authorities: &Authorities) -> Vec<Fault> {
    let secured = |name, bytes, says_its_end| {
        Fault::new(name, authorities.serving(served(bytes, says_its_end)))
    };
    let shows = |name, issued: fusebox_dev::Issued| {
        let origin = Origin::secured(issued.server(), served("", true));
        Fault::new(name, Upstream::Origin(origin))
    };
    let bare = |name, serve: fn(&mut OriginConnection)| {
        Fault::new(name, Upstream::NotSecured(Origin::start(serve)))
    };
    let long_ago = |params: &mut rcgen::CertificateParams| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    };
    let known = &authorities.known;
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole";
    let to_the_end = "HTTP/1.1 200 OK\r\n\r\nwhole";
    vec![
        secured("answers 200", whole, true),
        bare("closes within the handshake", |connection| drop(connection.wire.up_to(1))),
        bare("resets within the handshake", |connection| {
            connection.wire.up_to(1);
            connection.wire.resets();
        }),
        bare("hangs within the handshake", |connection| drop(connection.wire.rest())).slow(),
        bare("speaks no TLS", |connection| {
            connection.wire.up_to(1);
            connection.wire.try_send("HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            connection.wire.rest();
        }),
        shows("has the certificate of another name", known.issue("c", &["c.example"])),
        shows("has an expired certificate", known.issue_with("b", &["b.example"], long_ago)),
        shows("has nobody's certificate", authorities.unknown.issue("b", &["b.example"])),
        secured("speaks no HTTP/2, which it should", whole, true).speaking_http2(),
        secured("closes before the head", "", true),
        secured("closes within the body", HALF_A_BODY, true),
        secured("ends a body with the connection", to_the_end, true),
        secured("ends a body with the connection, and TLS does not", to_the_end, false),
    ]
}
