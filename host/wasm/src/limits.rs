//! The limits on one instance: linear memory, table elements, and the number of memories, tables
//! and core instances.
//!
//! A guest that is refused memory usually aborts, which looks like any other trap. So the refusal
//! is recorded: it names the fault ([`refused`](InstanceLimiter::refused)), and an instance that
//! has met its bound is not used again.

use fusebox_resilience::config::ConfigSize;
use wasmtime::ResourceLimiter;

use crate::bounds::Bounds;
use crate::memory::MemoryAccount;

/// Tracks what an instance holds, and enforces its limits.
#[derive(Debug)]
pub(crate) struct InstanceLimiter {
    /// Bytes of all its linear memories together.
    memory_limit: usize,
    memory: MemoryAccount,
    /// What the last growth took.
    last_growth: usize,
    table_limit: usize,
    table_elements: usize,
    core_instances: usize,
    refused: Option<Refused>,
}

/// What exceeded its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory,
    /// Of all guests together.
    TotalMemory,
    Table,
}

impl InstanceLimiter {
    pub(crate) fn new(bounds: &Bounds, memory: MemoryAccount) -> Self {
        Self {
            memory_limit: bounds.memory_bytes(),
            memory,
            last_growth: 0,
            table_limit: bounds.table_elements,
            table_elements: 0,
            core_instances: bounds.core_instances,
            refused: None,
        }
    }

    /// Bytes of linear memory held.
    pub(crate) fn memory(&self) -> usize {
        self.memory.held()
    }

    /// How much all guests together may hold.
    pub(crate) fn total_memory(&self) -> ConfigSize {
        self.memory.limit()
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
        let growth = desired.saturating_sub(current);
        self.last_growth = 0;
        if grown(self.memory.held(), current, desired, self.memory_limit).is_none() {
            self.refused = Some(Refused::Memory);
            return Ok(false);
        }
        if !self.memory.try_take(growth) {
            self.refused = Some(Refused::TotalMemory);
            return Ok(false);
        }
        self.last_growth = growth;
        Ok(true)
    }

    /// The system had none, or the memory's own maximum forbids it.
    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        let growth = std::mem::take(&mut self.last_growth);
        self.memory.give_back(growth);
        Ok(())
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
