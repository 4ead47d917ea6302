//! What policies find around them while they are built.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{
    Answer, Budget, DelayDecision, Delayer, Exchange, KeyQuestion, Keyer, Parts, Predicate,
    Responder, Verdict,
};
use fusebox_wasm::Components;
use tokio::time::Instant;

use crate::config::Places;

/// What policies may look up while they are built.
pub(super) struct Surroundings<'a> {
    pub(super) places: &'a Places,
    /// `None`: some can't be loaded.
    pub(super) components: Option<&'a Components>,
    pub(super) budgets: BTreeMap<String, Arc<Budget>>,
}

impl Surroundings<'_> {
    /// `None`: declared, but wrong or failed to load; its error has been reported.
    fn component(&self, name: &str) -> Result<Option<&Components>, String> {
        self.places.look_up("components", "component", name)?;
        let is_loaded =
            |components: &&Components| components.files().any(|(loaded, _)| loaded == name);
        Ok(self.components.filter(is_loaded))
    }
}

impl Parts for Surroundings<'_> {
    fn predicate(&self, component: &str) -> Result<Arc<dyn Predicate>, String> {
        self.component(component)?
            .map_or(Ok(Arc::new(NotLoaded)), |components| components.predicate(component))
    }

    fn responder(&self, component: &str) -> Result<Arc<dyn Responder>, String> {
        self.component(component)?
            .map_or(Ok(Arc::new(NotLoaded)), |components| components.responder(component))
    }

    fn delayer(&self, component: &str) -> Result<Arc<dyn Delayer>, String> {
        self.component(component)?
            .map_or(Ok(Arc::new(NotLoaded)), |components| components.delayer(component))
    }

    fn keyer(&self, component: &str) -> Result<Arc<dyn Keyer>, String> {
        self.component(component)?
            .map_or(Ok(Arc::new(NotLoaded)), |components| components.keyer(component))
    }

    fn upstream(&self, name: &str) -> Result<(), String> {
        self.places.look_up("upstreams", "upstream", name)
    }

    fn budget(&self, name: &str) -> Result<Arc<Budget>, String> {
        self.places.look_up("budgets", "budget", name)?;
        // A budget that is wrong has been reported; the default one takes its place.
        let another = || Arc::new(Budget::of_upstream(Instant::now()));
        Ok(self.budgets.get(name).cloned().unwrap_or_else(another))
    }
}

/// A placeholder for a component that can't be loaded, so that the rest of the file is checked,
/// too. It is never asked: its error stops the start.
#[derive(Debug)]
struct NotLoaded;

impl Predicate for NotLoaded {
    fn judge(&self, seen: &Exchange<'_>) -> Verdict {
        Verdict::native(seen.default_answer())
    }
}

impl Responder for NotLoaded {
    fn respond<'a>(&'a self, _: &'a Exchange<'a>) -> Answer<'a> {
        Answer::Now(None)
    }
}

impl Delayer for NotLoaded {
    fn after(&self, _: &Exchange<'_>, _: Duration, _: u32) -> DelayDecision {
        DelayDecision::Own
    }
}

impl Keyer for NotLoaded {
    fn key(&self, _: &KeyQuestion<'_>) -> Option<String> {
        None
    }
}
