//! Standard HTTP components as fallbacks: what they are told and send, what a bad one costs. Whom
//! they may ask is in `component_requests.rs`.
//!
//! The guests are those of `make policies`: `http-hostile` does what the request's path says.

use std::path::Path;
use std::thread;
use std::time::Duration;
use std::{fmt, fs};

use fusebox_dev::{
    ClosedDoor, Message, Origin, answer, eventually, get, handle_if, is_status, ok, responds,
    wat_component,
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::components::says;
use crate::support::{Proxy, fusebox, without_pseudonym};

/// A fallback for every failure, which is the component `c`.
pub(crate) const FALLBACK: &str = "workers = 1\n[components.c]\nfile = 'c.wasm'\nOPTIONS\n\
    [policies.fallback]\nkind = 'fallback'\nrespond = { component = 'c' }\n\
    [[routes]]\npath = '/good'\nupstream = 'ORIGIN'\n\
    [[routes]]\nname = 'all'\nupstream = 'ORIGIN'\npolicies = ['fallback']\n";

/// So that a fault leads to nothing but its event.
pub(crate) const PATIENT: &str = "quarantine_after = 1000000\n";

pub(crate) fn built(name: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/build").join(name);
    fs::read(&file)
        .unwrap_or_else(|error| panic!("{}: {error}; run `make policies`", file.display()))
}

/// Says 503 to all but `/good`.
pub(crate) fn failing() -> Origin {
    Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let is_good = seen.request.target().starts_with("/good");
            connection.wire.send(if is_good {
                ok("as it came")
            } else {
                answer(503, "", "no good")
            });
        }
    })
}

#[track_caller]
fn proxy(origin: &impl fmt::Display, guest: &[u8], options: &str) -> Proxy {
    Proxy::with_files(origin, &[("c.wasm", guest)], &FALLBACK.replace("OPTIONS", options))
}

#[track_caller]
pub(crate) fn hostile(options: &str) -> (Origin, Proxy) {
    let origin = failing();
    let proxy = proxy(&origin, &built("http_hostile.wasm"), &format!("{PATIENT}{options}"));
    (origin, proxy)
}

/// The body's end is no part of a head.
pub(crate) fn get_with(path: &str, id: &str, headers: &str) -> String {
    get(path, id).replace("\r\n\r\n", &format!("\r\n{headers}\r\n\r\n"))
}

/// Of the request `id`, the line with this message.
#[track_caller]
pub(crate) fn told_of(proxy: &Proxy, id: &str, message: &str) -> Value {
    let story = proxy.story(id);
    story
        .iter()
        .find(|line| line["msg"] == message)
        .unwrap_or_else(|| panic!("{message}: {story:#?}"))
        .clone()
}

fn instances(proxy: &Proxy) -> Value {
    proxy.state()["components"]["c"]["instances"].clone()
}

// ===== what they are told, and what they send =====

#[test]
fn a_page_tells_what_failed() {
    let origin = failing();
    let config = FALLBACK.replace("OPTIONS", "").replace("['fallback']", "['fallback', 'retry']")
        + "[policies.retry]\nkind = 'retry'\ndelay = '1ms'\nmax_retries = 2\n";
    let proxy = Proxy::with_files(&origin, &[("c.wasm", &built("status_page.wasm"))], &config);
    let page = proxy.ask(get("/a?b=%3Ci&c", "1"));
    assert_eq!(page.status(), 503);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("x-request-id"), Some("1"));
    for part in [
        "<p>Page: /a?b=%3Ci&amp;c</p>",
        "<p>Why: it answered 503</p>",
        "<p>Attempts: 3</p>",
        "<p>Route: all</p>",
    ] {
        assert!(page.text().contains(part), "{part}: {}", page.text());
    }
    let served = told_of(&proxy, "1", "Fallback executed result");
    let loaded = proxy.line("Component loaded");
    assert_eq!([&served["component"], &served["generation"]], [&json!("c"), &json!(1)]);
    assert_eq!(served["digest"], loaded["digest"]);
    proxy.counts(&[
        (r#"fusebox_component_calls_total{component="c"}"#, 1.0),
        (&proxy.fault_series("trap"), 0.0),
    ]);

    let proxy = self::proxy(&ClosedDoor::refusing(), &built("status_page.wasm"), "");
    assert!(proxy.ask(get("/", "1")).text().contains("<p>Why: no answer: connect</p>"));
}

#[test]
fn the_request_comes_without_its_body_and_with_no_word_of_the_clients_about_the_failure() {
    let (_origin, proxy) = hostile("");
    let request = "POST /echo/1?a=b HTTP/1.1\r\nhost: b.example:81\r\nx-request-id: 1\r\n\
        content-length: 4\r\n\
        connection: x-mine\r\nx-mine: 1\r\nx-kept: 1\r\nfusebox-failure: mine\r\n\
        Fusebox-Other: mine\r\n\r\nbody";
    let echo = proxy.ask(request);
    assert_eq!(echo.status(), 200);
    let expected = "Method::Post \"b.example:81\" \"/echo/1?a=b\"\n\
        fusebox-attempts: 1\nfusebox-policy: fallback\nfusebox-route: all\nfusebox-status: 503\n\
        via: 1.1 fusebox\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: b.example:81\n\
        x-forwarded-proto: http\n\
        x-kept: 1\nx-request-id: 1\nbody: 0\n";
    assert_eq!(without_pseudonym(echo.text()), expected);
    // HTTP/1.0 names no host.
    let echo = proxy.ask("GET /echo HTTP/1.0\r\n\r\n");
    assert!(echo.text().starts_with("Method::Get \"\" \"/echo\"\n"), "{}", echo.text());
}

#[test]
fn lengths_are_told_where_they_are_known() {
    let (_origin, proxy) = hostile("");
    let length = |message: &Message| message.header("content-length").map(str::to_owned);
    // The length is known of an answer whose guest has returned by then: on a busy machine it may
    // have had to give way before.
    eventually("an answer that was whole at once", || {
        let whole = proxy.ask(get("/", "1"));
        assert_eq!(whole.text(), "good");
        length(&whole).map(|length| assert_eq!(length, "4"))
    });
    let announced = proxy.ask(get("/body-exact", "2"));
    assert_eq!((length(&announced).as_deref(), announced.text()), (Some("5"), "exact"));
    let told = proxy.story("2").pop().expect("an access line");
    assert_eq!(told["response"]["end"], "whole", "{told}");
    let streamed = proxy.ask(get("/ticks/3", "3"));
    assert_eq!((length(&streamed), streamed.text()), (None, "0\n1\n2\n"));
    let none = proxy.ask(get("/no-body", "4"));
    assert_eq!((none.status(), length(&none), none.text()), (204, None, ""));
    told_of(&proxy, "4", "Component printed");
    let mut wire = proxy.connect();
    eventually("the head of an answer that was whole at once", || {
        wire.send(get("/", "5").replace("GET", "HEAD"));
        let head = wire.head().expect("a head");
        assert_eq!(head.status(), 200);
        length(&head).map(|length| assert_eq!(length, "4"))
    });
    assert_eq!(wire.ask(get("/good", "6")).text(), "as it came", "the connection goes on");
}

#[test]
fn a_guest_may_wait_and_others_have_their_turn() {
    let (_origin, proxy) = hostile("response_timeout = '30s'");
    let began = Instant::now();
    thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..8).map(|_| scope.spawn(|| proxy.ask(get("/later/1500", "w")))).collect();
        eventually("all of them", || (instances(&proxy) == 8).then_some(()));
        assert_eq!(proxy.ask(get("/good", "1")).text(), "as it came");
        assert_eq!(instances(&proxy), 8, "on the same worker, meanwhile");
        for waiting in waiting {
            assert_eq!(waiting.join().expect("no panic").text(), "later");
        }
    });
    assert!(began.elapsed() < Duration::from_secs(8), "all at the same time");
    proxy.counts(&[(r#"fusebox_component_instances{component="c"}"#, 0.0)]);
}

#[test]
fn what_it_prints_is_told_with_the_request() {
    let (_origin, proxy) = hostile("");
    assert_eq!(proxy.ask(get("/print", "1")).text(), "text");
    // The Debian route builds guests that have no stdout.
    if !built("http_hostile.wasm").windows(15).any(|window| window == b"wasi:cli/stdout") {
        return;
    }
    let story = proxy.story("1");
    let printed = story.iter().filter(|line| line["msg"] == "Component printed");
    let lines: Vec<_> = printed.map(|line| line["line"].clone()).collect();
    assert_eq!(lines, ["printed before", "printed after"]);
}

// ===== what a bad one costs =====

#[track_caller]
fn declines(proxy: &Proxy, path: &str, fault: &str, detail: &str) {
    let response = proxy.ask(get(path, path));
    assert_eq!((response.status(), response.text()), (503, "no good"), "{path}");
    let mut told = proxy.told(path);
    told.retain(|line| line != "Component printed");
    assert_eq!(
        told[..2],
        [format!("Component faulted: {fault}"), "Fallback declined".to_owned()],
        "{path}"
    );
    let fault = told_of(proxy, path, &format!("Component faulted: {fault}"));
    let [component, generation] = ["component", "generation"].map(|key| fault[key].clone());
    assert_eq!(
        (component, generation, &fault["policy"]),
        (json!("c"), json!(1), &json!("fallback"))
    );
    assert_eq!(fault["digest"], proxy.line("Component loaded")["digest"]);
    assert!(fault["detail"].as_str().is_some_and(|said| said.contains(detail)), "{fault}");
    assert_eq!(proxy.ask(get("/", "next")).text(), "good", "the next one is as good as any");
}

#[test]
fn a_guest_that_gives_no_answer_has_declined() {
    // A busy machine may need long for 50 ms of processor time.
    let (_origin, proxy) = hostile("timeout = '50ms'\nresponse_timeout = '1m'\nmemory = '8MiB'");
    for (path, fault, detail) in [
        ("/trap", "trap", "`unreachable` instruction"),
        ("/loop", "timeout", "took longer than 50ms"),
        ("/grow", "memory", "asked for more than 8MiB of memory"),
        ("/silent", "bad-answer", "gave no answer"),
        ("/dropped", "bad-answer", "gave no answer"),
        ("/error", "bad-answer", "answered with an error"),
        ("/status/101", "bad-answer", "answered with status `101`, expected 200 to 599"),
        ("/many-headers/101", "bad-answer", "answered with 101 headers, expected at most 100"),
    ] {
        declines(&proxy, path, fault, detail);
    }
    proxy.counts(&[
        (&proxy.fault_series("trap"), 1.0),
        (&proxy.fault_series("timeout"), 1.0),
        (&proxy.fault_series("memory"), 1.0),
        (&proxy.fault_series("bad-answer"), 5.0),
        (r#"fusebox_component_instances{component="c"}"#, 0.0),
    ]);
}

#[test]
fn a_guest_that_waits_too_long_has_declined() {
    let (_origin, proxy) = hostile("timeout = '50ms'\nresponse_timeout = '2s'");
    declines(&proxy, "/wait", "timeout", "gave no answer within 2s");
    proxy.counts(&[(r#"fusebox_component_instances{component="c"}"#, 0.0)]);
}

#[track_caller]
fn breaks_off(proxy: &Proxy, path: &str, fault: &str, detail: &str, begun: &str) {
    let mut wire = proxy.connect();
    wire.send(get(path, path));
    let response = wire.any_response();
    assert_eq!((response.status(), response.text()), (200, begun), "{path}");
    assert!(response.broken.is_some(), "{path}");
    assert_eq!(wire.rest(), b"", "closed");
    let fault = told_of(proxy, path, &format!("Component faulted: {fault}"));
    assert_eq!((&fault["component"], &fault["generation"]), (&json!("c"), &json!(1)));
    assert!(fault["detail"].as_str().is_some_and(|said| said.contains(detail)), "{fault}");
    assert_eq!(proxy.ask(get("/", "next")).text(), "good");
    proxy.counts(&[(r#"fusebox_component_instances{component="c"}"#, 0.0)]);
}

#[test]
fn a_guest_that_fails_within_its_body_breaks_it_off() {
    let (_origin, proxy) = hostile("timeout = '20ms'\nbody_timeout = '1m'");
    for (path, fault, detail, begun) in [
        ("/body-trap", "trap", "`unreachable` instruction", "begun\n"),
        ("/body-drop-trap/50", "trap", "`unreachable` instruction", "begun\n"),
        ("/body-end-trap/50", "trap", "`unreachable` instruction", "begun\n"),
        ("/body-loop", "timeout", "took longer than 220ms", "begun\n"),
        ("/body-unfinished", "bad-answer", "did not finish its body", "begun\n"),
        ("/body-short", "bad-answer", "did not finish its body", "short"),
    ] {
        breaks_off(&proxy, path, fault, detail, begun);
    }
}

#[test]
fn a_guest_that_waits_too_long_within_its_body_breaks_it_off() {
    let (_origin, proxy) = hostile("timeout = '20ms'\nbody_timeout = '2s'");
    breaks_off(&proxy, "/body-wait", "timeout", "body took longer than 2s", "begun\n");
}

#[test]
fn a_guest_that_loops_takes_turns_with_the_others_on_its_worker() {
    let (_origin, proxy) = hostile("timeout = '2s'\nresponse_timeout = '1m'");
    thread::scope(|scope| {
        let looping = scope.spawn(|| proxy.ask(get("/loop", "loops")));
        eventually("the loop", || (instances(&proxy) == 1).then_some(()));
        let mut wire = proxy.connect();
        let mut asked = 0;
        while !looping.is_finished() {
            assert_eq!(wire.ask(get("/good", "g")).text(), "as it came");
            asked += 1;
        }
        // A request has a few turns to wait for, of at most a tick (here 100 ms) each; the loop
        // takes 20 of them.
        assert!(asked >= 4, "{asked}");
        assert_eq!(looping.join().expect("no panic").status(), 503);
    });
}

#[test]
fn there_are_no_more_instances_than_there_may_be() {
    let (_origin, proxy) = hostile("max_instances = 2\nresponse_timeout = '30s'");
    thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..2).map(|_| scope.spawn(|| proxy.ask(get("/later/1500", "w")))).collect();
        eventually("both", || (instances(&proxy) == 2).then_some(()));
        assert_eq!(proxy.ask(get("/", "1")).text(), "no good");
        assert_eq!(proxy.told("1")[0], "Fallback declined");
        proxy.counts(&[(r#"fusebox_component_calls_skipped_total{component="c"}"#, 1.0)]);
        for waiting in waiting {
            assert_eq!(waiting.join().expect("no panic").text(), "later");
        }
    });
    assert_eq!(proxy.ask(get("/", "2")).text(), "good");
}

// ===== long bodies =====

#[test]
fn a_long_body_is_never_in_memory_whole() {
    let (_origin, proxy) = hostile("timeout = '2s'\nmemory = '8MiB'");
    assert_eq!(proxy.ask(get("/large/10240", "1")).body.len(), 10 << 20);
    let before = proxy.peak_memory();
    let mut wire = proxy.connect();
    for _ in 0..3 {
        assert_eq!(wire.ask(get("/large/10240", "2")).body.len(), 10 << 20);
    }
    let grown = proxy.peak_memory().saturating_sub(before);
    assert!(grown < 4 << 20, "{grown}");
}

#[test]
fn a_guest_waits_for_its_client() {
    let (_origin, proxy) = hostile("timeout = '2s'");
    let mut wire = proxy.connect();
    // Far more than sockets hold.
    wire.send(get("/large/262144", "1"));
    assert_eq!(wire.head().expect("a head").status(), 200);
    wire.exactly(1 << 20);
    let calls = || proxy.state()["components"]["c"].clone();
    let spent = || fs::read_to_string(format!("/proc/{}/stat", proxy.id())).expect("it runs");
    let ticks = |stat: &str| {
        stat.split(' ').skip(13).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum::<u64>()
    };
    // It has filled what there is, and stands still.
    let still = eventually("a guest that waits", || {
        let before = ticks(&spent());
        thread::park_timeout(Duration::from_millis(200));
        (ticks(&spent()) <= before + 3).then_some(calls()["instances"].clone())
    });
    assert_eq!(still, 1);
    assert!(proxy.peak_memory() < 150 << 20, "{}", proxy.peak_memory());
    drop(wire);
    eventually("its end", || (instances(&proxy) == 0).then_some(()));
    assert_eq!(calls()["faults"]["timeout"], 0, "a client that leaves is no fault of the guest's");
}

#[test]
fn a_client_that_leaves_ends_the_guest() {
    let (_origin, proxy) = hostile("response_timeout = '1m'\nbody_timeout = '1m'");
    for path in ["/wait", "/body-wait", "/ticks/100000"] {
        let mut wire = proxy.connect();
        wire.send(get(path, path));
        eventually("the guest", || (instances(&proxy) == 1).then_some(()));
        if path != "/wait" {
            assert_eq!(wire.head().expect("a head").status(), 200);
            wire.chunk();
        }
        drop(wire);
        eventually("its end", || (instances(&proxy) == 0).then_some(()));
        assert!(
            !proxy.told(path).iter().any(|line| line.starts_with("Component faulted")),
            "{path}"
        );
    }
}

// ===== new versions =====

#[test]
fn a_swap_leaves_a_body_to_its_version() {
    let (_origin, proxy) = hostile("");
    let mut wire = proxy.connect();
    wire.send(get("/ticks/30", "1"));
    assert_eq!(wire.head().expect("a head").status(), 200);
    assert_eq!(wire.chunk(), b"0\n");
    // Of the other kind, and back.
    fs::write(proxy.path("c.wasm"), says("by the contract")).expect("a file");
    proxy.line_after(0, "Component replaced");
    assert_eq!(proxy.ask(get("/", "2")).text(), "by the contract");
    let mut rest = Vec::new();
    while let chunk = wire.chunk()
        && !chunk.is_empty()
    {
        rest.extend(chunk);
    }
    assert!(rest.ends_with(b"29\n"), "{}", String::from_utf8_lossy(&rest));
    let served = told_of(&proxy, "1", "Fallback executed result");
    assert_eq!(served["generation"], 1);
    fs::write(proxy.path("c.wasm"), built("status_page.wasm")).expect("a file");
    proxy.line_after(1, "Component replaced");
    assert!(proxy.ask(get("/", "3")).text().contains("Not available"));
}

#[test]
fn faults_on_probation_bring_the_version_before_back() {
    let origin = failing();
    let proxy = proxy(&origin, &says("by the contract"), "max_faults = 1");
    fs::write(proxy.path("c.wasm"), built("http_hostile.wasm")).expect("a file");
    proxy.line("Component replaced");
    assert_eq!(proxy.ask(get("/trap", "1")).text(), "no good");
    let mut wire = proxy.connect();
    wire.send(get("/body-trap", "2"));
    assert!(wire.any_response().broken.is_some());
    let line = proxy.line("Component rolled back");
    assert_eq!((&line["generation"], &line["faults"]), (&json!(1), &json!(2)));
    assert_eq!(proxy.ask(get("/", "3")).text(), "by the contract");
}

#[test]
fn a_fault_that_the_version_before_has_too_does_not_count_unless_it_may_ask_others() {
    let guest = built("http_hostile.wasm");
    // The same with a custom section: another version.
    let again = [&*guest, &[0, 5, 4], b"mark"].concat();
    for (grant, stays) in [("", true), ("grant = ['http:127.0.0.1:1']", false)] {
        let origin = failing();
        let proxy = proxy(&origin, &guest, &format!("max_faults = 1\n{grant}"));
        fs::write(proxy.path("c.wasm"), &again).expect("a file");
        proxy.line("Component replaced");
        for id in ["1", "2"] {
            assert_eq!(proxy.ask(get("/trap", id)).text(), "no good");
        }
        if stays {
            proxy.line_after(1, "Component excused: the version before faults too");
        } else {
            proxy.line("Component rolled back");
        }
        let generation = if stays { 2 } else { 1 };
        assert_eq!(proxy.state()["components"]["c"]["generation"], generation);
    }
}

#[test]
fn faults_in_a_row_set_it_aside_until_a_trial_succeeds() {
    let origin = failing();
    let options = "quarantine_after = 2\nquarantine_interval = '200ms'";
    let proxy = proxy(&origin, &built("http_hostile.wasm"), options);
    for id in ["1", "2"] {
        assert_eq!(proxy.ask(get("/trap", id)).text(), "no good");
    }
    proxy.line("Component quarantined");
    eventually("a trial", || (proxy.ask(get("/", "t")).text() == "good").then_some(()));
    proxy.line("Component released");
    assert_eq!(proxy.ask(get("/", "3")).text(), "good");
}

#[test]
fn a_trial_keeps_out_what_does_not_answer() {
    let origin = failing();
    let silent = wat_component(r#"(func (export "handle") (param i32 i32))"#);
    let greedy = built("http_hostile.wasm");
    for (guest, options, why) in [
        (
            silent,
            "",
            "fails when `incoming-handler` is called for a trial, about a 200: gave no answer",
        ),
        (greedy, "memory = '64KiB'", "can't be instantiated: asked for more than 64KiB of memory"),
    ] {
        let proxy = proxy(&origin, &guest, &format!("optional = true\n{options}"));
        let rejected = proxy.line("Component rejected");
        assert!(
            rejected["reason"].as_str().is_some_and(|reason| reason.contains(why)),
            "{rejected}"
        );
        assert_eq!(proxy.ask(get("/", "1")).text(), "no good");
    }
}

#[test]
fn check_and_inspect_know_them() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("c.wasm"), built("status_page.wasm")).expect("a file");
    let inspected = fusebox(directory.path(), &["component", "inspect", "c.wasm"]);
    assert_eq!(inspected.code, Some(0), "{}", inspected.error);
    for line in ["world    wasi:http/proxy@0.2\n", "serves   respond\n", "accepted"] {
        assert!(inspected.out.contains(line), "{}", inspected.out);
    }
    assert!(!inspected.out.contains("(refused)"), "{}", inspected.out);
    let config = |respond: &str, grant: &str| {
        format!(
            "listen = '127.0.0.1:0'\n[components.c]\nfile = 'c.wasm'\ngrant = [{grant}]\n\
             [policies.f]\nkind = 'fallback'\n{respond}\n\
             [[routes]]\nupstream = 'http://127.0.0.1:1'\npolicies = ['f']\n"
        )
    };
    for (respond, grant, wrong) in [
        (
            "respond = { component = 'c' }",
            "'http:a.example', 'http:a.example:81', 'http:[::1]:81', 'https:a.example'",
            None,
        ),
        (
            "handle_if = { component = 'c' }\nrespond = { body = '' }",
            "",
            Some("missing export `fusebox:policy/predicate@0.1.0`"),
        ),
        (
            "respond = { component = 'c' }",
            "'ftp:a.example'",
            Some(
                "unknown grant `ftp:a.example`; expected `env:NAME`, `http:HOST[:PORT]` or \
                 `https:HOST[:PORT]`",
            ),
        ),
        (
            "respond = { component = 'c' }",
            "'http:u@a.example'",
            Some("unknown grant `http:u@a.example`"),
        ),
        (
            "respond = { component = 'c' }",
            "'http:a.example:0'",
            Some("unknown grant `http:a.example:0`"),
        ),
        (
            "respond = { component = 'c' }",
            "'http:a.example/b'",
            Some("unknown grant `http:a.example/b`"),
        ),
        ("respond = { component = 'c' }", "'http:*'", Some("unknown grant `http:*`")),
    ] {
        fs::write(directory.path().join("fusebox.toml"), config(respond, grant)).expect("a file");
        let checked = fusebox(directory.path(), &["check", "fusebox.toml"]);
        assert_eq!(checked.code, Some(i32::from(wrong.is_some())), "{}", checked.error);
        assert!(checked.error.contains(wrong.unwrap_or_default()), "{}", checked.error);
    }
}

#[test]
fn what_the_contract_answers_is_asked_by_the_contract() {
    let origin = failing();
    let silent = r#"(func (export "handle") (param i32 i32))"#;
    let both = wat_component(&format!("{silent} {}", responds(200, "by the contract")));
    let proxy = self::proxy(&origin, &both, "");
    assert_eq!(proxy.ask(get("/", "1")).text(), "by the contract");

    let judge = wat_component(&format!("{silent} {}", handle_if(&is_status(418))));
    let origin =
        Origin::answering([answer(503, "", "not its business"), answer(418, "", "as it came")]);
    let config = FALLBACK.replace("respond", "handle_if = { component = 'c' }\nrespond");
    let proxy = Proxy::with_files(
        &origin,
        &[("c.wasm", &judge)],
        &config.replace("OPTIONS", "probe = false"),
    );
    assert_eq!(proxy.ask(get("/", "1")).text(), "not its business");
    assert_eq!(proxy.told("1").len(), 1, "the predicate has answered");
    assert_eq!(proxy.ask(get("/", "2")).text(), "as it came");
    assert_eq!(proxy.told("2")[..2], ["Component faulted: bad-answer", "Fallback declined"]);
    proxy.counts(&[(r#"fusebox_component_calls_total{component="c"}"#, 3.0)]);
}
