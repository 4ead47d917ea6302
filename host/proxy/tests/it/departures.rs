//! Clients' connections and their ends: the client's own, noticed in whatever it is in, and those
//! that `max_requests` and `max_age` set.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fusebox_dev::{Origin, Wire, eventually, get, ok};
use tokio::time::Instant;

use crate::support::{Proxy, ROUTE};

// ===== the client's =====

/// What the client is in when it goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum In {
    Idle,
    Head,
    /// It has sent half of its body.
    Body,
    Waiting,
    /// The same, with the next request unread.
    WaitingAhead,
    /// It takes nothing more of its response.
    Response,
    /// It owes the rest of a body whose answer it has.
    Lingering,
}

/// How it goes.
#[derive(Clone, Copy, Debug)]
enum By {
    /// It closes its socket, which tells the other side so by a FIN, or by a reset if something
    /// lies unread.
    Closing,
    Reset,
    /// It closes its sending side, and goes on reading.
    HalfClosing,
}

/// What each leads to: what the upstream saw of the request before its connection was cut, and the
/// log's last line on it.
const DEPARTURES: [(In, &str, &str); 7] = [
    (In::Idle, "", ""),
    (In::Head, "", ""),
    (In::Body, "half", "client closed request"),
    (In::Waiting, "", "client closed request"),
    (In::WaitingAhead, "", "client closed request"),
    (In::Response, "", "200: OK"),
    (In::Lingering, "", "404: Not Found"),
];

/// Comes to be in this.
fn enter(state: In, proxy: &Proxy, origin: &Origin, id: &str) -> Wire {
    let mut client = proxy.connect();
    let post = |path: &str, length: usize| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\n");
        format!("{head}content-length: {length}\r\n\r\nhalf")
    };
    match state {
        In::Idle => {}
        In::Head => client.send("GET /wait HTTP/1.1\r\nho"),
        In::Body => client.send(post("/wait", 8)),
        In::Waiting => client.send(get("/wait", id)),
        In::WaitingAhead => client.send(get("/wait", id) + &get("/wait", "ahead")),
        In::Response => client.send(get("/endless", id)),
        In::Lingering => {
            client.send(post("/nowhere", 1 << 20));
            assert_eq!(client.response().status(), 404);
        }
    }
    if matches!(state, In::Body | In::Waiting | In::WaitingAhead | In::Response) {
        let is_it = |seen: &fusebox_dev::Seen| seen.request.header("x-request-id") == Some(id);
        eventually("it upstream", || origin.seen().iter().any(is_it).then_some(()));
    }
    if state == In::Response {
        assert_eq!(client.head().expect("a head").status(), 200);
    }
    client
}

#[test]
fn a_client_that_goes_is_noticed_at_once_in_whatever_it_is_in() {
    let cut = Arc::new(Mutex::new(BTreeMap::new()));
    let cuts = cut.clone();
    let origin = Origin::start(move |connection| {
        let Some(seen) = connection.head() else { return };
        if seen.request.target() == "/endless" {
            connection.wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
            while connection.wire.try_send(&chunk).is_ok() {}
        }
        let rest = String::from_utf8_lossy(&connection.wire.rest()).into_owned();
        let id = seen.request.header("x-request-id").unwrap_or_default().to_owned();
        cuts.lock().expect("no panic").insert(id, rest);
    });
    let routes = ["/wait", "/endless"]
        .map(|path| format!("[[routes]]\npath = '{path}'\nupstream = 'ORIGIN'\n"));
    let proxy = Proxy::before(&origin, &routes.concat());
    for (state, upstream, log) in DEPARTURES {
        for by in [By::Closing, By::Reset, By::HalfClosing] {
            let id = format!("{state:?} {by:?}").replace(' ', "-");
            let mut client = enter(state, &proxy, &origin, &id);
            proxy.counts(&[("fusebox_connections", 1.0)]);
            let start = Instant::now();
            let half_open = match by {
                By::Closing => {
                    drop(client);
                    None
                }
                By::Reset => {
                    client.resets();
                    drop(client);
                    None
                }
                By::HalfClosing => {
                    client.finish();
                    Some(client)
                }
            };
            proxy.counts(&[("fusebox_connections", 0.0)]);
            // Nobody who is silent is left alone so soon.
            assert!(start.elapsed() < Duration::from_secs(5), "{id}: {:?}", start.elapsed());
            if !log.is_empty() {
                assert_eq!(proxy.told(&id), [log], "{id}");
            }
            if matches!(state, In::Body | In::Waiting | In::WaitingAhead | In::Response) {
                let seen = || cut.lock().expect("no panic").get(&id).cloned();
                assert_eq!(eventually("the cut upstream", seen), upstream, "{id}");
            }
            drop(half_open);
        }
    }
    let ahead = |seen: &fusebox_dev::Seen| seen.request.header("x-request-id") == Some("ahead");
    assert!(!origin.seen().iter().any(ahead), "nobody waits for it");
}

// ===== ours =====

fn ended(limit: &str) -> String {
    format!("fusebox_connections_ended_total{{limit=\"{limit}\"}}")
}

#[test]
fn a_connection_has_as_many_requests_as_it_may_and_the_last_answer_says_so() {
    let origin = Origin::answering([ok("")]);
    let config = format!("[listener]\nmax_requests = 3\n{ROUTE}");
    let proxy = Proxy::before(&origin, &config);
    let mut client = proxy.connect();
    for (id, connection) in [("1", None), ("2", None), ("3", Some("close"))] {
        assert_eq!(client.ask(get("/", id)).header("connection"), connection, "{id}");
    }
    assert_eq!(client.rest(), b"");
    // What comes after the last one is not begun, and its answer is not lost.
    let mut client = proxy.connect();
    client.send((4..10).map(|id| get("/", &id.to_string())).collect::<String>());
    let answers = [(); 3].map(|()| client.response());
    let close = answers.map(|answer| answer.header("connection").map(str::to_owned));
    assert_eq!(close, [None, None, Some("close".to_owned())]);
    client.finish();
    assert_eq!(client.rest(), b"");
    assert_eq!(origin.seen().len(), 6);
    proxy.counts(&[(&ended("max_requests"), 2.0), ("fusebox_connections", 0.0)]);
}

#[test]
fn a_connection_that_is_old_ends_with_its_next_answer() {
    let origin = Origin::answering([ok("")]);
    let config = format!("[listener]\nmax_age = '500ms'\n{ROUTE}");
    let proxy = Proxy::before(&origin, &config);
    let before = Instant::now();
    let mut client = proxy.connect();
    eventually("its last answer", || {
        (client.ask(get("/", "1")).header("connection") == Some("close")).then_some(())
    });
    assert!(before.elapsed() >= Duration::from_millis(450), "{:?}", before.elapsed());
    assert_eq!(client.rest(), b"");
    // One that is idle then is not cut under its next request.
    let mut idle = proxy.connect();
    idle.stays_silent(Duration::from_millis(700));
    let answer = idle.ask(get("/", "2"));
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    proxy.counts(&[(&ended("max_age"), 2.0)]);
}
