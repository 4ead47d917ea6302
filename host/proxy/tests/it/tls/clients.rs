//! Clients' certificates, and what is told of clients that speak TLS.

use std::sync::Arc;

use fusebox_dev::{Authority, Origin, RawFrame, get, kind, ok};
use rcgen::SanType;
use serde_json::json;

use super::{SecuredProxy, failed, replace};

fn config(auth: &str) -> String {
    format!("client_ca = 'clients.pem'\n{auth}")
}

#[test]
fn upstreams_learn_that_a_client_speaks_tls() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    let mut client = site.connect();
    assert_eq!(client.session().state().alpn_protocol(), None, "it asks for none");
    assert_eq!(client.ask(get("/", "1")).status(), 200);
    let seen = origin.only();
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-client-cert"), None);
    assert!(site.proxy.story("1").last().expect("a line")["request"]["certificate"].is_null());
}

#[test]
fn what_is_spoken_above_tls_is_agreed_on() {
    let origin = Origin::answering([ok("")]);
    let site = SecuredProxy::before(&origin, "");
    let offering = |names: &[&str]| {
        let mut client = site.authority.client(None);
        client.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        site.proxy.connect().securing(&client.into(), "b.example")
    };
    for (offered, chosen) in [
        (&["spdy/3", "http/1.1"][..], "http/1.1"),
        (&["http/1.0", "http/1.1"], "http/1.1"),
        (&["http/1.0"], "http/1.0"),
    ] {
        let mut client = offering(offered).expect("a handshake");
        assert_eq!(client.session().state().alpn_protocol(), Some(chosen.as_bytes()));
        assert_eq!(client.ask(get("/", "1")).status(), 200);
    }
    offering(&["spdy/3"]).expect_err("nothing in common");
    let line = site.proxy.line("TLS handshake failed: it speaks none of our protocols above TLS");
    assert_eq!(line["reason"], "incompatible");
}

/// A client with a certificate of theirs, and one of somebody else's.
struct Shown {
    theirs: Arc<rustls::ClientConfig>,
    strange: Arc<rustls::ClientConfig>,
}

fn shown(site: &SecuredProxy, clients: &Authority) -> Shown {
    let theirs = clients.issue_with("a", &["a.example", "192.0.2.7"], |params| {
        let uri = "spiffe://example/a".try_into().expect("a URI");
        params.subject_alt_names.push(SanType::URI(uri));
    });
    let strange = Authority::new("strange").issue("a", &["a.example"]);
    Shown {
        theirs: site.authority.client(Some(&theirs)).into(),
        strange: site.authority.client(Some(&strange)).into(),
    }
}

#[test]
fn a_client_must_have_a_certificate_where_it_is_required() {
    let origin = Origin::answering([ok("")]);
    let clients = Authority::new("clients");
    let files = [("clients.pem", clients.pem().as_bytes())];
    let site = SecuredProxy::with_files(&origin, &files, &config(""));
    let Shown { theirs, strange } = shown(&site, &clients);
    assert_eq!(site.connect_by(&theirs).ask(get("/", "1")).status(), 200);
    let line = site.proxy.story("1").pop().expect("a line");
    let names = ["DNS:a.example", "IP:192.0.2.7", "URI:spiffe://example/a"];
    assert_eq!(line["request"]["certificate"], json!({ "subject": "CN=a", "names": names }));
    // In TLS 1.3 a client learns only afterwards that its certificate is not taken.
    for (client, reason, alert) in [
        (site.client(), "no-certificate", "CertificateRequired"),
        (strange, "certificate", "UnknownCA"),
    ] {
        let error = site.connect_by(&client).end().expect_err("an alert").to_string();
        assert!(error.contains(alert), "{error}");
        site.proxy.counts(&[(&failed(reason), 1.0)]);
    }
    let line = site.proxy.line("TLS handshake failed: it has no certificate");
    assert_eq!((&line["reason"], &line["ip"]), (&"no-certificate".into(), &"127.0.0.1".into()));
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_client_may_have_a_certificate_where_it_is_optional_but_no_wrong_one() {
    let origin = Origin::answering([ok("")]);
    let clients = Authority::new("clients");
    let files = [("clients.pem", clients.pem().as_bytes())];
    let site = SecuredProxy::with_files(&origin, &files, &config("client_auth = 'optional'\n"));
    let Shown { theirs, strange } = shown(&site, &clients);
    for (client, id, certificate) in
        [(theirs, "1", json!("CN=a")), (site.client(), "2", json!(null))]
    {
        assert_eq!(site.connect_by(&client).ask(get("/", id)).status(), 200, "{id}");
        let line = site.proxy.story(id).pop().expect("a line");
        assert_eq!(line["request"]["certificate"]["subject"], certificate, "{id}");
    }
    site.connect_by(&strange).end().expect_err("an alert");
    site.proxy.line("TLS handshake failed: its certificate is signed by nobody who is trusted");
    site.proxy.counts(&[(&failed("certificate"), 1.0)]);
    // Nobody asked for its certificate to be told.
    assert_eq!(origin.seen()[0].request.header("x-forwarded-client-cert"), None);
}

#[test]
fn a_certificate_goes_on_to_upstreams_if_that_is_asked_for_and_nobody_can_feign_one() {
    let origin = Origin::answering([ok("")]);
    let clients = Authority::new("clients");
    let files = [("clients.pem", clients.pem().as_bytes())];
    let asked = "client_auth = 'optional'\nforward_client_cert = true\n";
    let site = SecuredProxy::with_files(&origin, &files, &config(asked));
    let Shown { theirs, .. } = shown(&site, &clients);
    let feigned = |id: &str, more: &str| {
        format!(
            "GET / HTTP/1.1\r\nhost: b.example\r\nx-request-id: {id}\r\n{more}\
             x-forwarded-client-cert: Hash=00;Subject=\"CN=root\"\r\n\r\n"
        )
    };
    let mut client = site.connect_by(&theirs);
    // With `Via` the headers take another way.
    for (id, request) in
        [get("/", "1"), feigned("2", ""), feigned("3", "via: 1.1 x\r\n")].iter().enumerate()
    {
        assert_eq!(client.ask(request).status(), 200);
        let seen = origin.seen()[id].request.clone();
        let told = seen.header("x-forwarded-client-cert").expect("a certificate");
        let (hash, rest) = told.split_once(';').expect("parts");
        assert_eq!(hash.len(), "Hash=".len() + 64, "{told}");
        assert_eq!(rest, "Subject=\"CN=a\";URI=spiffe://example/a;DNS=a.example");
    }
    assert_eq!(site.connect().ask(feigned("4", "")).status(), 200);
    assert_eq!(origin.seen()[3].request.header("x-forwarded-client-cert"), None);
}

#[test]
fn who_signs_clients_certificates_can_change_and_old_sessions_end_with_it() {
    let origin = Origin::answering([ok("")]);
    let clients = Authority::new("clients");
    let files = [("clients.pem", clients.pem().as_bytes())];
    let site = SecuredProxy::with_files(&origin, &files, &config(""));
    let Shown { theirs, .. } = shown(&site, &clients);
    assert_eq!(site.connect_by(&theirs).ask(get("/", "1")).status(), 200);
    replace(&site.proxy, &[("clients.pem", Authority::new("others").pem())]);
    assert_eq!(site.proxy.line("Certificate replaced")["file"], "clients.pem");
    // It has a ticket, with which nobody would look at its certificate again.
    site.connect_by(&theirs).end().expect_err("an alert");
    site.proxy.counts(&[(&failed("certificate"), 1.0)]);
}

#[test]
fn a_route_can_be_for_clients_with_a_certificate_and_nobody_can_feign_one() {
    let origin = Origin::answering([ok("")]);
    let clients = Authority::new("clients");
    let files = [("clients.pem", clients.pem().as_bytes())];
    let route = |name: &str, certificate: &str| {
        format!(
            "[[routes]]\nname = '{name}'\nupstream = 'ORIGIN'\n\
             client_certificate = ['CN=nobody', '{certificate}']\n"
        )
    };
    let trusted = "client_auth = 'optional'\nforward_client_cert = true\n\
                   [listener]\ntrusted = ['127.0.0.1']\n";
    for (certificate, takes) in [
        ("URI:spiffe://example/a", true),
        ("DNS:a.example", true),
        ("CN=a", true),
        ("IP:192.0.2.7", true),
        ("URI:spiffe://example/b", false),
        ("DNS:spiffe://example/a", false),
        ("CN=A", false),
    ] {
        let config = format!("{}{}", config(trusted), route("known", certificate));
        let site = SecuredProxy::with_files(&origin, &files, &config);
        let Shown { theirs, .. } = shown(&site, &clients);
        let feigned = "\r\nx-forwarded-client-cert: Hash=00;Subject=\"CN=a\";\
                       URI=spiffe://example/a;DNS=a.example\r\nhost:";
        for (client, is_known, id) in [(theirs, takes, "1"), (site.client(), false, "2")] {
            let request = get("/", id).replacen("\r\nhost:", feigned, 1);
            assert_eq!(site.connect_by(&client).ask(request).status(), 200);
            let line = site.proxy.story(id).pop().expect("a line");
            let expected = if is_known { "known" } else { "/" };
            assert_eq!(line["route"], expected, "{certificate} {id}");
        }
    }
}

#[test]
fn a_request_for_another_host_than_its_connection_is_misdirected_where_that_is_strict() {
    let origin = Origin::answering([ok("")]);
    let strict = SecuredProxy::before(&origin, "strict_sni = true\n");
    let loose = SecuredProxy::before(&origin, "");
    let asking = |host: &str| get("/", "1").replace("host: b.example", &format!("host: {host}"));
    let mut client = strict.connect();
    for (host, status) in [
        ("b.example", 200),
        ("B.Example.:3002", 200),
        ("c.example", 421),
        ("127.0.0.1", 421),
        ("b.example", 200),
    ] {
        assert_eq!(client.ask(asking(host)).status(), status, "{host}");
        assert_eq!(loose.connect().ask(asking(host)).status(), 200, "{host}");
    }
    let line = strict.proxy.line("Request refused: host of another connection");
    assert_eq!((&line["reason"], &line["level"]), (&json!("misdirected"), &json!("INFO")));
    // Who names no host there can only mean an address.
    let mut nameless = strict.authority.client(None);
    nameless.enable_sni = false;
    let mut client = strict.connect_by(&nameless.into());
    for (host, status) in [("127.0.0.1:3002", 200), ("[::1]", 200), ("b.example", 421)] {
        assert_eq!(client.ask(asking(host)).status(), status, "{host}");
    }
    // Over HTTP/2 a browser uses a connection for all hosts of its certificate.
    let mut client = strict.authority.client(None);
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = strict.connect_by(&client.into());
    client.begin_http2(&[]);
    for (stream, host, status) in
        [(1, "b.example", 200), (3, "c.example", 421), (5, "b.example", 200)]
    {
        let fields =
            [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", host)];
        client.send(RawFrame::headers(stream, &fields, true).bytes());
        assert_eq!(client.frame_of(kind::HEADERS).status(), status, "{host}");
    }
}
