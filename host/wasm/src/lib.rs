//! WebAssembly components as the predicates and responders of fusebox-resilience.
//!
//! # The life of a component
//!
//! 1. [`Components::load`] reads each file, compiles it, refuses what it may not import or does not export, and starts it
//!    once. What passed sits in a slot under its name, as generation 1.
//! 2. A policy is built with [`Components::predicate`] or [`Components::responder`], which hold the slot.
//! 3. When the policy asks, the worker takes its own instance of the current version (or starts one), lends it the exchange,
//!    and calls it: synchronously, for as long as `timeout` allows. What the guest wants to know it asks for; nothing crosses
//!    before. The instance stays with the worker for the next call.
//! 4. A call that traps, overruns, asks for too much or answers nonsense costs only itself: its instance is dropped,
//!    `ComponentFaulted` says why, and `on_error` answers.
//! 5. [`Components::reload`] puts a new version in the slot, off the workers. Calls under way end on the old one, whose
//!    instances each worker drops with [`drop_stale_instances`] when [`Components::changed`] fires. A bad file changes nothing.
//!
//! # What may block
//!
//! Loading, reloading and inspecting compile, for up to many seconds: keep them off the workers. Asking never blocks; no
//! function that a guest can import waits.

mod attempt;
mod bindings;
mod code_cache;
mod compiler;
mod component;
mod config;
mod engine;
mod fault;
mod grants;
mod inspect;
mod instances;
mod limits;
mod predicate;
mod responder;
mod slot;
mod status;
mod wasi;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::anyhow;
use fusebox_resilience::{Observers, Predicate, Responder};
use tokio::sync::watch;

use crate::engine::Runtime;
use crate::predicate::ComponentPredicate;
use crate::responder::ComponentResponder;
use crate::slot::Slot;

pub use code_cache::CodeCache;
pub use compiler::{Compiler, compile_child};
pub use config::{ComponentConfig, OnError};
pub use inspect::{Inspection, inspect};
pub use instances::drop_stale_instances;
pub use slot::Reload;
pub use status::ComponentStatus;

/// All components of a configuration, by name. Clones are the same components.
#[derive(Clone, Debug)]
pub struct Components {
    slots: Arc<BTreeMap<String, Arc<Slot>>>,
    swaps: watch::Sender<u64>,
}

impl Components {
    /// Loads every component; relative files are relative to `directory`. Blocks while `compiler` compiles.
    ///
    /// # Errors
    /// For each component that is not acceptable its name, and why.
    pub fn load(
        configs: BTreeMap<String, ComponentConfig>,
        directory: &Path,
        compiler: Compiler,
        observers: Observers,
    ) -> Result<Self, Vec<(String, anyhow::Error)>> {
        // No component, no engine and no ticking thread.
        let Some(shortest_timeout) = configs.values().map(|config| config.timeout.0).min() else {
            return Ok(Self::of(BTreeMap::new()));
        };
        let runtime = match Runtime::new(compiler, shortest_timeout) {
            Ok(runtime) => Arc::new(runtime),
            Err(error) => {
                return Err(configs.into_keys().map(|name| (name, anyhow!("{error:#}"))).collect());
            }
        };
        let (mut slots, mut failures) = (BTreeMap::new(), Vec::new());
        for (name, config) in configs {
            let file = directory.join(&config.file);
            let place = format!("component `{name}` ({})", file.display());
            match Slot::load(name.as_str().into(), file, config.into(), runtime.clone(), observers.clone()) {
                Ok(slot) => {
                    slots.insert(name, Arc::new(slot));
                }
                Err(error) => failures.push((name, error.context(place))),
            }
        }
        if failures.is_empty() { Ok(Self::of(slots)) } else { Err(failures) }
    }

    fn of(slots: BTreeMap<String, Arc<Slot>>) -> Self {
        Self { slots: Arc::new(slots), swaps: watch::Sender::new(0) }
    }

    fn slot(&self, name: &str) -> Result<&Arc<Slot>, String> {
        self.slots.get(name).ok_or_else(|| {
            let names: Vec<_> = self.slots.keys().map(|name| format!("`{name}`")).collect();
            let there_are =
                if names.is_empty() { "there are none".into() } else { format!("there are {}", names.join(", ")) };
            format!("no component `{name}`; {there_are}")
        })
    }

    /// The component of this name as a condition.
    ///
    /// # Errors
    /// There is none, or it exports no `predicate`.
    pub fn predicate(&self, name: &str) -> Result<Arc<dyn Predicate>, String> {
        let slot = self.slot(name)?;
        slot.need_predicate()?;
        Ok(Arc::new(ComponentPredicate(slot.clone())))
    }

    /// The component of this name as a source of fallback responses.
    ///
    /// # Errors
    /// There is none, or it exports no `fallback`.
    pub fn responder(&self, name: &str) -> Result<Arc<dyn Responder>, String> {
        let slot = self.slot(name)?;
        slot.need_fallback()?;
        Ok(Arc::new(ComponentResponder(slot.clone())))
    }

    /// Every component's name and file, for whoever watches files.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.slots.iter().map(|(name, slot)| (name.as_str(), slot.file()))
    }

    /// Replaces a component by what is in its file now, if that is new and acceptable; the observers hear of it. Blocks
    /// while it compiles.
    ///
    /// The new version must still export what policies were built on.
    pub fn reload(&self, name: &str) -> Reload {
        let slot = match self.slot(name) {
            Ok(slot) => slot,
            Err(reason) => return Reload::Rejected(reason),
        };
        let reload = slot.reload();
        if let Reload::Replaced(_) = reload {
            self.swaps.send_modify(|swaps| *swaps += 1);
        }
        reload
    }

    /// What each component has done so far, in the order of their names.
    pub fn status(&self) -> Vec<ComponentStatus> {
        self.slots.values().map(|slot| slot.status()).collect()
    }

    /// Changes at each swap. Workers then call [`drop_stale_instances`].
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }
}
