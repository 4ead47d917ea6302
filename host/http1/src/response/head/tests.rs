use super::*;
use proptest::prelude::*;

fn parse(bytes: &[u8], to_head: bool) -> Result<Option<(ResponseHead, BytesMut)>, ResponseFault> {
    let mut buffer = BytesMut::from(bytes);
    let head = ResponseHeadParser::new(1024, to_head).parse(&mut buffer)?;
    Ok(head.map(|head| (head, buffer)))
}

fn framing(fields: &str) -> Result<(Framing, bool), ResponseFault> {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    parse(head.as_bytes(), false).map(|parsed| {
        let (head, _) = parsed.expect("it is all there");
        (head.framing, head.keep_alive)
    })
}

#[test]
fn the_body_begins_where_the_head_ends() {
    let (head, rest) =
        parse(b"HTTP/1.1 201 Made\r\nA: 1\r\na:  2 \r\nContent-Length: 3\r\n\r\nabc", false)
            .unwrap()
            .unwrap();
    assert_eq!(
        (head.status.as_u16(), head.framing, head.keep_alive),
        (201, Framing::Length(3), true)
    );
    assert_eq!(head.headers.to_map().get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(&rest[..], b"abc");
}

#[test]
fn a_body_ends_as_the_headers_say() {
    assert_eq!(framing("content-length: 5\r\n"), Ok((Framing::Length(5), true)));
    assert_eq!(
        framing("content-length: 5\r\ncontent-length: 5, 5\r\n"),
        Ok((Framing::Length(5), true))
    );
    assert_eq!(framing("transfer-encoding: Chunked\r\n"), Ok((Framing::Chunked, true)));
    assert_eq!(
        framing("content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        Ok((Framing::Chunked, false))
    );
    assert_eq!(framing("x: 1\r\n"), Ok((Framing::UntilClose, false)));
    assert_eq!(
        framing("content-length: 5\r\nconnection: x, Close\r\n"),
        Ok((Framing::Length(5), false))
    );
    for wrong in ["", "-1", "+5", "5 5", "0x5", "5,", "5, 6", "18446744073709551616"] {
        assert_eq!(
            framing(&format!("content-length: {wrong}\r\n")),
            Err(ResponseFault::ContentLength),
            "{wrong}"
        );
    }
    assert_eq!(
        framing("content-length: 5\r\ncontent-length: 6\r\n"),
        Err(ResponseFault::ContentLength)
    );
    for wrong in
        ["gzip", "gzip, chunked", "chunked, chunked", "chunked\r\ntransfer-encoding: chunked", ""]
    {
        let said = framing(&format!("transfer-encoding: {wrong}\r\n"));
        assert_eq!(said, Err(ResponseFault::TransferEncoding), "{wrong}");
    }
}

#[test]
fn a_length_goes_on_once_as_a_plain_number_and_not_beside_chunks() {
    let lengths = |fields: &str| {
        let (head, _) =
            parse(format!("HTTP/1.1 200 OK\r\n{fields}\r\n").as_bytes(), false).unwrap().unwrap();
        let values = head.headers.get_all(&header::CONTENT_LENGTH);
        values.map(|value| String::from_utf8(value.to_owned()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(lengths("content-length: 5\r\ncontent-length: 5\r\n"), ["5"]);
    for said in ["5", "5, 5", "5,5 , 5", "05", "005, 5"] {
        assert_eq!(lengths(&format!("content-length: {said}\r\n")), ["5"], "{said}");
    }
    assert_eq!(lengths("content-length: 0\r\n"), ["0"]);
    assert_eq!(lengths("content-length: 00\r\n"), ["0"]);
    assert!(lengths("content-length: 5\r\ntransfer-encoding: chunked\r\n").is_empty());
}

#[test]
fn some_responses_have_no_body_whatever_they_say() {
    let none = |head: &str, to_head| {
        let (head, _) = parse(head.as_bytes(), to_head).unwrap().unwrap();
        (head.framing, head.keep_alive, head.headers.contains(&header::CONTENT_LENGTH))
    };
    assert_eq!(
        none("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", false),
        (Framing::Length(0), true, true)
    );
    assert_eq!(none("HTTP/1.1 304 Not Modified\r\n\r\n", false), (Framing::Length(0), true, false));
    assert_eq!(
        none("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", true),
        (Framing::Length(0), true, true)
    );
    assert_eq!(none("HTTP/1.1 200 OK\r\n\r\n", true), (Framing::Length(0), true, false));
    assert_eq!(none("HTTP/1.1 101 Switching\r\n\r\n", false), (Framing::Length(0), true, false));
}

#[test]
fn http_10_keeps_its_connection_only_on_request_and_knows_no_chunks() {
    let said = |fields: &str| {
        let head = format!("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n{fields}\r\n");
        parse(head.as_bytes(), false).map(|parsed| parsed.unwrap().0.keep_alive)
    };
    assert_eq!(said(""), Ok(false));
    assert_eq!(said("connection: keep-alive\r\n"), Ok(true));
    assert_eq!(said("connection: keep-alive\r\nconnection: close\r\n"), Ok(false));
    assert_eq!(said("transfer-encoding: chunked\r\n"), Err(ResponseFault::TransferEncoding));
}

#[test]
fn interim_responses_are_passed_over_but_not_without_end() {
    let interim = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let (head, _) =
        parse(format!("{}{last}", interim.repeat(100)).as_bytes(), false).unwrap().unwrap();
    assert_eq!(head.status, 200);
    assert!(!head.headers.contains(&header::LINK));
    assert_eq!(
        parse(format!("{}{last}", interim.repeat(101)).as_bytes(), false).unwrap_err(),
        ResponseFault::TooManyInterim
    );
}

#[test]
fn a_head_is_no_larger_than_it_may_be() {
    let with = |length: usize| format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(length));
    assert!(parse(with(1024 - 24).as_bytes(), false).unwrap().is_some());
    assert_eq!(parse(with(1024 - 23).as_bytes(), false).unwrap_err(), ResponseFault::TooLarge);
    assert_eq!(parse(&with(2000).as_bytes()[..1024], false).unwrap_err(), ResponseFault::TooLarge);
    assert!(parse(&with(2000).as_bytes()[..1023], false).unwrap().is_none());
}

#[test]
fn a_head_has_many_headers_but_not_any_number() {
    let parse = |count: usize| {
        let fields: String =
            (0..count).map(|number| format!("set-cookie: c={number}\r\n")).collect();
        let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\nabc");
        let mut buffer = BytesMut::from(head.as_bytes());
        let head = ResponseHeadParser::new(64 * 1024, false).parse(&mut buffer)?;
        let headers = head.expect("it is all there").headers.into_map();
        let cookies = headers.get_all("set-cookie").iter();
        Ok((headers.len(), cookies.cloned().collect::<Vec<_>>(), buffer))
    };
    for count in [MAX_HEADERS, MAX_HEADERS + 1, MAX_RESPONSE_HEADERS] {
        let (taken, cookies, rest) = parse(count).unwrap();
        assert_eq!((taken, &rest[..]), (count, &b"abc"[..]));
        assert_eq!(cookies[count - 1], format!("c={}", count - 1));
    }
    let many: ResponseFault = parse(MAX_RESPONSE_HEADERS + 1).unwrap_err();
    assert_eq!(many, ResponseFault::Syntax(Error::TooManyHeaders));
}

#[test]
fn what_is_no_response_is_refused() {
    for wrong in [
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
        "\x16\x03\x01\x02",
    ] {
        assert!(
            matches!(parse(wrong.as_bytes(), false), Err(ResponseFault::Syntax(_))),
            "{wrong:?}"
        );
    }
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        cuts in prop::collection::vec(0usize..200, 0..8),
        interim in 0usize..3,
    ) {
        let bytes = format!(
            "{}HTTP/1.1 503 Busy\r\nretry-after: 1\r\nconnection: close\r\n\
             content-length: 2\r\n\r\nno",
            "HTTP/1.1 100 Continue\r\n\r\n".repeat(interim),
        );
        let cuts = cuts.into_iter().map(|cut| cut % bytes.len());
        let mut cuts: Vec<usize> = cuts.chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let (mut parser, mut buffer) = (ResponseHeadParser::new(1024, false), BytesMut::new());
        let (mut from, mut found) = (0, None);
        for cut in cuts {
            buffer.extend_from_slice(&bytes.as_bytes()[from..cut]);
            from = cut;
            if found.is_none() && !buffer.is_empty() {
                found = parser.parse(&mut buffer).unwrap();
            }
        }
        let head = found.expect("it has come whole");
        let got = (head.status.as_u16(), head.framing, head.keep_alive);
        prop_assert_eq!(got, (503, Framing::Length(2), false));
        prop_assert_eq!(head.headers.len(), 3);
        prop_assert_eq!(&buffer[..], b"no");
    }

    #[test]
    fn whatever_comes_is_a_head_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        valid in any::<bool>(),
    ) {
        let start: &[u8] = if valid { b"HTTP/1.1 200 OK\r\n" } else { b"" };
        let _ = parse(&[start, &bytes].concat(), false);
    }
}
