//! Clients over HTTP/2: what they ask for, what goes on, and what they get.

pub(crate) mod client;
mod conformance;
mod floods;
mod limits;
#[cfg(target_os = "linux")]
mod neighbours;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use fusebox_dev::{Origin, RawFrame, answer, eventually, kind, ok};
use h2::Reason;
use http::{HeaderMap, Request};
use serde_json::json;

use crate::support::{Proxy, ROUTE, without_pseudonym};
use client::{Client, get, post};

/// A proxy before this origin, and a connection to it.
fn connected(origin: &Origin, config: &str) -> (Proxy, Client) {
    let proxy = Proxy::before(origin, config);
    let client = Client::connect(proxy.address());
    (proxy, client)
}

// ===== what goes on =====

#[test]
fn a_request_goes_on_as_one_of_http_1_and_its_response_comes_back() {
    let headers = "connection: x-own\r\nx-own: 1\r\nkeep-alive: timeout=5\r\nx-kept: 1\r\n";
    let origin = Origin::answering([answer(200, headers, "hello")]);
    let (proxy, client) = connected(&origin, ROUTE);
    let answer = client.ask(get("/a/b?c=d", "1").header("x-client", "2").header("te", "trailers"));
    assert_eq!((answer.status, answer.text(), answer.reset), (200, "hello", None));
    let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "date", "via", "x-kept", "x-request-id"]);
    assert_eq!(answer.header("x-request-id"), Some("1"));
    let via = without_pseudonym(answer.header("via").expect("a header"));
    assert_eq!(via, "1.1 fusebox", "it came over HTTP/1.1");

    let seen = origin.only();
    assert_eq!(seen.start, "GET /a/b?c=d HTTP/1.1");
    assert_eq!((seen.header("host"), seen.header("x-client")), (Some("b.example"), Some("2")));
    let via = without_pseudonym(seen.header("via").expect("a header"));
    assert_eq!(via, "2 fusebox");
    assert_eq!(seen.header("x-forwarded-host"), Some("b.example"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));

    let line = proxy.story("1").pop().expect("an access line");
    let request = &line["request"];
    assert_eq!(
        (&request["protocol"], &request["host"], &request["path"], &request["query"]),
        (&json!("HTTP/2"), &json!("b.example"), &json!("/a/b"), &json!("c=d"))
    );
    assert_eq!(
        (&line["response"]["status"], &line["response"]["end"]),
        (&json!(200), &json!("whole"))
    );
}

#[test]
fn a_request_id_and_a_date_take_no_place_in_the_table_of_a_client() {
    let lasting = format!("x-lasting: {}\r\n", "0123456789".repeat(10));
    let origin = Origin::answering([answer(200, &lasting, "")]);
    let proxy = Proxy::before(&origin, ROUTE);
    let mut wire = proxy.connect();
    wire.begin_http2(&[]);
    let id = "9876543210".repeat(10);
    let [first, second] = [1, 3].map(|stream| {
        let own = [(":path", "/"), (":authority", "b.example"), ("x-request-id", &*id)];
        let head = [&[(":method", "GET"), (":scheme", "http")], &own[..]].concat();
        wire.send(RawFrame::headers(stream, &head, true).bytes());
        wire.frame_of(kind::HEADERS).payload.len()
    });
    // A hundred digits are some seventy bytes.
    assert!(second > 60, "the id is said again: {second}");
    assert!(second < first - 60, "the other header is not: {second} after {first}");
}

#[test]
fn http_1_and_http_2_come_on_one_listener_and_only_a_preface_tells_them_apart() {
    let origin = Origin::answering([ok("")]);
    let (proxy, client) = connected(&origin, ROUTE);
    assert_eq!(client.ask(get("/", "1")).status, 200);
    assert_eq!(proxy.ask(fusebox_dev::get("/", "2")).status(), 200);
    let line = proxy.story("2").pop().expect("an access line");
    assert_eq!(line["request"].get("protocol"), None);
    // After a request it is none.
    let mut wire = proxy.connect();
    assert_eq!(wire.ask(fusebox_dev::get("/", "3")).status(), 200);
    assert_eq!(wire.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status(), 505);
    for other in ["PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n", "PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        assert_eq!(proxy.ask(other).status(), 505, "{other}");
    }
    // In pieces it is one.
    let mut wire = proxy.connect();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        wire.send([*byte]);
    }
    assert_eq!(wire.exactly(4)[3], 4, "SETTINGS");
}

#[test]
fn bodies_go_both_ways_with_and_without_a_length() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let body = seen.request.text().to_owned();
            let chunked = format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            );
            let has_length = seen.request.header("content-length").is_some();
            connection.wire.send(if has_length { ok(&body) } else { chunked });
        }
    });
    let (_proxy, client) = connected(&origin, ROUTE);
    let body = "0123456789abcdef".repeat(64 * 1024);
    for length in [1, 100, 20_000, 70_000, body.len()] {
        let body = &body[..length];
        let answer = client.send(post("1").header("content-length", length), body.to_owned());
        assert_eq!(answer.header("content-length"), Some(&*length.to_string()));
        assert!(answer.text() == body, "{length}");
        let answer = client.send(post("2"), body.to_owned());
        assert_eq!(answer.header("content-length"), None);
        assert!(answer.text() == body, "{length}");
    }
    assert_eq!(client.send(post("3"), "").header("content-length"), None, "chunked and empty");
}

#[test]
fn a_hundred_requests_are_under_way_at_once_on_one_connection() {
    const COUNT: usize = 100;
    let (come, all) = channel();
    let go = Arc::new(Mutex::new(()));
    let held = go.lock().expect("nobody holds it");
    let gate = go.clone();
    let origin = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            come.send(()).expect("the test is there");
            drop(gate.lock());
            connection.wire.send(ok(seen.request.target()));
        }
    });
    let (_proxy, client) = connected(&origin, ROUTE);
    let exchanges: Vec<_> =
        (0..COUNT).map(|path| client.begin(get(&format!("/{path}"), "1"), true)).collect();
    for _ in 0..COUNT {
        all.recv_timeout(fusebox_dev::LIMIT).expect("all are upstream at once");
    }
    drop(held);
    for (path, exchange) in exchanges.into_iter().enumerate().rev() {
        assert_eq!(exchange.answer().text(), format!("/{path}"));
    }
}

#[test]
fn trailers_go_both_ways_announced_or_not() {
    let origin = Origin::start(|connection| {
        while connection.request().is_some() {
            connection.wire.send(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\
                 grpc-status: 0\r\nconnection: close\r\ncontent-length: 7\r\n\r\n",
            );
        }
    });
    let (_proxy, client) = connected(&origin, ROUTE);
    let mut exchange = client.begin(post("1").header("trailer", "x-checksum"), false);
    exchange.send("body", false);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "7".parse().expect("a value"));
    exchange.sending.send_trailers(trailers).expect("they go out");
    let answer = exchange.answer();
    let trailers = answer.trailers.as_ref().expect("trailers");
    assert_eq!(
        (answer.text(), trailers.len(), &trailers["grpc-status"]),
        ("ok", 1, &"0".parse().unwrap())
    );
    let seen = origin.only();
    assert_eq!(seen.trailers, [("x-checksum".to_owned(), "7".to_owned())]);
    // Trailers alone, without a body.
    let mut exchange = client.begin(post("2").header("trailer", "x-a"), false);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-a", "1".parse().expect("a value"));
    exchange.sending.send_trailers(trailers).expect("they go out");
    assert_eq!(exchange.answer().status, 200);
    assert_eq!(origin.seen()[1].request.trailers, [("x-a".to_owned(), "1".to_owned())]);
}

#[test]
fn interim_responses_go_on_and_a_client_that_waits_to_send_is_told_to() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.head() {
            if seen.request.header("transfer-encoding").is_some() {
                assert_eq!(connection.wire.chunk(), b"body");
                assert_eq!(connection.wire.chunk(), b"");
                connection.wire.exactly(2);
            }
            let hint = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\nconnection: close\r\n\r\n";
            connection.wire.send(format!("{hint}{hint}{}", ok("done")));
        }
    });
    let (_proxy, client) = connected(&origin, ROUTE);
    let mut exchange = client.begin(get("/", "1"), true);
    for _ in 0..2 {
        let hint = exchange.hint().expect("a hint");
        assert_eq!((hint.status().as_u16(), hint.headers().len()), (103, 1));
        assert_eq!(hint.headers()["link"], "</x>");
    }
    assert!(exchange.hint().is_none());
    assert_eq!(exchange.answer().text(), "done");

    let mut exchange = client.begin(post("2").header("expect", "100-continue"), false);
    assert_eq!(exchange.hint().expect("a word to go on").status().as_u16(), 100);
    exchange.send("body", true);
    assert_eq!(exchange.answer().text(), "done");
    assert_eq!(origin.seen()[1].request.header("expect"), None);
}

#[test]
fn what_has_no_body_has_none_and_may_say_how_long_it_would_be() {
    let origin = Origin::answering([
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
    ]);
    let (_proxy, client) = connected(&origin, ROUTE);
    let head = Request::head("http://b.example/");
    for (request, status, length) in [
        (head, 200, Some("5")),
        (get("/", "2"), 204, None),
        (get("/", "3"), 304, Some("7")),
        (get("/", "4"), 200, Some("0")),
    ] {
        let answer = client.ask(request);
        assert_eq!((answer.status, answer.header("content-length")), (status, length));
        assert_eq!((answer.text(), answer.reset), ("", None));
    }
}

// ===== what is refused =====

#[test]
fn routes_are_found_by_the_authority_and_two_of_them_are_refused() {
    let origin = Origin::answering([ok("")]);
    let config = "[[routes]]\nhost = 'b.example'\nupstream = 'ORIGIN'\n";
    let (proxy, client) = connected(&origin, config);
    let ask = |uri: &str, host: Option<&str>| {
        let request = Request::get(uri).header("x-request-id", "1");
        client.ask(host.into_iter().fold(request, |it, host| it.header("host", host))).status
    };
    for (uri, host, status) in [
        ("http://b.example/", None, 200),
        ("http://B.example:80/", None, 200),
        ("http://c.example/", None, 404),
        ("http://b.example/", Some("b.example"), 200),
        ("http://b.example/", Some("B.EXAMPLE"), 200),
        ("http://b.example/", Some("c.example"), 400),
        ("http://c.example/", Some("b.example"), 400),
        ("http://b.example/", Some("b.example:80"), 400),
        ("http://u@b.example/", None, 400),
        ("http://b.example:0x50/", None, 400),
    ] {
        assert_eq!(ask(uri, host), status, "{uri} {host:?}");
    }
    assert_eq!(proxy.told("1")[0], "200: OK");
}

#[test]
fn what_is_no_request_here_is_answered_and_the_connection_goes_on() {
    let origin = Origin::answering([ok("")]);
    let (proxy, client) = connected(&origin, ROUTE);
    let many = (0..101).fold(get("/", "1"), |it, number| it.header(format!("x-{number}"), "1"));
    for (request, status, reason) in
        [(Request::connect("b.example:443"), 501, "connect"), (many, 431, "too-many-fields")]
    {
        let answer = client.ask(request);
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        let series = format!(r#"fusebox_requests_refused_total{{route="none",reason="{reason}"}}"#);
        proxy.counts(&[(&series, 1.0)]);
    }
    assert_eq!(client.ask(get("/", "2")).status, 200);
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_body_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let origin = Origin::answering([ok("")]);
    let (_proxy, client) = connected(&origin, &format!("[listener]\nmax_body = '1KiB'\n{ROUTE}"));
    for request in [post("1").header("content-length", 2048), post("2")] {
        let mut exchange = client.begin(request, false);
        // The first one's length is enough to refuse it.
        exchange.offer(vec![b'x'; 2048]);
        assert_eq!(exchange.reset(), Reason::NO_ERROR, "the rest is not wanted");
        assert_eq!(exchange.answer().status, 413);
    }
    assert_eq!(client.send(post("3"), "short").status, 200);
}

// ===== ends =====

#[test]
fn a_response_that_breaks_off_is_a_reset_after_what_has_come_of_it() {
    let origin = Origin::start(|connection| {
        if connection.request().is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf");
        }
    });
    let (proxy, client) = connected(&origin, ROUTE);
    let answer = client.ask(get("/", "1"));
    assert_eq!((answer.text(), answer.reset), ("half", Some(Reason::INTERNAL_ERROR)));
    let line = proxy.story("1").pop().expect("an access line");
    assert_eq!(
        (&line["response"]["status"], &line["response"]["length"]),
        (&json!(200), &json!(4))
    );
    assert_ne!(line["response"]["end"], "whole");
}

/// How a client gives up.
#[derive(Clone, Copy, Debug)]
enum Gives {
    TheStream,
    TheConnection,
}

#[test]
fn who_gives_up_cancels_the_call_at_once_and_no_other() {
    for gives in [Gives::TheStream, Gives::TheConnection] {
        let (gone, cut) = channel();
        let origin = Origin::start(move |connection| {
            while let Some(seen) = connection.head() {
                if seen.request.target() == "/wait" {
                    assert_eq!(connection.wire.rest(), b"");
                    gone.send(()).ok();
                    return;
                }
                connection.wire.send(ok(""));
            }
        });
        let (proxy, client) = connected(&origin, ROUTE);
        let waiting = client.begin(get("/wait", "1"), true);
        let uploading =
            client.begin(Request::post("http://b.example/wait").header("x-request-id", "2"), false);
        eventually("both upstream", || (origin.seen().len() == 2).then_some(()));
        match gives {
            Gives::TheStream => {
                waiting.give_up();
                uploading.give_up();
                assert_eq!(client.ask(get("/", "3")).status, 200);
            }
            Gives::TheConnection => {
                drop((waiting, uploading));
                drop(client);
            }
        }
        for id in ["1", "2"] {
            cut.recv_timeout(fusebox_dev::LIMIT).expect("it is cut");
            assert_eq!(proxy.told(id), ["client closed request"], "{gives:?}");
        }
    }
}

#[test]
fn a_proxy_that_is_to_end_answers_what_it_has_and_takes_no_more() {
    let (come, waits) = channel();
    let (go, gate) = channel();
    let gate = Mutex::new(gate);
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            come.send(()).expect("the test is there");
            gate.lock().expect("no panic").recv().expect("the test goes on");
            connection.wire.send(ok("late"));
        }
    });
    let (mut proxy, client) = connected(&origin, ROUTE);
    let idle = Client::connect(proxy.address());
    let exchange = client.begin(get("/", "1"), true);
    waits.recv_timeout(fusebox_dev::LIMIT).expect("it is upstream");
    proxy.signal("TERM");
    client.is_told_to_end();
    assert!(idle.end().is_ok(), "it is closed without a fault");
    go.send(()).expect("the origin waits");
    assert_eq!(exchange.answer().text(), "late");
    assert!(client.end().is_ok());
    assert!(proxy.end().success());
}
