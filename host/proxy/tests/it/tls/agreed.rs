//! Upstreams that say themselves, above TLS, what they speak.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use fusebox_dev::{
    Authority, FramedConnection, Origin, OriginConnection, RawFrame, Wire, eventually, get, kind,
    ok, post,
};
use rustls::ServerConfig;

use crate::support::Proxy;

const BOTH: &[&str] = &["h2", "http/1.1"];
const HTTP1: &[&str] = &["http/1.1"];

/// A server that takes these protocols, the preferred one first.
fn server(authority: &Authority, takes: &[&str]) -> ServerConfig {
    let mut server = authority.issue("b", &["b.example"]).server();
    server.alpn_protocols = takes.iter().map(|name| name.as_bytes().to_vec()).collect();
    server
}

/// Whether both sides have agreed on HTTP/2.
fn is_http2(wire: &Wire) -> bool {
    wire.session().state().alpn_protocol() == Some(&b"h2"[..])
}

/// Answers in what was agreed on, with its name, as long as `goes_on`; `/once` is the last.
fn answers(connection: &mut OriginConnection, mut goes_on: impl FnMut(bool) -> bool) {
    if !is_http2(&connection.wire) {
        while let Some(seen) = connection.request() {
            let is_switch = seen.request.header("upgrade").is_some();
            let answer = if is_switch { SWITCH.to_owned() } else { ok("http/1.1") };
            if !goes_on(false) || connection.wire.try_send(answer).is_err() {
                return;
            }
            if seen.request.target() == "/once" {
                return connection.wire.finish();
            }
        }
        return;
    }
    let mut peer = FramedConnection { number: 0, wire: &mut connection.wire };
    if !peer.wire.greets() {
        return;
    }
    peer.send(&[RawFrame::settings(&[])]);
    while let Some(frame) = peer.next_frame() {
        if frame.kind == kind::HEADERS {
            if !goes_on(true) {
                return;
            }
            peer.send(&[
                RawFrame::headers(frame.stream, &[(":status", "200")], false),
                RawFrame::data(frame.stream, "h2", true),
            ]);
        }
    }
}

const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

fn proxy(origin: &Origin, authority: &Authority, settings: &str) -> Proxy {
    let config = format!(
        "workers = 1\nlog = {{ level = 'debug' }}\n[[routes]]\nupstream = 'b'\n\
         upgrades = ['websocket']\n[upstreams.b]\nendpoints = ['ORIGIN']\n{settings}\n\
         tls = {{ server_name = 'b.example', ca = 'ca.pem' }}\n"
    );
    Proxy::with_files(origin, &[("ca.pem", authority.pem().as_bytes())], &config)
}

/// Asks so many times at once, and returns the answers.
#[track_caller]
fn ask_together(proxy: &Proxy, count: usize) -> Vec<String> {
    let mut clients: Vec<_> = (0..count).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(get("/", "1"));
    }
    clients.iter_mut().map(|client| client.response().text().to_owned()).collect()
}

#[test]
fn what_an_upstream_prefers_is_spoken_on_connections_that_are_kept() {
    let authority = Authority::new("theirs");
    for (takes, settings, spoken) in [
        (BOTH, "", "h2"),
        (&["http/1.1", "h2"], "", "http/1.1"),
        (HTTP1, "", "http/1.1"),
        (&[], "", "http/1.1"),
        (&["h2"], "", "h2"),
        (BOTH, "protocol = 'auto'", "h2"),
        (BOTH, "protocol = 'http1'", "http/1.1"),
        (&["http/1.1", "h2"], "protocol = 'http2'", "h2"),
    ] {
        let origin = Origin::secured(server(&authority, takes), |it| answers(it, |_| true));
        let proxy = proxy(&origin, &authority, settings);
        for id in ["1", "2"] {
            let answer = proxy.ask(post("body", id));
            assert_eq!((answer.status(), answer.text()), (200, spoken), "{takes:?} {settings}");
        }
        assert_eq!(origin.connections(), 1, "{takes:?} {settings}");
    }
}

#[test]
fn an_upstream_that_speaks_only_what_is_not_offered_gets_no_request() {
    let authority = Authority::new("theirs");
    for (takes, settings) in
        [(&["h2"][..], "protocol = 'http1'"), (HTTP1, "protocol = 'http2'"), (&["spdy/3"], "")]
    {
        let origin = Origin::secured(server(&authority, takes), |it| answers(it, |_| true));
        let proxy = proxy(&origin, &authority, settings);
        assert_eq!(proxy.ask(get("/", "1")).status(), 502, "{takes:?}");
        let line = proxy.story("1").pop().expect("an access line");
        let told = (line["failure"].as_str(), line["detail"].as_str());
        assert_eq!(told, (Some("tls"), Some("it says no_application_protocol")), "{takes:?}");
    }
}

#[test]
fn the_first_requests_wait_for_one_connection_and_share_it_or_make_their_own() {
    const COUNT: usize = 20;
    let authority = Authority::new("theirs");
    let origin = Origin::secured(server(&authority, BOTH), |it| answers(it, |_| true));
    let before = proxy(&origin, &authority, "");
    assert_eq!(ask_together(&before, COUNT), ["h2"; COUNT]);
    assert_eq!(origin.connections(), 1);
    // Over HTTP/1.1 none waits for the answer to another.
    let all = Arc::new(Barrier::new(COUNT));
    let origin = Origin::secured(server(&authority, HTTP1), move |it| {
        answers(it, |_| {
            all.wait();
            true
        });
    });
    let before = proxy(&origin, &authority, "");
    assert_eq!(ask_together(&before, COUNT), ["http/1.1"; COUNT]);
    assert_eq!(origin.connections(), COUNT);
}

#[test]
fn an_upstream_may_change_its_mind_and_no_request_is_lost_by_that() {
    let authority = Authority::new("theirs");
    let (both, old) = (server(&authority, BOTH).into(), server(&authority, HTTP1).into());
    let choose =
        move |number: usize| Arc::clone(if number.is_multiple_of(2) { &both } else { &old });
    // Each connection answers two requests, and ends in place of the third answer.
    let origin = Origin::secured_by(choose, |it| {
        let mut left = 2;
        answers(it, |_| {
            left -= 1;
            left >= 0
        });
    });
    let proxy = proxy(&origin, &authority, "");
    let spoken = ["h2", "h2", "http/1.1", "http/1.1", "h2", "h2", "http/1.1"];
    for (at, spoken) in spoken.into_iter().enumerate() {
        let answer = proxy.ask(get("/", &at.to_string()));
        assert_eq!((answer.status(), answer.text()), (200, spoken), "{at}");
        let line = proxy.story(&at.to_string()).pop().expect("an access line");
        assert_eq!(line["attempts"], 1, "{line}");
    }
    assert_eq!(proxy.lines("Attempt 1 sent again: its connection had died").len(), 3);
}

#[test]
fn of_many_new_connections_that_turn_out_to_be_over_http2_one_stays() {
    const COUNT: usize = 10;
    let authority = Authority::new("theirs");
    let (both, old) = (server(&authority, BOTH).into(), server(&authority, HTTP1).into());
    let choose = move |number: usize| Arc::clone(if number == 0 { &old } else { &both });
    let (used, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (count, gone) = (used.clone(), ended.clone());
    let origin = Origin::secured_by(choose, move |it| {
        let mut is_first = true;
        answers(it, |_| {
            if std::mem::take(&mut is_first) {
                count.fetch_add(1, Ordering::SeqCst);
            }
            true
        });
        gone.fetch_add(1, Ordering::SeqCst);
    });
    let proxy = proxy(&origin, &authority, "");
    assert_eq!(proxy.ask(get("/once", "0")).text(), "http/1.1");
    assert_eq!(ask_together(&proxy, COUNT), ["h2"; COUNT]);
    assert_eq!(used.load(Ordering::SeqCst), 2);
    // Those that gave way are closed, and so is the first.
    let left = || origin.connections() - ended.load(Ordering::SeqCst);
    eventually("closed connections", || (left() == 1).then_some(()));
}

#[test]
fn what_wants_an_upgrade_goes_over_http1_whatever_is_spoken_otherwise() {
    let authority = Authority::new("theirs");
    let origin = Origin::secured(server(&authority, BOTH), |it| answers(it, |_| true));
    let proxy = proxy(&origin, &authority, "");
    assert_eq!(proxy.ask(get("/", "1")).text(), "h2");
    let upgrade = "\r\nconnection: upgrade\r\nupgrade: websocket\r\nhost:";
    let mut client = proxy.connect();
    client.send(get("/", "2").replacen("\r\nhost:", upgrade, 1));
    assert_eq!(client.head().expect("a head").status(), 101);
    assert_eq!(proxy.ask(get("/", "3")).text(), "h2");
    assert_eq!(origin.connections(), 2);
}
