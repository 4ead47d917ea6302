//! Connections that switch to another protocol.

use std::fs;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use fusebox_dev::{
    LIMIT, Origin, OriginConnection, Wire, answer, eventually, get, is_status, ok, predicate,
};

use crate::components::RETRY;
use crate::support::{Proxy, ROUTE, fusebox};

const KEYS: &str = "upgrades = ['websocket', 'other']\n";

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
    upgrade: WebSocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// Answers the first request of each connection with a switch, and then talks like this.
fn switching(talk: impl Fn(&mut Wire) + Send + Sync + 'static) -> Origin {
    Origin::start(move |connection: &mut OriginConnection| {
        if connection.request().is_some() {
            connection.wire.send(SWITCH);
            talk(&mut connection.wire);
        }
    })
}

/// Says back what it is told, 5 bytes at a time, until its peer has said all.
fn echo(wire: &mut Wire) {
    loop {
        let word = wire.up_to(5);
        if word.len() < 5 || wire.try_send(word).is_err() {
            return;
        }
    }
}

fn before(origin: &Origin) -> Proxy {
    Proxy::before(origin, &format!("workers = 1\nlog = {{ level = 'debug' }}\n{ROUTE}{KEYS}"))
}

/// A client in a tunnel.
#[track_caller]
fn switched(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect();
    assert_eq!(client.ask(ASK).status(), 101);
    client
}

/// Waits until it has been sent through.
fn signal<T: Send + 'static>() -> (Mutex<Sender<T>>, Receiver<T>) {
    let (sender, receiver) = channel();
    (Mutex::new(sender), receiver)
}

// ===== the switch =====

#[test]
fn a_named_protocol_is_asked_for_and_spoken_in_both_directions() {
    let origin = switching(echo);
    let proxy = before(&origin);
    let mut client = proxy.connect();
    // What comes right behind the head is the first of it.
    client.send(format!("{ASK}early"));
    let head = client.head().expect("a head");
    assert_eq!(head.status(), 101);
    for (name, value) in [
        ("upgrade", Some("WebSocket")),
        ("connection", Some("upgrade")),
        ("sec-websocket-accept", Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        ("x-request-id", Some("1")),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(head.header(name), value, "{name}");
    }
    assert_eq!(client.exactly(5), b"early");
    for _ in 0..100 {
        client.send("hello");
        assert_eq!(client.exactly(5), b"hello");
    }
    proxy.counts(&[(r#"fusebox_tunnels{route="/"}"#, 1.0)]);
    client.finish();
    assert_eq!(client.rest(), b"");

    let seen = origin.only();
    assert_eq!(
        (seen.header("connection"), seen.header("upgrade")),
        (Some("upgrade"), Some("websocket"))
    );
    assert_eq!(seen.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
    assert_eq!(
        proxy.told("1"),
        [
            "Attempt 1: 101",
            "Tunnel opened",
            "Tunnel ended: both sides have closed",
            "101: Switching Protocols"
        ]
    );
    let line = proxy.story("1").pop().expect("the access line");
    assert_eq!(
        (&line["request"]["length"], &line["response"]["length"]),
        (&505.into(), &505.into())
    );
    assert_eq!((&line["response"]["end"], &line["level"]), (&"whole".into(), &"INFO".into()));
    proxy.counts(&[
        (r#"fusebox_requests_total{route="/",status="101"}"#, 1.0),
        (r#"fusebox_attempts_total{route="/",outcome="1xx"}"#, 1.0),
        (r#"fusebox_tunnels{route="/"}"#, 0.0),
        (r#"fusebox_tunnels_ended_total{route="/",end="closed"}"#, 1.0),
        (r#"fusebox_tunnel_bytes_total{route="/",direction="in"}"#, 505.0),
        (r#"fusebox_tunnel_bytes_total{route="/",direction="out"}"#, 505.0),
    ]);
}

#[test]
fn what_an_upstream_says_right_behind_its_head_comes_through() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.wire.send(format!("{SWITCH}early"));
        echo(&mut connection.wire);
    });
    let proxy = before(&origin);
    let mut client = switched(&proxy);
    assert_eq!(client.exactly(5), b"early");
    client.send("again");
    assert_eq!(client.exactly(5), b"again");
}

#[test]
fn what_is_not_named_is_not_asked_for() {
    let origin = Origin::answering([ok("plain")]);
    let named = format!("{ROUTE}{KEYS}");
    let h2c = ASK
        .replace("connection: Upgrade", "connection: Upgrade, HTTP2-Settings")
        .replace("upgrade: websocket", "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAAAAIAAAAA");
    let unnominated = ASK.replace("connection: Upgrade", "connection: keep-alive");
    let old = ASK.replace("HTTP/1.1", "HTTP/1.0").replace("Upgrade\r\n", "Upgrade, keep-alive\r\n");
    for (config, request) in [(ROUTE, ASK), (&named, &h2c), (&named, &unnominated), (&named, &old)]
    {
        let proxy = Proxy::before(&origin, config);
        let before = origin.seen().len();
        let mut client = proxy.connect();
        for _ in 0..2 {
            assert_eq!(client.ask(request).text(), "plain", "the connection goes on");
        }
        for seen in &origin.seen()[before..] {
            for name in ["connection", "upgrade", "http2-settings"] {
                assert_eq!(seen.request.header(name), None, "{request}");
            }
        }
    }
    // Of several, those that are named.
    let proxy = Proxy::before(&origin, &named);
    let before = origin.seen().len();
    proxy.ask(ASK.replace("upgrade: websocket", "upgrade: h2c, OTHER/2, websocket"));
    assert_eq!(origin.seen()[before].request.header("upgrade"), Some("OTHER/2, websocket"));
}

#[test]
fn a_switch_that_was_not_asked_for_is_no_answer() {
    for (request, switch, detail) in [
        (get("/", "1"), SWITCH.to_owned(), "switched protocols without being asked"),
        (
            ASK.to_owned(),
            SWITCH.replace("WebSocket", "h2c"),
            "switched to another protocol than was asked for",
        ),
        (
            ASK.to_owned(),
            SWITCH.replace("upgrade: WebSocket\r\n", ""),
            "switched to another protocol than was asked for",
        ),
        (
            ASK.to_owned(),
            SWITCH.replace("WebSocket", "WebSocket, other"),
            "switched to another protocol than was asked for",
        ),
    ] {
        // What comes behind it must not come through.
        let origin = Origin::answering([format!("{switch}HTTP/1.1 200 OK\r\n\r\n")]);
        let proxy = before(&origin);
        let mut client = proxy.connect();
        let answer = client.ask(&request);
        assert_eq!(answer.status(), 502, "{detail}");
        let line = proxy.story("1").pop().expect("the access line");
        assert_eq!((&line["failure"], &line["detail"]), (&"protocol".into(), &detail.into()));
        // The client's connection is as good as before.
        assert_eq!(client.ask(get("/", "2")).status(), 502);
    }
}

#[test]
fn another_answer_leaves_both_connections_as_they_were() {
    for refused in [
        answer(426, "upgrade: websocket\r\nsec-websocket-version: 13\r\n", "not this version"),
        answer(403, "", "not you"),
        answer(200, "connection: upgrade\r\nupgrade: h2c\r\n", "what?"),
        "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(),
    ] {
        let origin = Origin::answering([refused.clone(), ok("plain")]);
        let proxy = before(&origin);
        let mut client = proxy.connect();
        let answer = client.ask(ASK);
        assert!(refused.contains(&format!(" {} ", answer.status())), "{refused}");
        assert_eq!((answer.header("connection"), answer.header("upgrade")), (None, None));
        assert_eq!(client.ask(get("/", "2")).text(), "plain");
        assert_eq!((origin.seen().len(), origin.connections()), (2, 1));
    }
}

#[test]
fn a_request_with_a_body_is_sent_whole_before_the_switch() {
    let body = "x".repeat(200_000);
    let ask = ASK.replace("GET", "POST").replace(
        "upgrade: websocket\r\n",
        &format!("upgrade: other\r\ncontent-length: {}\r\n", body.len()),
    );
    let origin = Origin::start(move |connection| {
        connection.request();
        connection.wire.send(SWITCH.replace("WebSocket", "other"));
        echo(&mut connection.wire);
    });
    let proxy = before(&origin);
    let mut client = proxy.connect();
    client.send(ask);
    client.send(&body);
    client.send("early");
    assert_eq!(client.head().expect("a head").status(), 101);
    assert_eq!(client.exactly(5), b"early");
    assert_eq!(origin.only().body.len(), body.len());
}

#[test]
fn an_upstream_that_switches_within_a_request_is_none() {
    let origin = Origin::start(|connection| {
        connection.head();
        connection.wire.send(SWITCH);
        connection.wire.rest();
    });
    let proxy = before(&origin);
    let mut client = proxy.connect();
    client.send(ASK.replace("GET", "POST").replace("\r\n\r\n", "\r\ncontent-length: 10\r\n\r\n"));
    client.send("half");
    assert_eq!(client.any_response().status(), 502);
}

// ===== policies =====

#[test]
fn an_upgrade_is_retried_until_the_switch_and_never_after_it() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            if seen.number < 2 {
                connection.wire.send(answer(503, "", "not now"));
                continue;
            }
            connection.wire.send(SWITCH);
            connection.wire.resets();
            connection.wire.exactly(5);
            return;
        }
    });
    let retry = "[policies.retry]\nkind = 'retry'\nmax_retries = 3\ndelay = '1ms'\n";
    let config = format!("workers = 1\n{retry}{ROUTE}{KEYS}policies = ['retry']\n");
    let proxy = Proxy::before(&origin, &config);
    let mut client = switched(&proxy);
    client.send("hello");
    client.rest();
    assert_eq!(origin.seen().len(), 3);
    let line = proxy.story("1").pop().expect("the access line");
    assert_eq!((&line["attempts"], &line["response"]["status"]), (&3.into(), &101.into()));
    assert_eq!(line["response"]["end"], "broken");
}

#[test]
fn a_component_judges_the_switch_and_its_next_version_leaves_the_tunnel_alone() {
    let origin = switching(echo);
    let config = format!("{}{KEYS}", RETRY.replace("OPTIONS", ""));
    let [judges_it, other] = [101, 503].map(|status| predicate(&is_status(status)));
    let proxy = Proxy::with_files(&origin, &[("c.wasm", &judges_it)], &config);
    let mut client = switched(&proxy);
    assert_eq!(origin.seen().len(), 2, "the first was taken for a failure");
    let token = "authorization: Bearer open sesame\r\n";
    assert_eq!(proxy.admin_sending("PUT /components/c", token, &other).status(), 200);
    client.send("hello");
    assert_eq!(client.exactly(5), b"hello");
}

#[test]
fn an_upgrade_is_not_hedged() {
    let (sender, asked) = signal();
    let origin = Origin::start(move |connection| {
        connection.request();
        sender.lock().expect("no panic").send(()).ok();
        thread::park_timeout(Duration::from_millis(100));
        connection.wire.send(SWITCH);
        echo(&mut connection.wire);
    });
    let hedge = "[policies.hedge]\nkind = 'hedge'\ndelay = '1ms'\nbudget = 'none'\n";
    let proxy = Proxy::before(&origin, &format!("{hedge}{ROUTE}{KEYS}policies = ['hedge']\n"));
    drop(switched(&proxy));
    asked.recv_timeout(LIMIT).expect("an attempt");
    assert!(proxy.told("1").contains(&"Not hedged: it asks for another protocol".to_owned()));
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_timeout_is_for_the_head_alone() {
    let origin = switching(echo);
    let timeout = "[policies.timeout]\nkind = 'timeout'\nlimit = '200ms'\n";
    let config = format!(
        "listener = {{ max_deadline = '250ms', min_rate = '1MiB', body_timeout = '200ms' }}\n\
         {timeout}[[routes]]\nupstream = {{ url = 'ORIGIN', body_timeout = '200ms', \
         response_timeout = '250ms' }}\n{KEYS}policies = ['timeout']\n"
    );
    let proxy = Proxy::before(&origin, &config);
    let mut client = switched(&proxy);
    client.stays_silent(Duration::from_millis(600));
    client.send("hello");
    assert_eq!(client.exactly(5), b"hello");
}

#[test]
fn a_tunnel_holds_its_places_until_its_end() {
    let origin = switching(echo);
    let bulkhead = "[policies.bulkhead]\nkind = 'bulkhead'\nmax_concurrency = 1\n";
    for (config, policies) in [
        ("listener = { max_in_flight = 1 }\n".to_owned(), ""),
        (bulkhead.to_owned(), "policies = ['bulkhead']\n"),
    ] {
        let proxy = Proxy::before(&origin, &format!("{config}{ROUTE}{KEYS}{policies}"));
        let client = switched(&proxy);
        let refused = proxy.ask(ASK.replace("id: 1", "id: 2"));
        assert_eq!(refused.status(), 503, "{config}");
        drop(client);
        eventually("the place is free", || {
            let mut client = proxy.connect();
            (client.ask(ASK.replace("id: 1", "id: 3")).status() == 101).then_some(())
        });
    }
}

// ===== ends =====

#[test]
fn a_half_close_goes_on_and_the_other_way_is_still_open() {
    // The client has said all, the upstream has not.
    let origin = switching(|wire| {
        assert_eq!(wire.rest(), b"question");
        wire.send("answer");
    });
    let proxy = before(&origin);
    let mut client = switched(&proxy);
    client.send("question");
    client.finish();
    assert_eq!(client.rest(), b"answer");

    // The other way round.
    let (sender, heard) = signal();
    let origin = switching(move |wire| {
        wire.send("question");
        wire.finish();
        sender.lock().expect("no panic").send(wire.rest()).ok();
    });
    let proxy = before(&origin);
    let mut client = switched(&proxy);
    assert_eq!(client.rest(), b"question");
    client.send("answer");
    drop(client);
    assert_eq!(heard.recv_timeout(LIMIT).expect("an end"), b"answer");
    proxy.counts(&[(r#"fusebox_tunnels_ended_total{route="/",end="closed"}"#, 1.0)]);
}

#[test]
fn who_breaks_off_is_told() {
    // The client.
    let (sender, ended) = signal();
    let origin = switching(move |wire| {
        wire.exactly(5);
        sender.lock().expect("no panic").send(wire.rest()).ok();
    });
    let proxy = before(&origin);
    let mut client = switched(&proxy);
    client.send("hello");
    client.resets();
    proxy.counts(&[(r#"fusebox_tunnels{route="/"}"#, 1.0)]);
    drop(client);
    assert_eq!(ended.recv_timeout(LIMIT).expect("an end"), b"");
    let line = proxy.story("1").pop().expect("the access line");
    assert_eq!(line["response"]["end"], "discarded");
    proxy.counts(&[(r#"fusebox_tunnels_ended_total{route="/",end="client-lost"}"#, 1.0)]);

    // The upstream, whose last words still come through.
    let origin = switching(|wire| {
        wire.send("hello");
        wire.exactly(5);
        wire.resets();
    });
    let proxy = before(&origin);
    let mut client = switched(&proxy);
    assert_eq!(client.exactly(5), b"hello");
    client.send("hello");
    assert_eq!(client.rest(), b"");
    let line = proxy.story("1").pop().expect("the access line");
    assert_eq!(line["response"]["end"], "broken");
    proxy.counts(&[(r#"fusebox_tunnels_ended_total{route="/",end="upstream-lost"}"#, 1.0)]);
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends() {
    let origin = switching(echo);
    let config = format!("{ROUTE}{KEYS}tunnel_idle_timeout = '400ms'\n");
    let proxy = Proxy::before(&origin, &config);
    let mut client = switched(&proxy);
    for _ in 0..3 {
        client.stays_silent(Duration::from_millis(200));
        client.send("hello");
        assert_eq!(client.exactly(5), b"hello");
    }
    assert_eq!(client.rest(), b"");
    assert!(proxy.told("1").contains(&"Tunnel ended: nothing moved for too long".to_owned()));
    proxy.counts(&[(r#"fusebox_tunnels_ended_total{route="/",end="idle"}"#, 1.0)]);
}

#[test]
fn a_shutdown_waits_for_tunnels_and_then_cuts_them() {
    let origin = switching(echo);
    for (limit, cut) in [("30s", false), ("300ms", true)] {
        let config = format!("listener = {{ drain_timeout = '{limit}' }}\n{ROUTE}{KEYS}");
        let proxy = Proxy::before(&origin, &config);
        let mut client = switched(&proxy);
        proxy.signal("TERM");
        proxy.line("draining");
        client.send("hello");
        assert_eq!(client.exactly(5), b"hello", "it is served on");
        if !cut {
            client.finish();
        }
        assert_eq!(client.rest(), b"");
        let stopped = proxy.line("stopped");
        assert_eq!(stopped["connections_cut"], u64::from(cut));
        let told = proxy.told("1");
        assert_eq!(told.contains(&"Tunnel ended: cut".to_owned()), cut, "{told:?}");
    }
}

// ===== amounts =====

#[test]
fn who_does_not_take_what_is_sent_holds_up_the_sender_and_little_memory() {
    const MUCH: usize = 64 << 20;
    let (sender, sent) = signal();
    let origin = switching(move |wire| {
        let mut other = wire.sender();
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..MUCH >> 20 {
            other.send(&piece);
        }
        sender.lock().expect("no panic").send(()).ok();
        wire.exactly(1);
    });
    let proxy = before(&origin);
    let before = proxy.private_memory();
    let mut client = switched(&proxy);
    sent.recv_timeout(Duration::from_millis(500)).expect_err("it is held up");
    let grown = proxy.private_memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown}");
    assert_eq!(client.exactly(MUCH).len(), MUCH);
    sent.recv_timeout(LIMIT).expect("all is sent");
    client.send("x");
    client.rest();
}

#[test]
fn what_is_said_comes_through_unchanged_in_both_directions_at_once() {
    let origin = switching(|wire| {
        let mut sender = wire.sender();
        let sending = thread::spawn(move || {
            for round in 0..4_000_u32 {
                sender.send(vec![round as u8; 1 + (round as usize * 37) % 9_000]);
            }
            sender.finish();
        });
        let heard = wire.rest();
        sending.join().expect("no panic");
        assert_eq!(heard, script());
    });
    let proxy = before(&origin);
    let mut client = switched(&proxy);
    let mut sender = client.sender();
    let sending = thread::spawn(move || {
        sender.send(script());
        sender.finish();
    });
    assert!(client.rest() == script());
    sending.join().expect("no panic");
    let line = proxy.story("1").pop().expect("the access line");
    assert_eq!(line["response"]["length"], script().len());
    assert_eq!(line["request"]["length"], script().len());
}

fn script() -> Vec<u8> {
    (0..4_000_u32).flat_map(|round| vec![round as u8; 1 + (round as usize * 37) % 9_000]).collect()
}

#[cfg(target_os = "linux")]
#[test]
fn a_tunnel_that_waits_holds_little() {
    const COUNT: usize = 300;
    let origin = switching(|wire| {
        wire.rest();
    });
    let proxy = before(&origin);
    let warm: Vec<Wire> = (0..50).map(|_| switched(&proxy)).collect();
    let before = proxy.private_memory();
    let clients: Vec<Wire> = (0..COUNT).map(|_| switched(&proxy)).collect();
    proxy.counts(&[(r#"fusebox_tunnels{route="/"}"#, (COUNT + warm.len()) as f64)]);
    let each = proxy.private_memory().saturating_sub(before) / COUNT as u64;
    assert!(each <= 24 << 10, "{each} bytes");
    drop(clients);
}

// ===== configuration =====

#[test]
fn what_no_protocol_is_called_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    for (keys, words) in [
        (
            "upgrades = ['websocket', 'h2c']",
            "by `h2c`, requests would pass all routes and policies",
        ),
        ("upgrades = ['TLS']", "by `TLS`, requests would pass all routes and policies"),
        ("upgrades = ['spdy/3.1']", "expected the name of a protocol without version"),
        ("upgrades = ['']", "expected the name of a protocol without version"),
        ("upgrades = 'websocket'", "expected a list"),
        ("tunnel_idle_timeout = '0s'", "tunnel_idle_timeout"),
    ] {
        let config = format!("listen = '127.0.0.1:0'\n[[routes]]\nupstream = 'http://b'\n{keys}\n");
        fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
        let told = fusebox(directory.path(), &["check"]).error;
        assert!(told.contains(words), "{keys}: {told}");
    }
}
