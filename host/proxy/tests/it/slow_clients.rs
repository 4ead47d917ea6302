//! Clients that send or read slowly: who is served, who is let go, and who hears of it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use fusebox_dev::{Origin, Wire, eventually, get, ok};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

use crate::errors::is_problem;
use crate::support::{Proxy, ROUTE, metrics};

const BREAKER: &str = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                       [[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker']\n";

/// A proxy with these limits and a breaker that the first failure opens.
fn limited(origin: &Origin, keys: &str) -> Proxy {
    Proxy::before(origin, &format!("workers = 2\n[listener]\n{keys}\n{BREAKER}"))
}

fn head(length: usize, id: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\ncontent-length: {length}\r\n\r\n")
}

#[track_caller]
fn no_breaker_heard(proxy: &Proxy) {
    let breaker = proxy.state()["policies"]["breaker"].clone();
    assert_eq!((&breaker["state"], &breaker["failures"]), (&json!("closed"), &json!(0)));
}

fn ended(limit: &str) -> String {
    format!("fusebox_connections_ended_total{{limit=\"{limit}\"}}")
}

/// The client's pause is the point.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::park_timeout(end - Instant::now());
    }
}

// ===== those that send =====

#[test]
fn uploads_that_trickle_come_to_an_end_and_no_breaker_hears_of_them() {
    const CLIENTS: usize = 200;
    let origin = Origin::answering([ok("")]);
    // In advance each has a second.
    let keys = format!("max_connections = {CLIENTS}\nbody_timeout = '1s'\nmin_rate = '64B'");
    let proxy = limited(&origin, &keys);
    let mut clients: Vec<Wire> = (0..CLIENTS).map(|_| proxy.connect()).collect();
    for (id, client) in clients.iter_mut().enumerate() {
        client.send(head(10_000_000, &id.to_string()));
    }
    let mut senders: Vec<Wire> = clients.iter().map(Wire::sender).collect();
    let start = Instant::now();
    while !senders.is_empty() {
        senders.retain_mut(|sender| sender.try_send("x").is_ok());
        pause(Duration::from_millis(100));
        assert!(start.elapsed() < fusebox_dev::LIMIT, "{} trickle on", senders.len());
    }
    for (id, client) in clients.iter_mut().enumerate() {
        let answer = client.response();
        assert_eq!(answer.header("connection"), Some("close"));
        is_problem(&answer, &id.to_string(), 408, "http_request_error", "request incomplete");
    }
    // On a machine that is busy elsewhere a pause may have been longer than `body_timeout`.
    eventually("all ends", || {
        let series = metrics(proxy.admin("GET /metrics").text());
        let of = |limit: &str| series[&ended(limit)];
        (of("min_rate") + of("body_timeout") == CLIENTS as f64 && of("min_rate") > 0.0)
            .then_some(())
    });
    let line = proxy.line("Connection ended: it was too slow");
    assert_eq!((&line["limit"], &line["ip"]), (&json!("min_rate"), &json!("127.0.0.1")));
    assert_eq!(proxy.ask(get("/", "newcomer")).status(), 200);
    no_breaker_heard(&proxy);
}

#[test]
fn a_request_has_to_be_whole_in_time_however_fast_it_comes() {
    let origin = Origin::answering([ok("")]);
    let proxy = limited(&origin, "request_timeout = '2s'");
    let mut client = proxy.connect();
    for id in ["1", "2"] {
        client.send(head(4, id));
        client.send("body");
        assert_eq!(client.response().status(), 200, "each has its own time");
        pause(Duration::from_millis(1300));
    }
    client.send(head(10_000_000, "3"));
    let mut sender = client.sender();
    let start = Instant::now();
    while sender.try_send([b'x'; 1024]).is_ok() {
        pause(Duration::from_millis(20));
        assert!(start.elapsed() < fusebox_dev::LIMIT, "it goes on");
    }
    let answer = client.response();
    assert_eq!(answer.header("connection"), Some("close"));
    is_problem(&answer, "3", 408, "http_request_error", "request incomplete");
    let story = proxy.story("3");
    let detail = &story.last().expect("an access line")["detail"];
    assert_eq!(detail, "request longer than `request_timeout`");
    // The time in the head counts.
    let mut client = proxy.connect();
    let whole = head(4, "4");
    let (first, last) = whole.split_at(20);
    client.send(first);
    pause(Duration::from_secs(1));
    client.send(last);
    pause(Duration::from_millis(1800));
    client.try_send("body").ok();
    assert_eq!(client.response().status(), 408);
    // And so does the whole head.
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\n");
    assert_eq!(client.response().status(), 408);
    proxy.counts(&[
        (&ended("request_timeout"), 2.0),
        (r#"fusebox_requests_refused_total{route="none",reason="slow-head"}"#, 1.0),
    ]);
    no_breaker_heard(&proxy);
}

#[test]
fn an_upload_under_its_answer_may_take_its_time() {
    let origin = Origin::start(|connection| {
        while connection.head().is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n");
            connection.wire.exactly(6);
            connection.wire.send("thanks");
        }
    });
    let keys = "request_timeout = '400ms'\nmin_rate = '1KiB'\nbody_timeout = '1m'";
    let proxy = limited(&origin, keys);
    let mut client = proxy.connect();
    client.send(head(6, "1"));
    assert_eq!(client.head().expect("a head").status(), 200);
    pause(Duration::from_millis(600));
    client.send("upload");
    assert_eq!(client.exactly(6), b"thanks");
}

// ===== those that read =====

/// A client whose own socket takes little.
fn small(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(32 * 1024).expect("a socket");
    socket.connect(&address.into()).expect("it listens");
    socket.set_read_timeout(Some(fusebox_dev::LIMIT)).expect("a socket");
    socket.into()
}

#[test]
fn a_steady_slow_reader_is_served_and_one_that_stops_is_let_go() {
    const LENGTH: usize = 8 << 20;
    let origin = Origin::answering([ok(&"x".repeat(LENGTH))]);
    let proxy = Proxy::before(&origin, &format!("[listener]\nbody_timeout = '1s'\n{ROUTE}"));
    let mut client = small(proxy.address());
    client.write_all(get("/", "1").as_bytes()).expect("it takes it");
    let mut piece = vec![0; 40 * 1024];
    let mut read = 0;
    // What the kernel takes at once would last for longer than `body_timeout`.
    for _ in 0..40 {
        client.read_exact(&mut piece).expect("it is served");
        read += piece.len();
        pause(Duration::from_millis(100));
    }
    while read < LENGTH {
        let more = client.read(&mut piece).expect("it is served");
        assert_ne!(more, 0, "it is cut after {read}");
        read += more;
    }
    // One that stops.
    let mut client = small(proxy.address());
    client.write_all(get("/", "2").as_bytes()).expect("it takes it");
    proxy.story("2");
    proxy.counts(&[(&ended("body_timeout"), 1.0)]);
    proxy.line("Connection ended: it moved nothing for too long");
}
