//! The life of a component beyond its swap: admission, probation, roll-back, quarantine, pushes.

use std::fs;
use std::thread::park_timeout;
use std::time::Duration;

use fusebox_dev::{eventually, handle_if, respond};
use fusebox_resilience::config::{ConfigDuration, ConfigSize};
use fusebox_resilience::{ComponentEvent, ComponentId, EventKind, Fault};
use fusebox_wasm::{ComponentStanding, Isolation, OnError, Probation, Reload};

use crate::guest::{Exports, guest, predicate};
use crate::support::{NAME, Tested, load, load_with, try_load_with};

/// Takes 503; `mark` makes it another version.
fn sound(mark: u32) -> Vec<u8> {
    predicate(&format!("(drop (i32.const {mark})) (i32.eq (local.get $value) (i32.const 503))"))
}

/// The same; traps on 500.
fn version(mark: u32) -> Vec<u8> {
    predicate(&format!(
        "(if (i32.eq (local.get $value) (i32.const 500)) (then unreachable))
         (drop (i32.const {mark})) (i32.eq (local.get $value) (i32.const 503))"
    ))
}

fn standing(tested: &Tested) -> ComponentStanding {
    tested.components.status()[0].standing
}

/// Whether its file has these bytes.
fn has(tested: &Tested, bytes: &[u8]) -> bool {
    fs::read(tested.file()).expect("a file") == bytes
}

/// The roll-backs so far: to which generation, from which, after how many faults.
fn roll_backs(tested: &Tested) -> Vec<(u64, u64, Option<u32>)> {
    let roll_back = |kind| match kind {
        EventKind::Component(ComponentEvent::RolledBack { component, from, faults }) => {
            Some((component.generation, from.generation, faults))
        }
        _ => None,
    };
    tested.recorder.kinds().into_iter().filter_map(roll_back).collect()
}

#[test]
fn a_version_that_fails_a_trial_call_is_not_taken() {
    let loops = "(loop $for-ever (br $for-ever)) unreachable";
    let on_failure = |body: &str| {
        predicate(&format!(
            "(if (result i32) (local.get $case) (then {body}) (else (i32.const 0)))"
        ))
    };
    let answers_nonsense = guest(
        Exports::Fallback,
        &respond(
            "(i32.store8 (i32.const 128) (i32.const 1))
              (i32.store16 (i32.const 132) (i32.const 99)) (i32.const 128)",
        ),
    );
    for (bytes, why) in [
        (
            predicate("unreachable"),
            "fails when `handle-if` is called for a trial, about a 200: wasm `unreachable`",
        ),
        (on_failure("unreachable"), "`handle-if` is called for a trial, about a timeout"),
        (on_failure(loops), "about a timeout: took longer than 1s"),
        (
            answers_nonsense,
            "fails when `respond` is called for a trial, about a 200: answered with status `99`",
        ),
    ] {
        let refused = try_load_with(&bytes, |config| {
            config.probe = true;
            config.timeout = ConfigDuration::from_millis(10);
        });
        let error = refused.err().expect(why);
        assert!(error.contains(why), "{error}");
    }
    let tested = load_with(&predicate("(i32.const 1)"), |config| config.probe = true);
    assert_eq!(tested.components.status()[0].calls, 0, "trials are not counted");
    tested.overwrite(&predicate("unreachable"));
    assert!(matches!(tested.components.reload(NAME), Reload::Rejected(_)));
    let rejection = tested.components.status()[0].rejection.clone().expect("it is remembered");
    assert!(
        rejection.digest.is_some() && rejection.reason.contains("for a trial"),
        "{rejection:?}"
    );
    assert!(tested.handles(200), "the old one goes on");
}

#[test]
fn faults_on_probation_bring_the_previous_version_back() {
    let tested = load_with(&sound(1), |config| config.max_faults = 2);
    tested.overwrite(&version(2));
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)));
    assert_eq!(standing(&tested), ComponentStanding::Probation);
    let changed = tested.components.changed();
    for faults in 1..=3 {
        assert_eq!(tested.generation(), Some(2));
        assert!(tested.handles(500), "the default answers");
        assert_eq!(tested.faults().len(), faults);
    }
    eventually("a roll-back", || (!roll_backs(&tested).is_empty()).then_some(()));
    assert_eq!(roll_backs(&tested), [(1, 2, Some(3))]);
    assert!(changed.has_changed().expect("it is there"), "the workers hear of it");
    let status = tested.components.status().remove(0);
    let digest = |version: Option<&ComponentId>| version.map(|version| version.digest.clone());
    assert_eq!(digest(status.version.as_ref()), Some(tested.loaded()[0].digest.clone()));
    // It had not proved itself when it was replaced.
    assert_eq!((status.standing, status.kept.len()), (ComponentStanding::Probation, 0));
    assert!(tested.handles(503) && !tested.handles(200));

    // The file still has it, and it is not taken again from there.
    let Reload::Rejected(reason) = tested.components.reload(NAME) else {
        panic!("it was rolled back")
    };
    assert!(reason.contains("has the content that was rolled back"), "{reason}");
    // But after other content was there, or by somebody who says so.
    tested.overwrite(&sound(1));
    assert_eq!(tested.components.reload(NAME), Reload::Unchanged);
    tested.overwrite(&version(2));
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)));
    assert!(tested.components.roll_back(NAME).is_ok());
    assert!(matches!(tested.components.reload(NAME), Reload::Rejected(_)));
    assert!(matches!(
        tested.components.push(NAME, version(2)),
        Reload::Replaced(ComponentId { generation: 4, .. })
    ));
}

#[test]
fn what_the_previous_version_faults_on_too_does_not_count() {
    let tested = load_with(&version(1), |config| config.max_faults = 2);
    tested.overwrite(&version(2));
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)));
    let excused = || {
        let is_excused = |kind: &&EventKind| {
            matches!(kind, EventKind::Component(ComponentEvent::Excused { .. }))
        };
        tested.recorder.kinds().iter().filter(is_excused).count()
    };
    // More than ten in a second are not put to it.
    for faults in 1..=15 {
        assert!(tested.handles(500));
        assert!(tested.handles(503), "{faults}");
    }
    eventually("its checks", || (excused() >= 10).then_some(()));
    assert_eq!((tested.generation(), roll_backs(&tested)), (Some(2), vec![]));
    assert_eq!(tested.faults().len(), 15);
}

#[test]
fn a_version_that_has_proved_itself_is_set_aside_and_comes_back_by_a_trial_call() {
    let tested = load_with(&version(1), |config| {
        config.probation = Probation::Calls(0);
        config.quarantine_after = 3;
        config.quarantine_interval = ConfigDuration::from_millis(20);
        config.on_error = OnError::Handled;
    });
    for _ in 0..3 {
        assert_eq!(tested.components.status()[0].skipped, 0);
        tested.handles(500);
    }
    assert_eq!(standing(&tested), ComponentStanding::Quarantined);
    let last = tested.recorder.kinds().pop();
    assert!(
        matches!(last, Some(EventKind::Component(ComponentEvent::Quarantined { faults: 3, .. }))),
        "{last:?}"
    );
    // `on_error` answers, without a call but for the trials.
    while tested.components.status()[0].skipped == 0 {
        assert_eq!(standing(&tested), ComponentStanding::Quarantined);
        tested.handles(500);
    }
    let before = tested.components.status()[0].calls;
    while standing(&tested) == ComponentStanding::Quarantined {
        park_timeout(Duration::from_millis(1));
        tested.handles(200);
    }
    assert_eq!(tested.components.status()[0].calls, before + 1, "one trial was enough");
    assert!(
        tested
            .recorder
            .kinds()
            .iter()
            .any(|kind| matches!(kind, EventKind::Component(ComponentEvent::Released { .. })))
    );
    assert!(!tested.handles(200), "it is asked again");
}

#[test]
fn an_optional_component_waits_for_a_good_file() {
    let tested = load_with(b"not wasm", |config| {
        config.optional = true;
        config.on_error = OnError::Handled;
    });
    assert_eq!((standing(&tested), tested.generation()), (ComponentStanding::Absent, None));
    let asked = tested.predicate();
    assert!(tested.handles(200), "`on_error` answers");
    assert_eq!(tested.components.status()[0].skipped, 1);
    assert!(tested.components.status()[0].rejection.is_some());
    assert!(tested.components.roll_back(NAME).is_err());
    // What is in use binds it already.
    tested.overwrite(&guest(Exports::Fallback, &respond("(i32.const 2048)")));
    assert!(matches!(tested.components.reload(NAME), Reload::Rejected(_)));
    tested.overwrite(&version(1));
    assert!(matches!(
        tested.components.reload(NAME),
        Reload::Replaced(ComponentId { generation: 1, .. })
    ));
    assert!(!tested.handles(200));
    drop(asked);
}

#[test]
fn a_push_replaces_the_file_and_a_roll_back_puts_it_back() {
    let tested = load(&sound(1));
    assert!(matches!(tested.components.push(NAME, b"not wasm".to_vec()), Reload::Rejected(_)));
    assert!(has(&tested, &sound(1)));
    assert!(matches!(tested.components.push(NAME, version(2)), Reload::Replaced(_)));
    assert!(has(&tested, &version(2)));
    assert_eq!(tested.components.reload(NAME), Reload::Unchanged, "as the watcher will find");
    assert_eq!(tested.components.push(NAME, version(2)), Reload::Unchanged);
    let back = tested.components.roll_back(NAME).expect("there is one");
    assert_eq!((back.component.generation, back.from.generation, back.warning), (1, 2, None));
    assert!(has(&tested, &sound(1)));
    assert_eq!(roll_backs(&tested), [(1, 2, None)]);
    assert!(
        tested
            .components
            .roll_back(NAME)
            .expect_err("there is none")
            .contains("no earlier version")
    );

    // By itself it is put back by whoever may block: the next push, or who looks after the files.
    for bad in [3, 4] {
        assert!(matches!(tested.components.push(NAME, version(bad)), Reload::Replaced(_)));
        for _ in 0..4 {
            tested.handles(500);
        }
        eventually("a roll-back", || (tested.generation() == Some(1)).then_some(()));
        assert!(has(&tested, &version(bad)));
    }
    tested.components.settle();
    assert!(tested.components.status()[0].rejection.is_none());
    assert!(has(&tested, &sound(1)));
}

#[test]
fn a_file_that_others_have_changed_since_is_not_touched_by_a_roll_back() {
    let tested = load(&version(1));
    assert!(matches!(tested.components.push(NAME, version(2)), Reload::Replaced(_)));
    tested.overwrite(b"something else");
    let back = tested.components.roll_back(NAME).expect("there is one");
    assert!(back.warning.is_some_and(|warning| warning.contains("it was changed since")));
    assert!(has(&tested, b"something else"));
    // A file that no push has replaced is not ours.
    let tested = load(&version(1));
    tested.overwrite(&version(2));
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)));
    let warning = tested
        .components
        .roll_back(NAME)
        .expect("there is one")
        .warning
        .expect("a restart takes it");
    assert!(warning.ends_with("guest.wasm has other content"), "{warning}");
    assert!(has(&tested, &version(2)));
}

// ===== limits of their own =====

#[test]
fn every_limit_has_a_fault_of_its_own() {
    let asks = |times: u32| {
        let import = r#"(import "attempt" "number" (func $number (result i32)))"#;
        let body = format!(
            "(local $left i32) (local.set $left (i32.const {times}))
             (loop $again (drop (call $number))
               (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
             (i32.const 1)"
        );
        guest(Exports::Predicate, &format!("{import} {}", handle_if(&body)))
    };
    let tested = load_with(&asks(100), |config| config.host_calls = 100);
    assert!(tested.handles(200) && tested.handles(200), "the limit is one of each call");
    let tested = load_with(&asks(101), |config| config.host_calls = 100);
    assert!(!tested.handles(200));
    let said = "called the host more than 100 times in one call".to_owned();
    assert_eq!(tested.faulted(), [(Fault::HostCalls, said)]);

    let table = format!(
        "(table $table 10 funcref) {}",
        handle_if(
            "(if (i32.eq (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))
              (then unreachable))
             (i32.const 1)"
        )
    );
    let tested =
        load_with(&guest(Exports::Predicate, &table), |config| config.table_elements = 1009);
    assert!(!tested.handles(200));
    let [(Fault::Table, detail)] = &tested.faulted()[..] else { panic!("{:?}", tested.faulted()) };
    assert!(detail.starts_with("asked for more than 1009 table elements"), "{detail}");

    let shallow = "(func $deep (param i32)
                    (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1))))))";
    let deep = format!("{shallow} {}", handle_if("(call $deep (i32.const 8000)) (i32.const 1)"));
    for (stack, goes) in [(ConfigSize::kib(64), false), (ConfigSize::mib(1), true)] {
        let tested = load_with(&guest(Exports::Predicate, &deep), |config| config.stack = stack);
        assert_eq!(tested.handles(200), goes, "{stack}");
        assert_eq!(tested.faults(), if goes { vec![] } else { vec![Fault::Stack] });
    }
}

#[test]
fn calls_share_an_instance_unless_they_are_to_be_isolated() {
    let remembers = guest(
        Exports::Predicate,
        &format!(
            "(global $asked (mut i32) (i32.const 0)) {}",
            handle_if("(global.get $asked) (global.set $asked (i32.const 1))")
        ),
    );
    for (isolation, second) in [(Isolation::Reuse, true), (Isolation::PerCall, false)] {
        let tested = load_with(&remembers, |config| config.isolation = isolation);
        assert_eq!((tested.handles(200), tested.handles(200)), (false, second), "{isolation:?}");
        tested.components.refresh_instances();
        assert_eq!(tested.components.status()[0].instances, usize::from(second));
    }
}
