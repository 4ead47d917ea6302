//! HTTP/2 to upstreams: what goes through, how much of it, and what goes once more.

use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use fusebox_dev::{H2Origin, Origin, RawFrame, eventually, get, post};
use http::{HeaderMap, HeaderValue, Response};

use crate::http2::client::{self, Client};
use crate::support::{Proxy, without_pseudonym};

/// A route for everything to an origin over HTTP/2, by one worker.
pub(crate) const ROUTE: &str =
    "workers = 1\n[[routes]]\nupstream = { url = 'ORIGIN', protocol = 'http2' }\n";

/// The same with more settings of the upstream.
pub(crate) fn route(settings: &str) -> String {
    ROUTE.replace("'http2'", &format!("'http2', {settings}"))
}

/// Answers with what came.
fn echo() -> H2Origin {
    H2Origin::start(|mut exchange| async move {
        let body = exchange.receive().await;
        exchange.ok(body);
    })
}

// ===== what goes through =====

#[test]
fn a_request_and_its_answer_go_through() {
    let origin = echo();
    let proxy = Proxy::before(&origin, &format!("{DEBUG}{ROUTE}"));
    let request = post("body", "1").replace(
        "host:",
        "connection: x-own, keep-alive\r\nx-own: 1\r\nkeep-alive: timeout=1\r\ncookie: a=1\r\n\
         te: gzip, trailers\r\nhost:",
    );
    let answer = proxy.ask(request);
    assert_eq!((answer.status(), answer.text()), (200, "body"));
    let via = without_pseudonym(answer.header("via").expect("a header"));
    assert_eq!(via, "2 fusebox", "it came over HTTP/2");
    assert_eq!(proxy.line("Attempt 1: 200")["upstream_protocol"], "HTTP/2");
    let seen = origin.only();
    let uri = &seen.head.uri;
    assert_eq!(
        (seen.head.method.as_str(), uri.to_string().as_str()),
        ("POST", "http://b.example/"),
        "one authority"
    );
    let mut names: Vec<_> = seen.head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "content-length",
            "cookie",
            "te",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-request-id"
        ]
    );
    assert_eq!(seen.header("te"), Some("trailers"));
    assert_eq!(seen.header("content-length"), Some("4"));
}

#[test]
fn the_authority_is_the_endpoints_if_it_wants_so_and_its_base_is_put_in_front() {
    let origin = echo();
    let config = route("host = 'upstream'").replace("ORIGIN", "ORIGIN/base");
    let proxy = Proxy::before(&origin, &config);
    assert_eq!(proxy.ask(get("/x?y=1", "1")).status(), 200);
    let seen = origin.only();
    assert_eq!(seen.head.uri.to_string(), format!("{origin}/base/x?y=1"));
    assert_eq!(seen.header("te"), None);
    assert_eq!(seen.header("content-length"), None);
}

#[test]
fn trailers_go_both_ways() {
    let origin = H2Origin::start(|mut exchange| async move {
        exchange.receive().await;
        let mut stream = exchange.answer(Response::new(()), false);
        stream.send_data(Bytes::from_static(b"body"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        trailers.insert("set-cookie", HeaderValue::from_static("not in trailers"));
        stream.send_trailers(trailers).unwrap();
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let request = "POST / HTTP/1.1\r\nhost: b\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
                   trailer: x-up\r\n\r\n2\r\nup\r\n0\r\nx-up: 2\r\nhost: elsewhere\r\n\r\n";
    let answer = proxy.ask(request);
    assert_eq!(answer.text(), "body");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    let seen = origin.only();
    assert_eq!(seen.body, b"up");
    let trailers = seen.trailers.expect("trailers");
    assert_eq!((trailers.len(), &trailers["x-up"]), (1, &HeaderValue::from_static("2")));
}

#[test]
fn answers_without_a_body_are_whole() {
    let origin = H2Origin::start(|mut exchange| async move {
        let (status, _) = exchange.path[1..].split_once('/').expect("a status");
        let mut head = Response::builder().status(status);
        if status != "204" {
            head = head.header("content-length", "5");
        }
        let is_head = exchange.path.ends_with("head");
        exchange.answer(head.body(()).unwrap(), is_head || status == "304" || status == "204");
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let mut client = proxy.connect();
    for (request, status) in [
        (get("/304/", "1"), 304),
        (get("/204/", "2"), 204),
        (get("/200/head", "3").replace("GET", "HEAD"), 200),
    ] {
        client.send(&request);
        assert_eq!(client.head().expect("an answer").status(), status);
    }
    for id in ["1", "2", "3"] {
        assert_eq!(proxy.story(id).last().unwrap()["response"]["end"], "whole", "{id}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn interim_responses_go_on() {
    let origin = H2Origin::start(|mut exchange| async move {
        let hint = Response::builder().status(103).header("link", "</a>");
        exchange.inform(hint.body(()).unwrap());
        exchange.ok("body");
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    let hint = client.head().expect("a hint");
    assert_eq!((hint.status(), hint.header("link")), (103, Some("</a>")));
    assert_eq!(client.response().text(), "body");
}

#[test]
fn both_bodies_go_on_at_once() {
    let origin = H2Origin::start(|mut exchange| async move {
        let mut stream = exchange.answer(Response::new(()), false);
        while let Some(data) = exchange.data().await {
            stream.send_data(data, false).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(client.head().expect("a response").status(), 200);
    for word in ["one", "two"] {
        client.send(format!("3\r\n{word}\r\n"));
        assert_eq!(client.chunk(), word.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.chunk(), b"");
}

#[test]
fn a_call_of_grpc_goes_through_from_client_to_upstream() {
    let origin = H2Origin::start(|mut exchange| async move {
        let head = Response::builder().header("content-type", "application/grpc");
        let mut stream = exchange.answer(head.body(()).unwrap(), false);
        while let Some(message) = exchange.data().await {
            stream.send_data(message, false).unwrap();
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("5"));
        stream.send_trailers(trailers).unwrap();
    });
    let proxy = Proxy::before(&origin, &ROUTE.replace("[[routes]]", "[[routes]]\ngrpc = true"));
    let client = Client::connect(proxy.address());
    for (id, said) in [("1", Some("trailers")), ("2", None)] {
        let mut call = client::post(id).header("content-type", "application/grpc");
        if let Some(said) = said {
            call = call.header("te", said);
        }
        let answer = client.send(call, "\0\0\0\0\x02ab");
        assert_eq!((answer.status, answer.text()), (200, "\0\0\0\0\x02ab"));
        assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "5");
        let line = proxy.story(id).pop().expect("an access line");
        assert_eq!(line["response"]["grpc_status"], "not-found");
    }
    let said: Vec<_> = origin.seen().iter().map(|seen| seen.header("te").is_some()).collect();
    assert_eq!(said, [true, true], "whatever the client said");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_upgrade_is_not_asked_for() {
    let origin = echo();
    let config = ROUTE.replace("[[routes]]", "[[routes]]\nupgrades = ['websocket']");
    let proxy = Proxy::before(&origin, &config);
    let upgrade = "\r\nconnection: upgrade\r\nupgrade: websocket\r\nhost:";
    let answer = proxy.ask(get("/", "1").replacen("\r\nhost:", upgrade, 1));
    assert_eq!(answer.status(), 200);
    let seen = origin.only();
    assert_eq!((seen.header("connection"), seen.header("upgrade")), (None, None));
}

// ===== what goes once more =====

/// Whether the upstream got the request of this number twice, by the log and the metric.
fn is_sent_again(proxy: &Proxy, why: &str) -> bool {
    let lines = proxy.lines(&format!("Attempt 1 sent again: {why}")).len();
    proxy.counts(&[(r#"fusebox_attempts_sent_again_total{route="/"}"#, lines as f64)]);
    lines == 1
}

const DEBUG: &str = "log = { level = 'debug' }\n";

#[test]
fn what_was_not_processed_goes_once_more_on_another_connection_whatever_it_is() {
    for refusal in [RawFrame::reset(1, 7), RawFrame::go_away(0, 0), RawFrame::go_away(0, 11)] {
        let (send, told) = channel();
        let send = Mutex::new(send);
        let refused = refusal.clone();
        let origin = Origin::framed(move |peer, stream| {
            let data = peer.next_frame().expect("a body");
            send.lock().unwrap().send((peer.number, data.payload)).unwrap();
            match peer.number {
                0 => peer.send(std::slice::from_ref(&refused)),
                _ => peer.answer(stream, "200"),
            }
        });
        let proxy = Proxy::before(&origin, &format!("{DEBUG}{ROUTE}"));
        assert_eq!(proxy.ask(post("body", "1")).status(), 200, "{refusal:?}");
        assert_eq!(proxy.story("1").last().expect("a line")["attempts"], 1);
        let told: Vec<_> = told.try_iter().collect();
        assert_eq!(told, [(0, b"body".to_vec()), (1, b"body".to_vec())], "{refusal:?}");
        assert!(is_sent_again(&proxy, "it was not processed"), "{refusal:?}");
    }
}

#[test]
fn a_body_that_was_not_kept_does_not_go_once_more() {
    let origin = Origin::framed(|peer, stream| {
        peer.next_frame();
        peer.send(&[RawFrame::reset(stream, 7)]);
    });
    let proxy = Proxy::before(&origin, &format!("{ROUTE}max_replay_body = '3B'\n"));
    assert_eq!(proxy.ask(post("body", "1")).status(), 502);
    assert_eq!(origin.connections(), 1);
}

/// Not to another endpoint either, which would get what is left of it.
#[test]
fn a_body_that_was_not_kept_goes_to_no_other_endpoint() {
    for (most, status) in [("3B", 502), ("1KiB", 200)] {
        let refuses = Origin::framed(|peer, stream| {
            peer.next_frame();
            peer.send(&[RawFrame::reset(stream, 7)]);
        });
        let (send, told) = channel();
        let send = Mutex::new(send);
        let other = Origin::framed(move |peer, stream| {
            let data = peer.next_frame().expect("a body");
            send.lock().unwrap().send(data.payload).unwrap();
            peer.answer(stream, "200");
        });
        let config = format!(
            "workers = 1\n[upstreams.b]\nendpoints = ['{refuses}', '{other}']\nprotocol = 'http2'\n\
             balance = 'round-robin'\nhealth = {{ consecutive = 0 }}\n\
             [policies.r]\nkind = 'retry'\nmax_retries = 0\n\
             [[routes]]\nupstream = 'b'\npolicies = ['r']\nmax_replay_body = '{most}'\n"
        );
        let proxy = Proxy::before(&refuses, &config);
        let mut statuses = [0; 2].map(|_| proxy.ask(post("body", "1")).status());
        statuses.sort_unstable();
        assert_eq!(statuses, [200, status], "{most}");
        let told: Vec<_> = told.try_iter().collect();
        assert!(told.iter().all(|body| body == b"body"), "{told:?}");
        assert_eq!(told.len(), if status == 200 { 2 } else { 1 }, "{told:?}");
    }
}

#[test]
fn what_is_safe_goes_once_more_when_a_connection_dies_on_which_others_were_answered() {
    let safe = get("/", "2");
    let put = post("body", "2").replace("POST", "PUT");
    for (request, status) in [(safe, 200), (put, 200), (post("body", "2"), 502)] {
        let origin = Origin::framed(|peer, stream| {
            if peer.number > 0 || stream == 1 {
                peer.answer(stream, "200");
            } else {
                peer.close();
            }
        });
        let proxy = Proxy::before(&origin, &format!("{DEBUG}{ROUTE}"));
        assert_eq!(proxy.ask(get("/", "1")).status(), 200);
        assert_eq!(proxy.ask(&request).status(), status, "{request}");
        assert_eq!(proxy.story("2").last().expect("a line")["attempts"], 1);
        let is_again = is_sent_again(&proxy, "its connection had died");
        assert_eq!(is_again, status == 200, "{request}");
    }
}

// ===== windows =====

#[test]
fn a_body_goes_through_any_window() {
    let body = "x".repeat(100);
    let chunks = |size: usize| {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let head = "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n";
        format!("{head}{}0\r\n\r\n", chunk.repeat(100 / size))
    };
    for window in [1, 10, 99, 100, 101] {
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(window);
        let origin = H2Origin::with(builder, |mut exchange| async move {
            let body = exchange.receive().await;
            exchange.ok(body);
        });
        let proxy = Proxy::before(&origin, ROUTE);
        let mut client = proxy.connect();
        for request in [post(&body, "1"), chunks(100), chunks(10), chunks(1)] {
            assert_eq!(client.ask(&request).text(), body, "{window}: {request}");
        }
    }
}

#[test]
fn no_more_of_a_request_is_taken_than_the_upstream_has_a_window_for() {
    let (open, door) = channel();
    let door = Mutex::new(door);
    let taken = Arc::<AtomicUsize>::default();
    let count = taken.clone();
    let origin = Origin::framed(move |peer, stream| {
        while count.load(Ordering::SeqCst) < 65_535 {
            let frame = peer.next_frame().expect("some of the body");
            count.fetch_add(frame.payload.len(), Ordering::SeqCst);
        }
        door.lock().unwrap().recv().unwrap();
        peer.answer(stream, "200");
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let before = proxy.private_memory();
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: b\r\ncontent-length: 100000000\r\n\r\n");
    let mut sender = client.sender();
    thread::spawn(move || {
        let piece = vec![0; 1 << 20];
        while sender.try_send(&piece).is_ok() {}
    });
    eventually("a window", || (taken.load(Ordering::SeqCst) >= 65_535).then_some(()));
    let grown = proxy.private_memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown}");
    open.send(()).unwrap();
    assert_eq!(client.head().expect("an answer").status(), 200, "although not all was taken");
    assert_eq!(taken.load(Ordering::SeqCst), 65_535);
}

#[test]
fn what_an_upstream_answers_without_is_taken_back() {
    // No window, and two streams at once.
    let greeting = [RawFrame::settings(&[(4, 0), (3, 2)])];
    let origin = Origin::framed_with(&greeting, |peer, stream| peer.answer(stream, "200"));
    let proxy = Proxy::before(&origin, &route("connect_timeout = '2s'"));
    let mut client = proxy.connect();
    for number in 0..10 {
        let answer = client.ask(post(&format!("body {number}"), &number.to_string()));
        assert_eq!(answer.status(), 200, "{number}");
    }
    assert_eq!(origin.connections(), 1);
}

/// Answers without end, and counts what has gone; but `/small` has an end.
fn endless(sent: &Arc<AtomicUsize>) -> H2Origin {
    let count = sent.clone();
    H2Origin::start(move |mut exchange| {
        let count = count.clone();
        async move {
            if exchange.path == "/small" {
                return exchange.ok("small");
            }
            let mut stream = exchange.answer(Response::new(()), false);
            loop {
                stream.reserve_capacity(16_384);
                let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                if stream.send_data(vec![0; room].into(), false).is_err() {
                    return;
                }
                count.fetch_add(room, Ordering::SeqCst);
            }
        }
    })
}

/// Waits until no more is sent: what the sockets take, and a window. Returns how much that is.
fn stop(sent: &AtomicUsize) -> usize {
    let mut last = 0;
    eventually("a stop", || {
        thread::park_timeout(Duration::from_millis(300));
        let now = sent.load(Ordering::SeqCst);
        (std::mem::replace(&mut last, now) == now && now > 0).then_some(now)
    })
}

#[test]
fn no_more_of_an_answer_is_sent_than_the_client_takes() {
    let sent = Arc::default();
    let origin = endless(&sent);
    let proxy = Proxy::before(&origin, ROUTE);
    let before = proxy.private_memory();
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    assert_eq!(client.head().expect("an answer").status(), 200);
    let most = stop(&sent);
    assert!(most < 16 << 20, "{most}");
    let grown = proxy.private_memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown}");
    // Another call on the same connection is not held up.
    let mut other = proxy.connect();
    other.send(get("/", "2"));
    assert_eq!(other.head().expect("an answer").status(), 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn clients_that_take_nothing_hold_up_nobody_else() {
    let sent = Arc::default();
    let origin = endless(&sent);
    // They are not let go.
    let patient = "[listener]\nbody_timeout = '1h'\nmin_rate = 0\n[[routes]]";
    let proxy = Proxy::before(&origin, &ROUTE.replace("[[routes]]", patient));
    let stuck = (0..40).map(|_| {
        let mut client = proxy.connect();
        client.send(get("/", "stuck"));
        assert_eq!(client.head().expect("an answer").status(), 200);
        client
    });
    let stuck: Vec<_> = stuck.collect();
    stop(&sent);
    assert_eq!(proxy.ask(get("/small", "1")).text(), "small");
    assert_eq!((origin.connections(), stuck.len()), (1, 40));
}

#[test]
fn an_early_answer_is_whole_though_the_request_is_not_wanted() {
    let origin = Origin::framed(|peer, stream| {
        peer.send(&[
            RawFrame::headers(stream, &[(":status", "413"), ("content-length", "8")], false),
            RawFrame::data(stream, "too long", true),
            RawFrame::reset(stream, 0),
        ]);
    });
    let proxy = Proxy::before(&origin, ROUTE);
    let mut client = proxy.connect();
    client.send("POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ncontent-length: 10\r\n\r\nsome");
    let answer = client.response();
    assert_eq!((answer.status(), answer.text()), (413, "too long"));
    let line = proxy.story("1").last().expect("a line").clone();
    assert_eq!((&line["response"]["end"], &line["attempts"]), (&"whole".into(), &1.into()));
}
