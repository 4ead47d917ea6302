//! What one endpoint allows: how long a connection to it is used, and for how many requests.

use std::time::Duration;

use fusebox_dev::{H2Origin, Origin, eventually, get, ok};
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
