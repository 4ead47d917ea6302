//! How a stream or its connection ended, in words for the log.

use std::error;
use std::fmt;

/// How it ended, with the word of RFC 9113 for the code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamEnd(String);

impl StreamEnd {
    /// By this error.
    pub(super) fn of(error: &h2::Error) -> Self {
        let what = if error.is_go_away() { "connection" } else { "stream" };
        let who = if error.is_library() { "us" } else { "the upstream" };
        Self(match error.reason() {
            Some(reason) => format!("{what} ended by {who}: {reason:?}"),
            None => error.to_string(),
        })
    }

    /// Otherwise.
    pub(super) fn by(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl fmt::Display for StreamEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for StreamEnd {}
