//! Whose fault it is: neither slow clients nor our own exhaustion is held against an upstream, and
//! what an upstream does wrong is, however late.

use std::fmt::Display;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use fusebox_dev::{LIMIT, Origin, Wire, answer, eventually, get, ok, post};
use serde_json::json;
use tokio::time::Instant;

use crate::support::{Proxy, ROUTE};

/// A breaker that one failure opens, for a tenth of a second, around `inner`.
fn sensitive(inner: &str) -> String {
    format!(
        "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\ndelay = '100ms'\n\
         delay_jitter = 0\nslow_call = '900ms'\n{inner}"
    )
}

fn route(policies: &str) -> String {
    format!("{ROUTE}policies = [{policies}]\n")
}

/// Sends a body of so many bytes, one at a time, with this pause before each.
fn trickle(wire: &mut Wire, bytes: usize, pause: Duration) {
    wire.send(format!("POST / HTTP/1.1\r\nhost: b.example\r\ncontent-length: {bytes}\r\n\r\n"));
    for _ in 0..bytes {
        // The client's pause is the point.
        thread::park_timeout(pause);
        wire.send("x");
    }
}

#[track_caller]
fn is_untroubled(proxy: &Proxy) {
    let breaker = proxy.state()["policies"]["breaker"].clone();
    assert_eq!((&breaker["state"], &breaker["failures"]), (&json!("closed"), &json!(0)));
}

// ===== slow clients =====

#[test]
fn uploads_that_trickle_are_answered_and_leave_the_breaker_closed() {
    let origin = Origin::answering([ok("thanks")]);
    let config = sensitive("[policies.timeout]\nkind = 'timeout'\nlimit = '900ms'\n");
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'breaker', 'timeout'")));
    let uploads = (0..5).map(|_| {
        let mut wire = proxy.connect();
        thread::spawn(move || {
            trickle(&mut wire, 4, Duration::from_millis(600));
            wire.response().status()
        })
    });
    let uploads: Vec<_> = uploads.collect();
    let answers: Vec<u16> = uploads.into_iter().map(|upload| upload.join().unwrap()).collect();
    assert_eq!(answers, [200; 5]);
    is_untroubled(&proxy);
}

#[test]
fn an_upload_longer_than_response_timeout_is_answered_and_one_that_stops_gets_a_408() {
    let origin = Origin::answering([ok("thanks")]);
    let config = format!(
        "listener = {{ body_timeout = '3s', min_rate = 0 }}\n{}[[routes]]\n\
         upstream = {{ url = 'ORIGIN', response_timeout = '900ms' }}\npolicies = ['breaker']\n",
        sensitive("")
    );
    let proxy = Proxy::before(&origin, &config);
    let mut wire = proxy.connect();
    trickle(&mut wire, 4, Duration::from_millis(600));
    assert_eq!(wire.response().status(), 200);
    let mut stuck = proxy.connect();
    stuck.send("POST / HTTP/1.1\r\nhost: b.example\r\ncontent-length: 4\r\n\r\nx");
    assert_eq!(stuck.response().status(), 408);
    is_untroubled(&proxy);
}

#[test]
fn an_upload_that_goes_on_after_an_early_head_is_no_stalled_body() {
    // It says 200 at once, and goes on once it has the request, if that is long enough.
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.head() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n");
            let length = seen.request.header("content-length").expect("a length");
            connection.wire.exactly(length.parse().expect("a number"));
            if length != "1" {
                connection.wire.send("thanks");
            }
        }
    });
    let config = format!(
        "{}[[routes]]\nupstream = {{ url = 'ORIGIN', body_timeout = '1200ms' }}\n\
         policies = ['breaker']\n",
        sensitive("")
    );
    let proxy = Proxy::before(&origin, &config);
    let mut wire = proxy.connect();
    trickle(&mut wire, 6, Duration::from_millis(600));
    assert_eq!(wire.response().text(), "thanks");
    is_untroubled(&proxy);

    // What it owes after that is its own.
    let mut wire = proxy.connect();
    trickle(&mut wire, 1, Duration::from_millis(1800));
    assert!(wire.any_response().broken.is_some());
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "open");
}

#[test]
fn clients_that_stop_within_their_bodies_do_not_keep_a_breaker_half_open() {
    let origin = Origin::answering(["".to_owned(), ok("well")]);
    let config = format!(
        "listener = {{ body_timeout = '10m' }}\n{}{}",
        sensitive("trial_timeout = '10m'\n"),
        route("'breaker'")
    );
    let proxy = Proxy::before(&origin, &config);
    assert_eq!(proxy.ask(get("/", "1")).status(), 502);
    // Whoever comes first after the delay is the trial.
    let mut stuck: Vec<Wire> = Vec::new();
    eventually("a trial", || {
        let mut wire = proxy.connect();
        wire.send("POST / HTTP/1.1\r\nhost: b.example\r\ncontent-length: 4\r\n\r\nx");
        stuck.push(wire);
        (proxy.state()["policies"]["breaker"]["trials"] == 1).then_some(())
    });
    assert_eq!(proxy.ask(get("/", "2")).status(), 503, "its place is taken");
    eventually("an answer", || (proxy.ask(get("/", "3")).status() == 200).then_some(()));
    is_untroubled(&proxy);
}

#[test]
fn nor_do_they_one_after_the_other() {
    let origin = Origin::answering(["".to_owned(), ok("well")]);
    let config = format!("{}{}", sensitive(""), route("'breaker'"));
    let proxy = Proxy::before(&origin, &config);
    assert_eq!(proxy.ask(get("/", "1")).status(), 502);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // They leave before they would have to give a place back.
                while !is_over.load(Relaxed) {
                    let mut wire = proxy.connect();
                    wire.send("POST / HTTP/1.1\r\nhost: b.example\r\ncontent-length: 4\r\n\r\nx");
                    thread::park_timeout(Duration::from_millis(300));
                }
            });
        }
        let trial = || (proxy.state()["policies"]["breaker"]["trials"] == 1).then_some(());
        eventually("a trial", trial);
        // The first may only have said that it wants the place.
        let answered = (0..20).any(|number| {
            thread::park_timeout(Duration::from_millis(100));
            proxy.ask(get("/", &number.to_string())).status() == 200
        });
        is_over.store(true, Relaxed);
        assert!(answered);
    });
    is_untroubled(&proxy);
}

// ===== cut off =====

#[test]
fn a_hung_upstream_under_an_outer_timeout_opens_a_breaker_with_slow_call() {
    let origin = Origin::start(|connection| while connection.request().is_some() {});
    let config = sensitive("[policies.timeout]\nkind = 'timeout'\nlimit = '1800ms'\n");
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'timeout', 'breaker'")));
    assert_eq!(proxy.ask(get("/", "1")).status(), 504);
    assert_eq!(
        proxy.told("1"),
        [
            "circuit breaker state changed from closed to open",
            "Connection timed out",
            "504: Gateway Timeout"
        ]
    );
}

#[test]
fn slow_call_does_not_count_retries_and_their_delays() {
    let origin = Origin::answering([answer(503, "", ""), ok("well")]);
    let config = sensitive("[policies.retry]\nkind = 'retry'\ndelay = '1800ms'\n");
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'breaker', 'retry'")));
    let began = Instant::now();
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    assert!(began.elapsed() >= Duration::from_millis(1800));
    is_untroubled(&proxy);
}

// ===== our own exhaustion =====

#[test]
fn without_descriptors_clients_are_told_so_and_no_breaker_opens() {
    let origin = Origin::answering([ok("well")]);
    is_told_without_descriptors(&origin);
}

#[test]
fn without_descriptors_no_name_is_known_and_that_is_told_as_well() {
    let origin = Origin::answering([ok("well")]);
    // Of what it can't look up, the system says that it is not known.
    is_told_without_descriptors(&origin.to_string().replace("127.0.0.1", "localhost"));
}

#[track_caller]
fn is_told_without_descriptors(origin: &impl Display) {
    let config = format!("workers = 1\n{}{}", sensitive(""), route("'breaker'"));
    let proxy = Proxy::with_open_files(64, origin, &[], &config);
    let line = proxy.line("the limit of open files is too low for `max_connections`");
    assert_eq!((&line["open_files"], &line["needed"]), (&json!(64), &json!(20_064)));

    let mut first = proxy.connect();
    // It is accepted: what it asks for is refused without a descriptor.
    first.send("GET /");
    // None of them is idle, so none makes place.
    let begun = |_| {
        let mut client = proxy.connect();
        client.try_send("GET /").ok();
        client
    };
    let others: Vec<Wire> = (0..80).map(begun).collect();
    // It may notice that it has none before the next client comes.
    proxy.wait("an acceptor without descriptors", |lines| {
        let is_it = |line: &&serde_json::Value| {
            line["msg"].as_str().is_some_and(|text| text.starts_with("can't accept connections"))
                && line["turned_away"].as_u64() > Some(0)
        };
        lines.iter().find(is_it).map(|_| ())
    });
    let refused = first.ask(" HTTP/1.1\r\nhost: b.example\r\nx-request-id: 1\r\n\r\n");
    assert_eq!((refused.status(), refused.header("retry-after").is_some()), (503, true));
    let status = refused.header("proxy-status");
    assert_eq!(status, Some("fusebox; error=proxy_internal_error; details=\"out of resources\""));
    let turned_away = others.into_iter().next_back().unwrap().response();
    assert_eq!((turned_away.status(), turned_away.header("proxy-status")), (503, status));

    eventually("an answer", || (first.ask(get("/", "2")).status() == 200).then_some(()));
    is_untroubled(&proxy);
}

#[test]
fn an_error_of_our_own_is_judged_by_what_is_behind_it() {
    let origin = Origin::answering([answer(503, "", "")]);
    let config = sensitive(
        "[policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1ms'\n\
         return_last_failure = false\nhandle_if = { status = ['503', '429'] }\n",
    );
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'breaker', 'retry'")));
    assert_eq!(proxy.ask(post("", "1").replace("POST", "GET")).status(), 502);
    assert_eq!(proxy.state()["policies"]["breaker"]["openings"], 1);

    let limited = Origin::answering([answer(429, "", "")]);
    let proxy = Proxy::before(&limited, &format!("{config}{}", route("'breaker', 'retry'")));
    assert_eq!(proxy.ask(get("/", "1")).status(), 502);
    is_untroubled(&proxy);
}

// ===== late failures =====

const LATE_FAILURES: &str = r#"fusebox_late_failures_total{route="/",policy="breaker"}"#;

/// An upstream whose answers end after half of what they announce.
fn half() -> Origin {
    Origin::start(|connection| {
        if connection.request().is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        }
    })
}

#[test]
fn each_body_that_breaks_off_opens_a_breaker_of_threshold_1_and_none_closes_it() {
    let origin = half();
    let config = format!("{}{}", sensitive("").replace("100ms", "10ms"), route("'breaker'"));
    let proxy = Proxy::before(&origin, &config);
    for opening in 1..=10 {
        let answer = eventually("a call that is let through", || {
            let mut wire = proxy.connect();
            wire.send(get("/", "1"));
            Some(wire.any_response()).filter(|answer| answer.status() == 200)
        });
        assert!(answer.broken.is_some(), "{answer:?}");
        let breaker = proxy.state()["policies"]["breaker"].clone();
        assert_eq!((&breaker["state"], &breaker["openings"]), (&json!("open"), &json!(opening)));
    }
    let closed = proxy.lines("circuit breaker state changed from half-open to closed");
    assert_eq!(closed.len(), 0, "{closed:?}");
    proxy.counts(&[(LATE_FAILURES, 10.0)]);
}

#[test]
fn a_body_that_stalls_is_a_failure_and_a_client_that_leaves_is_none() {
    let origin = Origin::start(|connection| {
        while connection.request().is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
        }
    });
    let config = format!(
        "{}[[routes]]\nupstream = {{ url = 'ORIGIN', body_timeout = '900ms' }}\n\
         policies = ['breaker']\n",
        sensitive("")
    );
    let proxy = Proxy::before(&origin, &config);
    let mut leaves = proxy.connect();
    leaves.send(get("/", "1"));
    assert_eq!(leaves.head().expect("a head").status(), 200);
    drop(leaves);
    assert_eq!(proxy.story("1").last().expect("an access line")["response"]["end"], "discarded");
    is_untroubled(&proxy);
    proxy.counts(&[(LATE_FAILURES, 0.0)]);
    let mut stays = proxy.connect();
    stays.send(get("/", "2"));
    assert_eq!(stays.head().expect("a head").status(), 200);
    assert_eq!(proxy.story("2").last().expect("an access line")["response"]["end"], "broken");
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "open");
    assert_eq!(
        proxy.told("2"),
        [
            "circuit breaker state changed from closed to open",
            "Response incomplete: timeout exceeded",
            "200: OK"
        ]
    );
    proxy.counts(&[(LATE_FAILURES, 1.0)]);
}

#[test]
fn a_body_that_trickles_past_the_limit_of_a_timeout_is_cut_off_and_a_failure() {
    let (gone, sees_it_go) = channel();
    let gone = Mutex::new(gone);
    let origin = Origin::start(move |connection| {
        if connection.request().is_some() {
            connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n");
            // Never silent for long.
            while connection.wire.try_send("x").is_ok() {
                thread::park_timeout(Duration::from_millis(20));
            }
            gone.lock().unwrap().send(()).unwrap();
        }
    });
    let config =
        sensitive("[policies.timeout]\nkind = 'timeout'\nlimit = '1m'\nbody_limit = '400ms'\n");
    let config = config.replace("slow_call = '900ms'\n", "");
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'breaker', 'timeout'")));
    let began = Instant::now();
    let mut wire = proxy.connect();
    wire.send(get("/", "1"));
    let answer = wire.any_response();
    assert_eq!((answer.status(), answer.broken.is_some()), (200, true), "{answer:?}");
    assert!(began.elapsed() >= Duration::from_millis(400));
    sees_it_go.recv_timeout(LIMIT).expect("its connection is closed");
    assert_eq!(
        proxy.told("1"),
        [
            "Response body timed out",
            "circuit breaker state changed from closed to open",
            "Response incomplete: timeout exceeded",
            "200: OK"
        ]
    );
    assert_eq!(proxy.line("Response body timed out")["limit"], "body_limit");
    let cut = r#"fusebox_body_timeouts_total{route="/",policy="timeout",limit="body_limit"}"#;
    proxy.counts(&[(cut, 1.0), (LATE_FAILURES, 1.0)]);
}

#[test]
fn a_download_that_is_under_way_closes_a_breaker_before_its_end() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            match seen.number {
                0 => return,
                1 => connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf"),
                _ => connection.wire.send(ok("well")),
            }
        }
    });
    let proxy = Proxy::before(&origin, &format!("{}{}", sensitive(""), route("'breaker'")));
    assert_eq!(proxy.ask(get("/", "1")).status(), 502);
    let mut download = proxy.connect();
    eventually("a trial", || {
        download = proxy.connect();
        download.send(get("/", "2"));
        (download.head()?.status() == 200).then_some(())
    });
    assert_eq!(proxy.ask(get("/", "3")).status(), 503, "it is a trial still");
    eventually("an answer", || (proxy.ask(get("/", "4")).status() == 200).then_some(()));
    is_untroubled(&proxy);
}
