//! New content of a component that can't be tried, for a reason that it is not to blame for.

use std::process::Command;

use fusebox_dev::{Origin, Wire, answer, eventually, get, ok, try_ask};

use crate::compiling::{by_rename, children, tangle, zombies};
use crate::components::{FALLBACK, RETRY, says, with_component};
use crate::support::{Proxy, ROUTE};

/// Waits for new content to be in use, which was refused once before, for this reason.
#[track_caller]
fn is_tried_again(proxy: &Proxy, reason: &str) {
    assert_eq!(proxy.line("Component replaced")["generation"], 2);
    let rejected = proxy.lines("Component rejected");
    let reasons: Vec<_> = rejected.iter().map(|line| line["reason"].clone()).collect();
    assert_eq!(reasons, [format!("c.wasm: {reason}; it will be tried again")]);
    assert!(proxy.state()["components"]["c"]["rejected"].is_null(), "it was taken in the end");
}

#[test]
fn content_whose_compiler_is_killed_is_tried_again() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let proxy = with_component(&origin, &says("good"), RETRY, "");
    by_rename(&proxy, &tangle(300, 1000));
    let compiler = eventually("a compiler", || children(proxy.id()).pop());
    let killed = Command::new("kill").args(["-s", "KILL", &compiler.to_string()]).status();
    assert!(killed.expect("`kill`").success());
    is_tried_again(&proxy, "the compiler was killed");
    assert_eq!(zombies(proxy.id()), [""; 0]);
}

/// A client within its head.
fn begun(proxy: &Proxy) -> Wire {
    let mut client = proxy.connect();
    client.try_send("GET /").ok();
    client
}

#[test]
fn clients_that_ask_for_nothing_make_place_when_descriptors_run_out() {
    let origin = Origin::answering([ok("b")]);
    let proxy = Proxy::with_open_files(64, &origin, &[], &format!("workers = 1\n{ROUTE}"));
    let _idle: Vec<Wire> = (0..80).map(|_| proxy.connect()).collect();
    let answer = eventually("an answer", || {
        let answer = try_ask(proxy.address(), "GET /", "", b"").ok()?;
        (answer.status() == 200).then_some(answer)
    });
    assert_eq!(answer.text(), "b");
}

/// Waits until a client was turned away.
fn without_descriptors(proxy: &Proxy) {
    proxy.wait("an acceptor without descriptors", |lines| {
        let message =
            |line: &serde_json::Value| line["msg"].as_str().unwrap_or_default().to_owned();
        lines.iter().any(|line| message(line).starts_with("can't accept")).then_some(())
    });
}

#[test]
fn health_is_told_when_there_are_no_descriptors() {
    let origin = Origin::answering([ok("b")]);
    let proxy = Proxy::with_open_files(64, &origin, &[], &format!("workers = 1\n{ROUTE}"));
    // None of them is idle, so none makes place.
    let _others: Vec<Wire> = (0..80).map(|_| begun(&proxy)).collect();
    without_descriptors(&proxy);
    // Who says nothing there keeps nobody out.
    let mut silent = Vec::new();
    for _ in 0..20 {
        assert_eq!(proxy.admin("GET /healthz").status(), 200);
        silent.push(Wire::connect(proxy.admin_address()).expect("it listens"));
    }
}

#[test]
fn content_that_comes_while_there_are_no_descriptors_is_in_use_when_there_are() {
    let origin = Origin::answering([answer(503, "", "busy")]);
    let config = format!("workers = 1\n{}", FALLBACK.replace("OPTIONS", ""));
    let proxy = Proxy::with_open_files(64, &origin, &[("c.wasm", &says("good"))], &config);
    // None of them is idle, so none makes place.
    let others: Vec<Wire> = (0..80).map(|_| begun(&proxy)).collect();
    without_descriptors(&proxy);
    by_rename(&proxy, &says("better"));
    proxy.line("Component rejected");
    drop(others);
    is_tried_again(&proxy, "Too many open files (os error 24)");
    assert_eq!(proxy.ask(get("/", "1")).text(), "better");
}
