//! How bodies end, and how they seem to.

use super::odd::OddRequest;

macro_rules! post {
    ($fields:literal, $rest:literal) => {
        concat!("POST /a HTTP/1.1\r\nHost: b\r\n", $fields, "\r\n", $rest)
    };
}

/// What is smuggled, if it is.
macro_rules! next {
    () => {
        "GET /next HTTP/1.1\r\nHost: b\r\n\r\n"
    };
}

const fn alike(what: &'static str, sent: &'static str, seen: &'static str) -> OddRequest {
    OddRequest::alike(what, sent, seen)
}

const SHADOWS: &str = "it has no notion of shadows";
const LISTS: &str = "it takes no lists of lengths, not even of equal ones";

pub(super) const LENGTHS: &[OddRequest] = &[
    alike("a length", post!("Content-Length: 5\r\n", "hello"), r#"POST /a "hello""#),
    alike("a length of 0", post!("Content-Length: 0\r\n", ""), "POST /a"),
    alike("none", post!("", ""), "POST /a"),
    alike("one that is too long", post!("Content-Length: 9\r\n", "hello"), "…"),
    alike(
        "one that is too short",
        post!("Content-Length: 4\r\n", "hello / HTTP/1.1\r\nHost: b\r\n\r\n"),
        r#"POST /a "hell" | o /"#,
    ),
    alike(
        "a body with a GET",
        "GET / HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nhi",
        r#"GET / "hi""#,
    ),
    alike(
        "a body with a HEAD",
        "HEAD / HTTP/1.1\r\nHost: b\r\nContent-Length: 2\r\n\r\nhi",
        r#"HEAD / "hi""#,
    ),
    alike("twice", post!("Content-Length: 2\r\nContent-Length: 2\r\n", "hi"), r#"POST /a "hi""#),
    alike("a list of equal ones", post!("Content-Length: 2, 2\r\n", "hi"), r#"POST /a "hi""#)
        .but(LISTS),
    alike("leading zeros", post!("Content-Length: 002\r\n", "hi"), r#"POST /a "hi""#),
    alike(
        "many leading zeros",
        post!("Content-Length: 00000000000000000000000002\r\n", "hi"),
        r#"POST /a "hi""#,
    ),
    alike(
        "two that differ",
        post!("Content-Length: 2\r\nContent-Length: 3\r\n", "hi!"),
        "400 different-lengths",
    ),
    alike(
        "two that differ, the first one 0",
        concat!(post!("Content-Length: 0\r\nContent-Length: 31\r\n", ""), next!()),
        "400 different-lengths",
    ),
    alike("a list that differs", post!("Content-Length: 2, 3\r\n", "hi!"), "400 different-lengths"),
    alike("a list with an end", post!("Content-Length: 2,\r\n", "hi"), "400 content-length"),
    alike("an empty one", post!("Content-Length: \r\n", "hi"), "400 content-length"),
    alike("a sign", post!("Content-Length: +2\r\n", "hi"), "400 content-length"),
    alike("a minus", post!("Content-Length: -2\r\n", "hi"), "400 content-length"),
    alike("hexadecimal", post!("Content-Length: 0x2\r\n", "hi"), "400 content-length"),
    alike("two in one", post!("Content-Length: 2 2\r\n", "hi"), "400 content-length"),
    alike("a fraction", post!("Content-Length: 2.0\r\n", "hi"), "400 content-length"),
    alike("an exponent", post!("Content-Length: 2e0\r\n", "hi"), "400 content-length"),
    alike("an underscore", post!("Content-Length: 1_0\r\n", "0123456789"), "400 content-length"),
    alike("in quotes", post!("Content-Length: \"2\"\r\n", "hi"), "400 content-length"),
    alike("a parameter", post!("Content-Length: 2;a=b\r\n", "hi"), "400 content-length"),
    alike("a word", post!("Content-Length: two\r\n", "hi"), "400 content-length"),
    alike(
        "digits of another script",
        post!("Content-Length: \u{662}\r\n", "hi"),
        "400 content-length",
    ),
    alike(
        "more than 64 bits",
        post!("Content-Length: 18446744073709551618\r\n", "hi"),
        "400 content-length",
    ),
    alike("blanks around it", post!("Content-Length: \t 2 \t\r\n", "hi"), r#"POST /a "hi""#),
    alike("a form feed before it", post!("Content-Length: \u{c}2\r\n", "hi"), "400 field-value"),
    alike(
        "its shadow",
        concat!(post!("Content_Length: 31\r\n", ""), next!()),
        "POST /a | GET /next",
    )
    .but(SHADOWS),
    alike(
        "it beside its shadow",
        post!("Content-Length: 2\r\ncontent_length: 0\r\n", "hi"),
        r#"POST /a "hi""#,
    )
    .but(SHADOWS),
];

pub(super) const CODINGS: &[OddRequest] = &[
    alike(
        "chunks",
        post!("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        r#"POST /a "hello""#,
    ),
    alike(
        "in capitals",
        post!("TRANSFER-ENCODING: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        r#"POST /a "hello""#,
    ),
    alike(
        "a GET in chunks",
        "GET / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        r#"GET / "hi""#,
    ),
    alike("another one", post!("Transfer-Encoding: gzip\r\n", "hi"), "501 coding"),
    alike("none at all", post!("Transfer-Encoding: identity\r\n", "hi"), "501 coding"),
    alike("an empty one", post!("Transfer-Encoding: \r\n", "hi"), "501 coding"),
    alike(
        "another one beneath",
        post!("Transfer-Encoding: gzip, chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
        "501 coding",
    )
    .but("it takes what ends with `chunked`"),
    alike(
        "another one above",
        post!("Transfer-Encoding: chunked, gzip\r\n", "2\r\nhi\r\n0\r\n\r\n"),
        "501 coding",
    ),
    alike(
        "identity above",
        post!("Transfer-Encoding: chunked, identity\r\n", "2\r\nhi\r\n0\r\n\r\n"),
        "501 coding",
    ),
    alike(
        "twice in a list",
        post!("Transfer-Encoding: chunked, chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
        "501 coding",
    )
    .but("it takes what ends with `chunked`"),
    alike(
        "in two fields",
        post!(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "2\r\nhi\r\n0\r\n\r\n"
        ),
        "501 coding",
    )
    .but("it takes what ends with `chunked`"),
    alike(
        "an unknown one in a second field",
        post!("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "2\r\nhi\r\n0\r\n\r\n"),
        "501 coding",
    ),
    alike(
        "an unknown one in a first field",
        post!("Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n"),
        "501 coding",
    )
    .but("it takes what ends with `chunked`"),
    alike(
        "a list with an end",
        post!("Transfer-Encoding: chunked,\r\n", "0\r\n\r\n"),
        "501 coding",
    ),
    alike(
        "a list with a beginning",
        post!("Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n"),
        "501 coding",
    )
    .but("it takes what ends with `chunked`"),
    alike("a parameter", post!("Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n"), "501 coding"),
    alike("in quotes", post!("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n"), "501 coding"),
    alike("in single quotes", post!("Transfer-Encoding: 'chunked'\r\n", "0\r\n\r\n"), "501 coding"),
    alike(
        "a letter before it",
        post!("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        "501 coding",
    ),
    alike(
        "a letter behind it",
        post!("Transfer-Encoding: chunkedx\r\n", "0\r\n\r\n"),
        "501 coding",
    ),
    alike("a letter missing", post!("Transfer-Encoding: chunke\r\n", "0\r\n\r\n"), "501 coding"),
    alike("a blank in it", post!("Transfer-Encoding: chunk ed\r\n", "0\r\n\r\n"), "501 coding"),
    alike(
        "a wide space before it",
        post!("Transfer-Encoding: \u{a0}chunked\r\n", "0\r\n\r\n"),
        "501 coding",
    ),
    alike("a tab before it", post!("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"), "POST /a"),
    alike("nothing before it", post!("Transfer-Encoding:chunked\r\n", "0\r\n\r\n"), "POST /a"),
    alike(
        "a vertical tab before it",
        post!("Transfer-Encoding: \u{b}chunked\r\n", "0\r\n\r\n"),
        "400 field-value",
    ),
    alike(
        "a NUL behind it",
        post!("Transfer-Encoding: chunked\0\r\n", "0\r\n\r\n"),
        "400 field-value",
    ),
    alike(
        "a blank before the colon",
        post!("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        "400 field-name",
    ),
    alike(
        "a tab before the colon",
        post!("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n"),
        "400 field-name",
    ),
    alike(
        "a blank before the name",
        post!(" Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        "400 folding",
    ),
    alike(
        "on a second line",
        post!("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"),
        "400 folding",
    ),
    alike(
        "a CR before it",
        post!("X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        "400 line-end",
    ),
    alike(
        "a LF before it",
        post!("X: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        "400 line-end",
    )
    .but("it takes a LF for the end of a line"),
    alike(
        "its shadow",
        concat!(post!("Transfer_Encoding: chunked\r\n", ""), next!()),
        "POST /a | GET /next",
    )
    .but(SHADOWS),
    alike(
        "nominated as an option of the connection",
        post!("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        "POST /a",
    ),
    alike(
        "in HTTP/1.0",
        "POST /a HTTP/1.0\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400 coding-in-http-1.0",
    ),
    alike(
        "in HTTP/1.0 that is kept",
        "POST /a HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "400 coding-in-http-1.0",
    ),
];

/// One side reads a length, the other one a coding, or one of them neither.
pub(super) const DESYNC: &[OddRequest] = &[
    alike(
        "CL.TE",
        concat!(
            post!("Content-Length: 36\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            next!()
        ),
        "400 length-and-coding",
    )
    .but(BESIDE),
    alike(
        "TE.CL",
        concat!(
            post!("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "1f\r\n"),
            next!(),
            "\r\n0\r\n\r\n"
        ),
        "400 length-and-coding",
    )
    .but(BESIDE),
    alike(
        "CL.TE with a length of 0",
        post!("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        "400 length-and-coding",
    )
    .but(BESIDE),
    alike(
        "CL.TE with a coding that nobody knows",
        concat!(post!("Content-Length: 0\r\nTransfer-Encoding: x\r\n", ""), next!()),
        "400 length-and-coding",
    ),
    alike(
        "CL.TE hidden behind a tab",
        concat!(
            post!("Content-Length: 36\r\nTransfer-Encoding:\tchunked\r\n", "0\r\n\r\n"),
            next!()
        ),
        "400 length-and-coding",
    )
    .but(BESIDE),
    alike(
        "CL.TE hidden behind a blank",
        concat!(
            post!("Content-Length: 36\r\nTransfer-Encoding : chunked\r\n", "0\r\n\r\n"),
            next!()
        ),
        "400 field-name",
    ),
    alike(
        "CL.TE hidden in a fold",
        concat!(
            post!("Content-Length: 36\r\nX: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            next!()
        ),
        "400 folding",
    ),
    alike(
        "CL.TE hidden behind a CR",
        concat!(
            post!("Content-Length: 36\r\nX: y\r\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            next!()
        ),
        "400 line-end",
    ),
    alike(
        "TE.TE: one of them nobody knows",
        concat!(
            post!("Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n", "0\r\n\r\n"),
            next!()
        ),
        "501 coding",
    ),
    alike(
        "TE.TE: the shadow has another one",
        concat!(
            post!("Transfer-Encoding: chunked\r\nTransfer_Encoding: x\r\n", "0\r\n\r\n"),
            next!()
        ),
        "POST /a | GET /next",
    )
    .but(SHADOWS),
    alike(
        "CL.0: a length that some do not look at",
        concat!(
            "GET /a HTTP/1.1\r\nHost: b\r\nContent-Length: 31\r\n\r\n",
            next!(),
            "GET /own HTTP/1.1\r\nHost: b\r\n\r\n"
        ),
        r#"GET /a "GET /next HTTP/1.1\r\nHost: b\r\n\r\n" | GET /own"#,
    ),
    alike(
        "0.CL: a length that some do not see",
        concat!("GET /a HTTP/1.1\r\nHost: b\r\nContent-Length:\u{a0}31\r\n\r\n", next!()),
        "400 content-length",
    ),
    alike(
        "0.CL: on a second line",
        concat!("GET /a HTTP/1.1\r\nHost: b\r\nContent-Length:\r\n 31\r\n\r\n", next!()),
        "400 folding",
    ),
    alike(
        "0.CL: while it is told to continue",
        concat!(
            "GET /a HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 31\r\n\r\n",
            next!()
        ),
        r#"GET /a "GET /next HTTP/1.1\r\nHost: b\r\n\r\n""#,
    ),
    alike(
        "a length that is nominated",
        concat!(
            "GET /a HTTP/1.1\r\nHost: b\r\n",
            "Connection: Content-Length\r\nContent-Length: 31\r\n\r\n",
            next!()
        ),
        r#"GET /a "GET /next HTTP/1.1\r\nHost: b\r\n\r\n""#,
    ),
    alike(
        "a length that is nominated, and a coding",
        post!(
            "Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "0\r\n\r\n"
        ),
        "400 length-and-coding",
    )
    .but(BESIDE),
    alike(
        "a length with another method's name behind it",
        concat!(post!("Content-Length: 2\r\n", "hiX"), next!()),
        r#"POST /a "hi" | XGET /next"#,
    ),
];

const BESIDE: &str = "it takes the coding, and drops the length";
