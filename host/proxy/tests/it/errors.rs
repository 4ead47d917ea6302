//! What goes wrong, on either side: each has its answer, nothing is lost, and the proxy lives on.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use fusebox_dev::{ClosedDoor, LIMIT, Message, Origin, Wire, answer, eventually, get, ok, post};
use serde_json::json;

use crate::support::{Proxy, ROUTE};

/// Holds an answer of our own making against the design's table, and sees that it says nothing
/// else.
#[track_caller]
pub(crate) fn is_problem(response: &Message, id: &str, status: u16, error: &str, title: &str) {
    assert_eq!(response.status(), status, "{response:?}");
    let body: serde_json::Value = serde_json::from_str(response.text()).expect("JSON");
    assert_eq!(
        body,
        json!({ "type": "about:blank", "title": title, "status": status, "request_id": id })
    );
    let proxy_status = format!("fusebox; error={error}; details=\"{title}\"");
    let told = response.header("proxy-status").unwrap_or_default();
    let attempts = told.strip_prefix(&*proxy_status).unwrap_or_else(|| panic!("{told}"));
    assert!(attempts.is_empty() || attempts.starts_with("; attempts="), "{told}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.header("x-request-id"), Some(id));
    let known = [
        "connection",
        "content-length",
        "content-type",
        "date",
        "proxy-status",
        "retry-after",
        "x-request-id",
    ];
    let told: Vec<_> =
        response.headers.iter().filter(|(name, _)| !known.contains(&name.as_str())).collect();
    assert!(told.is_empty(), "{told:?}");
}

/// The proxy is as good as new.
#[track_caller]
fn lives_on(proxy: &Proxy) {
    assert_eq!(proxy.ask(get("/", "afterwards")).status(), 200);
}

/// Answers nothing, for as long as it is asked.
pub(crate) fn hanging() -> Origin {
    Origin::start(|connection| {
        if connection.request().is_some() {
            connection.wire.rest();
        }
    })
}

// ===== the table =====

#[test]
fn a_timeout_is_a_504() {
    let origin = hanging();
    let config = "[policies.limit]\nkind = 'timeout'\nlimit = '100ms'\n[[routes]]\n\
                  upstream = 'ORIGIN'\npolicies = ['limit']";
    let proxy = Proxy::before(&origin, config);
    is_problem(&proxy.ask(get("/", "1")), "1", 504, "http_response_timeout", "timeout exceeded");
    let story = proxy.story("1");
    assert_eq!(proxy.told("1"), ["Connection timed out", "504: Gateway Timeout"]);
    assert_eq!((&story[0]["policy"], &story[0]["limit_ms"]), (&json!("limit"), &json!(100.0)));
    assert_eq!(
        (&story[1]["failure"], &story[1]["error"], &story[1]["level"]),
        (&json!("timeout"), &json!("http_response_timeout"), &json!("ERROR"))
    );
    proxy.counts(&[
        (r#"fusebox_timeouts_total{route="/",policy="limit"}"#, 1.0),
        (r#"fusebox_attempts_total{route="/",outcome="cancelled"}"#, 1.0),
        (r#"fusebox_requests_total{route="/",status="504"}"#, 1.0),
    ]);
}

#[test]
fn a_refused_connection_is_a_502() {
    let proxy = Proxy::before(&ClosedDoor::refusing(), ROUTE);
    is_problem(&proxy.ask(get("/", "1")), "1", 502, "connection_refused", "connection refused");
    assert_eq!(proxy.story("1")[0]["attempts"], 1);
    proxy.counts(&[(r#"fusebox_attempts_total{route="/",outcome="connect"}"#, 1.0)]);
}

#[test]
fn a_connection_that_is_not_made_in_time_is_a_504() {
    let door = ClosedDoor::full();
    let proxy = Proxy::before(
        &door,
        "[[routes]]\nupstream = { url = 'ORIGIN', connect_timeout = '200ms' }",
    );
    is_problem(&proxy.ask(get("/", "1")), "1", 504, "connection_timeout", "connecting timed out");
}

#[test]
fn a_name_that_nobody_knows_is_a_502() {
    let origin = Origin::answering([ok("")]);
    let other = format!("[[routes]]\npath = '/other'\nupstream = '{origin}'\n");
    let proxy = Proxy::before(&"http://nobody.invalid:1", &(ROUTE.to_owned() + &other));
    for id in ["1", "2"] {
        is_problem(&proxy.ask(get("/", id)), id, 502, "dns_error", "upstream name not resolved");
        let line = proxy.story(id).pop().expect("an access line");
        assert_eq!((&line["failure"], line["detail"].is_string()), (&"dns".into(), true), "{line}");
    }
    proxy.counts(&[(r#"fusebox_attempts_total{route="/",outcome="dns"}"#, 2.0)]);
    assert_eq!(proxy.ask(get("/other", "3")).status(), 200);
    assert_eq!(proxy.admin("GET /readyz").status(), 200);
}

#[test]
fn a_connection_that_is_closed_before_the_head_is_a_502() {
    let origin = Origin::answering(["", "HTTP/1.1 200 OK\r\nx-half: a hea"]);
    let half = Origin::start(|connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\nx-half: a hea");
    });
    for origin in [&origin, &half] {
        let proxy = Proxy::before(origin, ROUTE);
        is_problem(&proxy.ask(get("/", "1")), "1", 502, "connection_terminated", "connection lost");
    }
}

#[test]
fn what_is_no_http_is_a_502() {
    let origin = Origin::answering([
        "SSH-2.0-OpenSSH_9.9\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    ]);
    let proxy = Proxy::before(&origin, ROUTE);
    for id in ["1", "2", "3", "4"] {
        let response = proxy.ask(get("/", id));
        is_problem(&response, id, 502, "http_protocol_error", "upstream sent invalid http");
    }
    assert_eq!(origin.connections(), 4, "none of them is used again");
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_a_502() {
    let origin = Origin::answering([
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        &ok(""),
    ]);
    let proxy = Proxy::before(&origin, ROUTE);
    is_problem(
        &proxy.ask(get("/", "1")),
        "1",
        502,
        "http_protocol_error",
        "upstream sent invalid http",
    );
    lives_on(&proxy);
}

#[test]
fn a_response_head_over_the_limit_is_a_502() {
    let origin = Origin::answering([
        answer(200, &format!("x-long: {}\r\n", "x".repeat(70_000)), ""),
        ok(""),
    ]);
    let proxy = Proxy::before(&origin, ROUTE);
    is_problem(
        &proxy.ask(get("/", "1")),
        "1",
        502,
        "http_protocol_error",
        "upstream sent invalid http",
    );
    lives_on(&proxy);
}

#[test]
fn retries_exceeded_is_a_502_with_the_word_of_the_last_failure() {
    let config = "[policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1ms'\n\
                  return_last_failure = false\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']";
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = Proxy::before(&origin, config);
    let told = proxy.ask(get("/", "1"));
    is_problem(&told, "1", 502, "http_request_error", "retries exceeded");
    assert!(told.header("proxy-status").is_some_and(|told| told.ends_with("; attempts=2")));
    let proxy = Proxy::before(&ClosedDoor::refusing(), config);
    is_problem(&proxy.ask(get("/", "1")), "1", 502, "connection_refused", "retries exceeded");
}

#[test]
fn an_open_circuit_is_a_503_that_says_when_to_come_back() {
    let origin = Origin::answering([answer(500, "", "")]);
    let config = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  delay = '90s'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker']";
    let proxy = Proxy::before(&origin, config);
    assert_eq!(proxy.ask(get("/", "1")).status(), 500);
    let response = proxy.ask(get("/", "2"));
    is_problem(&response, "2", 503, "destination_unavailable", "circuit breaker open");
    let retry_after: u64 =
        response.header("retry-after").and_then(|it| it.parse().ok()).expect("seconds");
    // A tenth longer by the breaker's jitter, and a fifth by the listener's.
    assert!((60..=119).contains(&retry_after), "{retry_after}");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn no_route_is_a_404() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, "[[routes]]\npath = '/api'\nupstream = 'ORIGIN'");
    is_problem(&proxy.ask(get("/", "1")), "1", 404, "destination_not_found", "no route");
    assert_eq!(proxy.story("1")[0]["route"], "none");
    assert_eq!(origin.seen().len(), 0);
}

#[test]
fn the_access_line_says_why_a_request_was_refused() {
    let origin = Origin::answering([ok("")]);
    let routes = "[[routes]]\npath = '/api'\nupstream = 'ORIGIN'";
    let proxy = Proxy::before(&origin, &format!("[listener]\nmax_body = '1KiB'\n{routes}"));
    for (request, status, error) in [
        ("GET / HTTP/1.1\r\nhost: b\r\n", 404, "destination_not_found"),
        ("GET /api HTTP/1.1\r\nhost: a b\r\n", 400, "http_request_error"),
        ("PUT /api HTTP/1.1\r\nhost: b\r\ncontent-length: 1025\r\n", 413, "http_request_error"),
    ] {
        let (mut client, id) = (proxy.connect(), status.to_string());
        client.send(format!("{request}x-request-id: {id}\r\n\r\n"));
        assert_eq!(client.response().status(), status);
        let line = proxy.story(&id).pop().expect("the access line");
        assert_eq!((&line["failure"], &line["error"]), (&json!("other"), &json!(error)), "{line}");
    }
}

#[test]
fn what_the_client_is_to_blame_for_points_at_no_upstream() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("[listener]\nmax_body = '1KiB'\n{ROUTE}"));
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    client.send(format!("400\r\n{}\r\n1\r\nx\r\n", "x".repeat(1024)));
    assert_eq!(client.response().status(), 413);
    let story = proxy.story("1");
    let line = story.last().expect("the access line");
    assert_eq!((line["attempts"].as_u64(), line.get("address")), (Some(1), None), "{line}");
    proxy.counts(&[
        (r#"fusebox_attempts_total{route="/",outcome="client"}"#, 1.0),
        (r#"fusebox_requests_total{route="/",status="413"}"#, 1.0),
        (r#"fusebox_requests_total{route="/",status="503"}"#, 0.0),
    ]);
}

#[test]
fn a_request_body_over_the_limit_is_a_413_whether_or_not_its_length_is_announced() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("[listener]\nmax_body = '1KiB'\n{ROUTE}"));
    let mut announced = proxy.connect();
    announced.send("POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ncontent-length: 1025\r\n\r\n");
    is_problem(&announced.response(), "1", 413, "http_request_error", "request body too large");
    assert_eq!(origin.seen().len(), 0, "nobody was asked");
    let mut chunked = proxy.connect();
    chunked.send(
        "POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    chunked.send(format!("400\r\n{}\r\n1\r\nx\r\n", "x".repeat(1024)));
    is_problem(&chunked.response(), "2", 413, "http_request_error", "request body too large");
    assert_eq!(
        proxy.ask(post(&"x".repeat(1024), "3")).status(),
        200,
        "the limit itself is allowed"
    );
}

#[test]
fn the_same_errors_to_head_have_no_body() {
    let proxy = Proxy::before(&ClosedDoor::refusing(), ROUTE);
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\n\r\n");
    let head = client.head().expect("a response");
    assert_eq!(head.status(), 502);
    assert_eq!(
        head.header("proxy-status"),
        Some("fusebox; error=connection_refused; details=\"connection refused\"")
    );
    assert_eq!(
        client.ask(get("/", "2")).status(),
        502,
        "and the next response is where it should be"
    );
}

// ===== an upstream that breaks off =====

/// Sends this in place of an answer to the first request, then closes the connection. The next ones
/// are answered.
fn breaking_off(with: &str) -> Origin {
    let with = with.to_owned();
    Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            if seen.number == 0 {
                return connection.wire.send(&with);
            }
            connection.wire.send(ok("whole"));
        }
    })
}

#[test]
fn a_response_that_breaks_off_does_not_look_whole() {
    let lost = ("connection lost", "connection-lost", "connection_terminated");
    let invalid = ("upstream sent invalid http", "protocol", "http_protocol_error");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    for (head, half, (words, failure, error)) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n", "half", lost),
        (chunked, "4\r\nhalf\r\n", lost),
        (chunked, "A\r\nhalf", lost),
        (chunked, "4\r\nhalf\r\nno length\r\n", invalid),
    ] {
        let broken = format!("{head}{half}");
        let origin = breaking_off(&broken);
        let proxy = Proxy::before(&origin, ROUTE);
        let mut client = proxy.connect();
        client.send(get("/", "1"));
        let response = client.any_response();
        assert_eq!(response.status(), 200, "{broken}");
        assert!(response.broken.is_some(), "{broken}: {response:?}");
        assert_eq!(client.rest(), b"", "and its connection is closed");
        let story = proxy.story("1");
        assert_eq!(proxy.told("1"), [&*format!("Response incomplete: {words}"), "200: OK"]);
        assert_eq!(
            (&story[0]["failure"], &story[0]["error"], &story[0]["level"]),
            (&json!(failure), &json!(error), &json!("WARN"))
        );
        proxy.counts(&[(
            &format!(r#"fusebox_responses_incomplete_total{{route="/",failure="{failure}"}}"#),
            1.0,
        )]);
        lives_on(&proxy);
    }
}

#[test]
fn a_response_body_that_stalls_is_cut_off() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        connection.wire.rest();
    });
    let proxy =
        Proxy::before(&origin, "[[routes]]\nupstream = { url = 'ORIGIN', body_timeout = '150ms' }");
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    let response = client.any_response();
    assert_eq!((response.status(), response.text()), (200, "half"));
    assert!(response.broken.is_some());
    assert_eq!(proxy.told("1"), ["Response incomplete: timeout exceeded", "200: OK"]);
}

#[test]
fn a_response_body_that_trickles_is_not_cut_off() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n");
        for _ in 0..8 {
            // Nothing comes: a pause, and four of them are longer than the limit.
            connection.wire.stays_silent(Duration::from_millis(200));
            connection.wire.send("x");
        }
    });
    let proxy =
        Proxy::before(&origin, "[[routes]]\nupstream = { url = 'ORIGIN', body_timeout = '1s' }");
    assert_eq!(proxy.ask(get("/", "1")).text(), "xxxxxxxx");
}

// ===== a client that does not behave =====

/// A proxy with short limits on clients, before an origin that answers.
fn strict() -> (Origin, Proxy) {
    let origin = Origin::answering([ok("")]);
    let limits =
        "[listener]\nheader_timeout = '200ms'\nbody_timeout = '200ms'\nmax_header = '8KiB'\n";
    let proxy = Proxy::before(&origin, &format!("{limits}{ROUTE}"));
    (origin, proxy)
}

#[test]
fn half_a_head_is_a_408_after_the_limit() {
    let (origin, proxy) = strict();
    for half in ["G", "GET / HTTP/1.1\r\nhost: b", "GET / HTTP/1.1\r\nhost: b\r\n"] {
        let mut client = proxy.connect();
        client.send(half);
        let response = client.response();
        assert_eq!(
            (response.status(), response.header("connection")),
            (408, Some("close")),
            "{half}"
        );
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(origin.seen().len(), 0);
    lives_on(&proxy);
}

#[test]
fn a_head_that_trickles_is_a_408_after_the_limit_too() {
    let (_origin, proxy) = strict();
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\n");
    let mut trickle = client.sender();
    let trickling = std::thread::spawn(move || {
        (0..1000).find(|_| {
            std::thread::park_timeout(Duration::from_millis(20));
            trickle.try_send("x: y\r\n").is_err()
        })
    });
    assert_eq!(client.response().status(), 408);
    client.rest();
    assert!(trickling.join().expect("no panic").is_some(), "it was closed");
}

#[test]
fn half_a_head_after_a_whole_request_is_a_408_too() {
    let (_origin, proxy) = strict();
    let mut client = proxy.connect();
    assert_eq!(client.ask(get("/", "1")).status(), 200);
    assert_eq!(client.ask(get("/", "2") + "GET / HT").status(), 200);
    assert_eq!(client.response().status(), 408);
}

#[test]
fn a_connection_between_two_requests_has_the_idle_limit_and_not_that_of_a_head() {
    let (_origin, proxy) = strict();
    for (expect, status) in [("100-continue", 200), ("wonders", 417)] {
        let request = format!("GET / HTTP/1.1\r\nhost: b\r\nexpect: {expect}\r\n\r\n");
        let mut client = proxy.connect();
        assert_eq!(client.ask(&request).status(), status);
        client.stays_silent(Duration::from_millis(500));
        assert_eq!(client.ask(&request).status(), status, "{expect}");
    }
}

#[test]
fn a_client_that_sends_nothing_at_all_is_let_go_after_the_idle_limit() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("[listener]\nidle_timeout = '200ms'\n{ROUTE}"));
    assert_eq!(proxy.connect().rest(), b"");
    let mut used = proxy.connect();
    assert_eq!(used.ask(get("/", "1")).status(), 200);
    assert_eq!(used.rest(), b"");
}

#[test]
fn a_huge_header_is_a_431() {
    let (origin, proxy) = strict();
    let mut client = proxy.connect();
    client
        .try_send(format!("GET / HTTP/1.1\r\nhost: b\r\nx-huge: {}\r\n\r\n", "x".repeat(16 * 1024)))
        .ok();
    assert_eq!(client.response().status(), 431);
    let mut endless = proxy.connect();
    let mut sender = endless.sender();
    let sending = std::thread::spawn(move || {
        sender.try_send("GET / HTTP/1.1\r\nhost: b\r\nx-huge: ").ok();
        while sender.try_send([b'x'; 4096]).is_ok() {}
    });
    endless.rest();
    sending.join().expect("no panic");
    assert_eq!(origin.seen().len(), 0);
    lives_on(&proxy);
}

#[test]
fn as_much_as_the_limit_allows_goes_through() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, ROUTE);
    let long = "x".repeat(60 * 1024);
    assert_eq!(
        proxy.ask(format!("GET / HTTP/1.1\r\nhost: b\r\nx-long: {long}\r\n\r\n")).status(),
        200
    );
    assert_eq!(origin.only().header("x-long"), Some(long.as_str()));
}

#[test]
fn a_malformed_head_is_refused_with_its_reason() {
    let (origin, proxy) = strict();
    let mut refused = std::collections::BTreeMap::new();
    for (status, reason, head) in [
        (400, "field-name", "GET / HTTP/1.1\r\nhost b\r\n\r\n"),
        (400, "request-line", "GET  / HTTP/1.1\r\nhost: b\r\n\r\n"),
        (400, "folding", "GET / HTTP/1.1\r\nhost: b\r\n x: folded\r\n\r\n"),
        (400, "field-name", "GET / HTTP/1.1\r\nhost : b\r\n\r\n"),
        (400, "line-end", "GET / HTTP/1.1\nhost: b\r\n\r\n"),
        (400, "target", "DELETE /c/#f HTTP/1.1\r\nhost: b\r\n\r\n"),
        (400, "different-lengths", "GET / HTTP/1.1\r\nhost: b\r\ncontent-length: 1, 2\r\n\r\n"),
        (400, "content-length", "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: -1\r\n\r\n"),
        (501, "coding", "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: gzip\r\n\r\n"),
        (501, "connect", "CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n"),
        (505, "version", "GET / HTTP/3.0\r\nhost: b\r\n\r\n"),
        (400, "request-line", "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n"),
        (400, "request-line", "\0\0\0\0"),
    ] {
        let series = format!(r#"fusebox_requests_refused_total{{route="none",reason="{reason}"}}"#);
        let mut client = proxy.connect();
        client.send(head);
        let response = client.any_response();
        assert_eq!(response.status(), status, "{head:?}");
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        let told = response.header("proxy-status").expect("a word on it");
        assert!(told.starts_with("fusebox; error=http_request_error; details="), "{told}");
        assert_eq!(client.rest(), b"");
        *refused.entry(reason).or_insert(0.0) += 1.0;
        proxy.counts(&[(&series, refused[reason])]);
    }
    assert_eq!(origin.seen().len(), 0);
    // The first one is told at once.
    let line = proxy.line_after(0, "Request refused: a line of the head is not `NAME: VALUE`");
    assert_eq!((&line["reason"], &line["count"]), (&"field-name".into(), &1.into()));
    assert_eq!((&line["ip"], &line["status"]), (&"127.0.0.1".into(), &400.into()));
    lives_on(&proxy);
}

#[test]
fn both_framings_at_once_are_refused_or_the_length_ends_here() {
    let (origin, proxy) = strict();
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\
         \r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: b\r\n\r\n",
    );
    let response = client.any_response();
    client.finish();
    client.rest();
    for seen in origin.seen() {
        let has = |name| seen.request.header(name).is_some();
        assert!(!(has("content-length") && has("transfer-encoding")), "{seen:?}");
    }
    // RFC 9112, section 6.3: either is allowed, as long as both sides read the same.
    assert!(matches!(response.status(), 200 | 400), "{response:?}");
}

#[test]
fn a_missing_or_odd_host_is_a_400() {
    let (origin, proxy) = strict();
    for head in [
        "",
        "host: a\r\nhost: b\r\n",
        "host: a b\r\n",
        "host: u@b\r\n",
        "host: \r\n",
        "host: b:abc\r\n",
        "host: b:99999\r\n",
    ] {
        let response = proxy.ask(format!("GET / HTTP/1.1\r\n{head}x-request-id: 1\r\n\r\n"));
        is_problem(&response, "1", 400, "http_request_error", "host missing or not valid");
    }
    assert_eq!(origin.seen().len(), 0);
    lives_on(&proxy);
}

#[test]
fn a_request_body_that_stalls_is_a_408() {
    let (origin, proxy) = strict();
    for framing in ["content-length: 10", "transfer-encoding: chunked"] {
        let mut client = proxy.connect();
        let half = if framing.ends_with("10") { "half" } else { "4\r\nhalf\r\n" };
        client.send(format!(
            "POST / HTTP/1.1\r\nhost: b\r\nx-request-id: {framing}\r\n{framing}\r\n\r\n{half}"
        ));
        let response = client.response();
        assert_eq!(response.status(), 408);
        let details = "fusebox; error=http_request_error; details=\"request incomplete\"";
        assert_eq!(response.header("proxy-status"), Some(details));
        assert_eq!(client.rest(), b"");
    }
    eventually("two broken requests", || {
        let seen = origin.seen();
        (seen.len() == 2).then(|| assert!(seen.iter().all(|seen| seen.request.broken.is_some())))
    });
    lives_on(&proxy);
}

#[test]
fn a_chunk_that_is_none_ends_the_request() {
    let (origin, proxy) = strict();
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ntransfer-encoding: chunked\r\n\
         \r\nhello\r\n",
    );
    let response = client.any_response();
    assert!(matches!(response.status(), 400 | 408), "{response:?}");
    assert!(
        origin.seen().iter().all(|seen| seen.request.broken.is_some()),
        "the origin does not take it for whole"
    );
    lives_on(&proxy);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_an_upload_ends_its_call() {
    let (came, comes) = channel();
    let came = Mutex::new(came);
    let origin = Origin::start(move |connection| {
        while connection.head().is_some() {
            came.lock().expect("no panic").send(Vec::new()).ok();
            let body = connection.wire.rest();
            came.lock().expect("no panic").send(body).ok();
        }
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ncontent-length: 10\r\n\r\nhalf");
    comes.recv_timeout(LIMIT).expect("a head at the origin");
    drop(client);
    let story = proxy.story("1");
    assert_eq!(story.len(), 1, "{story:?}");
    let body = comes.recv_timeout(LIMIT).expect("the end of its connection");
    assert!(b"half".starts_with(&body), "not all of it");
    assert_eq!(story[0]["msg"], "client closed request");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_response_ends_its_call() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            if seen.number > 0 {
                connection.wire.send(ok(""));
                continue;
            }
            connection.wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
            while connection.wire.try_send(&chunk).is_ok() {}
            return;
        }
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    assert_eq!(client.head().expect("a head").status(), 200);
    assert_eq!(client.chunk().len(), 4096);
    drop(client);
    assert_eq!(proxy.told("1").last().map(String::as_str), Some("200: OK"));
    lives_on(&proxy);
}

#[test]
fn garbage_of_any_kind_harms_nobody_else() {
    let (_origin, proxy) = strict();
    let mut neighbour: Wire = proxy.connect();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..50 {
        let mut garbage = Vec::new();
        for _ in 0..200 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            garbage.push((seed >> 32) as u8);
        }
        let mut client = proxy.connect();
        client.try_send(&garbage).ok();
        client.finish();
        client.rest();
        assert_eq!(neighbour.ask(get("/", "neighbour")).status(), 200);
    }
}
