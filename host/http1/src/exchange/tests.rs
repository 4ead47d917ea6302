use super::*;
use bytes::BytesMut;
use http::HeaderMap;

use crate::request::RequestHeadParser;

fn exchange(head: &str) -> HttpExchange {
    let mut buffer = BytesMut::from(head);
    let head = RequestHeadParser::new(1024).parse_into(&mut buffer, HeaderMap::new);
    head.expect("a request").expect("all of it").exchange
}

const HTTP_11: &str = "GET / HTTP/1.1\r\nhost: b\r\n\r\n";
const HTTP_10: &str = "GET / HTTP/1.0\r\n\r\n";
const KEPT_10: &str = "GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nhost: b\r\n\r\n";

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let fields = fields.iter();
    fields
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

/// The head of the response, and whether the connection is kept then.
fn answer(
    request: &str,
    status: u16,
    fields: &[(&'static str, &'static str)],
    length: Option<u64>,
) -> (String, bool) {
    let (mut exchange, mut out) = (exchange(request), Vec::new());
    let status = StatusCode::from_u16(status).expect("a status");
    let encoder =
        exchange.encode_response(status, &headers(fields).into(), [].into_iter(), length, &mut out);
    assert!(encoder.is_full() || !exchange.has_no_body(status));
    (String::from_utf8(out).expect("a text"), exchange.is_kept_alive())
}

/// All that headers could say of body and connection.
const LIES: &[(&str, &str)] = &[
    ("a", "1"),
    ("content-length", "7"),
    ("content-length", "8"),
    ("transfer-encoding", "gzip, chunked"),
    ("connection", "upgrade"),
];

#[test]
fn a_body_is_framed_once_by_what_is_known_of_it_and_of_the_client() {
    let heads = [
        (HTTP_11, Some(5), "content-length: 5\r\n", true),
        (HTTP_11, Some(0), "content-length: 0\r\n", true),
        (HTTP_11, None, "transfer-encoding: chunked\r\n", true),
        (HTTP_10, Some(5), "content-length: 5\r\nconnection: close\r\n", false),
        (HTTP_10, None, "connection: close\r\n", false),
        (KEPT_10, Some(5), "content-length: 5\r\nconnection: keep-alive\r\n", true),
        (KEPT_10, None, "connection: close\r\n", false),
    ];
    for (request, length, framed, is_kept) in heads {
        let expected = format!("HTTP/1.1 200 OK\r\na: 1\r\n{framed}\r\n");
        assert_eq!(answer(request, 200, LIES, length), (expected, is_kept), "{request:?}");
    }
}

#[test]
fn a_response_without_a_body_says_how_long_it_would_be_where_it_may() {
    let none = |request, status, length| answer(request, status, LIES, length).0;
    assert_eq!(none(HEAD, 200, Some(0)), "HTTP/1.1 200 OK\r\na: 1\r\ncontent-length: 7\r\n\r\n");
    assert_eq!(
        none(HTTP_11, 304, None),
        "HTTP/1.1 304 Not Modified\r\na: 1\r\ncontent-length: 7\r\n\r\n"
    );
    for request in [HTTP_11, HEAD] {
        assert_eq!(none(request, 204, Some(5)), "HTTP/1.1 204 No Content\r\na: 1\r\n\r\n");
    }
    assert_eq!(answer(HEAD, 200, &[], None).0, "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(answer(HEAD, 200, &[], Some(0)).0, "HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(answer(HEAD, 200, &[], Some(5)).0, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    // No second length, and none that is no number.
    let odd = [("content-length", "5, 5")];
    assert_eq!(answer(HEAD, 200, &odd, None).0, "HTTP/1.1 200 OK\r\n\r\n");
}

#[test]
fn a_status_without_a_known_reason_keeps_its_place() {
    assert_eq!(answer(HTTP_11, 599, &[], Some(0)).0, "HTTP/1.1 599 \r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn the_end_of_the_connection_is_told() {
    let mut last = exchange(HTTP_11);
    last.end_after_this();
    for mut exchange in [last, HttpExchange::without_request()] {
        let mut out = Vec::new();
        exchange.encode_response(
            StatusCode::BAD_REQUEST,
            &HeaderFields::default(),
            [].into_iter(),
            Some(0),
            &mut out,
        );
        assert!(!exchange.is_kept_alive());
        let expected = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
    }
}

#[test]
fn a_switch_of_protocols_names_the_new_one_and_leaves_the_rest_to_it() {
    let mut exchange = exchange(HTTP_11);
    assert!(!exchange.has_switched());
    let fields = [("upgrade", "x"), ("connection", "keep-alive"), ("content-length", "5")];
    let (status, mut out) = (StatusCode::SWITCHING_PROTOCOLS, Vec::new());
    let encoder =
        exchange.encode_response(status, &headers(&fields).into(), [].into_iter(), None, &mut out);
    let expected = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    assert_eq!(String::from_utf8(out).as_deref(), Ok(expected));
    assert!(encoder.is_full() && exchange.has_switched() && !exchange.is_kept_alive());
}

#[test]
fn interim_responses_go_to_http_11_without_what_frames_a_body() {
    let hints = [("link", "</a>"), ("content-length", "5"), ("connection", "close")];
    let hints = headers(&hints);
    let interim = |request: &str, status: u16| {
        let (status, mut out) = (StatusCode::from_u16(status).expect("a status"), Vec::new());
        let is_sent = exchange(request).encode_interim(status, hints.iter(), &mut out);
        assert_eq!(is_sent, !out.is_empty());
        String::from_utf8(out).expect("a text")
    };
    assert_eq!(interim(HTTP_11, 103), "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
    assert_eq!(interim(HTTP_11, 100), "HTTP/1.1 100 Continue\r\nlink: </a>\r\n\r\n");
    for (request, status) in [(HTTP_10, 103), (KEPT_10, 100), (HTTP_11, 101), (HTTP_11, 200)] {
        assert_eq!(interim(request, status), "");
    }
}

/// The body "hello" and a trailer, as the client gets them.
fn body(request: &str, fields: &[(&'static str, &'static str)]) -> String {
    let (mut exchange, mut out) = (exchange(request), Vec::new());
    let headers = headers(fields).into();
    let mut encoder =
        exchange.encode_response(StatusCode::OK, &headers, [].into_iter(), None, &mut Vec::new());
    encoder.begin_piece(5, &mut out).expect("it has a place");
    out.extend_from_slice(b"hello");
    encoder.end_piece(&mut out);
    let trailers = [("x-sum", "1"), ("content-length", "9"), ("x-forwarded-for", "1"), ("te", "x")];
    encoder.end(Some(&self::headers(&trailers)), &mut out).expect("an end");
    String::from_utf8(out).expect("a text")
}

#[test]
fn trailers_go_to_clients_that_take_them_or_were_told_of_them() {
    let chunked = |trailers: &str| format!("5\r\nhello\r\n0\r\n{trailers}\r\n");
    let takes = "GET / HTTP/1.1\r\nhost: b\r\nte: gzip, Trailers\r\n\r\n";
    assert_eq!(body(HTTP_11, &[]), chunked(""));
    assert_eq!(body(HTTP_11, &[("trailer", "X-Sum, content-length")]), chunked("x-sum: 1\r\n"));
    assert_eq!(body(takes, &[]), chunked("x-sum: 1\r\n"));
    assert_eq!(body(HTTP_10, &[("trailer", "x-sum")]), "hello");
}

/// Bytes: one goes along with every request.
#[test]
fn an_exchange_is_small() {
    assert!(size_of::<HttpExchange>() <= 8);
}
