//! How a component comes, goes wrong, is set aside and put back, while traffic flows: pushes,
//! reloads, roll-backs.

use std::fs;
use std::thread;
use std::time::Duration;

use fusebox_dev::{
    Message, Origin, answer, eventually, get, handle_if, is_status, ok, responds, try_ask,
    wat_component,
};
use serde_json::{Value, json};

use crate::components::{FALLBACK, says, with_component};
use crate::support::{Proxy, fusebox};

const TOKEN: &str = "authorization: Bearer open sesame\r\n";

/// A proxy with the component `c`, which answers 503s; `options` are more keys of the component.
#[track_caller]
fn guarded(origin: &Origin, component: &[u8], options: &str) -> Proxy {
    with_component(origin, component, FALLBACK, options)
}

/// Answers each 503 by this text, and traps on each 500.
fn traps_on_500(text: &str) -> Vec<u8> {
    traps_on(500, text)
}

/// Answers each 503 by this text, and traps on this status.
fn traps_on(status: u16, text: &str) -> Vec<u8> {
    let judges = format!("(if {} (then unreachable)) {}", is_status(status), is_status(503));
    wat_component(&format!("{} {}", handle_if(&judges), responds(200, text)))
}

/// An upstream that answers with the status that the path names.
fn by_path() -> Origin {
    Origin::start(|connection| {
        while let Some(seen) = connection.request() {
            let status = seen.request.target().trim_start_matches('/').parse().expect("a status");
            connection.wire.send(answer(status, "", "from b"));
        }
    })
}

#[track_caller]
fn push(proxy: &Proxy, component: &[u8], headers: &str) -> Message {
    proxy.admin_sending("PUT /components/c", headers, component)
}

fn component(proxy: &Proxy) -> Value {
    proxy.state()["components"]["c"].clone()
}

fn json_of(message: &Message) -> Value {
    serde_json::from_str(message.text())
        .unwrap_or_else(|error| panic!("{error}: {}", message.text()))
}

#[test]
fn a_push_takes_effect_at_once_and_outlives_a_restart() {
    let origin = Origin::answering([answer(503, "", "")]);
    let mut proxy = guarded(&origin, &says("one"), "");
    let taken = push(&proxy, &says("two"), TOKEN);
    let told = json_of(&taken);
    assert_eq!(
        (taken.status(), &told["result"], &told["generation"]),
        (200, &json!("replaced"), &json!(2))
    );
    assert_eq!(proxy.ask(get("/", "1")).text(), "two");
    assert_eq!(component(&proxy)["digest"], told["digest"]);
    assert_eq!(json_of(&push(&proxy, &says("two"), TOKEN)), json!({ "result": "unchanged" }));
    let refused = push(&proxy, b"not wasm", TOKEN);
    assert_eq!((refused.status(), &json_of(&refused)["result"]), (422, &json!("rejected")));
    assert!(
        refused.text().contains("pushed: is not WebAssembly, expected a component"),
        "{}",
        refused.text()
    );
    assert_eq!(component(&proxy)["rejected"]["reason"], json_of(&refused)["reason"]);
    assert_eq!(proxy.ask(get("/", "2")).text(), "two");
    proxy.signal("TERM");
    // Now all lines are written. The watcher had nothing to add.
    let replaced = proxy.log().iter().filter(|line| line["msg"] == "Component replaced").count();
    assert_eq!(replaced, 1);
    let proxy = proxy.again();
    assert_eq!(proxy.ask(get("/", "3")).text(), "two");
}

#[test]
fn a_push_is_refused_without_the_token_and_when_it_is_no_component_of_ours() {
    let origin = Origin::answering([answer(503, "", "")]);
    let proxy = guarded(&origin, &says("one"), "");
    for headers in
        ["", "authorization: Bearer open sesam\r\n", "authorization: Basic open sesame\r\n"]
    {
        assert_eq!(push(&proxy, &says("two"), headers).status(), 401, "{headers}");
        assert_eq!(proxy.admin_with("POST /components/c/rollback", headers).status(), 401);
        assert_eq!(proxy.admin_with("POST /reload", headers).status(), 401);
    }
    assert_eq!(proxy.admin_sending("PUT /components/d", TOKEN, &says("two")).status(), 404);
    assert_eq!(proxy.admin_with("POST /components/d/rollback", TOKEN).status(), 404);
    assert_eq!(proxy.admin_with("POST /components/c", TOKEN).header("allow"), Some("PUT"));
    assert_eq!(proxy.admin_with("GET /reload", TOKEN).header("allow"), Some("POST"));
    // 64 MiB and a byte, of which none is sent.
    let announced =
        proxy.admin_with("PUT /components/c", &format!("{TOKEN}content-length: 67108865\r\n"));
    assert_eq!(announced.status(), 413, "{}", announced.text());
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("c.wasm"), says("one")).expect("a file");
    let config = FALLBACK.replace("OPTIONS", "").replace("ORIGIN", &origin.to_string());
    let untold = Proxy::run(
        directory,
        &format!("listen = '127.0.0.1:0'\nadmin.listen = '127.0.0.1:0'\n{config}"),
    );
    assert_eq!(push(&untold, &says("two"), TOKEN).status(), 403);
    assert_eq!(component(&untold)["generation"], 1);
    assert_eq!(fs::read(proxy.path("c.wasm")).expect("a file").len(), says("one").len());
}

#[test]
fn a_pin_holds_against_a_push() {
    let origin = Origin::answering([answer(503, "", "")]);
    let other = format!("sha256 = '{}'", "0".repeat(64));
    let proxy = guarded(&origin, &says("one"), &format!("optional = true\n{other}"));
    assert_eq!(component(&proxy)["state"], "absent");
    let refused = push(&proxy, &says("one"), TOKEN);
    assert_eq!(refused.status(), 422);
    assert!(refused.text().contains("expected sha256 `0000"), "{}", refused.text());
}

#[test]
fn the_program_pushes_rolls_back_and_reloads() {
    let origin = Origin::answering([answer(503, "", "")]);
    let proxy = guarded(&origin, &says("one"), "");
    fs::write(proxy.path("new.wasm"), says("two")).expect("a file");
    let url = format!("http://{}", proxy.admin_address());
    let run = |arguments: &[&str]| {
        let arguments = [arguments, &["--admin", &url, "--token-file", "token"]].concat();
        fusebox(&proxy.path(""), &arguments)
    };
    let pushed = run(&["push", "c", "new.wasm"]);
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    assert!(pushed.out.contains(r#""result": "replaced""#), "{pushed:?}");
    assert_eq!(proxy.ask(get("/", "1")).text(), "two");
    let back = run(&["rollback", "c"]);
    assert_eq!(back.code, Some(0), "{back:?}");
    assert!(back.out.contains(r#""result": "rolled-back""#), "{back:?}");
    assert_eq!(proxy.ask(get("/", "2")).text(), "one");
    let line = proxy.line("Component rolled back");
    assert_eq!(
        (&line["generation"], &line["from_generation"], &line["faults"]),
        (&json!(1), &json!(2), &Value::Null)
    );
    let more = run(&["rollback", "c"]);
    assert_eq!(more.code, Some(1));
    assert!(
        more.error.contains("409 Conflict: component `c` has no earlier version to roll back to"),
        "{more:?}"
    );
    assert!(run(&["reload"]).out.contains(r#""result": "unchanged""#));

    for (arguments, complaint) in [
        (&["push", "c", "absent.wasm", "--admin", &url][..], "absent.wasm"),
        (
            &["push", "../reload", "new.wasm", "--admin", &url],
            "`../reload` is not a component's name",
        ),
        (&["rollback", "c?x", "--admin", &url], "`c?x` is not a component's name"),
        (
            &["push", "c", "new.wasm", "--admin", &url],
            "401 Unauthorized: the bearer token is missing or wrong",
        ),
        (
            &["push", "c", "new.wasm", "--admin", "127.0.0.1:1"],
            "expected a URL such as `http://127.0.0.1:9901`",
        ),
        (
            &["push", "c", "new.wasm", "--admin", "http://127.0.0.1:1"],
            "127.0.0.1:1: Connection refused",
        ),
        (
            &["push", "c", "new.wasm", "--admin", &url, "--token-file", "absent"],
            "absent: No such file",
        ),
    ] {
        let ran = fusebox(&proxy.path(""), arguments);
        assert_eq!((ran.code, ran.error.lines().count()), (Some(1), 1), "{ran:?}");
        assert!(ran.error.contains(complaint), "expected {complaint}\nfound    {}", ran.error);
    }
}

#[test]
fn a_reload_and_a_hangup_load_what_has_changed_and_say_what_became_of_it() {
    let origin = Origin::answering([answer(503, "", "")]);
    let proxy = guarded(&origin, &says("one"), "");
    let reloaded = proxy.admin_with("POST /reload", TOKEN);
    assert_eq!(reloaded.status(), 200);
    assert_eq!(json_of(&reloaded), json!({ "components": { "c": { "result": "unchanged" } } }));
    fs::write(proxy.path("c.wasm"), "not wasm").expect("a file");
    // Whether the watcher was first does not matter.
    let reloaded = proxy.admin_with("POST /reload", TOKEN);
    assert_eq!(reloaded.status(), 422);
    assert_eq!(json_of(&reloaded)["components"]["c"]["result"], "rejected");
    let known = proxy.lines("Component rejected").len();
    proxy.signal("HUP");
    proxy.line_after(known, "Component rejected");
    assert_eq!(proxy.ask(get("/", "1")).text(), "one", "and nobody ended");
}

#[test]
fn a_version_that_faults_on_live_traffic_is_rolled_back_by_itself() {
    let origin = by_path();
    let proxy = guarded(&origin, &says("one"), "max_faults = 2");
    fs::write(proxy.path("c.wasm"), traps_on_500("two")).expect("a file");
    proxy.line("Component replaced");
    assert_eq!(proxy.ask(get("/503", "1")).text(), "two");
    for request in 2..5 {
        assert_eq!(component(&proxy)["state"], "probation");
        // The slot's default takes a 500, and the component answers: that much works. The last time
        // it may be the old one.
        let answer = proxy.ask(get("/500", &request.to_string()));
        let answers = if request < 4 { &["two"][..] } else { &["one", "two"] };
        assert!(answers.contains(&answer.text()), "{}", answer.text());
    }
    let line = proxy.line("Component rolled back");
    assert_eq!(
        (&line["level"], &line["faults"], &line["from_generation"]),
        (&json!("WARN"), &json!(3), &json!(2))
    );
    assert_eq!(proxy.ask(get("/503", "5")).text(), "one");
    let state = component(&proxy);
    assert_eq!(
        (&state["state"], &state["generation"]),
        (&json!("probation"), &json!(1)),
        "as it was"
    );
    proxy.counts(&[(r#"fusebox_component_loads_total{component="c",result="rolled-back"}"#, 1.0)]);

    // The file still has it; touching it or asking for it does not bring it back, a push does.
    fs::write(proxy.path("c.wasm"), traps_on_500("two")).expect("a file");
    assert_eq!(proxy.admin_with("POST /reload", TOKEN).status(), 422);
    let line = proxy.line("Component rejected");
    assert!(
        line["reason"].as_str().is_some_and(|reason| reason.contains("was rolled back")),
        "{line}"
    );
    assert_eq!(push(&proxy, &traps_on_500("two"), TOKEN).status(), 200);
    assert_eq!(proxy.ask(get("/503", "6")).text(), "two");
}

#[test]
fn requests_that_no_version_can_answer_keep_no_new_one_out() {
    let origin = by_path();
    let proxy = guarded(&origin, &traps_on_500("one"), "");
    for request in 0..20 {
        assert_eq!(proxy.ask(get("/503", &request.to_string())).text(), "one");
    }
    fs::write(proxy.path("c.wasm"), traps_on_500("two")).expect("a file");
    proxy.line("Component replaced");
    // Four of 204, from one client.
    for request in 0..204 {
        let path = if request % 51 == 0 { "/500" } else { "/503" };
        assert_eq!(proxy.ask(get(path, &request.to_string())).text(), "two", "{request}");
    }
    proxy.line_after(3, "Component excused: the version before faults too");
    let state = component(&proxy);
    assert_eq!((&state["state"], &state["generation"]), (&json!("probation"), &json!(2)));
    assert_eq!(proxy.lines("Component rolled back"), [json!(null); 0]);
    proxy.counts(&[(r#"fusebox_component_faults_excused_total{component="c"}"#, 4.0)]);
    // One that faults on what this one answers does not stay.
    fs::write(proxy.path("c.wasm"), traps_on(418, "three")).expect("a file");
    proxy.line_after(1, "Component replaced");
    let line = eventually("a roll-back", || {
        proxy.ask(get("/418", "worse"));
        proxy.lines("Component rolled back").pop()
    });
    assert_eq!((&line["generation"], &line["from_generation"]), (&json!(2), &json!(3)));
}

#[test]
fn a_component_that_loops_keeps_no_fault_of_another_from_being_looked_at() {
    let origin = by_path();
    // About a 500 it never says anything, in no version.
    let loops = |text: &str| {
        let is_500 = is_status(500);
        let judges = format!("(if {is_500} (then (loop $on (br $on)))) {}", is_status(503));
        wat_component(&format!("{} {}", handle_if(&judges), responds(200, text)))
    };
    let other = "[components.d]\nfile = 'd.wasm'\n[policies.other]\nkind = 'fallback'\n\
        handle_if = { component = 'd' }\nrespond = { component = 'd' }\n\
        [[routes]]\nhost = 'd'\nupstream = 'ORIGIN'\npolicies = ['other']\n";
    let config = format!("{}{other}", FALLBACK.replace("OPTIONS", "timeout = '1s'"));
    let files = [("c.wasm", &*loops("one")), ("d.wasm", &*says("one"))];
    let proxy = Proxy::with_files(&origin, &files, &config);
    fs::write(proxy.path("c.wasm"), loops("two")).expect("a file");
    fs::write(proxy.path("d.wasm"), traps_on_500("two")).expect("a file");
    proxy.line_after(1, "Component replaced");

    proxy.ask(get("/500", "loops"));
    proxy.line("Component faulted: timeout");
    eventually("a roll-back", || {
        proxy.ask(get("/500", "traps").replace("b.example", "d"));
        proxy.lines("Component rolled back").pop()
    });
    // By now it has not been found out what the version before makes of that.
    let excused = proxy.lines("Component excused: the version before faults too");
    assert_eq!(excused, [json!(null); 0]);
    proxy.line("Component excused: the version before faults too");
}

#[test]
fn a_pushed_version_that_is_rolled_back_by_itself_does_not_come_back_with_a_restart() {
    let origin = by_path();
    let mut proxy = guarded(&origin, &says("one"), "max_faults = 0");
    assert_eq!(push(&proxy, &traps_on_500("two"), TOKEN).status(), 200);
    proxy.ask(get("/500", "1"));
    proxy.line("Component rolled back");
    eventually("the old file", || {
        (fs::read(proxy.path("c.wasm")).ok()? == says("one")).then_some(())
    });
    proxy.signal("TERM");
    proxy.end();
    assert_eq!(proxy.again().ask(get("/503", "2")).text(), "one");
}

#[test]
fn a_component_that_keeps_faulting_is_set_aside_until_a_trial_call_succeeds() {
    let origin = by_path();
    let options = "probation = 0\nquarantine_after = 3\nquarantine_interval = '2s'\n\
        on_error = 'unhandled'";
    let proxy = guarded(&origin, &traps_on_500("one"), options);
    for request in 0..3 {
        assert_eq!(proxy.ask(get("/500", &request.to_string())).text(), "from b");
    }
    let line = proxy.line("Component quarantined");
    assert_eq!(
        (&line["level"], &line["faults"], &line["generation"]),
        (&json!("ERROR"), &json!(3), &json!(1))
    );
    assert_eq!(component(&proxy)["state"], "quarantined");
    proxy.counts(&[
        (r#"fusebox_component_quarantines_total{component="c"}"#, 1.0),
        (r#"fusebox_component_state{component="c",state="quarantined"}"#, 1.0),
    ]);
    // A trial that fails does not bring it back; whatever is answered meanwhile is answered by
    // `on_error`.
    eventually("a failed trial", || {
        assert_eq!(proxy.ask(get("/500", "trial")).text(), "from b");
        (component(&proxy)["faults"]["trap"] == 4).then_some(())
    });
    assert_eq!(component(&proxy)["state"], "quarantined");
    eventually("a good trial", || (proxy.ask(get("/503", "good")).text() == "one").then_some(()));
    proxy.line("Component released");
    assert_eq!(component(&proxy)["state"], "serving");
    assert!(component(&proxy)["skipped"].as_u64().is_some_and(|skipped| skipped > 0));
}

#[test]
fn an_optional_component_may_be_missing_at_the_start() {
    let origin =
        Origin::answering([answer(503, "", "as it came"), answer(503, "", "as it came"), ok("")]);
    let proxy = Proxy::with_files(
        &origin,
        &[],
        &FALLBACK.replace("OPTIONS", "optional = true\non_error = 'handled'"),
    );
    assert_eq!(proxy.admin("GET /readyz").status(), 200);
    let line = proxy.line("Component rejected");
    assert!(
        line["reason"].as_str().is_some_and(|reason| reason.contains("No such file")),
        "{line}"
    );
    assert_eq!(proxy.ask(get("/", "1")).text(), "as it came");
    assert_eq!(proxy.told("1"), ["Fallback declined", "503: Service Unavailable"]);
    fs::write(proxy.path("c.wasm"), says("here now")).expect("a file");
    assert_eq!(proxy.line("Component loaded")["generation"], 1);
    assert_eq!(proxy.ask(get("/", "2")).text(), "here now");
}

#[test]
fn a_check_warns_of_an_optional_component_that_is_no_good() {
    let directory = tempfile::tempdir().expect("a directory");
    let config =
        FALLBACK.replace("OPTIONS", "optional = true").replace("ORIGIN", "http://127.0.0.1:1");
    fs::write(directory.path().join("fusebox.toml"), format!("listen = '127.0.0.1:0'\n{config}"))
        .expect("a file");
    let checked = fusebox(directory.path(), &["check"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let warning = "warning: fusebox.toml:3: components.c.file: c.wasm: No such file or directory";
    assert!(checked.error.starts_with(warning), "{checked:?}");
}

#[test]
fn whatever_kills_it_during_a_push_the_next_start_has_the_old_version_or_the_new_one() {
    let origin = Origin::answering([answer(503, "", "")]);
    // Long enough that a write can be interrupted.
    let versions = ["one", "two"].map(|text| {
        let padding = "x".repeat(4 << 20);
        wat_component(&format!(
            "{} {} (@custom \"padding\" \"{padding}\")",
            handle_if(&is_status(503)),
            responds(200, text)
        ))
    });
    let mut proxy = guarded(&origin, &versions[0], "");
    for round in 0..6_u64 {
        let admin = proxy.admin_address();
        thread::scope(|scope| {
            let pushing = scope.spawn(|| {
                let sent = versions.iter().cycle().skip(1).try_for_each(|version| {
                    try_ask(admin, "PUT /components/c", TOKEN, version).map(drop)
                });
                assert!(sent.is_err(), "until it is gone");
            });
            proxy.line("Component replaced");
            thread::park_timeout(Duration::from_millis(7 * round));
            proxy.signal("KILL");
            proxy.end();
            pushing.join().expect("no panic");
        });
        proxy = proxy.again();
        let text = proxy.ask(get("/", "1")).text().to_owned();
        assert!(["one", "two"].contains(&text.as_str()), "{text}");
        assert_eq!(component(&proxy)["generation"], 1);
    }
    assert_eq!(push(&proxy, &versions[0], TOKEN).status(), 200);
    assert_eq!(push(&proxy, &versions[1], TOKEN).status(), 200);
    let names =
        fs::read_dir(proxy.path("")).expect("a directory").flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains(".push-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn components_are_isolated_by_call_if_that_is_asked_for() {
    let remembers = wat_component(&format!(
        "(global $asked (mut i32) (i32.const 0)) {} {}",
        handle_if("(global.get $asked) (global.set $asked (i32.const 1))"),
        responds(200, "asked before")
    ));
    for (isolation, second) in [("reuse", "asked before"), ("per-call", "from b")] {
        let options = format!("probe = false\nisolation = '{isolation}'");
        let origin = by_path();
        let proxy =
            with_component(&origin, &remembers, &format!("workers = 1\n{FALLBACK}"), &options);
        assert_eq!(proxy.ask(get("/200", "1")).text(), "from b");
        assert_eq!(proxy.ask(get("/200", "2")).text(), second, "{isolation}");
    }
}
