//! The exports of a component that answer the contract's questions.

use wasmtime::Store;
use wasmtime::component::{self, InstancePre};

use crate::bindings::exports::fusebox::policy::{fallback, predicate};
use crate::contract::{FALLBACK, PREDICATE};
use crate::engine::anyhow_of;
use crate::store::HostState;

/// The contract's exports that a component has.
pub(crate) struct Exports {
    predicate: Option<predicate::GuestIndices>,
    fallback: Option<fallback::GuestIndices>,
}

/// The functions behind these exports in one instance.
pub(crate) struct ContractGuest {
    predicate: Option<predicate::Guest>,
    fallback: Option<fallback::Guest>,
}

impl ContractGuest {
    /// Answers `handle-if`.
    pub(crate) fn predicate(&self) -> &predicate::Guest {
        self.predicate.as_ref().expect("a version without an export that is in use is not taken")
    }

    /// Makes fallback responses.
    pub(crate) fn fallback(&self) -> &fallback::Guest {
        self.fallback.as_ref().expect("a version without an export that is in use is not taken")
    }
}

impl Exports {
    pub(crate) fn find(pre: &InstancePre<HostState>) -> anyhow::Result<Self> {
        let has = |name| pre.component().get_export_index(None, name).is_some();
        let wrong = |name| {
            move |error| {
                anyhow_of(error).context(format!("export `{name}` is not that of the contract"))
            }
        };
        let predicate = has(PREDICATE)
            .then(|| predicate::GuestIndices::new(pre).map_err(wrong(PREDICATE)))
            .transpose()?;
        let fallback = has(FALLBACK)
            .then(|| fallback::GuestIndices::new(pre).map_err(wrong(FALLBACK)))
            .transpose()?;
        Ok(Self { predicate, fallback })
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
        let wrong = |name| {
            move |error: wasmtime::Error| error.context(format!("export `{name}` has a wrong type"))
        };
        Ok(ContractGuest {
            predicate: self
                .predicate
                .as_ref()
                .map(|indices| indices.load(&mut *store, instance).map_err(wrong(PREDICATE)))
                .transpose()?,
            fallback: self
                .fallback
                .as_ref()
                .map(|indices| indices.load(&mut *store, instance).map_err(wrong(FALLBACK)))
                .transpose()?,
        })
    }

    /// Whether it has any export of the contract.
    pub(crate) fn are_any(&self) -> bool {
        self.has_predicate() || self.has_fallback()
    }

    pub(crate) fn has_predicate(&self) -> bool {
        self.predicate.is_some()
    }

    pub(crate) fn has_fallback(&self) -> bool {
        self.fallback.is_some()
    }
}
