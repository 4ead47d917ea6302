//! The life of components.

use std::sync::Arc;

use fusebox_resilience::ComponentEvent;
use prometheus_client::metrics::counter::Counter;

use super::counts::{outcome_index, outcome_word};
use super::family::{Counters, Families, Labels, of};

#[derive(Debug)]
pub(super) struct ComponentCounters {
    loads: Counters<2>,
    quarantines: Counters<1>,
    excused: Counters<1>,
    requests: Counters<2>,
}

impl ComponentCounters {
    pub(super) fn new(new: &mut Families<'_>) -> Self {
        Self {
            loads: new.counters(
                "component_loads",
                "Versions of a component that were loaded, rejected, overtaken or put back",
            ),
            quarantines: new
                .counters("component_quarantines", "Times that a component was set aside"),
            excused: new.counters(
                "component_faults_excused",
                "Faults on probation that do not count, since the version before faults too",
            ),
            requests: new.counters(
                "component_requests",
                "Requests of a component to others, by class of status or by failure",
            ),
        }
    }

    /// Makes the series of a component appear, at 0; those of its versions do when they are loaded.
    pub(super) fn announce(&self, component: &Arc<str>) {
        for result in ["loaded", "rejected", "overtaken", "rolled-back"] {
            self.load(component, result);
        }
        of(&self.quarantines, labels(component));
        of(&self.excused, labels(component));
    }

    /// The counter of an event, which exists from then on; `None` if it is counted otherwise.
    pub(super) fn counter(&self, event: &ComponentEvent) -> Option<Counter> {
        Some(match event {
            ComponentEvent::Loaded { component, .. } => self.load(&component.name, "loaded"),
            ComponentEvent::Rejected { name, .. } => self.load(name, "rejected"),
            ComponentEvent::Overtaken { name, .. } => self.load(name, "overtaken"),
            ComponentEvent::RolledBack { component, .. } => {
                self.load(&component.name, "rolled-back")
            }
            ComponentEvent::Excused { component, .. } => of(&self.excused, labels(&component.name)),
            ComponentEvent::Quarantined { component, .. } => {
                of(&self.quarantines, labels(&component.name))
            }
            ComponentEvent::Asked { component, outcome, .. } => {
                let outcome = outcome_word(outcome_index(*outcome));
                let component = ("component", (&component.name).into());
                of(&self.requests, [component, ("outcome", outcome.into())])
            }
            // Lines are for reading, faults are counted by version (`faults.rs`), the state at a
            // scrape says who is back, and what the system lacks does not change.
            ComponentEvent::Printed { .. }
            | ComponentEvent::Captured { .. }
            | ComponentEvent::Unconfined { .. }
            | ComponentEvent::Faulted { .. }
            | ComponentEvent::Released { .. } => return None,
        })
    }

    fn load(&self, component: &Arc<str>, result: &'static str) -> Counter {
        of(&self.loads, [("component", component.into()), ("result", result.into())])
    }
}

fn labels(component: &Arc<str>) -> Labels<1> {
    [("component", component.into())]
}
