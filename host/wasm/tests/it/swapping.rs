//! Replacing a component while it is in use.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

use fusebox_dev::{handle_if, respond, trailer_predicate};
use fusebox_resilience::{ComponentEvent, EventKind, Slot};
use fusebox_wasm::Reload;

use crate::guest::{Exports, guest, predicate};
use crate::support::{NAME, Seen, load, load_with};

const ALWAYS: &str = "(i32.const 1)";
const NEVER: &str = "(i32.const 0)";

#[test]
fn a_new_version_answers_from_the_next_call_on() {
    let tested = load(&predicate(ALWAYS));
    let (asked, changed) = (tested.predicate(), tested.components.changed());
    let handles = || {
        Seen::from(503)
            .asked(&tested.recorder, Slot::HandleIf, |seen| asked.judge(seen).is_handled())
    };
    assert!(handles());
    assert_eq!(tested.components.reload(NAME), Reload::Unchanged);
    assert!(!changed.has_changed().expect("it is still there"));
    tested.overwrite(&predicate(NEVER));
    let Reload::Replaced(component) = tested.components.reload(NAME) else { panic!("it is new") };
    assert!(changed.has_changed().expect("it is still there"));
    assert!(!handles());
    let [first, second] = &tested.loaded()[..] else { panic!("two versions") };
    assert_eq!(second, &component);
    assert_eq!((first.generation, second.generation), (1, 2));
    let replaces_first = |kind: &EventKind| match kind {
        EventKind::Component(ComponentEvent::Loaded { replaced, .. }) => {
            replaced.as_ref() == Some(first)
        }
        _ => false,
    };
    assert!(tested.recorder.kinds().iter().any(replaces_first));
}

#[test]
fn whether_trailers_are_read_is_of_the_version_in_use_by_what_it_imports() {
    // `guest` imports all of the contract, the other what its text asks for.
    let reads = predicate(NEVER);
    let does_not = fusebox_dev::predicate(NEVER);
    let tested = load(&does_not);
    let asked = tested.predicate();
    assert!(!asked.reads_trailers());
    tested.overwrite(&reads);
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)));
    assert!(asked.reads_trailers());
    tested.components.roll_back(NAME).expect("there is one before");
    assert!(!asked.reads_trailers());
    tested.overwrite(&trailer_predicate("x", ALWAYS));
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)));
    assert!(asked.reads_trailers());
}

#[test]
fn a_bad_file_changes_nothing() {
    let tested = load(&predicate(ALWAYS));
    for bad in [
        &b"not wasm"[..],
        &predicate(NEVER)[..100],
        &guest(Exports::Predicate, "(start 0) (func unreachable)"),
    ] {
        tested.overwrite(bad);
        let Reload::Rejected(reason) = tested.components.reload(NAME) else { panic!("it is bad") };
        let Some(EventKind::Component(ComponentEvent::Rejected { name, reason: said, .. })) =
            tested.recorder.kinds().pop()
        else {
            panic!("it is not said")
        };
        assert_eq!((&*name, &*said), (NAME, &*reason));
        assert!(tested.handles(503));
    }
    fs::remove_file(tested.file()).expect("it was there");
    assert!(matches!(tested.components.reload(NAME), Reload::Rejected(_)));
    assert!(tested.handles(503));
    assert_eq!(tested.generation(), Some(1));
    assert!(matches!(tested.components.reload("absent"), Reload::Rejected(_)));
}

#[test]
fn a_new_version_must_export_what_is_in_use() {
    let both = guest(Exports::Both, &(handle_if(ALWAYS) + &respond("unreachable")));
    let tested = load(&both);
    tested.predicate();
    tested.overwrite(&guest(Exports::Fallback, &respond("unreachable")));
    let Reload::Rejected(reason) = tested.components.reload(NAME) else {
        panic!("the predicate is in use")
    };
    assert!(
        reason.contains("missing export `fusebox:policy/predicate@0.1.0`, which is in use"),
        "{reason}"
    );
    tested.overwrite(&predicate(NEVER));
    assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)), "the fallback is not");
}

#[test]
fn a_worker_that_is_told_drops_its_old_instance_and_has_the_new_one_ready() {
    let tested = load(&predicate(ALWAYS));
    let instances = || tested.components.status()[0].instances;
    tested.handles(503);
    assert_eq!(instances(), 1);
    tested.overwrite(&predicate(NEVER));
    tested.components.reload(NAME);
    assert_eq!(instances(), 1);
    // The new one's instance is there before anybody asks it; a second time there is nothing to do.
    tested.components.refresh_instances();
    tested.components.refresh_instances();
    assert_eq!((instances(), tested.components.status()[0].calls), (1, 1));
    assert!(!tested.handles(503));
    assert_eq!(instances(), 1);
}

#[test]
fn calls_under_way_end_on_the_old_version() {
    let tested = load_with(&predicate(ALWAYS), |_| {});
    let asked = tested.predicate();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (sender, answers) = mpsc::channel();
        let caller = scope.spawn(|| {
            let recorder = fusebox_resilience::testing::Recorder::default();
            let sender = sender;
            while !stop.load(SeqCst) {
                let answer = Seen::from(503)
                    .asked(&recorder, Slot::HandleIf, |seen| asked.judge(seen).is_handled());
                sender.send(answer).expect("somebody listens");
            }
            recorder.kinds()
        });
        assert!(answers.recv().expect("it is running"));
        for (round, (body, expected)) in
            [(NEVER, false), (ALWAYS, true)].repeat(5).into_iter().enumerate()
        {
            tested.overwrite(&predicate(body));
            assert!(matches!(tested.components.reload(NAME), Reload::Replaced(_)), "round {round}");
            // It may take a call that had begun before; then all are of the new version.
            assert!(answers.iter().take(100_000).any(|answer| answer == expected), "round {round}");
        }
        stop.store(true, SeqCst);
        assert_eq!(caller.join().expect("no panic"), [], "no call failed");
    });
    assert_eq!(tested.generation(), Some(11));
    assert_eq!(
        tested.components.status()[0].instances,
        0,
        "a thread that ends takes its instances along"
    );
}
