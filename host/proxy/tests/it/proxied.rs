//! The PROXY protocol: whose connection a load balancer hands on.

use std::net::Ipv4Addr;
use std::time::Duration;

use fusebox_dev::{Authority, Origin, Wire, get, ok};
use tokio::time::Instant;

use crate::support::{Proxy, ROUTE, fusebox};

const V1: &str = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

/// Version 2: a command (1: of a client), a family, and what follows.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).expect("a length");
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(length.to_be_bytes());
    header.extend(rest);
    header
}

fn v4(client: [u8; 4]) -> Vec<u8> {
    [&client[..], &[198, 51, 100, 1, 1, 2, 3, 4]].concat()
}

fn proxy(origin: &Origin, more: &str) -> Proxy {
    let listener = "[listener]\nproxy_protocol = true\ntrusted = ['127.0.0.1']\n";
    Proxy::before(origin, &format!("{listener}{more}{ROUTE}"))
}

/// Who the upstream is told that asks, after such a header.
#[track_caller]
fn told(proxy: &Proxy, origin: &Origin, mut client: Wire, header: &[u8]) -> String {
    let before = origin.seen().len();
    client.send(header);
    assert_eq!(client.ask(get("/", "1")).status(), 200);
    assert_eq!(client.ask(get("/", "2")).status(), 200, "it is there once");
    let seen = origin.seen()[before].request.clone();
    let told = seen.header("x-forwarded-for").expect("a client").to_owned();
    assert_eq!(proxy.story("2").pop().expect("a line")["request"]["ip"], *told);
    told
}

#[test]
fn a_header_says_who_the_client_is() {
    let origin = Origin::answering([ok("")]);
    let v6 = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7], &[0; 16], &[1, 2, 3, 4]].concat();
    let mapped = [&[0; 10][..], &[255, 255, 192, 0, 2, 9], &[0; 16], &[1, 2, 3, 4]].concat();
    let with_more = [v4([192, 0, 2, 8]), vec![4, 0, 100], vec![0; 100]].concat();
    for (header, client) in [
        (V1.as_bytes().to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), "2001:db8::7"),
        (v2(1, 0x11, &v4([192, 0, 2, 8])), "192.0.2.8"),
        (v2(1, 0x11, &with_more), "192.0.2.8"),
        (v2(1, 0x21, &v6), "2001:db8::7"),
        (v2(1, 0x21, &mapped), "192.0.2.9"),
        // Of itself: nobody's connection.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), "127.0.0.1"),
        (v2(0, 0, &[]), "127.0.0.1"),
        (v2(0, 0x11, &v4([192, 0, 2, 8])), "127.0.0.1"),
    ] {
        let proxy = proxy(&origin, "");
        assert_eq!(told(&proxy, &origin, proxy.connect(), &header), client, "{header:?}");
    }
}

#[test]
fn a_header_may_come_in_pieces_and_what_is_behind_it_is_not_lost() {
    let origin = Origin::answering([ok("")]);
    let proxy = proxy(&origin, "");
    for header in [V1.as_bytes().to_vec(), v2(1, 0x11, &v4([192, 0, 2, 7]))] {
        let mut client = proxy.connect();
        for byte in &header {
            client.send([*byte]);
            // Each byte comes by itself.
            std::thread::yield_now();
        }
        client.send(get("/", "1") + &get("/", "2"));
        assert_eq!((client.response().status(), client.response().status()), (200, 200));
        let mut client = proxy.connect();
        client.send([&header, get("/", "3").as_bytes()].concat());
        assert_eq!(client.response().status(), 200);
    }
    let all = origin.seen();
    assert_eq!(all.len(), 6);
    let told = |seen: &fusebox_dev::Seen| seen.request.header("x-forwarded-for").map(str::to_owned);
    assert!(all.iter().all(|seen| told(seen).as_deref() == Some("192.0.2.7")), "{all:?}");
}

#[test]
fn nobody_is_believed_who_is_not_trusted() {
    let origin = Origin::answering([ok("")]);
    let proxy = proxy(&origin, "");
    let from = Ipv4Addr::new(127, 0, 0, 2).into();
    let stranger = || Wire::connect_from(from, proxy.address());
    assert_eq!(told(&proxy, &origin, stranger(), V1.as_bytes()), "127.0.0.2");
    // Nor is the client whom a header names, if it says where it comes from.
    let mut client = proxy.connect();
    client.send(V1);
    let claim = "GET / HTTP/1.1\r\nhost: b\r\nx-forwarded-for: 203.0.113.1\r\n\r\n";
    assert_eq!(client.ask(claim).status(), 200);
    let last = origin.seen().pop().expect("a request").request;
    assert_eq!(last.header("x-forwarded-for"), Some("192.0.2.7"));
}

#[test]
fn what_does_not_begin_with_a_header_is_refused() {
    let origin = Origin::answering([ok("")]);
    let proxy = proxy(&origin, "");
    let long = format!("PROXY TCP4 {} 1 2\r\n", "1".repeat(200));
    let wrong: Vec<Vec<u8>> = vec![
        get("/", "1").into(),
        b"POST / HTTP/1.1\r\n\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.256 198.51.100.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n".to_vec(),
        b"PROXY TCP5 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\r ".to_vec(),
        long.into(),
        b"PROXY UNKNOWN ".iter().copied().chain([b'x'; 200]).collect(),
        v2(2, 0x11, &v4([192, 0, 2, 7])),
        v2(1, 0x41, &v4([192, 0, 2, 7])),
        v2(1, 0x11, &[192, 0, 2, 7]),
        v2(1, 0x21, &v4([192, 0, 2, 7])),
        // Longer than any is.
        v2(1, 0x11, &[0; 5000]),
        vec![0; 64],
        vec![22, 3, 1, 0, 200],
    ];
    let count = wrong.len();
    for bytes in wrong {
        let mut client = proxy.connect();
        client.try_send(&bytes).ok();
        let answer = client.head().unwrap_or_else(|| panic!("no answer to {bytes:?}"));
        assert_eq!(answer.status(), 400, "{bytes:?}");
    }
    let line = proxy.line("Request refused: no valid header of the PROXY protocol");
    assert_eq!((&line["reason"], &line["ip"]), (&"proxy-header".into(), &"127.0.0.1".into()));
    let refused = "fusebox_requests_refused_total{route=\"none\",reason=\"proxy-header\"}";
    proxy.counts(&[(refused, count as f64)]);
    assert!(origin.seen().is_empty());
}

#[test]
fn a_header_has_to_come_in_time() {
    let origin = Origin::answering([ok("")]);
    let proxy = proxy(&origin, "header_timeout = '300ms'\n");
    for begun in ["", "PROXY TCP4 192.0.2.7 ", "\r\n\r\n\0\r\nQUIT\n"] {
        let start = Instant::now();
        let mut client = proxy.connect();
        client.send(begun);
        assert_eq!(client.head().expect("an answer").status(), 408, "{begun:?}");
        assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
    }
    // Who only looks whether the port is open is no failure.
    proxy.connect().finish();
    proxy.counts(&[("fusebox_connections", 0.0)]);
    let slow = "fusebox_requests_refused_total{route=\"none\",reason=\"slow-head\"}";
    proxy.counts(&[(slow, 3.0)]);
}

#[test]
fn a_header_goes_before_tls() {
    let origin = Origin::answering([ok("")]);
    let authority = Authority::new("ours");
    let issued = authority.issue("b", &["b.example"]);
    let files = [("b.pem", issued.cert.as_bytes()), ("b.key", issued.key.as_bytes())];
    let config = format!(
        "[listener]\nproxy_protocol = true\ntrusted = ['127.0.0.1']\n\
         tls = {{ certificates = [{{ cert = 'b.pem', key = 'b.key' }}] }}\n{ROUTE}"
    );
    let proxy = Proxy::with_files(&origin, &files, &config);
    let mut client = proxy.connect();
    client.send(V1);
    let client = &mut client.securing(&authority.client(None).into(), "b.example").expect("TLS");
    assert_eq!(client.ask(get("/", "1")).status(), 200);
    let seen = origin.only();
    assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.7"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
}

#[test]
fn somebody_has_to_be_believed() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "listen = '127.0.0.1:0'\n[listener]\nproxy_protocol = true\n\
                  [[routes]]\nupstream = 'http://b'\n";
    std::fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
    let said = fusebox(directory.path(), &["check"]).error;
    let expected = "fusebox.toml:3: listener.proxy_protocol: needs `trusted`: the networks of \
                    those who are believed\n";
    assert_eq!(said, expected);
}
