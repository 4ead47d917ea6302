//! Service A: its answers to all of B's, and to none.

use std::sync::mpsc;

use fusebox_dev::{ClosedDoor, LIMIT, Origin};

use crate::support::{GET, Running, SERVICE_A, answering, responding, run};

/// The status of A's answer when B answers as this upstream does, and its text without the URL in
/// front of it.
#[track_caller]
fn outcome(upstream: &Origin) -> (u16, String) {
    let a = Running::service_a(&upstream.to_string());
    let answer = a.get();
    let text = answer.text();
    let text = text.strip_prefix(&format!("`{upstream}/`: ")).unwrap_or(text).to_owned();
    let is_plain = answer.header("content-type").unwrap().starts_with("text/plain");
    assert_eq!(is_plain, answer.status() != 200);
    (answer.status(), text)
}

#[test]
fn it_says_hello_from_both_and_passes_the_request_id_on() {
    let mut b = Running::service_b(&[]);
    let mut a = Running::service_a(&b.url());
    let answer = a.ask("GET /?q=1 HTTP/1.1\r\nhost: a\r\nx-request-id: abc\r\n\r\n");
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.text(),
        r#"{"messageA": "hello from service A","messageB": "hello from service B"}"#
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let (line, heard) = (a.line(), b.line());
    assert_eq!((&line["request_id"], &heard["request_id"]), (&"abc".into(), &"abc".into()));
    assert_eq!((&line["msg"], &line["level"]), (&"200: OK".into(), &"INFO".into()));
    assert_eq!(
        (&line["request"]["route"], &line["request"]["query"]),
        (&"/".into(), &"q=1".into())
    );
    assert_eq!(line["response"]["length"], answer.body.len());
    assert_eq!(heard["request"]["host"], b.address.to_string());
}

#[test]
fn it_keeps_its_connection_to_b() {
    let mut b = Running::service_b(&[]);
    let a = Running::service_a(&b.url());
    let mut from = Vec::new();
    for _ in 0..3 {
        assert_eq!(a.get().status(), 200);
        from.push(b.line()["request"]["ip"].clone());
    }
    assert!(from.windows(2).all(|pair| pair[0] == pair[1]), "{from:?}");
}

#[test]
fn a_name_given_on_the_way_is_in_its_answer_and_its_log() {
    for status in ["200 OK", "503 Service Unavailable"] {
        let head = format!("{status}\r\nx-request-id: made-there");
        let upstream = responding(&head, r#"{"message": "hi"}"#);
        let mut a = Running::service_a(&upstream.to_string());
        assert_eq!(a.get().header("x-request-id"), Some("made-there"));
        assert_eq!(a.line()["request_id"], "made-there");
        let request = upstream.only();
        assert_eq!(request.start, "GET / HTTP/1.1");
        assert_eq!(request.header("x-request-id"), None);
    }
}

#[test]
fn what_b_says_is_escaped() {
    let upstream = responding("200 OK", r#"{"message": "\"quoted\"\n\\ é \u0001", "more": 1}"#);
    let expected = r#"{"messageA": "hello from service A","messageB": "\"quoted\"\n\\ é \u0001"}"#;
    assert_eq!(outcome(&upstream), (200, expected.to_owned()));
}

#[test]
fn a_problem_is_told_by_its_title() {
    let head = "504 Gateway Timeout\r\ncontent-type: application/problem+json";
    let problem = r#"{"type": "about:blank", "title": "timeout exceeded", "status": 504}"#;
    assert_eq!(outcome(&responding(head, problem)), (500, "timeout exceeded".to_owned()));
    assert_eq!(outcome(&responding(head, "not JSON")), (500, "504 Gateway Timeout".to_owned()));
}

#[test]
fn any_other_status_is_told_as_it_is() {
    let hello = r#"{"message": "hi"}"#;
    let busy = responding("503 Service Unavailable", hello);
    assert_eq!(outcome(&busy), (500, "503 Service Unavailable".to_owned()));
    let elsewhere = responding("302 Found\r\nlocation: /", hello);
    assert_eq!(outcome(&elsewhere), (500, "302 Found".to_owned()));
}

#[test]
fn an_answer_that_can_not_be_used_is_a_failure() {
    for (body, reason) in [
        ("", "unusable answer: EOF"),
        ("hello", "unusable answer: expected value"),
        (r#"{"data": null}"#, "unusable answer: missing field `message`"),
        (r#"{"message": 1}"#, "unusable answer: invalid type"),
    ] {
        let (status, text) = outcome(&responding("200 OK", body));
        assert!(status == 500 && text.starts_with(reason), "{body}: {text}");
    }
    let (status, text) = outcome(&responding("200 OK", &"x".repeat(70_000)));
    assert_eq!((status, text.as_str()), (500, "the answer broke off: length limit exceeded"));
}

#[test]
fn a_call_that_fails_is_a_failure() {
    for (bytes, reason) in [
        ("", "client error (SendRequest): connection closed"),
        ("nonsense\r\n\r\n", "client error (SendRequest): invalid HTTP"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "the answer broke off: "),
    ] {
        let (status, text) = outcome(&answering(bytes));
        assert!(status == 500 && text.starts_with(reason), "{bytes:?}: {text}");
    }
}

#[test]
fn nobody_there_is_a_failure_and_the_log_says_so() {
    let door = ClosedDoor::refusing();
    let mut a = Running::service_a(&door.to_string());
    let answer = a.get();
    let text = answer.text();
    assert_eq!(answer.status(), 500);
    assert!(text.starts_with(&format!("`{door}/`: client error (Connect): ")), "{text}");
    assert!(text.to_lowercase().contains("refused"), "{text}");
    let line = a.line();
    assert_eq!(
        (&line["msg"], &line["level"]),
        (&"500: Internal Server Error".into(), &"ERROR".into())
    );
}

#[test]
fn only_get_on_the_root_is_served() {
    let b = Running::service_b(&[]);
    let mut a = Running::service_a(&b.url());
    assert_eq!(a.ask("GET /other HTTP/1.1\r\nhost: a\r\n\r\n").status(), 404);
    assert_eq!(a.line()["request"]["route"], "");
    let answer = a.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!((answer.status(), answer.header("allow")), (405, Some("GET")));
}

#[test]
fn it_lets_go_of_the_call_when_its_client_goes() {
    let (sender, arrived) = mpsc::channel();
    let upstream = Origin::start(move |connection| {
        sender.send(connection.request().is_some()).unwrap();
        sender.send(connection.wire.rest().is_empty()).unwrap();
    });
    let mut a = Running::service_a(&upstream.to_string());
    let mut client = a.connect();
    client.send(GET);
    assert_eq!(arrived.recv_timeout(LIMIT), Ok(true));
    drop(client);
    assert_eq!(arrived.recv_timeout(LIMIT), Ok(true), "the call ends");
    assert_eq!(a.line()["msg"], "client gone");
}

#[test]
fn it_ends_on_a_signal_with_0() {
    let mut a = Running::service_a("http://127.0.0.1:9");
    a.daemon.signal("TERM");
    assert!(a.daemon.end().success());
}

#[test]
fn wrong_usage_is_exit_2() {
    for upstream in ["127.0.0.1:3002", "https://b/", "/", "http://"] {
        let ran = run(SERVICE_A, &["--upstream", upstream]);
        assert_eq!(ran.code, Some(2), "{upstream}: {ran:?}");
        let expected = "expected a URL such as `http://127.0.0.1:3002`";
        assert!(ran.error.contains(expected), "{upstream}: {ran:?}");
    }
}
