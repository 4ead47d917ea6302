//! The access line, field by field.

use std::time::UNIX_EPOCH;

use super::*;

#[test]
fn the_access_line_has_request_and_response() {
    let request = http::Request::post("http://127.0.0.1:3001/orders?id=7")
        .header("host", "shop.example:8080")
        .header("referer", "https://shop.example/")
        .header("user-agent", "curl/8.9")
        .header("content-length", "312");
    let (head, ()) = request.body(()).unwrap().into_parts();
    let id = http::HeaderValue::from_static("r-1");
    let mut request = Request::new(id, "test".into(), head, UNIX_EPOCH);
    request.set_client("2001:db8::1".into());
    assert_eq!(
        line_of(Some(&request), None, &finished(200, None)),
        concat!(
            r#"{"level":"INFO","msg":"200: OK","request_id":"r-1","route":"test","#,
            r#""request":{"time":"1970-01-01T00:00:00.000000Z","method":"POST","host":"shop.example:8080","#,
            r#""path":"/orders","query":"id=7","route":"test","ip":"2001:db8::1","referer":"https://shop.example/","#,
            r#""user_agent":"curl/8.9","length":312},"#,
            r#""response":{"time":"1970-01-01T00:00:03.036065Z","latency":3036065875,"status":200,"length":71,"end":"whole"},"#,
            r#""attempts":2}"#
        )
    );
}

#[test]
fn an_access_line_says_how_the_call_ended() {
    let call = call("r-1", Observers::default());
    let plain = |level: &str, message: &str, status: &str, rest: &str| {
        format!(
            r#"{{"level":"{level}","msg":"{message}","request_id":"r-1","route":"test","request":{{"time":"1970-01-01T00:00:00.000000Z","method":"GET","host":"service-b","path":"/","query":"","route":"test","ip":"","referer":"","user_agent":"","length":0}},"response":{{"time":"1970-01-01T00:00:03.036065Z","latency":3036065875,{status}}},"attempts":2{rest}}}"#
        )
    };
    let cases = [
        (
            finished(404, None),
            plain("WARN", "404: Not Found", r#""status":404,"length":71,"end":"whole""#, ""),
        ),
        (
            finished(503, None),
            plain(
                "ERROR",
                "503: Service Unavailable",
                r#""status":503,"length":71,"end":"whole""#,
                "",
            ),
        ),
        (
            finished(504, Some(ErrorKind::Timeout)),
            plain(
                "ERROR",
                "504: Gateway Timeout",
                r#""status":504,"length":71,"end":"whole""#,
                r#","failure":"timeout","error":"http_response_timeout""#,
            ),
        ),
        (
            finished(299, None),
            plain("INFO", "299", r#""status":299,"length":71,"end":"whole""#, ""),
        ),
        (finished(None, None), plain("INFO", "client closed request", r#""length":71"#, "")),
        (
            finished(None, Some(ErrorKind::RequestIncomplete)),
            plain(
                "INFO",
                "client closed request",
                r#""length":71"#,
                r#","failure":"other","error":"http_request_error""#,
            ),
        ),
    ];
    for (kind, expected) in cases {
        assert_eq!(line_of(Some(call.request()), None, &kind), expected);
    }
}

#[test]
fn an_access_line_of_grpc_says_its_status() {
    let call = call("r-1", Observers::default());
    for (grpc, level) in [
        (GrpcStatus::Ok, "INFO"),
        (GrpcStatus::NotFound, "WARN"),
        (GrpcStatus::Unavailable, "ERROR"),
    ] {
        let kind = EventKind::Call(CallEvent::Finished {
            status: Some(200),
            failure: None,
            grpc: Some(grpc),
            error: None,
            detail: None,
            attempts: 1,
            end: Some(BodyEnd::Whole),
            is_cut: false,
            bytes: 0,
            received: 0,
            elapsed: second(3),
        });
        let line = line_of(Some(call.request()), None, &kind);
        let (number, name) = (grpc.number(), grpc.name());
        let begin = format!(r#"{{"level":"{level}","msg":"grpc {number}: {name}","#);
        assert!(line.starts_with(&begin), "{line}");
        let said = format!(r#""status":200,"grpc_status":"{name}","length":0"#);
        assert!(line.contains(&said), "{line}");
    }
}
