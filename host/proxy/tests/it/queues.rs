//! Policies that let calls wait for their turn, over real sockets and all workers.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use fusebox_dev::{Message, Origin, eventually, get, ok};
use serde_json::json;
use tokio::time::Instant;

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

#[test]
fn a_rate_limiter_tells_the_client_when_to_come_back() {
    let origin = Origin::answering([ok("")]);
    let config = "workers = 3\n[listener]\nretry_after_jitter = 0\n\
                  [policies.rate]\nkind = 'rate-limiter'\nlimit = 2\nper = '1h'\nheaders = true\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['rate']\n";
    let proxy = Proxy::before(&origin, config);
    let fields = |answer: &Message| {
        ["ratelimit-policy", "ratelimit"].map(|name| answer.header(name).unwrap_or("").to_owned())
    };
    let policy = "\"rate\";q=2;w=3600";
    for left in ["\"rate\";r=1;t=1800", "\"rate\";r=0;t=3600"] {
        let answer = proxy.connect().ask(get("/", "1"));
        assert_eq!((answer.status(), fields(&answer)), (200, [policy, left].map(String::from)));
    }
    let mut answer = proxy.connect().ask(get("/", "2"));
    assert_eq!(fields(&answer), [policy, "\"rate\";r=0;t=3600"].map(String::from));
    let retry_after: u32 = answer.header("retry-after").expect("a time").parse().unwrap();
    assert!((1790..=1800).contains(&retry_after), "{retry_after}");
    answer.headers.retain(|(name, _)| !name.starts_with("ratelimit"));
    is_problem(&answer, "2", 429, "http_request_denied", "rate limit exceeded");
    assert_eq!(origin.seen().len(), 2);
    let rejected = r#"fusebox_rejections_total{route="/",policy="rate",reason="rate-limited"}"#;
    proxy.counts(&[(rejected, 1.0), (r#"fusebox_rate_limiter_tokens{policy="rate"}"#, 0.0)]);
    let line = proxy.line("Call rejected: rate limit exceeded");
    assert_eq!((&line["reason"], &line["policy"]), (&json!("rate-limited"), &json!("rate")));
    assert_eq!(
        proxy.state()["policies"]["rate"],
        json!({ "kind": "rate-limiter", "tokens": 0, "burst": 2, "waiting": 0,
                "waiting_for_clients": 0 })
    );
}

#[test]
fn calls_on_all_workers_have_their_turn_one_after_the_other() {
    let origin = Origin::answering([ok("")]);
    let config = "workers = 3\n[policies.rate]\nkind = 'rate-limiter'\nlimit = 20\nper = '1s'\n\
                  burst = 1\nmax_wait = '10s'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['rate']\n";
    let proxy = Proxy::before(&origin, config);
    let mut clients: Vec<_> = (0..6).map(|_| proxy.connect()).collect();
    let start = Instant::now();
    clients.iter_mut().for_each(|client| client.send(get("/", "1")));
    clients.iter_mut().for_each(|client| assert_eq!(client.response().status(), 200));
    assert!(start.elapsed() >= Duration::from_millis(5 * 50), "{:?}", start.elapsed());
    proxy.counts(&[(r#"fusebox_queue_wait_seconds_count{route="/",policy="rate"}"#, 5.0)]);
}
