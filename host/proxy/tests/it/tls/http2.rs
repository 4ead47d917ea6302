//! HTTP/2 above TLS.

use fusebox_dev::{Authority, Origin, RawFrame, Wire, get, kind, ok, post};
use serde_json::json;

use super::SecuredProxy;
use crate::support::Proxy;

fn offering(site: &SecuredProxy, names: &[&str]) -> Wire {
    let mut client = site.authority.client(None);
    client.alpn_protocols = names.iter().map(|name| name.as_bytes().to_vec()).collect();
    site.proxy.connect().securing(&client.into(), "b.example").expect("a handshake")
}

#[test]
fn it_is_preferred_and_spoken_as_in_the_clear() {
    let body = "x".repeat(300_000);
    let origin = Origin::answering([ok(&body)]);
    let mut site = SecuredProxy::before(&origin, "");
    let mut client = offering(&site, &["http/1.1", "h2"]);
    assert_eq!(client.session().state().alpn_protocol(), Some(&b"h2"[..]));
    client.begin_http2(&[(4, 1 << 20)]);
    client.send(RawFrame::window_update(0, 1 << 20).bytes());
    for stream in [1, 3] {
        let fields = [&fusebox_dev::GET[..], &[("x-request-id", "1")]].concat();
        client.send(RawFrame::headers(stream, &fields, true).bytes());
        assert_eq!(client.frame_of(kind::HEADERS).status(), 200);
        let mut length = 0;
        while length < body.len() {
            length += client.frame_of(kind::DATA).payload.len();
        }
    }
    let seen = &origin.seen()[0].request;
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    let line = site.proxy.story("1").pop().expect("an access line");
    assert_eq!(line["request"]["protocol"], json!("HTTP/2"));
    site.proxy.signal("TERM");
    assert_eq!(client.frame_of(kind::GOAWAY).number(4), 0, "NO_ERROR");
    while client.frame().is_some() {}
    client.end().expect("it ends in TLS, too");
    assert!(site.proxy.end().success());
}

/// An upstream of this authority that takes only these protocols above TLS, and a proxy before it
/// that wants HTTP/2.
fn upstream(authority: &Authority, takes: &[&str]) -> (Origin, Proxy) {
    let mut server = authority.issue("b", &["b.example"]).server();
    server.alpn_protocols = takes.iter().map(|name| name.as_bytes().to_vec()).collect();
    let origin = Origin::framed_secured(server, |peer, stream| {
        let body = peer.next_frame().expect("a body");
        peer.send(&[
            RawFrame::headers(stream, &[(":status", "200")], false),
            RawFrame::data(stream, body.payload, true),
        ]);
    });
    let config = "workers = 1\n[[routes]]\nupstream = 'b'\n[upstreams.b]\nendpoints = ['ORIGIN']\n\
                  protocol = 'http2'\ntls = { server_name = 'b.example', ca = 'ca.pem' }\n";
    let proxy = Proxy::with_files(&origin, &[("ca.pem", authority.pem().as_bytes())], config);
    (origin, proxy)
}

#[test]
fn an_upstream_is_asked_by_it_on_one_connection() {
    let authority = Authority::new("theirs");
    let (origin, proxy) = upstream(&authority, &["http/1.1", "h2"]);
    for id in ["1", "2"] {
        let answer = proxy.ask(post(id, id));
        assert_eq!((answer.status(), answer.text()), (200, id));
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_upstream_that_does_not_agree_on_it_gets_no_request() {
    let authority = Authority::new("theirs");
    for (takes, why) in [
        (&[][..], "it does not say that it speaks HTTP/2 (h2 by ALPN)"),
        (&["http/1.1"], "it says no_application_protocol"),
    ] {
        let (_origin, proxy) = upstream(&authority, takes);
        assert_eq!(proxy.ask(get("/", "1")).status(), 502, "{why}");
        let line = proxy.story("1").pop().expect("an access line");
        assert_eq!((&line["failure"], &line["detail"]), (&json!("tls"), &json!(why)));
    }
}
