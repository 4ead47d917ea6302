//! The end of the program under load: whoever has asked gets an answer.

use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use fusebox_dev::{Origin, Wire, eventually, get, ok};
use serde_json::json;

use crate::support::{Proxy, ROUTE};

/// Clients that ask in a loop.
const CLIENTS: usize = 30;

/// Asks again and again, each time after a pause, until it is told that this was the last time.
fn ask_until_the_last(client: &mut Wire, pause: Duration, answered: &AtomicUsize) {
    loop {
        let response = client.ask(get("/", "1"));
        assert_eq!((response.status(), response.text()), (200, "here"));
        answered.fetch_add(1, Ordering::SeqCst);
        if response.header("connection") == Some("close") {
            assert_eq!(client.rest(), b"");
            return;
        }
        thread::park_timeout(pause);
    }
}

/// Two to eight of thirty had found their connection closed, and could not know whether what they
/// had just sent was seen.
#[test]
fn clients_that_ask_in_a_loop_are_answered_until_they_are_told_to_leave() {
    let origin = Origin::answering([ok("here")]);
    let proxy = Proxy::before(&origin, &format!("workers = 2\n{ROUTE}"));
    let answered = AtomicUsize::new(0);
    let mut proxy = thread::scope(|scope| {
        // If this fails, the proxy goes, and they with it.
        let proxy = proxy;
        for client in 0..CLIENTS {
            let (mut wire, answered) = (proxy.connect(), &answered);
            // Most of them are idle at any time.
            let pause = Duration::from_millis(5 + client as u64 % 15);
            scope.spawn(move || ask_until_the_last(&mut wire, pause, answered));
        }
        eventually("all of them ask", || {
            (answered.load(Ordering::SeqCst) >= 10 * CLIENTS).then_some(())
        });
        proxy.signal("TERM");
        proxy
    });
    assert_eq!(proxy.end().code(), Some(0));
    let stopped = proxy.line("stopped");
    assert_eq!((&stopped["level"], &stopped["connections_cut"]), (&json!("INFO"), &json!(0)));
    assert_eq!(origin.seen().len(), answered.load(Ordering::SeqCst));
}

/// The kernel takes connections on before the program does, and resets those when the listener is
/// closed. They lie there when the program goes on, and so does the signal.
#[test]
fn clients_that_wait_to_be_accepted_at_the_end_are_answered() {
    for _ in 0..5 {
        let origin = Origin::answering([ok("here")]);
        let mut proxy = Proxy::before(&origin, ROUTE);
        proxy.signal("STOP");
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| proxy.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(get("/", "1")));
        proxy.signal("TERM");
        proxy.signal("CONT");
        for client in &mut clients {
            assert_eq!(client.response().text(), "here");
        }
        drop(clients);
        assert_eq!(proxy.end().code(), Some(0));
    }
}

#[test]
fn a_request_that_is_under_way_when_it_begins_to_drain_is_answered() {
    let origin = Origin::answering([ok("here")]);
    let mut proxy = Proxy::before(&origin, ROUTE);
    let mut kept = proxy.connect();
    assert_eq!(kept.ask(get("/", "1")).status(), 200);
    let mut new = proxy.connect();
    proxy.counts(&[("fusebox_connections", 2.0)]);
    proxy.signal("TERM");
    eventually("a closed port", || TcpStream::connect(proxy.address()).err());
    for client in [&mut kept, &mut new] {
        // The worker hears of it a moment after the port is closed.
        eventually("its last answer", || {
            let response = client.ask(get("/", "2"));
            assert_eq!(response.status(), 200);
            (response.header("connection") == Some("close")).then_some(())
        });
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(proxy.end().code(), Some(0));
}

/// Its answer had said that the connection is kept.
#[test]
fn who_was_promised_a_kept_connection_may_use_it_once_more() {
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let origin = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
            if seen.number == 0 {
                gone.lock().expect("no panic").recv().ok();
            }
            connection.wire.send("half");
        }
    });
    let config = format!("listener = {{ drain_timeout = '1h' }}\n{ROUTE}");
    let mut proxy = Proxy::before(&origin, &config);
    let mut idle = proxy.connect();
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    let head = client.head().expect("a head");
    assert_eq!((head.status(), head.header("connection")), (200, None));
    assert_eq!(client.exactly(4), b"half");
    proxy.signal("TERM");
    assert_eq!(idle.rest(), b"", "the grace of all others is over");
    go.send(()).expect("it waits");
    assert_eq!(client.exactly(4), b"half");
    let response = client.ask(get("/", "2"));
    assert_eq!((response.text(), response.header("connection")), ("halfhalf", Some("close")));
    assert_eq!(proxy.end().code(), Some(0));
}

/// Half of `drain_timeout` is all that they are waited for, so that it cuts nobody.
#[test]
fn who_is_silent_keeps_it_from_ending_for_a_moment_and_is_not_cut() {
    for limit in ["1s", "1h"] {
        let origin = Origin::answering([ok("here")]);
        let config = format!("listener = {{ drain_timeout = '{limit}' }}\n{ROUTE}");
        let mut proxy = Proxy::before(&origin, &config);
        let mut clients = [proxy.connect(), proxy.connect()];
        assert_eq!(clients[0].ask(get("/", "1")).status(), 200);
        proxy.counts(&[("fusebox_connections", 2.0)]);
        proxy.signal("TERM");
        assert_eq!(clients.each_mut().map(Wire::rest), [b"", b""]);
        assert_eq!(proxy.end().code(), Some(0));
        let stopped = proxy.line("stopped");
        assert_eq!((&stopped["level"], &stopped["connections_cut"]), (&json!("INFO"), &json!(0)));
    }
}
