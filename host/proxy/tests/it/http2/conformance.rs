//! RFC 9113, sections 3 to 8, and HPACK (RFC 7541), frame by frame: what is valid is answered, what
//! is not ends the stream or the connection.
//!
//! Each case is one connection. Where `h2` ends it with another code than the RFC has, or ends it
//! where the RFC has a stream end, which it allows (section 5.4.2), that is noted.

use fusebox_dev::{GET, Origin, POST, PREFACE, RawFrame, Wire, flag, header_block, kind, ok};

use crate::support::{Proxy, ROUTE};

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// The stream is answered with this status.
    Answers(u32, u16),
    /// The stream is reset with this code.
    Resets(u32, u32),
    /// Nothing of that.
    Passes,
    /// The connection ends with this code.
    Ends(u32),
    /// It ends without a word.
    Closes,
}

use Then::{Answers, Closes, Ends, Passes, Resets};

struct Case {
    name: &'static str,
    sends: Vec<u8>,
    then: Then,
}

/// After a preface and settings.
fn case(name: &'static str, frames: &[RawFrame], then: Then) -> Case {
    let frames: Vec<u8> = frames.iter().flat_map(RawFrame::bytes).collect();
    raw(name, frames, then)
}

fn raw(name: &'static str, frames: Vec<u8>, then: Then) -> Case {
    let begin = [PREFACE, &RawFrame::settings(&[]).bytes()].concat();
    Case { name, sends: [begin, frames].concat(), then }
}

/// From the first byte on.
fn whole(name: &'static str, sends: &[&[u8]], then: Then) -> Case {
    Case { name, sends: sends.concat(), then }
}

/// What came of it.
fn outcome(wire: &mut Wire) -> Then {
    const ASKS: [u8; 8] = *b"still ok";
    const MORE: [u8; 8] = *b"and more";
    wire.try_send(RawFrame::ping(ASKS).bytes()).ok();
    let mut found = Passes;
    while let Some(frame) = wire.frame() {
        match frame.kind {
            kind::HEADERS if found == Passes => found = Answers(frame.stream, frame.status()),
            kind::RESET if found == Passes => found = Resets(frame.stream, frame.number(0)),
            kind::GOAWAY => {
                assert_eq!(wire.rest(), b"", "nothing comes after it");
                return Ends(frame.number(4));
            }
            // An answer may come from the upstream, after the ping.
            kind::PING if frame.payload == ASKS && frame.flags == flag::ACK && found != Passes => {
                return found;
            }
            kind::PING if frame.payload == ASKS && frame.flags == flag::ACK => {
                wire.try_send(RawFrame::ping(MORE).bytes()).ok();
            }
            kind::PING if frame.payload == MORE && frame.flags == flag::ACK => return found,
            _ => {}
        }
    }
    Closes
}

fn first_answer(wire: &mut Wire) -> Then {
    while let Some(frame) = wire.frame() {
        match frame.kind {
            kind::HEADERS => return Answers(frame.stream, frame.status()),
            kind::RESET => return Resets(frame.stream, frame.number(0)),
            kind::GOAWAY => return Ends(frame.number(4)),
            _ => {}
        }
    }
    Closes
}

#[track_caller]
fn hold(cases: Vec<Case>) {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let mut wrong = Vec::new();
    for Case { name, sends, then } in cases {
        let mut wire = proxy.connect();
        wire.try_send(sends).ok();
        let found = match then {
            // It takes as long as it takes.
            Answers(..) => first_answer(&mut wire),
            _ => outcome(&mut wire),
        };
        if found != then {
            wrong.push(format!("{name}: expected {then:?}, found {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(proxy.ask(fusebox_dev::get("/", "1")).status(), 200);
}

/// A request of these fields.
fn request(fields: &[(&str, &str)]) -> RawFrame {
    RawFrame::headers(1, fields, true)
}

/// A GET with these as well.
fn get_with(fields: &[(&str, &str)]) -> RawFrame {
    request(&[&GET, fields].concat())
}

/// A GET without this one.
fn get_without(name: &str) -> RawFrame {
    let fields: Vec<_> = GET.into_iter().filter(|(it, _)| *it != name).collect();
    request(&fields)
}

/// A block of headers as it is.
fn block(bytes: &[u8]) -> RawFrame {
    RawFrame::new(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, bytes)
}

/// A GET by the static table, and these bytes behind it.
fn indexed(more: &[u8]) -> RawFrame {
    // :method GET, :scheme http, :path /, :authority as a literal.
    let get = [0x82, 0x86, 0x84, 0x01, 1, b'b'];
    block(&[&get, more].concat())
}

#[test]
fn section_3_beginning() {
    let settings = RawFrame::settings(&[]).bytes();
    let ping = RawFrame::ping([0; 8]).bytes();
    let ack = RawFrame::settings(&[]).with_flags(flag::ACK).bytes();
    let get = RawFrame::get(1).bytes();
    hold(vec![
        whole("3.4: a preface and settings", &[PREFACE, &settings, &get], Answers(1, 200)),
        whole("3.4: another preface", &[&PREFACE[..18], b"XX\r\n\r\n", &settings], Closes),
        whole("3.4: no settings, but a ping", &[PREFACE, &ping], Ends(PROTOCOL_ERROR)),
        whole("3.4: no settings, but a request", &[PREFACE, &get], Ends(PROTOCOL_ERROR)),
        whole("3.4: an acknowledgement first", &[PREFACE, &ack], Ends(PROTOCOL_ERROR)),
    ]);
}

#[test]
fn section_4_frames() {
    let frame = |kind: u8, flags: u8, stream: u32, length: usize| {
        RawFrame::new(kind, flags, stream, vec![0; length])
    };
    let high_bit = RawFrame { stream: 0x8000_0001, ..RawFrame::get(1) };
    let block = header_block(&GET);
    let (first, rest) = block.split_at(3);
    let begin = RawFrame::new(kind::HEADERS, flag::END_STREAM, 1, first);
    hold(vec![
        case("4.1: a kind that nobody knows", &[frame(0xfa, 0xff, 0, 100)], Passes),
        case(
            "4.1: the same on a stream",
            &[frame(0xfa, 0, 7, 100), RawFrame::get(1)],
            Answers(1, 200),
        ),
        case(
            "4.1: flags that mean nothing",
            &[RawFrame::ping(*b"12345678").with_flags(0xfe)],
            Passes,
        ),
        case("4.1: the bit before the stream", &[high_bit], Answers(1, 200)),
        case(
            "4.2: the longest data",
            &[RawFrame::post(1), RawFrame::data(1, vec![b'x'; 16_384], true)],
            Answers(1, 200),
        ),
        case(
            "4.2: data too long",
            &[RawFrame::post(1), RawFrame::data(1, vec![b'x'; 16_385], true)],
            Ends(FRAME_SIZE_ERROR),
        ),
        case(
            "4.2: headers too long",
            &[frame(kind::HEADERS, 4, 1, 16_385)],
            Ends(FRAME_SIZE_ERROR),
        ),
        case("4.2: unknown and too long", &[frame(0xfa, 0, 0, 16_385)], Ends(FRAME_SIZE_ERROR)),
        case(
            "4.3: a priority within a block",
            &[begin.clone(), frame(kind::PRIORITY, 0, 1, 5)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "4.3: a ping within a block",
            &[begin.clone(), RawFrame::ping([0; 8])],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "4.3: an unknown frame within a block",
            &[begin.clone(), frame(0xfa, 0, 1, 0)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "4.3: another stream's headers within a block",
            &[begin.clone(), RawFrame::get(3)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "4.3: a block in pieces",
            &[begin, RawFrame::new(kind::CONTINUATION, flag::END_HEADERS, 1, rest)],
            Answers(1, 200),
        ),
    ]);
}

#[test]
fn section_5_streams() {
    let cancel = RawFrame::reset(1, 8);
    let dependent = |stream: u32, on: u32| {
        let payload = [on.to_be_bytes().as_slice(), &[16], &header_block(&GET)].concat();
        let flags = flag::END_HEADERS | flag::END_STREAM | flag::PRIORITIZED;
        RawFrame::new(kind::HEADERS, flags, stream, payload)
    };
    let mut many: Vec<_> = (0..=100).map(|number| RawFrame::post(2 * number + 1)).collect();
    let over = case("5.1.2: a stream too many", &many, Resets(201, REFUSED_STREAM));
    many.truncate(100);
    hold(vec![
        case("5.1: idle, data", &[RawFrame::data(1, "x", true)], Ends(PROTOCOL_ERROR)),
        case("5.1: idle, a reset", std::slice::from_ref(&cancel), Ends(PROTOCOL_ERROR)),
        case("5.1: idle, a window update", &[RawFrame::window_update(1, 1)], Ends(PROTOCOL_ERROR)),
        case(
            "5.1: idle, a continuation",
            &[RawFrame::new(kind::CONTINUATION, 4, 1, header_block(&GET))],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "5.1: half closed, data (the RFC: STREAM_CLOSED)",
            &[RawFrame::get(1), RawFrame::data(1, "x", true)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "5.1: half closed, headers (the RFC: STREAM_CLOSED)",
            &[RawFrame::get(1), RawFrame::get(1)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "5.1: half closed, a priority",
            &[RawFrame::get(1), RawFrame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 0, 1])],
            Answers(1, 200),
        ),
        case(
            "5.1: half closed, a window update",
            &[RawFrame::get(1), RawFrame::window_update(1, 10)],
            Answers(1, 200),
        ),
        case(
            "5.1: closed by a reset, data",
            &[RawFrame::post(1), cancel.clone(), RawFrame::data(1, "x", true)],
            Resets(1, STREAM_CLOSED),
        ),
        case(
            "5.1: closed by a reset, headers",
            &[RawFrame::post(1), cancel.clone(), RawFrame::get(1)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "5.1: closed by a reset, another reset and a window update",
            &[RawFrame::post(1), cancel.clone(), cancel, RawFrame::window_update(1, 1)],
            Passes,
        ),
        case("5.1.1: an even stream", &[RawFrame::get(2)], Ends(PROTOCOL_ERROR)),
        case("5.1.1: a lower stream", &[RawFrame::post(5), RawFrame::get(3)], Ends(PROTOCOL_ERROR)),
        over,
        case("5.1.2: as many as there may be", &many, Passes),
        case("5.3: a dependency on another", &[dependent(3, 1)], Answers(3, 200)),
        case("5.3: a dependency on itself", &[dependent(1, 1)], Resets(1, PROTOCOL_ERROR)),
        case(
            "5.3: a priority that depends on itself",
            &[RawFrame::new(kind::PRIORITY, 0, 1, [0, 0, 0, 1, 1])],
            Resets(1, PROTOCOL_ERROR),
        ),
    ]);
}

#[test]
fn section_6_data_headers_priority_and_reset() {
    let padded = |kind: u8, flags: u8, padding: u8, content: &[u8]| {
        let payload = [&[padding], content].concat();
        RawFrame::new(kind, flags | flag::PADDED, 1, payload)
    };
    let headers = flag::END_HEADERS | flag::END_STREAM;
    let with_padding = [header_block(&GET), vec![0; 9]].concat();
    hold(vec![
        case("6.1: data on no stream", &[RawFrame::data(0, "x", true)], Ends(PROTOCOL_ERROR)),
        case(
            "6.1: data with padding",
            &[RawFrame::post(1), padded(kind::DATA, 1, 3, b"body\0\0\0")],
            Answers(1, 200),
        ),
        case(
            "6.1: nothing but padding",
            &[RawFrame::post(1), padded(kind::DATA, 1, 3, b"\0\0\0")],
            Answers(1, 200),
        ),
        case(
            "6.1: more padding than data",
            &[RawFrame::post(1), padded(kind::DATA, 1, 5, b"body")],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.2: headers on no stream",
            &[RawFrame { stream: 0, ..RawFrame::get(1) }],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.2: headers with padding",
            &[padded(kind::HEADERS, headers, 9, &with_padding)],
            Answers(1, 200),
        ),
        case(
            "6.2: more padding than headers",
            &[padded(kind::HEADERS, headers, 9, b"x")],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.3: a priority on no stream",
            &[RawFrame::new(kind::PRIORITY, 0, 0, [0; 5])],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.3: a priority of another length (the RFC: FRAME_SIZE_ERROR of the stream)",
            &[RawFrame::new(kind::PRIORITY, 0, 1, [0; 4])],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.3: a priority of an idle stream",
            &[RawFrame::new(kind::PRIORITY, 0, 9, [0; 5])],
            Passes,
        ),
        case("6.4: a reset of no stream", &[RawFrame::reset(0, 8)], Ends(PROTOCOL_ERROR)),
        case(
            "6.4: a reset of another length (the RFC: FRAME_SIZE_ERROR)",
            &[RawFrame::post(1), RawFrame::new(kind::RESET, 0, 1, [0; 3])],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.4: a reset with an unknown code",
            &[RawFrame::post(1), RawFrame::reset(1, 0xffff)],
            Passes,
        ),
    ]);
}

#[test]
fn section_6_settings_push_ping_and_goaway() {
    let settings = |id: u16, value: u32| RawFrame::settings(&[(id, value)]);
    let goaway = |stream: u32| RawFrame::new(kind::GOAWAY, 0, stream, [0; 8]);
    hold(vec![
        case(
            "6.5: an acknowledgement with content (the RFC: FRAME_SIZE_ERROR)",
            &[settings(3, 1).with_flags(flag::ACK)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.5: settings on a stream",
            &[RawFrame { stream: 1, ..settings(3, 1) }],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.5: settings of another length (the RFC: FRAME_SIZE_ERROR)",
            &[RawFrame::new(kind::SETTINGS, 0, 0, [0; 5])],
            Ends(PROTOCOL_ERROR),
        ),
        case("6.5.2: push neither on nor off", &[settings(2, 2)], Ends(PROTOCOL_ERROR)),
        case(
            "6.5.2: too large a window (the RFC: FLOW_CONTROL_ERROR)",
            &[settings(4, 1 << 31)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.5.2: the largest window",
            &[settings(4, (1 << 31) - 1), RawFrame::get(1)],
            Answers(1, 200),
        ),
        case("6.5.2: too short frames", &[settings(5, 16_383)], Ends(PROTOCOL_ERROR)),
        case("6.5.2: too long frames", &[settings(5, 1 << 24)], Ends(PROTOCOL_ERROR)),
        case(
            "6.5.2: the longest frames",
            &[settings(5, (1 << 24) - 1), RawFrame::get(1)],
            Answers(1, 200),
        ),
        case(
            "6.5.2: one that nobody knows",
            &[settings(0xff, 1), RawFrame::get(1)],
            Answers(1, 200),
        ),
        case(
            "6.5.2: several of a kind",
            &[RawFrame::settings(&[(4, 1), (4, 100)]), RawFrame::get(1)],
            Answers(1, 200),
        ),
        case("6.5.2: no table for headers", &[settings(1, 0), RawFrame::get(1)], Answers(1, 200)),
        case(
            "6.6: a push by a client",
            &[RawFrame::new(
                kind::PUSH_PROMISE,
                4,
                1,
                [&[0, 0, 0, 2], header_block(&GET).as_slice()].concat(),
            )],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.7: an answer that nobody waits for",
            &[RawFrame::ping([7; 8]).with_flags(flag::ACK)],
            Passes,
        ),
        case(
            "6.7: a ping on a stream",
            &[RawFrame { stream: 1, ..RawFrame::ping([0; 8]) }],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.7: a ping of another length (the RFC: FRAME_SIZE_ERROR)",
            &[RawFrame::new(kind::PING, 0, 0, [0; 6])],
            Ends(PROTOCOL_ERROR),
        ),
        case("6.8: a goaway on a stream", &[goaway(1)], Ends(PROTOCOL_ERROR)),
        case("6.8: a goaway of an idle client", &[goaway(0)], Ends(NO_ERROR)),
    ]);
}

#[test]
fn section_6_windows_and_continuations() {
    let block = header_block(&GET);
    let (first, rest) = block.split_at(5);
    let (second, third) = rest.split_at(5);
    let piece = |flags: u8, stream: u32, bytes: &[u8]| {
        RawFrame::new(kind::CONTINUATION, flags, stream, bytes)
    };
    let begin = RawFrame::new(kind::HEADERS, flag::END_STREAM, 1, first);
    let over_window = |length: usize| {
        let mut frames = vec![RawFrame::post(1), RawFrame::post(3)];
        frames.extend((0..length / 16_384).map(|_| RawFrame::data(1, vec![b'x'; 16_384], false)));
        frames.push(RawFrame::data(1, vec![b'x'; length % 16_384], false));
        frames
    };
    hold(vec![
        case("6.9: an increment of 0", &[RawFrame::window_update(0, 0)], Ends(PROTOCOL_ERROR)),
        case(
            "6.9: the same on a stream (the RFC: an error of the stream)",
            &[RawFrame::post(1), RawFrame::window_update(1, 0)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.9: an increment of another length (the RFC: FRAME_SIZE_ERROR)",
            &[RawFrame::new(kind::WINDOW_UPDATE, 0, 0, [0, 0, 1])],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.9.1: too large a window of the connection",
            &[RawFrame::window_update(0, (1 << 31) - 1)],
            Ends(FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.1: too large a window of a stream",
            &[RawFrame::post(1), RawFrame::window_update(1, (1 << 31) - 1)],
            Resets(1, FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9.2: too large a window by settings",
            &[
                RawFrame::post(1),
                RawFrame::window_update(1, 100_000),
                RawFrame::settings(&[(4, (1 << 31) - 1)]),
            ],
            Ends(FLOW_CONTROL_ERROR),
        ),
        case(
            "6.9: more data than a stream has room for",
            &over_window(200_000),
            Resets(1, FLOW_CONTROL_ERROR),
        ),
        case(
            "6.10: a block in three",
            &[begin.clone(), piece(0, 1, second), piece(flag::END_HEADERS, 1, third)],
            Answers(1, 200),
        ),
        case(
            "6.10: an empty piece",
            &[begin.clone(), piece(0, 1, b""), piece(flag::END_HEADERS, 1, rest)],
            Answers(1, 200),
        ),
        case(
            "6.10: a piece after the end",
            &[RawFrame::get(1), piece(4, 1, b"")],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.10: a piece on no stream",
            &[begin.clone(), piece(4, 0, rest)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.10: a piece of another stream",
            &[begin.clone(), piece(4, 3, rest)],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "6.10: data within a block",
            &[begin, RawFrame::data(1, "x", true)],
            Ends(PROTOCOL_ERROR),
        ),
    ]);
}

#[test]
fn section_8_requests() {
    let post = |fields: &[(&str, &str)]| RawFrame::headers(1, &[&POST, fields].concat(), false);
    let trailers = |fields: &[(&str, &str)], is_last: bool| RawFrame::headers(1, fields, is_last);
    let body = |text: &str| RawFrame::data(1, text, true);
    let malformed = Resets(1, PROTOCOL_ERROR);
    hold(vec![
        case("8.1: a body, and no trailers", &[RawFrame::post(1), body("x")], Answers(1, 200)),
        case(
            "8.1: trailers",
            &[RawFrame::post(1), RawFrame::data(1, "x", false), trailers(&[("x-a", "1")], true)],
            Answers(1, 200),
        ),
        case(
            "8.1: headers again that are no trailers",
            &[RawFrame::post(1), trailers(&[("x-a", "1")], false)],
            malformed,
        ),
        case(
            "8.1: a pseudo-header among trailers (the RFC: malformed; it is dropped)",
            &[RawFrame::post(1), trailers(&[(":path", "/")], true)],
            Answers(1, 200),
        ),
        case(
            "8.1.1: a length of 0 and no body",
            &[get_with(&[("content-length", "0")])],
            Answers(1, 200),
        ),
        case("8.1.1: a length and no body", &[get_with(&[("content-length", "1")])], malformed),
        case(
            "8.1.1: a body as long as it says",
            &[post(&[("content-length", "4")]), body("body")],
            Answers(1, 200),
        ),
        case("8.1.1: a longer body", &[post(&[("content-length", "3")]), body("body")], malformed),
        case("8.1.1: a shorter body", &[post(&[("content-length", "5")]), body("body")], malformed),
        case(
            "8.1.1: a body in pieces, and too long",
            &[post(&[("content-length", "3")]), RawFrame::data(1, "xx", false), body("xx")],
            malformed,
        ),
        case(
            "8.1.1: shorter before trailers",
            &[
                post(&[("content-length", "3")]),
                RawFrame::data(1, "xx", false),
                trailers(&[("x-a", "1")], true),
            ],
            malformed,
        ),
        case(
            "8.1.1: a length that is none",
            &[post(&[("content-length", "+4")]), body("body")],
            malformed,
        ),
        case(
            "8.1.1: two lengths",
            &[post(&[("content-length", "4"), ("content-length", "5")]), body("body")],
            malformed,
        ),
        case(
            "8.2.1: a capital (the RFC: an error of the stream)",
            &[get_with(&[("X-A", "1")])],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "8.2.1: a name that is none (likewise)",
            &[get_with(&[("a b", "1")])],
            Ends(PROTOCOL_ERROR),
        ),
        case("8.2.1: no name (likewise)", &[get_with(&[("", "1")])], Ends(PROTOCOL_ERROR)),
        case(
            "8.2.1: a line end in a value (likewise)",
            &[get_with(&[("a", "1\r\nb: 2")])],
            Ends(PROTOCOL_ERROR),
        ),
        case(
            "8.2.1: a NUL in a value (likewise)",
            &[get_with(&[("a", "1\0")])],
            Ends(PROTOCOL_ERROR),
        ),
        case("8.2.1: a space before a value", &[get_with(&[("a", " 1")])], Answers(1, 400)),
        case("8.2.1: a tab behind a value", &[get_with(&[("a", "1\t")])], Answers(1, 400)),
        case("8.2.2: connection", &[get_with(&[("connection", "close")])], malformed),
        case("8.2.2: keep-alive", &[get_with(&[("keep-alive", "1")])], malformed),
        case("8.2.2: proxy-connection", &[get_with(&[("proxy-connection", "close")])], malformed),
        case(
            "8.2.2: transfer-encoding",
            &[post(&[("transfer-encoding", "chunked")]), body("x")],
            malformed,
        ),
        case("8.2.2: upgrade", &[get_with(&[("upgrade", "h2c")])], malformed),
        case("8.2.2: te: gzip", &[get_with(&[("te", "gzip")])], malformed),
        case("8.2.2: te: trailers", &[get_with(&[("te", "trailers")])], Answers(1, 200)),
        case("8.2.3: cookies", &[get_with(&[("cookie", "a"), ("cookie", "b")])], Answers(1, 200)),
    ]);
}

#[test]
fn section_8_pseudo_headers() {
    let malformed = Resets(1, PROTOCOL_ERROR);
    let with = |name: &str, value: &str| {
        let fields: Vec<_> =
            GET.iter().map(|(it, old)| (*it, if *it == name { value } else { *old })).collect();
        request(&fields)
    };
    hold(vec![
        case("8.3: one that nobody knows", &[get_with(&[(":other", "1")])], Ends(PROTOCOL_ERROR)),
        case(
            "8.3: one of responses",
            &[request(&[&[(":status", "200")], &GET[..]].concat())],
            malformed,
        ),
        case("8.3: one behind others", &[request(&[&[("a", "1")], &GET[..]].concat())], malformed),
        case("8.3.1: no method", &[get_without(":method")], malformed),
        case("8.3.1: no scheme", &[get_without(":scheme")], malformed),
        case("8.3.1: no path", &[get_without(":path")], malformed),
        case("8.3.1: no authority and no host", &[get_without(":authority")], Answers(1, 400)),
        case(
            "8.3.1: two methods",
            &[request(&[&[(":method", "GET")], &GET[..]].concat())],
            malformed,
        ),
        case("8.3.1: two paths", &[request(&[&[(":path", "/")], &GET[..]].concat())], malformed),
        case(
            "8.3.1: two authorities",
            &[request(&[&[(":authority", "c")], &GET[..]].concat())],
            malformed,
        ),
        case("8.3.1: an empty path", &[with(":path", "")], malformed),
        case("8.3.1: a path without a slash", &[with(":path", "x")], malformed),
        case("8.3.1: a star", &[with(":path", "*")], Answers(1, 400)),
        case("8.3.1: a space in the path", &[with(":path", "/a b")], malformed),
        // `h2` cuts it off: RFC 9113 has no fragment in a path.
        case("8.3.1: a fragment in the path", &[with(":path", "/a#b")], Answers(1, 200)),
        case("8.3.1: a scheme that is none", &[with(":scheme", "h t")], malformed),
        case("8.3.1: another scheme", &[with(":scheme", "https")], Answers(1, 200)),
        case("8.3.1: an authority that is none", &[with(":authority", "a b")], malformed),
        case("8.3.1: an authority with a user", &[with(":authority", "u@b")], Answers(1, 400)),
        case("8.3.1: another host", &[get_with(&[("host", "c")])], Answers(1, 400)),
        case("8.3.1: the same host", &[get_with(&[("host", "b.example")])], Answers(1, 200)),
        case("8.3.1: a method that is none", &[with(":method", "G T")], Ends(PROTOCOL_ERROR)),
        case("8.3.1: a method of one's own", &[with(":method", "BREW")], Answers(1, 200)),
        case(
            "8.5: CONNECT",
            &[request(&[(":method", "CONNECT"), (":authority", "b.example:443")])],
            Answers(1, 501),
        ),
        case(
            "8.5: CONNECT with a path",
            &[request(&[(":method", "CONNECT"), (":authority", "b:443"), (":path", "/")])],
            malformed,
        ),
        case(
            "RFC 8441: an extended CONNECT",
            &[request(&[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "b.example"),
            ])],
            malformed,
        ),
    ]);
}

#[test]
fn header_compression() {
    // The RFC has COMPRESSION_ERROR for all of them.
    let broken = Ends(PROTOCOL_ERROR);
    let literal = |name: &[u8], value: &[u8]| {
        [&[0x40, name.len() as u8], name, &[value.len() as u8], value].concat()
    };
    let cases = vec![
        case("RFC 7541 2.3.1: by the static table", &[indexed(&[])], Answers(1, 200)),
        case(
            "2.3.2: by the dynamic table",
            &[indexed(&[&literal(b"a", b"1"), &[0xbe][..]].concat())],
            Answers(1, 200),
        ),
        case("2.3.3: index 0", &[indexed(&[0x80])], broken),
        case("2.3.3: an index beyond the tables", &[indexed(&[0xbe])], broken),
        case("2.3.3: a name beyond the tables", &[indexed(&[0x7e, 1, b'1'])], broken),
        case(
            "4.2: a table size in front",
            &[block(&[&[0x20], &indexed(&[]).payload[..]].concat())],
            Answers(1, 200),
        ),
        case(
            "4.2: a table size larger than it may be",
            &[block(&[&[0x3f, 0xe2, 0x1f], &indexed(&[]).payload[..]].concat())],
            broken,
        ),
        case("4.2: a table size behind a field", &[indexed(&[0x20])], broken),
        case("5.1: an integer without end", &[indexed(&[0xff; 12])], broken),
        case("5.1: an index cut off", &[indexed(&[0xff])], broken),
        case("5.2: a string longer than its block", &[indexed(&[0x40, 1, b'a', 9, b'1'])], broken),
        case(
            "5.2: Huffman: 7 bits of padding",
            // 1, 3, 4: 00001, 011001, 011010.
            &[indexed(&[0x40, 1, b'a', 0x83, 0x0b, 0x2d, 0x7f])],
            Answers(1, 200),
        ),
        case(
            "5.2: Huffman: more than 7 bits of padding",
            &[indexed(&[0x40, 1, b'a', 0x82, 0x07, 0xff])],
            broken,
        ),
        case(
            "5.2: Huffman: a byte of padding",
            &[indexed(&[0x40, 1, b'a', 0x82, 0x07, 0xff, 0xff])],
            broken,
        ),
        case("5.2: Huffman: padding of zeros", &[indexed(&[0x40, 1, b'a', 0x81, 0x00])], broken),
        case(
            "5.2: Huffman: the end of strings",
            &[indexed(&[0x40, 1, b'a', 0x84, 0xff, 0xff, 0xff, 0xff])],
            broken,
        ),
        case(
            "6.2.1: what one request adds another may use",
            &[
                RawFrame { flags: 4, ..indexed(&literal(b"a", b"1")) },
                RawFrame::new(kind::HEADERS, 5, 3, [0x82, 0x86, 0x84, 0x01, 1, b'b', 0xbe]),
            ],
            Answers(3, 200),
        ),
    ];
    hold(cases);
}
