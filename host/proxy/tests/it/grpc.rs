//! gRPC as clients and operators see it. Over HTTP/1.1: what a call means does not depend on what
//! carries it.

use std::time::Duration;

use fusebox_dev::{ClosedDoor, Message, Origin, answer, ok};
use serde_json::json;
use tokio::time::Instant;

use crate::errors::hanging;
use crate::support::{Proxy, ROUTE};

/// A call with these further headers.
fn call(path: &str, id: &str, headers: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\nte: trailers\r\n\
         content-type: application/grpc+proto\r\n{headers}content-length: 7\r\n\r\n\0\0\0\0\x02ab"
    )
}

/// A head that is all of the answer, with this status and message.
#[track_caller]
fn is_own(response: &Message, status: u8, message: &str) {
    let said = ["content-type", "grpc-status", "grpc-message"].map(|name| response.header(name));
    let status = status.to_string();
    assert_eq!(said, [Some("application/grpc+proto"), Some(&*status), Some(message)]);
    assert_eq!((response.status(), response.text()), (200, ""), "{response:?}");
    let told = response.header("proxy-status").expect("it says why");
    assert!(told.contains(&format!("details=\"{message}\"")), "{told}");
}

// ===== own answers =====

#[test]
fn a_failure_is_a_head_with_a_status_of_grpc_on_any_route() {
    let limited = "[policies.limit]\nkind = 'timeout'\nlimit = '50ms'\n\
                   [[routes]]\nupstream = 'ORIGIN'\npolicies = ['limit']\n";
    let (silent, other) = (hanging(), Origin::answering(["SSH-2.0-OpenSSH_9.9\r\n\r\n"]));
    let slow = Proxy::before(&silent, limited);
    is_own(&slow.ask(call("/", "1", "")), 4, "timeout exceeded");
    let no_http = Proxy::before(&other, ROUTE);
    is_own(&no_http.ask(call("/", "1", "")), 13, "upstream sent invalid http");
    let refusing = Proxy::before(&ClosedDoor::refusing(), ROUTE);
    is_own(&refusing.ask(call("/", "1", "")), 14, "connection refused");

    let line = refusing.story("1").pop().expect("the access line");
    assert_eq!((&line["msg"], &line["level"]), (&json!("grpc 14: unavailable"), &json!("ERROR")));
    assert_eq!(line["response"]["grpc_status"], "unavailable");
    assert_eq!((&line["response"]["status"], &line["failure"]), (&json!(200), &json!("connect")));
    refusing.counts(&[
        (r#"fusebox_grpc_requests_total{route="/",grpc_status="unavailable"}"#, 1.0),
        (r#"fusebox_requests_total{route="/",status="200"}"#, 1.0),
    ]);
}

#[test]
fn so_is_what_is_refused() {
    let origin = Origin::answering([ok("")]);
    let config = "[listener]\nmax_body = '1KiB'\n[[routes]]\npath = '/b.B/'\nupstream = 'ORIGIN'\n";
    let proxy = Proxy::before(&origin, config);
    is_own(&proxy.ask(call("/c.C/Get", "1", "")), 12, "no route");
    is_own(&proxy.ask(call("/b.B/../c", "2", "")), 13, "path with dot segments");
    let mut client = proxy.connect();
    client.send(
        "POST /b.B/Put HTTP/1.1\r\nhost: b\r\ncontent-type: application/grpc+proto\r\n\
         content-length: 1025\r\n\r\n",
    );
    is_own(&client.response(), 8, "request body too large");
    assert_eq!(origin.seen().len(), 0);
    proxy.counts(&[
        (r#"fusebox_grpc_requests_total{route="none",grpc_status="unimplemented"}"#, 1.0),
        (r#"fusebox_grpc_requests_total{route="/b.B",grpc_status="resource-exhausted"}"#, 1.0),
    ]);
}

#[test]
fn when_to_come_back_is_said_as_pushback() {
    let config = "[policies.rate]\nkind = 'rate-limiter'\nlimit = 1\nper = '90s'\n\
                  [policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  delay = '90s'\n[[routes]]\npath = '/rate'\nupstream = 'ORIGIN'\n\
                  policies = ['rate']\n[[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker']\n";
    let origin = Origin::answering([ok(""), answer(503, "", "")]);
    let proxy = Proxy::before(&origin, config);
    proxy.ask(call("/rate", "1", ""));
    proxy.ask(call("/", "2", ""));
    for (path, status, message) in
        [("/rate", 8, "rate limit exceeded"), ("/", 14, "circuit breaker open")]
    {
        let response = proxy.ask(call(path, "3", ""));
        is_own(&response, status, message);
        let pushback = response.header("grpc-retry-pushback-ms").map(str::parse::<u64>);
        let pushback = pushback.expect("it is known").expect("a number");
        assert!((60_000..=120_000).contains(&pushback), "{path} {pushback}");
        assert_eq!(response.header("retry-after"), None);
    }
}

// ===== routes of gRPC =====

/// What a server of gRPC answers to a call without messages: the status in the head.
fn head_only(status: u8, headers: &str) -> String {
    let grpc = format!("content-type: application/grpc+proto\r\ngrpc-status: {status}\r\n");
    answer(200, &format!("{grpc}{headers}"), "")
}

/// What it answers with a message: the status behind it.
fn ending(status: u8) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/grpc+proto\r\n\
         transfer-encoding: chunked\r\n\r\n7\r\n\0\0\0\0\x02ok\r\n0\r\n\
         grpc-status: {status}\r\n\r\n"
    )
}

const ROUTE_OF_GRPC: &str = "[[routes]]\ngrpc = true\nupstream = 'ORIGIN'\n";

#[test]
fn a_status_in_the_head_is_retried_and_attempts_say_how_many_were_before() {
    let config = format!(
        "[policies.retry]\nkind = 'retry'\ndelay = '1ms'\nmethods = ['POST']\n\
         {ROUTE_OF_GRPC}policies = ['retry']\n"
    );
    let pushback = head_only(8, "grpc-retry-pushback-ms: 30\r\n");
    let origin = Origin::answering([head_only(14, ""), pushback, ending(0)]);
    let proxy = Proxy::before(&origin, &config);
    let since = Instant::now();
    let response = proxy.ask(call("/", "1", ""));
    assert!(since.elapsed() >= Duration::from_millis(30));
    assert_eq!(response.body, b"\0\0\0\0\x02ok");
    assert_eq!(response.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
    let previous = |seen: &fusebox_dev::Seen| {
        seen.request.header("grpc-previous-rpc-attempts").map(str::to_owned)
    };
    let previous: Vec<_> = origin.seen().iter().map(previous).collect();
    assert_eq!(previous, [None, Some("1".into()), Some("2".into())]);
    let line = proxy.story("1").pop().expect("the access line");
    assert_eq!((&line["msg"], &line["attempts"]), (&json!("grpc 0: ok"), &json!(3)));
    proxy.counts(&[
        (r#"fusebox_grpc_requests_total{route="/",grpc_status="ok"}"#, 1.0),
        (r#"fusebox_grpc_requests_total{route="/",grpc_status="unavailable"}"#, 0.0),
        (r#"fusebox_retries_total{route="/",policy="retry"}"#, 2.0),
    ]);
}

#[test]
fn who_takes_trailers_says_so_to_each_hop_over_http_1() {
    let origin = Origin::answering([ok("")]);
    let routes = format!("[[routes]]\npath = '/plain'\nupstream = 'ORIGIN'\n{ROUTE_OF_GRPC}");
    let proxy = Proxy::before(&origin, &routes);
    let without = |path| call(path, "1", "").replace("te: trailers\r\n", "");
    let plain = "GET /plain HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\nte: gzip, Trailers;q=1\r\n\
                 connection: te\r\n\r\n";
    let asks = Some(("trailers", "te"));
    for (request, says) in [
        (call("/", "1", ""), asks),
        // A hop before may have dropped it.
        (without("/"), asks),
        (call("/plain", "1", ""), asks),
        (without("/plain"), None),
        (plain.replace(";q=1", ""), asks),
        (plain.replace(", Trailers;q=1", ""), None),
    ] {
        proxy.ask(&request);
        let seen = origin.seen().pop().expect("it was asked").request;
        let said = seen.header("te").zip(seen.header("connection"));
        assert_eq!(said, says, "{request}");
        assert_eq!(seen.header("te").is_some(), says.is_some(), "{request}");
    }
}

#[test]
fn a_status_in_the_trailers_is_a_late_failure() {
    let config = format!(
        "[log]\nlevel = 'debug'\n[policies.breaker]\nkind = 'circuit-breaker'\n\
         failure_threshold = 1\n{ROUTE_OF_GRPC}policies = ['breaker']\n"
    );
    let origin = Origin::answering([ending(14)]);
    let proxy = Proxy::before(&origin, &config);
    let response = proxy.ask(call("/", "1", ""));
    assert_eq!(response.trailers, [("grpc-status".to_owned(), "14".to_owned())]);
    let told = proxy.told("1");
    assert!(told.contains(&"Success taken back: grpc 14: unavailable".to_owned()), "{told:?}");
    assert_eq!(told.last().map(String::as_str), Some("grpc 14: unavailable"));
    let line = proxy.story("1").pop().expect("the access line");
    assert_eq!((&line["level"], &line["attempt"]), (&json!("ERROR"), &json!(1)));
    assert_eq!(line["response"]["end"], "whole");
    is_own(&proxy.ask(call("/", "2", "")), 14, "circuit breaker open");
    proxy.counts(&[
        (r#"fusebox_late_failures_total{route="/",policy="breaker"}"#, 1.0),
        (r#"fusebox_grpc_requests_total{route="/",grpc_status="unavailable"}"#, 2.0),
    ]);
}

#[test]
fn whoever_calls_says_how_long_it_waits_and_each_attempt_what_is_left() {
    let origin = hanging();
    let proxy = Proxy::before(&origin, ROUTE_OF_GRPC);
    let since = Instant::now();
    is_own(&proxy.ask(call("/", "1", "grpc-timeout: 80m\r\n")), 4, "timeout exceeded");
    assert!(since.elapsed() >= Duration::from_millis(80));
    assert!(proxy.told("1").contains(&"Deadline exceeded".to_owned()));

    let origin = Origin::answering([head_only(0, "")]);
    let limited = format!(
        "[policies.limit]\nkind = 'timeout'\nlimit = '10s'\n{ROUTE_OF_GRPC}\
         policies = ['limit']\n"
    );
    let proxy = Proxy::before(&origin, &limited);
    for (id, said, told) in
        [("1", "1H", 5_000..=10_000), ("2", "3000000u", 1_000..=3_000), ("3", "99999999n", 1..=99)]
    {
        proxy.ask(call("/", id, &format!("grpc-timeout: {said}\r\n")));
        let seen = origin.seen().pop().expect("it was asked").request;
        let left = seen.header("grpc-timeout").and_then(|left| left.strip_suffix('m'));
        let left: u64 = left.expect("in milliseconds").parse().expect("a number");
        assert!(told.contains(&left), "{said}: {left}");
    }
    for (id, odd) in [("4", "123456789m"), ("5", "1.5S"), ("6", "soon"), ("7", "0m"), ("8", "5")] {
        proxy.ask(call("/", id, &format!("grpc-timeout: {odd}\r\n")));
        assert!(proxy.told(id).contains(&"Deadline ignored: it is not valid".to_owned()), "{odd}");
        let seen = origin.seen().pop().expect("it was asked").request;
        assert_eq!(seen.header("grpc-timeout"), Some(odd), "it goes on as it came");
    }
}

#[test]
fn what_is_no_grpc_is_judged_by_http_there_too() {
    let config = format!(
        "[policies.retry]\nkind = 'retry'\ndelay = '1ms'\n{ROUTE_OF_GRPC}policies = ['retry']\n"
    );
    let origin = Origin::answering([answer(503, "", ""), ok("fine")]);
    let proxy = Proxy::before(&origin, &config);
    let request = "GET / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ngrpc-timeout: 1m\r\n\r\n";
    assert_eq!(proxy.ask(request).text(), "fine");
    assert_eq!(proxy.told("1").last().map(String::as_str), Some("200: OK"));
}

#[test]
fn a_fallback_answers_with_a_status_in_the_head_or_behind_its_message() {
    let config = format!(
        "[policies.fallback]\nkind = 'fallback'\n\
         [policies.fallback.respond]\nheaders = {{ content-type = 'application/grpc+proto', \
         grpc-status = '0', x-from = 'fallback' }}\n\
         body = \"\\u0000\\u0000\\u0000\\u0000\\u0000\"\n\
         [policies.closed]\nkind = 'fallback'\n[policies.closed.respond]\n\
         headers = {{ content-type = 'application/grpc', grpc-status = '14', \
         grpc-message = 'closed' }}\n\
         {ROUTE_OF_GRPC}policies = ['fallback']\n\
         [[routes]]\ngrpc = true\npath = '/closed'\nupstream = 'ORIGIN'\npolicies = ['closed']\n"
    );
    let origin = Origin::answering([head_only(14, "")]);
    let proxy = Proxy::before(&origin, &config);
    let response = proxy.ask(call("/", "1", ""));
    assert_eq!(
        (response.header("x-from"), response.header("grpc-status")),
        (Some("fallback"), None)
    );
    assert_eq!(response.body, [0; 5]);
    assert_eq!(response.trailers, [("grpc-status".to_owned(), "0".to_owned())]);
    let closed = proxy.ask(call("/closed", "2", ""));
    assert_eq!((closed.header("grpc-status"), &*closed.body), (Some("14"), &b""[..]));
    for (id, message) in [("1", "grpc 0: ok"), ("2", "grpc 14: unavailable")] {
        assert_eq!(proxy.told(id).last().map(String::as_str), Some(message));
    }
}
