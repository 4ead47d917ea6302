//! The exports of a component that answer the contract's questions.

use wasmtime::Store;
use wasmtime::component::{self, InstancePre};

use crate::bindings::exports::fusebox::policy::{delay, fallback, key, predicate};
use crate::contract::ContractExport;
use crate::engine::anyhow_of;
use crate::store::HostState;

/// The contract's exports that a component has.
pub(crate) struct Exports {
    predicate: Option<predicate::GuestIndices>,
    fallback: Option<fallback::GuestIndices>,
    delay: Option<delay::GuestIndices>,
    key: Option<key::GuestIndices>,
}

/// The functions behind these exports in one instance.
pub(crate) struct ContractGuest {
    predicate: Option<predicate::Guest>,
    fallback: Option<fallback::Guest>,
    delay: Option<delay::Guest>,
    key: Option<key::Guest>,
}

const IN_USE: &str = "a version without an export that is in use is not taken";

impl ContractGuest {
    /// Answers `handle-if`.
    pub(crate) fn predicate(&self) -> &predicate::Guest {
        self.predicate.as_ref().expect(IN_USE)
    }

    /// Makes fallback responses.
    pub(crate) fn fallback(&self) -> &fallback::Guest {
        self.fallback.as_ref().expect(IN_USE)
    }

    /// Says how long to wait.
    pub(crate) fn delay(&self) -> &delay::Guest {
        self.delay.as_ref().expect(IN_USE)
    }

    /// Says whose call it is.
    pub(crate) fn key(&self) -> &key::Guest {
        self.key.as_ref().expect(IN_USE)
    }
}

impl Exports {
    pub(crate) fn find(pre: &InstancePre<HostState>) -> anyhow::Result<Self> {
        fn found<T>(
            pre: &InstancePre<HostState>,
            export: ContractExport,
            find: fn(&InstancePre<HostState>) -> wasmtime::Result<T>,
        ) -> anyhow::Result<Option<T>> {
            let name = export.name();
            if pre.component().get_export_index(None, name).is_none() {
                return Ok(None);
            }
            let wrong = |error| {
                anyhow_of(error).context(format!("export `{name}` is not that of the contract"))
            };
            find(pre).map(Some).map_err(wrong)
        }
        Ok(Self {
            predicate: found(pre, ContractExport::Predicate, predicate::GuestIndices::new)?,
            fallback: found(pre, ContractExport::Fallback, fallback::GuestIndices::new)?,
            delay: found(pre, ContractExport::Delay, delay::GuestIndices::new)?,
            key: found(pre, ContractExport::Key, key::GuestIndices::new)?,
        })
    }

    /// Finds them in an instance.
    ///
    /// # Errors
    /// One has another type than the contract says.
    pub(crate) fn load(
        &self,
        store: &mut Store<HostState>,
        instance: &component::Instance,
    ) -> wasmtime::Result<ContractGuest> {
        fn loaded<I, G>(
            indices: Option<&I>,
            export: ContractExport,
            load: impl FnOnce(&I) -> wasmtime::Result<G>,
        ) -> wasmtime::Result<Option<G>> {
            let wrong = |error: wasmtime::Error| {
                error.context(format!("export `{}` has a wrong type", export.name()))
            };
            indices.map(|indices| load(indices).map_err(wrong)).transpose()
        }
        let Self { predicate, fallback, delay, key } = self;
        Ok(ContractGuest {
            predicate: loaded(predicate.as_ref(), ContractExport::Predicate, |indices| {
                indices.load(&mut *store, instance)
            })?,
            fallback: loaded(fallback.as_ref(), ContractExport::Fallback, |indices| {
                indices.load(&mut *store, instance)
            })?,
            delay: loaded(delay.as_ref(), ContractExport::Delay, |indices| {
                indices.load(&mut *store, instance)
            })?,
            key: loaded(key.as_ref(), ContractExport::Key, |indices| {
                indices.load(&mut *store, instance)
            })?,
        })
    }

    /// Whether it has any export of the contract.
    pub(crate) fn are_any(&self) -> bool {
        ContractExport::ALL.into_iter().any(|export| self.has(export))
    }

    pub(crate) fn has(&self, export: ContractExport) -> bool {
        match export {
            ContractExport::Predicate => self.predicate.is_some(),
            ContractExport::Fallback => self.fallback.is_some(),
            ContractExport::Delay => self.delay.is_some(),
            ContractExport::Key => self.key.is_some(),
        }
    }
}
