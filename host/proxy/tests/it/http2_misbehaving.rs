//! Upstreams that break the rules of HTTP/2 (RFC 9113), or end what they were asked: each has its
//! outcome for the call, which a breaker counts, and the next call is answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fusebox_dev::{FramedConnection, Origin, RawFrame, flag, get, header_block, kind};
use serde_json::Value;

use crate::support::Proxy;

/// What an upstream does with a request, and what comes of it.
struct Case {
    /// By section of RFC 9113, or RFC 7541.
    name: &'static str,
    does: fn(&mut FramedConnection<'_>, u32),
    /// `None`: an answer that is whole.
    error: Option<&'static str>,
    /// What the log says of it.
    says: &'static str,
    /// How often the upstream is asked.
    asked: usize,
}

const fn breaks(
    name: &'static str,
    error: &'static str,
    says: &'static str,
    does: fn(&mut FramedConnection<'_>, u32),
) -> Case {
    Case { name, does, error: Some(error), says, asked: 1 }
}

const fn goes_on(name: &'static str, does: fn(&mut FramedConnection<'_>, u32)) -> Case {
    Case { name, does, error: None, says: "", asked: 1 }
}

const LOST: &str = "connection_terminated";
const PROTOCOL: &str = "http_protocol_error";
const REFUSED: &str = "connection_refused";

/// It is ended for what the upstream sent.
const OURS: &str = "ended by us";

const OK: (&str, &str) = (":status", "200");

fn head(stream: u32, fields: &[(&str, &str)]) -> RawFrame {
    RawFrame::headers(stream, fields, true)
}

/// Resets the stream with this code.
macro_rules! reset {
    ($code:expr, $error:expr, $says:expr) => {
        breaks(concat!("7 ", $says), $error, concat!("stream ended by the upstream: ", $says), {
            |peer, stream| peer.send(&[RawFrame::reset(stream, $code)])
        })
    };
}

const BEFORE_THE_HEAD: &[Case] = &[
    // ----- 7: error codes -----
    reset!(0, LOST, "NO_ERROR"),
    reset!(1, PROTOCOL, "PROTOCOL_ERROR"),
    reset!(2, LOST, "INTERNAL_ERROR"),
    reset!(3, PROTOCOL, "FLOW_CONTROL_ERROR"),
    reset!(4, PROTOCOL, "SETTINGS_TIMEOUT"),
    reset!(5, PROTOCOL, "STREAM_CLOSED"),
    reset!(6, PROTOCOL, "FRAME_SIZE_ERROR"),
    Case { asked: 2, ..reset!(7, REFUSED, "REFUSED_STREAM") },
    reset!(8, LOST, "CANCEL"),
    reset!(9, PROTOCOL, "COMPRESSION_ERROR"),
    reset!(10, LOST, "CONNECT_ERROR"),
    reset!(11, LOST, "ENHANCE_YOUR_CALM"),
    reset!(12, PROTOCOL, "INADEQUATE_SECURITY"),
    reset!(13, PROTOCOL, "HTTP_1_1_REQUIRED"),
    reset!(0xff, PROTOCOL, "Reason(ff)"),
    // ----- 6.8: GOAWAY -----
    Case {
        name: "6.8 not processed",
        does: |peer, _| peer.send(&[RawFrame::go_away(0, 0)]),
        error: Some(REFUSED),
        says: "connection ended by the upstream: NO_ERROR",
        asked: 2,
    },
    Case {
        name: "6.8 not processed, for another reason",
        does: |peer, _| peer.send(&[RawFrame::go_away(0, 11)]),
        error: Some(REFUSED),
        says: "connection ended by the upstream: ENHANCE_YOUR_CALM",
        asked: 2,
    },
    breaks("6.8 processed, and closed", LOST, "ended by the upstream: INTERNAL_ERROR", {
        |peer, stream| {
            peer.send(&[RawFrame::go_away(stream, 2)]);
            peer.close();
        }
    }),
    goes_on("6.8 processed, and answered", |peer, stream| {
        peer.send(&[RawFrame::go_away(stream, 2), head(stream, &[OK])]);
    }),
    breaks("6.8 a last stream that was not", PROTOCOL, "PROTOCOL_ERROR", |peer, stream| {
        peer.send(&[RawFrame::go_away(stream, 0), RawFrame::go_away(stream + 8, 0)]);
    }),
    breaks("9.1 closes", LOST, "closed by the upstream", |peer, _| peer.close()),
    breaks("9.1 resets", LOST, "", |peer, _| {
        peer.wire.resets();
        peer.close();
    }),
    // ----- 4: frames -----
    breaks("4.1 speaks no HTTP/2", PROTOCOL, OURS, |peer, _| {
        peer.wire.try_send("HTTP/1.1 400 Bad Request\r\n\r\n").ok();
    }),
    goes_on("4.1 an unknown frame", |peer, stream| {
        peer.send(&[RawFrame::new(0x7f, 0xff, stream, [1, 2, 3]), head(stream, &[OK])]);
    }),
    breaks("4.2 a frame too large", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::data(stream, vec![0; 16_385], false)]);
    }),
    breaks("4.3 a header block that is none", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::new(kind::HEADERS, 5, stream, [0xff; 16])]);
    }),
    breaks("RFC 7541 2.3.3 an index beyond the tables", PROTOCOL, OURS, {
        |peer, stream| peer.send(&[RawFrame::new(kind::HEADERS, 5, stream, [0x88, 0xfe])])
    }),
    breaks("RFC 7541 4.2 a table larger than allowed", PROTOCOL, OURS, {
        |peer, stream| {
            let update = [0x3f, 0xe2, 0xff, 0x7f, 0x88];
            peer.send(&[RawFrame::new(kind::HEADERS, 5, stream, update)]);
        }
    }),
    breaks(
        "4.3 another frame within a header block",
        PROTOCOL,
        "PROTOCOL_ERROR",
        |peer, stream| {
            peer.send(&[
                RawFrame::new(kind::HEADERS, 0, stream, header_block(&[OK])),
                RawFrame::data(stream, [], false),
            ]);
        },
    ),
    // ----- 5: streams -----
    breaks("5.1 a head on an idle stream", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream + 2, &[OK])]);
    }),
    breaks("5.1 data on an idle stream", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::data(stream + 2, "x", false)]);
    }),
    breaks("5.1 a reset of an idle stream", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::reset(stream + 2, 8)]);
    }),
    breaks("5.1 a window of an idle stream", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::window_update(stream + 2, 1)]);
    }),
    breaks("5.1.1 a stream of the server's", PROTOCOL, OURS, |peer, _| {
        peer.send(&[head(2, &[OK])]);
    }),
    // ----- 6: frame by frame -----
    breaks("6.1 data before a head", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::data(stream, "x", false)]);
    }),
    breaks("6.1 data of no stream", PROTOCOL, OURS, |peer, _| {
        peer.send(&[RawFrame::data(0, "x", false)]);
    }),
    breaks("6.2 a head of no stream", PROTOCOL, OURS, |peer, _| {
        peer.send(&[head(0, &[OK])]);
    }),
    goes_on("6.3 a priority", |peer, stream| {
        peer.send(&[RawFrame::new(2, 0, stream, [0, 0, 0, 9, 1]), head(stream, &[OK])]);
    }),
    breaks("6.4 a reset of another length", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::new(kind::RESET, 0, stream, [0; 5])]);
    }),
    breaks("6.4 a reset of no stream", PROTOCOL, OURS, |peer, _| {
        peer.send(&[RawFrame::reset(0, 8)]);
    }),
    breaks("6.5 settings of a stream", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::new(kind::SETTINGS, 0, stream, [])]);
    }),
    breaks("6.5 settings of another length", PROTOCOL, OURS, |peer, _| {
        peer.send(&[RawFrame::new(kind::SETTINGS, 0, 0, [0; 5])]);
    }),
    breaks("6.5.2 a window too large", PROTOCOL, OURS, |peer, _| {
        peer.send(&[RawFrame::settings(&[(4, 1 << 31)])]);
    }),
    breaks("6.5.2 a frame size too small", PROTOCOL, OURS, |peer, _| {
        peer.send(&[RawFrame::settings(&[(5, 100)])]);
    }),
    breaks("6.6 a push", PROTOCOL, OURS, |peer, stream| {
        let promise = [&2_u32.to_be_bytes()[..], &header_block(&[(":method", "GET")])].concat();
        peer.send(&[RawFrame::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, promise)]);
    }),
    breaks("6.7 a ping of another length", PROTOCOL, OURS, |peer, _| {
        peer.send(&[RawFrame::new(kind::PING, 0, 0, [0; 7])]);
    }),
    breaks("6.7 a ping of a stream", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::new(kind::PING, 0, stream, [0; 8])]);
    }),
    breaks("6.9 no more window", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::window_update(stream, 0)]);
    }),
    goes_on("6.9.1 too much window of a stream that needs none", |peer, stream| {
        peer.send(&[RawFrame::window_update(stream, (1 << 31) - 1), head(stream, &[OK])]);
    }),
    breaks("6.9.1 too much window in all", PROTOCOL, OURS, |peer, _| {
        peer.send(&[RawFrame::window_update(0, (1 << 31) - 1)]);
    }),
    breaks("6.10 more of no head", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::new(kind::CONTINUATION, 4, stream, [])]);
    }),
    breaks("6.10 more of another head", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[
            RawFrame::new(kind::HEADERS, 1, stream, header_block(&[OK])),
            RawFrame::new(kind::CONTINUATION, 4, stream + 2, []),
        ]);
    }),
    // ----- 8: messages -----
    breaks("8.1 an end without a head", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::data(stream, [], true)]);
    }),
    breaks("8.1.1 a length, and no body", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream, &[OK, ("content-length", "5")])]);
    }),
    breaks("8.1.1 lengths that differ", PROTOCOL, OURS, |peer, stream| {
        let lengths = [OK, ("content-length", "5"), ("content-length", "6")];
        peer.send(&[RawFrame::headers(stream, &lengths, false)]);
    }),
    breaks("8.2 a name in upper case", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream, &[OK, ("X-Upper", "1")])]);
    }),
    breaks("8.2.1 a line end in a value", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream, &[OK, ("x-a", "1\r\nx-b: 2")])]);
    }),
    breaks("8.2.2 of one connection only", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream, &[OK, ("connection", "close")])]);
    }),
    breaks("8.2.2 a transfer coding", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[RawFrame::headers(stream, &[OK, ("transfer-encoding", "chunked")], false)]);
    }),
    breaks("8.3 a status behind other fields", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream, &[("x-a", "1"), OK])]);
    }),
    breaks("8.3 two statuses", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream, &[OK, OK])]);
    }),
    breaks("8.3.2 no status", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream, &[("x-a", "1")])]);
    }),
    breaks("8.3.2 no number", PROTOCOL, OURS, |peer, stream| {
        peer.send(&[head(stream, &[(":status", "ok")])]);
    }),
    breaks("8.6 switches protocols", PROTOCOL, "switched protocols", |peer, stream| {
        peer.send(&[RawFrame::headers(stream, &[(":status", "101")], false)]);
    }),
    // ----- floods -----
    breaks("interim responses without end", PROTOCOL, "more than 100 interim", |peer, stream| {
        let hints =
            vec![RawFrame::new(kind::HEADERS, 4, stream, header_block(&[(":status", "103")])); 999];
        for _ in 0..100 {
            peer.send(&hints);
        }
    }),
    breaks("a head without end", PROTOCOL, "ENHANCE_YOUR_CALM", |peer, stream| {
        peer.send(&[RawFrame::new(kind::HEADERS, 0, stream, header_block(&[OK]))]);
        peer.send(&vec![RawFrame::new(kind::CONTINUATION, 0, stream, []); 10_000]);
    }),
    breaks("a head that is too large", PROTOCOL, OURS, |peer, stream| {
        let value = "x".repeat(12_000);
        peer.send(&[RawFrame::new(kind::HEADERS, 1, stream, header_block(&[OK]))]);
        for _ in 0..6 {
            peer.send(&[RawFrame::new(
                kind::CONTINUATION,
                0,
                stream,
                header_block(&[("x-a", &value)]),
            )]);
        }
        peer.send(&[RawFrame::new(kind::CONTINUATION, 4, stream, [])]);
    }),
    goes_on("many pings", |peer, stream| {
        peer.send(&vec![RawFrame::new(kind::PING, 0, 0, [0; 8]); 10_000]);
        peer.send(&[head(stream, &[OK])]);
    }),
    goes_on("many settings", |peer, stream| {
        peer.send(&vec![RawFrame::settings(&[]); 10_000]);
        peer.send(&[head(stream, &[OK])]);
    }),
];

/// Each on a connection of its own.
const CONFIG: &str = "workers = 1\nlog = { level = 'debug' }\n[policies.breaker]\n\
    kind = 'circuit-breaker'\nfailure_threshold = 1000\nfailure_capacity = 1000\n[[routes]]\n\
    policies = ['breaker']\n\
    upstream = { url = 'ORIGIN', protocol = 'http2', max_idle = 0, body_timeout = '300ms', \
    response_timeout = '5s' }\n";

fn failures(proxy: &Proxy) -> u64 {
    proxy.state()["policies"]["breaker"]["failures"].as_u64().expect("a number")
}

/// An origin that does what the case of this number says.
fn origin(cases: &'static [Case]) -> (Origin, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (case, asked) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let (of_case, count) = (case.clone(), asked.clone());
    let origin = Origin::framed(move |peer, stream| {
        count.fetch_add(1, Ordering::SeqCst);
        (cases[of_case.load(Ordering::SeqCst)].does)(peer, stream);
    });
    (origin, case, asked)
}

#[test]
fn whatever_an_upstream_does_before_the_head_has_an_outcome() {
    let (origin, current, asked) = origin(BEFORE_THE_HEAD);
    let proxy = Proxy::before(&origin, CONFIG);
    let mut wrong = Vec::new();
    for (number, case) in BEFORE_THE_HEAD.iter().enumerate() {
        current.store(number, Ordering::SeqCst);
        asked.store(0, Ordering::SeqCst);
        let before = failures(&proxy);
        let id = format!("case-{number}");
        // Not safe to repeat, unless it was not processed.
        let mut client = proxy.connect();
        let mut answer = client.ask(get("/", &id).replace("GET", "POST"));
        while answer.status() < 200 {
            answer = client.response();
        }
        let status = answer.status();
        let line = proxy.story(&id).last().expect("a line").clone();
        let error = line["error"].as_str();
        let detail = line["detail"].as_str().unwrap_or_default();
        let asked = asked.load(Ordering::SeqCst);
        let failed = failures(&proxy) - before;
        let expected = if case.error.is_some() { (502, 1) } else { (200, 0) };
        let is_right = (status, failed) == expected
            && (error, asked) == (case.error, case.asked)
            && detail.contains(case.says)
            && line["attempts"] == 1;
        if !is_right {
            wrong.push(format!("{}: {status} {error:?} {detail}, {asked}, {failed}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Begins a body without end.
fn begin(peer: &mut FramedConnection<'_>, stream: u32) {
    peer.send(&[RawFrame::headers(stream, &[OK], false), RawFrame::data(stream, "begun", false)]);
}

/// The same for the end of a body that has begun.
macro_rules! reset_within {
    ($code:expr, $error:expr, $says:expr) => {
        breaks(concat!("7 ", $says), $error, "", |peer, stream| {
            begin(peer, stream);
            peer.send(&[RawFrame::reset(stream, $code)]);
        })
    };
}

const WITHIN_THE_BODY: &[Case] = &[
    reset_within!(0, "connection-lost", "NO_ERROR"),
    reset_within!(1, "protocol", "PROTOCOL_ERROR"),
    reset_within!(2, "connection-lost", "INTERNAL_ERROR"),
    reset_within!(7, "connection-lost", "REFUSED_STREAM"),
    reset_within!(8, "connection-lost", "CANCEL"),
    breaks("6.8 goes away, and closes", "connection-lost", "", |peer, stream| {
        begin(peer, stream);
        peer.send(&[RawFrame::go_away(stream, 0)]);
        peer.close();
    }),
    breaks("6.8 goes away from what it has begun", "connection-lost", "", |peer, stream| {
        begin(peer, stream);
        peer.send(&[RawFrame::go_away(0, 0)]);
    }),
    breaks("9.1 closes", "connection-lost", "", |peer, stream| {
        begin(peer, stream);
        peer.close();
    }),
    breaks("8.1.1 less than its length", "protocol", "", |peer, stream| {
        peer.send(&[RawFrame::headers(stream, &[OK, ("content-length", "9")], false)]);
        peer.send(&[RawFrame::data(stream, "begun", true)]);
    }),
    breaks("8.1.1 more than its length", "protocol", "", |peer, stream| {
        peer.send(&[RawFrame::headers(stream, &[OK, ("content-length", "9")], false)]);
        peer.send(&[
            RawFrame::data(stream, "begun", false),
            RawFrame::data(stream, "and more", true),
        ]);
    }),
    breaks("8.1 trailers that are not the end", "protocol", "", |peer, stream| {
        begin(peer, stream);
        peer.send(&[RawFrame::headers(stream, &[("x-a", "1")], false)]);
    }),
    // It should be malformed, but is only left out.
    goes_on("8.1 a status in trailers", |peer, stream| {
        begin(peer, stream);
        peer.send(&[head(stream, &[OK])]);
    }),
    breaks("empty data without end", "protocol", "", |peer, stream| {
        begin(peer, stream);
        peer.send(&vec![RawFrame::data(stream, [], false); 1_000]);
    }),
    breaks("a body that stalls", "timeout", "", begin),
    goes_on("8.1 an answer that is whole, and then a reset", |peer, stream| {
        begin(peer, stream);
        peer.send(&[RawFrame::data(stream, "", true), RawFrame::reset(stream, 0)]);
    }),
    goes_on("6.1 data with padding", |peer, stream| {
        peer.send(&[RawFrame::headers(stream, &[OK, ("content-length", "5")], false)]);
        peer.send(&[RawFrame::new(kind::DATA, 0x8 | flag::END_STREAM, stream, "\x03begun\0\0\0")]);
    }),
];

#[test]
fn whatever_an_upstream_does_within_the_body_has_an_outcome() {
    let (origin, current, asked) = origin(WITHIN_THE_BODY);
    let proxy = Proxy::before(&origin, CONFIG);
    let mut wrong = Vec::new();
    for (number, case) in WITHIN_THE_BODY.iter().enumerate() {
        current.store(number, Ordering::SeqCst);
        asked.store(0, Ordering::SeqCst);
        let before = failures(&proxy);
        let id = format!("case-{number}");
        let mut client = proxy.connect();
        client.send(get("/", &id));
        let answer = client.any_response();
        let story = proxy.story(&id);
        let error = story.iter().find_map(|line| line.get("failure").and_then(Value::as_str));
        let end = &story.last().expect("a line")["response"]["end"];
        let asked = asked.load(Ordering::SeqCst);
        let failed = failures(&proxy) - before;
        let expected = if case.error.is_some() { ("broken", 1) } else { ("whole", 0) };
        let is_right = (end.as_str(), failed) == (Some(expected.0), expected.1)
            && (answer.status(), answer.broken.is_some()) == (200, case.error.is_some())
            && (error, asked) == (case.error, case.asked);
        if !is_right {
            wrong.push(format!("{}: {answer:?} {end} {error:?}, {asked}, {failed}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
