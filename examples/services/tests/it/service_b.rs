//! Service B: modes, scripts, what its log says, and how it ends.

use std::time::Duration;

use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::support::{GET, Running, SERVICE_B, run};

const HELLO: &str = r#"{"message": "hello from service B"}"#;

#[test]
fn it_says_hello_and_logs_the_request() {
    let mut b = Running::service_b(&[]);
    let answer = b.ask(&format!(
        "POST /some/path?with=query HTTP/1.1\r\nhost: {}\r\nx-request-id: abc\r\n\
         referer: http://here/\r\ncontent-length: 200000\r\n\r\n{}",
        b.address,
        "x".repeat(200_000)
    ));
    assert_eq!((answer.status(), answer.text()), (200, HELLO));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let line = b.line();
    assert_eq!(
        (&line["level"], &line["msg"], &line["request_id"]),
        (&"INFO".into(), &"200: OK".into(), &"abc".into())
    );
    let (request, response) = (&line["request"], &line["response"]);
    assert_eq!(
        (&request["method"], &request["host"]),
        (&"POST".into(), &b.address.to_string().into())
    );
    assert_eq!((&request["path"], &request["query"]), (&"/some/path".into(), &"with=query".into()));
    assert_eq!((&request["route"], &request["referer"]), (&"/*".into(), &"http://here/".into()));
    assert_eq!((&request["length"], &response["length"]), (&200_000.into(), &HELLO.len().into()));
    assert_eq!(response["status"], 200);
    assert!(request["ip"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(response["latency"].as_u64().unwrap() > 0);
    for time in [&line["time"], &request["time"], &response["time"]] {
        time.as_str().unwrap().parse::<Timestamp>().unwrap();
    }
}

#[test]
fn a_flaky_b_answers_503_half_the_time_and_repeats_itself_with_the_same_seed() {
    let first = Running::service_b(&["--mode", "flaky"]);
    let seed = first.first["seed"].to_string();
    let second = Running::service_b(&["--mode", "flaky", "--seed", &seed]);
    let mut failures = 0;
    for _ in 0..100 {
        let (one, other) = (first.get(), second.get());
        assert_eq!(one.status(), other.status());
        match one.status() {
            200 => assert_eq!((one.text(), one.header("retry-after")), (HELLO, None)),
            503 => {
                failures += 1;
                assert_eq!((one.text(), one.header("retry-after")), ("", Some("1")));
            }
            other => panic!("unexpected {other}"),
        }
    }
    assert!((20..80).contains(&failures), "{failures}");
}

#[test]
fn a_script_is_played_in_order_and_then_its_rest() {
    let b = Running::service_b(&["--script", "503:ra=7,429*2,500:body=oops", "--rest", "418"]);
    let mut answers = Vec::new();
    for _ in 0..6 {
        let answer = b.get();
        answers.push((
            answer.status(),
            answer.header("retry-after").map(str::to_owned),
            answer.text().to_owned(),
        ));
    }
    let plain = |status| (status, None, String::new());
    assert_eq!(
        answers,
        [
            (503, Some("7".into()), String::new()),
            plain(429),
            plain(429),
            (500, None, "oops".into()),
            plain(418),
            plain(418),
        ]
    );
}

#[test]
fn a_script_without_rest_goes_on_with_200_and_a_rest_needs_no_script() {
    let b = Running::service_b(&["--script", "204"]);
    let empty = b.get();
    assert_eq!((empty.status(), empty.text()), (204, ""));
    assert_eq!(b.get().text(), HELLO);

    let b = Running::service_b(&["--rest", "503:ra=1"]);
    assert_eq!(b.get().status(), 503);
}

#[test]
fn a_script_can_speak_graphql() {
    let b = Running::service_b(&["--script", "200:body=graphql-errors,200:body=graphql-data"]);
    let errors = b.get();
    assert_eq!(errors.header("content-type"), Some("application/json"));
    assert_eq!(errors.text(), r#"{"data": null, "errors": [{"message": "service B is busy"}]}"#);
    assert_eq!(b.get().text(), r#"{"data": {"message": "hello from service B"}}"#);
}

#[test]
fn a_script_can_speak_as_language_models_do() {
    let b = Running::service_b(&["--script", "200:body=model-error,200:body=model-words"]);
    let error = b.get();
    assert_eq!(error.header("content-type"), Some("text/event-stream"));
    assert!(error.text().starts_with(r#"data: {"error": {"#), "{}", error.text());
    assert!(b.get().text().ends_with("data: [DONE]\n\n"));

    let b = Running::service_b(&["--script", "429:body=model-limit,429:body=model-quota"]);
    let limit = b.get();
    assert_eq!((limit.status(), limit.header("content-type")), (429, Some("application/json")));
    assert_eq!(limit.header("x-ratelimit-remaining-requests"), Some("0"));
    assert_eq!(limit.header("x-ratelimit-reset-requests"), Some("1.5s"));
    let quota = b.get();
    assert_eq!(quota.header("x-ratelimit-remaining-requests"), None);
    assert!(quota.text().contains("insufficient_quota"), "{}", quota.text());
}

#[test]
fn retry_after_can_be_a_date() {
    let b = Running::service_b(&["--script", "503:radate=60"]);
    let answer = b.get();
    let date =
        DateTimeParser::new().parse_timestamp(answer.header("retry-after").unwrap()).unwrap();
    let from_now = date.duration_since(Timestamp::now());
    assert!(
        from_now > SignedDuration::from_secs(30) && from_now <= SignedDuration::from_secs(60),
        "{from_now:?}"
    );
}

#[test]
fn close_ends_the_connection_without_an_answer() {
    let mut b = Running::service_b(&["--script", "close"]);
    let mut wire = b.connect();
    wire.send(GET);
    assert_eq!(wire.rest(), b"");
    let line = b.line();
    assert_eq!((&line["msg"], &line["level"]), (&"connection closed".into(), &"WARN".into()));
    assert!(line["response"]["status"].is_null());
    assert_eq!(b.get().text(), HELLO);
}

#[test]
fn hang_never_answers_and_the_log_says_when_the_client_has_gone() {
    let mut b = Running::service_b(&["--script", "hang"]);
    let (mut one, mut other) = (b.connect(), b.connect());
    one.send(GET);
    other.send(GET);
    // Which of them comes first, and hangs, is open.
    assert_eq!(b.line()["msg"], "200: OK");
    drop((one, other));
    let line = b.line();
    assert_eq!((&line["msg"], &line["level"]), (&"client gone".into(), &"WARN".into()));
    assert!(line["response"]["status"].is_null());
}

#[test]
fn a_delay_comes_before_the_head_and_a_body_delay_after_it() {
    let mut b =
        Running::service_b(&["--script", "200:delay=80,200:bodydelay=80,200:bodydelay=600000"]);
    for _ in 0..2 {
        let asked = Instant::now();
        assert_eq!(b.get().text(), HELLO);
        assert!(asked.elapsed() >= Duration::from_millis(80));
        b.line();
    }
    let mut wire = b.connect();
    wire.send(GET);
    let head = wire.head().unwrap();
    assert_eq!((head.status(), head.header("content-length")), (200, Some("35")));
    drop(wire);
    let line = b.line();
    assert_eq!(
        (&line["response"]["status"], &line["response"]["length"]),
        (&200.into(), &0.into())
    );
}

#[test]
fn a_connection_serves_many_requests_and_head_has_no_body() {
    let mut b = Running::service_b(&[]);
    let mut wire = b.connect();
    for _ in 0..3 {
        wire.send("HEAD / HTTP/1.1\r\nhost: b\r\n\r\n");
        assert_eq!(wire.head().unwrap().header("content-length"), Some("35"));
        let line = b.line();
        assert_eq!(line["request"]["ip"], wire.address().to_string());
        assert_eq!(line["response"]["length"], 0);
    }
}

#[test]
fn quiet_means_no_lines() {
    let mut b = Running::service_b(&["--quiet"]);
    assert_eq!(b.get().text(), HELLO);
    b.daemon.signal("TERM");
    assert!(b.daemon.end().success());
    assert_eq!(b.daemon.log(), [b.first]);
}

#[test]
fn it_finishes_what_is_in_flight_before_it_ends() {
    for signal in ["TERM", "INT"] {
        let mut b = Running::service_b(&[]);
        let mut idle = b.connect();
        let mut wire = b.in_flight();
        b.daemon.signal(signal);
        // It closes idle connections at once: the signal has arrived.
        assert_eq!(idle.rest(), b"");
        let answer = wire.ask("hi");
        assert_eq!((answer.status(), answer.text()), (200, HELLO));
        assert!(b.daemon.end().success());
    }
}

#[test]
fn what_hangs_does_not_keep_it_from_ending() {
    let mut b = Running::service_b(&["--rest", "hang"]);
    let mut wire = b.in_flight();
    wire.send("hi");
    b.daemon.signal("TERM");
    assert!(b.daemon.end().success());
    assert_eq!(b.line()["msg"], "connection closed");
}

#[test]
fn wrong_usage_is_exit_2_and_says_what_was_expected() {
    for (args, said) in [
        (["--script", "503:xx=1"], "expected steps such as"),
        (["--rest", "nonsense"], "expected steps such as"),
        (["--mode", "broken"], "flaky-and-slow"),
        (["--listen", "localhost"], "invalid socket address"),
        (["--seed=1", "--script=200"], "cannot be used with"),
        (["--mode=ok", "--rest=200"], "cannot be used with"),
    ] {
        let ran = run(SERVICE_B, &args);
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(ran.error.contains(said), "{args:?}: {ran:?}");
    }
}

#[test]
fn a_port_in_use_is_exit_1_and_one_line() {
    let b = Running::service_b(&[]);
    let address = b.address.to_string();
    let ran = run(SERVICE_B, &["--listen", &address]);
    assert_eq!((ran.code, ran.error.lines().count(), &*ran.out), (Some(1), 1, ""));
    assert!(ran.error.starts_with(&format!("error: listen on `{address}`: ")), "{ran:?}");
}
