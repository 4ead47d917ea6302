//! What standard HTTP components ask of others.
//!
//! The guests are those of `make policies`: `http-hostile` does what the request's path says.

use std::fmt;
use std::sync::mpsc;
use std::thread;

use fusebox_dev::{Authority, Origin, answer, eventually, get, ok};

use crate::http_components::{FALLBACK, PATIENT, built, failing, get_with, hostile, told_of};
use crate::support::Proxy;

fn fetch(proxy: &Proxy, what: &str, from: &impl fmt::Display, id: &str) -> String {
    let authority = from.to_string().replace("http://", "");
    let response = proxy.ask(get_with(&format!("/{what}"), id, &format!("x-fetch: {authority}")));
    assert_eq!(response.status(), 200);
    response.text().to_owned()
}

#[test]
fn a_guest_asks_nobody_who_was_not_granted() {
    let other = Origin::answering([ok("a secret")]);
    let (_origin, proxy) = hostile("grant = ['http:127.0.0.1:1', 'http:localhost']");
    assert_eq!(fetch(&proxy, "fetch", &other, "1"), "ErrorCode::HttpRequestDenied\n");
    let printed = told_of(&proxy, "1", "Component printed");
    let line = printed["line"].as_str().expect("text");
    let authority = other.to_string().replace("http://", "");
    assert!(
        line.ends_with(&format!("denied: `grant = [\"http:{authority}\"]` would allow it")),
        "{line}"
    );
    assert_eq!(fetch(&proxy, "fetch", &"u@localhost", "2"), "ErrorCode::HttpRequestUriInvalid\n");
    assert_eq!(other.connections(), 0);
}

#[test]
fn a_guest_asks_who_was_granted() {
    let other = Origin::answering([answer(418, "x-of: other\r\n", "tea")]);
    let authority = other.to_string().replace("http://", "");
    let (_origin, proxy) = hostile(&format!("grant = ['http:{authority}']"));
    assert_eq!(fetch(&proxy, "fetch", &other, "1"), "418 3 tea whole\n");
    let asked = other.only();
    assert_eq!(
        (asked.start.as_str(), asked.header("host")),
        ("GET /fetched HTTP/1.1", Some(authority.as_str()))
    );
    // Over TLS it is somebody else.
    assert_eq!(fetch(&proxy, "fetch-tls", &other, "2"), "ErrorCode::HttpRequestDenied\n");
    let printed = told_of(&proxy, "2", "Component printed");
    let line = printed["line"].as_str().expect("text");
    assert!(line.ends_with(&format!("`grant = [\"https:{authority}\"]` would allow it")), "{line}");
    assert_eq!(other.connections(), 1);
}

#[test]
fn a_guest_asks_over_tls_whom_the_system_trusts() {
    let authority = Authority::new("trusted");
    let secured = |authority: &Authority| {
        let server = authority.issue("b", &["localhost"]).server();
        Origin::secured(server, |connection| {
            while connection.request().is_some() {
                connection.wire.send(answer(418, "x-of: other\r\n", "tea"));
            }
        })
    };
    let (good, feigned) = (secured(&authority), secured(&Authority::new("feigned")));
    let at = |origin: &Origin, host: &str| format!("{host}:{}", origin.address().port());
    let (named, by_address) = (at(&good, "localhost"), at(&good, "127.0.0.1"));
    let untrusted = at(&feigned, "localhost");
    let plain = Origin::start(|connection| connection.wire.send(answer(400, "", "")));
    let plain = at(&plain, "localhost");
    let grants = [&named, &by_address, &untrusted, &plain].map(|it| format!("'https:{it}'"));
    let options = format!(
        "{PATIENT}timeout = '2s'\nresponse_timeout = '20s'\ngrant = [{}]",
        grants.join(", ")
    );
    let origin = failing();
    let proxy = Proxy::trusting(
        authority.pem(),
        &origin,
        &[("c.wasm", &built("http_hostile.wasm"))],
        &FALLBACK.replace("OPTIONS", &options),
    );
    assert_eq!(fetch(&proxy, "fetch-tls", &named, "1"), "418 3 tea whole\n");
    let asked = good.only();
    let host = asked.header("host");
    assert_eq!((asked.start.as_str(), host), ("GET /fetched HTTP/1.1", Some(&*named)));
    let refused = "ErrorCode::TlsCertificateError\n";
    assert_eq!(fetch(&proxy, "fetch-tls", &by_address, "2"), refused);
    assert_eq!(fetch(&proxy, "fetch-tls", &untrusted, "3"), refused);
    let printed = told_of(&proxy, "3", "Component printed");
    let line = printed["line"].as_str().expect("text");
    assert!(line.contains(&format!("no TLS with https:{untrusted}: ")), "{line}");
    assert_eq!(fetch(&proxy, "fetch-tls", &plain, "4"), "ErrorCode::TlsProtocolError\n");
    assert_eq!(good.seen().len(), 1, "the others were not asked");
    assert_eq!(feigned.seen().len(), 0);
}

#[test]
fn a_guest_asks_a_few_at_once_and_reads_so_much() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let other = Origin::start(move |connection| {
        if connection.request().is_some() {
            gone.lock().expect("no panic").recv().ok();
            connection.wire.send(ok("x"));
        }
    });
    let authority = other.to_string().replace("http://", "");
    let (_origin, proxy) =
        hostile(&format!("timeout = '2s'\nresponse_timeout = '20s'\ngrant = ['http:{authority}']"));
    let text = thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch(&proxy, "fetch-many", &other, "1"));
        eventually("the most that there may be", || (other.seen().len() == 8).then_some(()));
        drop(go);
        fetching.join().expect("no panic")
    });
    assert_eq!(
        text,
        "200 1 x whole\n".repeat(8) + &"ErrorCode::ConnectionLimitReached\n".repeat(12)
    );

    let endless = Origin::start(|connection| {
        if connection.request().is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\n\r\n");
            let piece = vec![b'x'; 1 << 20];
            while connection.wire.try_send(&piece).is_ok() {}
        }
    });
    let authority = endless.to_string().replace("http://", "");
    let (_origin, proxy) =
        hostile(&format!("timeout = '5s'\nresponse_timeout = '20s'\ngrant = ['http:{authority}']"));
    let text = fetch(&proxy, "fetch", &endless, "1");
    assert!(text.contains("HTTP response body size exceeds limit"), "{text}");
}

#[test]
fn whom_a_guest_waits_for_ends_with_its_deadline() {
    let other = Origin::start(|connection| {
        connection.request();
        connection.wire.rest();
    });
    let authority = other.to_string().replace("http://", "");
    let (_origin, proxy) =
        hostile(&format!("response_timeout = '300ms'\ngrant = ['http:{authority}']"));
    let response = proxy.ask(get_with("/fetch", "1", &format!("x-fetch: {authority}")));
    assert_eq!((response.status(), response.text()), (503, "no good"));
    told_of(&proxy, "1", "Component faulted: timeout");
    assert_eq!(other.connections(), 1);
}
