//! The places for clients' connections: who gets one, and who makes place.

use std::net::Ipv4Addr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use fusebox_dev::{Origin, Wire, eventually, get, ok};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use crate::errors::is_problem;
use crate::support::{Proxy, ROUTE};

/// A proxy with so many places.
fn places(origin: &Origin, count: usize, more: &str) -> Proxy {
    Proxy::before(origin, &format!("workers = 3\n[listener]\nmax_connections = {count}\n{more}"))
}

fn ended(limit: &str) -> String {
    format!("fusebox_connections_ended_total{{limit=\"{limit}\"}}")
}

/// An origin that answers nobody for as long as somebody holds the door.
pub(crate) fn behind(door: &Arc<RwLock<()>>) -> Origin {
    let door = door.clone();
    Origin::start(move |connection| {
        while connection.request().is_some() {
            drop(door.read());
            if connection.wire.try_send(ok("")).is_err() {
                return;
            }
        }
    })
}

#[track_caller]
fn is_open(client: &mut Wire) {
    assert_eq!(client.ask(get("/", "still there")).status(), 200);
}

#[test]
fn when_all_places_are_taken_the_idlest_connection_goes_whichever_worker_has_it() {
    let origin = Origin::answering([ok("")]);
    let proxy = places(&origin, 3, ROUTE);
    let mut clients = [proxy.connect(), proxy.connect(), proxy.connect()];
    // It is no matter who came first.
    for client in [1, 2, 0] {
        is_open(&mut clients[client]);
    }
    let state = proxy.state()["connections"].clone();
    assert_eq!(state, json!({ "taken": 3, "places": 3 }));
    proxy.counts(&[("fusebox_connections", 3.0), ("fusebox_max_connections", 3.0)]);
    assert_eq!(proxy.admin("GET /readyz").status(), 200, "there is one for a newcomer");
    let mut newcomer = proxy.connect();
    is_open(&mut newcomer);
    assert_eq!(clients[1].rest(), b"");
    for client in [0, 2] {
        is_open(&mut clients[client]);
    }
    proxy.counts(&[(&ended("max_connections"), 1.0), ("fusebox_connections_delayed_total", 0.0)]);
    let line = proxy.line("Connection ended: its place was needed");
    assert_eq!((&line["limit"], &line["count"]), (&json!("max_connections"), &json!(1)));
    assert_eq!((&line["ip"], &line["level"]), (&json!("127.0.0.1"), &json!("WARN")));
}

#[test]
fn one_that_has_a_request_keeps_its_place_and_readiness_tells_that_nobody_else_gets_one() {
    let door = Arc::new(RwLock::new(()));
    let origin = behind(&door);
    let proxy = places(&origin, 2, ROUTE);
    let held = door.write().expect("a door");
    let mut clients = [proxy.connect(), proxy.connect()];
    clients.iter_mut().for_each(|client| client.send(get("/", "1")));
    let readiness = || proxy.admin("GET /readyz");
    eventually("no readiness", || (readiness().status() == 503).then_some(()));
    assert_eq!(readiness().text(), "all places for connections are taken\n");
    let mut newcomer = proxy.connect();
    newcomer.send(get("/", "2"));
    let line = proxy.line("all places for connections are taken");
    assert_eq!((&line["max_connections"], &line["count"]), (&json!(2), &json!(1)));
    newcomer.stays_silent(Duration::from_millis(300));
    proxy.counts(&[(&ended("max_connections"), 0.0), ("fusebox_connections_delayed_total", 1.0)]);
    drop(held);
    for client in &mut clients {
        assert_eq!(client.response().status(), 200);
    }
    assert_eq!(newcomer.response().status(), 200);
    eventually("readiness", || (readiness().status() == 200).then_some(()));
    proxy.counts(&[(&ended("max_connections"), 1.0)]);
}

/// As many as the default, if this process may have so many.
#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("a limit");
    let count = maximum.map_or(10_000, |files| 10_000.min(files as usize - 100));
    let origin = Origin::answering([ok("")]);
    let proxy = places(&origin, count, ROUTE);
    let idle: Vec<Wire> = (0..count).map(|_| proxy.connect()).collect();
    proxy.counts(&[("fusebox_connections", count as f64)]);
    for _ in 0..10 {
        is_open(&mut proxy.connect());
    }
    drop(idle);
}

// ===== of each address =====

const REFUSED: &str = "fusebox; error=http_request_denied; details=\"too many connections\"";

/// From another address than those of the tests.
fn elsewhere(proxy: &Proxy) -> Wire {
    Wire::connect_from(Ipv4Addr::new(127, 0, 0, 2).into(), proxy.address())
}

#[test]
fn an_address_that_has_its_connections_is_told_so_at_once_and_others_are_served() {
    let origin = Origin::answering([ok("")]);
    let keys = format!("max_connections_per_address = 2\n{ROUTE}");
    let proxy = places(&origin, 10, &keys);
    let mut clients = [proxy.connect(), proxy.connect()];
    clients.iter_mut().for_each(is_open);
    for _ in 0..20 {
        // It is told so whether or not it has sent anything.
        let mut refused = proxy.connect();
        let answer = refused.response();
        assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.header("proxy-status"), Some(REFUSED));
        assert_eq!(answer.header("connection"), Some("close"));
        refused.try_send(get("/", "refused")).ok();
        assert_eq!(refused.rest(), b"");
    }
    is_open(&mut elsewhere(&proxy));
    clients.iter_mut().for_each(is_open);
    proxy.counts(&[(&ended("max_connections_per_address"), 20.0)]);
    let line = proxy.line("Connection ended: its address has too many");
    assert_eq!((&line["ip"], &line["count"]), (&json!("127.0.0.1"), &json!(1)));
    assert_eq!(proxy.lines("Connection ended: its address has too many").len(), 1, "now and then");

    let [gone, mut stays] = clients;
    drop(gone);
    eventually("a place", || (proxy.connect().ask(get("/", "1")).status() == 200).then_some(()));
    is_open(&mut stays);
}

#[test]
fn a_trusted_proxy_has_no_limit_of_its_own() {
    let origin = Origin::answering([ok("")]);
    let keys = format!("max_connections_per_address = 1\ntrusted = ['127.0.0.1']\n{ROUTE}");
    let proxy = places(&origin, 10, &keys);
    let mut clients = [proxy.connect(), proxy.connect(), elsewhere(&proxy)];
    clients.iter_mut().for_each(is_open);
    assert_eq!(elsewhere(&proxy).response().status(), 503);
}

// ===== of calls =====

#[test]
fn a_call_too_many_is_turned_away_and_no_policy_hears_of_it() {
    let door = Arc::new(RwLock::new(()));
    let origin = behind(&door);
    let config = "workers = 3\n[listener]\nmax_in_flight = 2\nretry_after_jitter = 0\n\
                  [policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  [policies.fallback]\nkind = 'fallback'\nrespond = { status = 200 }\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['fallback', 'breaker']\n";
    let proxy = Proxy::before(&origin, config);
    let in_flight = |count| {
        proxy.counts(&[("fusebox_calls_in_flight", count), ("fusebox_max_in_flight", 2.0)]);
    };
    let held = door.write().expect("a door");
    let mut clients = [proxy.connect(), proxy.connect()];
    clients.iter_mut().for_each(|client| client.send(get("/", "1")));
    in_flight(2.0);
    let mut third = proxy.connect();
    for id in ["2", "3"] {
        let answer = third.ask(get("/", id));
        is_problem(&answer, id, 503, "http_request_denied", "too many requests in flight");
        assert_eq!((answer.header("retry-after"), answer.header("connection")), (Some("1"), None));
        let story = proxy.story(id);
        let line = story.last().expect("an access line");
        assert_eq!((&line["attempts"], &line["failure"]), (&json!(0), &json!("other")), "{line}");
    }
    let refused = r#"fusebox_requests_refused_total{route="/",reason="in-flight"}"#;
    proxy.counts(&[(refused, 2.0)]);
    let told = proxy.lines("Request turned away: too many in flight");
    assert_eq!((told.len(), &told[0]["count"]), (1, &json!(1)));
    let breaker = proxy.state()["policies"]["breaker"].clone();
    assert_eq!((&breaker["state"], &breaker["failures"]), (&json!("closed"), &json!(0)));

    // Who leaves gives the place back, and so does who is answered.
    let [leaves, mut stays] = clients;
    drop(leaves);
    in_flight(1.0);
    third.send(get("/", "4"));
    in_flight(2.0);
    drop(held);
    assert_eq!((stays.response().status(), third.response().status()), (200, 200));
    in_flight(0.0);
    assert_eq!(proxy.state()["calls"], json!({ "in_flight": 0, "places": 2 }));
}
