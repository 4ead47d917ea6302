//! Chunks, what may stand behind their length, and what comes after them.

use super::odd::OddRequest;

macro_rules! chunked {
    ($body:literal) => {
        concat!("POST /a HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n", $body)
    };
}

const fn alike(what: &'static str, sent: &'static str, seen: &'static str) -> OddRequest {
    OddRequest::alike(what, sent, seen)
}

const ANYTHING: &str = "it takes anything for an extension";
const BLANKS: &str = "it takes blanks behind a length";

pub(super) const CHUNKS: &[OddRequest] = &[
    alike("several", chunked!("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), r#"POST /a "hello""#),
    alike("none", chunked!("0\r\n\r\n"), "POST /a"),
    alike("cut off", chunked!("5\r\nhel"), "…"),
    alike("without the last one", chunked!("5\r\nhello\r\n"), "…"),
    alike("without the last line", chunked!("5\r\nhello\r\n0\r\n"), "…"),
    alike("leading zeros", chunked!("005\r\nhello\r\n000\r\n\r\n"), r#"POST /a "hello""#),
    alike("capitals", chunked!("A\r\n0123456789\r\n0\r\n\r\n"), r#"POST /a "0123456789""#),
    alike("16 digits", chunked!("0000000000000002\r\nhi\r\n0\r\n\r\n"), r#"POST /a "hi""#),
    alike("17 digits", chunked!("00000000000000002\r\nhi\r\n0\r\n\r\n"), "Chunk")
        .but("it takes any number of leading zeros")
        .alone("who counts 64 bits by digits reads another number than who counts by value"),
    alike("more than 64 bits", chunked!("10000000000000002\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("a prefix", chunked!("0x2\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("a sign", chunked!("+2\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("a minus", chunked!("-2\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("an underscore", chunked!("1_0\r\n0123456789abcdef\r\n0\r\n\r\n"), "Chunk"),
    alike("no digits", chunked!("\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("a letter", chunked!("g\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("a blank before", chunked!(" 2\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("a blank behind", chunked!("2 \r\nhi\r\n0\r\n\r\n"), "Chunk").but(BLANKS),
    alike("a tab behind", chunked!("2\t\r\nhi\r\n0\r\n\r\n"), "Chunk").but(BLANKS),
    alike("a second number", chunked!("2 2\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("an extension", chunked!("2;a=b\r\nhi\r\n0\r\n\r\n"), r#"POST /a "hi""#),
    alike("a quoted one", chunked!("2;a=\"b;\"\r\nhi\r\n0\r\n\r\n"), r#"POST /a "hi""#),
    alike("one behind a blank", chunked!("2 ;a\r\nhi\r\n0\r\n\r\n"), r#"POST /a "hi""#),
    alike("an empty one", chunked!("2;\r\nhi\r\n0\r\n\r\n"), r#"POST /a "hi""#),
    alike("with a LF", chunked!("2;a\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("with a CR", chunked!("2;a\rb\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("with a NUL", chunked!("2;a\0b\r\nhi\r\n0\r\n\r\n"), "Chunk").but(ANYTHING),
    alike("with a control", chunked!("2;a\u{1}\r\nhi\r\n0\r\n\r\n"), "Chunk").but(ANYTHING),
    alike(
        "whose LF hides a chunk",
        chunked!("2;\nxx\r\n4c\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: b\r\n\r\n"),
        "Chunk",
    ),
    alike("a CR instead of CR LF", chunked!("2\rhi\r\n0\r\n\r\n"), "Chunk"),
    alike("a LF instead of CR LF", chunked!("2\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("two CR", chunked!("2\r\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("LF behind the data", chunked!("2\r\nhi\n0\r\n\r\n"), "Chunk"),
    alike("CR behind the data", chunked!("2\r\nhi\r0\r\n\r\n"), "Chunk"),
    alike("nothing behind the data", chunked!("2\r\nhi0\r\n\r\n"), "Chunk"),
    alike("two more bytes", chunked!("2\r\nhixx0\r\n\r\n"), "Chunk"),
    alike("data that is too long", chunked!("2\r\nhello\r\n0\r\n\r\n"), "Chunk"),
    alike("data that is too short", chunked!("5\r\nhi\r\n0\r\n\r\n"), "Chunk"),
    alike("LF behind the last one", chunked!("2\r\nhi\r\n0\n\r\n"), "Chunk"),
    alike("all with LF", chunked!("2\nhi\n0\n\n"), "Chunk"),
    alike(
        "and then the next request",
        chunked!("0\r\n\r\nGET /next HTTP/1.1\r\nHost: b\r\n\r\n"),
        "POST /a | GET /next",
    ),
    alike(
        "a last one that is not 0 in all readings",
        chunked!("0;\r\n\r\nGET /next HTTP/1.1\r\nHost: b\r\n\r\n"),
        "POST /a | GET /next",
    ),
    alike(
        "the example of RFC 9112, 7.1.3",
        chunked!("4\r\nWiki\r\n5\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\n\r\n"),
        r#"POST /a "Wikipedia in\r\n\r\nchunks.""#,
    ),
];

const WAITS: &str = "it waits for a CR LF";
const ROUTES: &str = "it takes any trailer";

pub(super) const TRAILERS: &[OddRequest] = &[
    alike("one", chunked!("0\r\nX-Sum: 1\r\n\r\n"), "POST /a (x-sum: 1)"),
    alike("two of a name", chunked!("0\r\nX: 1\r\nX: 2\r\n\r\n"), "POST /a (x: 1) (x: 2)"),
    alike("a length", chunked!("0\r\nContent-Length: 5\r\n\r\n"), "POST /a").but(ROUTES),
    alike("a coding", chunked!("0\r\nTransfer-Encoding: chunked\r\n\r\n"), "POST /a").but(ROUTES),
    alike("a host", chunked!("0\r\nHost: c\r\n\r\n"), "POST /a").but(ROUTES),
    alike("an origin", chunked!("0\r\nX-Forwarded-For: 1\r\n\r\n"), "POST /a").but(ROUTES),
    alike("its shadow", chunked!("0\r\nX_Forwarded_For: 1\r\n\r\n"), "POST /a").but(ROUTES),
    alike("a credential", chunked!("0\r\nAuthorization: a\r\n\r\n"), "POST /a").but(ROUTES),
    alike("cut off", chunked!("0\r\nX: 1\r\n"), "…"),
    alike("no name", chunked!("0\r\n: 1\r\n\r\n"), "Trailers"),
    alike("no colon", chunked!("0\r\nX\r\n\r\n"), "Trailers"),
    alike("a blank before the colon", chunked!("0\r\nX : 1\r\n\r\n"), "Trailers"),
    alike("folded", chunked!("0\r\nX: 1\r\n 2\r\n\r\n"), "Trailers"),
    alike("a NUL", chunked!("0\r\nX: \0\r\n\r\n"), "Trailers"),
    alike("a LF", chunked!("0\r\nX: 1\n\r\n"), "Trailers").but("it takes a LF for an end"),
    alike("LF as the last line", chunked!("0\r\nX: 1\r\n\n"), "Trailers").but(WAITS),
    alike("LF and nothing else", chunked!("0\r\n\n"), "Trailers").but(WAITS),
    alike("a CR", chunked!("0\r\nX: 1\rY: 2\r\n\r\n"), "Trailers"),
    alike(
        "a request in its place",
        chunked!("0\r\nGET /next HTTP/1.1\r\nHost: b\r\n\r\n"),
        "Trailers",
    ),
];
