//! What the compiling child says by its exit code, and on stderr.

/// The input is not a component.
pub(crate) const NOT_A_COMPONENT: u8 = 3;

/// It ran out of memory, and noticed before the allocator aborted.
pub(crate) const OUT_OF_MEMORY: u8 = 4;

/// Begins the first line on stderr of a child that runs without seccomp; the reason follows.
pub(crate) const UNCONFINED: &str = "not confined: ";
