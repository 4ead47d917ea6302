//! One version of a component: checked, compiled and ready to be instantiated.
//!
//! A version never changes, and its holders can keep using it. When another version replaces it, it
//! is *retired*, which tells workers to drop the instances that they keep.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow, ensure};
use fusebox_resilience::ComponentId;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use crate::bounds::Bounds;
use crate::config::ComponentConfig;
use crate::contract::{ContractExport, HANDLER, TRAILER, is_attempt, is_handler};
use crate::engine::anyhow_of;
use crate::exports::Exports;
use crate::grants;
use crate::http::handler::HttpHandler;
use crate::memory::MemoryAccount;
use crate::meters::Meters;
use crate::overtaken::Overtaken;
use crate::runtime::Runtime;
use crate::store::HostState;

/// A component whose imports and exports are resolved.
struct Linked {
    pre: InstancePre<HostState>,
    exports: Exports,
    reads_trailers: bool,
    /// Set if it makes fallback responses as a standard HTTP component, and not by the contract.
    handler: Option<HttpHandler>,
}

/// Resolves what a component imports and exports.
///
/// # Errors
/// It imports what is not granted, or exports none of the interfaces that policies ask.
fn link(runtime: &Runtime, component: &Component) -> anyhow::Result<Linked> {
    let is_handler = exports(runtime, component).iter().any(|name| is_handler(name));
    let imports = imports(runtime, component);
    let refused: Vec<_> =
        imports.iter().filter_map(|name| grants::refusal(name, is_handler)).collect();
    ensure!(refused.is_empty(), "{}", refused.join("; "));
    let pre = runtime
        .linker()
        .instantiate_pre(component)
        .map_err(anyhow_of)
        .context("an import has a wrong type")?;
    let exports = Exports::find(&pre)?;
    let [predicate, fallback, delay, key] = ContractExport::ALL.map(ContractExport::name);
    ensure!(
        exports.are_any() || is_handler,
        "missing export `{predicate}` or `{fallback}`, `{delay}`, `{key}`, or `{HANDLER}`"
    );
    let handler = (is_handler && !exports.has(ContractExport::Fallback))
        .then(|| HttpHandler::link(runtime, component))
        .transpose()?;
    Ok(Linked { pre, exports, reads_trailers: reads_trailers(runtime, component), handler })
}

/// Whether it imports what gives it a trailer.
pub(crate) fn reads_trailers(runtime: &Runtime, component: &Component) -> bool {
    let engine = runtime.engine();
    component.component_type().imports(engine).any(|(name, import)| match import.ty {
        ComponentItem::ComponentInstance(interface) if is_attempt(name) => {
            interface.exports(engine).any(|(function, _)| function == TRAILER)
        }
        _ => false,
    })
}

/// The names of all that it imports.
pub(crate) fn imports(runtime: &Runtime, component: &Component) -> Vec<String> {
    component.component_type().imports(runtime.engine()).map(|(name, _)| name.to_owned()).collect()
}

/// The names of all that it exports.
pub(crate) fn exports(runtime: &Runtime, component: &Component) -> Vec<String> {
    component.component_type().exports(runtime.engine()).map(|(name, _)| name.to_owned()).collect()
}

/// A component under a name and a generation, compiled and linked.
pub(crate) struct Version {
    bounds: Arc<Bounds>,
    config: Arc<ComponentConfig>,
    /// Keeps the ticker alive: without it no guest could be interrupted.
    runtime: Arc<Runtime>,
    pre: InstancePre<HostState>,
    exports: Exports,
    reads_trailers: bool,
    handler: Option<HttpHandler>,
    meters: Arc<Meters>,
    retired: AtomicBool,
}

impl Version {
    /// Links a compiled component. It has not been instantiated yet.
    ///
    /// # Errors
    /// It is not an acceptable component.
    pub(crate) fn link(
        component: &Component,
        id: ComponentId,
        config: Arc<ComponentConfig>,
        runtime: Arc<Runtime>,
        meters: Arc<Meters>,
        overtaken: Overtaken,
    ) -> anyhow::Result<Self> {
        let Linked { pre, exports, reads_trailers, handler } = link(&runtime, component)?;
        let bounds = Arc::new(Bounds::new(id, &config, overtaken));
        let retired = AtomicBool::new(false);
        Ok(Self { bounds, config, runtime, pre, exports, reads_trailers, handler, meters, retired })
    }

    /// The same code with other settings.
    ///
    /// # Errors
    /// The same as for the first link.
    pub(crate) fn with_settings(
        &self,
        settings: &BTreeMap<String, String>,
    ) -> anyhow::Result<Self> {
        let config = ComponentConfig { settings: settings.clone(), ..(*self.config).clone() };
        Self::link(
            self.pre.component(),
            self.id().clone(),
            config.into(),
            self.runtime.clone(),
            self.meters.clone(),
            self.overtaken().clone(),
        )
    }

    pub(crate) fn id(&self) -> &ComponentId {
        &self.bounds.component
    }

    pub(crate) fn config(&self) -> &ComponentConfig {
        &self.config
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn pre(&self) -> &InstancePre<HostState> {
        &self.pre
    }

    pub(crate) fn exports(&self) -> &Exports {
        &self.exports
    }

    /// Whether it can ask for a trailer: as a predicate it is asked again when they have come.
    pub(crate) fn reads_trailers(&self) -> bool {
        self.reads_trailers
    }

    /// The handler of a standard HTTP component, if it is one.
    pub(crate) fn handler(&self) -> Option<&HttpHandler> {
        self.handler.as_ref()
    }

    /// Whether it has what answers such questions; a standard HTTP component responds, too.
    pub(crate) fn has(&self, export: ContractExport) -> bool {
        self.exports.has(export) || export == ContractExport::Fallback && self.handler.is_some()
    }

    pub(crate) fn bounds(&self) -> &Arc<Bounds> {
        &self.bounds
    }

    /// Whether it is still wanted, as long as it is tried out.
    pub(crate) fn overtaken(&self) -> &Overtaken {
        &self.bounds.overtaken
    }

    /// For a new instance.
    pub(crate) fn open_memory(&self) -> MemoryAccount {
        MemoryAccount::open(self.runtime.memory(), &self.meters)
    }

    pub(crate) fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// It has been replaced, or its component is gone. Calls in flight may still finish.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// It is current again after a roll-back.
    pub(crate) fn reinstate(&self) {
        self.retired.store(false, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }
}

/// Checks that `version` has the exports in use.
pub(crate) fn check_exports(
    version: &Version,
    needs: &BTreeSet<ContractExport>,
) -> anyhow::Result<()> {
    match needs.iter().find(|needed| !version.has(**needed)) {
        Some(missing) => Err(anyhow!("missing export `{}`, which is in use", missing.name())),
        None => Ok(()),
    }
}
