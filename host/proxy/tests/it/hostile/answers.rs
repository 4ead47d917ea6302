//! Fallbacks that answer what cannot be sent, and what becomes of what a fallback may send.

use fusebox_dev::{Message, get};
use serde_json::json;

use super::guest::Guest;
use super::{Hostile, MEMORY, origin, proxy};
use crate::support::Proxy;

/// Where the list of headers is, the texts, and what is beyond both.
const LIST: u32 = 1024;
const TEXTS: usize = 4096;

/// Answers this, whatever it is.
fn answers(status: u16, headers: &[(&[u8], &[u8])], body: &[u8]) -> Guest {
    let (mut list, mut texts) = (Vec::new(), Vec::new());
    for (name, value) in headers {
        for text in [name, value] {
            list.extend(address(TEXTS + texts.len()).to_le_bytes());
            list.extend(address(text.len()).to_le_bytes());
            texts.extend_from_slice(text);
        }
    }
    let at = address(TEXTS + texts.len());
    texts.extend_from_slice(body);
    let data = |at, bytes: &[u8]| {
        let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        format!(r#"(data (i32.const {at}) "{bytes}")"#)
    };
    let fields = data(LIST, &list) + &data(address(TEXTS), &texts);
    lies(status, (LIST, address(headers.len())), (0, at, address(body.len()))).with(&fields)
}

fn address(length: usize) -> u32 {
    u32::try_from(length).expect("it fits into a guest")
}

/// Answers with a list of headers and a content at these addresses and of these lengths, in a
/// memory of 19 MiB.
fn lies(status: u16, (list, headers): (u32, u32), (kind, body, length): (u8, u32, u32)) -> Guest {
    Guest::answering(&format!(
        "(if (i32.lt_u (memory.size) (i32.const 300)) (then (drop (memory.grow (i32.const 300)))))
         (i32.store8 (i32.const 128) (i32.const 1))
         (i32.store16 (i32.const 132) (i32.const {status}))
         (i32.store (i32.const 136) (i32.const {list}))
         (i32.store (i32.const 140) (i32.const {headers}))
         (i32.store8 (i32.const 144) (i32.const {kind}))
         (i32.store (i32.const 148) (i32.const {body}))
         (i32.store (i32.const 152) (i32.const {length}))
         (i32.const 128)"
    ))
}

#[track_caller]
fn declines(name: &str, guest: Guest) {
    Hostile { only_responds: true, ..Hostile::failing(name, guest) }.costs_only_its_own_call();
}

#[test]
fn a_status_that_is_none_is_not_sent() {
    for status in [0, 99, 100, 101, 199, 600, 1000, 65535] {
        declines(&format!("has a status of {status}"), answers(status, &[], b"x"));
    }
}

#[test]
fn headers_that_are_none_are_not_sent() {
    for (name, header) in [
        ("has a name with a space", (&b"x y"[..], &b"z"[..])),
        ("has a name with a colon", (b"x:y", b"z")),
        ("has a name with a line end", (b"x\r\ny: z", b"z")),
        ("has a name with a NUL", (b"x\0", b"z")),
        ("has an empty name", (b"", b"z")),
        ("has a name that is not ASCII", ("xü".as_bytes(), b"z")),
        ("has a value with a line end", (b"x", b"y\r\nz: z")),
        ("has a value with a NUL", (b"x", b"y\0")),
        ("has a value with a wide character", (b"x", "\u{100}".as_bytes())),
        ("has a name that is no text", (b"\xff", b"z")),
        ("has a value that is no text", (b"x", b"\xff")),
    ] {
        declines(name, answers(200, &[(b"first", b"good"), header], b"x"));
    }
    // A megabyte of `x`: the log has only its beginning.
    let long = "(drop (memory.grow (i32.const 300)))
          (memory.fill (i32.const 65536) (i32.const 120) (i32.const 1000000))
        (i32.store (i32.const 1024) (i32.const 65536))
          (i32.store (i32.const 1028) (i32.const 1000000))";
    declines("has a name of a megabyte", lies(200, (LIST, 1), (0, 0, 0)).starting(long));
    declines("has a body that is no text", answers(200, &[], b"x\xffx"));
    declines("has too many headers", answers(200, &[(&b"x"[..], &b"y"[..]); 101], b""));
}

#[test]
fn answers_that_lie_are_not_read() {
    let body = (0, 0, 0);
    for (name, guest) in [
        // All of these are there: their names and values are empty.
        ("has as many headers as fit", lies(200, (65536, 20_000), body)),
        ("has a million headers", lies(200, (65536, 1_000_000), body)),
        ("has headers without end", lies(200, (LIST, u32::MAX), body)),
        ("has headers at the end of the world", lies(200, (1 << 30, 1), body)),
        ("has headers in between", lies(200, (LIST + 1, 1), body)),
        ("has a giant body", lies(200, (LIST, 0), (1, 0, 2_000_000))),
        ("has a body without end", lies(200, (LIST, 0), (0, 0, u32::MAX))),
        ("has a body of no kind", lies(200, (LIST, 0), (2, 0, 0))),
        (
            "is no answer",
            Guest::answering("(i32.store8 (i32.const 128) (i32.const 2)) (i32.const 128)"),
        ),
        ("is nowhere", Guest::answering("(i32.const -16)")),
        ("is in between", Guest::answering("(i32.const 129)")),
    ] {
        declines(name, guest);
    }
}

/// What the client gets, on a connection on which more is asked before and after.
#[track_caller]
fn answered(proxy: &Proxy, method: &str, id: &str) -> Message {
    let mut wire = proxy.connect();
    assert_eq!(wire.ask(get("/plain", "before")).text(), "plain");
    wire.send(get("/fallback", id).replacen("GET", method, 1));
    let response = if method == "HEAD" { wire.head().expect("a head") } else { wire.response() };
    assert_eq!(wire.ask(get("/plain", "after")).text(), "plain", "{response:?}");
    response
}

#[test]
fn headers_of_the_connection_do_not_reach_the_client_and_the_body_is_framed_by_the_proxy() {
    let forbidden: [(&[u8], &[u8]); 10] = [
        (b"connection", b"close, x-kept"),
        (b"Content-Length", b"9999"),
        (b"transfer-encoding", b"chunked"),
        (b"TE", b"trailers"),
        (b"trailer", b"x-kept"),
        (b"upgrade", b"websocket"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"close"),
        (b"proxy-authenticate", b"Basic"),
        (b"proxy-authorization", b"Basic eA=="),
    ];
    let kept: (&[u8], &[u8]) = (b"x-kept", b"kept");
    let origin = origin();
    let headers: Vec<_> = forbidden.into_iter().chain([kept]).collect();
    let proxy = proxy(&origin, &answers(200, &headers, b"whole").component(), "timeout = '10s'");
    for (round, method) in ["GET", "POST", "HEAD", "GET"].into_iter().enumerate() {
        let response = answered(&proxy, method, &round.to_string());
        assert_eq!((response.status(), response.header("x-kept")), (200, Some("kept")));
        assert_eq!(response.header("content-length"), Some("5"), "{response:?}");
        assert_eq!(response.text(), if method == "HEAD" { "" } else { "whole" });
        for (name, _) in forbidden {
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if name != "content-length" {
                assert_eq!(response.header(&name), None, "{response:?}");
            }
        }
        let story = proxy.story(&round.to_string());
        let dropped = story.iter().filter(|line| line["msg"] == "Component printed").count();
        assert_eq!(dropped, forbidden.len(), "{story:?}");
    }
}

#[test]
fn an_answer_that_has_no_body_is_sent_without_the_one_that_came_with_it() {
    for status in [204, 205, 304] {
        let origin = origin();
        let proxy = proxy(&origin, &answers(status, &[], b"body").component(), "timeout = '10s'");
        for (round, method) in ["GET", "HEAD", "GET"].into_iter().enumerate() {
            let response = answered(&proxy, method, &round.to_string());
            assert_eq!((response.status(), response.text()), (status, ""), "{method} {response:?}");
            let said = format!("body of the response dropped: `{status}` has none");
            assert_eq!(proxy.story(&round.to_string())[0]["line"], said);
        }
    }
}

#[test]
fn an_answer_as_long_as_allowed_arrives_whole_and_leaves_nothing_behind() {
    let origin = origin();
    let guest = lies(200, (LIST, 0), (1, 65536, (1 << 20) - 64));
    let proxy = proxy(&origin, &guest.component(), "timeout = '10s'");
    for round in 0..50 {
        let response = answered(&proxy, "GET", &round.to_string());
        assert_eq!((response.status(), response.body.len()), (200, (1 << 20) - 64));
    }
    assert!(proxy.peak_memory() < MEMORY, "{} MiB", proxy.peak_memory() >> 20);
    assert_eq!(proxy.state()["components"]["c"]["instances"], 1);
    assert_eq!(proxy.lines("Component printed"), [json!(null); 0]);
}
