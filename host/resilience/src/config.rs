//! What the pieces of policy configuration share: durations, sizes, and the collection of problems.
//!
//! Every setting has two forms. `RetryConfig` is what the file says: plain values, unknown keys
//! refused, defaults in one place. `Retry` is what runs: made once by `RetryConfig::build`, and
//! cannot be invalid.

mod size;

pub use size::ConfigSize;

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// A duration as the file says it: `"250ms"`, `"1m 30s"`, up to 10 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigDuration(pub Duration);

impl ConfigDuration {
    /// 10 years: longer than any process runs, and short enough to be added to any time.
    const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

    /// What a timer can keep.
    pub const SHORTEST: Self = Self::from_millis(1);

    /// No time.
    pub const fn none() -> Self {
        Self(Duration::ZERO)
    }

    /// For defaults.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// For defaults.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl fmt::Display for ConfigDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for ConfigDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DurationVisitor;
        impl Visitor<'_> for DurationVisitor {
            type Value = ConfigDuration;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"250ms\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConfigDuration, E> {
                let duration = humantime::parse_duration(text).map_err(|_| {
                    E::custom(format!("expected a duration such as \"250ms\", found `{text}`"))
                })?;
                if duration > ConfigDuration::LONGEST {
                    return Err(E::custom(format!("must be at most 10 years, is `{text}`")));
                }
                Ok(ConfigDuration(duration))
            }
        }
        deserializer.deserialize_str(DurationVisitor)
    }
}

/// A default that is another one than in the version before, for `fusebox check` to name where it
/// is in force.
#[derive(Clone, Copy, Debug)]
pub struct ChangedDefault {
    /// If one of these is given, it is not in force. The first is its own.
    pub keys: &'static [&'static str],
    /// What it is, what it was, and what restores that.
    pub message: &'static str,
}

/// Something wrong in a piece of configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, from the piece downwards: `backoff.delay`.
    pub path: String,
    /// What was expected, and what was found.
    pub message: String,
}

/// Everything wrong in a piece of configuration, so that all of it can be said at once.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Adds one if `ok` does not hold.
    pub fn require(&mut self, ok: bool, path: &str, message: impl FnOnce() -> String) {
        if !ok {
            self.add(path, message());
        }
    }

    /// Adds one if a value is out of its bounds.
    pub fn require_within<T>(&mut self, value: T, bounds: RangeInclusive<T>, path: &str)
    where
        T: fmt::Display + PartialOrd,
    {
        self.require(bounds.contains(&value), path, || {
            format!("must be from {} to {}, is {value}", bounds.start(), bounds.end())
        });
    }

    /// Adds one if a value is below its bound.
    pub fn require_least<T>(&mut self, value: T, least: T, path: &str)
    where
        T: fmt::Display + PartialOrd,
    {
        self.require(value >= least, path, || format!("must be at least {least}, is {value}"));
    }

    /// Adds one if a time is shorter than a millisecond, which no timer keeps.
    pub fn require_time(&mut self, time: ConfigDuration, path: &str) {
        self.require_least(time, ConfigDuration::SHORTEST, path);
    }

    /// The same for a time that may be 0, which means something else than a very short one.
    pub fn require_time_or_zero(&mut self, time: ConfigDuration, path: &str) {
        self.require(time.0.is_zero() || time >= ConfigDuration::SHORTEST, path, || {
            format!("must be 0s or at least {}, is {time}", ConfigDuration::SHORTEST)
        });
    }

    /// `value` if nothing was wrong, or else everything that was.
    ///
    /// # Errors
    /// Something was added.
    pub fn into_result<T>(self, value: T) -> Result<T, Vec<Problem>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}
