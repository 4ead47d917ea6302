//! The exit codes of the compiling child.

/// The input is not a component.
pub(crate) const NOT_A_COMPONENT: u8 = 3;

/// It ran out of memory, and noticed before the allocator aborted.
pub(crate) const OUT_OF_MEMORY: u8 = 4;
