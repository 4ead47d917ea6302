//! Components: what they decide and answer, what a bad one costs, and how one takes another's place
//! while traffic flows.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use fusebox_dev::{
    Ends, Origin, answer, eventually, get, handle_if, is_status, ok, predicate, responds,
    wat_component,
};
use serde_json::json;

use crate::cli::bad_components;
use crate::support::Proxy;

/// One retry of what the component `c` takes; `OPTIONS` are more keys of the component.
pub(crate) const RETRY: &str = "[components.c]\nfile = 'c.wasm'\nOPTIONS\n\
    [policies.retry]\nkind = 'retry'\nhandle_if = { component = 'c' }\ndelay = '1ms'\n\
    max_retries = 1\n\
    [[routes]]\nupstream = 'ORIGIN'\npolicies = ['retry']\n";

/// A fallback of which the component `c` decides both when and what.
pub(crate) const FALLBACK: &str = "[components.c]\nfile = 'c.wasm'\nOPTIONS\n\
    [policies.fallback]\nkind = 'fallback'\nhandle_if = { component = 'c' }\n\
    respond = { component = 'c' }\n\
    [[routes]]\nupstream = 'ORIGIN'\npolicies = ['fallback']\n";

#[track_caller]
pub(crate) fn with_component(
    origin: &Origin,
    component: &[u8],
    config: &str,
    options: &str,
) -> Proxy {
    Proxy::with_files(origin, &[("c.wasm", component)], &config.replace("OPTIONS", options))
}

/// Answers 503 by saying this.
pub(crate) fn says(text: &str) -> Vec<u8> {
    wat_component(&format!("{} {}", handle_if(&is_status(503)), responds(200, text)))
}

// ===== what it decides =====

#[test]
fn a_predicate_decides_what_is_retried() {
    let origin =
        Origin::answering([answer(418, "", ""), ok("second"), answer(503, "", "as it came")]);
    let proxy = with_component(&origin, &predicate(&is_status(418)), RETRY, "");
    assert_eq!(proxy.ask(get("/", "1")).text(), "second");
    assert_eq!(proxy.told("1"), ["Retry 1 after delay of 1ms", "200: OK"]);
    let response = proxy.ask(get("/", "2"));
    assert_eq!((response.status(), response.text()), (503, "as it came"), "not one that it takes");
    proxy.counts(&[
        (r#"fusebox_component_calls_total{component="c"}"#, 3.0),
        (r#"fusebox_retries_total{route="/",policy="retry"}"#, 1.0),
        (&proxy.fault_series("trap"), 0.0),
    ]);
    let loaded = proxy.line("Component loaded");
    let story = proxy.story("1");
    let decided_by = json!({ "component": "c", "digest": loaded["digest"], "generation": 1 });
    assert_eq!(
        (&story[0]["msg"], &story[0]["decided_by"]),
        (&json!("Retry 1 after delay of 1ms"), &decided_by)
    );
    assert_eq!((&loaded["component"], &loaded["generation"]), (&json!("c"), &json!(1)));
    let state = proxy.state()["components"]["c"].clone();
    assert_eq!((&state["digest"], &state["calls"]), (&loaded["digest"], &json!(3)));
}

#[test]
fn a_responder_answers() {
    let origin = Origin::answering([answer(503, "x-of-b: 1\r\n", "busy"), ok("fine")]);
    let proxy = with_component(&origin, &says("from the guest"), FALLBACK, "");
    let response = proxy.ask(get("/", "1"));
    assert_eq!(
        (response.status(), response.text(), response.header("x-of-b")),
        (200, "from the guest", None)
    );
    assert_eq!(proxy.told("1"), ["Fallback executed result", "200: OK"]);
    let (decided, loaded) = (proxy.story("1")[0].clone(), proxy.line("Component loaded"));
    assert_eq!((&decided["component"], &decided["digest"]), (&json!("c"), &loaded["digest"]));
    assert_eq!(decided["generation"], 1);
    let by = json!({ "component": "c", "digest": loaded["digest"], "generation": 1 });
    assert_eq!(decided["decided_by"], by, "its condition was the component's too");
    assert_eq!(proxy.ask(get("/", "2")).text(), "fine");
}

#[test]
fn a_breaker_that_opens_tells_which_version_said_so() {
    let origin = Origin::answering([answer(418, "", "")]);
    let config = RETRY.replace("kind = 'retry'", "kind = 'circuit-breaker'\nfailure_threshold = 1");
    let config = config.replace("delay = '1ms'\nmax_retries = 1", "delay = '60s'");
    let proxy = with_component(&origin, &predicate(&is_status(418)), &config, "");
    assert_eq!(proxy.ask(get("/", "1")).status(), 418);
    let (loaded, opened) = (proxy.line("Component loaded"), proxy.story("1")[0].clone());
    assert_eq!(opened["msg"], "circuit breaker state changed from closed to open");
    let by = json!({ "component": "c", "digest": loaded["digest"], "generation": 1 });
    assert_eq!(opened["decided_by"], by);
    assert_eq!(proxy.ask(get("/", "2")).status(), 503);
    assert_eq!(proxy.story("2")[0].get("decided_by"), None, "what is turned away nobody judged");
}

#[test]
fn a_question_tells_who_answered_it() {
    let origin = Origin::answering([ok(""), answer(418, "", ""), ok("")]);
    let guest = format!("(if {} (then (unreachable)))", is_status(418));
    let guest = predicate(&format!("{guest} (i32.const 0)"));
    let config = format!("[log]\nlevel = 'debug'\n{RETRY}");
    let proxy = with_component(&origin, &guest, &config, "on_error = 'unhandled'");
    let asked = |id: &str| {
        proxy.ask(get("/", id));
        let story = proxy.story(id);
        story.into_iter().find(|line| line["msg"] == "Condition handle-if: no").expect("a question")
    };
    let (answered, failed) = (asked("1"), asked("2"));
    let digest = &proxy.line("Component loaded")["digest"];
    let by = json!({ "component": "c", "digest": digest, "generation": 1 });
    assert_eq!((&answered["decided_by"], answered.get("on_error")), (&by, None), "{answered}");
    assert_eq!(
        (failed.get("decided_by"), &failed["on_error"], &failed["component"]),
        (None, &json!(true), &json!("c")),
        "{failed}"
    );
}

#[test]
fn only_what_only_says_is_asked_about() {
    let origin = Origin::answering([answer(503, "", ""), answer(418, "", ""), ok("")]);
    let config = RETRY.replace(
        "{ component = 'c' }",
        "{ component = 'c', only = { status = ['4xx'], failure = [] } }",
    );
    let proxy = with_component(&origin, &predicate("(i32.const 1)"), &config, "");
    assert_eq!(proxy.ask(get("/", "1")).status(), 503);
    assert_eq!(proxy.state()["components"]["c"]["calls"], 0);
    assert_eq!(proxy.ask(get("/", "2")).status(), 200);
    assert_eq!(proxy.state()["components"]["c"]["calls"], 1);
}

/// Takes a body that begins with `!`.
pub(crate) fn begins_badly() -> Vec<u8> {
    wat_component(&format!(
        r#"(import "attempt" "response-body" (func $body (param i32 i32 i32))) {}"#,
        handle_if(
            "(call $body (i32.const 0) (i32.const 65536) (i32.const 16))
             (i32.and (i32.gt_u (i32.load (i32.const 20)) (i32.const 0))
                      (i32.eq (i32.load8_u (i32.load (i32.const 16))) (i32.const 33)))"
        )
    ))
}

#[test]
fn a_predicate_that_looks_at_the_body_leaves_all_of_it_to_the_client() {
    let long = "0123456789abcdef".repeat(16 * 1024);
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n1\r\n.\r\n0\r\n\
         \r\n",
        long.len()
    );
    let origin = Origin::answering([ok("!not this one"), ok(&long), chunked, ok(""), ok("x")]);
    let proxy = with_component(
        &origin,
        &begins_badly(),
        RETRY,
        "peek_body = '16KiB'\npeek_timeout = '10s'",
    );
    assert!(proxy.ask(get("/", "1")).text() == long, "after a retry");
    assert!(proxy.ask(get("/", "2")).text() == format!("{long}."), "chunked");
    assert_eq!(proxy.ask(get("/", "3")).text(), "");
    assert_eq!(proxy.ask(get("/", "4")).text(), "x");
    assert_eq!(origin.seen().len(), 5);
    assert_eq!(proxy.lines("Component faulted: trap"), [json!(null); 0]);
}

#[test]
fn a_predicate_that_looks_at_the_body_does_not_hold_the_rest_of_it_back() {
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let gone = std::sync::Mutex::new(gone);
    let origin = Origin::start(move |connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 40\r\n\r\n0123456789");
        gone.lock().expect("no panic").recv().ok();
        connection.wire.send("012345678901234567890123456789");
    });
    // It wants more than there is yet, and does not get it in time.
    let proxy = with_component(
        &origin,
        &begins_badly(),
        RETRY,
        "peek_body = '1KiB'\npeek_timeout = '50ms'",
    );
    let mut client = proxy.connect();
    client.send(get("/", "1"));
    assert_eq!(client.head().expect("a head").status(), 200);
    assert_eq!(client.exactly(10), b"0123456789");
    go.send(()).expect("it waits");
    assert_eq!(client.exactly(30), b"012345678901234567890123456789");
}

#[test]
fn a_body_that_dies_while_it_is_looked_at_is_a_lost_connection() {
    let dying = Origin::start(|connection| {
        connection.request();
        connection.wire.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
    });
    let never = predicate("(i32.const 0)");
    let proxy = with_component(&dying, &never, RETRY, "peek_body = '1KiB'\npeek_timeout = '10s'");
    let response = proxy.ask(get("/", "1"));
    assert_eq!(response.status(), 502);
    assert_eq!(
        response.header("proxy-status"),
        Some("fusebox; error=connection_terminated; details=\"connection lost\"")
    );
}

// ===== what a bad one costs =====

const FOREVER: &str = "(loop $forever (br $forever)) unreachable";
/// 2,000 pages are 125 MiB.
const GREEDY: &str =
    "(if (i32.eq (memory.grow (i32.const 2000)) (i32.const -1)) (then unreachable)) (i32.const 0)";

#[test]
fn a_guest_that_fails_costs_its_own_call_and_on_error_answers() {
    for (body, fault) in [("unreachable", "trap"), (FOREVER, "timeout"), (GREEDY, "memory")] {
        // The default takes 503 and not 418.
        for (on_error, retried) in [
            ("", [true, false]),
            ("on_error = 'handled'", [true, true]),
            ("on_error = 'unhandled'", [false, false]),
        ] {
            for (status, retried) in [503, 418].into_iter().zip(retried) {
                let origin = Origin::answering([answer(status, "", "first"), ok("second")]);
                // It fails once only: the second answer is of another kind.
                let fails = format!(
                    "(if (result i32) {} (then {body}) (else (i32.const 0)))",
                    is_status(status)
                );
                let options = format!("probe = false\n{on_error}");
                let proxy = with_component(&origin, &predicate(&fails), RETRY, &options);
                let answered = if retried { "second" } else { "first" };
                assert_eq!(
                    proxy.ask(get("/", "1")).text(),
                    answered,
                    "{fault} {on_error} {status}"
                );
                let story = proxy.story("1");
                assert_eq!(story[0]["msg"], format!("Component faulted: {fault}"), "{story:?}");
                let told = [
                    &story[0]["component"],
                    &story[0]["fault"],
                    &story[0]["policy"],
                    &story[0]["level"],
                ];
                assert_eq!(told, ["c", fault, "retry", "ERROR"]);
                assert_ne!(story[0]["detail"], "");
                assert_eq!(
                    proxy.ask(get("/", "2")).text(),
                    "second",
                    "the next call is as good as any"
                );
                proxy.counts(&[(&proxy.fault_series(fault), 1.0)]);
                assert_eq!(proxy.state()["components"]["c"]["faults"][fault], 1);
            }
        }
    }
}

#[test]
fn a_guest_that_loops_does_not_hurt_the_others_on_its_worker() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let status = if seen.request.target() == "/bad" { 418 } else { 200 };
            connection.wire.send(answer(status, "", ""));
        }
    });
    let loops = format!("(if {} (then {FOREVER})) (i32.const 0)", is_status(418));
    let options = "timeout = '5ms'\nquarantine_after = 1000";
    let proxy =
        with_component(&origin, &predicate(&loops), &format!("workers = 1\n{RETRY}"), options);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let mut wire = proxy.connect();
                let (path, status) = if client == 0 { ("/bad", 418) } else { ("/good", 200) };
                scope.spawn(move || (0..50).all(|_| wire.ask(get(path, path)).status() == status))
            })
            .collect();
        assert!(clients.into_iter().all(|client| client.join().expect("no panic")));
    });
    proxy.counts(&[(&proxy.fault_series("timeout"), 50.0)]);
}

#[test]
fn a_responder_that_fails_lets_the_original_outcome_out() {
    let origin = Origin::answering([answer(503, "", "as it came")]);
    let fails = r#"(func (export "respond") (param i32 i32) (result i32) unreachable)"#;
    let component = wat_component(&format!("{} {fails}", handle_if(&is_status(503))));
    let proxy = with_component(&origin, &component, FALLBACK, "probe = false");
    let response = proxy.ask(get("/", "1"));
    assert_eq!((response.status(), response.text()), (503, "as it came"));
    assert_eq!(
        proxy.told("1"),
        ["Component faulted: trap", "Fallback declined", "503: Service Unavailable"]
    );
    proxy.counts(&[(r#"fusebox_fallbacks_declined_total{route="/",policy="fallback"}"#, 1.0)]);
}

#[test]
fn a_responder_that_answers_nonsense_lets_the_original_outcome_out() {
    let origin = Origin::answering([answer(503, "", "as it came")]);
    for status in [99, 101, 600] {
        let component =
            wat_component(&format!("{} {}", handle_if(&is_status(503)), responds(status, "x")));
        let proxy = with_component(&origin, &component, FALLBACK, "probe = false");
        assert_eq!(proxy.ask(get("/", "1")).text(), "as it came");
        let told = proxy.told("1");
        assert_eq!(
            told,
            ["Component faulted: bad-answer", "Fallback declined", "503: Service Unavailable"]
        );
    }
}

#[test]
fn what_a_guest_prints_is_in_the_log_with_the_request() {
    let origin = Origin::answering([ok("")]);
    let prints = format!(
        r#"(import "wasi" "stderr" (func $stderr (result i32)))
           (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
           (data (i32.const 64) "a \"quoted\" word\0aand a line\0a") {}"#,
        handle_if(
            "(call $write (call $stderr) (i32.const 64) (i32.const 27) (i32.const 16))
              (i32.const 0)"
        )
    );
    let proxy = with_component(&origin, &wat_component(&prints), RETRY, "");
    assert_eq!(proxy.ask(get("/", "1")).status(), 200);
    let story = proxy.story("1");
    assert_eq!(proxy.told("1"), ["Component printed", "Component printed", "200: OK"]);
    assert_eq!(
        (&story[0]["line"], &story[1]["line"]),
        (&json!("a \"quoted\" word"), &json!("and a line"))
    );
    assert_eq!((&story[0]["component"], &story[0]["policy"]), (&json!("c"), &json!("retry")));
}

// ===== how one takes another's place =====

/// Puts a component in the file's place, in whatever way.
type Replace = fn(&Proxy, &[u8]);

fn by_rename(proxy: &Proxy, component: &[u8]) {
    fs::write(proxy.path("new.wasm"), component).expect("a file");
    fs::rename(proxy.path("new.wasm"), proxy.path("c.wasm")).expect("a file");
}

fn in_place(proxy: &Proxy, component: &[u8]) {
    fs::write(proxy.path("c.wasm"), component).expect("a file");
}

/// As Kubernetes replaces a mounted file.
fn by_symlink(proxy: &Proxy, component: &[u8]) {
    let new = format!("{}.wasm", fs::read_dir(proxy.path("")).expect("a directory").count());
    fs::write(proxy.path(&new), component).expect("a file");
    symlink(&new, proxy.path("link")).expect("a link");
    fs::rename(proxy.path("link"), proxy.path("c.wasm")).expect("a link");
}

fn removed_and_back(proxy: &Proxy, component: &[u8]) {
    fs::remove_file(proxy.path("c.wasm")).expect("a file");
    thread::park_timeout(std::time::Duration::from_millis(120));
    in_place(proxy, component);
}

#[test]
fn a_component_is_replaced_while_traffic_flows_and_no_request_fails() {
    let origin = Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let status = if seen.request.target() == "/broken" { 500 } else { 503 };
            connection.wire.send(answer(status, "", "busy"));
        }
    });
    let config = format!(
        "{FALLBACK}[policies.breaker]\nkind = 'circuit-breaker'\nfailure_threshold = 1\n\
         [[routes]]\npath = '/broken'\nupstream = 'ORIGIN'\npolicies = ['breaker']\n"
    );
    let proxy = with_component(&origin, &says("version 1"), &config, "");
    assert_eq!(proxy.ask(get("/broken", "1")).status(), 500);
    assert_eq!(proxy.state()["policies"]["breaker"]["state"], "open");

    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ends = Ends(&done);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut wire = proxy.connect();
                    while !done.load(Ordering::SeqCst) {
                        let response = wire.ask(get("/", "traffic"));
                        assert!(
                            response.status() == 200 && response.text().starts_with("version "),
                            "{response:?}"
                        );
                        answered.fetch_add(1, Ordering::SeqCst);
                        // Without a pause the compiling child, which steps back behind others,
                        // gets next to nothing of a busy machine.
                        thread::park_timeout(std::time::Duration::from_millis(5));
                    }
                })
            })
            .collect();
        let ways: [Replace; 4] = [by_rename, in_place, by_symlink, removed_and_back];
        for (replaced, way) in ways.into_iter().cycle().take(8).enumerate() {
            let version = replaced + 2;
            way(&proxy, &says(&format!("version {version}")));
            let line = proxy.line_after(replaced, "Component replaced");
            assert_eq!(line["generation"], version);
            assert_eq!(line["replaced_generation"], version - 1);
            // From here on the new one answers, on every worker.
            for _ in 0..4 {
                assert_eq!(proxy.ask(get("/", "after")).text(), format!("version {version}"));
            }
            let before = answered.load(Ordering::SeqCst);
            eventually("more traffic", || {
                (answered.load(Ordering::SeqCst) > before + 8).then_some(())
            });
        }
        drop(ends);
        clients.into_iter().for_each(|client| client.join().expect("no request failed"));
    });
    let state = proxy.state();
    assert_eq!(state["components"]["c"]["generation"], 9);
    assert_eq!(state["policies"]["breaker"]["state"], "open", "it knows what it knew");
    // Whatever the old versions had on the workers is gone.
    let workers = state["workers"].as_array().expect("workers").len();
    eventually("only new instances", || {
        let instances = proxy.state()["components"]["c"]["instances"].as_u64()?;
        (instances <= workers as u64).then_some(())
    });
}

#[test]
fn a_bad_file_is_rejected_and_the_old_component_goes_on() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = with_component(&origin, &says("good"), FALLBACK, "");
    for (rejected, (bytes, reason)) in bad_components().into_iter().enumerate() {
        by_rename(&proxy, &bytes);
        let line = proxy.line_after(rejected, "Component rejected");
        assert_eq!((&line["component"], &line["level"]), (&json!("c"), &json!("ERROR")));
        let said = line["reason"].as_str().expect("a reason");
        assert!(said.contains(&format!("c.wasm: {reason}")), "expected {reason}\nfound    {said}");
        assert_eq!(proxy.ask(get("/", "after")).text(), "good");
    }
    // One that lacks what is in use is no better.
    by_rename(&proxy, &predicate("(i32.const 1)"));
    let line = proxy.line_after(bad_components().len(), "Component rejected");
    let said = line["reason"].as_str().expect("a reason");
    assert!(
        said.ends_with("missing export `fusebox:policy/fallback@0.1.0`, which is in use"),
        "{said}"
    );
    let rejected = bad_components().len() + 1;
    assert_eq!(proxy.state()["components"]["c"]["generation"], 1);
    proxy.counts(&[
        (r#"fusebox_component_loads_total{component="c",result="rejected"}"#, rejected as f64),
        (r#"fusebox_component_loads_total{component="c",result="loaded"}"#, 1.0),
    ]);
    // And a good one is taken after all that.
    by_rename(&proxy, &says("better"));
    assert_eq!(proxy.line("Component replaced")["generation"], 2);
    assert_eq!(proxy.ask(get("/", "after")).text(), "better");
}

#[test]
fn a_file_that_is_gone_changes_nothing() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = with_component(&origin, &says("good"), FALLBACK, "");
    fs::rename(proxy.path("c.wasm"), proxy.path("aside.wasm")).expect("a file");
    assert_eq!(proxy.ask(get("/", "1")).text(), "good");
    fs::rename(proxy.path("aside.wasm"), proxy.path("c.wasm")).expect("a file");
    by_rename(&proxy, &says("better"));
    proxy.line("Component replaced");
    assert_eq!(proxy.lines("Component rejected"), [json!(null); 0]);
}

#[test]
fn a_file_that_stays_away_is_told_of_once_until_it_is_back() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = with_component(&origin, &says("good"), FALLBACK, "");
    let rejected = || proxy.state()["components"]["c"]["rejected"].clone();
    fs::rename(proxy.path("c.wasm"), proxy.path("aside.wasm")).expect("a file");
    let told = proxy.line("Component rejected");
    let reason = told["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("c.wasm: No such file"), "{reason}");
    assert_eq!(told.get("rejected_digest"), None);
    assert_eq!(rejected()["reason"], reason);
    proxy.counts(&[(r#"fusebox_component_loads_total{component="c",result="rejected"}"#, 1.0)]);
    assert_eq!(proxy.ask(get("/", "1")).text(), "good", "what it had goes on");
    // A link to itself is no file either, which was told.
    symlink("c.wasm", proxy.path("c.wasm")).expect("a link");
    fs::rename(proxy.path("aside.wasm"), proxy.path("c.wasm")).expect("a file");
    eventually("the file found again", || rejected().is_null().then_some(()));
    assert_eq!(proxy.lines("Component rejected").len(), 1);
    by_rename(&proxy, &says("better"));
    proxy.line("Component replaced");
    assert_eq!(proxy.ask(get("/", "2")).text(), "better");
}

#[test]
fn a_pinned_component_is_not_replaced_by_another() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let good = says("good");
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("c.wasm"), &good).expect("a file");
    let inspected =
        crate::support::fusebox(directory.path(), &["component", "inspect", "c.wasm"]).out;
    let digest =
        inspected.lines().find_map(|line| line.strip_prefix("sha256 ")).expect("a digest").trim();
    let proxy = with_component(&origin, &good, FALLBACK, &format!("sha256 = '{digest}'"));
    by_rename(&proxy, &says("better"));
    let reason = proxy.line("Component rejected")["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains(&format!("expected sha256 `{digest}`, found `")), "{reason}");
    assert_eq!(proxy.ask(get("/", "1")).text(), "good");
}

#[test]
fn a_pipe_in_the_place_of_a_component_is_refused_and_keeps_nothing_from_ending() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let mut proxy = with_component(&origin, &says("good"), FALLBACK, "");
    fs::remove_file(proxy.path("c.wasm")).expect("a file");
    assert!(Command::new("mkfifo").arg(proxy.path("c.wasm")).status().expect("`mkfifo`").success());
    let reason = proxy.line("Component rejected")["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.ends_with("is not a regular file"), "{reason}");
    by_rename(&proxy, &says("better"));
    proxy.line("Component replaced");
    assert_eq!(proxy.ask(get("/", "1")).text(), "better");
    proxy.signal("TERM");
    assert_eq!(proxy.end().code(), Some(0));
}
