//! Never more load than asked for: retries, breakers and layers of proxies in front of an upstream
//! that fails.

use std::thread;
use std::time::Duration;

use fusebox_dev::{Message, Origin, Wire, answer, get, ok};
use tokio::time::Instant;

use crate::cli::directory;
use crate::support::{Proxy, fusebox};

/// A route to everything through these policies.
fn route(policies: &str) -> String {
    format!("[[routes]]\nupstream = 'ORIGIN'\npolicies = [{policies}]\n")
}

/// A retry with further keys, and a route to everything through it.
fn retry(keys: &str) -> String {
    format!("[policies.retry]\nkind = 'retry'\n{keys}\n{}", route("'retry'"))
}

/// As many as a thousandth of the time would do for attempts without a pause.
fn few(attempts: usize, least: usize, most: usize) {
    assert!((least..=most).contains(&attempts), "{attempts} attempts");
}

// ===== what an upstream asks for =====

#[test]
fn a_retry_after_of_0_or_of_the_past_does_not_make_a_retry_spin() {
    for value in ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "at once"] {
        let origin = Origin::answering([answer(503, &format!("retry-after: {value}\r\n"), "")]);
        let keys = "max_retries = -1\nmax_duration = '500ms'\ndelay = '100ms'";
        let proxy = Proxy::before(&origin, &retry(keys));
        assert_eq!(proxy.ask(get("/", "1")).status(), 503);
        few(origin.seen().len(), 2, 7);
    }
}

#[test]
fn a_retry_after_of_0_does_not_switch_a_breaker_off() {
    let origin = Origin::answering([answer(503, "retry-after: 0\r\n", "")]);
    let config = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  delay = '10m'\nretry_after = true\n";
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'breaker'")));
    for id in 1..=20 {
        assert_eq!(proxy.ask(get("/", &id.to_string())).status(), 503);
    }
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_wait_that_no_limit_outside_allows_is_not_begun() {
    let origin = Origin::answering([answer(503, "retry-after: 30\r\n", "busy")]);
    let config = "[policies.limit]\nkind = 'timeout'\nlimit = '20s'\n\
                  [policies.retry]\nkind = 'retry'\nmax_retry_after = '1m'\n";
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'limit', 'retry'")));
    let began = Instant::now();
    let told = proxy.ask(get("/", "1"));
    assert!(began.elapsed() < Duration::from_secs(10), "at once");
    assert_eq!((told.status(), told.header("retry-after"), told.text()), (503, Some("30"), "busy"));
    assert_eq!(
        proxy.told("1"),
        ["Not retried: the wait would end past the deadline", "503: Service Unavailable"]
    );
}

#[test]
fn nobody_asks_again_earlier_than_was_asked_for() {
    let origin = Origin::answering([answer(503, "retry-after-ms: 700\r\n", ""), ok("well")]);
    let proxy = Proxy::before(&origin, &retry("delay = '1ms'\nmax_duration = '1m'"));
    let began = Instant::now();
    assert_eq!(proxy.ask(get("/", "1")).text(), "well");
    assert!(began.elapsed() >= Duration::from_millis(700));
    // `max_duration` cuts only the own delay short.
    let origin = Origin::answering([answer(503, "retry-after-ms: 700\r\n", ""), ok("well")]);
    let proxy = Proxy::before(&origin, &retry("delay = '1ms'\nmax_duration = '500ms'"));
    assert_eq!(proxy.ask(get("/", "1")).status(), 503);
    assert_eq!(origin.seen().len(), 1);
}

// ===== what clients and breakers are told =====

#[test]
fn clients_are_told_different_times_none_of_them_too_early() {
    let origin = Origin::answering([answer(503, "", "")]);
    let config = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  delay = '9m'\ndelay_jitter = 0\n";
    let seconds = |listener: &str| {
        let config = format!("{listener}{config}{}", route("'breaker'"));
        let proxy = Proxy::before(&origin, &config);
        proxy.ask(get("/", "0"));
        let ask = |id: u32| {
            let told = proxy.ask(get("/", &id.to_string()));
            told.header("retry-after").and_then(|it| it.parse::<u64>().ok()).expect("seconds")
        };
        (1..=20).map(ask).collect::<Vec<_>>()
    };
    let spread = seconds("");
    // The test may have taken a minute of the delay itself.
    assert!(spread.iter().all(|seconds| (480..=648).contains(seconds)), "{spread:?}");
    let (least, most) = (spread.iter().min(), spread.iter().max());
    assert!(most.zip(least).is_some_and(|(most, least)| most - least > 20), "{spread:?}");
    let exact = seconds("[listener]\nretry_after_jitter = 0\n");
    assert!(exact.iter().all(|seconds| (480..=540).contains(seconds)), "{exact:?}");
    assert!(exact.is_sorted_by(|earlier, later| earlier >= later), "{exact:?}");
}

#[test]
fn a_hung_trial_opens_the_breaker_again_and_the_rest_is_told_to_come_back_in_a_second() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            if seen.request.target() == "/hang" {
                connection.wire.rest();
                return;
            }
            connection.wire.send(answer(503, "", ""));
        }
    });
    let config = "[listener]\nretry_after_jitter = 0\n\
                  [policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  delay = '9m'\ntrial_timeout = '1500ms'\n";
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'breaker'")));
    let bearer = "authorization: Bearer open sesame\r\n";
    assert_eq!(proxy.admin_with("POST /policies/breaker/half-open", bearer).status(), 200);
    let mut hung = proxy.connect();
    hung.send(get("/hang", "hung"));
    let trials = || proxy.state()["policies"]["breaker"]["trials"].clone();
    fusebox_dev::eventually("the trial", || (trials() == 1).then_some(()));
    let turned_away = proxy.ask(get("/", "1"));
    // On a slow machine the trial may have been given up already.
    if proxy.story("1").iter().any(|line| line["retry_after_ms"] == 1000) {
        assert_eq!(turned_away.header("retry-after"), Some("1"));
    }
    fusebox_dev::eventually("the end of the trial", || (trials() == 0).then_some(()));
    assert_eq!(proxy.ask(get("/", "2")).status(), 503);
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "open");
    assert_eq!(origin.seen().len(), 1);
}

// ===== layers =====

const QUICK: &str = "delay = '1ms'\nmax_retries = 2";

/// As many layers, the outermost last.
fn layers(origin: &Origin, count: usize, keys: &str) -> Vec<Proxy> {
    let mut layers: Vec<Proxy> = Vec::new();
    for _ in 0..count {
        let next = match layers.last() {
            Some(proxy) => format!("http://{}", proxy.address()),
            None => origin.to_string(),
        };
        let trusted = "[listener]\ntrusted = ['127.0.0.0/8']\n";
        layers.push(Proxy::before(&next, &format!("{trusted}{}", retry(keys))));
    }
    layers
}

#[test]
fn three_layers_that_retry_make_three_attempts_and_not_27() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let layers = layers(&origin, 3, QUICK);
    let told = layers[2].ask(get("/", "1"));
    assert_eq!((told.status(), told.text()), (503, "busy"));
    assert_eq!(told.header("proxy-status"), Some("fusebox; received-status=503; attempts=3"));
    let marks: Vec<_> = origin.seen().iter().map(mark).collect();
    assert_eq!(marks, [None, Some(2), Some(3)]);
    let not_retried = "Not retried: another layer has retried it or turned it away";
    for outer in &layers[1..] {
        assert_eq!(outer.told("1"), [not_retried, "503: Service Unavailable"]);
    }
}

fn mark(seen: &fusebox_dev::Seen) -> Option<u32> {
    seen.request.header("x-fusebox-attempt").map(|mark| mark.parse().expect("a number"))
}

#[test]
fn a_failure_that_is_no_response_says_how_often_it_was_tried() {
    let origin = Origin::answering([""]);
    let layers = layers(&origin, 2, QUICK);
    let told = layers[1].ask(get("/", "1"));
    assert_eq!(told.status(), 502);
    let status = "fusebox; error=connection_terminated; details=\"connection lost\"; attempts=3";
    assert_eq!(told.header("proxy-status"), Some(status));
    assert_eq!(origin.seen().len(), 3);
}

#[test]
fn retry_retried_lets_layers_multiply() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let layers = layers(&origin, 2, &format!("{QUICK}\nretry_retried = true"));
    assert_eq!(layers[1].ask(get("/", "1")).status(), 503);
    assert_eq!(origin.seen().len(), 9);
    let marks: Vec<_> = origin.seen().iter().map(mark).collect();
    let (two, three) = (Some(2), Some(3));
    assert_eq!(marks, [None, two, three, two, two, three, three, three, three]);
}

#[test]
fn what_carries_the_mark_is_not_retried_and_a_first_attempt_passes_it_on() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = Proxy::before(&origin, &retry(QUICK));
    let request = get("/", "1").replace("\r\n\r\n", "\r\nX-Fusebox-Attempt: 4\r\n\r\n");
    let told = proxy.ask(request);
    assert_eq!((told.status(), told.header("proxy-status")), (503, None), "one attempt");
    assert_eq!(origin.seen().iter().map(mark).collect::<Vec<_>>(), [Some(4)]);
}

#[test]
fn an_upstream_that_asks_for_envoys_count_gets_it_with_each_attempt() {
    let counts = |keys: &str, headers: &str| {
        let origin = Origin::answering([answer(503, "", "busy")]);
        let upstream = format!("[[routes]]\nupstream = {{ url = 'ORIGIN'{keys} }}\n");
        let policy = format!("[policies.retry]\nkind = 'retry'\n{QUICK}\n");
        let proxy = Proxy::before(&origin, &format!("{policy}{upstream}policies = ['retry']\n"));
        let head = format!("\r\n{headers}\r\n");
        assert_eq!(proxy.ask(get("/", "1").replace("\r\n\r\n", &head)).status(), 503);
        let counts = |seen: &fusebox_dev::Seen| {
            let headers = seen.request.headers.iter();
            let counts = headers.filter(|(name, _)| name == "x-envoy-attempt-count");
            counts.map(|(_, count)| count.clone()).collect::<Vec<_>>().join(", ")
        };
        origin.seen().iter().map(counts).collect::<Vec<_>>()
    };
    let asked = ", envoy_attempt_count = true";
    assert_eq!(counts(asked, ""), ["1", "2", "3"]);
    // A client's count is none of ours; a mark is.
    assert_eq!(counts(asked, "X-Envoy-Attempt-Count: 7\r\n"), ["1", "2", "3"]);
    assert_eq!(counts(asked, "X-Fusebox-Attempt: 4\r\n"), ["4"]);
    // Who does not ask gets what the client sent.
    assert_eq!(counts("", ""), ["", "", ""]);
    assert_eq!(counts("", "X-Envoy-Attempt-Count: 7\r\n"), ["7", "7", "7"]);
}

#[test]
fn another_fuseboxs_rejection_is_not_retried() {
    let origin = Origin::answering([answer(500, "", "")]);
    let config = "[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
                  delay = '9m'\n";
    let inner = Proxy::before(&origin, &format!("{config}{}", route("'breaker'")));
    inner.ask(get("/", "opens"));
    let outer = Proxy::before(
        &format!("http://{}", inner.address()),
        &retry(&format!("{QUICK}\nmax_retry_after = '10m'")),
    );
    assert_eq!(outer.ask(get("/", "1")).status(), 503);
    let told = outer.told("1");
    assert_eq!(told[0], "Not retried: another layer has retried it or turned it away", "{told:?}");
}

// ===== budgets =====

/// Sends a request, and closes the connection when the answer is there.
fn asks(wire: &mut Wire, path: &str, id: usize) -> Message {
    wire.ask(get(path, &format!("{path}-{id}")))
}

#[test]
fn calls_that_wait_for_a_retry_leave_room_for_others() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let ill = answer(503, "retry-after: 9\r\n", "");
            let answer = if seen.request.target() == "/ill" { ill } else { ok("well") };
            if connection.wire.try_send(answer).is_err() {
                return;
            }
        }
    });
    let config = "[listener]\nmax_connections = 50\n[policies.retry]\nkind = 'retry'\n\
                  max_retries = 1\n";
    let proxy = Proxy::before(&origin, &format!("{config}{}", route("'retry'")));
    thread::scope(|scope| {
        // Those that are answered leave; those that wait would be there for 9 s.
        let mut waiting = Vec::new();
        for id in 0..50 {
            let mut wire = proxy.connect();
            let (done, is_done) = std::sync::mpsc::channel::<()>();
            waiting.push(is_done);
            scope.spawn(move || {
                asks(&mut wire, "/ill", id);
                drop(done);
            });
        }
        let began = Instant::now();
        assert_eq!(asks(&mut proxy.connect(), "/", 0).text(), "well");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let count = |value: &serde_json::Value| value.as_u64().expect("a count");
        let state = fusebox_dev::eventually("most of them", || {
            let state = proxy.state();
            let budget = &state["upstreams"][0]["budget"];
            // At most a fifth of 50.
            assert!((1..=10).contains(&count(&budget["extras_in_flight"])), "{budget}");
            (count(&budget["calls_begun"]) > 40).then_some(state)
        });
        let parked = count(&state["policies"]["retry"]["waiting"]);
        assert!((1..=10).contains(&parked), "{parked}");
        let upstream = origin.to_string();
        let shown = crate::support::metrics(proxy.admin("GET /metrics").text());
        let of = |name: &str| shown.get(name).copied().unwrap_or(f64::NAN);
        assert!((1.0..=10.0).contains(&of(r#"fusebox_retry_waiting{policy="retry"}"#)));
        let extras = format!("fusebox_budget_extras{{budget=\"{upstream}\"}}");
        assert!((1.0..=10.0).contains(&of(&extras)), "{shown:?}");
    });
}

#[test]
fn routes_to_one_upstream_share_its_budget_and_none_goes_without() {
    let config = |budget: &str| {
        let retry = |name: &str| {
            format!("[policies.{name}]\nkind = 'retry'\ndelay = '30s'\nmax_retries = 1\n{budget}\n")
        };
        let route = |name: &str| {
            format!("[[routes]]\npath = '/{name}'\nupstream = 'ORIGIN'\npolicies = ['{name}']\n")
        };
        ["a", "b"].map(retry).concat() + &["a", "b"].map(route).concat()
    };
    let waiting = |proxy: &Proxy, name: &str| {
        proxy.state()["policies"][name]["waiting"].as_u64().expect("a count")
    };
    for (budget, room) in [("", 3), ("budget = 'none'", 5)] {
        let origin = Origin::answering([answer(503, "", "busy")]);
        let proxy = Proxy::before(&origin, &config(budget));
        let mut wires: Vec<_> = (0..5).map(|_| proxy.connect()).collect();
        for (id, wire) in wires.iter_mut().enumerate() {
            let path = if id % 2 == 0 { "/a" } else { "/b" };
            wire.send(get(path, &id.to_string()));
            if id < room {
                let parked =
                    || (waiting(&proxy, "a") + waiting(&proxy, "b") > id as u64).then_some(());
                fusebox_dev::eventually("a call that waits", parked);
            } else {
                assert_eq!(wire.response().text(), "busy");
                let told = proxy.told(&id.to_string());
                assert_eq!(told[0], "Not retried: the retry budget is spent");
            }
        }
    }
    let file = format!("listen = '127.0.0.1:0'\n{}", config("budget = 'none'"));
    let said = fusebox(directory(&file.replace("ORIGIN", "http://b")).path(), &["check"]);
    let warning =
        "policies.a.budget: without one, nothing keeps retries from multiplying an overload";
    assert!(said.error.contains(warning), "{}", said.error);
}
