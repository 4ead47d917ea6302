use super::*;
use proptest::prelude::*;

type Read = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

/// Body and trailers, and what is left in the buffer, when the bytes come in these pieces and then
/// the connection ends.
fn read(framing: Framing, pieces: &[&[u8]]) -> Result<Read, BodyError> {
    read_by(BodyDecoder::of_response(framing), pieces)
}

fn read_by(mut decoder: BodyDecoder, pieces: &[&[u8]]) -> Result<Read, BodyError> {
    let mut buffer = BytesMut::new();
    let (mut body, mut trailers) = (Vec::new(), None);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(data) => {
                    assert!(!data.is_empty());
                    body.extend_from_slice(&data);
                }
                Decoded::Trailers(fields) => trailers = Some(fields),
                Decoded::End | Decoded::More => break,
            }
        }
    }
    decoder.end_of_input()?;
    assert!(decoder.is_end());
    Ok((body, trailers, buffer.to_vec()))
}

fn chunked(bytes: &[u8]) -> Result<String, BodyError> {
    read(Framing::Chunked, &[bytes]).map(|(body, ..)| String::from_utf8(body).unwrap())
}

/// The same of a request, whole and byte by byte.
fn of_request(text: &str) -> Result<String, BodyError> {
    let body = |pieces: &[&[u8]]| {
        let read = read_by(BodyDecoder::of_request(Framing::Chunked), pieces);
        read.map(|(body, ..)| String::from_utf8(body).unwrap())
    };
    let whole = body(&[text.as_bytes()]);
    let apart = body(&text.as_bytes().chunks(1).collect::<Vec<_>>());
    assert_eq!(apart.is_ok(), whole.is_ok(), "{text:?}");
    whole
}

#[test]
fn a_length_takes_no_more_than_it_says() {
    let (body, _, rest) = read(Framing::Length(3), &[b"a", b"bcd"]).unwrap();
    assert_eq!((&body[..], &rest[..]), (&b"abc"[..], &b"d"[..]));
    assert_eq!(read(Framing::Length(3), &[b"ab"]), Err(BodyError::Incomplete));
    assert_eq!(read(Framing::Length(0), &[b"x"]).unwrap().2, b"x");
}

#[test]
fn without_a_length_it_ends_with_its_connection() {
    assert_eq!(read(Framing::UntilClose, &[b"ab", b"c"]).unwrap().0, b"abc");
    assert_eq!(read(Framing::UntilClose, &[]).unwrap().0, b"");
}

#[test]
fn chunks_are_put_together() {
    assert_eq!(
        chunked(b"3\r\nabc\r\n0a;name=\"v\"\r\n0123456789\r\n0\r\n\r\n").as_deref(),
        Ok("abc0123456789")
    );
    assert_eq!(chunked(b"3 \t;x\r\nabc\r\n000\r\n\r\n").as_deref(), Ok("abc"));
    let (_, trailers, rest) =
        read(Framing::Chunked, &[b"0\r\nx-sum: 1\r\nx-sum: 2\r\n\r\nHTTP/1.1"]).unwrap();
    assert_eq!(trailers.unwrap().get_all("x-sum").iter().count(), 2);
    assert_eq!(rest, b"HTTP/1.1");
}

#[test]
fn a_chunk_that_could_be_read_in_two_ways_is_refused() {
    for wrong in [
        "\r\nabc",
        ";x\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc",
        "+3\r\nabc",
        "0x3\r\nabc",
        "3\nabc\r\n0\r\n\r\n",
        "3;x\nabc\r\n",
        "3;x\ry\r\nabc",
        "3\r\nabcd\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\rX",
        "3\r\nabc0\r\n\r\n",
        "g\r\n",
        "3 3\r\nabc",
        "11111111111111111\r\n",
    ] {
        assert_eq!(chunked(wrong.as_bytes()), Err(BodyError::Chunk), "{wrong:?}");
    }
    for wrong in [
        "0\r\n\n",
        "0\r\nx: 1\n\r\n",
        "0\r\nx: 1\r\n\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nx : 1\r\n\r\n",
    ] {
        assert_eq!(chunked(wrong.as_bytes()), Err(BodyError::Trailers), "{wrong:?}");
    }
}

#[test]
fn an_end_before_the_last_chunk_is_one_too_early() {
    let whole = b"3\r\nabc\r\n0\r\nx: 1\r\n\r\n";
    for length in 0..whole.len() {
        assert_eq!(chunked(&whole[..length]), Err(BodyError::Incomplete), "{length}");
    }
    assert_eq!(chunked(whole).as_deref(), Ok("abc"));
}

#[test]
fn what_is_beside_the_body_is_bounded() {
    let long = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length));
    assert!(chunked(long(16_000).as_bytes()).is_ok());
    assert_eq!(chunked(long(17_000).as_bytes()), Err(BodyError::Extensions));
    assert_eq!(chunked(format!("1;{}", "x".repeat(20_000)).as_bytes()), Err(BodyError::Extensions));
    let many = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(99)).repeat(200));
    assert_eq!(chunked(many.as_bytes()), Err(BodyError::Extensions));
    assert_eq!(
        chunked(format!("0\r\nx: {}", "y".repeat(20_000)).as_bytes()),
        Err(BodyError::Trailers)
    );
    assert_eq!(
        chunked(format!("0\r\n{}\r\n", "x: 1\r\n".repeat(101)).as_bytes()),
        Err(BodyError::Trailers)
    );
}

#[test]
fn nothing_beside_a_chunk_hides_a_line_or_a_character() {
    for wrong in ["3;x\0\r\nabc\r\n", "3;\u{1}\r\nabc", "3;x=\u{7f}\r\n", "3\0\r\n", "3;a\nb\r\n"] {
        assert_eq!(chunked(wrong.as_bytes()), Err(BodyError::Chunk), "{wrong:?}");
        assert_eq!(of_request(wrong), Err(BodyError::Chunk), "{wrong:?}");
    }
}

#[test]
fn a_request_is_held_to_more() {
    let long = |length: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(length - 1));
    assert_eq!(of_request(&long(256)).as_deref(), Ok("a"));
    assert_eq!(of_request(&long(257)), Err(BodyError::Extensions));
    let many = |count: usize| format!("{}0\r\n\r\n", "1;xxxxxxx\r\na\r\n".repeat(count));
    assert_eq!(of_request(&many(2048)).map(|body| body.len()), Ok(2048));
    assert_eq!(of_request(&many(2049)), Err(BodyError::Extensions));
    let spaces = "3 \t\r\nabc\r\n0\r\n\r\n";
    assert_eq!(of_request(spaces), Err(BodyError::Chunk));
    assert_eq!(chunked(spaces.as_bytes()).as_deref(), Ok("abc"));
    assert_eq!(of_request("3 ;a=\"b;c\"\r\nabc\r\n0\r\n\r\n").as_deref(), Ok("abc"));
}

#[test]
fn trailers_of_a_request_neither_frame_nor_route() {
    let text = "0\r\nx-sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: c\r\n\
                X-Forwarded-For: 1\r\nForwarded: for=1\r\nx_forwarded_for: 1\r\n\
                content_length: 5\r\nauthorization: a\r\nvia: 1.1 a\r\n\r\nrest";
    let read = read_by(BodyDecoder::of_request(Framing::Chunked), &[text.as_bytes()]).unwrap();
    let names: Vec<_> = read.1.iter().flat_map(HeaderMap::keys).map(|it| it.as_str()).collect();
    assert_eq!((names, &read.2[..]), (vec!["x-sum"], &b"rest"[..]));
    assert_eq!(of_request("0\r\nHost: c\r\n\r\n").as_deref(), Ok(""));
    for wrong in ["0\r\nx: \0\r\n\r\n", "0\r\nx: a\rb\r\n\r\n", "0\r\nx: a\r\n b\r\n\r\n"] {
        assert_eq!(of_request(wrong), Err(BodyError::Trailers), "{wrong:?}");
    }
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend_from_slice(format!("{:X};e\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nx-sum: 1\r\n\r\nrest");
        let cuts = cuts.iter().map(|cut| cut.index(bytes.len()));
        let mut cuts: Vec<usize> = cuts.chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let (body, trailers, rest) = read(Framing::Chunked, &pieces).unwrap();
        prop_assert_eq!(body, chunks.concat());
        prop_assert_eq!(&trailers.unwrap()["x-sum"], "1");
        prop_assert_eq!(&rest[..], b"rest");
    }

    #[test]
    fn whatever_comes_is_a_body_or_an_error(pieces in prop::collection::vec(
        prop::sample::select(vec![
            "0", "1", "a", "F", "\r\n", "\n", "\r", ";", " ", "x: 1", ":", "\0", "\u{e4}",
        ]),
        0..40,
    )) {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let together = read(Framing::Chunked, &[&pieces.concat()]);
        let apart = read(Framing::Chunked, &pieces);
        match (together, apart) {
            (Ok((body, _, _)), Ok((same, _, _))) => prop_assert_eq!(body, same),
            // The fault may show earlier, when less of it has come, or as another one.
            (Err(_), Err(_)) => {}
            (together, apart) => prop_assert!(false, "{:?} but {:?} in pieces", together, apart),
        }
    }
}
