//! Service A: what it makes of B's answers, and of none.

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Running, SERVICE_A, Stub, get, output, read_head, request, send, within};

/// What A answers when B does as the stub does: the status, the text without the URL in front of
/// it.
async fn outcome(stub: &Stub) -> (u16, String) {
    let a = Running::service_a(&stub.url()).await;
    let answer = a.get().await.unwrap();
    let text =
        answer.body.strip_prefix(&format!("`{}`: ", stub.url())).unwrap_or(&answer.body).to_owned();
    assert_eq!(
        answer.header("content-type").unwrap().starts_with("text/plain"),
        !answer.status.is_success()
    );
    (answer.status.as_u16(), text)
}

#[tokio::test]
async fn it_says_hello_from_both_and_passes_the_request_id_on() {
    let mut b = Running::service_b(&[]).await;
    let mut a = Running::service_a(&b.url()).await;
    let asked = request(Method::GET, &format!("{}?q=1", a.url())).header("x-request-id", "abc");
    let answer = send(asked, "").await.unwrap();
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(
        answer.body,
        r#"{"messageA": "hello from service A","messageB": "hello from service B"}"#
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let (line, heard) = (a.line().await, b.line().await);
    assert_eq!((&line["request_id"], &heard["request_id"]), (&"abc".into(), &"abc".into()));
    assert_eq!((&line["msg"], &line["level"]), (&"200: OK".into(), &"INFO".into()));
    assert_eq!(
        (&line["request"]["route"], &line["request"]["query"]),
        (&"/".into(), &"q=1".into())
    );
    assert_eq!(line["response"]["length"], answer.body.len());
    assert_eq!(heard["request"]["host"], b.address.to_string());
}

#[tokio::test]
async fn it_keeps_its_connection_to_b() {
    let mut b = Running::service_b(&[]).await;
    let a = Running::service_a(&b.url()).await;
    let mut from = Vec::new();
    for _ in 0..3 {
        assert!(a.get().await.unwrap().status.is_success());
        from.push(b.line().await["request"]["ip"].clone());
    }
    assert!(from.windows(2).all(|pair| pair[0] == pair[1]), "{from:?}");
}

#[tokio::test]
async fn a_name_given_on_the_way_is_in_its_answer_and_its_log() {
    for status in ["200 OK", "503 Service Unavailable"] {
        let head = format!("{status}\r\nx-request-id: made-there");
        let mut stub = Stub::responding(&head, r#"{"message": "hi"}"#).await;
        let mut a = Running::service_a(&stub.url()).await;
        assert_eq!(a.get().await.unwrap().header("x-request-id"), Some("made-there"));
        assert_eq!(a.line().await["request_id"], "made-there");
        let head = stub.head().await;
        assert!(head.starts_with("GET / HTTP/1.1\r\n") && !head.contains("x-request-id"), "{head}");
    }
}

#[tokio::test]
async fn what_b_says_is_escaped() {
    let stub =
        Stub::responding("200 OK", r#"{"message": "\"quoted\"\n\\ é \u0001", "more": 1}"#).await;
    let expected = r#"{"messageA": "hello from service A","messageB": "\"quoted\"\n\\ é \u0001"}"#;
    assert_eq!(outcome(&stub).await, (200, expected.to_owned()));
}

#[tokio::test]
async fn a_problem_is_told_by_its_title() {
    let head = "504 Gateway Timeout\r\ncontent-type: application/problem+json";
    let stub = Stub::responding(
        head,
        r#"{"type": "about:blank", "title": "timeout exceeded", "status": 504}"#,
    )
    .await;
    assert_eq!(outcome(&stub).await, (500, "timeout exceeded".to_owned()));
    let stub = Stub::responding(head, "not JSON").await;
    assert_eq!(outcome(&stub).await, (500, "504 Gateway Timeout".to_owned()));
}

#[tokio::test]
async fn any_other_status_is_told_as_it_is() {
    let stub = Stub::responding("503 Service Unavailable", r#"{"message": "hi"}"#).await;
    assert_eq!(outcome(&stub).await, (500, "503 Service Unavailable".to_owned()));
    let stub = Stub::responding("302 Found\r\nlocation: /", r#"{"message": "hi"}"#).await;
    assert_eq!(outcome(&stub).await, (500, "302 Found".to_owned()));
}

#[tokio::test]
async fn an_answer_that_can_not_be_used_is_a_failure() {
    for (body, reason) in [
        ("", "unusable answer: EOF"),
        ("hello", "unusable answer: expected value"),
        (r#"{"data": null}"#, "unusable answer: missing field `message`"),
        (r#"{"message": 1}"#, "unusable answer: invalid type"),
    ] {
        let (status, text) = outcome(&Stub::responding("200 OK", body).await).await;
        assert!(status == 500 && text.starts_with(reason), "{body}: {text}");
    }
    let (status, text) = outcome(&Stub::responding("200 OK", &"x".repeat(70_000)).await).await;
    assert_eq!((status, text.as_str()), (500, "the answer broke off: length limit exceeded"));
}

#[tokio::test]
async fn a_call_that_fails_is_a_failure() {
    for (bytes, reason) in [
        ("", "client error (SendRequest): connection closed"),
        ("nonsense\r\n\r\n", "client error (SendRequest): invalid HTTP"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "the answer broke off: "),
    ] {
        let (status, text) = outcome(&Stub::answering(bytes).await).await;
        assert!(status == 500 && text.starts_with(reason), "{bytes:?}: {text}");
    }
}

#[tokio::test]
async fn nobody_there_is_a_failure_and_the_log_says_so() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut a = Running::service_a(&format!("http://{address}")).await;
    let answer = a.get().await.unwrap();
    assert_eq!(answer.status.as_u16(), 500);
    assert!(
        answer.body.starts_with(&format!("`http://{address}/`: client error (Connect): ")),
        "{}",
        answer.body
    );
    assert!(answer.body.to_lowercase().contains("refused"), "{}", answer.body);
    let line = a.line().await;
    assert_eq!(
        (&line["msg"], &line["level"]),
        (&"500: Internal Server Error".into(), &"ERROR".into())
    );
}

#[tokio::test]
async fn only_get_on_the_root_is_served() {
    let b = Running::service_b(&[]).await;
    let mut a = Running::service_a(&b.url()).await;
    assert_eq!(get(&format!("{}other", a.url())).await.unwrap().status.as_u16(), 404);
    assert_eq!(a.line().await["request"]["route"], "");
    let answer = send(request(Method::POST, &a.url()), "hello").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, Some("GET")));
}

#[tokio::test]
async fn it_lets_go_of_the_call_when_its_client_goes() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut a = Running::service_a(&format!("http://{}", upstream.local_addr().unwrap())).await;
    let mut client = TcpStream::connect(a.address).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let (mut call, _) = within(upstream.accept()).await.unwrap();
    assert!(read_head(&mut call).await.starts_with("GET / "));
    drop(client);
    assert_eq!(within(call.read(&mut [0])).await.unwrap(), 0);
    assert_eq!(a.line().await["msg"], "client gone");
}

#[tokio::test]
async fn it_ends_on_a_signal_with_0() {
    let mut a = Running::service_a("http://127.0.0.1:9").await;
    a.signal("TERM").await;
    assert!(a.ended().await.success());
}

#[tokio::test]
async fn wrong_usage_is_exit_2() {
    for upstream in ["127.0.0.1:3002", "https://b/", "/", "http://"] {
        let output = output(SERVICE_A, &["--upstream", upstream]).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{upstream}: {stderr}");
        assert!(
            stderr.contains("expected a URL such as `http://127.0.0.1:3002`"),
            "{upstream}: {stderr}"
        );
    }
}
