//! Handshakes: versions, resumption, and those that fail.

use std::sync::Arc;
use std::time::Duration;

use fusebox_dev::{Origin, eventually, get, ok};
use rustls::client::Resumption;
use rustls::crypto::ring;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::time::Instant;

use super::{SecuredProxy, failed, handshakes};

/// A record that begins a handshake, and half of a message.
const HALF: [u8; 9] = [22, 3, 1, 0, 200, 1, 0, 0, 196];

fn speaking(site: &SecuredProxy, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[version]).expect("a version");
    builder.with_root_certificates(site.authority.roots()).with_no_client_auth().into()
}

#[test]
fn a_client_that_comes_again_resumes_its_session() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    for (version, name) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        let client = speaking(&site, version);
        for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut wire = site.connect_by(&client);
            assert_eq!(wire.session().state().handshake_kind(), Some(kind), "{name}");
            assert_eq!(wire.ask(get("/", "1")).status(), 200);
        }
        site.proxy.counts(&[(&handshakes(name, false), 1.0), (&handshakes(name, true), 2.0)]);
    }
    let mut forgetful = site.authority.client(None);
    forgetful.resumption = Resumption::disabled();
    let forgetful = Arc::new(forgetful);
    for _ in 0..2 {
        let wire = site.connect_by(&forgetful);
        assert_eq!(wire.session().state().handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn without_tickets_each_handshake_is_a_whole_one() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "session_tickets = false\n");
    for (version, name) in [(&TLS12, "1.2"), (&TLS13, "1.3")] {
        let client = speaking(&site, version);
        for _ in 0..3 {
            let mut wire = site.connect_by(&client);
            assert_eq!(
                wire.session().state().handshake_kind(),
                Some(HandshakeKind::Full),
                "{name}"
            );
            assert_eq!(wire.ask(get("/", "1")).status(), 200);
        }
        site.proxy.counts(&[(&handshakes(name, false), 3.0), (&handshakes(name, true), 0.0)]);
    }
}

#[test]
fn our_order_of_cipher_suites_counts() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    for (version, suite) in [
        (&TLS12, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
        (&TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256),
    ] {
        // It would rather have AES-256.
        let wire = site.connect_by(&speaking(&site, version));
        let spoken = wire.session().state().negotiated_cipher_suite().expect("a suite");
        assert_eq!(spoken.suite(), suite);
    }
}

#[test]
fn the_oldest_version_can_be_the_newest() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "min_version = '1.3'\n");
    assert_eq!(site.connect_by(&speaking(&site, &TLS13)).ask(get("/", "1")).status(), 200);
    let old = site.proxy.connect().securing(&speaking(&site, &TLS12), "b.example");
    let error = old.expect_err("an alert").to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let line = site.proxy.line("TLS handshake failed: it speaks no version of TLS that we do");
    assert_eq!(line["reason"], "incompatible");
}

#[test]
fn who_trusts_somebody_else_says_so() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    let strange = Arc::new(fusebox_dev::Authority::new("strange").client(None));
    site.proxy.connect().securing(&strange, "b.example").expect_err("another authority");
    let line = site.proxy.line("TLS handshake failed: it says unknown_ca");
    assert_eq!((&line["reason"], &line["count"]), (&"alert".into(), &1.into()));
    site.proxy.counts(&[(&failed("alert"), 1.0)]);
}

#[test]
fn what_is_no_tls_is_refused() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    let mut garbage = site.proxy.connect();
    garbage.send([0x80; 64]);
    garbage.rest();
    site.proxy.counts(&[(&failed("invalid"), 1.0)]);
    let words = "it sent no valid TLS: received corrupt message of type InvalidContentType";
    assert_eq!(site.proxy.line(&format!("TLS handshake failed: {words}"))["ip"], "127.0.0.1");
    // A record that is longer than any may be, and one that begins with another message.
    for bytes in [[22, 3, 1, 255, 255, 1], [22, 3, 1, 0, 1, 99]] {
        let mut garbage = site.proxy.connect();
        garbage.send(bytes);
        garbage.finish();
        garbage.rest();
    }
    eventually("three failures", || {
        let metrics = site.proxy.admin("GET /metrics").text().to_owned();
        let counts = crate::support::metrics(&metrics);
        let count = |reason| counts[&failed(reason)];
        (count("invalid") + count("left") == 3.0).then_some(())
    });
    assert_eq!(site.connect().ask(get("/", "1")).status(), 200, "it goes on");
}

#[test]
fn plain_http_is_told_that_tls_is_spoken_here() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    let mut plain = site.proxy.connect();
    let answer = plain.ask(get("/", "1"));
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("plain HTTP where TLS is spoken"), "{}", answer.text());
    assert_eq!(answer.header("connection"), Some("close"));
    plain.finish();
    assert_eq!(plain.rest(), b"");
    let line = site.proxy.line("Request refused: plain HTTP where TLS is spoken");
    assert_eq!((&line["reason"], &line["status"]), (&"plain-http".into(), &400.into()));
    let refused = "fusebox_requests_refused_total{route=\"none\",reason=\"plain-http\"}";
    site.proxy.counts(&[(refused, 1.0), ("fusebox_connections", 0.0)]);
    assert!(origin.seen().is_empty());
}

#[test]
fn a_slow_handshake_is_ended() {
    let origin = Origin::answering([ok("")]);
    let tables = "[listener]\nheader_timeout = '300ms'\n";
    let site = SecuredProxy::before(&origin, tables);
    for (bytes, words) in [(&HALF[..0], "it sent nothing"), (&HALF[..], "it took too long")] {
        let start = Instant::now();
        let mut slow = site.proxy.connect();
        slow.send(bytes);
        slow.rest();
        assert!(start.elapsed() >= Duration::from_millis(290), "{:?}", start.elapsed());
        site.proxy.counts(&[("fusebox_connections", 0.0)]);
        if bytes.is_empty() {
            let line = site.proxy.line(&format!("TLS handshake failed: {words}"));
            assert_eq!(line["reason"], "timeout");
        }
    }
    site.proxy.counts(&[(&failed("timeout"), 2.0)]);
    // The time of a handshake is none of the connection's.
    let mut client = site.connect();
    client.stays_silent(Duration::from_millis(400));
    assert_eq!(client.ask(get("/", "1")).status(), 200);
}

#[test]
fn who_only_looks_whether_the_port_is_open_is_no_failure() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    drop(site.proxy.connect());
    site.proxy.connect().finish();
    assert_eq!(site.connect().ask(get("/", "1")).status(), 200);
    site.proxy.counts(&[(&failed("left"), 0.0), (&failed("timeout"), 0.0)]);
    // Who begins and leaves is one.
    let mut half = site.proxy.connect();
    half.send(HALF);
    drop(half);
    site.proxy.counts(&[(&failed("left"), 1.0)]);
}

#[test]
fn who_begins_a_handshake_and_does_not_go_on_keeps_nobody_waiting() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "max_handshakes = 2\n");
    let half = || {
        let mut half = site.proxy.connect();
        half.send(HALF);
        half
    };
    let halves: Vec<_> = (0..8).map(|_| half()).collect();
    site.proxy.counts(&[(&failed("crowded-out"), 6.0)]);
    for _ in 0..8 {
        assert_eq!(site.connect().ask(get("/", "1")).status(), 200);
    }
    // The first needed the place of one of the two that were left.
    site.proxy.counts(&[(&failed("crowded-out"), 7.0)]);
    let line = site.proxy.line("TLS handshake failed: another needed its place");
    assert_eq!((&line["reason"], &line["count"]), (&"crowded-out".into(), &1.into()));
    let line = site.proxy.line("all places for TLS handshakes are taken");
    assert_eq!((&line["max_handshakes"], &line["count"]), (&2.into(), &1.into()));
    // One of the two was not needed.
    drop(halves);
    site.proxy.counts(&[(&failed("left"), 1.0), (&failed("crowded-out"), 7.0)]);
}

#[test]
fn who_sends_nothing_takes_no_place_among_the_handshakes() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "max_handshakes = 1\n");
    let mut silent = [(); 3].map(|()| site.proxy.connect());
    assert_eq!(site.connect().ask(get("/", "1")).status(), 200);
    for silent in &mut silent {
        silent.stays_silent(Duration::from_millis(20));
    }
    site.proxy.counts(&[(&failed("crowded-out"), 0.0)]);
}

#[test]
fn who_sends_nothing_gives_its_place_up_when_connections_are_full() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "[listener]\nmax_connections = 3\n");
    let silent = [(); 3].map(|()| site.proxy.connect());
    site.proxy.counts(&[("fusebox_connections", 3.0)]);
    assert_eq!(site.connect().ask(get("/", "1")).status(), 200);
    let ended = "fusebox_connections_ended_total{limit=\"max_connections\"}";
    site.proxy.counts(&[(ended, 1.0), (&failed("timeout"), 0.0)]);
    drop(silent);
}

#[test]
fn who_sends_nothing_does_not_delay_the_end() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    let mut silent = site.proxy.connect();
    site.proxy.counts(&[("fusebox_connections", 1.0)]);
    let start = Instant::now();
    site.proxy.signal("TERM");
    silent.rest();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}
