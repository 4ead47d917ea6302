//! What components say of delays and of keys, and what becomes of those that fail.

use std::time::Duration;

use fusebox_dev::{after, handle_if, is_status, key, waits, wat_component};
use fusebox_resilience::testing::call_with;
use fusebox_resilience::{
    ComponentEvent, DelayDecision, ErrorKind, EventKind, Fault, KeyQuestion, RequestBody, Slot,
};
use fusebox_wasm::Reload;
use http::Request;

use crate::guest::{Exports, guest};
use crate::support::{NAME, Seen, Tested, load, load_with, refusal, try_load_with};

/// Waits for what the policy would and the number of the retry, but gives up on a failure.
const SUM: &str = "(if (local.get $case) (then
    (i32.store8 (i32.const 96) (i32.const 2)) (return (i32.const 96))))
    (if (i32.eqz (local.get $own)) (then
        (i32.store8 (i32.const 96) (i32.const 0)) (return (i32.const 96))))
    (i32.store8 (i32.const 96) (i32.const 1))
    (i32.store (i32.const 100) (i32.add (local.get $own) (local.get $count)))
    (i32.const 96)";

/// Answers the path.
const PATH: &str = r#"(import "allocator" "reset" (func $reset))
    (import "attempt" "path-with-query" (func $path (param i32)))"#;
const TELLS_PATH: &str = "(call $reset) (call $path (i32.const 100))
    (i32.store8 (i32.const 96) (i32.const 1)) (i32.const 96)";

fn delay(tested: &Tested, outcome: impl Into<Seen>, own: u64, count: u32) -> DelayDecision {
    let delayer = tested.components.delayer(NAME).expect("it exports a delay");
    let own = Duration::from_millis(own);
    outcome.into().asked(&tested.recorder, Slot::Delay, |seen| delayer.after(seen, own, count))
}

fn key_of(tested: &Tested, request: http::request::Builder) -> Option<String> {
    let keyer = tested.components.keyer(NAME).expect("it exports a key");
    let call = call_with("1", request, RequestBody::empty(), tested.recorder.observers());
    keyer.key(&KeyQuestion::of(&call, call.route(), None))
}

fn waited(decision: DelayDecision) -> Option<u64> {
    match decision {
        DelayDecision::Wait { time, .. } => Some(time.as_millis() as u64),
        DelayDecision::Own | DelayDecision::GiveUp { .. } => None,
    }
}

#[test]
fn a_guest_says_how_long_to_wait() {
    let tested = load(&guest(Exports::Delay, &after(SUM)));
    let id = tested.components.status()[0].version.clone().expect("it is loaded");
    let expected = DelayDecision::Wait { time: Duration::from_millis(253), by: id.clone() };
    assert_eq!(delay(&tested, 503, 250, 3), expected);
    assert_eq!(delay(&tested, ErrorKind::Timeout, 250, 3), DelayDecision::GiveUp { by: id });
    assert_eq!(delay(&tested, 503, 0, 1), DelayDecision::Own);
    assert_eq!(waited(delay(&tested, 503, u64::MAX, 0)), Some(u32::MAX.into()), "it saturates");
    let status = &tested.components.status()[0];
    assert_eq!((status.calls, status.instances), (4, 1), "counted as every call is");
    assert!(!status.is_predicate && !status.is_fallback);
}

#[test]
fn a_guest_says_whose_call_it_is() {
    let tested = load(&guest(Exports::Key, &format!("{PATH} {}", key(TELLS_PATH))));
    let of = |path: &str| key_of(&tested, Request::get(path));
    assert_eq!(of("/red?x=1").as_deref(), Some("/red?x=1"));
    let none = load(&guest(
        Exports::Key,
        &key("(i32.store8 (i32.const 96) (i32.const 0)) (i32.const 96)"),
    ));
    assert_eq!(key_of(&none, Request::get("/")), None);
    assert_eq!((tested.faults(), none.faults()), (vec![], vec![]));
}

#[test]
fn before_there_is_an_outcome_nothing_can_be_asked_about_it() {
    for (function, parameters) in [
        ("asked", ""),
        ("number", ""),
        ("failure-detail", "(i32.const 128)"),
        ("response-headers", "(i32.const 128)"),
        ("response-body-text", "(i32.const 128)"),
        ("response-body-complete", ""),
    ] {
        let (types, result) = match parameters {
            "" => ("(result i32)", "drop"),
            _ => ("(param i32)", ""),
        };
        let call = format!("(call $ask {parameters})");
        let call = if result.is_empty() { call } else { format!("({result} {call})") };
        let fields = format!(
            r#"(import "attempt" "{function}" (func $ask {types})) {}"#,
            key(&format!("{call} (i32.const 96)"))
        );
        let tested = load(&guest(Exports::Key, &fields));
        assert_eq!(key_of(&tested, Request::get("/")), None, "{function}");
        let (fault, detail) = tested.faulted().remove(0);
        assert_eq!(fault, Fault::Misuse, "{function}");
        assert!(detail.contains("asked about an outcome, and there is none yet"), "{detail}");
    }
    // What is known of the call may be asked.
    for function in ["route", "policy", "history", "remaining-ms", "method", "request-headers"] {
        let fields = format!(
            r#"(import "attempt" "{function}" (func $ask (param i32))) {}"#,
            key("(call $ask (i32.const 128)) (i32.const 96)")
        );
        let tested = load(&guest(Exports::Key, &fields));
        key_of(&tested, Request::get("/"));
        assert_eq!(tested.faults(), [], "{function}");
    }
}

#[test]
fn asked_for_a_delay_a_guest_hears_that_it_is_a_condition() {
    let fields = format!(
        r#"(import "attempt" "asked" (func $asked (result i32))) {}"#,
        waits("(call $asked)")
    );
    let tested = load(&guest(Exports::Delay, &fields));
    assert_eq!(waited(delay(&tested, 503, 1, 1)), Some(0), "`handle-if`, the list is closed");
}

#[test]
fn a_guest_that_fails_leaves_the_policy_its_own_delay_and_the_call_without_a_key() {
    let traps = load(&guest(Exports::Delay, &after("unreachable")));
    assert_eq!(delay(&traps, 503, 1, 1), DelayDecision::Own);
    assert_eq!(traps.faults(), [Fault::Trap]);
    let wrong = load(&guest(
        Exports::Delay,
        &after("(i32.store8 (i32.const 96) (i32.const 3)) (i32.const 96)"),
    ));
    assert_eq!(delay(&wrong, 503, 1, 1), DelayDecision::Own);
    assert_eq!(wrong.faults().len(), 1);
    let loops =
        load_with(&guest(Exports::Key, &key("(loop $on (br $on)) (i32.const 96)")), |config| {
            config.timeout = fusebox_resilience::config::ConfigDuration::from_millis(5);
        });
    assert_eq!(key_of(&loops, Request::get("/")), None);
    assert_eq!(loops.faults(), [Fault::Timeout]);
}

#[test]
fn a_key_is_no_longer_than_what_other_sources_may_give() {
    let of_length = |length: u32| {
        let body = format!(
            "(drop (memory.grow (i32.const 1)))
             (i32.store8 (i32.const 96) (i32.const 1))
             (i32.store (i32.const 100) (i32.const 8192))
             (i32.store (i32.const 104) (i32.const {length})) (i32.const 96)"
        );
        load(&guest(Exports::Key, &key(&body)))
    };
    let longest = of_length(64 << 10);
    assert_eq!(key_of(&longest, Request::get("/")).map(|key| key.len()), Some(64 << 10));
    let longer = of_length((64 << 10) + 1);
    assert_eq!(key_of(&longer, Request::get("/")), None);
    let expected = "answered with a key of 65537 bytes, expected at most 65536".to_owned();
    assert_eq!(longer.faulted(), [(Fault::BadAnswer, expected)]);
}

#[test]
fn who_is_named_for_what_it_does_not_export_is_refused_and_what_is_in_use_stays() {
    let both = wat_component(&format!("{}{}", handle_if(&is_status(503)), waits("(i32.const 7)")));
    let tested = load(&both);
    assert_eq!(waited(delay(&tested, 503, 1, 1)), Some(7));
    assert!(tested.handles(503) && !tested.handles(200));
    let missing = tested.components.keyer(NAME).map(drop).expect_err("it has none");
    assert!(
        missing.ends_with("guest.wasm): missing export `fusebox:policy/key@0.1.0`"),
        "{missing}"
    );
    // A version without what is in use is not taken.
    tested.overwrite(&wat_component(&handle_if(&is_status(500))));
    let Reload::Rejected(reason) = tested.components.reload(NAME) else { panic!("it is taken") };
    assert!(
        reason.ends_with("missing export `fusebox:policy/delay@0.1.0`, which is in use"),
        "{reason}"
    );
    // One that answers otherwise is, and policies ask it from then on.
    let other = wat_component(&format!("{}{}", handle_if(&is_status(500)), waits("(i32.const 8)")));
    tested.overwrite(&other);
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)));
    assert_eq!((waited(delay(&tested, 503, 1, 1)), tested.generation()), (Some(8), Some(2)));
}

#[test]
fn a_component_that_exports_nothing_that_is_asked_is_refused_with_all_that_could_be() {
    let empty = guest(Exports::None, "");
    let reason = refusal(&empty);
    for export in ["predicate", "fallback", "delay", "key"] {
        assert!(reason.contains(&format!("`fusebox:policy/{export}@0.1.0`")), "{reason}");
    }
}

#[test]
fn a_new_version_is_tried_out_before_it_takes_the_seat() {
    for (fields, function) in [
        (after("unreachable"), "`after` is called for a trial, about a 200"),
        (key("unreachable"), "`key` is called for a trial, about a request"),
    ] {
        let tried = try_load_with(&wat_component(&fields), |config| config.probe = true);
        let refused = tried.map(drop).expect_err(function);
        assert!(refused.contains(function), "{refused}");
    }
}

#[test]
fn a_version_whose_delays_fail_is_rolled_back_where_the_one_before_answers() {
    let tested = load_with(&wat_component(&waits("(i32.const 7)")), |config| config.max_faults = 2);
    tested.overwrite(&wat_component(&after("unreachable")));
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)));
    for _ in 0..3 {
        assert_eq!(delay(&tested, 503, 1, 1), DelayDecision::Own);
    }
    fusebox_dev::eventually("a roll-back", || (tested.generation() == Some(1)).then_some(()));
    assert_eq!(waited(delay(&tested, 503, 1, 1)), Some(7));
}

#[test]
fn what_is_said_of_delays_and_keys_is_captured_but_for_secrets() {
    let captured = |tested: &Tested| -> Vec<serde_json::Value> {
        let case = |kind| match kind {
            EventKind::Component(ComponentEvent::Captured { case, .. }) => {
                Some(serde_json::from_str(&case).expect("JSON"))
            }
            _ => None,
        };
        tested.recorder.kinds().into_iter().filter_map(case).collect()
    };
    let tested = load_with(&guest(Exports::Delay, &after(SUM)), |config| config.capture = 100);
    delay(&tested, 503, 250, 3);
    delay(&tested, 503, 0, 1);
    let cases = captured(&tested);
    assert_eq!(cases[0]["expect"], serde_json::json!({ "delay": "253ms" }));
    assert_eq!((&cases[0]["own"], &cases[0]["count"]), (&"250ms".into(), &3.into()));
    assert_eq!(cases[1]["expect"], serde_json::json!({ "delay": "own" }));

    let component = guest(Exports::Key, &format!("{PATH} {}", key(TELLS_PATH)));
    let tested = load_with(&component, |config| config.capture = 100);
    key_of(&tested, Request::get("/red"));
    key_of(&tested, Request::get("/secret-of-red").header("x-api-key", "secret-of-red"));
    let cases = captured(&tested);
    assert_eq!(cases[0]["name"], "captured: GET /red, key");
    assert_eq!(cases[0]["expect"], serde_json::json!({ "key": "/red" }));
    assert!(cases[0].get("response").is_none() && cases[0].get("attempt").is_none());
    assert_eq!(cases[1]["expect"], serde_json::json!({ "key": "(redacted)" }));
}
