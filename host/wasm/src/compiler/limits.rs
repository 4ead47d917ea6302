//! How much compiling may take.

use std::time::Duration;

use bytesize::ByteSize;

/// How much compiling one component may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompileLimits {
    /// Bytes.
    pub(crate) memory: ByteSize,
    /// Processor time; a child counts it in whole seconds, rounded up.
    pub(crate) timeout: Duration,
}
