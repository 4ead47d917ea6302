//! The faults of components, counted by version.

use std::sync::{Mutex, PoisonError};

use fusebox_resilience::{ComponentEvent, ComponentId, EventKind, Fault};

use super::family::{Counters, Labels, of};

/// How many versions of a component have series of faults: more than are kept, and few enough for
/// years of swaps.
const VERSIONS: usize = 8;

/// The faults of components by version, since the first question about a fault is which version has
/// it.
#[derive(Debug)]
pub(super) struct Faults {
    counters: Counters<3>,
    /// Which have series, those that were in use last at the end.
    versions: Mutex<Vec<ComponentId>>,
}

impl Faults {
    pub(super) fn new(counters: Counters<3>) -> Self {
        Self { counters, versions: Mutex::default() }
    }

    fn labels(component: &ComponentId, fault: Fault) -> Labels<3> {
        [
            ("component", (&component.name).into()),
            ("digest", (&component.digest).into()),
            ("fault", fault.name().into()),
        ]
    }

    /// Counts what is a fault, and lets series appear with their versions.
    pub(super) fn observe(&self, kind: &EventKind) {
        match kind {
            EventKind::Component(ComponentEvent::Faulted { component, fault, .. }) => {
                self.count(component, *fault);
            }
            EventKind::Component(
                ComponentEvent::Loaded { component, .. }
                | ComponentEvent::RolledBack { component, .. },
            ) => self.announce(component),
            _ => {}
        }
    }

    /// Makes the series of a version appear, at 0, and those of the oldest of too many vanish.
    fn announce(&self, component: &ComponentId) {
        // What a panic elsewhere could leave here is a version without its zeros.
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = |other: &ComponentId| {
            (&other.name, &other.digest) == (&component.name, &component.digest)
        };
        versions.retain(|version| !is_same(version));
        versions.push(component.clone());
        for fault in Fault::ALL {
            of(&self.counters, Self::labels(component, fault));
        }
        if versions.iter().filter(|version| version.name == component.name).count() > VERSIONS
            && let Some(oldest) = versions.iter().position(|version| version.name == component.name)
        {
            let oldest = versions.remove(oldest);
            for fault in Fault::ALL {
                self.counters.remove(&Self::labels(&oldest, fault).into());
            }
        }
    }

    /// A version may fault before it is told of, and once more after its series went.
    fn count(&self, component: &ComponentId, fault: Fault) {
        let labels = Self::labels(component, fault);
        if self.counters.get(&labels.clone().into()).is_none() {
            self.announce(component);
        }
        of(&self.counters, labels).inc();
    }
}
