//! gRPC: what A and B say to each other by it, and what A makes of odd answers.

use fusebox_dev::{H2Exchange, H2Origin};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::json;

use crate::support::{GET, Running, SERVICE_A, run};

/// A that calls this upstream by gRPC.
fn calling(upstream: &str, more: &[&str]) -> Running {
    let arguments = [&["--upstream", upstream, "--grpc"], more].concat();
    Running::start(SERVICE_A, &arguments)
}

/// What A says, without the URL of its upstream.
#[track_caller]
fn said(a: &Running, upstream: &str) -> (u16, String) {
    let answer = a.get();
    let text = answer.text();
    let text = text.strip_prefix(&format!("`{upstream}`: ")).unwrap_or(text);
    (answer.status(), text.to_owned())
}

/// The head that gRPC has, and this besides.
fn head(more: &[(&'static str, &'static str)]) -> Response<()> {
    let mut head = Response::new(());
    for &(name, value) in [("content-type", "application/grpc")].iter().chain(more) {
        head.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    head
}

#[test]
fn a_says_what_b_says_by_grpc_and_a_request_id_runs_through() {
    let mut b = Running::service_b(&[]);
    let a = calling(&b.url(), &[]);
    let answer = a.ask("GET / HTTP/1.1\r\nhost: a\r\nx-request-id: abc\r\n\r\n");
    assert_eq!(
        (answer.status(), answer.text()),
        (200, r#"{"messageA": "hello from service A","messageB": "hello from service B"}"#)
    );
    let line = b.line();
    assert_eq!(
        (&line["level"], &line["msg"], &line["request_id"]),
        (&json!("INFO"), &json!("grpc 0: ok"), &json!("abc"))
    );
    let (request, response) = (&line["request"], &line["response"]);
    assert_eq!(request["host"], b.address.to_string());
    assert_eq!(
        (&request["method"], &request["path"], &request["length"]),
        (&json!("POST"), &json!("/fusebox.example.ServiceB/Hello"), &json!(5))
    );
    assert_eq!((&response["status"], &response["length"]), (&json!(200), &json!(27)));
    // By HTTP it is the same service.
    assert_eq!(b.get().text(), r#"{"message": "hello from service B"}"#);
}

#[test]
fn a_script_comes_to_statuses_of_grpc() {
    let steps = "503:ra=1,429,500:body=half,504,418,200:body=fine:delay=1:bodydelay=1,close";
    let mut b = Running::service_b(&["--script", steps]);
    let url = b.url();
    let a = calling(&url, &[]);
    for (text, line) in [
        ("grpc 14: service B is busy", "grpc 14: unavailable"),
        ("grpc 8: service B is busy", "grpc 8: resource-exhausted"),
        ("grpc 13: service B has failed", "grpc 13: internal"),
        ("grpc 4: service B has failed", "grpc 4: deadline-exceeded"),
        ("grpc 2: service B has failed", "grpc 2: unknown"),
    ] {
        assert_eq!(said(&a, &url), (500, text.to_owned()));
        assert_eq!(b.line()["msg"], line);
    }
    let (status, text) = said(&a, &url);
    assert!(status == 200 && text.ends_with(r#""messageB": "fine"}"#), "{text}");
    assert_eq!(b.line()["msg"], "grpc 0: ok");
    let (status, text) = said(&a, &url);
    assert!(status == 500 && text.starts_with("client error (SendRequest): "), "{text}");
    assert_eq!(b.line()["msg"], "connection closed");
}

#[test]
fn b_lets_go_of_a_call_when_its_client_goes() {
    let mut b = Running::service_b(&["--script", "hang"]);
    let a = calling(&b.url(), &[]);
    let (mut one, mut other) = (a.connect(), a.connect());
    one.send(GET);
    other.send(GET);
    // Which of them comes first, and hangs, is open.
    assert_eq!(b.line()["msg"], "grpc 0: ok");
    drop((one, other));
    assert_eq!(b.line()["msg"], "client gone");
}

#[test]
fn a_asks_as_clients_of_grpc_do() {
    let origin = H2Origin::start(|mut exchange: H2Exchange| async move {
        exchange.receive().await;
        exchange.answer(head(&[("grpc-status", "5"), ("grpc-message", "not here")]), true);
    });
    let a = calling(&origin.to_string(), &["--grpc-timeout", "300m"]);
    assert_eq!(said(&a, &format!("{origin}/")), (500, "grpc 5: not here".to_owned()));
    let asked = origin.only();
    assert_eq!((asked.head.method.as_str(), &*asked.body), ("POST", &[0; 5][..]));
    assert_eq!(asked.head.uri.path(), "/fusebox.example.ServiceB/Hello");
    for (name, value) in
        [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "300m")]
    {
        assert_eq!(asked.header(name), Some(value));
    }
}

#[test]
fn a_tells_of_odd_answers() {
    let origin = H2Origin::start(|mut exchange: H2Exchange| async move {
        exchange.receive().await;
        match exchange.number {
            // A proxy's error page.
            0 => {
                let mut busy = Response::new(());
                *busy.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                exchange.answer(busy, true);
            }
            1 => {
                let mut stream = exchange.answer(head(&[]), false);
                stream.send_data("no frame".into(), false).expect("the stream is open");
                let mut end = HeaderMap::new();
                end.insert("grpc-status", HeaderValue::from_static("0"));
                stream.send_trailers(end).expect("the stream is open");
            }
            // No status at its end.
            _ => {
                exchange.answer(head(&[]), true);
            }
        }
    });
    let (a, url) = (calling(&origin.to_string(), &[]), format!("{origin}/"));
    for text in ["grpc 14: unavailable", "unusable answer", "grpc 2: unknown"] {
        assert_eq!(said(&a, &url), (500, text.to_owned()));
    }
}

#[test]
fn a_timeout_is_gprcs_affair() {
    let ran = run(SERVICE_A, &["--grpc-timeout", "1S"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.error.contains("--grpc"), "{ran:?}");
}
