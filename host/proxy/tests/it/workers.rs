//! A worker that stands still is told of and spared, and not left for ever.

use fusebox_dev::{FrozenThread, Origin, Wire, get, ok};
use tokio::time::Instant;

use crate::support::{Proxy, ROUTE};

fn readiness(proxy: &Proxy) -> (u16, String) {
    let answer = proxy.admin("GET /readyz");
    (answer.status(), answer.text().to_owned())
}

#[test]
fn a_stalled_worker_gets_no_more_connections_and_may_come_back() {
    let origin = Origin::answering([ok("")]);
    let proxy = Proxy::before(&origin, &format!("workers = 2\n{ROUTE}"));
    assert_eq!(readiness(&proxy), (200, "ready\n".to_owned()));
    // As many on each.
    let mut clients: Vec<Wire> = (0..8).map(|_| proxy.connect()).collect();
    clients.iter_mut().for_each(|client| drop(client.ask(get("/", "1"))));
    let frozen = FrozenThread::of(proxy.id(), "worker-1");

    let stalled = proxy.line("Worker 1 stalled");
    assert_eq!((&stalled["level"], &stalled["worker"]), (&"ERROR".into(), &1.into()));
    assert!(stalled["silent_ms"].as_f64().is_some_and(|silent| silent >= 10_000.0), "{stalled}");
    assert_eq!(readiness(&proxy), (503, "a worker is stalled\n".to_owned()));
    assert_eq!(proxy.admin("GET /healthz").status(), 200);
    assert_eq!(proxy.state()["workers"][1]["stalled"], true);
    // By their numbers alone, every other one would go to the worker that is stalled.
    for _ in 0..8 {
        let mut client = proxy.connect();
        assert_eq!(client.ask(get("/", "2")).status(), 200);
        clients.push(client);
    }
    proxy.counts(&[("fusebox_worker_stalls_total", 1.0)]);

    drop(frozen);
    proxy.line("Worker 1 resumed");
    assert_eq!(readiness(&proxy), (200, "ready\n".to_owned()));
}

#[test]
fn a_worker_that_stays_stalled_ends_the_process() {
    let origin = Origin::answering([ok("")]);
    let mut proxy = Proxy::before(&origin, &format!("workers = 2\n{ROUTE}"));
    let start = Instant::now();
    let _frozen = FrozenThread::of(proxy.id(), "worker-0");
    proxy.line("Worker 0 stalled");
    let lost = proxy.line("Worker 0 lost: the process ends");
    assert!(start.elapsed().as_secs() >= 25, "{lost}");
    assert_eq!(proxy.end().code(), Some(1));
}
