//! Responses of all kinds to requests of all kinds: a client reads the one that was meant, and
//! nothing behind it.

use bytes::BytesMut;
use fusebox_http1::{HttpExchange, RequestHeadParser, ResponseHeadParser};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use proptest::prelude::*;

use crate::seen::{Seen, hypers, ours};

const REQUESTS: [&str; 6] = [
    "GET / HTTP/1.1\r\nHost: b\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: b\r\nTE: trailers\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "HEAD / HTTP/1.1\r\nHost: b\r\n\r\n",
];

fn exchange(request: &str) -> HttpExchange {
    let mut buffer = BytesMut::from(request);
    let head = RequestHeadParser::new(1024).parse_into(&mut buffer, HeaderMap::new);
    head.expect("a request").expect("all of it").exchange
}

/// Also what a header map may hold and a response must not say.
fn field() -> impl Strategy<Value = (&'static str, &'static str)> {
    prop::sample::select(vec![
        ("x", "y"),
        ("set-cookie", "a"),
        ("content-length", "5"),
        ("content-length", "7"),
        ("content-length", "5, 5"),
        ("content-length", "+5"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "gzip"),
        ("connection", "close"),
        ("connection", "keep-alive, x"),
        ("trailer", "x-sum, content-length"),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_response_is_read_as_it_was_meant(
        request in prop::sample::select(REQUESTS.to_vec()),
        status in prop::sample::select(vec![200u16, 204, 205, 304, 404, 500, 599]),
        fields in prop::collection::vec(field(), 0..6),
        body in prop::collection::vec("[a-z0-9\r\n]{1,20}", 0..4),
        is_length_known in any::<bool>(),
        early_hints in any::<bool>(),
    ) {
        let status = StatusCode::from_u16(status).unwrap();
        let headers: Vec<_> = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let (mut exchange, mut out) = (exchange(request), Vec::new());
        let headers = || headers.iter().map(|(name, value)| (name, value));
        if early_hints {
            exchange.encode_interim(StatusCode::EARLY_HINTS, headers(), &mut out);
        }
        let map: HeaderMap = headers().map(|(name, value)| (name.clone(), value.clone())).collect();
        let length = is_length_known.then(|| body.concat().len() as u64);
        let (fields, none) = (map.into(), [].into_iter());
        let mut encoder = exchange.encode_response(status, &fields, none, length, &mut out);
        let to_head = request.starts_with("HEAD");
        let has_no_body = to_head || [204, 304].contains(&status.as_u16());
        prop_assert_eq!(exchange.has_no_body(status), has_no_body);
        let mut expected = String::new();
        if !has_no_body {
            for piece in &body {
                encoder.begin_piece(piece.len(), &mut out).unwrap();
                out.extend_from_slice(piece.as_bytes());
                encoder.end_piece(&mut out);
                expected.push_str(piece);
            }
        }
        let sum = (HeaderName::from_static("x-sum"), HeaderValue::from_static("1"));
        let trailers: HeaderMap = [sum].into_iter().collect();
        encoder.end(Some(&trailers), &mut out).unwrap();

        let mut buffer = BytesMut::from(&out[..]);
        let head = ResponseHeadParser::new(1 << 16, to_head).parse(&mut buffer).unwrap().unwrap();
        prop_assert_eq!(head.keep_alive, exchange.is_kept_alive());
        let seen = ours(&[&out], to_head);
        let Seen::Response { status: found, body, is_whole: true, .. } = &seen else {
            return Err(TestCaseError::fail(format!("{seen:?}")));
        };
        prop_assert_eq!((*found, &body[..]), (status, expected.as_bytes()));
        prop_assert_eq!(&seen, &hypers(&[&out], to_head));
        // What is behind it belongs to the next one.
        if exchange.is_kept_alive() {
            out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            prop_assert_eq!(ours(&[&out], to_head), seen);
        }
    }
}
