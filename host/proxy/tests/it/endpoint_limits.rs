//! What one endpoint allows: how long a connection to it is used, and for how many requests; how
//! many connections there are, and attempts at once, and who waits for them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fusebox_dev::{H2Origin, Message, Origin, eventually, get, ok};
use h2::server;
use http::Response;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::support::Proxy;

/// One worker in front of an upstream of this protocol with these settings.
fn before(origin: &dyn ToString, protocol: &str, settings: &str) -> Proxy {
    let config = format!(
        "workers = 1\n[[routes]]\n\
         upstream = {{ url = 'ORIGIN', protocol = '{protocol}', {settings} }}\n"
    );
    Proxy::before(&origin.to_string(), &config)
}

fn over_http2() -> H2Origin {
    H2Origin::start(|mut exchange| async move { exchange.ok("") })
}

#[test]
fn a_connection_gets_as_many_requests_as_it_may() {
    let (origin, http2) = (Origin::answering([ok("")]), over_http2());
    for (proxy, connections) in [
        (
            before(&origin, "http1", "max_requests = 2"),
            &(|| origin.connections()) as &dyn Fn() -> _,
        ),
        (before(&http2, "http2", "max_requests = 2"), &|| http2.connections()),
    ] {
        let mut client = proxy.connect();
        for (id, expected) in [("1", 1), ("2", 1), ("3", 2), ("4", 2), ("5", 3)] {
            assert_eq!(client.ask(get("/", id)).status(), 200, "{id}");
            assert_eq!(connections(), expected, "{id}");
        }
    }
}

#[test]
fn calls_that_wait_together_for_a_connection_of_one_request_get_one_each() {
    let origin = over_http2();
    let proxy = before(&origin, "http2", "max_requests = 1");
    let mut clients: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(get("/", "1"));
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(origin.connections(), 10);
}

#[test]
fn a_connection_that_is_old_gets_no_more_requests() {
    let (origin, http2) = (Origin::answering([ok("")]), over_http2());
    for (proxy, connections) in [
        (
            before(&origin, "http1", "max_age = '300ms'"),
            &(|| origin.connections()) as &dyn Fn() -> _,
        ),
        (before(&http2, "http2", "max_age = '300ms'"), &|| http2.connections()),
    ] {
        let begun = Instant::now();
        let mut client = proxy.connect();
        eventually("another connection", || {
            assert_eq!(client.ask(get("/", "1")).status(), 200);
            (connections() == 2).then_some(())
        });
        assert!(begun.elapsed() >= Duration::from_millis(270), "{:?}", begun.elapsed());
    }
}

#[test]
fn what_is_under_way_on_an_old_connection_goes_on() {
    let origin = H2Origin::start(|mut exchange| async move {
        if exchange.path == "/slow" {
            exchange.receive().await;
        }
        exchange.ok("");
    });
    let proxy = before(&origin, "http2", "max_age = '100ms'");
    let mut slow = proxy.connect();
    slow.send("POST /slow HTTP/1.1\r\nhost: b\r\ncontent-length: 2\r\n\r\na");
    eventually("the slow one", || (origin.seen().len() == 1).then_some(()));
    let mut client = proxy.connect();
    eventually("another connection", || {
        assert_eq!(client.ask(get("/", "1")).status(), 200);
        (origin.connections() == 2).then_some(())
    });
    slow.send("b");
    assert_eq!(slow.response().status(), 200);
    assert_eq!(origin.seen()[0].body, b"ab");
}

/// Answers each request when it is told to, and knows how many wait.
struct Held {
    origin: Origin,
    waiting: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    go: Sender<()>,
}

impl Held {
    fn new() -> Self {
        let (waiting, most) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (go, gone) = channel();
        let gone = Mutex::new(gone);
        let counts = (waiting.clone(), most.clone());
        let origin = Origin::start(move |connection| {
            while connection.request().is_some() {
                let now = counts.0.fetch_add(1, Ordering::SeqCst) + 1;
                counts.1.fetch_max(now, Ordering::SeqCst);
                let told = gone.lock().unwrap().recv();
                counts.0.fetch_sub(1, Ordering::SeqCst);
                if told.is_err() || connection.wire.try_send(ok("")).is_err() {
                    return;
                }
            }
        });
        Self { origin, waiting, most, go }
    }

    /// Waits until so many wait there.
    fn has(&self, count: usize) {
        eventually("they wait at the upstream", || {
            (self.waiting.load(Ordering::SeqCst) == count).then_some(())
        });
    }

    fn answer(&self) {
        self.go.send(()).unwrap();
    }
}

/// Waits until so many wait for the first endpoint.
fn has_line(proxy: &Proxy, count: usize) {
    eventually("they wait in line", || {
        (proxy.state()["upstreams"][0]["endpoints"][0]["waiting"] == count).then_some(())
    });
}

fn is_full(proxy: &Proxy, answer: &Message, id: &str, limit: &str) {
    assert_eq!(answer.status(), 503);
    let status = answer.header("proxy-status").unwrap_or_default();
    assert!(status.contains("error=connection_limit_reached"), "{status}");
    let story = proxy.story(id);
    let told = story.iter().find(|line| line["msg"] == "Endpoint full: a call is turned away");
    assert_eq!(told.expect("a line")["limit"], limit);
    let endpoint = &proxy.state()["upstreams"][0]["endpoints"][0]["url"];
    let labels = format!("{{upstream={endpoint},endpoint={endpoint},limit=\"{limit}\"}}");
    proxy.counts(&[(&format!("fusebox_endpoint_full_total{labels}"), 1.0)]);
}

#[test]
fn one_that_waits_in_vain_is_turned_away_and_the_upstream_was_not_asked() {
    for limit in ["max_in_flight", "max_connections"] {
        let held = Held::new();
        let settings = format!("connect_timeout = '200ms', {limit} = 1");
        let proxy = before(&held.origin, "http1", &settings);
        let mut first = proxy.connect();
        first.send(get("/", "1"));
        held.has(1);
        let begun = Instant::now();
        let answer = proxy.ask(get("/", "2"));
        assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
        is_full(&proxy, &answer, "2", limit);
        held.answer();
        assert_eq!(first.response().status(), 200);
        held.answer();
        assert_eq!(proxy.ask(get("/", "3")).status(), 200);
        assert_eq!(held.origin.seen().len(), 2);
    }
}

#[test]
fn who_waits_gets_the_connection_that_comes_free_in_the_order_of_arrival() {
    let held = Held::new();
    let proxy = before(&held.origin, "http1", "max_connections = 1");
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/{at}"), "1"));
        held.has(1);
        has_line(&proxy, at);
    }
    // One of those who wait leaves.
    drop(clients.remove(2));
    has_line(&proxy, 2);
    for client in &mut clients {
        held.answer();
        assert_eq!(client.response().status(), 200);
    }
    let paths: Vec<_> =
        held.origin.seen().iter().map(|seen| seen.request.target().to_owned()).collect();
    assert_eq!(paths, ["/0", "/1", "/3"]);
    assert_eq!(held.origin.connections(), 1);
    let endpoint = proxy.state()["upstreams"][0]["endpoints"][0].clone();
    assert_eq!((&endpoint["connections"], &endpoint["waiting"]), (&1.into(), &0.into()));
}

#[test]
fn who_waits_makes_a_connection_when_one_ends() {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let origin = Origin::start(move |connection| {
        if connection.request().is_some() {
            gone.lock().unwrap().recv().ok();
            connection
                .wire
                .send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let proxy = before(&origin, "http1", "max_connections = 1");
    let mut clients: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(get("/", "1"));
        eventually("the first", || (origin.seen().len() == 1).then_some(()));
        has_line(&proxy, at);
    }
    for client in &mut clients {
        go.send(()).unwrap();
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn streams_are_waited_for_where_no_more_connections_may_be_made() {
    let (open, door) = watch::channel(false);
    let mut builder = server::Builder::new();
    builder.max_concurrent_streams(2);
    let origin = H2Origin::with(builder, move |mut exchange| {
        let mut door = door.clone();
        async move {
            tokio::select! {
                _ = door.wait_for(|is_open| *is_open) => exchange.ok(""),
                () = exchange.ended() => {}
            }
        }
    });
    let proxy = before(&origin, "http2", "max_connections = 2, connect_timeout = '60s'");
    let mut clients: Vec<_> = (0..10).map(|_| proxy.connect()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(get("/", "1"));
        eventually("a stream", || (origin.seen().len() == 4.min(at + 1)).then_some(()));
        has_line(&proxy, at.saturating_sub(3));
    }
    // Some of those who wait leave, and one who has a stream.
    clients.truncate(8);
    has_line(&proxy, 4);
    clients.remove(0);
    has_line(&proxy, 3);
    let has_left = || origin.seen().iter().any(|seen| seen.reset.is_some());
    eventually("its stream ends", || has_left().then_some(()));
    open.send(true).unwrap();
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!((origin.seen().len(), origin.connections()), (8, 2));
    // One that has ended makes place for the next.
    let proxy = before(&origin, "http2", "max_connections = 1, max_requests = 1");
    for id in ["2", "3"] {
        assert_eq!(proxy.ask(get("/", id)).status(), 200);
    }
}

#[test]
fn over_all_workers_no_more_are_under_way_than_the_endpoint_allows() {
    let held = Held::new();
    let config = "workers = 3\n[[routes]]\n\
                  upstream = { url = 'ORIGIN', max_in_flight = 2, connect_timeout = '60s' }\n";
    let proxy = Proxy::before(&held.origin, config);
    let mut clients: Vec<_> = (0..40).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(get("/", "1"));
    }
    held.has(2);
    has_line(&proxy, 38);
    // Every other one leaves while the others are served.
    let (mut stay, leave): (Vec<_>, Vec<_>) =
        clients.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
    let leaving = thread::spawn(move || leave.into_iter().for_each(drop));
    for _ in 0..40 {
        held.answer();
    }
    for (_, client) in &mut stay {
        assert_eq!(client.response().status(), 200);
    }
    leaving.join().unwrap();
    assert_eq!(held.most.load(Ordering::SeqCst), 2);
    eventually("nobody is left", || {
        let endpoint = &proxy.state()["upstreams"][0]["endpoints"][0];
        (endpoint["in_flight"] == 0 && endpoint["waiting"] == 0).then_some(())
    });
}

#[test]
fn an_attempt_is_under_way_until_its_body_has_ended() {
    let origin = H2Origin::start(|mut exchange| async move {
        let mut stream = exchange.answer(Response::new(()), false);
        if exchange.path == "/endless" {
            exchange.ended_within(&mut stream).await;
        } else {
            stream.send_data("".into(), true).unwrap();
        }
    });
    let proxy = before(&origin, "http2", "max_in_flight = 1, connect_timeout = '200ms'");
    let mut endless = proxy.connect();
    endless.send(get("/endless", "1"));
    assert_eq!(endless.head().expect("a head").status(), 200);
    is_full(&proxy, &proxy.ask(get("/", "2")), "2", "max_in_flight");
    drop(endless);
    eventually("it is free", || (proxy.ask(get("/", "3")).status() == 200).then_some(()));
}

#[test]
fn each_worker_has_its_share_of_the_connections_but_one_at_least() {
    let held = Held::new();
    let config = "workers = 2\n[[routes]]\n\
                  upstream = { url = 'ORIGIN', max_connections = 1, connect_timeout = '60s' }\n";
    let proxy = Proxy::before(&held.origin, config);
    // Each goes to the worker with the fewest.
    let mut clients: Vec<_> = (0..4).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(get("/", "1"));
    }
    held.has(2);
    has_line(&proxy, 2);
    for _ in 0..4 {
        held.answer();
    }
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(held.origin.connections(), 2);
}

#[test]
fn an_endpoint_that_is_full_is_passed_over() {
    for limit in ["max_in_flight = 1", "max_connections = 1"] {
        let (held, free) = (Held::new(), Origin::answering([ok("")]));
        let config = format!(
            "workers = 1\n[upstreams.b]\nendpoints = ['{}', '{free}']\n{limit}\n\
             balance = 'round-robin'\nhealth = {{ consecutive = 1 }}\n[[routes]]\nupstream = 'b'\n",
            held.origin
        );
        let proxy = Proxy::before(&"", &config);
        let mut clients: Vec<_> = (0..2).map(|_| proxy.connect()).collect();
        for client in &mut clients {
            client.send(get("/", "1"));
        }
        held.has(1);
        // Until its answer has gone out, the other is full, too.
        eventually("an answer", || {
            let endpoints = &proxy.state()["upstreams"][0]["endpoints"];
            (endpoints[1]["attempts"] == 1 && endpoints[1]["in_flight"] == 0).then_some(())
        });
        let mut client = proxy.connect();
        for id in ["2", "3", "4"] {
            assert_eq!(client.ask(get("/", id)).status(), 200);
        }
        assert_eq!((held.origin.seen().len(), free.seen().len()), (1, 4), "{limit}");
        held.answer();
    }
}
