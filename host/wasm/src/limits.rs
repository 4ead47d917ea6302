//! What one instance may hold: linear memory, table elements, and how many of each thing.
//!
//! A guest that is refused memory usually aborts, which by itself looks like any other trap. So the refusal is remembered: it
//! names the fault ([`was_refused`](Limits::was_refused)), and an instance that has met its bound is not used again.

use wasmtime::ResourceLimiter;

/// Elements of all tables together. The largest guest language seen (SpiderMonkey) needs about 20,000.
const TABLE_ELEMENTS: usize = 1 << 17;

/// Counts how much an instance holds, and refuses more than it may.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Bytes of all linear memories together.
    memory_limit: usize,
    memory: usize,
    table_elements: usize,
    refused: bool,
}

impl Limits {
    /// At most `memory_limit` bytes of linear memory.
    pub(crate) fn new(memory_limit: usize) -> Self {
        Self { memory_limit, memory: 0, table_elements: 0, refused: false }
    }

    /// Bytes of linear memory held.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Whether more was asked for than is allowed.
    pub(crate) fn was_refused(&self) -> bool {
        self.refused
    }

    /// The new total if it is within `limit`; else the refusal is remembered.
    fn grow(&mut self, held: usize, current: usize, desired: usize, limit: usize) -> Option<usize> {
        let total = held.saturating_sub(current).saturating_add(desired);
        let granted = total <= limit;
        self.refused |= !granted;
        granted.then_some(total)
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = self.grow(self.memory, current, desired, self.memory_limit);
        self.memory = granted.unwrap_or(self.memory);
        Ok(granted.is_some())
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let granted = self.grow(self.table_elements, current, desired, TABLE_ELEMENTS);
        self.table_elements = granted.unwrap_or(self.table_elements);
        Ok(granted.is_some())
    }

    /// Core modules of one component: a Python guest is linked from some twenty.
    fn instances(&self) -> usize {
        256
    }

    fn tables(&self) -> usize {
        64
    }

    fn memories(&self) -> usize {
        16
    }
}
