//! Components that decide by the trailers of a response, by which protocol ever these come.

use bytes::Bytes;
use fusebox_dev::{H2Origin, Origin, answer, eventually, get, ok, predicate, trailer_predicate};
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::json;

use crate::components::with_component;
use crate::http2::client::Client;
use crate::support::Proxy;

/// A breaker that the component `c` opens; `OPTIONS` are more keys of the component.
const BREAKER: &str = "workers = 1\n[log]\nlevel = 'debug'\n\
    [components.c]\nfile = 'c.wasm'\nOPTIONS\n\
    [policies.breaker]\nkind = 'circuit-breaker'\nhandle_if = { component = 'c' }\n\
    failure_threshold = 1\ndelay = '90s'\n";
const ROUTE: &str = "[[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker']\n";
const OPENED: &str = "circuit breaker state changed from closed to open";
const TOKEN: &str = "authorization: Bearer open sesame\r\n";
const CALLS: &str = r#"fusebox_component_calls_total{component="c"}"#;
const LATE: &str = r#"fusebox_late_failures_total{route="/",policy="breaker"}"#;

/// A chunked answer that ends with this status of its own.
fn ending(status: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-status\r\n\r\n\
         4\r\nbody\r\n0\r\nx-status: {status}\r\n\r\n"
    )
}

/// Whether `$trailer` begins with this letter.
fn begins(letter: char) -> String {
    format!("(i32.eq (local.get $trailer) (i32.const {}))", u32::from(letter))
}

/// Takes what its trailer calls bad.
fn bad() -> Vec<u8> {
    trailer_predicate("x-status", &begins('b'))
}

fn with_breaker(origin: &Origin, component: &[u8], options: &str) -> Proxy {
    with_component(origin, component, &format!("{BREAKER}{ROUTE}"), options)
}

#[test]
fn a_trailer_of_http_1_opens_a_breaker() {
    let origin = Origin::answering([ending("good"), ending("bad")]);
    let proxy = with_breaker(&origin, &bad(), "");
    for (id, status) in [("1", "good"), ("2", "bad")] {
        let response = proxy.ask(get("/", id));
        assert_eq!((response.status(), response.text()), (200, "body"));
        assert_eq!(response.trailers, [("x-status".to_owned(), status.to_owned())]);
    }
    assert_eq!(proxy.told("1").last().map(String::as_str), Some("200: OK"));
    let told = proxy.told("2");
    assert!(told.contains(&"Success taken back: trailers".to_owned()), "{told:?}");
    let loaded = proxy.line("Component loaded");
    let by = json!({ "component": "c", "digest": loaded["digest"], "generation": 1 });
    let story = proxy.story("2");
    let opened = story.iter().find(|line| line["msg"] == OPENED).expect("it has opened");
    assert_eq!(opened["decided_by"], by);
    let asked = |answer| {
        let message = format!("Condition handle-if: {answer}");
        story.iter().filter(|line| line["msg"] == message.as_str()).count()
    };
    assert_eq!((asked("no"), asked("yes")), (1, 1), "{story:?}");
    assert_eq!(proxy.ask(get("/", "3")).status(), 503);
    proxy.counts(&[(CALLS, 4.0), (LATE, 1.0)]);
}

#[test]
fn so_does_a_status_of_grpc_over_http_2_and_a_component_may_think_better_of_it() {
    let origin = H2Origin::start(|mut exchange| async move {
        exchange.receive().await;
        let head = Response::builder().header("content-type", "application/grpc");
        let mut stream = exchange.answer(head.body(()).unwrap(), false);
        stream.send_data(Bytes::from_static(b"\0\0\0\0\x03one"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("14"));
        stream.send_trailers(trailers).unwrap();
    });
    let route = "[[routes]]\ngrpc = true\nupstream = { url = 'ORIGIN', protocol = 'http2' }\n\
                 policies = ['breaker']\n";
    let config = format!("{}{route}", BREAKER.replace("OPTIONS", ""));
    // What begins with 1, and what with 9: none.
    for (letter, opens) in [('1', true), ('9', false)] {
        let component = trailer_predicate("grpc-status", &begins(letter));
        let proxy = Proxy::with_files(&origin, &[("c.wasm", &component)], &config);
        let client = Client::connect(proxy.address());
        let call = |id: &str| {
            let request = Request::post("http://b.example/b.B/Get").header("x-request-id", id);
            client.send(request.header("content-type", "application/grpc"), "\0\0\0\0\0")
        };
        let answer = call("1");
        assert_eq!((answer.status, answer.reset), (200, None));
        assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "14");
        let told = proxy.told("1");
        let taken_back = "Success taken back: grpc 14: unavailable".to_owned();
        assert_eq!(told.contains(&taken_back), opens, "{told:?}");
        let rejected = call("2").header("grpc-message") == Some("circuit breaker open");
        assert_eq!(rejected, opens);
        proxy.counts(&[(CALLS, if opens { 2.0 } else { 4.0 }), (LATE, f64::from(u8::from(opens)))]);
    }
}

/// The client is sent no trailers behind a length, so nobody waits for them.
#[test]
fn behind_a_length_trailers_count_only_if_the_client_can_have_them() {
    let origin = H2Origin::start(|mut exchange| async move {
        exchange.receive().await;
        let head = Response::builder().header("content-length", "4");
        let mut stream = exchange.answer(head.body(()).unwrap(), false);
        stream.send_data(Bytes::from_static(b"body"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-status", HeaderValue::from_static("bad"));
        stream.send_trailers(trailers).unwrap();
    });
    let route = "[[routes]]\nupstream = { url = 'ORIGIN', protocol = 'http2' }\n\
                 policies = ['breaker']\n";
    let config = format!("{}{route}", BREAKER.replace("OPTIONS", ""));
    let start = || Proxy::with_files(&origin, &[("c.wasm", &bad())], &config);
    let proxy = start();
    assert_eq!(proxy.ask(get("/", "1")).text(), "body");
    proxy.story("1");
    proxy.counts(&[(CALLS, 1.0), (LATE, 0.0)]);

    let proxy = start();
    let client = Client::connect(proxy.address());
    let request = Request::get("http://b.example/").header("x-request-id", "1");
    assert_eq!(client.ask(request).trailers.expect("trailers")["x-status"], "bad");
    proxy.story("1");
    proxy.counts(&[(CALLS, 2.0), (LATE, 1.0)]);
}

#[test]
fn a_component_that_reads_none_is_asked_once_and_so_is_one_of_what_has_none() {
    let origin = Origin::answering([ending("bad")]);
    let proxy = with_breaker(&origin, &predicate("(i32.const 0)"), "");
    assert_eq!(proxy.ask(get("/", "1")).text(), "body");
    proxy.told("1");
    proxy.counts(&[(CALLS, 1.0), (LATE, 0.0)]);

    let chunked = answer(200, "", "").replace("content-length: 0\r\n", "");
    let chunked = chunked.replace("\r\n\r\n", "\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    let origin = Origin::answering([ok("sized"), chunked]);
    let proxy = with_breaker(&origin, &bad(), "");
    for (id, text) in [("1", "sized"), ("2", "")] {
        assert_eq!(proxy.ask(get("/", id)).text(), text);
        proxy.told(id);
    }
    proxy.counts(&[(CALLS, 2.0), (LATE, 0.0)]);
}

#[test]
fn a_client_that_leaves_before_the_trailers_is_neutral() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            match seen.number {
                0 => {
                    connection
                        .wire
                        .send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbody\r\n");
                    // Until the proxy closes it.
                    connection.wire.rest();
                    return;
                }
                _ => connection.wire.send(ending("good")),
            }
        }
    });
    let proxy = with_breaker(&origin, &bad(), "");
    proxy.admin_with("POST /policies/breaker/half-open", TOKEN);
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    assert_eq!(client.head().expect("a response").status(), 200);
    assert_eq!(client.chunk(), b"body");
    assert_eq!(proxy.state()["policies"]["breaker"]["trials"], 1);
    drop(client);
    assert_eq!(proxy.story("1").pop().expect("the access line")["response"]["end"], "discarded");
    let breaker = eventually("the trial's end", || {
        let breaker = proxy.state()["policies"]["breaker"].clone();
        (breaker["trials"] == 0).then_some(breaker)
    });
    assert_eq!(breaker["state"], "half-open", "nothing has counted");
    proxy.counts(&[(CALLS, 1.0), (LATE, 0.0)]);
    assert_eq!(proxy.ask(get("/", "2")).text(), "body");
    assert_eq!(proxy.told("2").last().map(String::as_str), Some("200: OK"));
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "closed");
}

#[test]
fn a_guest_that_traps_at_the_trailers_is_answered_for_by_on_error() {
    let traps = format!("(if {} (then unreachable)) (i32.const 0)", begins('b'));
    let traps = trailer_predicate("x-status", &traps);
    for (on_error, opens) in [("default", false), ("unhandled", false), ("handled", true)] {
        let origin = Origin::answering([ending("bad"), ending("good")]);
        let proxy = with_breaker(&origin, &traps, &format!("on_error = '{on_error}'"));
        assert_eq!(proxy.ask(get("/", "1")).text(), "body", "its client notices nothing");
        let told = proxy.told("1");
        assert!(told.iter().any(|line| line.starts_with("Component faulted")), "{told:?}");
        assert_eq!(told.contains(&OPENED.to_owned()), opens, "{told:?}");
        let next = if opens { 503 } else { 200 };
        assert_eq!(proxy.ask(get("/", "2")).status(), next, "{on_error}");
        proxy.counts(&[(&proxy.fault_series("trap"), 1.0), (LATE, f64::from(u8::from(opens)))]);
    }
}

#[test]
fn a_trial_gets_its_verdict_from_the_trailers_whatever_its_head_was() {
    // What does not say that it is good is a failure: so is every head.
    let not_good = trailer_predicate("x-status", &format!("(i32.eqz {})", begins('g')));
    for (component, status, state) in [
        (bad(), "bad", "open"),
        (bad(), "good", "closed"),
        (not_good.clone(), "bad", "open"),
        (not_good, "good", "closed"),
    ] {
        let origin = Origin::answering([ending(status)]);
        let proxy = with_breaker(&origin, &component, "");
        proxy.admin_with("POST /policies/breaker/half-open", TOKEN);
        assert_eq!(proxy.ask(get("/", "1")).text(), "body");
        proxy.told("1");
        assert_eq!(proxy.state()["policies"]["breaker"]["state"], state, "{status}");
        proxy.counts(&[(CALLS, 2.0)]);
    }
}

#[test]
fn another_version_may_answer_and_one_that_reads_none_is_not_asked() {
    let (release, waits) = std::sync::mpsc::channel::<()>();
    let waits = std::sync::Mutex::new(waits);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            let bytes = ending("bad");
            let (head, rest) = bytes.split_once("0\r\nx-status").expect("trailers");
            connection.wire.send(head);
            if waits.lock().expect("one at a time").recv().is_err() {
                return;
            }
            connection.wire.send(format!("0\r\nx-status{rest}"));
        }
    });
    let never = trailer_predicate("x-status", "(i32.const 0)");
    let proxy = with_breaker(&origin, &never, "");
    let across = |id: &str, component: &[u8]| {
        let mut client = proxy.connect();
        client.send(get("/", id));
        client.head().expect("a response");
        assert_eq!(client.chunk(), b"body");
        let pushed = proxy.admin_sending("PUT /components/c", TOKEN, component);
        assert_eq!(pushed.status(), 200, "{pushed:?}");
        release.send(()).expect("it waits");
        proxy.told(id)
    };
    let told = across("1", &predicate("(i32.const 1)"));
    assert!(!told.contains(&OPENED.to_owned()), "{told:?}");
    proxy.counts(&[(CALLS, 1.0)]);
    proxy.admin_sending("PUT /components/c", TOKEN, &never);
    let told = across("2", &bad());
    assert!(told.contains(&OPENED.to_owned()), "{told:?}");
    proxy.counts(&[(CALLS, 3.0), (LATE, 1.0)]);
}

#[test]
fn a_body_that_breaks_off_before_its_trailers_is_left_to_the_defaults() {
    let origin = Origin::start(|connection| {
        connection.request();
        let bytes = ending("good");
        connection.wire.send(bytes.split_once("0\r\nx-status").expect("trailers").0);
    });
    let proxy = with_breaker(&origin, &bad(), "");
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    client.head().expect("a response");
    assert_eq!(client.chunk(), b"body");
    let told = proxy.told("1");
    assert!(told.contains(&"Success taken back: connection lost".to_owned()), "{told:?}");
    assert!(told.contains(&OPENED.to_owned()), "{told:?}");
    proxy.counts(&[(CALLS, 1.0), (LATE, 1.0)]);
}
