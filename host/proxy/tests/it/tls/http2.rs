//! HTTP/2 above TLS.

use fusebox_dev::{Origin, RawFrame, Wire, kind, ok};
use serde_json::json;

use super::SecuredProxy;

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
