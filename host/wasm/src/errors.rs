//! The host's errors that end a guest's call.

use std::fmt;

/// A guest called a function that it may not call there, or waited.
#[derive(Debug)]
pub(crate) struct Misuse(pub(crate) &'static str);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Misuse {}

/// A guest called the host more often than it may.
#[derive(Debug)]
pub(crate) struct TooManyCalls(pub(crate) u32);

impl fmt::Display for TooManyCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "called the host more than {} times in one call", self.0)
    }
}

impl std::error::Error for TooManyCalls {}

/// A guest returned an invalid answer.
#[derive(Debug)]
pub(crate) struct BadAnswer(pub(crate) String);

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadAnswer {}
