//! Clients that send much that makes work and brings nothing on: they are told to calm down, their
//! neighbours are answered meanwhile, and memory stays bounded.

use std::thread;
use std::time::Duration;

use fusebox_dev::{
    FrozenThread, GET, Origin, RawFrame, Wire, eventually, flag, get, header_block, kind, ok,
};
use serde_json::json;

use crate::support::{Proxy, ROUTE};

const ENHANCE_YOUR_CALM: u32 = 11;

/// What a client sends after its preface, and how the end is counted.
struct Flood {
    name: &'static str,
    first: Vec<RawFrame>,
    /// The frames with this number.
    then: fn(u32) -> Vec<RawFrame>,
    times: u32,
    fault: &'static str,
}

fn opened(number: u32) -> u32 {
    2 * number + 1
}

/// Every flood that has a name.
fn floods() -> Vec<Flood> {
    let block = || RawFrame::new(kind::HEADERS, flag::END_STREAM, 1, header_block(&GET));
    vec![
        Flood {
            name: "rapid reset (CVE-2023-44487)",
            first: vec![],
            then: |number| vec![RawFrame::get(opened(number)), RawFrame::reset(opened(number), 8)],
            times: 5_000,
            fault: "reset-flood",
        },
        Flood {
            name: "resets that the server is made to send (CVE-2025-8671)",
            first: vec![],
            then: |number| {
                let stream = opened(number);
                vec![RawFrame::get(stream), RawFrame::window_update(stream, (1 << 31) - 1)]
            },
            times: 5_000,
            fault: "reset-flood",
        },
        Flood {
            name: "malformed requests",
            first: vec![],
            then: |number| vec![RawFrame::headers(opened(number), &GET[1..], true)],
            times: 5_000,
            fault: "reset-flood",
        },
        Flood {
            name: "pings (CVE-2019-9512)",
            first: vec![],
            then: |number| vec![RawFrame::ping(u64::from(number).to_be_bytes())],
            times: 20_000,
            fault: "ping-flood",
        },
        Flood {
            name: "settings (CVE-2019-9515)",
            first: vec![],
            then: |number| vec![RawFrame::settings(&[(4, number)])],
            times: 20_000,
            fault: "settings-flood",
        },
        Flood {
            name: "priorities (CVE-2019-9513)",
            first: vec![],
            then: |number| vec![RawFrame::new(kind::PRIORITY, 0, opened(number), [0; 5])],
            times: 20_000,
            fault: "priority-flood",
        },
        Flood {
            name: "window updates",
            first: vec![],
            then: |_| vec![RawFrame::window_update(0, 1)],
            times: 20_000,
            fault: "window-update-flood",
        },
        Flood {
            name: "frames that nobody knows",
            first: vec![],
            then: |_| vec![RawFrame::new(0xfa, 0, 0, [0; 9])],
            times: 20_000,
            fault: "unknown-flood",
        },
        Flood {
            name: "empty data (CVE-2019-9518)",
            first: vec![RawFrame::post(1)],
            then: |_| vec![RawFrame::data(1, "", false)],
            times: 20_000,
            fault: "flood",
        },
        Flood {
            name: "continuations (CVE-2024-27316)",
            first: vec![block()],
            then: |_| vec![RawFrame::new(kind::CONTINUATION, 0, 1, "")],
            times: 20_000,
            fault: "flood",
        },
        Flood {
            name: "a head without end",
            first: vec![block()],
            then: |_| {
                let field = header_block(&[("x", &"x".repeat(16_000))]);
                vec![RawFrame::new(kind::CONTINUATION, 0, 1, field)]
            },
            times: 1_000,
            fault: "flood",
        },
    ]
}

/// Sends as much as is taken, and gives what the other side says last.
fn last_words(mut wire: Wire, flood: &Flood) -> Option<RawFrame> {
    let mut sender = wire.sender();
    let (first, then, times) = (flood.first.clone(), flood.then, flood.times);
    let sending = thread::spawn(move || {
        let bytes = |frames: Vec<RawFrame>| frames.iter().flat_map(RawFrame::bytes).collect();
        let first: Vec<u8> = bytes(first);
        if sender.try_send(first).is_err() {
            return;
        }
        for begin in (0..times).step_by(100) {
            let more: Vec<u8> =
                (begin..begin + 100).flat_map(|number| bytes(then(number))).collect();
            if sender.try_send(more).is_err() {
                return;
            }
        }
    });
    let mut last = None;
    while let Some(frame) = wire.frame() {
        last = Some(frame);
    }
    drop(wire);
    sending.join().expect("no panic");
    last
}

#[test]
fn every_flood_ends_its_connection_and_nobody_else_notices() {
    const MEMORY: u64 = 24 << 20;
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let mut neighbour = proxy.connect();
    assert_eq!(neighbour.ask(get("/", "first")).status(), 200);
    let before = proxy.peak_memory();
    let mut expected = std::collections::BTreeMap::new();
    for flood in floods() {
        let mut wire = proxy.connect();
        wire.begin_http2(&[]);
        let last = thread::scope(|scope| {
            let flooding = scope.spawn(|| last_words(wire, &flood));
            while !flooding.is_finished() {
                assert_eq!(neighbour.ask(get("/", "neighbour")).status(), 200);
            }
            flooding.join().expect("no panic")
        });
        let last = last.unwrap_or_else(|| panic!("{}: no word", flood.name));
        assert_eq!(last.kind, kind::GOAWAY, "{}", flood.name);
        assert_eq!(last.number(4), ENHANCE_YOUR_CALM, "{}", flood.name);
        *expected.entry(flood.fault).or_insert(0.0) += 1.0;
        let series = format!("fusebox_connection_faults_total{{fault=\"{}\"}}", flood.fault);
        proxy.counts(&[(&series, expected[flood.fault])]);
    }
    proxy.counts(&[("fusebox_connections", 1.0)]);
    assert_eq!(neighbour.ask(get("/", "last")).status(), 200);
    let grown = proxy.peak_memory().saturating_sub(before);
    assert!(grown < MEMORY, "{grown} bytes");
    assert_eq!(proxy.line("Connection ended: too many pings")["fault"], "ping-flood");
}

#[test]
fn calls_whose_deadline_passes_are_no_flood() {
    let origin = Origin::start(|connection| {
        while let Some(request) = connection.request() {
            if request.request.target() == "/hangs" {
                connection.wire.rest();
                return;
            }
            connection.wire.send(ok("here"));
        }
    });
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let mut wire = proxy.connect();
    wire.begin_http2(&[(1, 0)]);
    let hangs = [(":method", "GET"), (":scheme", "http"), (":authority", "b"), (":path", "/hangs")];
    let mut opened = (0..).map(opened);
    for round in 1..=5 {
        let streams: Vec<_> = opened.by_ref().take(90).collect();
        for stream in &streams {
            wire.send(RawFrame::headers(*stream, &hangs, true).bytes());
        }
        let seen = || origin.seen().iter().filter(|seen| seen.request.target() == "/hangs").count();
        eventually("all are asked", || (seen() == round * 90).then_some(()));
        // Until the deadline.
        proxy.connect().stays_silent(Duration::from_millis(60));
        for stream in &streams {
            wire.send(RawFrame::reset(*stream, 8).bytes());
        }
        let next = opened.next().expect("another one");
        wire.send(RawFrame::get(next).bytes());
        let answer = wire.frame_of(kind::HEADERS);
        assert_eq!((answer.stream, answer.status()), (next, 200));
    }
    proxy.counts(&[(r#"fusebox_connection_faults_total{fault="reset-flood"}"#, 0.0)]);
}

#[test]
fn heads_that_are_given_up_unread_take_memory_for_a_few() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let mut wire = proxy.connect();
    wire.begin_http2(&[(1, 0)]);
    // A field that the table keeps, and then so often that one, which takes a byte.
    let kept = [&[0x40][..], &header_block(&[("a", "b")])[1..]].concat();
    wire.send(RawFrame::new(kind::HEADERS, 5, 1, [header_block(&GET), kept].concat()).bytes());
    assert_eq!(wire.frame_of(kind::HEADERS).status(), 200);
    let before = proxy.peak_memory();
    let block = [header_block(&GET), vec![0xbe; 900]].concat();
    let head = |number| RawFrame::new(kind::HEADERS, 5, opened(number), block.clone()).bytes();
    // Behind those that are taken on a few at a time.
    let mut flood: Vec<_> = (1..100).flat_map(head).collect();
    flood
        .extend((100..1_000).flat_map(|number| {
            [head(number), RawFrame::reset(opened(number), 8).bytes()].concat()
        }));
    wire.send(flood);
    wire.send(RawFrame::get(opened(1_000)).bytes());
    while wire.frame_of(kind::HEADERS).stream != opened(1_000) {}
    let grown = proxy.peak_memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
}

/// A busy machine: requests and what gives them up are read at once, and that is not the client's
/// fault.
#[test]
fn calls_whose_deadline_passes_unread_are_no_flood() {
    let origin = Origin::answering([ok("here")]);
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let mut wire = proxy.connect();
    wire.begin_http2(&[(1, 0)]);
    let mut opened = (0..).map(opened);
    let mut given_up = 0;
    for _ in 0..8 {
        let worker = FrozenThread::of(proxy.id(), "worker-0");
        // Twice as many as there are places, but never more at once.
        for _ in 0..2 {
            let streams: Vec<_> = opened.by_ref().take(90).collect();
            wire.send(streams.iter().flat_map(|it| RawFrame::get(*it).bytes()).collect::<Vec<_>>());
            // Until the deadline.
            proxy.connect().stays_silent(Duration::from_millis(60));
            let resets = streams.iter().flat_map(|it| RawFrame::reset(*it, 8).bytes());
            wire.send(resets.collect::<Vec<_>>());
            given_up += streams.len();
        }
        drop(worker);
        let next = opened.next().expect("another one");
        wire.send(RawFrame::get(next).bytes());
        let answer = wire.frame_of(kind::HEADERS);
        assert_eq!((answer.stream, answer.status()), (next, 200), "after {given_up}");
    }
    proxy.counts(&[(r#"fusebox_connection_faults_total{fault="reset-flood"}"#, 0.0)]);
}

#[test]
fn a_head_that_unpacks_to_much_more_than_it_may_is_refused_and_takes_no_memory() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    let before = proxy.peak_memory();
    let mut wire = proxy.connect();
    // No table for what comes back, so that each status is there to be read.
    wire.begin_http2(&[(1, 0)]);
    // A field of 4,000 bytes that the table keeps, and then so often that one.
    let value = "x".repeat(3_900);
    let kept = [&[0x40][..], &header_block(&[("a", &value)])[1..]].concat();
    wire.send(RawFrame::new(kind::HEADERS, 5, 1, [header_block(&GET), kept].concat()).bytes());
    assert_eq!(wire.frame_of(kind::HEADERS).status(), 200);
    let of_many = |number: u32, count: usize| {
        let block = [header_block(&GET), vec![0xbe; count]].concat();
        RawFrame::new(kind::HEADERS, 5, opened(number), block).bytes()
    };
    for number in 1..20 {
        wire.send(of_many(number, 20));
        let answer = wire.frame_of(kind::HEADERS);
        assert_eq!((answer.stream, answer.status()), (opened(number), 431));
    }
    // As over HTTP/1.1.
    proxy.counts(&[(r#"fusebox_requests_refused_total{route="none",reason="too-large"}"#, 19.0)]);
    let line = proxy.line("Request refused: the request head is too large");
    assert_eq!((&line["reason"], &line["status"]), (&json!("too-large"), &json!(431)));
    // What is malformed is reset.
    let malformed = header_block(&[(":method", "GET")]);
    wire.send(RawFrame::new(kind::HEADERS, 5, opened(20), malformed).bytes());
    assert_eq!(wire.frame_of(kind::RESET).stream, opened(20));
    proxy.counts(&[(r#"fusebox_requests_refused_total{route="none",reason="stream"}"#, 1.0)]);
    assert_eq!(proxy.line("Request refused: its stream was reset")["reason"], "stream");
    // That much more is no mistake.
    wire.send(of_many(21, 15_000));
    assert_eq!(wire.frame_of(kind::GOAWAY).number(4), ENHANCE_YOUR_CALM);
    let grown = proxy.peak_memory().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
    assert_eq!(origin.seen().len(), 2);
}
