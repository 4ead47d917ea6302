//! What guests are told, and what becomes of what they say.

use std::net::SocketAddr;
use std::time::Duration;

use fusebox_dev::{handle_if, respond};
use fusebox_resilience::config::ConfigSize;
use fusebox_resilience::testing::{call, exchange};
use fusebox_resilience::{
    Answer, Attempt, Error, ErrorKind, Observers, Peek, Response, ResponseBody, Slot,
};
use fusebox_wasm::ComponentConfig;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};

use crate::guest::{Exports, guest, predicate, tells};
use crate::support::{Seen, body, load, load_with};

/// The body of a guest that takes 5xx for failures.
const SERVER_ERRORS: &str =
    "(i32.and (i32.eqz (local.get $case)) (i32.ge_u (local.get $value) (i32.const 500)))";

#[test]
fn a_guest_decides_by_status() {
    let tested = load(&predicate(SERVER_ERRORS));
    assert_eq!(
        [200, 499, 500, 503].map(|status| tested.handles(status)),
        [false, false, true, true]
    );
    assert!(!tested.handles(ErrorKind::Timeout));
    let status = &tested.components.status()[0];
    assert_eq!((status.calls, status.instances, tested.generation()), (5, 1, Some(1)));
    assert!(status.is_predicate && !status.is_fallback && status.call_times.nanos > 0);
    assert!(status.faults.iter().all(|(_, count)| *count == 0));
}

#[test]
fn each_failure_has_the_number_of_the_contract() {
    let tested = load(&tells(
        "",
        "(i32.store8 (i32.const 32) (i32.add (local.get $value) (i32.const 97)))
        (i32.store (i32.const 16) (i32.const 32)) (i32.store (i32.const 20) (local.get $case))",
    ));
    for (kind, letter) in [
        (ErrorKind::DnsError, "a"),
        (ErrorKind::ConnectionRefused, "b"),
        (ErrorKind::ConnectionTimeout, "b"),
        (ErrorKind::TlsCertificateError, "c"),
        (ErrorKind::ConnectionTerminated, "d"),
        (ErrorKind::ProtocolError, "e"),
        (ErrorKind::Timeout, "f"),
        (ErrorKind::CircuitOpen, "g"),
        (ErrorKind::BulkheadFull, "h"),
        (ErrorKind::RateLimited, "i"),
        (ErrorKind::Overloaded, "j"),
        (ErrorKind::BudgetExceeded, "k"),
        (ErrorKind::RetriesExceeded, "l"),
        (ErrorKind::Internal, "m"),
    ] {
        assert_eq!(tested.tells(kind), letter, "{kind:?}");
    }
}

/// What a guest gets from a getter that returns a string.
#[track_caller]
fn told(function: &str, results: &str, body: &str, seen: Seen) -> String {
    let import = format!(r#"(import "attempt" "{function}" (func $ask {results}))"#);
    load_with(&tells(&import, body), |config| config.peek_body = Some(ConfigSize(8))).tells(seen)
}

#[track_caller]
fn told_text(function: &str, seen: Seen) -> String {
    told(function, "(param i32)", "(call $ask (i32.const 16))", seen)
}

/// An option is at 12, and the string in it at 16.
#[track_caller]
fn told_option(function: &str, seen: Seen) -> String {
    told(function, "(param i32)", "(call $ask (i32.const 12))", seen)
}

#[track_caller]
fn told_header(function: &str, name: &str, seen: Seen) -> String {
    let body = format!(
        r#"(memory.init $name (i32.const 64) (i32.const 0) (i32.const {length}))
           (call $ask (i32.const 64) (i32.const {length}) (i32.const 12))"#,
        length = name.len()
    );
    let import = format!(
        r#"(import "attempt" "{function}" (func $ask (param i32 i32 i32))) (data $name "{name}")"#
    );
    load_with(&tells(&import, &body), |config| config.peek_body = Some(ConfigSize(8))).tells(seen)
}

fn request() -> Seen {
    let mut seen = Seen::from(503);
    seen.request = Request::put("/path?query=1")
        .header("Host", "service-b:3001")
        .header("X-Latin", HeaderValue::from_bytes(b"gr\xfcn").expect("a value"))
        .header("X-Twice", "first")
        .header("X-Twice", "second");
    seen
}

fn response() -> Seen {
    let headers =
        HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("7"))]);
    Seen::response(200, headers, "0123456789")
}

#[test]
fn a_guest_learns_who_asks() {
    assert_eq!(told_text("route", request()), "test");
    assert_eq!(told_text("policy", request()), "test");
    let asked = r#"(import "attempt" "asked" (func $asked (result i32)))"#;
    let tested =
        load(&guest(Exports::Predicate, &format!("{asked} {}", handle_if("(call $asked)"))));
    let asks = |slot| {
        Seen::from(503)
            .asked(&tested.recorder, slot, |seen| tested.predicate().judge(seen).is_handled())
    };
    assert_eq!((asks(Slot::HandleIf), asks(Slot::AbortIf)), (false, true));
}

#[test]
fn a_guest_sees_the_request() {
    assert_eq!(told_text("method", request()), "PUT");
    assert_eq!(told_text("scheme", request()), "http");
    assert_eq!(told_text("authority", request()), "service-b:3001");
    assert_eq!(told_text("path-with-query", request()), "/path?query=1");
    assert_eq!(told_header("request-header", "x-TWICE", request()), "first");
    assert_eq!(told_header("request-header", "x-latin", request()), "grün");
    assert_eq!(told_header("request-header", "absent", request()), "");
    assert_eq!(told_header("request-header", "not a name", request()), "");
}

#[test]
fn a_guest_sees_the_response() {
    assert_eq!(told_header("response-header", "Retry-After", response()), "7");
    assert_eq!(told_header("response-header", "retry-after", ErrorKind::Timeout.into()), "");
    assert_eq!(
        told_option("failure-detail", ErrorKind::ConnectionRefused.into()),
        "connection_refused"
    );
    assert_eq!(told_option("failure-detail", response()), "");
}

#[test]
fn a_guest_sees_as_much_of_the_body_as_it_may() {
    assert_eq!(told_option("response-body-text", response()), "01234567");
    assert_eq!(told_option("response-body-text", ErrorKind::Timeout.into()), "");
    let part = |offset: u32, length: u32| {
        let body = format!("(call $ask (i32.const {offset}) (i32.const {length}) (i32.const 16))");
        told("response-body", "(param i32 i32 i32)", &body, response())
    };
    assert_eq!(
        [part(2, 3), part(6, 100), part(9, 1), part(0, u32::MAX)],
        ["234", "67", "", "01234567"]
    );
}

#[test]
fn a_guest_without_peek_body_sees_none_of_it() {
    let import = r#"(import "attempt" "response-body-text" (func $ask (param i32)))"#;
    let tested = load(&tells(import, "(call $ask (i32.const 12))"));
    assert_eq!(tested.responder().peek(), None);
    assert_eq!(tested.tells(response()), "");
}

#[test]
fn a_guest_knows_whether_it_sees_the_whole_body() {
    let import = r#"(import "attempt" "response-body-complete" (func $complete (result i32)))"#;
    let bytes = guest(Exports::Predicate, &format!("{import} {}", handle_if("(call $complete)")));
    let tested =
        load_with(&bytes, |config: &mut ComponentConfig| config.peek_body = Some(ConfigSize(8)));
    let peek = Peek { bytes: 8, timeout: Duration::from_millis(100) };
    assert_eq!(tested.predicate().peek(), Some(peek));
    let of = |body: &'static str| tested.handles(Seen::response(200, HeaderMap::new(), body));
    assert_eq!([of("01234567"), of("012345678"), of("")], [true, false, true]);
}

#[test]
fn a_guest_sees_trailers_that_have_come_whatever_it_sees_of_the_body() {
    let ending = |body: &'static str| {
        let mut seen = Seen::response(200, HeaderMap::new(), body);
        let trailer = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("14"));
        let response = seen.outcome.as_mut().expect("a response");
        response.body.put_trailers(HeaderMap::from_iter([trailer]));
        seen
    };
    for body in ["01234567", "012345678", ""] {
        assert_eq!(told_header("response-trailer", "Grpc-Status", ending(body)), "14");
        assert_eq!(told_header("response-trailer", "grpc-message", ending(body)), "");
    }
    assert_eq!(told_header("response-trailer", "grpc-status", response()), "");
    assert_eq!(told_header("response-trailer", "grpc-status", ErrorKind::Timeout.into()), "");
}

#[test]
fn a_guest_knows_how_the_request_came_and_where_it_went() {
    let told = |what: &str, address: Option<SocketAddr>, is_http2, kind: ErrorKind| {
        let import = format!(r#"(import "attempt" "{what}" (func $ask (param i32)))"#);
        let tested = load(&tells(&import, "(call $ask (i32.const 12))"));
        let call = call("1", Observers::default());
        let attempt = Attempt::detached(&call, address);
        attempt.goes_by_http2(is_http2);
        let outcome = attempt.finish(Err(kind.into()));
        let seen = exchange(&call, &outcome, Slot::Respond, None);
        let Answer::Now(Some(response)) = tested.responder().respond(&seen) else {
            panic!("it answers")
        };
        body(response)
    };
    let (address, late) = (Some(SocketAddr::from(([10, 0, 0, 7], 3001))), ErrorKind::Timeout);
    assert_eq!(told("endpoint", address, false, late), "10.0.0.7:3001");
    assert_eq!(told("endpoint", None, false, late), "");
    for (address, is_http2, kind, expected) in [
        (address, true, late, "HTTP/2"),
        (address, false, late, "HTTP/1.1"),
        (address, false, ErrorKind::ConnectionRefused, ""),
        (None, false, late, ""),
    ] {
        assert_eq!(told("endpoint-protocol", address, is_http2, kind), expected, "{kind}");
    }
    assert_eq!(told_text("protocol", request()), "HTTP/1.1");
}

#[test]
fn a_guest_reads_its_settings() {
    let imports =
        r#"(import "settings" "get" (func $get (param i32 i32 i32))) (data $name "busy-status")"#;
    let body = "(memory.init $name (i32.const 64) (i32.const 0) (i32.const 11))
        (call $get (i32.const 64) (i32.const 11) (i32.const 12))";
    let bytes = tells(imports, body);
    let tested = load_with(&bytes, |config| {
        config.settings.insert("busy-status".into(), "429".into());
    });
    assert_eq!(tested.tells(503), "429");
    assert_eq!(load(&bytes).tells(503), "");
}

#[test]
fn a_guest_knows_the_attempts_before() {
    let imports = r#"(import "attempt" "history" (func $history (param i32)))
        (import "attempt" "number" (func $number (result i32)))"#;
    // Two ended; the first, number 1, with a response of 503; the second, number 2, with failure 5
    // (timeout).
    let body = "(call $history (i32.const 16))
        (i32.and (i32.eq (call $number) (i32.const 2))
        (i32.and (i32.eq (i32.load (i32.const 20)) (i32.const 2))
        (i32.and (i32.eq (i32.load (i32.load (i32.const 16))) (i32.const 1))
        (i32.and (i32.eq (i32.load16_u offset=6 (i32.load (i32.const 16))) (i32.const 503))
        (i32.and (i32.eq (i32.load offset=12 (i32.load (i32.const 16))) (i32.const 2))
        (i32.and (i32.eq (i32.load8_u offset=16 (i32.load (i32.const 16))) (i32.const 1))
                 (i32.eq (i32.load8_u offset=18 (i32.load (i32.const 16))) (i32.const 5))))))))";
    let tested = load(&guest(Exports::Predicate, &format!("{imports} {}", handle_if(body))));
    let call = call("1", Observers::default());
    let response =
        Response::new(StatusCode::SERVICE_UNAVAILABLE, HeaderMap::new(), ResponseBody::empty());
    let first = Attempt::detached(&call, None).finish(Ok(response));
    assert!(!tested.predicate().judge(&exchange(&call, &first, Slot::HandleIf, None)).is_handled());
    let second = Attempt::detached(&call, None).finish(Err(Error::new(ErrorKind::Timeout)));
    assert!(tested.predicate().judge(&exchange(&call, &second, Slot::HandleIf, None)).is_handled());
}

#[test]
fn a_guest_knows_how_much_time_is_left() {
    let import = r#"(import "attempt" "remaining-ms" (func $remaining (param i32)))"#;
    let body = "(call $remaining (i32.const 16))
        (i32.and (i32.load8_u (i32.const 16))
          (i32.gt_u (i32.load (i32.const 20)) (i32.const 1000)))";
    let tested = load(&guest(Exports::Predicate, &format!("{import} {}", handle_if(body))));
    assert!(!tested.handles(503));
    assert!(tested.handles(Seen { remaining: Some(Duration::from_secs(3600)), ..503.into() }));
    assert!(
        tested.handles(Seen { remaining: Some(Duration::from_secs(1 << 40)), ..503.into() }),
        "it saturates"
    );
}

/// A response of status 404 with the header that `name` and `value` spell and the bytes `body`.
fn answers(status: u16, name: &str, value: &str) -> Vec<u8> {
    let data = format!(r#"(data (i32.const 64) "{name}{value}body")"#);
    let (name, value) = (name.len(), value.replace("\\ff", "?").len());
    let fields = respond(&format!(
        "(i32.store8 (i32.const 128) (i32.const 1))
         (i32.store16 (i32.const 132) (i32.const {status}))
         (i32.store (i32.const 136) (i32.const 256))
         (i32.store (i32.const 140) (i32.const 1))
         (i32.store (i32.const 256) (i32.const 64))
         (i32.store (i32.const 260) (i32.const {name}))
         (i32.store (i32.const 264) (i32.const {value_at}))
         (i32.store (i32.const 268) (i32.const {value}))
         (i32.store8 (i32.const 144) (i32.const 1))
         (i32.store (i32.const 148) (i32.const {body_at}))
         (i32.store (i32.const 152) (i32.const 4))
         (i32.const 128)",
        value_at = 64 + name,
        body_at = 64 + name + value,
    ));
    guest(Exports::Fallback, &format!("{fields} {data}"))
}

#[test]
fn a_guest_answers_in_place_of_the_upstream() {
    let response =
        load(&answers(404, "X-Made-By", "a guest: grün")).responds(503).expect("it answers");
    assert_eq!(response.status, StatusCode::NOT_FOUND);
    assert_eq!(response.headers.len(), 1);
    assert_eq!(response.headers.to_map()["x-made-by"].as_bytes(), b"a guest: gr\xfcn");
    assert_eq!(crate::support::body(response), "body");
}

#[test]
fn a_guest_may_decline() {
    let declines = respond("(i32.store8 (i32.const 128) (i32.const 0)) (i32.const 128)");
    let tested = load(&guest(Exports::Fallback, &declines));
    assert!(tested.responds(503).is_none());
    assert_eq!(tested.faults(), []);
}

#[test]
fn headers_of_the_connection_are_left_to_the_proxy() {
    let tested = load(&answers(200, "Content-Length", "9999"));
    let response = tested.responds(503).expect("it answers");
    assert!(response.headers.is_empty());
    assert_eq!(
        tested.printed(),
        ["header `content-length` of the response dropped: only the proxy sets it"]
    );
}

#[test]
fn a_status_without_a_body_goes_without_the_one_that_came_with_it() {
    for status in [204, 205, 304] {
        let tested = load(&answers(status, "a", "b"));
        let response = tested.responds(503).expect("it answers");
        assert_eq!(
            (response.status.as_u16(), &response.headers.to_map()["a"]),
            (status, &HeaderValue::from_static("b"))
        );
        assert_eq!(crate::support::body(response), "");
        assert_eq!(
            tested.printed(),
            [format!("body of the response dropped: `{status}` has none")]
        );
    }
}

#[test]
fn an_answer_that_cannot_be_sent_is_a_fault() {
    for (bytes, detail) in [
        (answers(199, "a", "b"), "answered with status `199`, expected 200 to 599"),
        (answers(600, "a", "b"), "answered with status `600`, expected 200 to 599"),
        (answers(200, "a b", "c"), "answered with header name `a b`"),
        (answers(200, "a", "\u{100}"), "answered with an invalid value for header `a`"),
        (answers(200, "a", "b\\0ac"), "answered with an invalid value for header `a`"),
    ] {
        let tested = load(&bytes);
        assert!(tested.responds(503).is_none(), "{detail}");
        assert_eq!(tested.faulted(), [(fusebox_resilience::Fault::BadAnswer, detail.to_owned())]);
    }
}
