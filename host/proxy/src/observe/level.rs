//! How much a line matters.

use serde::Deserialize;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For somebody who looks for something.
    Debug,
    /// What the program is there for.
    Info,
    /// Somebody may want to act.
    Warn,
    /// Somebody should.
    Error,
}

impl Level {
    /// Its word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }

    /// The level of an access line with this status.
    pub(crate) fn of(status: u16) -> Self {
        match status {
            500.. => Self::Error,
            400.. => Self::Warn,
            _ => Self::Info,
        }
    }
}
