//! More load than an upstream can take, over real sockets.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use fusebox_dev::{Origin, answer, eventually, get, ok};
use fusebox_resilience::{PriorityClass, PriorityLevel};
use serde_json::json;

use crate::support::Proxy;

/// An origin that is ill until it is told to be well.
fn ill() -> (Origin, Arc<AtomicBool>) {
    let is_well = Arc::<AtomicBool>::default();
    let tell = is_well.clone();
    let origin = Origin::start(move |connection| {
        while connection.request().is_some() {
            let answer = if is_well.load(SeqCst) { ok("well") } else { answer(503, "", "ill") };
            if connection.wire.try_send(answer).is_err() {
                return;
            }
        }
    });
    (origin, tell)
}

fn level_of(id: &str) -> u16 {
    PriorityLevel::of_request(PriorityClass::Medium, id.as_bytes()).number()
}

/// Waits for a line of the log.
#[track_caller]
fn told(proxy: &Proxy, message: &str) {
    proxy.wait(message, |lines| lines.iter().any(|line| line["msg"] == message).then_some(()));
}

#[test]
fn a_throttler_rejects_while_the_upstream_fails_and_admits_all_again_when_it_is_well() {
    let (origin, is_well) = ill();
    let config = "[listener]\nretry_after_jitter = 0\n\
                  [priority]\n\
                  [policies.retry]\nkind = 'retry'\nmax_retries = 1\ndelay = '1ms'\n\
                  handle_if = { status = [] }\n\
                  [policies.throttler]\nkind = 'adaptive-throttler'\nmin_calls = 1\n\
                  interval = '1ms'\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry', 'throttler']\n";
    let proxy = Proxy::before(&origin, config);
    let (mut id, mut asked) = (0, 0);
    let mut ask = || {
        id += 1;
        (id.to_string(), proxy.ask(get("/", &id.to_string())))
    };
    let (id, rejected) = eventually("a rejection", || {
        let (id, told) = ask();
        let is_own = told.header("proxy-status").is_some();
        asked += usize::from(!is_own);
        is_own.then_some((id, told))
    });
    assert_eq!((rejected.status(), rejected.header("retry-after")), (503, Some("1")));
    assert_eq!(
        rejected.header("proxy-status"),
        Some("fusebox; error=destination_unavailable; details=\"overloaded\"")
    );
    assert_eq!(origin.seen().len(), asked, "what is rejected does not reach it");
    assert_eq!(proxy.told(&id), ["Call rejected: overloaded", "503: Service Unavailable"]);
    let access = proxy.story(&id).pop().expect("the access line");
    let line = proxy.story(&id).swap_remove(0);
    assert_eq!(line["priority_level"], level_of(&id), "{line}");
    assert_eq!((&access["attempts"], &access["failure"]), (&json!(0), &json!("overloaded")));
    let labels = r#"route="/",policy="throttler",reason="overloaded""#;
    proxy.counts(&[(&format!("fusebox_rejections_total{{{labels}}}"), 1.0)]);
    let admitted = || proxy.state()["policies"]["throttler"]["admitted"].as_f64();
    assert!(admitted().is_some_and(|admitted| (0.1..1.0).contains(&admitted)), "{:?}", admitted());
    told(&proxy, "Throttler admits 50 % of calls");

    is_well.store(true, SeqCst);
    eventually("the end of it", || {
        ask();
        (admitted() == Some(1.0)).then_some(())
    });
    assert_eq!(ask().1.text(), "well");
    proxy.counts(&[(r#"fusebox_adaptive_throttler_admitted{policy="throttler"}"#, 1.0)]);
    told(&proxy, "Throttler admits 100 % of calls");
}

#[test]
fn a_limiter_rejects_what_is_more_than_the_limit_and_learns_from_what_it_admits() {
    let (begin, began) = channel();
    let (begin, go_on) = (Mutex::new(begin), Arc::<AtomicBool>::default());
    let goes_on = go_on.clone();
    let origin = Origin::start(move |connection| {
        while let Some(seen) = connection.request() {
            if seen.request.target() == "/slow" {
                begin.lock().expect("it is whole").send(()).ok();
                eventually("the end of it", || goes_on.load(SeqCst).then_some(()));
            }
            if connection.wire.try_send(answer(503, "", "busy")).is_err() {
                return;
            }
        }
    });
    let config = "[listener]\nretry_after_jitter = 0\n[log]\nlevel = 'debug'\n\
                  [policies.limiter]\nkind = 'adaptive-limiter'\ninitial_limit = 1\n\
                  max_limit_factor = 1000\nmin_samples = 1\nwindow = { min = '1ms' }\n\
                  [[routes]]\nupstream = 'ORIGIN'\npolicies = ['limiter']\n";
    let proxy = Proxy::before(&origin, config);
    let mut slow = proxy.connect();
    slow.send(get("/slow", "slow"));
    began.recv().expect("it is under way");
    let rejected = proxy.ask(get("/", "1"));
    assert_eq!((rejected.status(), rejected.header("retry-after")), (503, Some("1")));
    assert_eq!(proxy.told("1"), ["Call rejected: overloaded", "503: Service Unavailable"]);
    let in_use = r#"fusebox_adaptive_limiter_in_use{policy="limiter"}"#;
    proxy.counts(&[(in_use, 1.0), (r#"fusebox_adaptive_limiter_limit{policy="limiter"}"#, 1.0)]);
    go_on.store(true, SeqCst);
    assert_eq!(slow.head().expect("a response").status(), 503);
    proxy.counts(&[(in_use, 0.0)]);
    // The limit can't be lower. What is well raises it.
    assert_eq!(proxy.state()["policies"]["limiter"]["limit"], 1);
    let (origin, is_well) = ill();
    is_well.store(true, SeqCst);
    let proxy = Proxy::before(&origin, config);
    eventually("a higher limit", || {
        proxy.ask(get("/", "0"));
        (proxy.state()["policies"]["limiter"]["limit"].as_u64() > Some(1)).then_some(())
    });
    told(&proxy, "Limit changed from 1 to 2: up");
}

// ===== priority =====

/// What an origin was told of the priority of its only request.
fn told_of(origin: &Origin) -> (String, String) {
    let request = origin.only();
    let header = |name| request.header(name).unwrap_or_default().to_owned();
    (header("x-fusebox-priority"), header("x-fusebox-level"))
}

const EVERYBODY: &str = "[listener]\ntrusted = ['127.0.0.0/8']\n";

#[test]
fn a_request_has_the_same_level_at_every_hop_and_at_each_attempt() {
    let origin = Origin::answering([answer(503, "", "busy"), ok("well")]);
    let retry = "[policies.retry]\nkind = 'retry'\ndelay = '1ms'\n";
    let route = "[[routes]]\nupstream = 'ORIGIN'\n";
    // The one next to the origin would say something else of its own.
    let inner = Proxy::before(
        &origin,
        &format!("{EVERYBODY}{retry}[priority]\ndefault = 'very-low'\n{route}policies = ['retry']"),
    );
    let middle = Proxy::before(&via(&inner), &format!("{EVERYBODY}[priority]\n{route}"));
    let edge = Proxy::before(&via(&middle), &format!("{route}priority = 'high'"));
    assert_eq!(edge.ask(get("/", "7f3c")).text(), "well");
    let seen = origin.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        let header = |name| seen.request.header(name);
        assert_eq!(header("x-fusebox-priority"), Some("high"));
        assert_eq!(header("x-fusebox-level"), Some("330"), "as of its id");
    }
}

/// Where the proxy listens, as an upstream.
fn via(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address())
}

#[test]
fn only_trusted_clients_say_how_important_they_are_and_clients_are_told_nothing() {
    let route = "[[routes]]\nupstream = 'ORIGIN'\n";
    let request = "GET / HTTP/1.1\r\nhost: b\r\nx-request-id: 1\r\n\
                   x-fusebox-priority: 99\r\nx-fusebox-level: 70000\r\n\r\n";
    for (listener, class, level) in [("", "medium", "232"), (EVERYBODY, "very-high", "499")] {
        let origin = Origin::answering([ok("well")]);
        let proxy = Proxy::before(&origin, &format!("{listener}[priority]\n{route}"));
        let told = proxy.ask(request);
        assert_eq!(told_of(&origin), (class.to_owned(), level.to_owned()));
        assert_eq!(
            (told.header("x-fusebox-priority"), told.header("x-fusebox-level")),
            (None, None)
        );
    }
    // Without, they are headers like others.
    let origin = Origin::answering([ok("well")]);
    Proxy::before(&origin, route).ask(request);
    assert_eq!(told_of(&origin), ("99".to_owned(), "70000".to_owned()));
}

#[test]
fn who_takes_more_of_the_upstreams_time_than_others_has_lower_levels() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let level = seen.request.header("x-fusebox-level").unwrap_or_default();
            if connection.wire.try_send(ok(level)).is_err() {
                return;
            }
        }
    });
    let users = "[priority]\nuser = { header = 'x-user' }\n[[routes]]\nupstream = 'ORIGIN'\n";
    let proxy = Proxy::before(&origin, users);
    let mut client = proxy.connect();
    let mut level = |user: &str| {
        let request = format!("GET / HTTP/1.1\r\nhost: b\r\nx-user: {user}\r\n\r\n");
        client.ask(request).text().parse::<u16>().expect("a level")
    };
    // The first half of the users has the upper half of the levels, in a moment.
    eventually("levels by what users take", || {
        // So many that chance alone does not do it.
        let most = (0..40).map(|_| level("takes much")).max();
        let least = (0..4).map(|_| level("takes little")).min();
        (most < Some(250) && least >= Some(250)).then_some(())
    });
    // Who has not been seen takes least, and who does not say who it is has a level by chance.
    assert!(level("new") >= 250);
    assert_eq!(proxy.ask(get("/", "1")).text(), level_of("1").to_string());
}
