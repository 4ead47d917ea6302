//! The export of a standard HTTP component that handles requests.

use anyhow::Context as _;
use wasmtime::Store;
use wasmtime::component::{Component, InstancePre};
use wasmtime_wasi_http::p2::bindings::exports::wasi::http::incoming_handler;

use crate::contract::HANDLER;
use crate::engine::anyhow_of;
use crate::runtime::Runtime;
use crate::store::HostState;

/// A component that handles requests, ready to be instantiated.
pub(crate) struct HttpHandler {
    pre: InstancePre<HostState>,
    indices: incoming_handler::GuestIndices,
}

impl HttpHandler {
    /// Resolves what `component` imports and the export.
    ///
    /// # Errors
    /// One of them has another type than the standard says.
    pub(crate) fn link(runtime: &Runtime, component: &Component) -> anyhow::Result<Self> {
        let pre = runtime.http_linker().instantiate_pre(component);
        let pre = pre.map_err(anyhow_of).context("an import has a wrong type")?;
        let indices = incoming_handler::GuestIndices::new(&pre).map_err(anyhow_of);
        let indices =
            indices.with_context(|| format!("export `{HANDLER}` is not that of the standard"))?;
        Ok(Self { pre, indices })
    }

    /// Starts an instance.
    ///
    /// # Errors
    /// The guest traps meanwhile, or runs out of what it may use.
    pub(super) async fn instantiate(
        &self,
        store: &mut Store<HostState>,
    ) -> wasmtime::Result<incoming_handler::Guest> {
        let instance = self.pre.instantiate_async(&mut *store).await?;
        self.indices.load(store, &instance)
    }
}
