//! Hostile requests over HTTP/2: heads and bodies that an upstream over HTTP/1.1 would read as
//! something else, were they written down as they are.

use fusebox_dev::{GET, POST, RawFrame, flag, header_block, kind};

/// What a client sends on stream 1 of a connection, and what the upstream is asked: as in
/// `POST /a "hello"`, and then the host if it is another one. `400`: the proxy answers with that
/// itself. `reset`: the stream is. `ends`: the connection does.
pub(super) struct Hostile {
    pub(super) what: &'static str,
    pub(super) frames: Vec<RawFrame>,
    pub(super) seen: &'static str,
}

fn hostile(what: &'static str, frames: Vec<RawFrame>, seen: &'static str) -> Hostile {
    Hostile { what, frames, seen }
}

/// A GET with these fields as well.
fn get(what: &'static str, fields: &[(&str, &str)], seen: &'static str) -> Hostile {
    hostile(what, vec![RawFrame::headers(1, &[&GET, fields].concat(), true)], seen)
}

/// A GET in which this field is another one.
fn with(what: &'static str, name: &str, value: &str, seen: &'static str) -> Hostile {
    hostile(what, vec![RawFrame::headers(1, &changed(&GET, name, value), true)], seen)
}

fn changed<'a>(
    fields: &[(&'a str, &'a str)],
    name: &'a str,
    value: &'a str,
) -> Vec<(&'a str, &'a str)> {
    fields.iter().map(|(it, old)| (*it, if *it == name { value } else { *old })).collect()
}

/// A POST with these fields as well, and this body.
fn post(what: &'static str, fields: &[(&str, &str)], body: &str, seen: &'static str) -> Hostile {
    let head = RawFrame::headers(1, &[&POST, fields].concat(), false);
    hostile(what, vec![head, RawFrame::data(1, body, true)], seen)
}

/// A POST of `hi` with these fields behind it.
fn trailed(what: &'static str, trailers: &[(&str, &str)], seen: &'static str) -> Hostile {
    let announced = [&POST[..], &[("trailer", "x-sum")]].concat();
    let frames = vec![
        RawFrame::headers(1, &announced, false),
        RawFrame::data(1, "hi", false),
        RawFrame::headers(1, trailers, true),
    ];
    hostile(what, frames, seen)
}

/// What is smuggled, if it is.
const NEXT: &str = "GET /next HTTP/1.1\r\nhost: b\r\n\r\n";

pub(super) fn all() -> Vec<Hostile> {
    [
        lengths(),
        codings(),
        lines(),
        methods(),
        paths(),
        authorities(),
        pseudo(),
        names(),
        trailers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn lengths() -> Vec<Hostile> {
    let chunk = "0\r\n\r\nGET /next HTTP/1.1\r\nhost: b\r\n\r\n";
    vec![
        post("a length", &[("content-length", "5")], "hello", r#"POST / "hello""#),
        post("no length", &[], "hello", r#"POST / "hello""#),
        post(
            "an end of chunks as a body",
            &[],
            chunk,
            concat!("POST / ", r#""0\r\n\r\nGET /next HTTP/1.1\r\nhost: b\r\n\r\n""#),
        ),
        post("a length of 0 and a request behind it", &[("content-length", "0")], NEXT, "reset"),
        post("a length that is too short", &[("content-length", "1")], NEXT, "reset"),
        post("a length that is too long", &[("content-length", "99")], "hello", "reset"),
        get("a length and no body", &[("content-length", "31")], "reset"),
        get("a length of 0 and no body", &[("content-length", "0")], "GET /"),
        post(
            "lengths that differ",
            &[("content-length", "5"), ("content-length", "0")],
            "hello",
            "reset",
        ),
        post(
            "lengths that are equal",
            &[("content-length", "5"), ("content-length", "5")],
            "hello",
            r#"POST / "hello""#,
        ),
        post("a list of lengths", &[("content-length", "5, 5")], "hello", "reset"),
        post("a length with a sign", &[("content-length", "+5")], "hello", "reset"),
        post("a length in hexadecimal", &[("content-length", "0x5")], "hello", "reset"),
        post("an empty length", &[("content-length", "")], "hello", "reset"),
        post("a length behind a blank", &[("content-length", " 5")], "hello", "reset"),
        post("a length that is a word", &[("content-length", "five")], "hello", "reset"),
        post(
            "a length beyond 64 bits",
            &[("content-length", "18446744073709551621")],
            "hello",
            "reset",
        ),
        post("the shadow of a length", &[("content_length", "0")], "hello", r#"POST / "hello""#),
        hostile(
            "a body with a GET",
            vec![RawFrame::headers(1, &GET, false), RawFrame::data(1, NEXT, true)],
            r#"GET / "GET /next HTTP/1.1\r\nhost: b\r\n\r\n""#,
        ),
        hostile(
            "a body with a HEAD",
            vec![
                RawFrame::headers(1, &changed(&GET, ":method", "HEAD"), false),
                RawFrame::data(1, NEXT, true),
            ],
            r#"HEAD / "GET /next HTTP/1.1\r\nhost: b\r\n\r\n""#,
        ),
        hostile(
            "a body that is padding",
            vec![
                RawFrame::post(1),
                RawFrame::new(
                    kind::DATA,
                    flag::END_STREAM | flag::PADDED,
                    1,
                    [&[NEXT.len() as u8][..], b"hi", NEXT.as_bytes()].concat(),
                ),
            ],
            r#"POST / "hi""#,
        ),
    ]
}

fn codings() -> Vec<Hostile> {
    let chunks = "0\r\n\r\nGET /next HTTP/1.1\r\nhost: b\r\n\r\n";
    vec![
        post("chunked", &[("transfer-encoding", "chunked")], chunks, "reset"),
        post("chunked in capitals", &[("transfer-encoding", "CHUNKED")], chunks, "reset"),
        post("identity", &[("transfer-encoding", "identity")], chunks, "reset"),
        post("an empty coding", &[("transfer-encoding", "")], chunks, "reset"),
        post(
            "chunked beside a length",
            &[("content-length", "43"), ("transfer-encoding", "chunked")],
            chunks,
            "reset",
        ),
        post("the shadow of a coding", &[("transfer_encoding", "chunked")], "hi", r#"POST / "hi""#),
        post("a coding behind a blank", &[("transfer-encoding ", "chunked")], chunks, "ends"),
        get("connection", &[("connection", "x-secret"), ("x-secret", "1")], "reset"),
        get("an upgrade", &[("upgrade", "websocket")], "reset"),
        get(
            "an upgrade by a nomination",
            &[("connection", "upgrade"), ("upgrade", "h2c")],
            "reset",
        ),
        get("keep-alive", &[("keep-alive", "timeout=1")], "reset"),
        get("proxy-connection", &[("proxy-connection", "keep-alive")], "reset"),
        get("te", &[("te", "chunked")], "reset"),
        get("te: trailers", &[("te", "trailers")], "GET /"),
    ]
}

fn lines() -> Vec<Hostile> {
    vec![
        get("CR LF and a field in a value", &[("x-a", "1\r\ntransfer-encoding: chunked")], "ends"),
        get("CR LF and a request in a value", &[("x-a", "1\r\n\r\nGET /next HTTP/1.1")], "ends"),
        get("LF in a value", &[("x-a", "1\nhost: c")], "ends"),
        get("CR in a value", &[("x-a", "1\rhost: c")], "ends"),
        get("NUL in a value", &[("x-a", "1\0")], "ends"),
        get("a control in a value", &[("x-a", "1\u{1}")], "ends"),
        get("DEL in a value", &[("x-a", "1\u{7f}")], "ends"),
        get("a tab in a value", &[("x-a", "1\t2")], "GET /"),
        get("a tab before a value", &[("x-a", "\t2")], "400"),
        get("a blank behind a value", &[("x-a", "2 ")], "400"),
        get("an empty value", &[("x-a", "")], "GET /"),
        get("a value beyond ASCII", &[("x-a", "\u{e9}\u{20ac}")], "GET /"),
        get("a cookie with a line end", &[("cookie", "a=1"), ("cookie", "b=2\r\nx-a: 1")], "ends"),
        get("cookies in pieces", &[("cookie", "a=1"), ("cookie", "b=2")], "GET /"),
        get("an id with a blank", &[("x-request-id", "a b")], "GET /"),
        get("an id with a line end", &[("x-request-id", "a\r\nx-a: 1")], "ends"),
    ]
}

fn methods() -> Vec<Hostile> {
    vec![
        with("a method with a request line", ":method", "GET /next HTTP/1.1\r\nx: y", "ends"),
        with("a method with a target", ":method", "GET /admin", "ends"),
        with("a method with a tab", ":method", "GET\t", "ends"),
        with("an empty method", ":method", "", "ends"),
        with("a method in lower case", ":method", "get", "get /"),
        with("a method of one's own", ":method", "BREW", "BREW /"),
        with("the method of a preface", ":method", "PRI", "PRI /"),
        with("a colon in a method", ":method", "GET:", "ends"),
        hostile(
            "CONNECT to a host",
            vec![RawFrame::headers(1, &[(":method", "CONNECT"), (":authority", "c:80")], true)],
            "501",
        ),
    ]
}

fn paths() -> Vec<Hostile> {
    vec![
        with("a path with a version", ":path", "/a HTTP/1.1\r\nhost: c\r\n\r\n", "reset"),
        with("a path with a blank", ":path", "/a b", "reset"),
        with("a path with a tab", ":path", "/a\tb", "reset"),
        with("a path with a line end", ":path", "/a\r\nx-a: 1", "reset"),
        with("a path with LF", ":path", "/a\n", "reset"),
        with("a path with NUL", ":path", "/a\0", "reset"),
        // The library cuts it off.
        with("a path with a fragment", ":path", "/a#b", "GET /a"),
        with("a query with a fragment", ":path", "/a?b#c", "GET /a?b"),
        with("an absolute path", ":path", "http://c/a", "reset"),
        with("an absolute path of ours", ":path", "http://b.example/a", "reset"),
        with("two slashes", ":path", "//c/a", "GET //c/a"),
        with("an encoded line end", ":path", "/a%0d%0ax-a:1", "GET /a%0d%0ax-a:1"),
        with("an encoded NUL", ":path", "/a%00", "GET /a%00"),
        with("a percent sign alone", ":path", "/a%", "GET /a%"),
        with("a path beyond ASCII", ":path", "/\u{e9}", "400"),
        with("a backslash", ":path", "/a\\b", "GET /a\\b"),
        with("an asterisk for a GET", ":path", "*", "400"),
        with("an empty path", ":path", "", "reset"),
        with("a query only", ":path", "?a", "400"),
        with("a path without its slash", ":path", "a", "reset"),
        hostile(
            "an asterisk for OPTIONS",
            vec![RawFrame::headers(
                1,
                &changed(&changed(&GET, ":method", "OPTIONS"), ":path", "*"),
                true,
            )],
            "204",
        ),
    ]
}

fn authorities() -> Vec<Hostile> {
    vec![
        with("another authority", ":authority", "c", "GET / c"),
        with("a port", ":authority", "c:8080", "GET / c:8080"),
        with("a port beyond 16 bits", ":authority", "c:65537", "400"),
        with("a port that is none", ":authority", "c:x", "400"),
        with("an authority with a path", ":authority", "c/admin", "reset"),
        with("an authority with a query", ":authority", "c?a", "reset"),
        with("an authority with a fragment", ":authority", "c#a", "reset"),
        with("an authority with a user", ":authority", "b.example@c", "400"),
        with("an authority with a blank", ":authority", "b.example c", "reset"),
        with("an authority with a line end", ":authority", "b\r\nx-a: 1", "reset"),
        with("an authority with NUL", ":authority", "b\0c", "reset"),
        with("an authority with a comma", ":authority", "b,c", "GET / b,c"),
        with("an empty authority", ":authority", "", "reset"),
        get("the same host", &[("host", "b.example")], "GET /"),
        get("the same host in capitals", &[("host", "B.Example")], "GET / B.Example"),
        get("another host", &[("host", "c")], "400"),
        get("the same host with a port", &[("host", "b.example:80")], "400"),
        get("an empty host", &[("host", "")], "400"),
        get("two hosts", &[("host", "b.example"), ("host", "b.example")], "400"),
        get("the shadow of a host", &[("host_", "c"), ("x_forwarded_host", "c")], "GET /"),
        hostile(
            "a host in place of an authority",
            vec![RawFrame::headers(1, &[&GET[..3], &[("host", "c")]].concat(), true)],
            "GET / c",
        ),
        hostile("neither", vec![RawFrame::headers(1, &GET[..3], true)], "400"),
    ]
}

fn pseudo() -> Vec<Hostile> {
    let twice = |name: &'static str, value: &'static str| {
        vec![RawFrame::headers(1, &[&GET[..], &[(name, value)]].concat(), true)]
    };
    vec![
        hostile("two methods", twice(":method", "POST"), "reset"),
        hostile("two paths", twice(":path", "/next"), "reset"),
        hostile("two authorities", twice(":authority", "c"), "reset"),
        hostile("two schemes", twice(":scheme", "http"), "reset"),
        hostile("one that nobody knows", twice(":next", "1"), "ends"),
        hostile("a status", twice(":status", "200"), "reset"),
        hostile("a protocol", twice(":protocol", "websocket"), "reset"),
        hostile(
            "one behind a field",
            vec![RawFrame::headers(1, &[&GET[..3], &[("x-a", "1"), GET[3]]].concat(), true)],
            "reset",
        ),
        with("a scheme that is a URL", ":scheme", "http://c/?", "reset"),
        with("a scheme with a line end", ":scheme", "http\r\nx-a: 1", "reset"),
        with("a scheme of one's own", ":scheme", "gopher", "400"),
        with("an empty scheme", ":scheme", "", "400"),
    ]
}

fn names() -> Vec<Hostile> {
    let long = "x".repeat(70_000);
    vec![
        get("a name in capitals", &[("X-A", "1")], "ends"),
        get("an empty name", &[("", "1")], "ends"),
        get("a name with a colon", &[("x-a: 1\r\nx-b", "1")], "ends"),
        get("a name that ends with a colon", &[("x-a:", "1")], "ends"),
        get("a name with a blank", &[("x a", "1")], "ends"),
        get("a name with NUL", &[("x-a\0", "1")], "ends"),
        get("a name beyond ASCII", &[("x-\u{e9}", "1")], "ends"),
        // The library takes it.
        get("a name with a quote", &[("x\"a", "1")], "400"),
        get("a name that is a request line", &[("GET /next HTTP/1.1", "1")], "ends"),
        get("a name with odd letters", &[("x!#$%&'*+.^`|~", "1")], "GET /"),
        get("fields without number", &vec![("x-a", "1"); 101], "431"),
        hostile(
            "a value without end",
            {
                let block = header_block(&[&GET[..], &[("x-a", &long)]].concat());
                let mut pieces = block.chunks(16_000);
                let first = pieces.next().unwrap_or_default();
                let begin = RawFrame::new(kind::HEADERS, flag::END_STREAM, 1, first);
                let mut frames = vec![begin];
                frames.extend(pieces.map(|piece| RawFrame::new(kind::CONTINUATION, 0, 1, piece)));
                frames.last_mut().expect("several").flags |= flag::END_HEADERS;
                frames
            },
            "431",
        ),
        get("an expectation", &[("expect", "the-impossible")], "417"),
        get("of a proxy", &[("proxy-authorization", "Basic YTpi")], "GET /"),
        get("where it comes from", &[("x-forwarded-for", "1.2.3.4\t, c")], "GET /"),
    ]
}

fn trailers() -> Vec<Hostile> {
    let hi = r#"POST / "hi""#;
    vec![
        trailed("one that was announced", &[("x-sum", "1")], hi),
        trailed("a length", &[("content-length", "99")], hi),
        trailed("a coding", &[("transfer-encoding", "chunked")], "reset"),
        trailed("connection", &[("connection", "close")], "reset"),
        trailed("a host", &[("host", "c")], hi),
        trailed("a pseudo-header", &[(":path", "/next")], hi),
        trailed("a line end", &[("x-sum", "1\r\n\r\nGET /next HTTP/1.1")], "ends"),
        trailed("a name with a line end", &[("x-sum\r\n\r\nx", "1")], "ends"),
        trailed("a name in capitals", &[("X-Sum", "1")], "ends"),
        trailed("a blank behind a value", &[("x-sum", "1 ")], "400"),
        trailed("a name with a quote", &[("x\"a", "1")], "400"),
        trailed("an authorization", &[("authorization", "Basic YTpi")], hi),
        trailed("where it comes from", &[("x-forwarded-for", "1.2.3.4")], hi),
    ]
}
