//! Responses put together by chance from what parsers stumble over.

use proptest::prelude::*;

use crate::seen::{hypers, ours};

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No Content\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 ",
        "200",
        "content-length: 5\r\n",
        "content-length: 3\r\n",
        "Content-Length: 5, 5\r\n",
        "content-length:",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "connection: close\r\n",
        "x: y\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        ";",
        "5",
        "0",
        "a",
        "hello",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\n",
        "\0",
        "\u{e4}",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_we_take_hyper_takes_for_the_same(
        start in prop::bool::weighted(0.8),
        pieces in prop::collection::vec(piece(), 0..12),
        apart in any::<bool>(),
        to_head in prop::bool::weighted(0.1),
    ) {
        let start: &[u8] = if start { b"HTTP/1.1 200 OK\r\n" } else { b"" };
        let pieces = pieces.iter().map(|piece| piece.as_bytes());
        let mut pieces: Vec<&[u8]> = std::iter::once(start).chain(pieces).collect();
        let whole = pieces.concat();
        if !apart {
            pieces = vec![&whole];
        }
        let seen = ours(&pieces, to_head);
        if seen.is_whole() {
            prop_assert_eq!(&seen, &hypers(&pieces, to_head));
            prop_assert_eq!(seen, hypers(&[&whole], to_head));
        }
    }
}
