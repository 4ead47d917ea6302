//! Guests that trap, loop, grow and lie: each costs its own call, and nothing else.

use std::time::Duration;

use fusebox_dev::{handle_if, respond};
use fusebox_resilience::Fault;
use fusebox_resilience::config::{ConfigDuration, ConfigSize};
use fusebox_wasm::OnError;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use crate::guest::{Exports, guest, predicate};
use crate::support::{load, load_with, refusal};

/// A fault for 500; else whether this instance was asked before.
fn faults_on_500(fault: &str) -> Vec<u8> {
    let fields = handle_if(&format!(
        "(if (i32.eq (local.get $value) (i32.const 500)) (then {fault}))
         (global.get $asked) (global.set $asked (i32.const 1))"
    ));
    guest(
        Exports::Predicate,
        &format!("(global $asked (mut i32) (i32.const 0)) {fields} (func $deep (call $deep))"),
    )
}

#[test]
fn a_trap_costs_its_own_call_and_the_guests_memory() {
    let tested = load(&faults_on_500("unreachable"));
    assert_eq!([200, 200].map(|status| tested.handles(status)), [false, true]);
    assert!(tested.handles(500), "the default answer");
    assert_eq!(tested.components.status()[0].instances, 0);
    assert_eq!([200, 200].map(|status| tested.handles(status)), [false, true]);
    assert_eq!(
        tested.faulted(),
        [(Fault::Trap, "wasm `unreachable` instruction executed".to_owned())]
    );
    assert!(tested.components.status()[0].faults.contains(&(Fault::Trap, 1)));
}

#[test]
fn the_configuration_answers_for_a_guest_that_does_not() {
    for (on_error, answers) in [
        (OnError::Default, [true, false]),
        (OnError::Handled, [true, true]),
        (OnError::Unhandled, [false, false]),
    ] {
        let tested = load_with(&predicate("unreachable"), |config| config.on_error = on_error);
        assert_eq!([503, 200].map(|status| tested.handles(status)), answers, "{on_error:?}");
    }
}

#[test]
fn a_fallback_that_faults_has_declined() {
    let tested = load(&guest(Exports::Fallback, &respond("unreachable")));
    assert!(tested.responds(503).is_none());
    assert_eq!(tested.faults(), [Fault::Trap]);
}

#[test]
fn an_endless_loop_is_cut_off() {
    let tested = load_with(&faults_on_500("(loop $for-ever (br $for-ever))"), |config| {
        config.timeout = ConfigDuration::from_millis(10);
    });
    let began = Instant::now();
    assert!(tested.handles(500));
    assert!(began.elapsed() >= Duration::from_millis(10), "not before its time");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(tested.faulted(), [(Fault::Timeout, "took longer than 10ms".to_owned())]);
    assert!(!tested.handles(200));
}

/// Processor time that this thread has used.
fn used() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time")
}

#[test]
fn whatever_a_guest_does_it_holds_its_worker_for_its_time_and_two_ticks() {
    let timeout = Duration::from_millis(20);
    // Half the timeout. The first tick finds that it still runs, and the last may come a whole one
    // after its time.
    let tick = timeout / 2;
    // A step of what can't be interrupted, and unoptimised code of the host.
    let slack = Duration::from_millis(15);
    let import = r#"(import "attempt" "request-header" (func $header (param i32 i32 i32)))"#;
    let all = "(i32.const 64000000)";
    for (name, body) in [
        ("loops", "(br $for-ever)".to_owned()),
        ("fills", format!("(memory.fill $own (i32.const 0) (i32.const 1) {all})")),
        ("copies upwards", format!("(memory.copy $own $own (i32.const 1000) (i32.const 0) {all})")),
        (
            "copies downwards",
            format!("(memory.copy $own $own (i32.const 0) (i32.const 1000) {all})"),
        ),
        (
            "copies data",
            "(memory.init $own $data (i32.const 0) (i32.const 0) (i32.const 16000000))".to_owned(),
        ),
        ("asks", "(call $header (i32.const 0) (i32.const 1000000) (i32.const 16))".to_owned()),
    ] {
        let data = if name == "copies data" { "x".repeat(16_000_000) } else { String::new() };
        let body = format!(
            "(drop (memory.grow 0 (i32.const 20))) (drop (memory.grow $own (i32.const 980)))
             (loop $for-ever {body} (br $for-ever)) (i32.const 1)"
        );
        let fields =
            format!(r#"{import} (memory $own 1) (data $data "{data}") {}"#, handle_if(&body));
        let tested = load_with(&guest(Exports::Predicate, &fields), |config| {
            config.timeout = ConfigDuration(timeout);
            config.host_calls = u32::MAX;
            config.memory = ConfigSize::mib(72);
        });
        // A machine that is busy ticks late, so one call in time tells; each begins with fresh
        // memory.
        let held = (0..5).map(|_| {
            let before = used();
            tested.handles(503);
            used() - before
        });
        let held = held.min().unwrap_or_default();
        figure(name, held);
        assert!(held < timeout + 2 * tick + slack, "{name}: {held:?}");
        assert_eq!(tested.faults(), [Fault::Timeout; 5], "{name}: {:?}", tested.faulted());
    }
}

#[expect(clippy::print_stderr, reason = "shown with `--nocapture`")]
fn figure(name: &str, held: Duration) {
    eprintln!("| {name} | {held:.1?} |");
}

#[test]
fn a_stack_is_bounded() {
    let tested = load(&faults_on_500("(call $deep)"));
    assert!(tested.handles(500));
    assert_eq!(tested.faulted(), [(Fault::Stack, "needed more than 512KiB of stack".to_owned())]);
    assert!(!tested.handles(200));
}

/// Makes a memory of its own as large as it gets, then does this.
fn greedy(then: &str) -> Vec<u8> {
    let body = format!(
        "(block $refused (loop $more
           (br_if $refused (i32.eq (memory.grow $own (i32.const 16)) (i32.const -1))) (br $more)))
         {then}"
    );
    guest(Exports::Predicate, &format!("(memory $own 1) {}", handle_if(&body)))
}

#[test]
fn a_guest_that_aborts_for_want_of_memory_is_told_from_other_traps() {
    let tested = load(&greedy("unreachable"));
    assert!(tested.handles(503));
    let [(Fault::Memory, detail)] = &tested.faulted()[..] else { panic!("{:?}", tested.faulted()) };
    assert!(detail.starts_with("asked for more than 64"), "{detail}");
}

#[test]
fn a_guest_that_copes_with_a_refusal_has_answered_but_is_not_asked_again() {
    let tested = load(&greedy("(i32.const 1)"));
    assert!(tested.handles(200));
    assert_eq!(tested.faults(), []);
    assert_eq!(tested.components.status()[0].instances, 0);
}

#[test]
fn an_instance_is_recycled_after_its_calls_and_above_its_mark() {
    let tested = load_with(&faults_on_500(""), |config| config.recycle_calls = 2);
    assert_eq!([200; 5].map(|status| tested.handles(status)), [false, true, false, true, false]);
    let grows = predicate("(drop (memory.grow (i32.const 16))) (i32.const 1)");
    let tested = load_with(&grows, |config| config.recycle_memory = Some(ConfigSize::kib(64)));
    assert!(tested.handles(503));
    assert_eq!(tested.components.status()[0].instances, 0);
}

#[test]
fn lists_that_lie_about_their_length_are_bad_answers() {
    let lies = |headers: u32, length: u32| {
        load(&guest(
            Exports::Fallback,
            &respond(&format!(
                "(i32.store8 (i32.const 128) (i32.const 1))
                 (i32.store16 (i32.const 132) (i32.const 200))
                 (i32.store (i32.const 136) (i32.const {headers}))
                 (i32.store (i32.const 140) (i32.const {length}))
                 (i32.const 128)"
            )),
        ))
    };
    for (headers, length) in [(256, 100_000), (65_528, 1), (256, u32::MAX), (u32::MAX, 1)] {
        let tested = lies(headers, length);
        assert!(tested.responds(503).is_none());
        assert_eq!(
            tested.faults(),
            [Fault::BadAnswer],
            "{headers} {length}: {:?}",
            tested.faulted()
        );
    }
}

#[test]
fn what_a_guest_hands_to_the_host_at_once_is_bounded() {
    let import = r#"(import "attempt" "request-header" (func $header (param i32 i32 i32)))"#;
    let body = "(drop (memory.grow (i32.const 64)))
        (call $header (i32.const 0) (i32.const 2000000) (i32.const 16)) (i32.const 1)";
    let tested = load(&guest(Exports::Predicate, &format!("{import} {}", handle_if(body))));
    assert!(!tested.handles(200));
    let [(Fault::HostBytes, detail)] = &tested.faulted()[..] else {
        panic!("{:?}", tested.faulted())
    };
    assert!(detail.contains("more than 1MiB at once"), "{detail}");
}

#[test]
fn asking_about_the_attempt_outside_of_a_call_is_a_fault() {
    let starts = format!(
        r#"(import "attempt" "number" (func $number (result i32)))
           (func $start (drop (call $number))) (start $start) {}"#,
        handle_if("(i32.const 1)")
    );
    let refusal = refusal(&guest(Exports::Predicate, &starts));
    assert!(refusal.contains("can't be instantiated"), "{refusal}");
    assert!(refusal.contains("asked about an attempt outside of a call"), "{refusal}");
}
