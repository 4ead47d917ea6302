use super::*;
use proptest::prelude::*;

fn parse(bytes: &[u8]) -> Result<Option<(RequestHead, BytesMut)>, RequestFault> {
    let mut buffer = BytesMut::from(bytes);
    let head = RequestHeadParser::new(1024).parse_into(&mut buffer, HeaderMap::new)?;
    Ok(head.map(|head| (head, buffer)))
}

#[track_caller]
fn taken(text: &str) -> RequestHead {
    match parse(text.as_bytes()) {
        Ok(Some((head, _))) => head,
        other => panic!("{text:?}: {other:?}"),
    }
}

#[track_caller]
fn is_refused(text: &str, fault: RequestFault) {
    match parse(text.as_bytes()) {
        Err(found) => assert_eq!(found, fault, "{text:?}"),
        Ok(head) => panic!("{text:?}: {head:?}"),
    }
    // Whatever has come when it is looked at for the first time, it is never taken, and nothing
    // else is wrong with it.
    for cut in 0..text.len() {
        let (mut parser, mut buffer) = (RequestHeadParser::new(1024), BytesMut::new());
        let pieces = [&text.as_bytes()[..cut], &text.as_bytes()[cut..]];
        let found = pieces.iter().find_map(|piece| {
            buffer.extend_from_slice(piece);
            parser.parse_into(&mut buffer, HeaderMap::new).transpose()
        });
        match found {
            Some(Err(found)) => assert_eq!(found, fault, "{text:?} cut at {cut}"),
            Some(Ok(head)) => panic!("{text:?} cut at {cut}: {head:?}"),
            None => {}
        }
    }
}

/// A request with these fields.
fn with(fields: &str) -> String {
    format!("POST /x HTTP/1.1\r\nHost: b\r\n{fields}\r\n")
}

#[test]
fn the_body_begins_where_the_head_ends() {
    let text = "PUT /a?b=%20 HTTP/1.1\r\nHost: b\r\nA: 1\r\na:  2 \r\nContent-Length: 3\r\n\r\nabc";
    let (head, rest) = parse(text.as_bytes()).unwrap().unwrap();
    assert_eq!((head.method, head.version), (Method::PUT, Version::HTTP_11));
    assert_eq!(head.target.to_string(), "/a?b=%20");
    assert_eq!(head.framing, Framing::Length(3));
    assert_eq!(head.headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(&rest[..], b"abc");
}

#[test]
fn heads_follow_each_other_and_a_few_blank_lines_between_them_are_nothing() {
    let mut parser = RequestHeadParser::new(1024);
    let mut buffer = BytesMut::from(
        "\r\n\r\n\r\n\r\nGET /1 HTTP/1.1\r\nhost: b\r\n\r\nGET /2 HTTP/1.0\r\n\r\n\r\n\r\n\r\n\r\n",
    );
    let mut next = || {
        let head = parser.parse_into(&mut buffer, HeaderMap::new).unwrap();
        (head.map(|head| (head.target.path().to_owned(), head.version)), parser.has_begun())
    };
    assert_eq!(next(), (Some(("/1".into(), Version::HTTP_11)), false));
    assert_eq!(next(), (Some(("/2".into(), Version::HTTP_10)), false));
    assert_eq!(next(), (None, false));
    buffer.extend_from_slice(b"\r");
    assert!(parser.parse_into(&mut buffer, HeaderMap::new).unwrap().is_none());
    assert!(!parser.has_begun());
    buffer.extend_from_slice(b"\n");
    let fault = parser.parse_into(&mut buffer, HeaderMap::new).unwrap_err();
    assert_eq!(fault, RequestFault::BlankLines);
    for wrong in ["\nGET / HTTP/1.1\r\n\r\n", "\r\rGET", "\r\n\n"] {
        is_refused(wrong, RequestFault::LineEnd);
    }
}

#[test]
fn what_has_begun_is_known() {
    let (mut parser, mut buffer) = (RequestHeadParser::new(1024), BytesMut::new());
    let mut begun = |bytes: &[u8]| {
        buffer.extend_from_slice(bytes);
        let is_taken = parser.parse_into(&mut buffer, HeaderMap::new).unwrap().is_some();
        (is_taken, parser.has_begun())
    };
    assert_eq!(begun(b""), (false, false));
    assert_eq!(begun(b"\r\n"), (false, false));
    assert_eq!(begun(b"G"), (false, true));
    assert_eq!(begun(b"ET / HTTP/1.1\r\n\r\n"), (true, false));
}

#[test]
fn a_first_line_is_method_target_and_version() {
    for wrong in [
        "GET /\r\n\r\n",
        "GET\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET /  HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n",
        "GET\t/ HTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET / x HTTP/1.1\r\n\r\n",
        "GET / x\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET / HTTP/1.10\r\n\r\n",
        "GET / HTTP/11.1\r\n\r\n",
        "GET / HTTP/1\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}",
    ] {
        is_refused(wrong, RequestFault::RequestLine);
    }
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0", "HTTP/9.9"] {
        is_refused(&format!("GET / {version}\r\nhost: b\r\n\r\n"), RequestFault::Version);
    }
    is_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", RequestFault::Version);
    is_refused("CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n\r\n", RequestFault::Connect);
    assert_eq!(taken("brew /pot HTTP/1.1\r\n\r\n").method.as_str(), "brew");
}

#[test]
fn a_target_has_one_of_the_forms_of_its_method() {
    for (line, target) in [
        ("GET /a//b/../c;\"{d}\"?e=%zz", "/a//b/../c;\"{d}\"?e=%zz"),
        ("GET //evil.example/x", "//evil.example/x"),
        ("GET http://c.example:80/x?y", "http://c.example:80/x?y"),
        ("GET HTTPS://c.example", "https://c.example/"),
        ("OPTIONS *", "*"),
    ] {
        let head = taken(&format!("{line} HTTP/1.1\r\nhost: b\r\n\r\n"));
        assert_eq!(head.target.to_string(), target);
    }
    for wrong in [
        "GET *",
        "OPTIONS **",
        "GET b:443",
        "GET b",
        "GET a/b",
        "GET ?a",
        "GET ftp://b/",
        "GET mailto:a@b",
        "GET http:///x",
        "GET http:/x",
        "GET /#f",
        "GET #",
        "DELETE /all#but-this",
        "GET /\u{e4}",
        "GET /\0",
        "GET /\u{1}",
        "GET /\u{7f}",
        "GET /\t",
        "GET /<b>",
        "GET http://b/#f",
    ] {
        is_refused(&format!("{wrong} HTTP/1.1\r\nhost: b\r\n\r\n"), RequestFault::Target);
    }
    // Wherever it stands: what looks for it looks at many bytes at once.
    for wrong in ["\0", "\u{1f}", "\u{7f}", "\u{e4}", "#", "\r", "\n", " "] {
        for before in 0..70 {
            let target = format!("{}{wrong}{}", "x".repeat(before), "y".repeat(70 - before));
            let text = format!("GET /{target} HTTP/1.1\r\nhost: b\r\n\r\n");
            let fault = parse(text.as_bytes()).expect_err("no request");
            assert_eq!(fault.status(), 400, "{text:?}");
        }
    }
}

#[test]
fn every_line_ends_with_cr_and_lf() {
    let whole = "POST /x HTTP/1.1\r\nHost: b\r\nEmpty:\r\nx: y \r\nContent-Length: 1\r\n\r\n";
    taken(whole);
    for (at, _) in whole.match_indices("\r\n") {
        let bare_lf = [&whole[..at], &whole[at + 1..]].concat();
        is_refused(&bare_lf, RequestFault::LineEnd);
        let doubled = [&whole[..at], "\r", &whole[at..]].concat();
        is_refused(&doubled, RequestFault::LineEnd);
    }
    for wrong in ["x: a\rb\r\n", "x: \r b\r\n", "x:\rb\r\n"] {
        is_refused(&with(wrong), RequestFault::LineEnd);
    }
    is_refused("GET / HTTP/1.1\rHost: b\r\n\r\n", RequestFault::LineEnd);
}

#[test]
fn a_field_is_a_name_a_colon_and_a_value() {
    for wrong in
        ["no colon\r\n", ": x\r\n", "a : x\r\n", "a\t: x\r\n", "a(b: x\r\n", "\u{e4}: x\r\n"]
    {
        is_refused(&with(wrong), RequestFault::FieldName);
    }
    // The first of two.
    is_refused(&with("no colon\n folded\r\n"), RequestFault::FieldName);
    is_refused(&with("none\n folded\r\n"), RequestFault::FieldName);
    for wrong in [" folded\r\n", "\tfolded\r\n", "x: y\r\n z\r\n", "x:\r\n \r\n"] {
        is_refused(&with(wrong), RequestFault::Folding);
    }
    is_refused("GET / HTTP/1.1\r\n Host: b\r\n\r\n", RequestFault::Folding);
    for wrong in ["x: \0\r\n", "x: a\u{1}\r\n", "x:\u{7f}\r\n", "x: a\u{b}chunked\r\n"] {
        is_refused(&with(wrong), RequestFault::FieldValue);
    }
    let head = taken(&with("x: \u{fc}tf-8\tand \"more\"\r\nempty: \t \r\n"));
    assert_eq!(head.headers["x"].as_bytes(), "\u{fc}tf-8\tand \"more\"".as_bytes());
    assert_eq!(head.headers["empty"], "");
}

#[test]
fn a_body_is_framed_in_one_way() {
    let framing = |fields: &str| taken(&with(fields)).framing;
    assert_eq!(framing(""), Framing::Length(0));
    assert_eq!(framing("content-length: 0\r\n"), Framing::Length(0));
    assert_eq!(framing("transfer-encoding: Chunked\r\n"), Framing::Chunked);
    for (said, number) in [("5", "5"), ("5, 5", "5"), ("005", "5"), ("00", "0"), ("5,5 ,05", "5")] {
        let head = taken(&with(&format!("content-length: {said}\r\ncontent-length: {number}\r\n")));
        assert_eq!(head.framing, Framing::Length(number.parse().unwrap()));
        assert_eq!(head.headers.get_all("content-length").iter().collect::<Vec<_>>(), [number]);
    }
    for wrong in [
        "",
        "+1",
        "-1",
        "1 1",
        "0x1",
        "1.0",
        "1,",
        ",1",
        "1;1",
        "one",
        "\u{661}",
        "18446744073709551616",
    ] {
        let fields = format!("content-length: {wrong}\r\n");
        is_refused(&with(&fields), RequestFault::ContentLength);
    }
    for wrong in ["5, 6", "5\r\ncontent-length: 6", "0\r\ncontent-length: 5"] {
        let fields = format!("content-length: {wrong}\r\n");
        is_refused(&with(&fields), RequestFault::DifferentLengths);
    }
    for coding in ["chunked", "gzip", "", "identity"] {
        let fields = format!("transfer-encoding: {coding}\r\n");
        let both = [&fields, "content-length: 5\r\n"];
        is_refused(&with(&both.concat()), RequestFault::LengthAndCoding);
        is_refused(&with(&[both[1], both[0]].concat()), RequestFault::LengthAndCoding);
        is_refused(&format!("POST / HTTP/1.0\r\n{fields}\r\n"), RequestFault::CodingInHttp10);
    }
    for wrong in [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: identity",
        "identity",
        "chunked;q=1",
        "xchunked",
        "\"chunked\"",
        "chunked,",
        "",
    ] {
        is_refused(&with(&format!("transfer-encoding: {wrong}\r\n")), RequestFault::Coding);
    }
}

#[test]
fn shadows_are_dropped() {
    let head = taken(&with(
        "content_length: 5\r\nTransfer_Encoding: chunked\r\nx_forwarded_for: 1\r\nX-Real_Ip: 1\r\n\
         x-forwarded_proto: https\r\nx_other: 1\r\nhost_: c\r\n",
    ));
    assert_eq!(head.framing, Framing::Length(0));
    let mut names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["host", "host_", "x_other"]);
}

#[test]
fn a_connection_is_kept_as_version_and_options_say() {
    let kept = |version: &str, fields: &str| {
        taken(&format!("GET / HTTP/{version}\r\n{fields}\r\n")).exchange.is_kept_alive()
    };
    assert!(kept("1.1", ""));
    assert!(!kept("1.1", "connection: close\r\n"));
    assert!(!kept("1.1", "connection: keep-alive\r\nconnection: x, Close\r\n"));
    assert!(!kept("1.0", ""));
    assert!(kept("1.0", "connection: Keep-Alive\r\n"));
    assert!(!kept("1.0", "connection: keep-alive, close\r\n"));
    assert!(!kept("1.0", "proxy-connection: keep-alive\r\n"));
}

#[test]
fn who_waits_for_its_body_has_one_and_speaks_1_1() {
    let waits = |version: &str, fields: &str| {
        taken(&format!("PUT / HTTP/{version}\r\n{fields}\r\n")).exchange.expects_continue()
    };
    assert!(waits("1.1", "expect: 100-Continue\r\ncontent-length: 5\r\n"));
    assert!(waits("1.1", "expect: 100-continue\r\ntransfer-encoding: chunked\r\n"));
    assert!(!waits("1.1", "expect: 100-continue\r\n"));
    assert!(!waits("1.1", "expect: 100-continue\r\ncontent-length: 0\r\n"));
    assert!(!waits("1.0", "expect: 100-continue\r\ncontent-length: 5\r\n"));
    assert!(!waits("1.1", "expect: else\r\ncontent-length: 5\r\n"));
}

#[test]
fn a_head_is_no_larger_than_it_may_be() {
    let line = "GET / HTTP/1.1\r\n";
    let with = |length: usize| format!("{line}x: {}\r\n\r\n", "y".repeat(length));
    let room = 1024 - with(0).len();
    taken(&with(room));
    taken(&format!("{}{line}\r\n", with(room)));
    is_refused(&with(room + 1), RequestFault::TooLarge);
    is_refused(&with(2000), RequestFault::TooLarge);
    assert!(parse(&with(2000).as_bytes()[..1023]).unwrap().is_none());
    is_refused(&with(2000)[..1024], RequestFault::TooLarge);
    is_refused(&format!("GET /{}", "x".repeat(1019)), RequestFault::TargetTooLong);
    is_refused(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(2000)), RequestFault::TargetTooLong);
    is_refused(&"M".repeat(2000), RequestFault::TooLarge);
    let many = |count: usize| format!("{line}{}\r\n", "x:\r\n".repeat(count));
    taken(&many(MAX_HEADERS));
    is_refused(&many(MAX_HEADERS + 1), RequestFault::TooManyFields);

    let target = format!("/{}", "x".repeat(70_000));
    let mut buffer = BytesMut::from(&*format!("GET {target} HTTP/1.1\r\n\r\n"));
    let found = RequestHeadParser::new(1 << 20).parse_into(&mut buffer, HeaderMap::new);
    assert_eq!(found.unwrap_err(), RequestFault::TargetTooLong);
}

#[test]
fn values_are_pieces_of_the_head_and_not_copies() {
    let text = with("x-one: some value\r\nx-two: some other value\r\n");
    let mut buffer = BytesMut::from(&*text);
    let memory = buffer.as_ptr_range();
    let head = RequestHeadParser::new(1024).parse_into(&mut buffer, HeaderMap::new);
    let head = head.unwrap().unwrap();
    for value in head.headers.values() {
        assert!(memory.contains(&value.as_bytes().as_ptr()));
    }
    assert!(memory.contains(&head.target.path().as_ptr()));
}

#[test]
fn every_fault_has_a_name_a_text_and_a_status_of_its_own_kind() {
    let faults = RequestFault::ALL;
    for (number, fault) in faults.iter().enumerate() {
        assert!(fault.status().is_client_error() || fault.status().is_server_error());
        assert!(!fault.to_string().contains("response"));
        for other in &faults[..number] {
            assert_ne!(fault.name(), other.name());
            assert_ne!(fault.to_string(), other.to_string());
        }
    }
    let of = |status: u16| {
        let names = faults.iter().filter(|fault| fault.status() == status);
        names.map(|fault| fault.name()).collect::<Vec<_>>()
    };
    assert_eq!(of(414), ["target-too-long"]);
    assert_eq!(of(431), ["too-large", "too-many-fields"]);
    assert_eq!(of(501), ["connect", "coding"]);
    assert_eq!(of(505), ["version"]);
    assert_eq!(of(400).len(), 11);
}

proptest! {
    #[test]
    fn pieces_make_no_difference(
        cuts in prop::collection::vec(0usize..200, 0..8),
        blank in 0usize..3,
    ) {
        let bytes = format!(
            "{}POST /x?y HTTP/1.1\r\nhost: b\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
            "\r\n".repeat(blank),
        );
        let cuts = cuts.into_iter().map(|cut| cut % bytes.len());
        let mut cuts: Vec<usize> = cuts.chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let (mut parser, mut buffer) = (RequestHeadParser::new(1024), BytesMut::new());
        let (mut from, mut found) = (0, None);
        for cut in cuts {
            buffer.extend_from_slice(&bytes.as_bytes()[from..cut]);
            from = cut;
            if found.is_none() {
                found = parser.parse_into(&mut buffer, HeaderMap::new).unwrap();
            }
        }
        let head = found.expect("it has come whole");
        let got = (head.method, head.framing, head.exchange.is_kept_alive());
        prop_assert_eq!(got, (Method::POST, Framing::Length(2), false));
        prop_assert_eq!(head.headers.len(), 3);
        prop_assert_eq!(&buffer[..], b"no");
    }

    #[test]
    fn whatever_comes_is_a_head_or_a_fault(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        valid in any::<bool>(),
    ) {
        let start: &[u8] = if valid { b"GET / HTTP/1.1\r\n" } else { b"" };
        let _ = parse(&[start, &bytes].concat());
    }
}
