//! What a client over HTTP/2 may take of time and place, and what comes then.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use fusebox_dev::{LIMIT, Origin, RawFrame, Wire, eventually, flag, header_block, kind, ok};
use h2::Reason;
use serde_json::json;
use tokio::time::Instant;

use super::client::{Client, get, post};
use crate::support::{Proxy, ROUTE};

fn ended(limit: &str) -> String {
    format!("fusebox_connections_ended_total{{limit=\"{limit}\"}}")
}

fn stream_ended(limit: &str) -> String {
    format!("fusebox_streams_ended_total{{limit=\"{limit}\"}}")
}

fn limited(origin: &Origin, keys: &str) -> Proxy {
    Proxy::before(origin, &format!("workers = 1\n[listener]\n{keys}\n{ROUTE}"))
}

/// The client's pause is the point.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        thread::park_timeout(end - Instant::now());
    }
}

fn begun(proxy: &Proxy) -> Wire {
    let mut wire = proxy.connect();
    wire.begin_http2(&[]);
    wire
}

// ===== heads, and no requests =====

#[test]
fn a_head_has_to_be_whole_in_time_and_so_has_the_beginning() {
    let origin = Origin::answering([ok("")]);
    let proxy = limited(&origin, "header_timeout = '400ms'");
    let preface = &fusebox_dev::PREFACE[..20];
    let settings = RawFrame::settings(&[]).bytes();
    let whole = [fusebox_dev::PREFACE, &settings].concat();
    let block = header_block(&fusebox_dev::GET);
    let begin = RawFrame::new(kind::HEADERS, flag::END_STREAM, 1, &block[..9]).bytes();
    for (number, sends) in [
        preface.to_vec(),
        fusebox_dev::PREFACE.to_vec(),
        [&whole, &begin[..]].concat(),
        [&whole, &begin[..12]].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut wire = proxy.connect();
        let before = Instant::now();
        wire.send(&sends);
        wire.rest();
        assert!(before.elapsed() >= Duration::from_millis(400), "{number}");
        proxy.counts(&[(&ended("header_timeout"), number as f64 + 1.0)]);
    }
    assert_eq!(proxy.line("Connection ended: its head took too long")["limit"], "header_timeout");
    // Each head has its own time.
    let mut wire = begun(&proxy);
    for stream in [1, 3, 5] {
        let begin = RawFrame::new(kind::HEADERS, flag::END_STREAM, stream, &block[..9]).bytes();
        wire.send(&begin);
        pause(Duration::from_millis(200));
        wire.send(
            RawFrame::new(kind::CONTINUATION, flag::END_HEADERS, stream, &block[9..]).bytes(),
        );
        assert_eq!(wire.frame_of(kind::HEADERS).status(), 200);
    }
}

#[test]
fn a_connection_without_a_request_ends_in_time_whatever_else_it_sends() {
    let origin = Origin::answering([ok("")]);
    let proxy = limited(&origin, "idle_timeout = '400ms'");
    let before = Instant::now();
    let mut wire = begun(&proxy);
    let mut sender = wire.sender();
    let pings = thread::spawn(move || {
        while sender.try_send(RawFrame::ping([0; 8]).bytes()).is_ok() {
            pause(Duration::from_millis(50));
        }
    });
    let goaway = wire.frame_of(kind::GOAWAY);
    assert_eq!(goaway.number(4), 0, "NO_ERROR");
    assert!(before.elapsed() >= Duration::from_millis(400));
    wire.rest();
    drop(wire);
    pings.join().expect("no panic");
    proxy.counts(&[(&ended("idle_timeout"), 1.0), ("fusebox_connections", 0.0)]);
}

#[test]
fn an_idle_connection_makes_place_for_a_newcomer_and_one_with_a_request_does_not() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            if seen.request.target() == "/wait" {
                gate.lock().expect("no panic").recv().expect("the test goes on");
            }
            connection.wire.send(ok(""));
        }
    });
    let proxy = limited(&origin, "max_connections = 2");
    let busy = Client::connect(proxy.address());
    let waiting = busy.begin(get("/wait", "1"), true);
    eventually("it upstream", || (origin.seen().len() == 1).then_some(()));
    let idle = Client::connect(proxy.address());
    assert_eq!(idle.ask(get("/", "2")).status, 200);
    assert_eq!(proxy.ask(fusebox_dev::get("/", "3")).status(), 200);
    assert!(idle.end().is_ok(), "it is told, and nothing of it is lost");
    proxy.counts(&[(&ended("max_connections"), 1.0)]);
    go.send(()).expect("the origin waits");
    assert_eq!(waiting.answer().status, 200);
}

#[test]
fn a_connection_has_as_many_requests_as_it_may_and_is_told_before_it_has_more() {
    let origin = Origin::answering([ok("")]);
    let proxy = limited(&origin, "max_requests = 3");
    let client = Client::connect(proxy.address());
    for id in ["1", "2", "3"] {
        assert_eq!(client.ask(get("/", id)).status, 200);
    }
    assert!(client.end().is_ok());
    proxy.counts(&[(&ended("max_requests"), 1.0), ("fusebox_connections", 0.0)]);
    // Who does not listen has a round trip, and then it ends.
    let mut wire = begun(&proxy);
    let before = Instant::now();
    let mut told = None;
    for number in 0.. {
        if wire.try_send(RawFrame::get(2 * number + 1).bytes()).is_err() {
            break;
        }
        let next = loop {
            match wire.frame() {
                Some(frame) if frame.kind == kind::GOAWAY => told = Some(frame),
                Some(frame) if frame.kind != kind::HEADERS => {}
                next => break next,
            }
        };
        if next.is_none() {
            break;
        }
        assert!(before.elapsed() < LIMIT, "it goes on");
    }
    assert_eq!(told.map(|goaway| goaway.number(4)), Some(0), "NO_ERROR");
    proxy.counts(&[(&ended("max_requests"), 2.0), ("fusebox_connections", 0.0)]);
}

#[test]
fn a_connection_that_is_old_is_told_so_and_its_requests_are_answered() {
    let (go, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            gate.lock().expect("no panic").recv().expect("the test goes on");
            connection.wire.send(ok("late"));
        }
    });
    let proxy = limited(&origin, "max_age = '500ms'");
    let client = Client::connect(proxy.address());
    let exchange = client.begin(get("/", "1"), true);
    client.is_told_to_end();
    go.send(()).expect("the origin waits");
    assert_eq!(exchange.answer().text(), "late");
    assert!(client.end().is_ok());
    proxy.counts(&[(&ended("max_age"), 1.0)]);
}

// ===== slow bodies =====

#[test]
fn a_body_that_comes_too_slowly_is_a_408_and_the_other_streams_go_on() {
    let origin = Origin::answering([ok("")]);
    for (keys, is_dripping, limit, detail) in [
        ("body_timeout = '400ms'", false, "body_timeout", "request body stalled"),
        ("body_timeout = '1s'", true, "min_rate", "request body slower than `min_rate`"),
        (
            "request_timeout = '600ms'",
            true,
            "request_timeout",
            "request longer than `request_timeout`",
        ),
    ] {
        let proxy = limited(&origin, keys);
        let client = Client::connect(proxy.address());
        let mut exchange = client.begin(post("1").header("content-length", "10000000"), false);
        exchange.send("x", false);
        if is_dripping {
            let start = Instant::now();
            while exchange.sending.send_data("x".into(), false).is_ok() {
                pause(Duration::from_millis(50));
                assert!(start.elapsed() < LIMIT, "{limit}: it goes on");
            }
        } else {
            assert_eq!(exchange.reset(), Reason::NO_ERROR);
        }
        let answer = exchange.answer();
        assert_eq!(answer.status, 408, "{limit}");
        let line = proxy.story("1").pop().expect("an access line");
        assert_eq!(line["detail"], detail);
        proxy.counts(&[(&stream_ended(limit), 1.0)]);
        assert_eq!(client.send(post("2"), "fast").status, 200);
        proxy.counts(&[(&ended(limit), 0.0), ("fusebox_connections", 1.0)]);
    }
}

#[test]
fn a_long_frame_that_comes_slowly_enough_is_no_silence() {
    let origin = Origin::answering([ok("")]);
    let proxy = limited(&origin, "body_timeout = '600ms'\nmin_rate = 0");
    let mut wire = begun(&proxy);
    wire.send(RawFrame::post(1).bytes());
    // Each byte comes well within the limit, the whole frame does not.
    let data = RawFrame::data(1, vec![b'x'; 15], true).bytes();
    wire.send(&data[..9]);
    for byte in &data[9..] {
        wire.send([*byte]);
        pause(Duration::from_millis(100));
    }
    assert_eq!(wire.frame_of(kind::HEADERS).status(), 200);
}

// ===== slow readers =====

#[test]
fn a_stream_whose_client_opens_no_room_is_reset_and_the_others_go_on() {
    let body = "x".repeat(100_000);
    let origin = Origin::answering([ok(&body)]);
    for (limit, is_dripping) in [("body_timeout", false), ("min_rate", true)] {
        let proxy = limited(&origin, "body_timeout = '1s'");
        let mut wire = proxy.connect();
        wire.begin_http2(&[(4, 1_000)]);
        let fields = [&fusebox_dev::GET[..], &[("x-request-id", "1")]].concat();
        wire.send(RawFrame::headers(1, &fields, true).bytes());
        assert_eq!(wire.frame_of(kind::HEADERS).status(), 200);
        assert_eq!(wire.frame_of(kind::DATA).payload.len(), 1_000);
        let is_reset = std::sync::atomic::AtomicBool::new(false);
        let mut sender = wire.sender();
        let reset = thread::scope(|scope| {
            let _ends = fusebox_dev::Ends(&is_reset);
            scope.spawn(|| {
                while is_dripping && !is_reset.load(std::sync::atomic::Ordering::SeqCst) {
                    sender.try_send(RawFrame::window_update(1, 1).bytes()).ok();
                    pause(Duration::from_millis(50));
                }
            });
            wire.frame_of(kind::RESET)
        });
        assert_eq!((reset.stream, reset.number(0)), (1, 8), "CANCEL");
        proxy.counts(&[(&stream_ended(limit), 1.0), (&ended(limit), 0.0)]);
        let line = proxy.story("1").pop().expect("an access line");
        assert_eq!(line["response"]["end"], "discarded");
        wire.send(RawFrame::get(3).bytes());
        wire.send(RawFrame::window_update(3, 1 << 20).bytes());
        wire.send(RawFrame::window_update(0, 1 << 20).bytes());
        let mut length = 0;
        while length < body.len() {
            let data = wire.frame_of(kind::DATA);
            assert_eq!(data.stream, 3);
            length += data.payload.len();
        }
    }
}

#[test]
fn a_client_that_takes_nothing_is_let_go_and_holds_little_meanwhile() {
    const LENGTH: usize = 8 << 20;
    let origin = Origin::start(|connection| {
        while connection.request().is_some() {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n");
            if connection.wire.try_send(head).is_err()
                || connection.wire.try_send(vec![b'x'; LENGTH]).is_err()
            {
                return;
            }
        }
    });
    let proxy = limited(&origin, "body_timeout = '3s'");
    assert_eq!(proxy.ask(fusebox_dev::get("/", "0")).status(), 200);
    let before = proxy.peak_memory();
    let mut wire = proxy.connect();
    wire.begin_http2(&[(4, (1 << 31) - 1)]);
    wire.send(RawFrame::window_update(0, (1 << 31) - 1 - 65_535).bytes());
    for number in 0..100 {
        wire.send(RawFrame::get(2 * number + 1).bytes());
    }
    eventually("its end", || {
        let text = proxy.admin("GET /metrics").text().to_owned();
        let series = crate::support::metrics(&text);
        (series["fusebox_connections"] == 0.0).then_some(())
    });
    proxy.counts(&[(&ended("body_timeout"), 1.0)]);
    let grown = proxy.peak_memory().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes");
}

#[test]
fn a_client_that_has_requests_and_does_not_answer_a_ping_is_gone() {
    let origin = Origin::start(|connection| {
        connection.head();
        connection.wire.rest();
    });
    let proxy = limited(&origin, "");
    let mut wire = begun(&proxy);
    let mut silent = begun(&proxy);
    for wire in [&mut wire, &mut silent] {
        wire.send(RawFrame::get(1).bytes());
    }
    let start = Instant::now();
    let ping = wire.frame_of(kind::PING);
    assert_eq!(ping.flags, 0);
    assert!(start.elapsed() > Duration::from_secs(19), "{:?}", start.elapsed());
    wire.send(RawFrame { flags: flag::ACK, ..ping }.bytes());
    silent.rest();
    assert!(start.elapsed() > Duration::from_secs(29), "{:?}", start.elapsed());
    let series = r#"fusebox_connection_faults_total{fault="ping-unanswered"}"#;
    proxy.counts(&[(series, 1.0), ("fusebox_connections", 1.0)]);
    assert_eq!(
        proxy.line("Connection ended: it does not answer")["fault"],
        json!("ping-unanswered")
    );
}
