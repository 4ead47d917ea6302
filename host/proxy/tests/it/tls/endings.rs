//! Bodies over TLS, and the ends of connections: TLS says its own, so that nobody takes one that is
//! cut for one that is meant.

use std::io::ErrorKind;
use std::thread;
use std::time::Duration;

use fusebox_dev::{Origin, Wire, eventually, get, ok, post};
use tokio::time::Instant;

use super::SecuredProxy;

/// More than the sockets between take.
const LARGE: usize = 12 << 20;

#[test]
fn large_bodies_are_whole_however_slow_the_client_is() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let echo = String::from_utf8(seen.request.body).expect("text");
            if connection.wire.try_send(ok(&echo)).is_err() {
                return;
            }
        }
    });
    let site = SecuredProxy::before(&origin, "");
    let body: String = (0_u32..).map(|number| format!("{number} ")).take(LARGE / 8).collect();
    let mut client = site.connect();
    client.send(post(&body, "1"));
    // All sockets on the way back fill meanwhile.
    eventually("a full way", || (origin.seen().len() == 1).then_some(()));
    thread::park_timeout(Duration::from_millis(300));
    let answer = client.response();
    assert!(answer.body == body.as_bytes(), "{} of {}", answer.body.len(), body.len());
    // What was held back is all out: the next answer comes at once.
    assert_eq!(client.ask(post("short", "2")).text(), "short");
}

#[test]
fn a_connection_that_ends_says_so_and_one_that_breaks_does_not() {
    let origin = Origin::start(|connection| {
        let Some(seen) = connection.request() else { return };
        let length = if seen.request.target() == "/broken" { 10 } else { 5 };
        connection.wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nhello"));
    });
    let site = SecuredProxy::before(&origin, "[listener]\nidle_timeout = '300ms'\n");
    let old = |path: &str| format!("GET {path} HTTP/1.0\r\nhost: b.example\r\n\r\n");
    let mut whole = site.connect();
    assert_eq!(whole.ask(old("/")).text(), "hello");
    whole.end().expect("an end that is meant");
    let mut broken = site.connect();
    let answer = {
        broken.send(old("/broken"));
        broken.any_response()
    };
    assert_eq!(answer.body, b"hello");
    let error = broken.end().expect_err("an end that is not");
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    let mut idle = site.connect();
    assert_eq!(idle.ask(get("/", "1")).text(), "hello");
    idle.end().expect("an end that is meant");
}

#[test]
fn a_proxy_that_stops_says_so_to_those_who_wait_for_nothing() {
    let origin = Origin::answering([ok("hello")]);
    let mut site = SecuredProxy::before(&origin, "");
    let mut idle = site.connect();
    assert_eq!(idle.ask(get("/", "1")).text(), "hello");
    site.proxy.signal("TERM");
    idle.end().expect("an end that is meant");
    assert!(site.proxy.end().success());
}

#[test]
fn a_request_that_is_cut_is_not_whole() {
    let origin = Origin::start(|connection| while connection.request().is_some() {});
    let site = SecuredProxy::before(&origin, "");
    for (id, chunked) in [("length", false), ("chunked", true)] {
        let mut client = site.connect();
        let framing = if chunked { "transfer-encoding: chunked" } else { "content-length: 8" };
        let body = if chunked { "4\r\nhalf\r\n" } else { "half" };
        client.send(format!(
            "POST / HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\n{framing}\r\n\r\n{body}"
        ));
        client.cut();
        let told = site.proxy.told(id);
        assert_eq!(told.last().map(String::as_str), Some("client closed request"), "{id}");
    }
    // One may be cut before any of it goes on.
    assert!(origin.seen().iter().all(|seen| seen.request.broken.is_some()));
}

/// How a client goes.
#[derive(Clone, Copy, Debug)]
enum By {
    Closing,
    Reset,
    HalfClosing,
    /// Without a word of TLS.
    Cutting,
}

#[test]
fn a_client_that_goes_is_noticed_at_once() {
    let origin = Origin::start(|connection| {
        let Some(seen) = connection.head() else { return };
        if seen.request.target() == "/endless" {
            connection.wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
            while connection.wire.try_send(&chunk).is_ok() {}
        }
        connection.wire.rest();
    });
    let site = SecuredProxy::before(&origin, "");
    for path in ["/wait", "/endless"] {
        for by in [By::Closing, By::Reset, By::HalfClosing, By::Cutting] {
            let id = format!("{}-{by:?}", &path[1..]);
            let mut client = site.connect();
            client.send(get(path, &id));
            eventually("it upstream", || {
                let is_it =
                    |seen: &fusebox_dev::Seen| seen.request.header("x-request-id") == Some(&id);
                origin.seen().iter().any(is_it).then_some(())
            });
            let start = Instant::now();
            let kept = leave(client, by);
            site.proxy.counts(&[("fusebox_connections", 0.0)]);
            assert!(start.elapsed() < Duration::from_secs(5), "{id}: {:?}", start.elapsed());
            site.proxy.story(&id);
            drop(kept);
        }
    }
}

fn leave(mut client: Wire, by: By) -> Option<Wire> {
    match by {
        By::Closing => return None,
        By::Reset => {
            client.resets();
            return None;
        }
        By::HalfClosing => client.finish(),
        By::Cutting => client.cut(),
    }
    Some(client)
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "[listener]\nmax_body = '1KiB'\n");
    let mut client = site.connect();
    client.send(format!("POST / HTTP/1.1\r\nhost: b\r\ncontent-length: {LARGE}\r\n\r\n"));
    // It takes all of that, though nobody wants it.
    for _ in 0..64 {
        client.send(vec![b'x'; 64 * 1024]);
    }
    assert_eq!(client.response().status(), 413);
    client.finish();
    client.end().expect("an end that is meant");
}

#[test]
fn a_client_is_told_to_send_its_body() {
    let origin = Origin::answering([ok("fine")]);
    let site = SecuredProxy::before(&origin, "");
    let mut client = site.connect();
    client.send("POST / HTTP/1.1\r\nhost: b\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    assert_eq!(client.head().expect("a head").status(), 100);
    client.send("body");
    assert_eq!(client.response().text(), "fine");
    assert_eq!(origin.only().body, b"body");
}

#[test]
fn idle_connections_hold_little_memory() {
    const COUNT: usize = 400;
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    let client = site.client();
    let open = |count: usize| -> Vec<Wire> {
        let mut wires: Vec<_> = (0..count).map(|_| site.connect_by(&client)).collect();
        for wire in &mut wires {
            assert_eq!(wire.ask(get("/", "1")).status(), 200);
        }
        wires
    };
    // What is taken once and kept.
    let few = open(16);
    let before = site.proxy.private_memory();
    let many = open(COUNT);
    let each = site.proxy.private_memory().saturating_sub(before) / COUNT as u64;
    assert!(each <= 20 * 1024, "{each} bytes each");
    drop((few, many));
}

#[test]
fn a_tunnel_ends_as_its_upstream_does() {
    let origin = Origin::start(|connection| {
        let Some(seen) = connection.request() else { return };
        connection.wire.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\nearly");
        let said = connection.wire.exactly(5);
        connection.wire.send(said);
        connection.wire.exactly(3);
        if seen.request.target() == "/x/broken" {
            connection.wire.resets();
        }
    });
    let route = "[[routes]]\npath = '/x'\nupstream = 'ORIGIN'\nupgrades = ['x']\n";
    let site = SecuredProxy::before(&origin, route);
    for (path, is_meant) in [("/x", true), ("/x/broken", false)] {
        let mut client = site.connect();
        client.send(format!(
            "GET {path} HTTP/1.1\r\nhost: b.example\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n"
        ));
        assert_eq!(client.head().expect("a head").status(), 101);
        assert_eq!(client.exactly(5), b"early");
        client.send("hello");
        assert_eq!(client.exactly(5), b"hello");
        client.send("end");
        assert_eq!(client.end().is_ok(), is_meant, "{path}");
    }
}
