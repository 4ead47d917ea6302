//! The memory of all guests together.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use fusebox_resilience::config::ConfigSize;
use fusebox_resilience::testing::Recorder;
use fusebox_resilience::{ComponentEvent, EventKind, Fault, Slot};
use fusebox_wasm::{
    Compiler, ComponentConfig, ComponentMemory, ComponentStanding, Components, Probation,
};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::guest::predicate;
use crate::support::Seen;

/// What a guest has at first, and what it grows by if it is asked about a 500.
const AT_FIRST: usize = 1 << 16;
const GROWTH: usize = 1 << 20;

/// Needs more memory with every 500, and traps if it gets none.
fn grows() -> Vec<u8> {
    predicate(
        "(if (i32.eq (local.get $value) (i32.const 500))
           (then (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))))
         (i32.const 1)",
    )
}

/// Two components that do so, which together may hold so much.
struct Two {
    components: Components,
    recorder: Recorder,
    _directory: TempDir,
}

impl Two {
    fn within(memory: usize) -> Self {
        let directory = TempDir::new().expect("a directory");
        fs::write(directory.path().join("guest.wasm"), grows()).expect("a file");
        let mut config = ComponentConfig::new("guest.wasm");
        config.timeout = fusebox_resilience::config::ConfigDuration::from_secs(20);
        (config.probation, config.quarantine_after) = (Probation::Calls(0), 1);
        let configs = BTreeMap::from([("a".into(), config.clone()), ("b".into(), config)]);
        let recorder = Recorder::default();
        let (memory, observers) = (ComponentMemory::within(ConfigSize(memory as u64)), &recorder);
        let components = Components::load(
            configs,
            directory.path(),
            Compiler::in_process(),
            memory,
            observers.observers(),
        );
        let components = components.expect("they are good");
        Self { components, recorder, _directory: directory }
    }

    fn asks(&self, name: &str, status: u16) -> bool {
        let asked = self.components.predicate(name).expect("it is one");
        Seen::from(status)
            .asked(&self.recorder, Slot::HandleIf, |seen| asked.judge(seen).is_handled())
    }

    fn faults(&self) -> Vec<(Fault, String)> {
        let fault = |kind| match kind {
            EventKind::Component(ComponentEvent::Faulted { fault, detail, .. }) => {
                Some((fault, detail.to_string()))
            }
            _ => None,
        };
        self.recorder.kinds().into_iter().filter_map(fault).collect()
    }

    /// What each of them holds.
    fn held(&self) -> [usize; 2] {
        let status = self.components.status();
        [status[0].memory, status[1].memory]
    }
}

#[test]
fn one_that_wants_the_memory_of_others_does_not_get_it_and_is_not_blamed() {
    let two = Two::within(2 * AT_FIRST + GROWTH);
    assert_eq!(two.held(), [0; 2], "trials have given theirs back");
    assert!(two.asks("a", 503) && two.asks("b", 503));
    assert_eq!(two.held(), [AT_FIRST; 2]);
    assert!(two.asks("a", 500));
    assert_eq!(two.held(), [AT_FIRST + GROWTH, AT_FIRST]);
    assert_eq!(two.faults(), []);
    two.asks("b", 500);
    let [(Fault::TotalMemory, detail)] = &two.faults()[..] else { panic!("{:?}", two.faults()) };
    let said = "all components together would hold more than 1152KiB of memory: ";
    assert!(detail.starts_with(said), "{detail}");
    assert_eq!(two.held(), [AT_FIRST + GROWTH, 0], "what failed is gone");
    assert_eq!(two.components.status()[1].standing, ComponentStanding::Serving, "not set aside");
    assert!(two.asks("b", 503) && two.asks("a", 503));
    assert_eq!(two.faults().len(), 1);
}

#[test]
fn an_instance_that_can_not_even_start_is_not_blamed_either() {
    let two = Two::within(AT_FIRST + GROWTH);
    assert!(two.asks("a", 500));
    two.asks("b", 503);
    assert_eq!(
        two.faults().into_iter().map(|(fault, _)| fault).collect::<Vec<_>>(),
        [Fault::TotalMemory]
    );
    assert_eq!(two.components.status()[1].standing, ComponentStanding::Serving);
}

#[test]
fn an_instance_that_has_grown_and_is_not_called_gives_its_memory_back() {
    let two = Two::within(1 << 30);
    assert!(two.asks("a", 500) && two.asks("b", 503));
    let (a, b) = (AT_FIRST + GROWTH, AT_FIRST);
    two.components.give_back_memory(Instant::now());
    assert_eq!(two.held(), [a, b], "it may be called again");
    let later = Instant::now() + Duration::from_secs(11);
    two.components.give_back_memory(later);
    assert_eq!(two.held(), [AT_FIRST, b], "a fresh one is ready in its place");
    assert_eq!(two.components.status()[0].instances, 1);
    two.components.give_back_memory(later);
    assert_eq!(two.held(), [AT_FIRST, b]);
}
