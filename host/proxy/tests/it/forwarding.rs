//! What passes through: heads, bodies and connections, on both sides.

use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use fusebox_dev::{LIMIT, Origin, answer, eventually, get, ok, post};

use crate::support::{Proxy, ROUTE, without_pseudonym};

/// One worker, so that there is one set of connections to look at.
fn alone(origin: &Origin) -> Proxy {
    Proxy::before(origin, &format!("workers = 1\n{ROUTE}"))
}

/// Sends `before`, waits until it is told to, and sends `after`.
fn in_two_parts(before: &'static str, after: &'static str) -> (Origin, Sender<()>) {
    let (go, gone) = channel();
    let gone = Mutex::new(gone);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            connection.wire.send(before);
            gone.lock().expect("no panic").recv_timeout(LIMIT).ok();
            connection.wire.send(after);
        }
    });
    (origin, go)
}

// ===== connections =====

#[test]
fn connections_are_used_again_on_both_sides() {
    let origin = Origin::answering([
        ok("with a length"),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nin \r\n6\r\nchunks\r\n0\r\n\r\n"
            .into(),
        answer(204, "", "").replace("content-length: 0\r\n", ""),
        answer(404, "", "not there"),
    ]);
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    let texts: Vec<String> = (0..8).map(|_| client.ask(get("/", "1")).text().to_owned()).collect();
    assert_eq!(texts[..4], ["with a length", "in chunks", "", "not there"]);
    assert_eq!((origin.seen().len(), origin.connections()), (8, 1));
    assert_eq!(proxy.ask(get("/", "2")).status(), 404);
    assert_eq!(origin.connections(), 1, "another client's request goes over it too");
}

#[test]
fn a_request_with_a_body_leaves_its_connection_for_the_next_one() {
    let origin = Origin::answering([ok("")]);
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    assert_eq!(client.ask(post("with a length", "1")).status(), 200);
    let chunked = "POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n3\r\nin \r\n\
                   6\r\nchunks\r\n0\r\n\r\n";
    assert_eq!(client.ask(chunked).status(), 200);
    assert_eq!(client.ask(post("", "2")).status(), 200);
    let bodies: Vec<String> =
        origin.seen().iter().map(|seen| seen.request.text().to_owned()).collect();
    assert_eq!(bodies, ["with a length", "in chunks", ""]);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_connection_that_the_upstream_closes_with_its_answer_is_not_used_again() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.wire.send(answer(200, "connection: close\r\n", ""));
        // It stays open for as long as the proxy lets it, and nothing more may come.
        assert_eq!(connection.wire.rest(), b"");
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    for _ in 0..3 {
        let response = client.ask(get("/", "1"));
        assert_eq!(
            (response.status(), response.header("connection")),
            (200, None),
            "the client's stays open"
        );
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_connection_that_the_upstream_has_closed_meanwhile_costs_no_attempt() {
    // Closes each connection after its first answer, without having said so. (A request that
    // crosses the close on its way may have been processed: that one is lost, and the policies'
    // business.)
    let (closed, closes) = channel();
    let closed = Mutex::new(closed);
    let origin = Origin::start(move |connection| {
        connection.request();
        connection.wire.send(ok("fine"));
        connection.wire.finish();
        closed.lock().expect("no panic").send(()).ok();
    });
    let proxy =
        Proxy::before(&origin, &format!("workers = 1\nlog = {{ level = 'debug' }}\n{ROUTE}"));
    let mut client = proxy.connect();
    for round in 0..30 {
        let id = format!("round-{round}");
        let mut request = post("x", &id);
        if round % 2 == 0 {
            request = get("/", &id);
        }
        assert_eq!(client.ask(request).status(), 200, "{round}");
        closes.recv_timeout(LIMIT).expect("it is closed");
        let story = proxy.story(&id);
        assert_eq!(proxy.told(&id), ["Attempt 1: 200", "200: OK"]);
        assert_eq!(story.last().expect("the access line")["attempts"], 1);
    }
    assert_eq!(origin.connections(), 30);
}

#[test]
fn a_connection_is_let_go_after_its_idle_time() {
    let (closed, closes) = channel();
    let closed = Mutex::new(closed);
    let origin = Origin::start(move |connection| {
        connection.request();
        connection.wire.send(ok(""));
        connection.wire.rest();
        closed.lock().expect("no panic").send(()).ok();
    });
    let proxy = Proxy::before(
        &origin,
        "workers = 1\n[[routes]]\nupstream = { url = 'ORIGIN', idle_timeout = '100ms' }",
    );
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    closes.recv_timeout(LIMIT).expect("it is closed");
}

#[test]
fn a_client_that_says_close_gets_its_answer_and_is_closed() {
    let origin = Origin::answering([ok("bye")]);
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    let response = client.ask("GET / HTTP/1.1\r\nhost: b\r\nconnection: close\r\n\r\n");
    assert_eq!((response.text(), response.header("connection")), ("bye", Some("close")));
    assert_eq!(client.rest(), b"");
    assert_eq!(proxy.ask(get("/", "2")).status(), 200);
    assert_eq!(origin.connections(), 1, "the upstream's stays open");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            connection.wire.send(ok(seen.request.target()));
        }
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    client.send((0..10).map(|number| get(&format!("/{number}"), "1")).collect::<String>());
    for number in 0..10 {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
}

#[test]
fn a_client_of_http_1_0_gets_an_answer_that_it_understands() {
    let origin = Origin::answering([
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ]);
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    let response = client.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((response.text(), response.header("transfer-encoding")), ("hello", None));
    let request = origin.only();
    assert_eq!(request.start, "GET / HTTP/1.1");
    let via = request.header("via").map(without_pseudonym);
    assert_eq!(via.as_deref(), Some("1.0 fusebox"));
    assert_eq!(
        request.header("host"),
        origin.address().to_string().as_str().into(),
        "it sent none, the upstream needs one"
    );
}

#[test]
fn an_upstream_of_http_1_0_is_understood() {
    let origin = Origin::start(|connection| {
        connection.request();
        connection.wire.send("HTTP/1.0 200 OK\r\n\r\nuntil the end");
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    assert_eq!(client.ask(get("/", "1")).text(), "until the end");
    assert_eq!(
        client.ask(get("/", "2")).text(),
        "until the end",
        "the client's connection stays open"
    );
}

// ===== discarded responses =====

const RETRY: &str = "workers = 1\n[policies.retry]\nkind = 'retry'\nmax_retries = 1\n\
                     delay = '100ms'\n\
                     [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\n";

#[test]
fn a_short_response_that_is_discarded_leaves_its_connection() {
    let chunked =
        "HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n".to_owned();
    for busy in [answer(503, "", ""), answer(503, "", &"x".repeat(16_000)), chunked] {
        let origin = Origin::answering([busy, ok("fine")]);
        let proxy = Proxy::before(&origin, RETRY);
        assert_eq!(proxy.ask(get("/", "1")).text(), "fine");
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn a_long_response_that_is_discarded_is_cut_off() {
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    let chunked = format!(
        "HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(2000)
    );
    for busy in [answer(503, "", &"x".repeat(8_000_000)), chunked] {
        let origin = Origin::answering([busy, ok("fine")]);
        let proxy = Proxy::before(&origin, RETRY);
        assert_eq!(proxy.ask(get("/", "1")).text(), "fine");
        assert_eq!(origin.connections(), 2);
    }
}

#[test]
fn a_discarded_response_that_does_not_end_is_cut_off() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            if seen.number > 0 {
                connection.wire.send(ok("fine"));
                continue;
            }
            connection.wire.send("HTTP/1.1 503 Busy\r\ncontent-length: 10\r\n\r\nhalf");
            assert_eq!(connection.wire.rest(), b"");
            return;
        }
    });
    let proxy = Proxy::before(&origin, RETRY);
    assert_eq!(proxy.ask(get("/", "1")).text(), "fine");
    assert_eq!(origin.connections(), 2);
}

// ===== bodies =====

#[test]
fn a_response_streams() {
    for (before, after) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst", "after"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
            "5\r\nafter\r\n0\r\n\r\n",
        ),
    ] {
        let (origin, go) = in_two_parts(before, after);
        let proxy = alone(&origin);
        let mut client = proxy.connect();
        client.send(get("/", "1"));
        let head = client.head().expect("a head");
        if head.header("content-length").is_some() {
            assert_eq!(client.exactly(5), b"first");
            go.send(()).expect("it waits");
            assert_eq!(client.exactly(5), b"after");
        } else {
            assert_eq!(client.chunk(), b"first");
            go.send(()).expect("it waits");
            assert_eq!((client.chunk(), client.chunk()), (b"after".to_vec(), Vec::new()));
        }
    }
}

#[test]
fn a_request_streams() {
    let (seen, sees) = channel();
    let seen = Mutex::new(seen);
    let origin = Origin::start(move |connection| {
        while let Some(head) = connection.head() {
            let tell = |bytes: Vec<u8>| {
                seen.lock().expect("no panic").send(bytes).expect("somebody listens")
            };
            if head.request.header("content-length").is_some() {
                tell(connection.wire.exactly(5));
                tell(connection.wire.exactly(5));
            } else {
                tell(connection.wire.chunk());
                tell(connection.wire.chunk());
                assert_eq!(connection.wire.chunk(), b"");
                assert_eq!(connection.wire.exactly(2), b"\r\n");
            }
            connection.wire.send(ok("thanks"));
        }
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    for (framing, before, after) in [
        ("content-length: 10", "first", "after"),
        ("transfer-encoding: chunked", "5\r\nfirst\r\n", "5\r\nafter\r\n0\r\n\r\n"),
    ] {
        client.send(format!("POST / HTTP/1.1\r\nhost: b\r\n{framing}\r\n\r\n{before}"));
        assert_eq!(sees.recv_timeout(LIMIT).expect("it comes"), b"first");
        client.send(after);
        assert_eq!(sees.recv_timeout(LIMIT).expect("it comes"), b"after");
        assert_eq!(client.response().text(), "thanks");
    }
}

#[test]
fn large_bodies_pass_both_ways_byte_for_byte() {
    // The origin answers with what it got.
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let length = seen.request.body.len();
            if seen.request.header("content-length").is_some() {
                connection
                    .wire
                    .send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n"));
                connection.wire.send(&seen.request.body);
            } else {
                connection.wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                for piece in seen.request.body.chunks(100_000) {
                    connection.wire.send(format!("{:x}\r\n", piece.len()));
                    connection.wire.send(piece);
                    connection.wire.send("\r\n");
                }
                connection.wire.send("0\r\n\r\n");
            }
        }
    });
    let proxy = alone(&origin);
    let body: Vec<u8> = (0..10_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut client = proxy.connect();
    client.send(format!("POST / HTTP/1.1\r\nhost: b\r\ncontent-length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert!(client.response().body == body);
    client.send("POST / HTTP/1.1\r\nhost: b\r\ntransfer-encoding: chunked\r\n\r\n");
    for piece in body.chunks(333_333) {
        client.send(format!("{:x}\r\n", piece.len()));
        client.send(piece);
        client.send("\r\n");
    }
    client.send("0\r\n\r\n");
    assert!(client.response().body == body);
}

#[test]
fn a_client_that_reads_slowly_holds_back_its_upstream_and_not_the_memory() {
    let (sent, progress) = channel();
    let sent = Mutex::new(sent);
    let origin = Origin::start(move |connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 200000000\r\n\r\n");
        for _ in 0..2000 {
            if connection.wire.try_send([0; 100_000]).is_err() {
                return;
            }
            sent.lock().expect("no panic").send(()).ok();
        }
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    client.head().expect("a head");
    // Until nothing more goes for a while: what is between them is full.
    let mut pieces = 0;
    while progress.recv_timeout(Duration::from_millis(500)).is_ok() {
        pieces += 1;
    }
    assert!(pieces < 500, "{pieces} of 2000 went out though nobody reads");
}

#[test]
fn a_response_to_head_has_the_length_and_no_body() {
    let origin = Origin::start(|connection| {
        while connection.request().is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\nx-more: 1\r\n\r\n");
        }
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    for _ in 0..3 {
        client.send("HEAD / HTTP/1.1\r\nhost: b\r\n\r\n");
        let head = client.head().expect("a head");
        assert_eq!(
            (head.status(), head.header("content-length"), head.header("x-more")),
            (200, Some("1000"), Some("1"))
        );
    }
    client.stays_silent(Duration::from_millis(50));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn answers_without_a_body_have_none() {
    let origin = Origin::answering([
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n",
        &answer(200, "", ""),
    ]);
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    for status in [204, 304, 304, 200] {
        let response = client.ask(get("/", "1"));
        assert_eq!((response.status(), &*response.body), (status, &b""[..]));
        assert_eq!(response.header("transfer-encoding"), None);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn trailers_pass_both_ways() {
    let chunked = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\n\
                   hello\r\n0\r\nx-sum: 1\r\n\r\n";
    let origin = Origin::answering([chunked]);
    let proxy = alone(&origin);
    let response = proxy.ask(
        "POST / HTTP/1.1\r\nhost: b\r\nte: trailers\r\ntrailer: x-count\r\n\
         transfer-encoding: chunked\r\n\r\n\
         2\r\nhi\r\n0\r\nx-count: 2\r\n\r\n",
    );
    assert_eq!(response.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    assert_eq!(origin.only().trailers, [("x-count".to_owned(), "2".to_owned())]);
}

#[test]
fn who_expects_100_is_told_to_continue_if_the_body_is_wanted() {
    let origin = Origin::answering([ok("thanks")]);
    let proxy = Proxy::before(
        &origin,
        "[listener]\nmax_body = '10B'\n[[routes]]\npath = '/api'\nupstream = 'ORIGIN'",
    );
    let expects = |path: &str, length: u32| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: b\r\nexpect: 100-continue\r\n\
             content-length: {length}\r\n\r\n"
        )
    };
    let mut client = proxy.connect();
    client.send(expects("/api", 5));
    assert_eq!(client.head().expect("a head").start, "HTTP/1.1 100 Continue");
    client.send("hello");
    assert_eq!(client.response().text(), "thanks");
    assert_eq!((origin.only().header("expect"), origin.only().text()), (None, "hello"));
    for (path, length, status) in [("/nowhere", 5, 404), ("/api", 11, 413)] {
        let mut client = proxy.connect();
        client.send(expects(path, length));
        assert_eq!(client.response().status(), status, "and nothing before it");
        assert_eq!(client.rest(), b"", "who knows whether the body comes");
    }
}

#[test]
fn interim_answers_of_the_upstream_go_on_to_who_knows_them() {
    let (go_on, may_go_on) = channel();
    let may_go_on = Mutex::new(may_go_on);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            connection.wire.send("HTTP/1.1 100 Continue\r\n\r\n");
            let fields = "link: </a.css>; rel=preload\r\nkeep-alive: timeout=5\r\n\
                          connection: x-hop\r\nx-hop: 1\r\ncontent-length: 7\r\n";
            connection.wire.send(format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n"));
            connection.wire.send("HTTP/1.1 102 Processing\r\n\r\n");
            may_go_on.lock().expect("no panic").recv().expect("a test");
            connection.wire.send(ok("the answer"));
        }
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    for id in ["1", "2"] {
        client.send(get("/", id));
        // It has them before the answer is there.
        let hints = client.head().expect("hints");
        assert_eq!(hints.start, "HTTP/1.1 103 Early Hints");
        let link = ("link".to_owned(), "</a.css>; rel=preload".to_owned());
        assert_eq!(hints.headers, [link]);
        assert_eq!(client.head().expect("a word").start, "HTTP/1.1 102 Processing");
        go_on.send(()).expect("an origin");
        assert_eq!(client.response().text(), "the answer");
    }
    // Who expects to be told to continue is told so once.
    client.send("POST / HTTP/1.1\r\nhost: b\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n");
    assert_eq!(client.head().expect("a word").start, "HTTP/1.1 100 Continue");
    client.send("x");
    assert_eq!(client.head().expect("hints").start, "HTTP/1.1 103 Early Hints");
    assert_eq!(client.head().expect("a word").start, "HTTP/1.1 102 Processing");
    go_on.send(()).expect("an origin");
    assert_eq!(client.response().status(), 200);
    // HTTP/1.0 knows none.
    go_on.send(()).expect("an origin");
    let answer = proxy.ask("GET / HTTP/1.0\r\nhost: b\r\n\r\n");
    assert_eq!((answer.status(), answer.text()), (200, "the answer"));
}

#[test]
fn interim_answers_are_bounded_in_number_and_bytes() {
    let hint =
        |length: usize| format!("HTTP/1.1 103 Early Hints\r\nlink: {}\r\n\r\n", "x".repeat(length));
    for (hints, most) in [(hint(10).repeat(50), 8), (hint(6 << 10).repeat(5), 2)] {
        let origin = Origin::answering([format!("{hints}{}", ok("the answer"))]);
        let proxy = alone(&origin);
        let mut client = proxy.connect();
        client.send(get("/", "1"));
        for _ in 0..most {
            assert_eq!(client.head().expect("hints").start, "HTTP/1.1 103 Early Hints");
        }
        assert_eq!(client.response().text(), "the answer");
    }
}

#[test]
fn an_answer_that_comes_before_the_end_of_the_upload_goes_out_at_once() {
    let origin = Origin::start(|connection| {
        connection.head();
        connection.wire.send(answer(413, "", "far too large"));
        connection.wire.rest();
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    client.send(
        "POST / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ncontent-length: 10000000\r\n\r\n\
         beginning",
    );
    let response = client.response();
    assert_eq!((response.status(), response.text()), (413, "far too large"));
    assert_eq!(proxy.told("1"), ["413: Payload Too Large"]);
    drop(client);
    // The connection still waits for a body that nobody sends: it is not used for another request.
    assert_eq!(proxy.ask(get("/", "2")).status(), 413);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn what_comes_after_an_answer_is_not_the_answer_to_the_next_request() {
    for at_once in [true, false] {
        let (read, reads) = channel();
        let (closed, closes) = channel();
        let (reads, closed) = (Mutex::new(reads), Mutex::new(closed));
        let origin = Origin::start(move |connection| {
            connection.request();
            let (good, unasked) = (ok("good"), ok("what nobody asked for"));
            if at_once {
                connection.wire.send(good + &unasked);
            } else {
                connection.wire.send(good);
                reads.lock().expect("no panic").recv_timeout(LIMIT).expect("the answer is read");
                connection.wire.send(unasked);
            }
            // The proxy ends it, with or without having read all.
            while connection.wire.try_send("x").is_ok() {
                thread::park_timeout(Duration::from_millis(1));
            }
            closed.lock().expect("no panic").send(()).ok();
        });
        let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
        for id in ["1", "2", "3"] {
            assert_eq!(proxy.ask(get("/", id)).text(), "good");
            read.send(()).ok();
            closes.recv_timeout(LIMIT).expect("its connection is closed");
        }
        assert_eq!(origin.connections(), 3);
    }
}

#[test]
fn an_upstream_that_resets_the_connection_is_a_failure_of_the_attempt() {
    // To close with something unread is to reset.
    let origin = Origin::start(|connection| drop(connection.head()));
    let proxy = alone(&origin);
    let response = proxy.ask(post(&"x".repeat(100_000), "1"));
    assert_eq!(response.status(), 502);
    assert_eq!(proxy.story("1").last().expect("a line")["error"], "connection_terminated");
}

#[test]
fn an_upload_goes_on_whether_or_not_its_client_takes_the_answer() {
    // More than all the buffers on the way hold.
    const LENGTH: usize = 30_000_000;
    let origin = Origin::start(|connection| {
        while connection.head().is_some() {
            let mut sender = connection.wire.sender();
            let answering = thread::spawn(move || {
                sender.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LENGTH}\r\n\r\n"));
                sender.send(vec![b'a'; LENGTH]);
            });
            assert!(connection.wire.exactly(LENGTH).iter().all(|byte| *byte == b'u'));
            answering.join().expect("no panic");
        }
    });
    let proxy = alone(&origin);
    let mut client = proxy.connect();
    for _ in 0..2 {
        client.send(format!("POST / HTTP/1.1\r\nhost: b\r\ncontent-length: {LENGTH}\r\n\r\n"));
        client.send(vec![b'u'; LENGTH]);
        let response = client.response();
        assert!(response.body.len() == LENGTH && response.body.iter().all(|byte| *byte == b'a'));
    }
    assert_eq!(origin.connections(), 1, "it was sent whole, so its connection serves the next one");
}

// ===== who leaves =====

#[test]
fn a_client_that_leaves_takes_its_attempt_along() {
    let (closed, closes) = channel();
    let closed = Mutex::new(closed);
    let origin = Origin::start(move |connection| {
        connection.request();
        connection.wire.rest();
        closed.lock().expect("no panic").send(()).ok();
    });
    let proxy = Proxy::before(&origin, &format!("log = {{ level = 'debug' }}\n{ROUTE}"));
    for (id, request) in [("1", get("/", "1")), ("2", post("a body", "2"))] {
        let before = origin.seen().len();
        let mut client = proxy.connect();
        client.send(request);
        eventually("the request at the origin", || (origin.seen().len() > before).then_some(()));
        drop(client);
        closes.recv_timeout(LIMIT).expect("the origin sees it go");
        assert_eq!(proxy.told(id), ["Attempt 1: cancelled", "client closed request"]);
        assert_eq!(proxy.story(id)[1]["response"].get("status"), None);
    }
    proxy.counts(&[
        (r#"fusebox_requests_total{route="/",status="none"}"#, 2.0),
        (r#"fusebox_attempts_total{route="/",outcome="cancelled"}"#, 2.0),
    ]);
}

#[test]
fn a_client_that_leaves_during_a_delay_ends_the_retries() {
    let origin = Origin::answering([answer(503, "", "")]);
    let config = "[policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1h'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']";
    let proxy = Proxy::before(&origin, config);
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    proxy.line("Retry 1 after delay of 3600s");
    drop(client);
    assert_eq!(proxy.told("1"), ["Retry 1 after delay of 3600s", "client closed request"]);
    assert_eq!(origin.seen().len(), 1);
}

// ===== heads =====

#[test]
fn a_request_goes_on_as_it_came_but_for_what_a_proxy_changes() {
    let origin = Origin::answering([ok("")]);
    let proxy = alone(&origin);
    proxy.ask(
        "PATCH /a%20b//c/../d?x=1&y=%2F HTTP/1.1\r\nHost: b.example:3002\r\n\
         X-Request-Id: abc-123\r\nAccept: */*\r\n\
         X-Twice: 1\r\nX-Twice: 2\r\nVia: 1.1 edge\r\nX-Forwarded-For: 198.51.100.1\r\n\
         X-Forwarded-Proto: https\r\n\
         Connection: x-private, keep-alive\r\nX-Private: 1\r\nKeep-Alive: timeout=5\r\n\
         TE: trailers\r\n\
         Upgrade: websocket\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\n\
         X-Latin: \u{fc}\r\n\r\n",
    );
    let mut request = origin.only();
    assert_eq!(request.start, "PATCH /a%20b//c/../d?x=1&y=%2F HTTP/1.1");
    request.headers.sort();
    let headers: Vec<String> = request
        .headers
        .iter()
        .map(|(name, value)| without_pseudonym(&format!("{name}: {value}")))
        .collect();
    assert_eq!(
        headers,
        [
            "accept: */*",
            "connection: te",
            "host: b.example:3002",
            "te: trailers",
            "via: 1.1 edge, 1.1 fusebox",
            "x-forwarded-for: 127.0.0.1",
            "x-forwarded-host: b.example:3002",
            "x-forwarded-proto: http",
            "x-latin: \u{fc}",
            "x-request-id: abc-123",
            "x-twice: 1",
            "x-twice: 2",
        ]
    );
}

#[test]
fn a_response_goes_on_as_it_came_but_for_what_a_proxy_changes() {
    let headers = "server: b\r\nset-cookie: a=1\r\nset-cookie: b=2\r\nvia: 1.0 inner\r\n\
                   connection: x-private\r\n\
                   x-private: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\n\
                   upgrade: h2c\r\n\
                   x-request-id: of-b\r\ndate: Tue, 24 Nov 2026 00:00:00 GMT\r\n";
    let origin = Origin::answering([answer(299, headers, "hello")]);
    let proxy = alone(&origin);
    let mut response = proxy.ask(get("/", "mine"));
    assert_eq!((response.status(), response.text()), (299, "hello"));
    response.headers.sort();
    let headers: Vec<String> = response
        .headers
        .iter()
        .map(|(name, value)| without_pseudonym(&format!("{name}: {value}")))
        .collect();
    assert_eq!(
        headers,
        [
            "content-length: 5",
            "date: Tue, 24 Nov 2026 00:00:00 GMT",
            "server: b",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "via: 1.0 inner, 1.1 fusebox",
            "x-request-id: mine",
        ]
    );
}

#[test]
fn a_response_may_have_many_more_headers_than_a_request() {
    let with = |count: usize| {
        let cookies = (2..=count).map(|number| format!("set-cookie: c={number}\r\n"));
        answer(200, &cookies.collect::<String>(), "")
    };
    let origin = Origin::answering([with(1_000), with(1_001)]);
    let proxy = alone(&origin);
    let response = proxy.ask(get("/", "1"));
    let cookies = response.headers.iter().filter(|(name, _)| name == "set-cookie");
    assert_eq!((response.status(), cookies.count()), (200, 999));
    assert_eq!(response.header("content-length"), Some("0"));
    assert_eq!(proxy.ask(get("/", "2")).status(), 502);
    let line = proxy.story("2").pop().expect("an access line");
    assert_eq!(line["detail"], "invalid response head: too many headers");
}

#[test]
fn a_request_id_is_made_if_the_client_has_none_that_is_sane() {
    let origin = Origin::answering([ok("")]);
    let proxy = alone(&origin);
    let mut made = Vec::new();
    for header in ["", "x-request-id: not sane\r\n", "x-request-id: \"}\r\n"] {
        let response = proxy.ask(format!("GET / HTTP/1.1\r\nhost: b\r\n{header}\r\n"));
        let id = response.header("x-request-id").expect("an id").to_owned();
        assert_eq!(
            origin.seen().last().expect("a request").request.header("x-request-id"),
            Some(&*id)
        );
        assert_eq!(proxy.told(&id), ["200: OK"], "and it is in the log");
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        made.push(id);
    }
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 3);
    assert_eq!(
        proxy.ask(get("/", "trace:1/2.3=a@b+c")).header("x-request-id"),
        Some("trace:1/2.3=a@b+c")
    );
}

#[test]
fn the_host_is_the_clients_or_the_upstreams() {
    let origin = Origin::answering([ok("")]);
    let config = "[[routes]]\nupstream = 'ORIGIN'\n\
                  [[routes]]\npath = '/own'\nupstream = { url = 'ORIGIN', host = 'upstream' }";
    let proxy = Proxy::before(&origin, config);
    proxy.ask(get("/", "1"));
    proxy.ask(get("/own", "2"));
    let seen = origin.seen();
    assert_eq!(seen[0].request.header("host"), Some("b.example"));
    assert_eq!(seen[1].request.header("host"), Some(&*origin.address().to_string()));
    assert_eq!(seen[1].request.header("x-forwarded-host"), Some("b.example"));
}

#[test]
fn a_base_path_is_put_in_front() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, "[[routes]]\npath = '/api'\nupstream = 'ORIGIN/base/'");
    proxy.ask(get("/api/x?y=1", "1"));
    proxy.ask(get("http://c.example/api", "2"));
    let targets: Vec<String> =
        origin.seen().iter().map(|seen| seen.request.target().to_owned()).collect();
    assert_eq!(targets, ["/base/api/x?y=1", "/base/api"]);
}

#[test]
fn an_absolute_target_wins_over_the_host_header() {
    let origin = Origin::answering([ok("")]);
    let proxy = alone(&origin);
    for (target, expected) in [
        ("http://c.example:81/x?y=1", "/x?y=1"),
        ("http://c.example:81", "/"),
        ("http://c.example:81?y=1", "/?y=1"),
    ] {
        let before = origin.seen().len();
        assert_eq!(proxy.ask(get(target, "1")).status(), 200);
        let request = origin.seen()[before].request.clone();
        assert_eq!(
            (request.target(), request.header("host")),
            (expected, Some("c.example:81")),
            "{target}"
        );
    }
}

#[test]
fn many_clients_at_once_get_each_their_own_answer() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            connection.wire.send(ok(&format!("{} {}", seen.request.target(), seen.request.text())));
        }
    });
    let proxy = Proxy::before(&origin, ROUTE);
    thread::scope(|scope| {
        for client in 0..16 {
            let mut wire = proxy.connect();
            scope.spawn(move || {
                for number in 0..25 {
                    let path = format!("/{client}/{number}");
                    let request = post(&path, "1").replace("POST / ", &format!("POST {path} "));
                    assert_eq!(wire.ask(request).text(), format!("{path} {path}"));
                }
            });
        }
    });
    proxy.counts(&[(r#"fusebox_requests_total{route="/",status="200"}"#, 400.0)]);
}
