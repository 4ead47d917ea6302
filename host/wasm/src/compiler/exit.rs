//! How the compiling child says what came of it, beside what it prints.

/// How the child says that it was no component; any other failure is its own.
pub(crate) const NOT_A_COMPONENT: u8 = 3;

/// How it says that it had not enough memory, if it noticed before the allocator gave up.
pub(crate) const OUT_OF_MEMORY: u8 = 4;
