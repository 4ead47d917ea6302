//! The limits of a version's instances, and the data that they may see.

use std::collections::BTreeMap;

use fusebox_resilience::ComponentId;
use fusebox_resilience::config::ConfigSize;
use wasmtime_wasi_config::WasiConfigVariables;

use crate::config::ComponentConfig;
use crate::config::grant::Grant;
use crate::overtaken::Overtaken;

/// Shared by all instances of a version.
pub(crate) struct Bounds {
    pub(crate) component: ComponentId,
    pub(crate) memory: ConfigSize,
    pub(crate) table_elements: usize,
    pub(crate) core_instances: usize,
    pub(crate) stack: ConfigSize,
    pub(crate) hostcall_bytes: ConfigSize,
    /// Functions of the host that a guest of the contract may call in a call.
    pub(crate) host_calls: u32,
    pub(crate) log_lines: usize,
    /// Bytes of a response body that the guest may see.
    pub(crate) peek: usize,
    pub(crate) grants: Vec<Grant>,
    pub(crate) settings: BTreeMap<String, String>,
    /// Set once the version is not wanted any more, before it was ever in use.
    pub(crate) overtaken: Overtaken,
    /// The settings again, for guests that read them the standard way.
    pub(crate) wasi_settings: WasiConfigVariables,
}

impl Bounds {
    pub(crate) fn new(
        component: ComponentId,
        config: &ComponentConfig,
        overtaken: Overtaken,
    ) -> Self {
        let settings = config.settings.iter();
        Self {
            component,
            memory: config.memory,
            table_elements: config.table_elements,
            core_instances: config.core_instances,
            stack: config.stack,
            hostcall_bytes: config.hostcall_bytes,
            host_calls: config.host_calls,
            log_lines: config.log_lines,
            peek: config.peek().map_or(0, |peek| peek.bytes),
            grants: config.grant.clone(),
            settings: config.settings.clone(),
            overtaken,
            wasi_settings: settings.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory.in_memory()
    }

    pub(crate) fn hostcall_fuel(&self) -> usize {
        self.hostcall_bytes.in_memory()
    }
}
