//! Odd and hostile responses, one by one.

use crate::seen::{End, Seen, hypers, hypers_until, ours, ours_until};

/// Read alike by both, whole and in pieces of one byte.
const ALIKE: &[&str] = &[
    // Lengths.
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello and what nobody asked for",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5, 6\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5,\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 0x5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 5 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length:  5 \r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 0000000000000000000000005\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551616\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    // Until the connection ends.
    "HTTP/1.1 200 OK\r\n\r\nto the end",
    "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\nto the end",
    "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",
    // Chunks.
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: CHUNKED\r\n\r\n00a\r\n0123456789\r\n00\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5 \t\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\
     x-sum: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
     and what nobody asked for",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: 1\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n;a\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5 5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nno colon\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: 1\ny: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n5\r\nhello\r\n\
     0\r\n\r\n",
    "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    // Responses that have no body, whatever they say.
    "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n",
    // Interim responses.
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
     HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\
     \r\nok",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 199 What\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    // Heads.
    "",
    "H",
    "HTTP/1.1 200 OK\r\nx: 1\r\n",
    "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 \r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 All r\u{ef}ght\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 999 ?\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 099 ?\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 1000 ?\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 20x OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.2 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/2.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "http/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1  200 OK\r\ncontent-length: 2\r\n\r\nok",
    "\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "ICY 200 OK\r\n\r\nok",
    "hello, this is no HTTP at all\r\n\r\n",
    "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
    "HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\nok",
    "HTTP/1.1 200 OK\rcontent-length: 2\r\r\nok",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a\r\nset-cookie: b\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nempty:\r\nspaced: \t a b \t \r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nfolded: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\n: no name\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nno colon\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nb(d: 1\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx: nul \0\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx: del \u{7f}\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx: return \r here\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx: \u{fc}tf-8\r\ncontent-length: 2\r\n\r\nok",
];

/// Refused here, or cut off, though hyper takes them: what stands in the way of the next who reads
/// them differently.
const STRICTER: &[(&str, &str)] = &[
    (
        "another coding beneath",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    ("another coding alone", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello"),
    (
        "a coding twice",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "a coding in two fields",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n5\r\n\
         hello\r\n0\r\n\r\n",
    ),
    ("an empty coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: \r\n\r\nhello"),
    (
        "a chunk's length of more than 16 digits",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n\
         0\r\n\r\n",
    ),
];

fn byte_by_byte(response: &str) -> Vec<&[u8]> {
    response.as_bytes().chunks(1).collect()
}

#[test]
fn what_both_take_they_read_alike() {
    for response in ALIKE {
        let whole = [response.as_bytes()];
        let expected = hypers(&whole, false);
        assert_eq!(ours(&whole, false), expected, "{response:?}");
        assert_eq!(ours(&byte_by_byte(response), false), expected, "{response:?} byte by byte");
        // hyper looks at no length where there is no body; a wrong one is no better there.
        let to_head = ours(&whole, true);
        assert!(!to_head.is_whole() || to_head == hypers(&whole, true), "{response:?} to HEAD");
    }
}

/// Cut off by a reset after each of its bytes: no end of the connection that nobody meant is taken
/// for the end of a body.
#[test]
fn a_reset_leaves_alike_what_came_before() {
    for response in ALIKE {
        for length in 0..=response.len() {
            let pieces = [&response.as_bytes()[..length]];
            let expected = hypers_until(End::Reset, &pieces, false);
            assert_eq!(
                ours_until(End::Reset, &pieces, false),
                expected,
                "{response:?} up to {length}"
            );
        }
    }
    let endless = [&b"HTTP/1.1 200 OK\r\n\r\nto the end"[..]];
    assert!(
        ours(&endless, false).is_whole() && !ours_until(End::Reset, &endless, false).is_whole()
    );
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (what, response) in STRICTER {
        let whole = [response.as_bytes()];
        assert!(hypers(&whole, false).is_whole(), "{what}: no longer a difference");
        assert!(!ours(&whole, false).is_whole(), "{what}");
        assert!(!ours(&byte_by_byte(response), false).is_whole(), "{what} byte by byte");
    }
}

#[test]
fn a_protocol_that_nobody_asked_for_is_left_to_the_caller() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n\u{1}\u{2}";
    assert!(
        matches!(ours(&[switch.as_bytes()], false), Seen::Response { status, .. } if status == 101)
    );
}
