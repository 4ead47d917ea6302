//! Cases: what a component is asked by them, what is said of its answers, and how they guard a
//! swap.

use std::fs;
use std::path::Path;

use fusebox_dev::{handle_if, key, respond, trailer_predicate, waits, wat_component};
use fusebox_resilience::{ComponentEvent, EventKind};
use fusebox_wasm::author::{Cases, ComponentTrial, Difference};
use fusebox_wasm::{Compiler, Reload};
use tempfile::TempDir;

use crate::guest::{Exports, guest, predicate, tells};
use crate::support::{NAME, load_with, try_load_with};

/// What became of the cases in `text`, asked of `component`: for each its name and its differences.
#[track_caller]
fn tested(component: &[u8], text: &str) -> Vec<(String, Vec<Difference>)> {
    let directory = TempDir::new().expect("a directory");
    let reports = trial(directory.path(), component, text).test().expect("all can be asked");
    reports.into_iter().map(|report| (report.name, report.differences)).collect()
}

#[track_caller]
fn trial(directory: &Path, component: &[u8], text: &str) -> ComponentTrial {
    let (file, cases) = (directory.join("guest.wasm"), directory.join("cases.toml"));
    fs::write(&file, component).expect("a file");
    fs::write(&cases, text).expect("a file");
    ComponentTrial::load(
        &file,
        Cases::read(&cases, None).expect("right ones"),
        None,
        Compiler::in_process(),
    )
    .expect("an acceptable component")
}

fn said(differences: &[Difference]) -> Vec<String> {
    differences.iter().map(ToString::to_string).collect()
}

const BUSY: &str = "(i32.eq (local.get $value) (i32.const 503))";

#[test]
fn a_condition_is_held_against_its_cases() {
    let reports = tested(
        &predicate(BUSY),
        "[[case]]\nname = 'right'\nresponse = { status = 503 }\nexpect = { handled = true }\n\
         [[case]]\nname = 'wrong'\nresponse = { status = 200 }\nexpect = { handled = true }\n\
         [[case]]\nname = 'no fallback'\nfailure = 'timeout'\nexpect = { declined = true }\n\
         [[case]]\nname = 'no fault'\nfailure = 'timeout'\n\
         expect = { fault = 'trap', detail = 'x' }\n",
    );
    let reports: Vec<_> =
        reports.iter().map(|(name, differences)| (name.as_str(), said(differences))).collect();
    let expected = [
        ("right", vec![]),
        ("wrong", vec!["answer: expected handled = true, found handled = false".to_owned()]),
        (
            "no fallback",
            vec![
                "answer: expected declined, found no export `fusebox:policy/fallback@0.1.0`"
                    .to_owned(),
            ],
        ),
        (
            "no fault",
            vec!["answer: expected the fault `trap`: …x…, found handled = false".to_owned()],
        ),
    ];
    assert_eq!(reports, expected);
}

#[test]
fn a_case_has_trailers_where_they_have_come() {
    let reports = tested(
        &trailer_predicate("x-status", "(i32.eq (local.get $trailer) (i32.const 98))"),
        "[[case]]\nname = 'at the head'\nresponse = { status = 200, body = 'a' }\n\
         expect = { handled = false }\n\
         [[case]]\nname = 'with trailers'\n\
         response = { status = 200, body = 'a', trailers = { x-status = 'bad' } }\n\
         expect = { handled = true }\n",
    );
    let reports: Vec<_> = reports.iter().flat_map(|(_, differences)| said(differences)).collect();
    assert_eq!(reports, [""; 0]);
}

#[test]
fn a_delay_and_a_key_are_held_against_their_cases() {
    let reports = tested(
        &wat_component(&waits("(i32.add (local.get $own) (local.get $count))")),
        "[[case]]\nname = 'right'\nresponse = { status = 503 }\nown = '1s'\ncount = 2\n\
         expect = { delay = '1002ms' }\n\
         [[case]]\nname = 'defaults'\nfailure = 'dns'\nexpect = { delay = '101ms' }\n\
         [[case]]\nname = 'wrong'\nfailure = 'dns'\nexpect = { delay = 'give-up' }\n\
         [[case]]\nname = 'no key'\nexpect = { key = 'red' }\n\
         [[case]]\nname = 'no fault'\nfailure = 'dns'\nexpect = { fault = 'trap' }\n",
    );
    let reports: Vec<_> = reports.iter().flat_map(|(_, differences)| said(differences)).collect();
    let expected = [
        "answer: expected delay = give-up, found delay = 101ms",
        "answer: expected key = \"red\", found no export `fusebox:policy/key@0.1.0`",
        "answer: expected the fault `trap`, found delay = 101ms",
    ];
    assert_eq!(reports, expected);

    let reports = tested(
        &guest(
            Exports::Key,
            &format!(
                "{} {}",
                r#"(import "attempt" "path-with-query" (func $path (param i32)))"#,
                key("(i32.store8 (i32.const 96) (i32.const 1)) (call $path (i32.const 100))
                     (i32.const 96)")
            ),
        ),
        "[[case]]\nname = 'right'\nrequest = { path = '/red' }\nexpect = { key = '/red' }\n\
         [[case]]\nname = 'wrong'\nexpect = { key = '' }\n\
         [[case]]\nname = 'no fault'\nasked = 'key'\nexpect = { fault = 'trap' }\n",
    );
    let reports: Vec<_> = reports.iter().flat_map(|(_, differences)| said(differences)).collect();
    let expected = [
        "answer: expected key = \"\", found key = \"/\"",
        "answer: expected the fault `trap`, found key = \"/\"",
    ];
    assert_eq!(reports, expected);
}

#[test]
fn a_fallbacks_answer_is_compared_part_by_part() {
    let import = r#"(import "attempt" "path-with-query" (func $path (param i32)))"#;
    let reports = tested(
        &tells(import, "(call $path (i32.const 16))"),
        "[[case]]\nname = 'right'\nrequest = { path = '/a' }\nfailure = 'dns'\n\
         expect = { response = { status = 200, body = '/a', contains = ['/'] } }\n\
         [[case]]\nname = 'wrong'\nrequest = { path = '/b' }\nfailure = 'dns'\n\
         expect = { response = { status = 503, headers = { x = '1' }, body = '/a', \
         contains = ['c'] } }\n",
    );
    assert_eq!(reports[0].1, []);
    let expected = [
        "status: expected 503, found 200",
        "header `x`: expected 1, found none",
        "body: expected /a, found /b",
        "body: expected one that contains `c`, found /b",
    ];
    assert_eq!(said(&reports[1].1), expected);
}

#[test]
fn a_guest_sees_what_the_case_says() {
    // History, request headers, settings, remaining time: each in a case, each told back as a body.
    let imports = r#"(import "attempt" "request-header" (func $header (param i32 i32 i32)))
        (import "attempt" "number" (func $number (result i32)))
        (import "settings" "get" (func $setting (param i32 i32 i32)))
        (data (i32.const 64) "x-key")"#;
    let tells_if = |condition: &str, then: &str| format!("(if {condition} (then {then}))");
    let header = "(call $header (i32.const 64) (i32.const 5) (i32.const 32))
        (i64.store (i32.const 16) (i64.load (i32.const 36)))";
    let setting = "(call $setting (i32.const 64) (i32.const 5) (i32.const 32))
        (i64.store (i32.const 16) (i64.load (i32.const 36)))";
    let body = tells_if("(i32.eq (call $number) (i32.const 1))", header)
        + &tells_if("(i32.eq (call $number) (i32.const 3))", setting);
    let reports = tested(
        &tells(imports, &body),
        "[component]\nsettings = { x-key = 'of the file' }\n\
         [[case]]\nname = 'header'\nrequest = { headers = { x-key = 'v' } }\nfailure = 'dns'\n\
         expect = { response = { body = 'v' } }\n\
         [[case]]\nname = 'setting'\nhistory = [{ status = 503 }, { failure = 'timeout' }]\n\
         failure = 'dns'\n\
         expect = { response = { body = 'of the file' } }\n\
         [[case]]\nname = 'setting of its own'\nattempt = 3\n\
         settings = { x-key = 'of the case' }\nfailure = 'dns'\n\
         expect = { response = { body = 'of the case' } }\n\
         [[case]]\nname = 'a rejection is of no attempt'\nfailure = 'circuit-open'\n\
         expect = { response = { body = '' } }\n",
    );
    assert!(reports.iter().all(|(_, differences)| differences.is_empty()), "{reports:?}");
}

#[test]
fn a_fault_costs_its_own_case() {
    let body = format!("(if {BUSY} (then unreachable)) (i32.const 1)");
    let reports = tested(
        &predicate(&body),
        "[[case]]\nname = 'expected'\nresponse = { status = 503 }\n\
         expect = { fault = 'trap', detail = 'unreachable' }\n\
         [[case]]\nname = 'not expected'\nresponse = { status = 503 }\n\
         expect = { handled = true }\n\
         [[case]]\nname = 'next'\nresponse = { status = 200 }\nexpect = { handled = true }\n",
    );
    let passed: Vec<_> = reports.iter().map(|(_, differences)| differences.is_empty()).collect();
    assert_eq!(passed, [true, false, true]);
    let expected = "answer: expected handled = true, found the fault `trap`: wasm `unreachable` \
                    instruction executed";
    assert_eq!(said(&reports[1].1), [expected]);
}

#[test]
fn a_guest_that_is_too_slow_fails_its_case() {
    // It takes its time at every call, not only at the first.
    let slow = "(local $left i32) (local.set $left (i32.const 300000000))
        (loop $again (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
          (i32.const 1)";
    let case =
        "[[case]]\nname = 'slow'\nresponse = { status = 503 }\nexpect = { handled = true }\n";
    let reports = tested(&predicate(slow), &format!("[component]\ntimeout = '1ms'\n{case}"));
    let expected =
        "answer: expected handled = true, found the fault `timeout`: took longer than 1ms";
    assert_eq!(said(&reports[0].1), [expected]);
    let reports = tested(&predicate(slow), &format!("[component]\ntimeout = '20s'\n{case}"));
    assert_eq!(reports[0].1, []);
}

#[test]
fn a_bench_measures_every_case() {
    let directory = TempDir::new().expect("a directory");
    let text = "[[case]]\nname = 'a'\nresponse = { status = 503 }\nexpect = { handled = true }\n\
                [[case]]\nname = 'b'\nresponse = { status = 200 }\nexpect = { handled = false }\n";
    let report = trial(directory.path(), &predicate(BUSY), text).bench(1000).expect("it answers");
    assert_eq!(
        report.calls.iter().map(|times| times.name.as_str()).collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert!(report.calls.iter().all(|times| !times.median.is_zero() && times.median <= times.p99));
    assert_eq!((report.memory, report.memory_after, report.instances), (1 << 16, 1 << 16, 1));
    assert!(report.load.is_none() && !report.compile.is_zero() && !report.start.is_zero());
    for part in ["size  ", "compile  ", "instantiate  ", "median      p99\n", " b"] {
        assert!(report.to_string().contains(part), "{report}");
    }
}

#[test]
fn a_version_that_fails_a_case_does_not_take_over() {
    let cases = "[[case]]\nname = 'busy is a failure'\nresponse = { status = 503 }\n\
                 expect = { handled = true }\n";
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("cases.toml");
    fs::write(&file, cases).expect("a file");
    let tested = load_with(&predicate(BUSY), |config| config.cases = Some(file.clone()));
    let never = predicate("(i32.const 0)");
    tested.overwrite(&never);
    let Reload::Rejected(reason) = tested.components.reload(NAME) else { panic!("it was taken") };
    let expected = "cases.toml: 1 of 1 cases failed; line 1, `busy is a failure`: \
                    answer: expected handled = true, found handled = false";
    assert!(reason.ends_with(expected), "{reason}");
    assert!(tested.handles(503) && tested.generation() == Some(1), "the old one goes on");
    assert!(
        matches!(tested.components.push(NAME, never.clone()), Reload::Rejected(_)),
        "a push is no way around"
    );
    // What the cases say now counts.
    fs::write(&file, cases.replace("true", "false")).expect("a file");
    assert!(matches!(tested.components.push(NAME, never.clone()), Reload::Replaced(_)));
    fs::write(&file, "[[case]]\n").expect("a file");
    let Reload::Rejected(reason) = tested.components.push(NAME, predicate(BUSY)) else {
        panic!("it was taken")
    };
    assert!(reason.ends_with("cases.toml:1: missing field `name`"), "{reason}");
    // And at the start.
    let error = try_load_with(&never, |config| config.cases = Some(file.clone()))
        .map(drop)
        .expect_err("they are wrong");
    assert!(error.ends_with("cases.toml:1: missing field `name`"), "{error}");
}

#[test]
fn what_is_asked_in_traffic_is_captured_as_a_case_without_its_secrets() {
    let both = guest(Exports::Both, &format!("{} {}", handle_if(BUSY), respond("(i32.const 128)")));
    let tested = load_with(&both, |config| config.capture = 3);
    let mut seen = crate::support::Seen::from(503);
    seen.request =
        http::Request::post("/orders?id=7&access_token=z1&code=z4").header("accept", "text/html");
    for name in [
        "authorization",
        "x-auth-token",
        "x-key",
        "X_Api_Key",
        "x-functions-key",
        "x-sid",
        "x-hub-signature",
        "x-jwt",
    ] {
        seen.request = seen.request.header(name, "z2");
    }
    for (name, value) in [("user-agent", "curl/8.9"), ("x-status-code", "17"), ("x-state", "18")] {
        seen.request = seen.request.header(name, value);
    }
    seen.request = seen.request.header("referer", "http://a/b?token=z3&page=2");
    assert!(tested.handles(seen));
    assert!(tested.responds(200).is_none());
    assert!((0..10).all(|_| !tested.handles(200)), "capturing decides nothing");
    let captured = |kind| match kind {
        EventKind::Component(ComponentEvent::Captured { case, component }) => {
            Some((case, component.generation))
        }
        _ => None,
    };
    let captured: Vec<_> = tested.recorder.kinds().into_iter().filter_map(captured).collect();
    assert_eq!(captured.len(), 3, "only so many in a second");
    let first = &captured[0].0;
    assert!(!["z1", "z2", "z3", "z4"].iter().any(|secret| first.contains(secret)), "{first}");
    for shown in [
        "/orders?id=7&access_token=(redacted)&code=(redacted)",
        "http://a/b?token=(redacted)&page=2",
        "text/html",
        "curl/8.9",
        "\"17\"",
        "\"18\"",
    ] {
        assert!(first.contains(shown), "{first}");
    }
    // They are cases that the component passes.
    let directory = TempDir::new().expect("a directory");
    let (file, lines) =
        (directory.path().join("guest.wasm"), directory.path().join("captured.jsonl"));
    fs::write(&file, &both).expect("a file");
    fs::write(&lines, captured.iter().map(|(case, _)| format!("{case}\n")).collect::<String>())
        .expect("a file");
    let cases = Cases::read(&lines, None).expect("right ones");
    let reports = ComponentTrial::load(&file, cases, None, Compiler::in_process())
        .expect("it loads")
        .test()
        .expect("all can be asked");
    let names: Vec<_> =
        reports.iter().map(|report| (report.name.as_str(), report.passed())).collect();
    assert_eq!(names[0], ("captured: POST /orders, 503", true));
    assert_eq!(names[1], ("captured: GET /, 200", true));
}
