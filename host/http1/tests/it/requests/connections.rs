//! Several requests on one connection, and whether there may be.

use super::odd::OddRequest;

macro_rules! get {
    ($fields:literal) => {
        concat!("GET /a HTTP/1.1\r\nHost: b\r\n", $fields, "\r\n")
    };
}

macro_rules! next {
    () => {
        "GET /next HTTP/1.1\r\nHost: b\r\n\r\n"
    };
}

const fn alike(what: &'static str, sent: &'static str, seen: &'static str) -> OddRequest {
    OddRequest::alike(what, sent, seen)
}

pub(super) const CONNECTIONS: &[OddRequest] = &[
    alike("two", concat!(get!(""), next!()), "GET /a | GET /next"),
    alike(
        "five",
        concat!(next!(), next!(), next!(), next!(), next!()),
        "GET /next | GET /next | GET /next | GET /next | GET /next",
    ),
    alike(
        "with bodies",
        concat!(
            "POST /1 HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\none",
            "POST /2 HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n",
            "3\r\ntwo\r\n0\r\n\r\n",
            "POST /3 HTTP/1.1\r\nHost: b\r\n\r\n",
            next!()
        ),
        r#"POST /1 "one" | POST /2 "two" | POST /3 | GET /next"#,
    ),
    alike(
        "a blank line between them",
        concat!("POST /1 HTTP/1.1\r\nHost: b\r\nContent-Length: 3\r\n\r\none\r\n", next!()),
        r#"POST /1 "one" | GET /next"#,
    ),
    alike("a LF between them", concat!(get!(""), "\n", next!()), "GET /a | 400 line-end")
        .but("it takes a LF for the end of a line"),
    alike("a byte too many", concat!(get!(""), "\0"), "GET /a | 400 request-line"),
    alike("half of another one", concat!(get!(""), "GET /ne"), "GET /a | …"),
    alike("close", concat!(get!("Connection: close\r\n"), next!()), "GET /a | end"),
    alike("close in capitals", concat!(get!("CONNECTION: CLOSE\r\n"), next!()), "GET /a | end"),
    alike("close in a list", concat!(get!("Connection: x, close\r\n"), next!()), "GET /a | end"),
    alike(
        "close and keep-alive",
        concat!(get!("Connection: keep-alive, close\r\n"), next!()),
        "GET /a | end",
    ),
    alike(
        "close in a second field",
        concat!(get!("Connection: keep-alive\r\nConnection: close\r\n"), next!()),
        "GET /a | end",
    ),
    alike("almost close", concat!(get!("Connection: closed\r\n"), next!()), "GET /a | GET /next"),
    alike(
        "close behind a body",
        concat!(
            "POST /a HTTP/1.1\r\nHost: b\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
            next!()
        ),
        r#"POST /a "hi" | end"#,
    ),
    alike("1.0", concat!("GET /a HTTP/1.0\r\n\r\n", next!()), "GET /a | end"),
    alike(
        "1.0 with a length",
        concat!("POST /a HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi", next!()),
        r#"POST /a "hi" | end"#,
    ),
    alike("1.0 without one", concat!("POST /a HTTP/1.0\r\n\r\nhi", next!()), "POST /a | end"),
    alike(
        "1.0 that is kept",
        concat!("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", next!()),
        "GET /a | GET /next",
    ),
    alike(
        "1.0 with another name for it",
        concat!("GET /a HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n", next!()),
        "GET /a | end",
    ),
    alike(
        "an upgrade that nobody makes",
        concat!(get!("Connection: upgrade\r\nUpgrade: websocket\r\n"), next!()),
        "GET /a | GET /next",
    ),
    alike(
        "an upgrade to HTTP/2",
        concat!(
            get!("Connection: upgrade, settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"),
            next!()
        ),
        "GET /a | GET /next",
    ),
    alike(
        "a host that is nominated",
        concat!(get!("Connection: host, x-forwarded-for\r\n"), next!()),
        "GET /a | GET /next",
    ),
    alike(
        "an expectation that nobody knows",
        concat!(get!("Expect: the-impossible\r\n"), next!()),
        "GET /a | GET /next",
    ),
    alike("the shadow of nobody", get!("Host_: c\r\n_Host: c\r\n"), "GET /a"),
    alike(
        "shadows of who asks",
        get!("X_Forwarded_For: 1\r\nX-Forwarded_Proto: https\r\nX_Real_IP: 1\r\n"),
        "GET /a",
    )
    .but("it has no notion of shadows"),
];

/// This crate leaves them to whoever routes.
pub(super) const HOSTS: &[OddRequest] = &[
    alike("no host", "GET /a HTTP/1.1\r\n\r\n", "GET /a"),
    alike("two hosts", get!("Host: c\r\n"), "GET /a"),
    alike("an odd host", "GET /a HTTP/1.1\r\nHost: u@b:x/y\r\n\r\n", "GET /a"),
];
