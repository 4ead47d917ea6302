//! WASI inside a running current-thread runtime, where a worker calls: printing works, waiting is a
//! fault.

use fusebox_dev::{STDERR, encode, handle_if};
use fusebox_resilience::Fault;
use fusebox_wasm::{ComponentConfig, Grant};

use crate::guest::{Exports, text};
use crate::support::{Tested, load_with};

/// Imports that wasi-libc's `nanosleep` comes down to, beside those of stderr, and their lowered
/// forms for the guest.
const IMPORTS: &str = r#"
  (import "wasi:io/poll@0.2.3" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))
    (export "[method]pollable.ready" (func (param "self" (borrow $pollable)) (result bool)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.3" (instance $clock
    (alias outer 1 $pollable (type $pollable')) (export "pollable" (type $pollable (eq $pollable')))
    (export "now" (func (result u64)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (import "wasi:sockets/udp-create-socket@0.2.3" (instance $udp))
  (import "wasi:cli/environment@0.2.3" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))
  (core func $variables
    (canon lower (func $environment "get-environment") (memory $memory) (realloc $realloc)))
  (core func $now (canon lower (func $clock "now")))
  (core func $after (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $ready (canon lower (func $poll "[method]pollable.ready")))
"#;

const ARGUMENTS: &str = r#"(with "wasi" (instance
  (export "get-stderr" (func $get-stderr)) (export "write" (func $write)) (export "now" (func $now))
  (export "after" (func $after)) (export "block" (func $block)) (export "ready" (func $ready))
  (export "variables" (func $variables))))"#;

const GUEST: &str = r#"
  (import "wasi" "get-stderr" (func $get-stderr (result i32)))
  (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
  (import "wasi" "now" (func $now (result i64)))
  (import "wasi" "after" (func $after (param i64) (result i32)))
  (import "wasi" "block" (func $block (param i32)))
  (import "wasi" "ready" (func $ready (param i32) (result i32)))
  (import "wasi" "variables" (func $variables (param i32)))
  (data (i32.const 64) "guest panicked\nbecause\n")
  (func $print (call $write (call $get-stderr) (i32.const 64) (i32.const 23) (i32.const 16)))
"#;

/// A guest that can print and wait.
fn with_wasi(body: &str) -> Tested {
    with_wasi_and(body, |_| {})
}

fn with_wasi_and(body: &str, configure: impl FnOnce(&mut ComponentConfig)) -> Tested {
    let fields = format!("{GUEST} {}", handle_if(body));
    let guest = text(Exports::Predicate, &format!("{STDERR} {IMPORTS}"), ARGUMENTS, &fields);
    load_with(&encode(&guest), configure)
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_guest_prints_becomes_events() {
    let tested = with_wasi("(call $print) (i32.const 1)");
    assert!(tested.handles(200));
    assert_eq!(tested.printed(), ["guest panicked", "because"]);
    assert_eq!(tested.faults(), []);
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_guest_prints_before_it_traps_is_said_with_the_fault() {
    let tested = with_wasi("(call $print) unreachable");
    assert!(!tested.handles(200));
    assert_eq!(tested.printed(), ["guest panicked", "because"]);
    let detail = "wasm `unreachable` instruction executed | guest panicked | because";
    assert_eq!(tested.faulted(), [(Fault::Trap, detail.to_owned())]);
}

#[tokio::test(flavor = "current_thread")]
async fn waiting_for_time_is_a_fault() {
    let tested = with_wasi("(call $block (call $after (i64.const 1000000000))) (i32.const 1)");
    assert!(!tested.handles(200));
    let [(Fault::Misuse, detail)] = &tested.faulted()[..] else { panic!("{:?}", tested.faulted()) };
    assert!(detail.contains("waited, for time or for input, which a policy must not"), "{detail}");
}

#[tokio::test(flavor = "current_thread")]
async fn looking_at_the_time_is_none() {
    // No time has passed yet that an hour would not outlast, and none is needed for none.
    let tested = with_wasi(
        "(call $block (call $after (i64.const 0)))
         (i32.and (i64.gt_u (call $now) (i64.const 0))
                  (i32.eqz (call $ready (call $after (i64.const 3600000000000)))))",
    );
    assert!(tested.handles(200));
    assert_eq!(tested.faults(), []);
}

#[test]
fn no_runtime_is_needed() {
    let tested = with_wasi("(call $print) (call $block (call $after (i64.const 0))) (i32.const 1)");
    assert!(tested.handles(200));
    assert_eq!(tested.printed().len(), 2);
}

#[test]
fn a_guest_sees_of_the_environment_what_it_was_granted() {
    let sees = |grant: Vec<Grant>| {
        let body = "(call $variables (i32.const 16)) (i32.load (i32.const 20))";
        with_wasi_and(body, |config| config.grant = grant).handles(200)
    };
    assert!(!sees(Vec::new()));
    assert!(sees(vec![Grant::Env("PATH".into())]), "every process has it");
    assert!(!sees(vec![Grant::Env("NOT_SET_ANYWHERE".into())]));
}

#[test]
fn lines_are_limited_by_call_and_by_second() {
    let tested = with_wasi_and("(call $print) (i32.const 1)", |config| config.log_lines = 1);
    tested.handles(200);
    assert_eq!(tested.printed(), ["guest panicked", "(1 more lines dropped)"]);
    let tested = with_wasi_and("(call $print) (i32.const 1)", |config| config.log_rate = 3);
    for _ in 0..10 {
        tested.handles(200);
    }
    // Three; as many again, and a line that says so, if a second has passed meanwhile.
    assert!((3..=7).contains(&tested.printed().len()), "{:?}", tested.printed());
}

#[test]
fn settings_can_be_read_the_standard_way_too() {
    let outer = r#"
      (import "wasi:config/store@0.2.0-rc.1" (instance $store
        (type $error' (variant (case "upstream" string) (case "io" string)))
          (export "error" (type $error (eq $error')))
        (export "get"
          (func (param "key" string) (result (result (option string) (error $error)))))))
      (core func $stored (canon lower (func $store "get") (memory $memory) (realloc $realloc)))"#;
    let arguments = r#"(with "config" (instance (export "get" (func $stored))))"#;
    // Whether there is a value, as far as the store works.
    let body = "(call $get (i32.const 64) (i32.const 4) (i32.const 16))
        (i32.and (i32.eqz (i32.load8_u (i32.const 16))) (i32.load8_u (i32.const 20)))";
    let fields = format!(
        r#"(import "config" "get" (func $get (param i32 i32 i32)))
          (data (i32.const 64) "busy") {}"#,
        handle_if(body)
    );
    let component = encode(&text(Exports::Predicate, outer, arguments, &fields));
    for (name, is_there) in [("busy", true), ("other", false)] {
        let tested = load_with(&component, |config| {
            config.settings.insert(name.into(), "503".into());
        });
        assert_eq!(tested.handles(200), is_there, "{name}");
        assert_eq!(tested.faults(), []);
    }
}
