//! Deadlines of clients over real sockets: what they get, and what the upstream is told.

use std::time::Duration;

use fusebox_dev::{Origin, answer, ok};
use tokio::time::Instant;

use crate::cli::{complaints, config, directory};
use crate::support::Proxy;

const TRUSTED: &str = "[listener]\ntrusted = ['127.0.0.1']\n\
    deadline_headers = ['grpc-timeout', 'x-request-timeout-ms', 'prefer']\n";

fn asking(id: &str, headers: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: b\r\nx-request-id: {id}\r\n{headers}\r\n")
}

fn hanging() -> Origin {
    Origin::start(|connection| {
        while connection.request().is_some() {
            connection.wire.rest();
        }
    })
}

#[test]
fn at_its_deadline_a_call_is_a_504_and_its_attempt_is_over() {
    let origin = hanging();
    let breaker = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                   [[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker']\n";
    let proxy = Proxy::before(&origin, &format!("{TRUSTED}{breaker}"));
    let since = Instant::now();
    let response = proxy.ask(asking("1", "grpc-timeout: 9S\r\nx-request-timeout-ms: 80\r\n"));
    assert!(since.elapsed() >= Duration::from_millis(80));
    assert_eq!(response.status(), 504);
    let status = response.header("proxy-status").expect("it says why");
    assert!(status.contains("error=http_response_timeout"), "{status}");
    assert!(proxy.told("1").contains(&"Deadline exceeded".to_owned()));
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "closed");
    proxy.counts(&[
        (r#"fusebox_deadlines_exceeded_total{route="/"}"#, 1.0),
        (r#"fusebox_attempts_total{route="/",outcome="cancelled"}"#, 1.0),
    ]);
}

#[test]
fn clients_that_are_not_trusted_and_headers_that_are_not_valid_have_none() {
    let origin = Origin::answering([ok("fine"), ok("fine"), ok("fine")]);
    let route = "[[routes]]\nupstream = 'ORIGIN'\n";
    let proxy = Proxy::before(&origin, &format!("{TRUSTED}{route}"));
    assert_eq!(proxy.ask(asking("1", "x-request-timeout-ms: soon\r\n")).text(), "fine");
    assert!(proxy.told("1").contains(&"Deadline ignored: it is not valid".to_owned()));
    proxy.counts(&[(r#"fusebox_deadlines_ignored_total{route="/"}"#, 1.0)]);
    let nobody = TRUSTED.replace("'127.0.0.1'", "");
    let origin = Origin::start(|connection| {
        while connection.request().is_some() {
            std::thread::park_timeout(Duration::from_millis(60));
            connection.wire.send(ok("late"));
        }
    });
    let proxy = Proxy::before(&origin, &format!("{nobody}{route}"));
    assert_eq!(proxy.ask(asking("1", "x-request-timeout-ms: 5\r\n")).text(), "late");
    assert_eq!(origin.only().header("x-request-timeout-ms"), Some("5"), "it goes on as it came");
}

#[test]
fn max_deadline_is_that_of_those_who_say_nothing_and_caps_the_others() {
    let origin = hanging();
    let route = "[[routes]]\nupstream = 'ORIGIN'\n";
    let proxy = Proxy::before(&origin, &format!("{TRUSTED}max_deadline = '60ms'\n{route}"));
    for headers in ["", "grpc-timeout: 1H\r\n"] {
        assert_eq!(proxy.ask(asking("1", headers)).status(), 504);
    }
}

#[test]
fn each_attempt_tells_the_upstream_what_is_left() {
    let origin = Origin::answering([answer(503, "", "busy"), ok("fine")]);
    let route = "[policies.retry]\nkind = 'retry'\ndelay = '100ms'\n\
                 [[routes]]\npolicies = ['retry']\n[routes.upstream]\nurl = 'ORIGIN'\n\
                 forward_deadline = ['x-request-timeout-ms', 'prefer']\ndeadline_margin = '50ms'\n";
    let proxy = Proxy::before(&origin, &format!("{TRUSTED}{route}"));
    let asked = asking("1", "grpc-timeout: 60S\r\nprefer: return=minimal, wait=90\r\n");
    assert_eq!(proxy.ask(asked).text(), "fine");
    let told: Vec<(u64, u64)> = origin
        .seen()
        .iter()
        .map(|seen| {
            let header = |name| seen.request.header(name).expect("it is told").to_owned();
            assert!(
                header("prefer").starts_with("return=minimal, wait=59"),
                "{}",
                header("prefer")
            );
            let grpc = header("grpc-timeout");
            let grpc = grpc.strip_suffix('m').expect("milliseconds").parse().expect("a number");
            (grpc, header("x-request-timeout-ms").parse().expect("a number"))
        })
        .collect();
    let [(first, same), (second, _)] = told[..] else { panic!("{told:?}") };
    assert!(first == same && first <= 59_950 && first > 50_000, "{told:?}");
    assert!(second + 100 <= first, "the delay has passed: {told:?}");
}

#[test]
fn a_header_that_is_none_of_them_is_refused() {
    let text = "[listener]\ndeadline_headers = ['x-timeout']\n[[routes]]\nupstream = 'http://b'\n";
    assert_eq!(
        complaints(directory(&config(text)).path()),
        ["fusebox.toml:4: listener.deadline_headers[0]: expected one of grpc-timeout, \
             x-envoy-expected-rq-timeout-ms, x-request-timeout-ms, prefer, found `x-timeout`"]
    );
}
