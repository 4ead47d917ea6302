//! What standard HTTP components ask of others.
//!
//! The guests are those of `make policies`: `http-hostile` does what the request's path says.

use std::fmt;
use std::sync::mpsc;
use std::thread;

use fusebox_dev::{Authority, ClosedDoor, Origin, answer, eventually, ok};
use serde_json::json;

use crate::http_components::{FALLBACK, PATIENT, built, failing, get_with, hostile, told_of};
use crate::support::{Proxy, fusebox};

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

// ===== by the worker's connections =====

const DEBUG: &str = "[log]\nlevel = 'debug'\n";

/// The host and port of an origin.
fn at(origin: &Origin) -> String {
    format!("127.0.0.1:{}", origin.address().port())
}

/// Answers each request with its number.
fn counting() -> Origin {
    Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            connection.wire.send(ok(&seen.number.to_string()));
        }
    })
}

/// Settings of the component, and tables beside it.
#[track_caller]
fn hostile_beside(options: &str, tables: &str) -> (Origin, Proxy) {
    let origin = failing();
    let options = format!("{PATIENT}timeout = '2s'\nresponse_timeout = '20s'\n{options}");
    let config = format!("{}{tables}", FALLBACK.replace("OPTIONS", &options));
    let proxy = Proxy::with_files(&origin, &[("c.wasm", &built("http_hostile.wasm"))], &config);
    (origin, proxy)
}

#[test]
fn what_guests_ask_goes_by_kept_connections_and_is_no_attempt_of_the_route() {
    let (other, closed) = (counting(), ClosedDoor::refusing());
    let gone = closed.to_string().replace("http://", "");
    let grants = format!("grant = ['http:{}', 'http:{gone}']", at(&other));
    let (_origin, proxy) = hostile_beside(&grants, DEBUG);
    for number in 0..3 {
        let said = fetch(&proxy, "fetch", &other, &number.to_string());
        assert_eq!(said, format!("200 1 {number} whole\n"));
    }
    assert_eq!(other.connections(), 1);
    let asked = told_of(&proxy, "2", &format!("Component asked http:{}: 200", at(&other)));
    assert_eq!((&asked["component"], &asked["policy"]), (&json!("c"), &json!("fallback")));
    assert_eq!((&asked["level"], &asked["route"]), (&json!("DEBUG"), &json!("all")));
    assert_eq!(fetch(&proxy, "fetch", &gone, "3"), "ErrorCode::ConnectionRefused\n");
    let asked = told_of(&proxy, "3", &format!("Component asked http:{gone}: connection refused"));
    assert_eq!(asked["level"], "INFO");
    let attempts = proxy.story("3");
    let attempts = attempts
        .iter()
        .filter(|line| line["msg"].as_str().is_some_and(|message| message.starts_with("Attempt ")));
    assert_eq!(attempts.count(), 2, "that of the client: it started, and it ended");
    proxy.counts(&[
        (r#"fusebox_component_requests_total{component="c",outcome="2xx"}"#, 3.0),
        (r#"fusebox_component_requests_total{component="c",outcome="connect"}"#, 1.0),
        (r#"fusebox_attempts_total{route="all",outcome="5xx"}"#, 4.0),
        (r#"fusebox_attempts_total{route="all",outcome="2xx"}"#, 0.0),
        (r#"fusebox_attempts_total{route="all",outcome="connect"}"#, 0.0),
    ]);
}

#[test]
fn a_kept_connection_that_has_died_costs_a_guest_nothing() {
    // An answer, and it hangs up without a word.
    let other = Origin::start(|connection| {
        if connection.request().is_some() {
            connection.wire.send(ok("x"));
        }
    });
    let (_origin, proxy) = hostile_beside(&format!("grant = ['http:{}']", at(&other)), "");
    for number in 1..=3 {
        assert_eq!(fetch(&proxy, "fetch", &other, &number.to_string()), "200 1 x whole\n");
    }
    assert_eq!(other.seen().len(), 3);
}

#[test]
fn what_guests_send_arrives_whole() {
    let other = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            connection.wire.send(ok(&seen.request.body.len().to_string()));
        }
    });
    let (_origin, proxy) = hostile_beside(&format!("grant = ['http:{}']", at(&other)), "");
    assert_eq!(fetch(&proxy, "send/300", &other, "1"), "200 6 307200 whole\n");
    assert_eq!(fetch(&proxy, "send-exact/3", &other, "2"), "200 4 3072 whole\n");
    let seen = other.seen();
    let framing = |at: usize| {
        let request = &seen[at].request;
        (request.header("transfer-encoding"), request.header("content-length"))
    };
    assert_eq!(framing(0), (Some("chunked"), None));
    assert_eq!(framing(1), (None, Some("3072")));
    assert_eq!(other.connections(), 1);
}

#[test]
fn an_early_answer_to_what_a_guest_sends_is_heard() {
    let other = Origin::start(|connection| {
        if connection.head().is_some() {
            connection.wire.send(answer(413, "", "too large"));
            connection.wire.rest();
        }
    });
    let (_origin, proxy) = hostile_beside(&format!("grant = ['http:{}']", at(&other)), "");
    assert_eq!(fetch(&proxy, "send/8192", &other, "1"), "413 9 too large whole\n");
}

#[test]
fn what_a_guest_does_not_wait_for_ends_at_once() {
    let other = Origin::start(|connection| {
        connection.request();
        connection.wire.rest();
    });
    let (_origin, proxy) = hostile_beside(&format!("grant = ['http:{}']", at(&other)), DEBUG);
    assert_eq!(fetch(&proxy, "fetch-left", &other, "1"), "left");
    told_of(&proxy, "1", &format!("Component asked http:{}: cancelled", at(&other)));
    let cancelled = r#"fusebox_component_requests_total{component="c",outcome="cancelled"}"#;
    proxy.counts(&[(cancelled, 1.0)]);
}

#[test]
fn interim_responses_to_guests_are_not_for_clients() {
    let other = Origin::start(|connection| {
        while connection.request().is_some() {
            connection.wire.send("HTTP/1.1 103 Early Hints\r\nlink: </mine>\r\n\r\n");
            connection.wire.send(ok("x"));
        }
    });
    let (_origin, proxy) = hostile_beside(&format!("grant = ['http:{}']", at(&other)), "");
    // The first head that comes is the answer.
    assert_eq!(fetch(&proxy, "fetch", &other, "1"), "200 1 x whole\n");
}

#[test]
fn a_host_that_is_declared_is_asked_as_its_table_says() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let other = Origin::start(move |connection| {
        while connection.request().is_some() {
            gone.lock().expect("no panic").recv().ok();
            connection.wire.send(ok("x"));
        }
    });
    let tables = format!(
        "[upstreams.other]\nendpoints = ['http://{}']\nmax_connections = 1\n\
         connect_timeout = '100ms'\n",
        at(&other)
    );
    let (_origin, proxy) = hostile_beside(&format!("grant = ['http:{}']", at(&other)), &tables);
    let text = thread::scope(|scope| {
        let fetching = scope.spawn(|| fetch(&proxy, "fetch-many", &other, "1"));
        eventually("those that found no connection", || {
            let full = r#"fusebox_component_requests_total{component="c",outcome="bulkhead-full"}"#;
            (proxy.series().get(full) == Some(&7.0)).then_some(())
        });
        drop(go);
        fetching.join().expect("no panic")
    });
    let refused = "ErrorCode::ConnectionLimitReached\n".repeat(19);
    assert_eq!(text, format!("200 1 x whole\n{refused}"));
    assert_eq!(other.connections(), 1);
    let file = proxy.path("fusebox.toml");
    let checked = fusebox(file.parent().expect("a directory"), &["check", "fusebox.toml"]);
    assert_eq!(checked.code, Some(0), "{}", checked.error);
    assert!(!checked.error.contains("no route uses it"), "a component does: {}", checked.error);
}

#[test]
fn a_declared_host_may_have_a_certificate_of_ones_own() {
    let authority = Authority::new("own");
    let server = authority.issue("b", &["localhost"]).server();
    let other = Origin::secured(server, |connection| {
        while connection.request().is_some() {
            connection.wire.send(ok("x"));
        }
    });
    let host = format!("localhost:{}", other.address().port());
    let origin = failing();
    let options =
        format!("{PATIENT}timeout = '2s'\nresponse_timeout = '20s'\ngrant = ['https:{host}']");
    let config = format!(
        "{}[upstreams.other]\nendpoints = ['https://{host}']\ntls = {{ ca = 'ca.pem' }}\n",
        FALLBACK.replace("OPTIONS", &options)
    );
    let guest = built("http_hostile.wasm");
    let files = [("c.wasm", &guest[..]), ("ca.pem", authority.pem().as_bytes())];
    let proxy = Proxy::with_files(&origin, &files, &config);
    for id in ["1", "2"] {
        assert_eq!(fetch(&proxy, "fetch-tls", &host, id), "200 1 x whole\n");
    }
    assert_eq!(other.connections(), 1);
}
