//! What came of a call, as a breaker counts it.

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CircuitResult {
    pub(super) failed: bool,
    /// It took longer than a call should, which is counted apart.
    pub(super) slow: bool,
}

impl CircuitResult {
    /// A good call that was fast.
    pub(super) fn is_good(self) -> bool {
        !self.failed && !self.slow
    }
}

impl From<bool> for CircuitResult {
    fn from(failed: bool) -> Self {
        Self { failed, slow: false }
    }
}
