//! WebAssembly components as the predicates and responders of fusebox-resilience.
//!
//! # The life of a component
//!
//! 1. [`Components::load`] reads each file, compiles it, refuses what it may not import or does not
//!    export, starts it once and asks it about made-up outcomes. What passed sits in a slot under
//!    its name, as generation 1.
//! 2. A policy is built with [`Components::predicate`] or [`Components::responder`], which hold the
//!    slot.
//! 3. When the policy asks, the worker takes its own instance of the current version (or starts
//!    one), lends it the exchange, and calls it: synchronously, for as long as `timeout` allows.
//!    What the guest wants to know it asks for; nothing crosses before. The instance stays with the
//!    worker for the next call.
//! 4. A call that traps, overruns, asks for too much or answers nonsense costs only itself: its
//!    instance is dropped, `ComponentFaulted` says why, and `on_error` answers.
//! 5. [`Components::reload`] and [`Components::push`] put a new version in the slot, off the
//!    workers. Calls under way end on the old one, whose instances each worker drops with
//!    [`Components::refresh_instances`] when [`Components::changed`] fires. A bad version changes
//!    nothing.
//! 6. A new version is on probation: if it faults too often, the one before is put back.
//!    [`Components::roll_back`] does it by hand. A version that has proved itself and then keeps
//!    faulting is set aside, and tried again now and then.
//!
//! # What may block
//!
//! Loading, reloading, pushing and inspecting compile, for up to many seconds: keep them off the
//! workers. Asking never blocks: no function that a guest of the contract can import waits, and a
//! standard HTTP component (`http.rs`) gives its worker back while it waits.

mod attempt;
mod bindings;
mod cases;
mod code_cache;
mod compiler;
mod component;
mod config;
mod contract;
mod engine;
mod fault;
mod grants;
mod http;
mod inspect;
mod instances;
mod life;
mod limits;
mod predicate;
mod probe;
mod responder;
mod slot;
mod status;
mod throttle;
mod trial;
mod wasi;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{Observers, Predicate, Responder};
use tokio::sync::watch;

use crate::engine::Runtime;
use crate::predicate::ComponentPredicate;
use crate::responder::ComponentResponder;
use crate::slot::Slot;

pub use cases::{CaseReport, Cases, Difference};
pub use code_cache::CodeCache;
pub use compiler::{Compiler, compile_child};
pub use component::LARGEST_FILE;
pub use config::{ComponentConfig, Grant, HttpHost, Isolation, OnError, Probation};
pub use contract::{WIT, World, imports};
pub use inspect::{Inspection, inspect};
pub use life::Standing;
pub use slot::{Reload, RollBack};
pub use status::{CallHistogram, ComponentStatus, Rejection};
pub use trial::{BenchReport, CallTimes, Trial};

/// All components of a configuration, by name. Clones are the same components.
#[derive(Clone, Debug)]
pub struct Components {
    slots: Arc<BTreeMap<String, Arc<Slot>>>,
    swaps: watch::Sender<u64>,
}

impl Components {
    /// Loads every component; relative files are relative to `directory`. Blocks while `compiler`
    /// compiles.
    ///
    /// # Errors
    /// For each component that is not acceptable its name, and why.
    pub fn load(
        configs: BTreeMap<String, ComponentConfig>,
        directory: &Path,
        compiler: Compiler,
        observers: Observers,
    ) -> Result<Self, Vec<(String, anyhow::Error)>> {
        let swaps = watch::Sender::new(0);
        let (mut slots, mut failures, mut runtimes) =
            (BTreeMap::new(), Vec::new(), Runtimes::new(compiler, &configs));
        for (name, mut config) in configs {
            let file = directory.join(&config.file);
            config.cases = config.cases.map(|cases| directory.join(cases));
            let place = format!("component `{name}` ({})", file.display());
            let slot = runtimes.of(&config).and_then(|runtime| {
                Slot::load(slot::Parts {
                    name: name.as_str().into(),
                    file,
                    config: config.into(),
                    runtime,
                    observers: observers.clone(),
                    swaps: swaps.clone(),
                })
            });
            match slot {
                Ok(slot) => {
                    slots.insert(name, Arc::new(slot));
                }
                Err(error) => failures.push((name, error.context(place))),
            }
        }
        if failures.is_empty() { Ok(Self { slots: Arc::new(slots), swaps }) } else { Err(failures) }
    }

    fn slot(&self, name: &str) -> Result<&Arc<Slot>, String> {
        self.slots.get(name).ok_or_else(|| {
            let names: Vec<_> = self.slots.keys().map(|name| format!("`{name}`")).collect();
            let there_are = if names.is_empty() {
                "there are none".into()
            } else {
                format!("there are {}", names.join(", "))
            };
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
    /// There is none, or it exports neither `fallback` nor the standard handler of HTTP requests.
    pub fn responder(&self, name: &str) -> Result<Arc<dyn Responder>, String> {
        let slot = self.slot(name)?;
        slot.need_fallback()?;
        Ok(Arc::new(ComponentResponder(slot.clone())))
    }

    /// Whether there is a component of this name.
    pub fn has(&self, name: &str) -> bool {
        self.slots.contains_key(name)
    }

    /// Every component's name and file, for whoever watches files.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.slots.iter().map(|(name, slot)| (name.as_str(), slot.file()))
    }

    /// Replaces a component by what is in its file now, if that is new and acceptable; the
    /// observers hear of it. Blocks while it compiles.
    ///
    /// The new version must still export what policies were built on. What was rolled back is not
    /// taken again.
    pub fn reload(&self, name: &str) -> Reload {
        self.slot(name).map_or_else(Reload::Rejected, |slot| slot.reload())
    }

    /// [`reload`](Self::reload) of every component, and what became of each.
    pub fn reload_all(&self) -> BTreeMap<String, Reload> {
        self.slots.iter().map(|(name, slot)| (name.clone(), slot.reload())).collect()
    }

    /// Replaces a component by these bytes, and then its file, durably. As [`reload`](Self::reload)
    /// otherwise, but what was rolled back is taken again.
    pub fn push(&self, name: &str, bytes: Vec<u8>) -> Reload {
        self.slot(name).map_or_else(Reload::Rejected, |slot| slot.push(bytes))
    }

    /// Puts the version before the one in use back, without probation; its file too, if that was
    /// replaced by a push. Blocks while it writes.
    ///
    /// # Errors
    /// There is no component of this name, or no earlier version of it is kept.
    pub fn roll_back(&self, name: &str) -> Result<RollBack, String> {
        self.slot(name)?.roll_back()
    }

    /// Puts files back whose content was pushed and has been rolled back by itself since, which
    /// workers have no time for. Blocks while it writes.
    pub fn settle(&self) {
        self.slots.values().for_each(|slot| slot.settle());
    }

    /// Drops this thread's instances of versions that were replaced, and starts those of the
    /// versions in use.
    ///
    /// Each worker calls it when [`changed`](Self::changed) fires. It is no condition for a swap
    /// (no call begins on a replaced version), but without it an old instance would stay until
    /// its component is asked again, and that call would wait for the new one to start.
    pub fn refresh_instances(&self) {
        instances::drop_stale();
        self.slots.values().for_each(|slot| slot.warm());
    }

    /// What each component has done so far, in the order of their names.
    pub fn status(&self) -> Vec<ComponentStatus> {
        self.slots.values().map(|slot| slot.status()).collect()
    }

    /// Changes at each swap and roll-back. Workers then call
    /// [`refresh_instances`](Self::refresh_instances).
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.swaps.subscribe()
    }
}

/// The runtimes that components need: one for each size of stack, which is usually one. No
/// component, no engine and no ticking thread.
struct Runtimes {
    compiler: Compiler,
    shortest_timeout: Duration,
    by_stack: BTreeMap<usize, Arc<Runtime>>,
}

impl Runtimes {
    fn new(compiler: Compiler, configs: &BTreeMap<String, ComponentConfig>) -> Self {
        let shortest_timeout =
            configs.values().map(|config| config.timeout.0).min().unwrap_or_default();
        Self { compiler, shortest_timeout, by_stack: BTreeMap::new() }
    }

    fn of(&mut self, config: &ComponentConfig) -> anyhow::Result<Arc<Runtime>> {
        match self.by_stack.entry(config.stack()) {
            Entry::Occupied(runtime) => Ok(runtime.get().clone()),
            Entry::Vacant(entry) => {
                let runtime = Arc::new(Runtime::new(
                    self.compiler.clone(),
                    self.shortest_timeout,
                    *entry.key(),
                )?);
                Ok(entry.insert(runtime).clone())
            }
        }
    }
}
