//! Service B: modes, scripts, what its log says, and how it ends.

use std::time::Duration;

use http::Method;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::{Running, SERVICE_B, output, read_head, request, send, within};

const HELLO: &str = r#"{"message": "hello from service B"}"#;
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: b\r\n\r\n";

#[tokio::test]
async fn it_says_hello_and_logs_the_request() {
    let mut b = Running::service_b(&[]).await;
    let url = format!("{}some/path?with=query", b.url());
    let asked =
        request(Method::POST, &url).header("x-request-id", "abc").header("referer", "http://here/");
    let answer = send(asked, vec![b'x'; 200_000]).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, HELLO));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let line = b.line().await;
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

#[tokio::test]
async fn a_flaky_b_answers_503_half_the_time_and_repeats_itself_with_the_same_seed() {
    let first = Running::service_b(&["--mode", "flaky"]).await;
    let seed = first.first["seed"].to_string();
    let second = Running::service_b(&["--mode", "flaky", "--seed", &seed]).await;
    let mut failures = 0;
    for _ in 0..100 {
        let (one, other) = (first.get().await.unwrap(), second.get().await.unwrap());
        assert_eq!(one.status, other.status);
        match one.status.as_u16() {
            200 => assert_eq!((one.body.as_str(), one.header("retry-after")), (HELLO, None)),
            503 => {
                failures += 1;
                assert_eq!((one.body.as_str(), one.header("retry-after")), ("", Some("1")));
            }
            other => panic!("unexpected {other}"),
        }
    }
    assert!((20..80).contains(&failures), "{failures}");
}

#[tokio::test]
async fn a_script_is_played_in_order_and_then_its_rest() {
    let b =
        Running::service_b(&["--script", "503:ra=7,429*2,500:body=oops", "--rest", "418"]).await;
    let mut answers = Vec::new();
    for _ in 0..6 {
        let answer = b.get().await.unwrap();
        answers.push((
            answer.status.as_u16(),
            answer.header("retry-after").map(str::to_owned),
            answer.body,
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

#[tokio::test]
async fn a_script_without_rest_goes_on_with_200_and_a_rest_needs_no_script() {
    let b = Running::service_b(&["--script", "204"]).await;
    let empty = b.get().await.unwrap();
    assert_eq!((empty.status.as_u16(), empty.body.as_str()), (204, ""));
    assert_eq!(b.get().await.unwrap().body, HELLO);

    let b = Running::service_b(&["--rest", "503:ra=1"]).await;
    assert_eq!(b.get().await.unwrap().status.as_u16(), 503);
}

#[tokio::test]
async fn a_script_can_speak_graphql() {
    let b =
        Running::service_b(&["--script", "200:body=graphql-errors,200:body=graphql-data"]).await;
    let errors = b.get().await.unwrap();
    assert_eq!(errors.header("content-type"), Some("application/json"));
    assert_eq!(errors.body, r#"{"data": null, "errors": [{"message": "service B is busy"}]}"#);
    assert_eq!(b.get().await.unwrap().body, r#"{"data": {"message": "hello from service B"}}"#);
}

#[tokio::test]
async fn retry_after_can_be_a_date() {
    let b = Running::service_b(&["--script", "503:radate=60"]).await;
    let answer = b.get().await.unwrap();
    let date =
        DateTimeParser::new().parse_timestamp(answer.header("retry-after").unwrap()).unwrap();
    let from_now = date.duration_since(Timestamp::now());
    assert!(
        from_now > SignedDuration::from_secs(30) && from_now <= SignedDuration::from_secs(60),
        "{from_now:?}"
    );
}

#[tokio::test]
async fn close_ends_the_connection_without_an_answer() {
    let mut b = Running::service_b(&["--script", "close"]).await;
    let mut stream = TcpStream::connect(b.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    assert_eq!(within(stream.read_to_end(&mut answer)).await.unwrap(), 0);
    let line = b.line().await;
    assert_eq!((&line["msg"], &line["level"]), (&"connection closed".into(), &"WARN".into()));
    assert!(line["response"]["status"].is_null());
    assert_eq!(b.get().await.unwrap().body, HELLO);
}

#[tokio::test]
async fn hang_never_answers_and_the_log_says_when_the_client_has_gone() {
    let mut b = Running::service_b(&["--script", "hang"]).await;
    let mut one = TcpStream::connect(b.address).await.unwrap();
    let mut other = TcpStream::connect(b.address).await.unwrap();
    one.write_all(GET).await.unwrap();
    other.write_all(GET).await.unwrap();
    // Which of them comes first, and hangs, is open.
    let answered = within(async {
        tokio::select! {
            answered = one.readable() => answered,
            answered = other.readable() => answered,
        }
    });
    answered.await.unwrap();
    assert_eq!(b.line().await["msg"], "200: OK");
    drop((one, other));
    let line = b.line().await;
    assert_eq!((&line["msg"], &line["level"]), (&"client gone".into(), &"WARN".into()));
    assert!(line["response"]["status"].is_null());
}

#[tokio::test]
async fn a_delay_comes_before_the_head_and_a_body_delay_after_it() {
    let mut b =
        Running::service_b(&["--script", "200:delay=80,200:bodydelay=80,200:bodydelay=600000"])
            .await;
    for _ in 0..2 {
        let asked = Instant::now();
        assert_eq!(b.get().await.unwrap().body, HELLO);
        assert!(asked.elapsed() >= Duration::from_millis(80));
        b.line().await;
    }
    let mut stream = TcpStream::connect(b.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    let head = read_head(&mut stream).await;
    assert!(
        head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("content-length: 35\r\n"),
        "{head}"
    );
    drop(stream);
    let line = b.line().await;
    assert_eq!(
        (&line["response"]["status"], &line["response"]["length"]),
        (&200.into(), &0.into())
    );
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_head_has_no_body() {
    let mut b = Running::service_b(&[]).await;
    let mut stream = TcpStream::connect(b.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(b"HEAD / HTTP/1.1\r\nhost: b\r\n\r\n").await.unwrap();
        assert!(read_head(&mut stream).await.contains("content-length: 35\r\n"));
        let line = b.line().await;
        assert_eq!(line["request"]["ip"], stream.local_addr().unwrap().to_string());
        assert_eq!(line["response"]["length"], 0);
    }
}

#[tokio::test]
async fn quiet_means_no_lines() {
    let mut b = Running::service_b(&["--quiet"]).await;
    assert_eq!(b.get().await.unwrap().body, HELLO);
    b.signal("TERM").await;
    assert_eq!(b.rest().await, Vec::<serde_json::Value>::new());
    assert!(b.ended().await.success());
}

#[tokio::test]
async fn it_finishes_what_is_in_flight_before_it_ends() {
    for signal in ["TERM", "INT"] {
        let mut b = Running::service_b(&[]).await;
        let mut idle = TcpStream::connect(b.address).await.unwrap();
        let mut stream = b.in_flight().await;
        b.signal(signal).await;
        // What is idle it lets go at once: the signal has arrived.
        assert_eq!(within(idle.read(&mut [0])).await.unwrap(), 0);
        stream.write_all(b"hi").await.unwrap();
        let mut answer = String::new();
        within(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(HELLO), "{answer}");
        assert!(b.ended().await.success());
    }
}

#[tokio::test]
async fn what_hangs_does_not_keep_it_from_ending() {
    let mut b = Running::service_b(&["--rest", "hang"]).await;
    let mut stream = b.in_flight().await;
    stream.write_all(b"hi").await.unwrap();
    b.signal("TERM").await;
    assert!(b.ended().await.success());
    assert_eq!(b.line().await["msg"], "connection closed");
}

#[tokio::test]
async fn wrong_usage_is_exit_2_and_says_what_was_expected() {
    for (args, said) in [
        (["--script", "503:xx=1"], "expected steps such as"),
        (["--rest", "nonsense"], "expected steps such as"),
        (["--mode", "broken"], "flaky-and-slow"),
        (["--listen", "localhost"], "invalid socket address"),
        (["--seed=1", "--script=200"], "cannot be used with"),
        (["--mode=ok", "--rest=200"], "cannot be used with"),
    ] {
        let output = output(SERVICE_B, &args).await;
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(said), "{args:?}: {stderr}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_exit_1_and_one_line() {
    let b = Running::service_b(&[]).await;
    let address = b.address.to_string();
    let output = output(SERVICE_B, &["--listen", &address]).await;
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.starts_with(&format!("error: listen on `{address}`: ")), "{stderr}");
    assert_eq!((stderr.lines().count(), output.stdout.len()), (1, 0));
}
