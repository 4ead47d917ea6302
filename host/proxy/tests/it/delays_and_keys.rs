//! Delays and keys that components decide, as clients and operators meet them.

use std::fs;

use fusebox_dev::{Origin, answer, eventually, get, key, ok, predicate, waits, wat_component};
use serde_json::json;

use crate::cli::{complaints, config, directory};
use crate::components::with_component;

const RETRY: &str = "[components.c]\nfile = 'c.wasm'\nOPTIONS\n\
    [policies.retry]\nkind = 'retry'\ndelay = { component = 'c', own = '2ms' }\n\
    max_retry_after = '1s'\n[[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\n";

const LIMITER: &str = "[components.c]\nfile = 'c.wasm'\nOPTIONS\n\
    [policies.limiter]\nkind = 'rate-limiter'\nlimit = 1\nper = '1h'\n\
    key = { component = 'c' }\n[[routes]]\nupstream = 'ORIGIN'\npolicies = ['limiter']\n";

/// Says that every call is of this one.
fn of(name: &str) -> Vec<u8> {
    let length = name.len();
    let body = format!(
        "(i32.store8 (i32.const 96) (i32.const 1)) (i32.store (i32.const 100) (i32.const 1024))
         (i32.store (i32.const 104) (i32.const {length})) (i32.const 96)"
    );
    wat_component(&format!(r#"(data (i32.const 1024) "{name}") {}"#, key(&body)))
}

#[test]
fn a_component_decides_when_a_retry_comes_and_that_none_does() {
    let busy = || answer(503, "", "");
    let origin = Origin::answering([busy(), ok("second"), busy(), ok(""), busy()]);
    // Of the first call it is the first retry; what it says is what the policy would wait and 5 ms.
    let sum = waits("(i32.add (local.get $own) (i32.const 5))");
    let proxy = with_component(&origin, &wat_component(&sum), RETRY, "");
    assert_eq!(proxy.ask(get("/", "1")).text(), "second");
    assert_eq!(proxy.told("1"), ["Retry 1 after delay of 7ms", "200: OK"]);
    let loaded = proxy.line("Component loaded");
    let by = json!({ "component": "c", "digest": loaded["digest"], "generation": 1 });
    assert_eq!(proxy.story("1")[0]["decided_by"], by);

    // Another version is asked from the next request on.
    let gives_up = fusebox_dev::after("(i32.store8 (i32.const 96) (i32.const 2)) (i32.const 96)");
    fs::write(proxy.path("c.wasm"), wat_component(&gives_up)).expect("a file");
    proxy.line("Component replaced");
    assert_eq!(proxy.ask(get("/", "2")).status(), 503);
    let message = "Not retried: the component says not to, or too late";
    assert_eq!(proxy.told("2"), [message, "503: Service Unavailable"]);
    let skipped = proxy.story("2")[0].clone();
    assert_eq!(
        (&skipped["reason"], &skipped["decided_by"]["generation"]),
        (&json!("component"), &json!(2))
    );
    proxy.counts(&[
        (r#"fusebox_component_calls_total{component="c"}"#, 2.0),
        (r#"fusebox_retries_skipped_total{route="/",policy="retry",reason="component"}"#, 1.0),
    ]);
}

#[test]
fn a_component_that_fails_leaves_a_retry_its_own_delay_and_a_call_without_a_key() {
    let origin = Origin::answering([answer(503, "", ""), ok("second")]);
    let traps = wat_component(&fusebox_dev::after("unreachable"));
    let proxy = with_component(&origin, &traps, RETRY, "probe = false");
    assert_eq!(proxy.ask(get("/", "1")).text(), "second");
    let told = ["Component faulted: trap", "Retry 1 after delay of 2ms", "200: OK"];
    assert_eq!(proxy.told("1"), told);
    proxy.counts(&[(&proxy.fault_series("trap"), 1.0)]);

    let origin = Origin::answering([ok("")]);
    let traps = wat_component(&key("unreachable"));
    let proxy = with_component(&origin, &traps, LIMITER, "probe = false");
    assert_eq!(["1", "2"].map(|id| proxy.ask(get("/", id)).status()), [200, 429]);
    assert_eq!(proxy.state()["policies"]["limiter"]["keys"]["count"], 0, "of nobody");
}

#[test]
fn a_component_says_whose_call_it_is_and_another_version_may_say_otherwise() {
    let origin = Origin::answering([ok("")]);
    let proxy = with_component(&origin, &of("red"), LIMITER, "");
    assert_eq!(["1", "2"].map(|id| proxy.ask(get("/", id)).status()), [200, 429]);
    fs::write(proxy.path("c.wasm"), of("blue")).expect("a file");
    proxy.line("Component replaced");
    assert_eq!(["3", "4"].map(|id| proxy.ask(get("/", id)).status()), [200, 429]);
    let keys = eventually("both", || {
        let keys = proxy.state()["policies"]["limiter"]["keys"].clone();
        (keys["count"] == 2).then_some(keys)
    });
    let busiest = keys["busiest"].as_array().expect("a list");
    let busiest: Vec<_> = busiest.iter().map(|key| (&key["key"], &key["calls"])).collect();
    assert_eq!(busiest, [(&json!("blue"), &json!(2)), (&json!("red"), &json!(2))]);
}

#[test]
fn what_is_named_for_a_delay_or_a_key_has_to_export_it() {
    let directory = directory(&config(
        "[components.c]\nfile = 'c.wasm'\n\
         [policies.retry]\nkind = 'retry'\n\
         delay = { component = 'c' }\n\
         [policies.breaker]\nkind = 'circuit-breaker'\n\
         delay = { component = 'c' }\n\
         key = { component = 'c' }\n[[routes]]\nupstream = 'http://b'\n\
         policies = ['retry', 'breaker']\n",
    ));
    fs::write(directory.path().join("c.wasm"), predicate("(i32.const 1)")).expect("a file");
    let missing =
        |export| format!("component `c` (c.wasm): missing export `fusebox:policy/{export}@0.1.0`");
    assert_eq!(
        complaints(directory.path()),
        [
            format!("fusebox.toml:7: policies.retry.delay.component: {}", missing("delay")),
            format!("fusebox.toml:10: policies.breaker.delay.component: {}", missing("delay")),
            format!("fusebox.toml:11: policies.breaker.key: {}", missing("key")),
        ]
    );
}
