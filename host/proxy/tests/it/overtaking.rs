//! New content of a component while older content is still compiled or tried out.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fusebox_dev::{Ends, Origin, answer, eventually, get, handle_if, responds, wat_component};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::compiling::{by_rename, children, entries, slow};
use crate::components::{FALLBACK, says, with_component};
use crate::support::Proxy;

/// Answers 503 by saying this, but never ends if it is asked about anything else, as in a trial.
fn loops(text: &str) -> Vec<u8> {
    let only_503 = "(if (i32.ne (local.get $value) (i32.const 503))
        (then (loop $forever (br $forever)))) (i32.const 1)";
    wat_component(&format!("{} {}", handle_if(only_503), responds(200, text)))
}

/// With this it would be tried for minutes.
const PATIENT: &str = "timeout = '60s'";

fn busy() -> Origin {
    Origin::answering([answer(503, "", "busy")])
}

/// Until `content`, which compiles quickly, has been compiled: its trial begins.
fn is_tried(proxy: &Proxy, known: usize) {
    let cache = proxy.path("cache/fusebox");
    eventually("its code", || (entries(&cache).len() > known).then_some(()));
}

fn digests(lines: &[Value], key: &str) -> Vec<String> {
    lines.iter().map(|line| line[key].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_file_that_takes_long_to_compile_keeps_no_other_out() {
    let origin = busy();
    let proxy = with_component(&origin, &says("good"), FALLBACK, "");
    by_rename(&proxy, &slow());
    eventually("a compiler", || children(proxy.id()).pop());
    by_rename(&proxy, &says("better"));
    let replaced = proxy.line("Component replaced");
    assert_eq!(proxy.ask(get("/", "1")).text(), "better");
    assert_eq!(replaced["generation"], 2, "the slow one was never taken");
    assert_eq!(proxy.lines("Component overtaken").len(), 1);
    assert_eq!(proxy.lines("Component rejected"), [json!(null); 0]);
    assert_eq!(children(proxy.id()), [0; 0]);
    proxy.counts(&[(r#"fusebox_component_loads_total{component="c",result="overtaken"}"#, 1.0)]);
}

#[test]
fn a_file_that_loops_in_its_trial_keeps_no_other_out_and_nothing_from_ending() {
    let origin = busy();
    let mut proxy = with_component(&origin, &says("good"), FALLBACK, PATIENT);
    by_rename(&proxy, &loops("never"));
    is_tried(&proxy, 1);
    by_rename(&proxy, &says("better"));
    assert_eq!(proxy.line("Component replaced")["generation"], 2);
    assert_eq!(proxy.ask(get("/", "1")).text(), "better");
    assert_eq!(proxy.lines("Component rejected"), [json!(null); 0]);

    by_rename(&proxy, &loops("never again"));
    is_tried(&proxy, 3);
    let began = Instant::now();
    proxy.signal("TERM");
    assert!(proxy.end().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn components_that_take_long_keep_no_other_component_out() {
    let table = "[components.NAME]\nfile = 'NAME.wasm'\n";
    let others: String =
        ["d", "e", "f"].iter().map(|name| table.replace("NAME", name)).collect::<Vec<_>>().concat();
    let good = says("good");
    let files = ["c.wasm", "d.wasm", "e.wasm", "f.wasm"].map(|name| (name, &*good));
    let config = format!("{}{others}", FALLBACK.replace("OPTIONS", ""));
    let proxy = Proxy::with_files(&busy(), &files, &config);
    for name in ["d", "e", "f"] {
        fs::write(proxy.path("new"), slow()).expect("a file");
        fs::rename(proxy.path("new"), proxy.path(&format!("{name}.wasm"))).expect("a file");
    }
    eventually("compilers", || (children(proxy.id()).len() >= 2).then_some(()));
    by_rename(&proxy, &says("better"));
    let replaced = proxy.line("Component replaced");
    assert_eq!(replaced["component"], "c", "the others are still compiled");
    assert_eq!(proxy.lines("Component rejected"), [json!(null); 0]);
}

#[test]
fn changes_that_wait_are_one_and_the_same_content_is_refused_once() {
    let proxy = with_component(&busy(), &says("good"), FALLBACK, "");
    let known = entries(&proxy.path("cache/fusebox")).len();
    by_rename(&proxy, &loops("never"));
    is_tried(&proxy, known);
    let stamp = || fs::metadata(proxy.path("c.wasm")).expect("a file").modified().expect("a time");
    for _ in 0..7 {
        let before = stamp();
        by_rename(&proxy, b"no component");
        // As long as it takes to be looked at twice.
        thread::park_timeout(Duration::from_millis(150));
        assert_ne!(stamp(), before);
    }
    by_rename(&proxy, &says("better"));
    proxy.line("Component replaced");
    let rejected = proxy.lines("Component rejected");
    // Not at all where the last change was there before it had been looked at.
    assert!(digests(&rejected, "rejected_digest").len() <= 1, "{rejected:?}");
}

#[test]
fn a_file_that_is_gone_is_not_looked_for_though_it_was_overtaken() {
    let proxy = with_component(&busy(), &says("good"), FALLBACK, "");
    by_rename(&proxy, &slow());
    eventually("a compiler", || children(proxy.id()).pop());
    fs::remove_file(proxy.path("c.wasm")).expect("it was there");
    let token = "authorization: Bearer open sesame\r\n";
    assert_eq!(proxy.admin_sending("PUT /components/c", token, b"no component").status(), 422);
    proxy.wait("word of the file", |lines| {
        let mut reasons = lines.iter().filter_map(|line| line["reason"].as_str());
        reasons.any(|reason| reason.starts_with("pushed: "));
        reasons.any(|reason| reason.contains("No such file")).then_some(())
    });
    let told = proxy.lines("Component rejected").len();
    // In which it would be looked at six times.
    thread::park_timeout(Duration::from_millis(300));
    assert_eq!(proxy.lines("Component rejected").len(), told);
    by_rename(&proxy, &says("better"));
    proxy.line("Component replaced");
}

#[test]
fn whatever_comes_the_last_content_is_in_use_soon() {
    let origin = busy();
    let proxy = with_component(&origin, &says("good"), FALLBACK, "");
    let stop = AtomicBool::new(false);
    let (asked, took) = thread::scope(|scope| {
        let ends = Ends(&stop);
        let traffic = || {
            let (mut wire, mut asked) = (proxy.connect(), 0);
            while !stop.load(Ordering::SeqCst) {
                let response = wire.ask(get("/", "traffic"));
                assert!(response.text().starts_with("good"), "{}", response.text());
                asked += 1;
            }
            asked
        };
        let clients: Vec<_> = (0..2).map(|_| scope.spawn(traffic)).collect();
        for round in 0..6 {
            for content in [slow(), loops("never"), b"no component".into()] {
                by_rename(&proxy, &content);
                thread::park_timeout(Duration::from_millis(250));
            }
            by_rename(&proxy, &says(&format!("good {round}")));
            thread::park_timeout(Duration::from_millis(250));
            by_rename(&proxy, &slow());
            thread::park_timeout(Duration::from_millis(250));
        }
        let last = Instant::now();
        by_rename(&proxy, &says("good at last"));
        eventually("the last content", || {
            (proxy.ask(get("/", "last")).text() == "good at last").then_some(())
        });
        let took = last.elapsed();
        drop(ends);
        let asked: usize = clients.into_iter().map(|client| client.join().expect("answers")).sum();
        (asked, took)
    });
    // One of the slow ones alone takes 10 s and more.
    assert!(asked > 100 && took < Duration::from_secs(10), "{asked} requests, {took:?}");
    assert_eq!(children(proxy.id()), [0; 0]);
}

#[test]
fn a_push_that_is_overtaken_is_told_so_and_leaves_the_newer_file() {
    let origin = busy();
    let proxy = with_component(&origin, &says("good"), FALLBACK, "");
    let token = "authorization: Bearer open sesame\r\n";
    thread::scope(|scope| {
        let push = scope.spawn(|| proxy.admin_sending("PUT /components/c", token, &slow()));
        eventually("a compiler", || children(proxy.id()).pop());
        let newer = proxy.admin_sending("PUT /components/c", token, &says("pushed"));
        assert_eq!(newer.status(), 200, "{}", newer.text());
        let overtaken = push.join().expect("an answer");
        assert_eq!(overtaken.status(), 409);
        assert!(overtaken.text().contains(r#""result": "overtaken""#), "{}", overtaken.text());

        let push = scope.spawn(|| proxy.admin_sending("PUT /components/c", token, &slow()));
        eventually("a compiler", || children(proxy.id()).pop());
        by_rename(&proxy, &says("from its file"));
        assert_eq!(push.join().expect("an answer").status(), 409);
    });
    eventually("the newer one", || {
        (proxy.ask(get("/", "1")).text() == "from its file").then_some(())
    });
    assert!(fs::read(proxy.path("c.wasm")).expect("a file") == says("from its file"));
}
