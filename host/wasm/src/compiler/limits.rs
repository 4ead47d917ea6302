//! How much compiling may take.

use std::time::Duration;

use fusebox_resilience::config::ConfigSize;

/// How much compiling one component may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompileLimits {
    /// Bytes.
    pub(crate) memory: ConfigSize,
    /// Processor time; a child counts it in whole seconds, rounded up.
    pub(crate) timeout: Duration,
}
