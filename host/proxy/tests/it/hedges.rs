//! Hedges over real sockets: both upstream connections, and what becomes of the one that lost.

use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use fusebox_dev::{LIMIT, Origin, eventually, get, ok};
use serde_json::json;

use crate::support::Proxy;

/// A hedge after 50 ms.
const HEDGE: &str = "log = { level = 'debug' }\n\
                     [policies.hedge]\nkind = 'hedge'\ndelay = '50ms'\n\
                     [[routes]]\nupstream = 'ORIGIN'\npolicies = ['hedge']\n";

#[test]
fn the_connection_of_the_lost_attempt_is_closed_and_its_upstream_sees_it() {
    let (closed, sees_close) = channel();
    let closed = Mutex::new(closed);
    let origin = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            if seen.number == 0 {
                // Never an answer: what is left to come is the end of the connection.
                let rest = connection.wire.rest();
                closed.lock().unwrap().send(rest).unwrap();
                return;
            }
            connection.wire.send(ok("fast"));
        }
    });
    let proxy = Proxy::before(&origin, HEDGE);
    assert_eq!(proxy.ask(get("/", "1")).text(), "fast");
    assert_eq!(sees_close.recv_timeout(LIMIT).expect("it is closed"), b"");
    let seen = origin.seen();
    assert_eq!((seen.len(), origin.connections()), (2, 2));
    let marks: Vec<_> = seen.iter().map(|it| it.request.header("x-fusebox-attempt")).collect();
    assert_eq!(marks, [None, Some("2")]);
    let told = proxy.told_in_detail("1");
    assert!(told[2].starts_with("Hedge 1 launched after "), "{told:?}");
    assert_eq!(
        [&told[..2], &told[3..]].concat(),
        [
            "Call started",
            "Attempt 1 started",
            "Attempt 2 started",
            "Attempt 2: 200",
            "Condition handle-if: no",
            "Attempt 1: cancelled",
            "Attempt lost to another",
            "Hedge 1 won",
            "200: OK",
        ]
    );
    // The winner's connection is used again, for both of the next.
    assert_eq!(proxy.ask(get("/", "2")).text(), "fast");
    assert_eq!(origin.connections(), 2);
    proxy.counts(&[
        (r#"fusebox_hedges_total{route="/",policy="hedge"}"#, 1.0),
        (r#"fusebox_hedges_won_total{route="/",policy="hedge"}"#, 1.0),
        (r#"fusebox_hedges_cancelled_total{route="/",policy="hedge"}"#, 1.0),
        (r#"fusebox_attempts_total{route="/",outcome="cancelled"}"#, 1.0),
        (r#"fusebox_hedge_racing{policy="hedge"}"#, 0.0),
    ]);
    let state = proxy.state();
    assert_eq!(state["policies"]["hedge"]["delay_ms"], json!(50));
}

#[test]
fn both_attempts_send_the_whole_body_and_a_slow_client_has_no_hedge_of_its_own() {
    let (ask, asked) = channel::<()>();
    let asked = Mutex::new(asked);
    let origin = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            if seen.number == 0 {
                let _ = asked.lock().unwrap().recv_timeout(LIMIT);
                return;
            }
            connection.wire.send(ok("stored"));
        }
    });
    let proxy = Proxy::before(&origin, HEDGE);
    let mut client = proxy.connect();
    client.send("PUT / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\ncontent-length: 6\r\n\r\nabc");
    // The client takes its time, and the policy waits with it: longer than its delay.
    eventually("it waits for the body", || {
        (proxy.state()["policies"]["hedge"]["waiting_for_clients"] == json!(1)).then_some(())
    });
    client.stays_silent(Duration::from_millis(120));
    assert_eq!(origin.connections(), 0);
    client.send("def");
    assert_eq!(client.response().text(), "stored");
    drop(ask);
    let bodies: Vec<_> = origin.seen().iter().map(|it| it.request.text().to_owned()).collect();
    assert_eq!(bodies, ["abcdef", "abcdef"]);
}

#[test]
fn a_client_that_leaves_takes_both_attempts_with_it() {
    let (closed, sees_close) = channel();
    let closed = Mutex::new(closed);
    let origin = Origin::start(move |connection| {
        if connection.request().is_some() {
            let rest = connection.wire.rest();
            closed.lock().unwrap().send(rest).unwrap();
        }
    });
    let proxy = Proxy::before(&origin, HEDGE);
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    eventually("both are asked", || (origin.seen().len() == 2).then_some(()));
    drop(client);
    for _ in 0..2 {
        assert_eq!(sees_close.recv_timeout(LIMIT).expect("it is closed"), b"");
    }
    proxy.counts(&[(r#"fusebox_attempts_total{route="/",outcome="cancelled"}"#, 2.0)]);
}
