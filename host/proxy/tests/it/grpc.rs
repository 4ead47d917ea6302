//! gRPC as clients and operators see it. Over HTTP/1.1: what a call means does not depend on what
//! carries it.

use fusebox_dev::{ClosedDoor, Message, Origin, answer, ok};
use serde_json::json;

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
