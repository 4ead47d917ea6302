//! Policies over real sockets: what the origin sees, what the client gets, what the operator is
//! told.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;

use fusebox_dev::{LIMIT, Origin, answer, get, ok, post};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::Proxy;

/// One retry of anything, at once.
const RETRY: &str = "[policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1ms'\n\
                     methods = ['*']\n\
                     [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\n\
                     max_replay_body = '64KiB'\n";

#[test]
fn the_lines_of_a_request_are_in_order_and_say_which_attempt_and_where() {
    let origin = Origin::answering([answer(503, "", "busy"), answer(503, "", "busy")]);
    let proxy = Proxy::before(&origin, &format!("log = {{ level = 'debug' }}\n{RETRY}"));
    assert_eq!(proxy.ask(get("/", "1")).status(), 503);
    assert_eq!(
        proxy.told_in_detail("1"),
        [
            "Call started",
            "Attempt 1 started",
            "Attempt 1: 503",
            "Condition handle-if: yes",
            "Retry 1 after delay of 1ms",
            "Attempt 2 started",
            "Attempt 2: 503",
            "Condition handle-if: yes",
            "Retries exceeded",
            "503: Service Unavailable",
        ]
    );
    let story = proxy.story("1");
    let times: Vec<_> = story.iter().map(|line| line["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let of = |field: &str| -> Vec<_> { story.iter().map(|line| line[field].clone()).collect() };
    assert_eq!(json!(of("attempt")), json!([null, 1, 1, 1, 1, 2, 2, 2, 2, 2]));
    let address = Value::from(origin.address().to_string());
    for (line, at) in story.iter().zip(of("address")) {
        let is_known = !matches!(
            line["msg"].as_str(),
            Some("Call started" | "Attempt 1 started" | "Attempt 2 started")
        );
        assert_eq!(at, if is_known { address.clone() } else { Value::Null }, "{line}");
    }
    assert_eq!(json!([story[1]["run"], story[5]["run"]]), json!([0, 1]));
    assert_eq!(json!([story[1]["role"], story[5]["role"]]), json!(["first", "retry"]));
    let whose = [1, 2, 5, 6].map(|line| story[line].get("policy"));
    assert_eq!(json!(whose), json!([null, null, "retry", "retry"]));
    assert_eq!(story[9]["response"]["end"], "whole");
}

#[test]
fn an_access_line_tells_how_the_body_ended() {
    let origin = Origin::answering([answer(404, "", "no"), ok("fine")]);
    let fallback = "[policies.page]\nkind = 'fallback'\nhandle_if = { status = ['404'] }\n\
                    respond = { status = 503, body = 'a page' }\n\
                    [[routes]]\nupstream = 'ORIGIN'\npolicies = ['page']\n";
    let proxy = Proxy::before(&origin, fallback);
    let mut client = proxy.connect();
    client.send("HEAD / HTTP/1.1\r\nhost: b\r\nx-request-id: head\r\n\r\n");
    assert_eq!(client.head().expect("a response").status(), 503);
    assert_eq!(proxy.ask(get("/", "whole")).text(), "fine");
    let mut leaves = proxy.connect();
    let head = "POST / HTTP/1.1\r\nhost: b\r\nx-request-id: left\r\ncontent-length: 9";
    leaves.send(format!("{head}\r\n\r\nabc"));
    drop(leaves);
    let end = |id: &str| proxy.story(id).pop().expect("the access line");
    let of = |line: &Value| json!([line["response"]["end"], line["response"]["length"]]);
    let head = end("head");
    assert_eq!(of(&head), json!(["whole", 0]), "{head}");
    assert_eq!(json!([head["attempt"], head["address"]]), json!([null, null]), "a fallback's own");
    assert_eq!(of(&end("whole")), json!(["whole", 4]));
    let left = end("left");
    assert_eq!(left["msg"], "client closed request");
    assert_eq!(of(&left), json!([null, 0]), "{left}");
}

#[test]
fn a_retry_sends_the_same_request_again() {
    let origin = Origin::answering([answer(503, "", "busy"), ok("fine")]);
    let proxy = Proxy::before(&origin, &format!("log = {{ level = 'debug' }}\n{RETRY}"));
    let body = "x".repeat(64 * 1024);
    assert_eq!(proxy.ask(post(&body, "1")).text(), "fine");
    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    let (first, mut second) = (&seen[0].request, seen[1].request.clone());
    assert_eq!(second.header("x-fusebox-attempt"), Some("2"));
    second.headers.retain(|(name, _)| name != "x-fusebox-attempt");
    assert!(first.text() == body && *first == second, "the same but for its mark");
    assert_eq!(
        proxy.told("1"),
        ["Attempt 1: 503", "Retry 1 after delay of 1ms", "Attempt 2: 200", "200: OK"]
    );
    let story = proxy.story("1");
    let is_retry = |line: &&Value| line["msg"] == "Retry 1 after delay of 1ms";
    let retry = story.iter().find(is_retry).expect("it is told");
    assert_eq!(
        (&retry["policy"], &retry["retry"], &retry["delay_ms"]),
        (&json!("retry"), &json!(1), &json!(1.0))
    );
    let end = story.last().expect("the access line");
    assert_eq!((&end["attempts"], &end["request"]["length"]), (&json!(2), &json!(64 * 1024)));
    proxy.counts(&[
        (r#"fusebox_retries_total{route="/",policy="retry"}"#, 1.0),
        (r#"fusebox_attempts_total{route="/",outcome="5xx"}"#, 1.0),
        (r#"fusebox_attempts_total{route="/",outcome="2xx"}"#, 1.0),
        (r#"fusebox_requests_total{route="/",status="200"}"#, 1.0),
    ]);
}

#[test]
fn a_retry_replays_a_chunked_body_too() {
    let origin = Origin::answering([answer(503, "", "busy"), ok("fine")]);
    let proxy = Proxy::before(&origin, RETRY);
    let chunked = "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n3\r\nin \r\n\
                   6\r\nchunks\r\n0\r\n\r\n";
    assert_eq!(proxy.ask(chunked).text(), "fine");
    let bodies: Vec<String> =
        origin.seen().iter().map(|seen| seen.request.text().to_owned()).collect();
    assert_eq!(bodies, ["in chunks", "in chunks"]);
}

#[test]
fn a_connection_that_breaks_under_an_idempotent_request_is_retried() {
    let origin = Origin::answering(["", &ok("fine")]);
    let proxy = Proxy::before(&origin, RETRY);
    assert_eq!(proxy.ask(get("/", "1")).text(), "fine");
    assert_eq!(proxy.told("1"), ["Retry 1 after delay of 1ms", "200: OK"]);
}

#[test]
fn an_upload_that_is_refused_half_way_is_replayed_from_its_beginning() {
    let (again, comes_again) = channel();
    let again = Mutex::new(again);
    let origin = Origin::start(move |connection| {
        while let Some(head) = connection.head() {
            assert_eq!(connection.wire.exactly(5), b"first");
            if head.number == 0 {
                connection.wire.send(answer(503, "", "busy"));
                connection.wire.rest();
                return;
            }
            again.lock().expect("no panic").send(()).expect("somebody waits");
            assert_eq!(connection.wire.exactly(5), b"after");
            connection.wire.send(ok("fine"));
        }
    });
    let proxy = Proxy::before(&origin, RETRY);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ncontent-length: 10\r\n\r\nfirst");
    comes_again.recv_timeout(LIMIT).expect("the second attempt");
    client.send("after");
    assert_eq!(client.response().text(), "fine");
    assert_eq!(proxy.told("1"), ["Retry 1 after delay of 1ms", "200: OK"]);
}

#[test]
fn a_body_that_is_too_long_to_be_kept_has_one_attempt() {
    let origin = Origin::answering([answer(503, "", "busy"), ok("fine")]);
    let proxy = Proxy::before(&origin, RETRY);
    let body = "x".repeat(64 * 1024 + 1);
    let response = proxy.ask(post(&body, "1"));
    assert_eq!((response.status(), response.text()), (503, "busy"));
    assert_eq!(
        proxy.told("1"),
        ["Not retried: the request body is too long to be kept", "503: Service Unavailable"]
    );
    assert_eq!(proxy.story("1")[0]["reason"], "body");
    assert!(origin.only().text() == body, "it is sent whole");
    proxy.counts(&[(
        r#"fusebox_retries_skipped_total{route="/",policy="retry",reason="body"}"#,
        1.0,
    )]);
}

#[test]
fn a_method_that_is_not_idempotent_has_one_attempt_unless_it_has_a_key() {
    let origin = Origin::answering([answer(503, "", "busy"), answer(503, "", "busy"), ok("fine")]);
    let proxy = Proxy::before(&origin, &RETRY.replace("methods = ['*']\n", ""));
    assert_eq!(proxy.ask(post("x", "1")).status(), 503);
    assert_eq!(
        proxy.told("1"),
        ["Not retried: the method is not idempotent", "503: Service Unavailable"]
    );
    let keyed = post("x", "2").replace("host:", "idempotency-key: 1\r\nhost:");
    assert_eq!(proxy.ask(keyed).text(), "fine");
}

#[test]
fn retry_after_is_obeyed() {
    let origin = Origin::answering([answer(503, "retry-after: 1\r\n", ""), ok("fine")]);
    let proxy = Proxy::before(&origin, RETRY);
    let began = Instant::now();
    assert_eq!(proxy.ask(get("/", "1")).text(), "fine");
    assert!(began.elapsed().as_millis() >= 1000, "{:?}", began.elapsed());
    let told = proxy.told("1");
    assert!(told[0].starts_with("Retry 1 after delay of 1"), "up to a fifth longer: {told:?}");
}

#[test]
fn a_retry_after_that_asks_for_too_much_goes_out() {
    let origin = Origin::answering([answer(503, "retry-after: 3600\r\n", "busy")]);
    let proxy = Proxy::before(&origin, RETRY);
    let response = proxy.ask(get("/", "1"));
    assert_eq!((response.status(), response.header("retry-after")), (503, Some("3600")));
    assert_eq!(
        proxy.told("1"),
        ["Not retried: the upstream asks for too long a wait", "503: Service Unavailable"]
    );
}

#[test]
fn when_the_retries_are_used_up_the_last_response_goes_out() {
    let origin =
        Origin::answering([answer(503, "", "first"), answer(502, "x-of-b: 1\r\n", "last")]);
    let proxy = Proxy::before(&origin, RETRY);
    let response = proxy.ask(get("/", "1"));
    assert_eq!(
        (response.status(), response.text(), response.header("x-of-b")),
        (502, "last", Some("1"))
    );
    let status = response.header("proxy-status");
    assert_eq!(status, Some("fusebox; received-status=502; attempts=2"), "it is the upstream's");
    assert_eq!(
        proxy.told("1"),
        ["Retry 1 after delay of 1ms", "Retries exceeded", "502: Bad Gateway"]
    );
    proxy.counts(&[(r#"fusebox_retries_exhausted_total{route="/",policy="retry"}"#, 1.0)]);
}

#[test]
fn a_client_whose_body_breaks_off_is_not_the_upstreams_failure() {
    let origin = Origin::answering([ok("")]);
    let config = format!(
        "[listener]\nbody_timeout = '100ms'\n[policies.breaker]\nkind = 'circuit-breaker'\n\
         failure_threshold = 1\n{}",
        RETRY.replace("policies = ['retry']", "policies = ['retry', 'breaker']")
    );
    let proxy = Proxy::before(&origin, &config);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ncontent-length: 10\r\n\r\nhalf");
    assert_eq!(client.response().status(), 408);
    assert_eq!(proxy.told("1"), ["408: Request Timeout"], "no retry");
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "closed");
}

#[test]
fn a_breaker_is_one_for_all_routes_and_workers() {
    let origin = Origin::answering([answer(500, "", "")]);
    let config = "workers = 2\n[policies.breaker]\nkind = 'circuit-breaker'\n\
                  failure_threshold = 4\ndelay = '1h'\n\
                  [[routes]]\npath = '/a'\nupstream = 'ORIGIN'\npolicies = ['breaker']\n\
                  [[routes]]\npath = '/b'\nupstream = 'ORIGIN'\npolicies = ['breaker']\n";
    let proxy = Proxy::before(&origin, config);
    // One on each worker.
    let mut clients = [proxy.connect(), proxy.connect()];
    for (number, path) in ["/a", "/b", "/b", "/a"].into_iter().enumerate() {
        assert_eq!(clients[number % 2].ask(get(path, &number.to_string())).status(), 500);
    }
    for (client, path) in clients.iter_mut().zip(["/b", "/a"]) {
        let response = client.ask(get(path, path));
        assert_eq!(response.status(), 503);
        assert!(response.header("retry-after").is_some());
        assert_eq!(
            proxy.told(path),
            ["Call rejected: circuit breaker open", "503: Service Unavailable"]
        );
    }
    assert_eq!((origin.seen().len(), origin.connections()), (4, 2));
    let line = proxy.line("circuit breaker state changed from closed to open");
    assert_eq!((&line["request_id"], &line["policy"]), (&json!("3"), &json!("breaker")));
    let breaker = proxy.state()["policies"]["breaker"].clone();
    assert_eq!((&breaker["state"], &breaker["openings"]), (&json!("open"), &json!(1)));
    proxy.counts(&[
        (r#"fusebox_rejections_total{route="/a",policy="breaker",reason="circuit-open"}"#, 1.0),
        (r#"fusebox_rejections_total{route="/b",policy="breaker",reason="circuit-open"}"#, 1.0),
        (
            "fusebox_circuit_breaker_transitions_total\
             {policy=\"breaker\",from=\"closed\",to=\"open\"}",
            1.0,
        ),
        (r#"fusebox_circuit_breaker_state{policy="breaker",state="open"}"#, 1.0),
        (r#"fusebox_circuit_breaker_state{policy="breaker",state="closed"}"#, 0.0),
    ]);
}

#[test]
fn a_breaker_opens_for_as_long_as_the_upstream_asks_and_closes_after_a_trial() {
    let origin = Origin::answering([answer(503, "retry-after: 1\r\n", ""), ok("fine")]);
    let config = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  delay = '1h'\nretry_after = true\n\
                  [policies.patience]\nkind = 'retry'\n\
                  handle_if = { status = [], failure = ['circuit-open'] }\n\
                  delay = '1ms'\nmax_retries = 5\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['patience', 'breaker']\n";
    let proxy = Proxy::before(&origin, config);
    assert_eq!(proxy.ask(get("/", "1")).status(), 503);
    // Waits for the trial rather than burning attempts.
    assert_eq!(proxy.ask(get("/", "2")).text(), "fine");
    let mut told = proxy.told("2");
    assert!(told.remove(1).starts_with("Retry 1 after delay of "), "{told:?}");
    assert_eq!(
        told,
        [
            "Call rejected: circuit breaker open",
            "circuit breaker state changed from open to half-open",
            "circuit breaker state changed from half-open to closed",
            "200: OK",
        ]
    );
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "closed");
}

#[test]
fn a_fallback_answers_each_time_anew() {
    let origin = Origin::answering([answer(503, "x-of-b: 1\r\n", "busy")]);
    let config = "[policies.fallback]\nkind = 'fallback'\n[policies.fallback.respond]\n\
                  status = 203\n\
                  headers = { content-type = 'application/json' }\n\
                  body = '{\"message\": \"later\"}'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['fallback']\n";
    let proxy = Proxy::before(&origin, config);
    let mut client = proxy.connect();
    for id in ["1", "2"] {
        let response = client.ask(get("/", id));
        assert_eq!((response.status(), response.text()), (203, r#"{"message": "later"}"#));
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!((response.header("x-of-b"), response.header("x-request-id")), (None, Some(id)));
        assert_eq!(
            proxy.told(id),
            ["Fallback executed result", "203: Non Authoritative Information"]
        );
        assert_eq!(proxy.story(id)[0]["status"], 203);
    }
    client.send("HEAD / HTTP/1.1\r\nhost: b\r\n\r\n");
    let head = client.head().expect("a head");
    assert_eq!((head.status(), head.header("content-length")), (203, Some("20")));
    assert_eq!(client.ask(get("/", "3")).status(), 203, "and there was no body");
    proxy.counts(&[(r#"fusebox_fallbacks_total{route="/",policy="fallback"}"#, 4.0)]);
}

#[test]
fn the_composition_tells_its_whole_story() {
    let hang = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            match seen.number {
                0 => connection.wire.send(answer(503, "", "")),
                _ => {
                    connection.wire.rest();
                    return;
                }
            }
        }
    });
    let config = "log = { level = 'debug' }\n\
                  [policies.fallback]\nkind = 'fallback'\nrespond = { body = 'instead' }\n\
                  [policies.retry]\nkind = 'retry'\nmax_retries = 2\ndelay = '1ms'\n\
                  [policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 2\n\
                  delay = '1h'\n\
                  [policies.limit]\nkind = 'timeout'\nlimit = '200ms'\n\
                  [[routes]]\nupstream = 'ORIGIN'\n\
                  policies = ['fallback', 'retry', 'breaker', 'limit']\n";
    let proxy = Proxy::before(&hang, config);
    let response = proxy.ask(get("/", "1"));
    assert_eq!((response.status(), response.text()), (200, "instead"));
    assert_eq!(
        proxy.told("1"),
        [
            "Attempt 1: 503",
            "Retry 1 after delay of 1ms",
            "Attempt 2: cancelled",
            "Connection timed out",
            "circuit breaker state changed from closed to open",
            "Retry 2 after delay of 1ms",
            "Call rejected: circuit breaker open",
            "Fallback executed result",
            "200: OK",
        ]
    );
    assert_eq!(hang.seen().len(), 2);
    proxy.counts(&[
        (r#"fusebox_fallbacks_total{route="/",policy="fallback"}"#, 1.0),
        (r#"fusebox_retries_total{route="/",policy="retry"}"#, 2.0),
        (r#"fusebox_timeouts_total{route="/",policy="limit"}"#, 1.0),
        (r#"fusebox_rejections_total{route="/",policy="breaker",reason="circuit-open"}"#, 1.0),
    ]);
}

#[test]
fn a_budget_bounds_the_retries_of_all() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let config = "[budgets.small]\nmax_rate = 0.01\nmin_concurrency = 1\n\
                  [policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '300ms'\n\
                  budget = 'small'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\n";
    let proxy = Proxy::before(&origin, config);
    thread::scope(|scope| {
        let mut first = proxy.connect();
        first.send(get("/", "1"));
        proxy.line("Retry 1 after delay of 300ms");
        scope.spawn(move || assert_eq!(first.response().status(), 503));
        assert_eq!(proxy.ask(get("/", "2")).text(), "busy");
    });
    assert_eq!(
        proxy.told("2"),
        ["Not retried: the retry budget is spent", "503: Service Unavailable"]
    );
    assert_eq!(
        proxy.told("1"),
        ["Retry 1 after delay of 300ms", "Retries exceeded", "503: Service Unavailable"]
    );
}

#[test]
fn a_timeout_does_not_cut_off_a_body() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhead");
        connection.wire.stays_silent(std::time::Duration::from_millis(300));
        connection.wire.send("body");
    });
    let config = "[policies.limit]\nkind = 'timeout'\nlimit = '200ms'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['limit']\n";
    let proxy = Proxy::before(&origin, config);
    assert_eq!(proxy.ask(get("/", "1")).text(), "headbody");
}

/// Each piece that the client sends costs more than its data, whatever its length.
#[test]
fn a_body_for_which_there_is_no_memory_gets_one_attempt_and_an_event() {
    let retry = "[policies.retry]\nkind = 'retry'\nmethods = ['*']\nmax_retries = 1\n\
                 delay = '1ms'\n[[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\n";
    for (memory, attempts) in [("1KiB", 1), ("4KiB", 2)] {
        let origin = Origin::answering([answer(503, "", "")]);
        let limits = format!("workers = 2\nlistener = {{ max_replay_memory = '{memory}' }}\n");
        let proxy = Proxy::before(&origin, &format!("{limits}{retry}"));
        assert_eq!(proxy.ask(post(&"x".repeat(1000), "1")).status(), 503);
        assert_eq!(origin.seen().len(), attempts, "{memory}");
        let told = proxy.told("1");
        let not_kept = told.iter().filter(|line| line.starts_with("Request body not kept")).count();
        assert_eq!(not_kept, 2 - attempts, "{told:?}");
        let why =
            told.iter().any(|line| line == "Not retried: the memory for request bodies is full");
        assert_eq!(why, not_kept == 1, "{told:?}");
        let counted = r#"fusebox_request_bodies_not_kept_total{route="/"}"#;
        proxy.counts(&[(counted, not_kept as f64)]);
    }
}
