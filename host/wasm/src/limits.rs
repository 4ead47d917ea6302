//! The limits on one instance: linear memory, table elements, and the number of memories, tables
//! and core instances.
//!
//! A guest that is refused memory usually aborts, which looks like any other trap. So the refusal
//! is recorded: it names the fault ([`refused`](InstanceLimiter::refused)), and an instance that
//! has met its bound is not used again.

use wasmtime::ResourceLimiter;

use crate::bounds::Bounds;

/// Tracks what an instance holds, and enforces its limits.
#[derive(Debug)]
pub(crate) struct InstanceLimiter {
    /// Bytes of all linear memories together.
    memory_limit: usize,
    memory: usize,
    table_limit: usize,
    table_elements: usize,
    core_instances: usize,
    refused: Option<Refused>,
}

/// What exceeded its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory,
    Table,
}

impl InstanceLimiter {
    pub(crate) fn new(bounds: &Bounds) -> Self {
        Self {
            memory_limit: bounds.memory_bytes(),
            memory: 0,
            table_limit: bounds.table_elements,
            table_elements: 0,
            core_instances: bounds.core_instances,
            refused: None,
        }
    }

    /// Bytes of linear memory held.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// What exceeded its limit, if anything did.
    pub(crate) fn refused(&self) -> Option<Refused> {
        self.refused
    }
}

/// The new total of something of which `held` is held, if it is within `limit`.
fn grown(held: usize, current: usize, desired: usize, limit: usize) -> Option<usize> {
    Some(held.saturating_sub(current).saturating_add(desired)).filter(|total| *total <= limit)
}

impl ResourceLimiter for InstanceLimiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = grown(self.memory, current, desired, self.memory_limit);
        match granted {
            Some(total) => self.memory = total,
            None => self.refused = Some(Refused::Memory),
        }
        Ok(granted.is_some())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = grown(self.table_elements, current, desired, self.table_limit);
        match granted {
            Some(total) => self.table_elements = total,
            None => self.refused = Some(Refused::Table),
        }
        Ok(granted.is_some())
    }

    fn instances(&self) -> usize {
        self.core_instances
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}
