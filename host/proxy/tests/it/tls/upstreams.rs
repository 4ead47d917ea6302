//! Upstreams that speak TLS.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use fusebox_dev::{Authority, Issued, Origin, OriginConnection, get, ok, post};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, ServerConfig};

use super::replace;
use crate::support::{Proxy, fusebox};

fn answers(connection: &mut OriginConnection) {
    while let Some(seen) = connection.request() {
        if connection.wire.try_send(ok(seen.request.text())).is_err() {
            return;
        }
    }
}

/// A route to `https://b.example` at the origin's address, with more of its table of TLS.
fn route(tls: &str) -> String {
    format!(
        "[[routes]]\nupstream = 'b'\n[upstreams.b]\nendpoints = ['ORIGIN']\n\
         tls = {{ server_name = 'b.example'{tls} }}\n"
    )
}

fn proxy(origin: &Origin, authority: &Authority, tls: &str) -> Proxy {
    let files = [("ca.pem", authority.pem().as_bytes())];
    Proxy::with_files(origin, &files, &route(&format!(", ca = 'ca.pem'{tls}")))
}

/// The answer to a request, and what the log says of it.
#[track_caller]
fn failure(proxy: &Proxy, request: &str, id: &str) -> (u16, String, String) {
    let answer = proxy.ask(request);
    let line = proxy.story(id).pop().expect("a line");
    assert_eq!(line["failure"], "tls", "{line}");
    let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
    (answer.status(), text("error"), text("detail"))
}

#[test]
fn an_upstream_is_asked_over_tls_by_its_name_on_connections_that_are_kept() {
    let authority = Authority::new("theirs");
    let (names, seen) = channel();
    let names = Mutex::new(names);
    let server = authority.issue("b", &["b.example"]).server();
    let origin = Origin::secured(server, move |connection| {
        let state = connection.wire.session();
        let name = match state {
            fusebox_dev::Session::Server(server) => server.server_name().map(str::to_owned),
            fusebox_dev::Session::Client(_) => None,
        };
        let kind = state.state().handshake_kind();
        names.lock().expect("no panic").send((name, kind)).ok();
        answers(connection);
    });
    let proxy = proxy(&origin, &authority, "");
    let mut client = proxy.connect();
    assert_eq!(client.ask(post("hello", "1")).text(), "hello");
    assert_eq!(client.ask(post("again", "2")).text(), "again");
    let (name, kind) = seen.recv().expect("a connection");
    assert_eq!((name.as_deref(), kind), (Some("b.example"), Some(HandshakeKind::Full)));
    assert_eq!(origin.connections(), 1);
    // Large ones, both ways.
    let large = "x".repeat(12 << 20);
    assert!(client.ask(post(&large, "3")).body == large.as_bytes());
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_new_connection_resumes_the_session_of_an_old_one() {
    let authority = Authority::new("theirs");
    let (kinds, seen) = channel();
    let kinds = Mutex::new(kinds);
    let mut server = authority.issue("b", &["b.example"]).server();
    server.ticketer = rustls::crypto::ring::Ticketer::new().expect("tickets");
    let origin = Origin::secured(server, move |connection| {
        let kind = connection.wire.session().state().handshake_kind();
        kinds.lock().expect("no panic").send(kind).ok();
        // One request on each connection.
        if let Some(seen) = connection.request() {
            connection.wire.send(ok(seen.request.text()));
            connection.wire.finish();
        }
    });
    let proxy = Proxy::with_files(
        &origin,
        &[("ca.pem", authority.pem().as_bytes())],
        &format!("workers = 1\n{}", route(", ca = 'ca.pem'")),
    );
    for (id, expected) in [("1", HandshakeKind::Full), ("2", HandshakeKind::Resumed)] {
        assert_eq!(proxy.ask(get("/", id)).status(), 200);
        assert_eq!(seen.recv().expect("a connection"), Some(expected));
    }
}

#[test]
fn what_only_tls_says_on_a_kept_connection_is_no_answer() {
    let authority = Authority::new("theirs");
    let server = authority.issue("b", &["b.example"]).server();
    let (told, ready) = channel();
    let told = Mutex::new(told);
    let origin = Origin::secured(server, move |connection| {
        while let Some(seen) = connection.request() {
            connection.wire.send(ok(""));
            match seen.request.target() {
                "/keys" => connection.wire.refresh(),
                "/bytes" => connection.wire.send("HTTP/1.1 200 OK\r\n"),
                "/end" => connection.wire.finish(),
                _ => {}
            }
            told.lock().expect("no panic").send(()).ok();
        }
    });
    let proxy = Proxy::with_files(
        &origin,
        &[("ca.pem", authority.pem().as_bytes())],
        &format!("workers = 1\n{}", route(", ca = 'ca.pem'")),
    );
    let mut client = proxy.connect();
    for (path, connections) in [("/keys", 1), ("/keys", 1), ("/bytes", 1), ("/end", 2), ("/", 3)] {
        let answer = client.ask(get(path, "1"));
        assert_eq!((answer.status(), answer.text()), (200, ""), "{path}");
        ready.recv_timeout(Duration::from_secs(10)).expect("its word");
        assert_eq!(origin.connections(), connections, "{path}");
    }
}

#[test]
fn who_can_not_show_that_it_is_the_upstream_gets_no_request() {
    let authority = Authority::new("theirs");
    let strange = Authority::new("strange");
    let expired = authority.issue_with("b", &["b.example"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    });
    for (issued, words) in [
        (
            authority.issue("c", &["c.example", "*.c.example"]),
            "its certificate is not for b.example, but for c.example, *.c.example",
        ),
        (expired, "its certificate has expired, on 2020-02-01 00:00 UTC"),
        (strange.issue("b", &["b.example"]), "its certificate is signed by nobody who is trusted"),
    ] {
        let origin = Origin::secured(issued.server(), answers);
        let retry = "[policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1ms'\n";
        let config = route(", ca = 'ca.pem'").replace("'b'\n", "'b'\npolicies = ['retry']\n");
        let files = [("ca.pem", authority.pem().as_bytes())];
        let proxy = Proxy::with_files(&origin, &files, &format!("{retry}{config}"));
        // A POST, too, is sent again: it has not been sent.
        let answer = proxy.ask(post("hello", "1"));
        assert_eq!(answer.status(), 502, "{words}");
        let line = proxy.story("1").pop().expect("a line");
        assert_eq!(
            (&line["error"], &line["failure"], &line["attempts"]),
            (&"tls_certificate_error".into(), &"tls".into(), &2.into()),
            "{line}"
        );
        let detail = line["detail"].as_str().expect("a detail");
        assert!(detail.contains(words), "expected {words}\nfound {detail}");
        assert!(!answer.text().contains("example"), "{}", answer.text());
        assert_eq!(origin.seen().len(), 0);
    }
}

#[test]
fn without_verification_anybody_is_asked_and_every_start_warns() {
    let strange = Authority::new("strange");
    let origin = Origin::secured(strange.issue("b", &["elsewhere"]).server(), answers);
    let proxy = Proxy::before(&origin, &route(", verify = false"));
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    let directory = tempfile::tempdir().expect("a directory");
    let config = format!("listen = '127.0.0.1:0'\n{}", route(", verify = false"));
    let config = config.replace("ORIGIN", "https://b.example");
    std::fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
    let said = fusebox(directory.path(), &["check"]).error;
    let expected = "warning: fusebox.toml:6: upstreams.b.tls.verify: is false: whoever is on the \
                    way can feign the upstream";
    assert!(said.starts_with(expected), "{said}");
}

#[test]
fn what_is_no_tls_is_a_failure_of_tls() {
    let authority = Authority::new("theirs");
    for (plain, words) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "it sent no valid TLS"),
        ("", "it left during the handshake"),
    ] {
        let origin = Origin::start(move |connection| {
            connection.wire.exactly(1);
            connection.wire.send(plain);
        });
        let url = origin.to_string().replace("http:", "https:");
        let proxy = Proxy::with_files(
            &url,
            &[("ca.pem", authority.pem().as_bytes())],
            &route(", ca = 'ca.pem'"),
        );
        let (status, error, detail) = failure(&proxy, &get("/", "1"), "1");
        assert_eq!((status, &*error), (502, "tls_protocol_error"), "{detail}");
        assert!(detail.contains(words), "{detail}");
    }
}

#[test]
fn a_handshake_that_does_not_end_is_a_timeout_of_connecting() {
    let authority = Authority::new("theirs");
    let origin = Origin::start(|connection| drop(connection.wire.rest()));
    let url = origin.to_string().replace("http:", "https:");
    let config = route(", ca = 'ca.pem'").replace("tls =", "connect_timeout = '200ms'\ntls =");
    let files = [("ca.pem", authority.pem().as_bytes())];
    let proxy = Proxy::with_files(&url, &files, &config);
    assert_eq!(proxy.ask(get("/", "1")).status(), 504);
    let line = proxy.story("1").pop().expect("a line");
    assert_eq!(
        (&line["error"], &line["detail"]),
        (&"connection_timeout".into(), &"the handshake of TLS took too long".into())
    );
}

#[test]
fn an_answer_that_is_cut_is_not_whole() {
    let authority = Authority::new("theirs");
    let server = authority.issue("b", &["b.example"]).server();
    let origin = Origin::secured(server, |connection| {
        let Some(seen) = connection.request() else { return };
        connection.wire.send("HTTP/1.1 200 OK\r\n\r\nhello");
        match seen.request.target() {
            "/whole" => connection.wire.finish(),
            _ => connection.wire.cut(),
        }
    });
    let proxy = proxy(&origin, &authority, "");
    assert_eq!(proxy.ask(get("/whole", "1")).text(), "hello");
    let mut client = proxy.connect();
    client.send(get("/cut", "2"));
    let answer = client.any_response();
    assert!(answer.broken.is_some(), "{answer:?}");
    let told = proxy.told("2");
    assert_eq!(told, ["Response incomplete: connection lost", "200: OK"]);
}

/// Asks for a certificate that this authority has signed.
fn asking(issued: &Issued, clients: &Authority) -> ServerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(clients.roots().into(), provider.clone());
    let (chain, key) = issued.parts();
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier.build().expect("a verifier"))
        .with_single_cert(chain, key)
        .expect("a certificate and its key")
}

#[test]
fn an_upstream_is_shown_a_certificate_which_can_be_replaced() {
    let (authority, clients) = (Authority::new("theirs"), Authority::new("clients"));
    let (shown, seen) = channel();
    let shown = Mutex::new(shown);
    let server = asking(&authority.issue("b", &["b.example"]), &clients);
    let origin = Origin::secured(server, move |connection| {
        let certificate = super::shown(&connection.wire);
        shown.lock().expect("no panic").send(certificate).ok();
        if connection.request().is_some() {
            connection.wire.send(ok(""));
        }
    });
    let first = clients.issue("first", &[]);
    let files = [
        ("ca.pem", authority.pem().as_bytes()),
        ("own.pem", first.cert.as_bytes()),
        ("own.key", first.key.as_bytes()),
    ];
    let tls = route(", ca = 'ca.pem', cert = 'own.pem', key = 'own.key'");
    let proxy = Proxy::with_files(&origin, &files, &tls);
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    assert_eq!(seen.recv().expect("a connection"), super::own(&first));
    assert_eq!(proxy.state()["certificates"][0]["subject"], "CN=first");
    let second = clients.issue("second", &[]);
    replace(&proxy, &[("own.pem", &second.cert), ("own.key", &second.key)]);
    assert_eq!(proxy.line("Certificate replaced")["file"], "own.pem");
    assert_eq!(proxy.ask(get("/", "2")).status(), 200);
    assert_eq!(seen.recv().expect("a connection"), super::own(&second));
    // Whom it trusts can change, too.
    replace(&proxy, &[("ca.pem", Authority::new("others").pem())]);
    let is_of_ca = |line: &serde_json::Value| line["file"] == "ca.pem";
    proxy.wait("the new authority", |lines| lines.iter().find(|line| is_of_ca(line)).cloned());
    assert_eq!(failure(&proxy, &get("/", "3"), "3").1, "tls_certificate_error");
}

#[test]
fn an_upstream_that_does_not_take_our_certificate_may_have_seen_the_request() {
    let (authority, clients) = (Authority::new("theirs"), Authority::new("clients"));
    let server = asking(&authority.issue("b", &["b.example"]), &clients);
    let origin = Origin::secured(server, answers);
    let retry = "[policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1ms'\n";
    let config = route(", ca = 'ca.pem'").replace("'b'\n", "'b'\npolicies = ['retry']\n");
    let files = [("ca.pem", authority.pem().as_bytes())];
    let proxy = Proxy::with_files(&origin, &files, &format!("{retry}{config}"));
    // The request is under way when the alert comes, so a POST is not sent again.
    let (status, error, detail) = failure(&proxy, &post("hello", "1"), "1");
    assert_eq!((status, &*error), (502, "tls_alert_received"), "{detail}");
    assert!(detail.contains("it says certificate_required"), "{detail}");
    assert_eq!(proxy.story("1").pop().expect("a line")["attempts"], 1);
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn each_wrong_key_is_told_with_its_line() {
    let authority = Authority::new("theirs");
    let own = authority.issue("own", &[]);
    for (url, tls, message) in [
        ("http://b", "", "tls: needs a URL that begins with `https://`"),
        ("https://b", "cert = 'own.pem'", "tls.cert: needs `key`: the file with its private key"),
        ("https://b", "key = 'own.key'", "tls.key: needs `cert`: the file with its certificate"),
        ("https://b", "ca = 'own.key'", "tls.ca: `own.key` has no certificate: it has a private"),
        ("https://b", "ca = 'none'", "tls.ca: `none` can't be read: No such file or directory"),
        (
            "https://b",
            "cert = 'ca.pem', key = 'own.key'",
            "tls.key: `own.key` is not the key of `ca.pem`",
        ),
        ("https://b", "server_name = 'b c'", "tls.server_name: expected a name or an address"),
        ("https://b", "name = 'b'", "tls.name: unknown key `name`; expected one of ca, cert, key"),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, content) in
            [("own.pem", &*own.cert), ("own.key", &own.key), ("ca.pem", authority.pem())]
        {
            std::fs::write(directory.path().join(name), content).expect("a file");
        }
        for (declared, path) in [
            (
                format!("[[routes]]\nupstream = {{ url = '{url}', tls = {{ {tls} }} }}\n"),
                "fusebox.toml:3: routes[0].upstream",
            ),
            (
                format!(
                    "[[routes]]\nupstream = 'b'\n[upstreams.b]\nendpoints = ['{url}']\n\
                     tls = {{ {tls} }}\n"
                ),
                "fusebox.toml:6: upstreams.b",
            ),
        ] {
            let config = format!("listen = '127.0.0.1:0'\n{declared}");
            std::fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
            let said = fusebox(directory.path(), &["check"]).error;
            let expected = format!("{path}.{message}");
            assert!(said.starts_with(&expected), "expected {expected}\nfound {said}");
        }
    }
}
