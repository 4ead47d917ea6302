//! Connections to an upstream that are kept, and die under the next request.

use std::sync::{Arc, Barrier, RwLock};

use fusebox_dev::{Origin, OriginConnection, eventually, get, ok, post};

use crate::support::{Proxy, ROUTE};

const RETRY: &str = "[policies.retry]\nkind = 'retry'\nmax_retries = 0\n\
                     [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\n";

/// More than the sockets between proxy and upstream take.
const LARGE: usize = 12 << 20;

/// Answers the first request on each connection, and does this with the second.
fn dying(end: impl Fn(&mut OriginConnection) + Send + Sync + 'static) -> Origin {
    Origin::start(move |connection| {
        if let Some(seen) = connection.request() {
            connection.wire.send(ok(seen.request.text()));
            end(connection);
        }
    })
}

fn put(body: &str, id: &str) -> String {
    post(body, id).replacen("POST", "PUT", 1)
}

/// What the second request on a kept connection comes to: the status, and the requests that the
/// upstream got, with the first.
fn second(origin: &Origin, config: &str, second: &str) -> (u16, usize) {
    let config = format!("workers = 1\nlog = {{ level = 'debug' }}\n{config}");
    let proxy = Proxy::before(origin, &config);
    let mut client = proxy.connect();
    assert_eq!(client.ask(get("/", "1")).status(), 200);
    let mut answer = client.ask(second);
    while answer.status() < 200 {
        answer = client.response();
    }
    assert_eq!(proxy.story("2").last().expect("a line")["attempts"], 1);
    let again = proxy.lines("Attempt 1 sent again: its connection had died").len();
    let counted = r#"fusebox_attempts_sent_again_total{route="/"}"#;
    proxy.counts(&[(counted, again as f64)]);
    let seen = origin.seen().len();
    assert_eq!(again, seen - 2, "what is sent again is told");
    (answer.status(), seen)
}

fn closes(connection: &mut OriginConnection) {
    connection.request();
}

fn resets(connection: &mut OriginConnection) {
    connection.request();
    connection.wire.resets();
}

/// It takes the head only, so that a large body is still being written.
fn resets_within(connection: &mut OriginConnection) {
    connection.head();
    connection.wire.resets();
}

#[test]
fn one_that_dies_before_an_answer_costs_a_safe_request_nothing() {
    let keyed = post("body", "2").replace("host:", "idempotency-key: 1\r\nhost:");
    for config in [ROUTE, RETRY] {
        for request in [&get("/", "2"), &put("body", "2"), &keyed] {
            for end in [closes, resets] {
                let origin = dying(end);
                assert_eq!(second(&origin, config, request), (200, 3), "{config}{request}");
                assert_eq!(origin.seen()[1].request, origin.seen()[2].request, "the same again");
            }
        }
    }
}

#[test]
fn one_that_dies_while_it_is_written_to_costs_a_safe_request_nothing() {
    for config in [ROUTE, RETRY] {
        let origin = dying(resets_within);
        let config = format!("{config}max_replay_body = '16MiB'\n");
        assert_eq!(second(&origin, &config, &put(&"x".repeat(LARGE), "2")), (200, 3), "{config}");
        assert_eq!(origin.seen()[2].request.body.len(), LARGE, "all of it");
    }
}

#[test]
fn one_that_dies_under_what_is_not_safe_is_a_502() {
    for config in [ROUTE, RETRY] {
        for end in [closes, resets] {
            assert_eq!(second(&dying(end), config, &post("x", "2")), (502, 2), "{config}");
        }
        for begun in ["H", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
            let origin = dying(move |connection| {
                connection.request();
                connection.wire.send(begun);
            });
            assert_eq!(second(&origin, config, &put("x", "2")), (502, 2), "{begun}");
        }
    }
}

#[test]
fn one_that_dies_under_a_body_that_was_not_kept_is_a_502() {
    let of_body = |limit: &str| format!("{ROUTE}max_replay_body = '{limit}'\n");
    let of_all = |limit: &str| format!("listener = {{ max_replay_memory = '{limit}' }}\n{ROUTE}");
    for (config, expected) in [
        (of_body("4B"), (200, 3)),
        (of_body("3B"), (502, 2)),
        (of_all("1KiB"), (200, 3)),
        (of_all("3B"), (502, 2)),
    ] {
        assert_eq!(second(&dying(closes), &config, &put("body", "2")), expected, "{config}");
    }
}

#[test]
fn one_that_dies_within_an_upload_leaves_the_rest_of_it_to_a_fresh_one() {
    let origin = dying(|connection| {
        connection.head();
        connection.wire.exactly(2);
    });
    let proxy = Proxy::before(&origin, &format!("workers = 1\n{ROUTE}"));
    let mut client = proxy.connect();
    assert_eq!(client.ask(get("/", "1")).status(), 200);
    let request = put("body", "2");
    let (begun, rest) = request.split_at(request.len() - 2);
    client.send(begun);
    eventually("the fresh one", || (origin.connections() == 2).then_some(()));
    client.send(rest);
    assert_eq!(client.response().text(), "body");
}

/// Answers `/pair` when there are two, so that there are two connections; `/slow` at once with
/// `before`, and when the door opens with `after`; and `/dying` only when it comes again.
fn slow_and_dying(door: &Arc<RwLock<()>>, [before, after]: [&'static str; 2]) -> Origin {
    let (door, pair) = (door.clone(), Barrier::new(2));
    Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            match seen.request.target() {
                "/slow" => {
                    connection.wire.send(before);
                    drop(door.read());
                    connection.wire.send(after);
                }
                "/dying" if seen.number == 3 => return,
                "/pair" => {
                    pair.wait();
                    connection.wire.send(ok(""));
                }
                _ => connection.wire.send(ok("")),
            }
        }
    })
}

#[test]
fn a_body_is_held_until_the_head_of_its_answer() {
    // Room for one.
    let config = format!("workers = 1\nlistener = {{ max_replay_memory = '1500B' }}\n{ROUTE}");
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
    let body = "x".repeat(1000);
    for (before, status) in [(head, 200), ("", 502)] {
        let door = Arc::new(RwLock::new(()));
        let origin = slow_and_dying(&door, [before, if before == head { "ok" } else { head }]);
        let held = door.write().expect("a door");
        let proxy = Proxy::before(&origin, &config);
        let (mut one, mut other) = (proxy.connect(), proxy.connect());
        one.send(get("/pair", "1"));
        assert_eq!((other.ask(get("/pair", "2")).status(), one.response().status()), (200, 200));

        let put_to = |path: &str| put(&body, "3").replacen('/', path, 1);
        one.send(put_to("/slow"));
        eventually("the slow one", || (origin.seen().len() == 3).then_some(()));
        if before == head {
            assert_eq!(one.head().expect("a head").status(), 200);
        }
        assert_eq!(other.ask(put_to("/dying")).status(), status);
        drop(held);
    }
}
