//! Clients' connections and their ends: those that `max_requests` and `max_age` set.

use std::time::Duration;

use fusebox_dev::{Origin, eventually, get, ok};
use tokio::time::Instant;

use crate::support::{Proxy, ROUTE};

fn ended(limit: &str) -> String {
    format!("fusebox_connections_ended_total{{limit=\"{limit}\"}}")
}

#[test]
fn a_connection_has_as_many_requests_as_it_may_and_the_last_answer_says_so() {
    let origin = Origin::answering([ok("")]);
    let config = format!("[listener]\nmax_requests = 3\n{ROUTE}");
    let proxy = Proxy::before(&origin, &config);
    let mut client = proxy.connect();
    for (id, connection) in [("1", None), ("2", None), ("3", Some("close"))] {
        assert_eq!(client.ask(get("/", id)).header("connection"), connection, "{id}");
    }
    assert_eq!(client.rest(), b"");
    // What comes after the last one is not begun, and its answer is not lost.
    let mut client = proxy.connect();
    client.send((4..10).map(|id| get("/", &id.to_string())).collect::<String>());
    let answers = [(); 3].map(|()| client.response());
    let close = answers.map(|answer| answer.header("connection").map(str::to_owned));
    assert_eq!(close, [None, None, Some("close".to_owned())]);
    client.finish();
    assert_eq!(client.rest(), b"");
    assert_eq!(origin.seen().len(), 6);
    proxy.counts(&[(&ended("max_requests"), 2.0), ("fusebox_connections", 0.0)]);
}

#[test]
fn a_connection_that_is_old_ends_with_its_next_answer() {
    let origin = Origin::answering([ok("")]);
    let config = format!("[listener]\nmax_age = '500ms'\n{ROUTE}");
    let proxy = Proxy::before(&origin, &config);
    let before = Instant::now();
    let mut client = proxy.connect();
    eventually("its last answer", || {
        (client.ask(get("/", "1")).header("connection") == Some("close")).then_some(())
    });
    assert!(before.elapsed() >= Duration::from_millis(450), "{:?}", before.elapsed());
    assert_eq!(client.rest(), b"");
    // One that is idle then is not cut under its next request.
    let mut idle = proxy.connect();
    idle.stays_silent(Duration::from_millis(700));
    let answer = idle.ask(get("/", "2"));
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    proxy.counts(&[(&ended("max_age"), 2.0)]);
}
