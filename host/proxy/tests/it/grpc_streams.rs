//! Streams of gRPC over HTTP/2 on both sides: what goes through, for how long, and how it ends.

use std::sync::Arc;

use bytes::Bytes;
use fusebox_dev::{H2Exchange, H2Origin, Origin, RawFrame, eventually};
use h2::{Reason, SendStream};
use http::request::Builder;
use http::{HeaderMap, HeaderValue, Request, Response};
use serde_json::json;
use tokio::sync::Notify;

use crate::http2::client::{Answer, Client};
use crate::support::Proxy;

/// A message of gRPC, and another.
const ONE: &[u8] = b"\0\0\0\0\x03one";
const TWO: &[u8] = b"\0\0\0\0\x03two";

/// Routes for gRPC, and for the rest, to an origin over HTTP/2. Each side may be silent only for a
/// moment.
const ROUTES: &str = "workers = 1\nlog = { level = 'debug' }\n[listener]\nbody_timeout = '100ms'\n\
                      [upstreams.b]\nendpoints = ['ORIGIN']\nprotocol = 'http2'\n\
                      body_timeout = '100ms'\n[[routes]]\nupstream = 'b'\n\
                      [[routes]]\npath = '/b.B'\nupstream = 'b'\ngrpc = true\n";

fn call(path: &str, id: &str, kind: &'static str) -> Builder {
    let request = Request::post(format!("http://b.example{path}"));
    request.header("x-request-id", id).header("content-type", kind).header("te", "trailers")
}

const GRPC: &str = "application/grpc";

fn begin(exchange: &mut H2Exchange) -> SendStream<Bytes> {
    let head = Response::builder().header("content-type", GRPC);
    exchange.answer(head.body(()).unwrap(), false)
}

fn end(mut stream: SendStream<Bytes>, status: &'static str) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    stream.send_trailers(trailers).unwrap();
}

/// Answers each message with itself.
fn echo() -> H2Origin {
    H2Origin::start(|mut exchange| async move {
        let mut stream = begin(&mut exchange);
        while let Some(message) = exchange.data().await {
            if stream.send_data(message, false).is_err() {
                return;
            }
        }
        if exchange.is_whole() {
            end(stream, "0");
        }
    })
}

#[track_caller]
fn ends_with(answer: &Answer, status: &str, message: &str) {
    let trailers = answer.trailers.as_ref().expect("trailers");
    let said = ["grpc-status", "grpc-message"].map(|name| trailers.get(name));
    let said = said.map(|value| value.map(|value| value.to_str().expect("text")));
    assert_eq!(said, [Some(status), Some(message)], "{answer:?}");
    assert_eq!((answer.status, answer.reset), (200, None));
}

// ===== what goes through =====

#[test]
fn messages_go_both_ways_in_turns() {
    let origin = echo();
    let proxy = Proxy::before(&origin, ROUTES);
    let client = Client::connect(proxy.address());
    let mut talk = client.begin(call("/b.B/Talk", "1", GRPC), false);
    let mut heard = talk.head().expect("a response").into_body();
    for message in [ONE, TWO, ONE] {
        talk.send(message, false);
        assert_eq!(talk.data(&mut heard), message);
    }
    talk.send(Bytes::new(), true);
    let answer = talk.rest(Response::new(heard));
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
    let line = proxy.story("1").pop().expect("an access line");
    assert_eq!((&line["msg"], &line["response"]["end"]), (&json!("grpc 0: ok"), &json!("whole")));
}

#[test]
fn the_status_comes_through_a_hop_over_http_1() {
    let origin = echo();
    let inner = Proxy::before(&origin, ROUTES);
    let hop = "[[routes]]\nupstream = { url = 'ORIGIN', protocol = 'http1' }\ngrpc = true\n";
    let outer = Proxy::before(&format!("http://{}", inner.address()), hop);
    let client = Client::connect(outer.address());
    let answer = client.send(call("/b.B/Talk", "1", GRPC), ONE);
    assert_eq!(answer.trailers.as_ref().expect("trailers")["grpc-status"], "0", "{answer:?}");
    assert_eq!(answer.body, ONE);
    let line = inner.story("1").pop().expect("an access line");
    assert_eq!(line["msg"], "grpc 0: ok");
    assert_ne!(line["request"]["protocol"], "HTTP/2", "it is the hop that is meant");
}

#[test]
fn a_hedge_of_a_call_resets_the_attempt_that_has_lost() {
    let origin = H2Origin::start(|mut exchange| async move {
        exchange.receive().await;
        if exchange.number == 0 {
            return exchange.ended().await;
        }
        let mut stream = begin(&mut exchange);
        stream.send_data(Bytes::from_static(TWO), false).unwrap();
        end(stream, "0");
    });
    let hedge = "[policies.hedge]\nkind = 'hedge'\ndelay = '10ms'\nmethods = ['POST']\n";
    let config = format!("{ROUTES}policies = ['hedge']\n{hedge}");
    let proxy = Proxy::before(&origin, &config);
    let client = Client::connect(proxy.address());
    let answer = client.send(call("/b.B/Get", "1", GRPC), ONE);
    assert_eq!((answer.status, &*answer.body), (200, TWO));
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
    let reset = eventually("a reset", || origin.seen()[0].reset);
    assert_eq!((reset, origin.connections()), (Reason::CANCEL, 1));
    let bodies: Vec<_> = origin.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [ONE, ONE]);
}

/// Each of those that wait for bodies, with what it needs.
const WAITING: [(&str, &str); 4] = [
    ("bulkhead", "max_concurrency = 1"),
    ("rate-limiter", "limit = 100\nper = '1s'"),
    ("adaptive-limiter", ""),
    ("hedge", "delay = '10ms'\nmethods = ['POST']"),
];

/// With this one on the route of gRPC.
fn behind(origin: &H2Origin, (kind, settings): (&str, &str)) -> Proxy {
    let policy = format!("[policies.waits]\nkind = '{kind}'\n{settings}\n");
    Proxy::before(origin, &format!("{ROUTES}policies = ['waits']\n{policy}"))
}

#[test]
fn so_they_do_behind_what_waits_for_a_body() {
    let origin = echo();
    for policy in WAITING {
        let proxy = behind(&origin, policy);
        let client = Client::connect(proxy.address());
        let mut talk = client.begin(call("/b.B/Talk", "1", GRPC), false);
        talk.send(ONE, false);
        let mut heard = talk.head().expect("a response").into_body();
        assert_eq!(talk.data(&mut heard), ONE, "{policy:?}");
        talk.send(TWO, true);
        assert_eq!(talk.data(&mut heard), TWO, "{policy:?}");
        let answer = talk.rest(Response::new(heard));
        assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0", "{policy:?}");
    }
}

#[test]
fn and_a_server_may_speak_first() {
    let origin = echo();
    for policy in WAITING {
        let proxy = behind(&origin, policy);
        let client = Client::connect(proxy.address());
        let mut talk = client.begin(call("/b.B/Talk", "1", GRPC), false);
        let mut heard = talk.head().expect("a response").into_body();
        talk.send(ONE, true);
        assert_eq!(talk.data(&mut heard), ONE, "{policy:?}");
    }
}

#[test]
fn a_first_message_that_trickles_holds_no_place() {
    let origin = echo();
    let proxy = behind(&origin, WAITING[0]);
    let client = Client::connect(proxy.address());
    let mut slow = client.begin(call("/b.B/Talk", "1", GRPC), false);
    slow.send(&ONE[..6], false);
    eventually("it is waited for", || {
        (proxy.state()["policies"]["waits"]["waiting_for_clients"] == 1).then_some(())
    });
    assert_eq!(client.send(call("/b.B/Talk", "2", GRPC), TWO).body, TWO);
    assert_eq!(origin.seen().len(), 1);
    slow.send(&ONE[6..], true);
    assert_eq!(slow.answer().body, ONE);
}

// ===== for how long =====

#[test]
fn a_call_in_which_nothing_moves_outlasts_body_timeout() {
    let origin = echo();
    let proxy = Proxy::before(&origin, ROUTES);
    let client = Client::connect(proxy.address());
    let mut talk = client.begin(call("/b.B/Talk", "1", GRPC), false);
    let mut heard = talk.head().expect("a response").into_body();
    talk.send(ONE, false);
    assert_eq!(talk.data(&mut heard), ONE);
    // What is no gRPC is cut, and has begun to be silent later.
    let mut other = client.begin(call("/other", "2", "text/plain"), false);
    other.send(ONE, false);
    assert_eq!(other.answer().reset, Some(Reason::INTERNAL_ERROR));
    talk.send(TWO, true);
    assert_eq!(talk.data(&mut heard), TWO);
    let answer = talk.rest(Response::new(heard));
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
}

#[test]
fn so_does_one_whose_client_only_listens() {
    let (more, wanted) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let go_on = more.clone();
    let origin = H2Origin::start(move |mut exchange| {
        let more = if exchange.path == "/b.B/Watch" { more.clone() } else { wanted.clone() };
        async move {
            exchange.receive().await;
            let mut stream = begin(&mut exchange);
            stream.send_data(Bytes::from_static(ONE), false).unwrap();
            more.notified().await;
            if stream.send_data(Bytes::from_static(TWO), false).is_ok() {
                end(stream, "0");
            }
        }
    });
    let proxy = Proxy::before(&origin, ROUTES);
    let client = Client::connect(proxy.address());
    let mut watch = client.begin(call("/b.B/Watch", "1", GRPC), false);
    watch.send(ONE, true);
    let mut heard = watch.head().expect("a response").into_body();
    assert_eq!(watch.data(&mut heard), ONE);
    let other = client.send(call("/other", "2", "text/plain"), ONE);
    assert_eq!((&*other.body, other.reset), (ONE, Some(Reason::INTERNAL_ERROR)));
    go_on.notify_one();
    assert_eq!(watch.data(&mut heard), TWO);
    let answer = watch.rest(Response::new(heard));
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
}

#[test]
fn nothing_may_move_for_so_long_at_most() {
    let origin = H2Origin::start(|mut exchange| async move {
        let mut stream = begin(&mut exchange);
        stream.send_data(Bytes::from_static(ONE), false).unwrap();
        exchange.ended_within(&mut stream).await;
    });
    let proxy = Proxy::before(&origin, &format!("{ROUTES}grpc_idle_timeout = '150ms'\n"));
    let client = Client::connect(proxy.address());
    // Whoever is waited for.
    for (id, is_whole, status, message) in
        [("1", true, "4", "timeout exceeded"), ("2", false, "1", "request incomplete")]
    {
        let mut talk = client.begin(call("/b.B/Talk", id, GRPC), false);
        talk.send(ONE, is_whole);
        let answer = talk.answer();
        ends_with(&answer, status, message);
        assert_eq!(&*answer.body, ONE);
    }
}

// ===== how it ends =====

#[test]
fn an_answer_that_breaks_off_ends_with_a_status() {
    let origin = Origin::framed(|peer, stream| {
        peer.next_frame();
        let head = [(":status", "200"), ("content-type", GRPC)];
        // The second one says that it does not understand.
        let reason = if stream == 3 { Reason::PROTOCOL_ERROR } else { Reason::INTERNAL_ERROR };
        peer.send(&[
            RawFrame::headers(stream, &head, false),
            RawFrame::data(stream, &ONE[..6], false),
            RawFrame::reset(stream, reason.into()),
        ]);
    });
    let proxy = Proxy::before(&origin, ROUTES);
    let client = Client::connect(proxy.address());
    for (path, id, status, message, name) in [
        ("/b.B/Get", "1", "14", "connection lost", "unavailable"),
        ("/b.B/Get", "2", "13", "upstream sent invalid http", "internal"),
        ("/other", "3", "14", "connection lost", "unavailable"),
    ] {
        let answer = client.send(call(path, id, GRPC), ONE);
        ends_with(&answer, status, message);
        assert_eq!(answer.body, &ONE[..6], "{path}");
        let line = proxy.story(id).pop().expect("an access line");
        assert_eq!(
            (&line["response"]["grpc_status"], &line["response"]["end"]),
            (&json!(name), &json!("broken")),
            "{line}"
        );
    }
    let answer = client.send(call("/b.B/Get", "4", "application/grpc-web"), ONE);
    assert_eq!((answer.trailers, answer.reset), (None, Some(Reason::INTERNAL_ERROR)));
}
