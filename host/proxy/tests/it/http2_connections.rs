//! HTTP/2 to upstreams: which connections there are, for how long, and with whom.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use fusebox_dev::{H2Origin, Origin, RawFrame, eventually, get, kind, post};
use h2::{Reason, server};
use http::Response;
use tokio::sync::Notify;

use crate::http2_upstreams::{ROUTE, route};
use crate::support::Proxy;

/// Answers all that it is asked when so many wait.
fn together(count: usize, builder: &server::Builder) -> H2Origin {
    let (waiting, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    H2Origin::with(builder.clone(), move |mut exchange| {
        let (waiting, enough) = (waiting.clone(), enough.clone());
        async move {
            let notified = enough.notified();
            if waiting.fetch_add(1, Ordering::SeqCst) + 1 == count {
                enough.notify_waiters();
            } else {
                notified.await;
            }
            exchange.ok("");
        }
    })
}

/// Asks so many times at once; all are answered.
fn ask_together(proxy: &Proxy, count: usize) {
    let mut clients: Vec<_> = (0..count).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(get("/", "1"));
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
}

#[test]
fn calls_share_a_connection_which_they_wait_for_together() {
    let origin = together(50, &server::Builder::new());
    let proxy = Proxy::before(&origin, ROUTE);
    ask_together(&proxy, 50);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn one_whose_streams_are_full_gets_a_second_beside_it() {
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(2);
    let origin = together(5, &builder);
    let proxy = Proxy::before(&origin, ROUTE);
    ask_together(&proxy, 5);
    let mut streams = [0; 8];
    for seen in origin.seen() {
        streams[seen.connection] += 1;
    }
    assert!(streams.iter().all(|streams| *streams <= 2), "{streams:?}");
    assert_eq!(origin.connections(), 3);
}

#[test]
fn one_that_nobody_uses_is_closed_with_a_good_bye() {
    for settings in ["idle_timeout = '1ms'", "max_idle = 0"] {
        let (send, told) = channel();
        let send = Mutex::new(send);
        let origin = Origin::framed(move |peer, stream| {
            peer.answer(stream, "200");
            while let Some(frame) = peer.next_frame() {
                send.lock().unwrap().send(frame).ok();
            }
        });
        let proxy = Proxy::before(&origin, &route(settings));
        assert_eq!(proxy.ask(get("/", "1")).status(), 200, "{settings}");
        let last = told.recv().expect("a frame");
        assert_eq!((last.kind, &last.payload[4..]), (kind::GOAWAY, &[0; 4][..]), "{settings}");
        assert_eq!(proxy.ask(get("/", "2")).status(), 200, "{settings}");
        assert_eq!(origin.connections(), 2, "{settings}");
    }
}

#[test]
fn a_client_that_leaves_takes_its_stream_along_and_leaves_the_connection() {
    let origin = H2Origin::start(|mut exchange| async move {
        if exchange.path == "/" {
            exchange.ok("");
        } else if exchange.path == "/begun" {
            let mut stream = exchange.answer(Response::new(()), false);
            stream.send_data(Bytes::from_static(b"begun"), false).unwrap();
            exchange.ended_within(&mut stream).await;
        } else {
            exchange.ended().await;
        }
    });
    let proxy = Proxy::before(&origin, ROUTE);
    for (number, path) in ["/waiting", "/begun"].into_iter().enumerate() {
        let mut client = proxy.connect();
        client.send(get(path, "1"));
        if path == "/begun" {
            assert_eq!(client.head().expect("a head").status(), 200);
        }
        eventually("the request", || (origin.seen().len() > 2 * number).then_some(()));
        drop(client);
        let reset = || origin.seen()[2 * number].reset;
        assert_eq!(eventually("a reset", reset), Reason::CANCEL);
        assert_eq!(proxy.ask(get("/", "2")).status(), 200);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn one_that_is_told_to_go_away_ends_after_its_last_stream() {
    let ((open, door), (send, told)) = (channel(), channel());
    let (door, send) = (Mutex::new(door), Mutex::new(send));
    let origin = Origin::framed(move |peer, stream| {
        if peer.number == 0 {
            peer.send(&[RawFrame::go_away(stream, 0)]);
            send.lock().unwrap().send("gone").unwrap();
            door.lock().unwrap().recv().unwrap();
        }
        peer.answer(stream, "200");
        if peer.number == 0 {
            while peer.next_frame().is_some() {}
            send.lock().unwrap().send("closed").unwrap();
        }
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let mut first = proxy.connect();
    first.send(get("/", "1"));
    assert_eq!(told.recv().unwrap(), "gone");
    assert_eq!(proxy.ask(get("/", "2")).status(), 200, "elsewhere");
    open.send(()).unwrap();
    assert_eq!(first.response().status(), 200);
    assert_eq!(told.recv().unwrap(), "closed");
    assert_eq!(origin.connections(), 2);
}

// ===== what is no upstream over HTTP/2 =====

#[test]
fn one_that_speaks_no_http2_is_asked_nothing() {
    for (says, status, error, detail) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n", 502, "http_protocol_error", "answers in HTTP/1"),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", 502, "http_protocol_error", "FRAME_SIZE_ERROR"),
        ("", 502, "connection_refused", "closed before its settings"),
    ] {
        let origin = Origin::start(move |connection| {
            connection.wire.greets();
            connection.wire.send(says);
            if says.is_empty() {
                connection.wire.finish();
            }
            // To close with bytes unread would reset the connection, and what was sent be lost.
            connection.wire.rest();
        });
        let proxy = Proxy::before(&origin, ROUTE);
        let answer = proxy.ask(post("body", "1"));
        let line = proxy.story("1").last().expect("a line").clone();
        assert_eq!((answer.status(), &line["error"]), (status, &error.into()), "{says}");
        assert!(line["detail"].as_str().is_some_and(|told| told.contains(detail)), "{line}");
    }
}

#[test]
fn one_that_says_nothing_is_no_connection() {
    let origin = Origin::start(|connection| {
        connection.wire.rest();
    });
    let proxy = Proxy::before(&origin, &route("connect_timeout = '200ms'"));
    let answer = proxy.ask(post("body", "1"));
    assert_eq!(answer.status(), 504);
    let told = answer.header("proxy-status").unwrap_or_default();
    assert!(told.contains("error=connection_timeout"), "{told}");
}

#[test]
fn one_that_allows_no_streams_is_a_502_and_no_more_connections_than_calls() {
    let greeting = [RawFrame::settings(&[(3, 0)])];
    let origin = Origin::framed_with(&greeting, |_, _| unreachable!("no stream is allowed"));
    let proxy = Proxy::before(&origin, ROUTE);
    for number in 1..=3 {
        assert_eq!(proxy.ask(get("/", "1")).status(), 502);
        assert!(origin.connections() <= number, "{}", origin.connections());
    }
}

#[test]
fn one_that_never_answers_is_a_504_and_its_connection_goes_on() {
    let origin = Origin::framed(|peer, stream| {
        if stream > 1 {
            peer.answer(stream, "200");
        }
    });
    let proxy = Proxy::before(&origin, &route("response_timeout = '200ms'"));
    assert_eq!(proxy.ask(get("/", "1")).status(), 504);
    assert_eq!(proxy.ask(get("/", "2")).status(), 200);
    assert_eq!(origin.connections(), 1);
}
