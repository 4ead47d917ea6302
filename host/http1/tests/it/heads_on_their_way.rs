//! Heads that go from a server to a client: what is written is what was written when each of them
//! was a map on its way.

use bytes::BytesMut;
use fusebox_http1::{Framing, HttpExchange, RequestHeadParser, ResponseHead, ResponseHeadParser};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use proptest::prelude::*;

const MAX_HEAD: usize = 1 << 20;

fn line() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "Date: Sun, 29 Nov 2026 16:00:00 GMT\r\n",
        "Server: b\r\n",
        "server:b\r\n",
        "Set-Cookie: a=1\r\n",
        "set-cookie: b=2\r\n",
        "X-Empty: \r\n",
        "X-Empty:\r\n",
        "X-Text: \u{fc}ber, \t und \r\n",
        "X-Request-ID: theirs\r\n",
        "Via: 1.1 other\r\n",
        "Trailer: X-Sum\r\n",
        "Connection: keep-alive\r\n",
        "Connection: close, X-Text\r\n",
        "Keep-Alive: timeout=5\r\n",
        "Content-Length: 5\r\n",
        "content-length: 005\r\n",
        "Content-Length: 5 , 05\r\n",
        "Content-Length:5\n",
        "Transfer-Encoding: chunked\r\n",
        "ETag: \"a\"\n",
        "Cache-Control: no-store \r\n",
    ])
}

fn parsed(head: &str, to_head: bool) -> Option<ResponseHead> {
    let mut buffer = BytesMut::from(head);
    ResponseHeadParser::new(MAX_HEAD, to_head).parse(&mut buffer).ok().map(|it| it.expect("whole"))
}

/// The fields in a map, into which each is put: a length once, as a number, and not beside chunks.
fn map(head: &str, framing: Framing) -> HeaderMap {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(head.as_bytes()).expect("it was parsed");
    let mut map = HeaderMap::new();
    for field in response.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).expect("a name");
        let mut value = HeaderValue::from_bytes(field.value).expect("a value");
        if name == header::CONTENT_LENGTH {
            if map.contains_key(&name) {
                continue;
            }
            let first = value.to_str().expect("text").split(',').next().expect("a part").trim();
            value = first.parse::<u64>().expect("a number").into();
        }
        map.append(name, value);
    }
    if framing == Framing::Chunked {
        map.remove(header::CONTENT_LENGTH);
    }
    map
}

fn exchange(request: &str) -> HttpExchange {
    let mut buffer = BytesMut::from(request);
    let head = RequestHeadParser::new(1024).parse_into(&mut buffer, HeaderMap::new);
    head.expect("a request").expect("all of it").exchange
}

/// What a client gets after the first line, but for what is said of its body and its connection.
fn written(map: &HeaderMap, own: &[(HeaderName, HeaderValue)]) -> Vec<u8> {
    let said = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
    let others = map.iter().filter(|(name, _)| {
        !said.contains(name) && own.iter().all(|(replaced, _)| replaced != *name)
    });
    let fields = others.chain(own.iter().map(|(name, value)| (name, value)));
    let mut out = Vec::new();
    for (name, value) in fields {
        let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat();
        out.extend_from_slice(&line);
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn a_head_goes_on_byte_for_byte_as_it_did_in_a_map(
        lines in prop::collection::vec(line(), 0..10),
        removed in prop::collection::vec(prop::sample::select(vec![
            header::CONNECTION, header::TRANSFER_ENCODING, header::SERVER, header::SET_COOKIE,
            HeaderName::from_static("keep-alive"), HeaderName::from_static("x-text"),
        ]), 0..4),
        to_head in any::<bool>(),
        with_id in any::<bool>(),
    ) {
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.concat());
        let Some(mut parsed) = parsed(&head, to_head) else { return Ok(()) };
        let mut map = map(&head, parsed.framing);
        for name in &removed {
            parsed.headers.remove(name);
            map.remove(name);
        }
        prop_assert!(parsed.headers.to_map().iter().eq(map.iter()), "{:?}", parsed.headers);

        let own = [
            (HeaderName::from_static("x-request-id"), HeaderValue::from_static("ours")),
            (header::SERVER, HeaderValue::from_static("us")),
        ];
        let own = if with_id { &own[..1] } else { &own[..] };
        let method = if to_head { "HEAD" } else { "GET" };
        let mut exchange = exchange(&format!("{method} / HTTP/1.1\r\nhost: b\r\n\r\n"));
        let (mut out, fields) = (Vec::new(), own.iter().map(|(name, value)| (name, value)));
        exchange.encode_response(parsed.status, &parsed.headers, fields, Some(5), &mut out);
        let said = map.get(header::CONTENT_LENGTH).and_then(|it| it.to_str().ok());
        let length = if to_head { said.unwrap_or("5") } else { "5" };
        let fields = String::from_utf8(written(&map, own)).unwrap();
        let expected = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {length}\r\n\r\n");
        prop_assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn what_is_taken_for_a_field_is_one_in_a_map_too() {
    let mut taken = 0;
    for byte in 0..=255u8 {
        for (name, value) in [(byte, b'v'), (b'n', byte)] {
            let mut head = b"HTTP/1.1 200 OK\r\nx".to_vec();
            head.extend([name, b':', b' ', b'y', value, b'y']);
            head.extend_from_slice(b"\r\n\r\n");
            let mut buffer = BytesMut::from(&head[..]);
            let Ok(Some(head)) = ResponseHeadParser::new(100, false).parse(&mut buffer) else {
                continue;
            };
            assert_eq!(head.headers.len(), head.headers.to_map().len(), "{name:?}: {value:?}");
            taken += 1;
        }
    }
    // The characters of a token, a colon behind a name, and the characters of a value.
    assert_eq!(taken, 77 + 1 + 224);
}

#[test]
fn a_name_is_as_long_as_one_in_a_map_can_be() {
    let head = |length| format!("HTTP/1.1 200 OK\r\n{}: 1\r\n\r\n", "x".repeat(length));
    let longest = parsed(&head(65_535), false).expect("a head");
    assert_eq!(longest.headers.to_map().len(), 1);
    assert!(parsed(&head(65_536), false).is_none());
}
