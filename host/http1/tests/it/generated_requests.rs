//! Requests put together by chance from what parsers stumble over.

use proptest::prelude::*;

use crate::served::{hypers, is_one_and_the_same, is_taken_alike, ours};

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "GET http://c/ HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "HEAD / HTTP/1.0\r\n",
        "POST",
        " ",
        "/",
        "#",
        "HTTP/1.1",
        "HTTP/1.",
        "\r\n",
        "\r\n",
        "\n",
        "\r",
        "\t",
        "\0",
        ":",
        ";",
        ",",
        "Host: b\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "content-length:",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Trailer: x\r\n",
        "x: y\r\n",
        "hello",
        "5\r\nhello\r\n",
        "5",
        "0",
        "a",
        "0\r\n\r\n",
        "0\r\n",
        "\u{e4}",
        "POST / HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\n\
         x: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 5\r\n\r\nhello",
        "GET /next HTTP/1.1\r\nHost: b\r\n\r\n",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_we_take_is_the_same_in_pieces_for_hyper_and_for_the_next(
        start in prop::bool::weighted(0.8),
        pieces in prop::collection::vec(piece(), 0..14),
    ) {
        let start: &[u8] = if start { b"POST / HTTP/1.1\r\n" } else { b"" };
        let pieces = pieces.iter().map(|piece| piece.as_bytes());
        let pieces: Vec<&[u8]> = std::iter::once(start).chain(pieces).collect();
        let bytes = pieces.concat();
        let whole = ours(&[&bytes]);
        let apart = ours(&pieces);
        prop_assert!(apart.is_same_in_pieces(&whole), "{} but {} in pieces", whole, apart);
        let apart = ours(&bytes.chunks(1).collect::<Vec<_>>());
        prop_assert!(apart.is_same_in_pieces(&whole), "{} but {} byte by byte", whole, apart);

        let theirs = hypers(&[&bytes]);
        prop_assert!(theirs.requests.len() >= whole.requests.len(), "{} but {}", whole, theirs);
        for (ours, theirs) in whole.requests.iter().zip(&theirs.requests) {
            prop_assert!(is_one_and_the_same(ours), "{}", ours);
            prop_assert!(is_taken_alike(ours, theirs), "{:?} but {:?}", ours, theirs);
        }
    }
}
