//! How somebody reads a case.

/// What somebody saw of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The whole requests: the method, and the body in hexadecimal.
    pub(crate) requests: Vec<String>,
    /// Whether it hands on a head that the upstream, which reads as fusebox does, refuses.
    pub(crate) handed_on: bool,
    /// The status of the first answer that says that something is wrong.
    pub(crate) refused: Option<u16>,
}

impl Reading {
    /// Whether it is one and the same reading, whatever the answer to what is refused.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        (&self.requests, self.handed_on) == (&other.requests, other.handed_on)
    }
}
