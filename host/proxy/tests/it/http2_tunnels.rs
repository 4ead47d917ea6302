//! Tunnels over HTTP/2, by extended CONNECT (RFC 8441): from clients, to upstreams, and both.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use bytes::Bytes;
use fusebox_dev::{
    H2Exchange, H2Origin, LIMIT, Origin, OriginConnection, Wire, answer, eventually, kind, ok,
};
use h2::ext::Protocol;
use h2::{Reason, server};
use http::request::Builder;
use http::{Request, Response};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::http2::client::{Client, Exchange};
use crate::support::{Proxy, ROUTE};

const KEYS: &str = "upgrades = ['websocket', 'other']\n";

fn before(origin: &impl std::fmt::Display, more: &str) -> Proxy {
    let config = format!("workers = 1\nlog = {{ level = 'debug' }}\n{ROUTE}{KEYS}{more}");
    Proxy::before(origin, &config)
}

fn connect(protocol: &'static str, id: &str) -> Builder {
    Request::connect("http://b.example/chat?x=1")
        .header("x-request-id", id)
        .header("sec-websocket-version", "13")
        .extension(Protocol::from_static(protocol))
}

/// What a server answers to a key (RFC 6455, section 4.2.2).
fn accept(key: &str) -> String {
    let told = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let sum = digest(&SHA1_FOR_LEGACY_USE_ONLY, told.as_bytes());
    let bits: String = sum.as_ref().iter().map(|byte| format!("{byte:08b}")).collect();
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let six = bits.as_bytes().chunks(6).map(|bits| {
        let bits = format!("{:0<6}", std::str::from_utf8(bits).expect("digits"));
        let index = usize::from_str_radix(&bits, 2).expect("a number");
        digits.as_bytes()[index] as char
    });
    six.chain(['=']).collect()
}

/// Answers the first request of each connection with a switch, and then talks like this.
fn switching(talk: impl Fn(&mut Wire) + Send + Sync + 'static) -> Origin {
    Origin::start(move |connection: &mut OriginConnection| {
        let Some(seen) = connection.request() else { return };
        let accept = accept(seen.request.header("sec-websocket-key").unwrap_or_default());
        connection.wire.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: {accept}\r\nsec-websocket-protocol: chat\r\n\r\n"
        ));
        talk(&mut connection.wire);
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

/// A tunnel that is open, and what comes in it.
#[track_caller]
fn opened<'a>(client: &'a Client, id: &str) -> (Exchange<'a>, h2::RecvStream) {
    let mut tunnel = client.begin(connect("websocket", id), false);
    let head = tunnel.head().expect("a response");
    assert_eq!(head.status(), 200);
    (tunnel, head.into_body())
}

/// Takes so many bytes.
#[track_caller]
fn take(tunnel: &Exchange<'_>, heard: &mut h2::RecvStream, length: usize) -> Vec<u8> {
    let mut taken = Vec::new();
    while taken.len() < length {
        taken.extend_from_slice(&tunnel.data(heard));
    }
    taken
}

// ===== from clients =====

#[test]
fn tunnels_are_offered_where_a_route_names_a_protocol() {
    let origin = Origin::answering([ok("")]);
    for (proxy, is_offered) in [(before(&origin, ""), true), (Proxy::before(&origin, ROUTE), false)]
    {
        let mut client = proxy.connect();
        client.begin_http2(&[]);
        let settings = client.frame_of(kind::SETTINGS).payload;
        // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441, section 3).
        let offers = settings.chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]);
        assert_eq!(offers, is_offered);
    }
}

#[test]
fn who_closes_the_connection_leaves_its_tunnels() {
    let origin = switching(echo);
    let proxy = before(&origin, "");
    let client = Client::connect(proxy.address());
    let (tunnel, heard) = opened(&client, "1");
    proxy.counts(&[(r#"fusebox_tunnels{route="/"}"#, 1.0)]);
    drop((tunnel, heard));
    drop(client);
    proxy.counts(&[
        (r#"fusebox_tunnels_ended_total{route="/",end="client-lost"}"#, 1.0),
        (r#"fusebox_tunnels_ended_total{route="/",end="cut"}"#, 0.0),
    ]);
}

#[test]
fn a_tunnel_is_an_upgrade_to_an_upstream_over_http1() {
    let origin = switching(echo);
    let proxy = before(&origin, "");
    let client = Client::connect(proxy.address());
    let mut tunnel = client.begin(connect("websocket", "1"), false);
    // What is said before the answer is the first of it.
    tunnel.send("early", false);
    let head = tunnel.head().expect("a response");
    let mut names: Vec<_> = head.headers().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["date", "sec-websocket-protocol", "via", "x-request-id"]);
    assert_eq!(head.status(), 200);
    let mut heard = head.into_body();
    assert_eq!(take(&tunnel, &mut heard, 5), b"early");
    for _ in 0..100 {
        tunnel.send("hello", false);
        assert_eq!(take(&tunnel, &mut heard, 5), b"hello");
    }
    proxy.counts(&[(r#"fusebox_tunnels{route="/"}"#, 1.0)]);
    tunnel.send("", true);
    let rest = tunnel.rest(Response::new(heard));
    assert_eq!((rest.text(), rest.reset), ("", None));

    let seen = origin.only();
    assert_eq!(seen.start, "GET /chat?x=1 HTTP/1.1");
    assert_eq!(
        ["connection", "upgrade", "sec-websocket-version"].map(|name| seen.header(name)),
        [Some("upgrade"), Some("websocket"), Some("13")]
    );
    assert_eq!(seen.header("sec-websocket-key").expect("a key").len(), 24);
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
        (&line["request"]["length"], &line["response"]["length"], &line["request"]["protocol"]),
        (&505.into(), &505.into(), &"HTTP/2".into())
    );
    proxy.counts(&[
        (r#"fusebox_tunnels{route="/"}"#, 0.0),
        (r#"fusebox_tunnels_ended_total{route="/",end="closed"}"#, 1.0),
        (r#"fusebox_tunnel_bytes_total{route="/",direction="in"}"#, 505.0),
    ]);
}

#[test]
fn much_goes_through_both_ways_beside_other_streams() {
    const LENGTH: usize = 3_000_000;
    let origin = switching(|wire| {
        let mut taken = 0;
        while taken < LENGTH {
            let piece = wire.up_to(50_000);
            taken += piece.len();
            wire.send(piece);
        }
    });
    let proxy = before(&origin, "");
    let client = Client::connect(proxy.address());
    let (mut tunnel, mut heard) = opened(&client, "1");
    let sent: Vec<u8> = (0..LENGTH).map(|at| (at % 251) as u8).collect();
    tunnel.send(sent.clone(), true);
    let refused = client.ask(connect("nothing", "2"));
    assert_eq!(refused.status, 501);
    assert!(take(&tunnel, &mut heard, LENGTH) == sent);
    let rest = tunnel.rest(Response::new(heard));
    assert_eq!((rest.text(), rest.reset), ("", None));
}

#[test]
fn what_is_no_switch_of_the_upstream_is_no_tunnel() {
    let wrong = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    for (answers, status, detail) in [
        (answer(403, "", "no"), 403, None),
        (ok("a page"), 502, Some("answered in place of switching protocols")),
        (
            wrong.to_owned(),
            502,
            Some("switched with a Sec-WebSocket-Accept that is not for our key"),
        ),
    ] {
        let origin = Origin::answering([answers]);
        let proxy = before(&origin, "");
        let client = Client::connect(proxy.address());
        let told = client.begin(connect("websocket", "1"), false).answer();
        assert_eq!((told.status, told.reset), (status, None));
        let line = proxy.story("1").pop().expect("the access line");
        assert_eq!(line["detail"].as_str(), detail);
    }
}

#[test]
fn what_a_route_does_not_name_is_not_implemented() {
    let origin = Origin::answering([ok("")]);
    let route = "[[routes]]\npath = '/plain'\nupstream = 'ORIGIN'\n";
    let proxy = before(&origin, route);
    let client = Client::connect(proxy.address());
    let to = |path: &str, protocol: &'static str| {
        let uri = format!("http://b.example{path}");
        Request::connect(uri).extension(Protocol::from_static(protocol))
    };
    for (path, protocol) in
        [("/plain", "websocket"), ("/", "spdy"), ("/", "websocket, other"), ("/", "")]
    {
        let answer = client.begin(to(path, protocol), false).answer();
        assert!(matches!(answer.status, 400 | 501), "{path} {protocol} {}", answer.status);
    }
    let line = proxy.line("Request refused: protocol of tunnel not supported");
    assert_eq!(line["reason"], "tunnel");
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn each_end_is_told_to_the_other_side() {
    let (gone, seen) = channel();
    let gone = Mutex::new(gone);
    let origin = switching(move |wire| {
        match &*wire.exactly(5) {
            b"break" => return wire.resets(),
            b"leave" => return wire.finish(),
            b"hello" => wire.send("heard"),
            _ => {}
        }
        gone.lock().expect("no panic").send(wire.rest()).ok();
    });
    let idle = "tunnel_idle_timeout = '300ms'\n";
    let proxy = before(&origin, idle);
    let client = Client::connect(proxy.address());
    for (word, end, told) in [
        ("break", Some(Reason::CANCEL), "Tunnel ended: the upstream broke off"),
        ("quiet", Some(Reason::CANCEL), "Tunnel ended: nothing moved for too long"),
        ("leave", None, ""),
    ] {
        let (mut tunnel, heard) = opened(&client, word);
        tunnel.send(word, false);
        let rest = tunnel.rest(Response::new(heard));
        assert_eq!(rest.reset, end, "{word}");
        if !told.is_empty() {
            assert_eq!(proxy.line(told)["request_id"], word);
        }
        drop(tunnel);
    }
    assert_eq!(seen.recv_timeout(LIMIT).expect("an end"), b"", "of the quiet one");
    let (mut tunnel, mut heard) = opened(&client, "client");
    tunnel.send("hello", false);
    assert_eq!(take(&tunnel, &mut heard, 5), b"heard");
    tunnel.give_up();
    assert_eq!(seen.recv_timeout(LIMIT).expect("an end"), b"");
    let lost = |line: &serde_json::Value| {
        line["msg"] == "Tunnel ended: the client broke off" && line["request_id"] == "client"
    };
    proxy.wait("its end", |lines| lines.iter().find(|line| lost(line)).cloned());
}

#[test]
fn a_proxy_that_ends_waits_for_tunnels() {
    let origin = switching(echo);
    let mut proxy = before(&origin, "");
    let client = Client::connect(proxy.address());
    let (mut tunnel, mut heard) = opened(&client, "1");
    proxy.signal("TERM");
    client.is_told_to_end();
    tunnel.send("still", false);
    assert_eq!(take(&tunnel, &mut heard, 5), b"still");
    tunnel.send("", true);
    let rest = tunnel.rest(Response::new(heard));
    assert_eq!((rest.text(), rest.reset), ("", None));
    drop(tunnel);
    drop(client);
    assert!(proxy.end().success());
}

// ===== to upstreams =====

/// An upstream over HTTP/2 that opens tunnels, and says back what it is told in them.
fn tunnelling() -> H2Origin {
    let mut builder = server::Builder::new();
    builder.enable_connect_protocol();
    H2Origin::with(builder, |mut exchange: H2Exchange| async move {
        if exchange.path == "/no" {
            return exchange.reset(Reason::REFUSED_STREAM);
        }
        let mut stream = exchange.answer(Response::new(()), false);
        while let Some(data) = exchange.data().await {
            stream.send_data(data, false).expect("it is open");
        }
        stream.send_data(Bytes::new(), true).ok();
    })
}

const HTTP2: &str = "workers = 1\nlog = { level = 'debug' }\n[[routes]]\n\
                     upgrades = ['websocket']\n\
                     upstream = { url = 'ORIGIN', protocol = 'http2' }\n";

const ASK: &str = "GET /chat?x=1 HTTP/1.1\r\nhost: b.example\r\nx-request-id: 1\r\n\
                   connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn an_upgrade_is_a_tunnel_to_an_upstream_over_http2() {
    let origin = tunnelling();
    let proxy = Proxy::before(&origin, HTTP2);
    let mut client = proxy.connect();
    client.send(format!("{ASK}early"));
    let head = client.head().expect("a head");
    assert_eq!(head.status(), 101);
    for (name, value) in [
        ("upgrade", Some("websocket")),
        ("connection", Some("upgrade")),
        ("sec-websocket-accept", Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
    ] {
        assert_eq!(head.header(name), value, "{name}");
    }
    assert_eq!(client.exactly(5), b"early");
    client.send("hello");
    assert_eq!(client.exactly(5), b"hello");
    client.finish();
    assert_eq!(client.rest(), b"");
    let seen = origin.only();
    assert_eq!((seen.head.method.as_str(), &*seen.body), ("CONNECT", &b"earlyhello"[..]));
    assert_eq!(seen.head.uri.to_string(), "http://b.example/chat?x=1");
    let protocol = seen.head.extensions.get::<Protocol>().expect("a protocol");
    assert_eq!(protocol.as_str(), "websocket");
    assert_eq!(
        ["connection", "upgrade", "sec-websocket-key", "sec-websocket-version"]
            .map(|name| seen.header(name)),
        [None, None, None, Some("13")]
    );
    let told = proxy.told("1");
    assert_eq!(told[2], "Tunnel ended: both sides have closed", "{told:?}");
}

#[test]
fn so_is_a_tunnel_of_a_client_over_http2_and_one_connection_has_both() {
    let origin = tunnelling();
    let proxy = Proxy::before(&origin, HTTP2);
    let client = Client::connect(proxy.address());
    let (mut one, mut heard) = opened(&client, "1");
    let (mut two, mut also) = opened(&client, "2");
    for word in ["hello", "again"] {
        one.send(word, false);
        assert_eq!(take(&one, &mut heard, 5), word.as_bytes());
        two.send(word, false);
        assert_eq!(take(&two, &mut also, 5), word.as_bytes());
    }
    one.give_up();
    let reset = || origin.seen()[0].reset;
    assert_eq!(eventually("a reset", reset), Reason::CANCEL);
    two.send("", true);
    assert_eq!(two.rest(Response::new(also)).reset, None);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_upstream_that_opens_no_tunnels_over_http2_is_asked_for_none() {
    let origin = H2Origin::start(|mut exchange| async move { exchange.ok("a page") });
    let proxy = Proxy::before(&origin, HTTP2);
    let client = Client::connect(proxy.address());
    let told = client.begin(connect("websocket", "1"), false).answer();
    assert_eq!(told.status, 502);
    let line = proxy.story("1").pop().expect("the access line");
    assert_eq!(line["detail"], "the upstream opens no tunnels over HTTP/2");
    // Over HTTP/1.1 an upgrade may go unheard.
    assert_eq!(proxy.ask(ASK).text(), "a page");
    let seen = origin.only();
    assert_eq!((seen.head.method.as_str(), seen.header("upgrade")), ("GET", None));
}
