//! Policies that let calls wait for their turn, over real sockets and all workers.

use std::sync::{Arc, RwLock};

use fusebox_dev::{eventually, get};
use serde_json::json;

use crate::errors::is_problem;
use crate::places::behind;
use crate::support::Proxy;

#[test]
fn a_bulkhead_turns_away_what_finds_no_place_and_a_slow_client_takes_none() {
    let door = Arc::new(RwLock::new(()));
    let origin = behind(&door);
    let config = "workers = 3\n\
                  [policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  [policies.places]\nkind = 'bulkhead'\nmax_concurrency = 2\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['breaker', 'places']\n";
    let proxy = Proxy::before(&origin, config);
    let held = door.write().expect("a door");
    let mut slow = proxy.connect();
    slow.send("POST / HTTP/1.1\r\nhost: b\r\nx-request-id: slow\r\ncontent-length: 6\r\n\r\nabc");
    proxy.counts(&[(r#"fusebox_bulkhead_waiting_for_clients{policy="places"}"#, 1.0)]);
    let mut clients = [proxy.connect(), proxy.connect()];
    clients.iter_mut().for_each(|client| client.send(get("/", "1")));
    let in_use = r#"fusebox_bulkhead_in_use{policy="places"}"#;
    proxy.counts(&[(in_use, 2.0)]);
    let answer = proxy.ask(get("/", "2"));
    is_problem(&answer, "2", 503, "connection_limit_reached", "bulkhead full");
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(proxy.told("2"), ["Call rejected: bulkhead full", "503: Service Unavailable"]);
    let rejected = r#"fusebox_rejections_total{route="/",policy="places",reason="bulkhead-full"}"#;
    proxy.counts(&[(rejected, 1.0)]);
    assert_eq!(
        proxy.state()["policies"]["places"],
        json!({ "kind": "bulkhead", "in_use": 2, "max_concurrency": 2, "waiting": 0,
                "waiting_for_clients": 1 })
    );
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "closed");
    drop(held);
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    slow.send("def");
    assert_eq!(slow.response().status(), 200);
    proxy.counts(&[(in_use, 0.0)]);
    let seen = origin.seen();
    assert_eq!(seen.last().expect("the upload").request.text(), "abcdef");
}

#[test]
fn calls_on_all_workers_wait_in_one_line() {
    let door = Arc::new(RwLock::new(()));
    let origin = behind(&door);
    let config = "workers = 3\nlog = { level = 'debug' }\n[policies.places]\nkind = 'bulkhead'\n\
                  max_concurrency = 1\nmax_wait = '1m'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['places']\n";
    let proxy = Proxy::before(&origin, config);
    let held = door.write().expect("a door");
    let mut clients: Vec<_> = (0..7).map(|_| proxy.connect()).collect();
    let waiting = r#"fusebox_bulkhead_waiting{policy="places"}"#;
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/{number}"), &number.to_string()));
        proxy.counts(&[(r#"fusebox_bulkhead_in_use{policy="places"}"#, 1.0)]);
        proxy.counts(&[(waiting, number as f64)]);
    }
    // Who leaves is not missed.
    drop(clients.remove(3));
    proxy.counts(&[(waiting, 5.0)]);
    drop(held);
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    let seen = eventually("all are served", || Some(origin.seen()).filter(|seen| seen.len() == 6));
    let order: Vec<_> = seen.iter().map(|seen| seen.request.target().to_owned()).collect();
    assert_eq!(order, ["/0", "/1", "/2", "/4", "/5", "/6"]);
    let waits = r#"fusebox_queue_wait_seconds_count{route="/",policy="places"}"#;
    proxy.counts(&[(waits, 5.0)]);
    let told = proxy.told_in_detail("2");
    assert_eq!(told[..2], ["Call started", "Call waits, 1 before it"]);
    assert!(told[2].starts_with("Call admitted after "), "{told:?}");
}
