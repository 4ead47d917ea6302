//! `[components.NAME]`: what the file says of a component.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use fusebox_resilience::Peek;
use fusebox_resilience::config::{ConfigDuration, Problem, Problems};
use serde::Deserialize;

use crate::compiler::CompileLimits;

/// A WebAssembly component that conditions and fallbacks can name.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ComponentConfig {
    /// The file, relative to the configuration. It is swapped in when it changes.
    pub file: PathBuf,
    /// Its SHA-256 in hex: any other content is refused. Default: any content.
    pub sha256: Option<String>,
    /// What the guest reads through the interface `settings`.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// How much of a response body it may look at, 1 byte to 1 MiB. Default: nothing.
    pub peek_body: Option<ByteSize>,
    /// How long to wait for that much of a body.
    #[serde(default = "defaults::peek_timeout")]
    pub peek_timeout: ConfigDuration,
    /// How long a call may run, in processor time of its thread, and how long an instance may take to start. Up to a minute; a
    /// guest may have up to twice that before it is cut off.
    #[serde(default = "defaults::timeout")]
    pub timeout: ConfigDuration,
    /// How much linear memory an instance may hold, 64 KiB to 4 GiB.
    #[serde(default = "defaults::memory")]
    pub memory: ByteSize,
    /// After so many calls an instance is replaced by a fresh one.
    #[serde(default = "defaults::recycle_calls")]
    pub recycle_calls: u64,
    /// An instance that holds more than this after a call is replaced by a fresh one. Default: half of `memory`.
    pub recycle_memory: Option<ByteSize>,
    /// How much memory compiling it may take, 64 MiB to 16 GiB.
    #[serde(default = "defaults::compile_memory")]
    pub compile_memory: ByteSize,
    /// How long compiling it may take, in processor time, rounded up to whole seconds. Up to 10 minutes.
    #[serde(default = "defaults::compile_timeout")]
    pub compile_timeout: ConfigDuration,
    /// What a predicate answers when the guest does not.
    #[serde(default)]
    pub on_error: OnError,
}

/// What a predicate answers for a guest that trapped, overran, or could not be started.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// What the slot answers with no condition.
    #[default]
    Default,
    /// That the outcome is a failure.
    Handled,
    /// That it is none.
    Unhandled,
}

mod defaults {
    use bytesize::ByteSize;
    use fusebox_resilience::config::ConfigDuration;

    pub(super) fn peek_timeout() -> ConfigDuration {
        ConfigDuration::from_millis(100)
    }

    pub(super) fn timeout() -> ConfigDuration {
        ConfigDuration::from_millis(10)
    }

    pub(super) fn memory() -> ByteSize {
        ByteSize::mib(64)
    }

    pub(super) fn recycle_calls() -> u64 {
        1_000_000
    }

    pub(super) fn compile_memory() -> ByteSize {
        ByteSize::gib(1)
    }

    pub(super) fn compile_timeout() -> ConfigDuration {
        ConfigDuration::from_secs(60)
    }
}

impl ComponentConfig {
    const PAGE: ByteSize = ByteSize::kib(64);
    const LARGEST_MEMORY: ByteSize = ByteSize::gib(4);
    /// A guest may ask for all of it again and again within one call, and copying cannot be interrupted.
    const LARGEST_PEEK: ByteSize = ByteSize::mib(1);
    const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
    /// The compiler takes so much before it sees a component, and some more.
    const LEAST_COMPILE_MEMORY: ByteSize = ByteSize::mib(64);
    const LARGEST_COMPILE_MEMORY: ByteSize = ByteSize::gib(16);
    const LONGEST_COMPILE_TIMEOUT: Duration = Duration::from_secs(10 * 60);

    /// A component in `file` with every default.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            sha256: None,
            settings: BTreeMap::new(),
            peek_body: None,
            peek_timeout: defaults::peek_timeout(),
            timeout: defaults::timeout(),
            memory: defaults::memory(),
            recycle_calls: defaults::recycle_calls(),
            recycle_memory: None,
            compile_memory: defaults::compile_memory(),
            compile_timeout: defaults::compile_timeout(),
            on_error: OnError::default(),
        }
    }

    /// Everything that is impossible about it.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.require(!self.file.as_os_str().is_empty(), "file", || "must not be empty".into());
        if let Some(sha256) = &self.sha256 {
            let is_digest = sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
            problems.require(is_digest, "sha256", || format!("expected 64 hex digits, found `{sha256}`"));
        }
        if let Some(peek) = self.peek_body {
            problems.require((ByteSize::b(1)..=Self::LARGEST_PEEK).contains(&peek), "peek_body", || {
                format!("must be within 1 byte and {}, is {peek}", Self::LARGEST_PEEK)
            });
        }
        let limit = self.timeout.0;
        problems.require(!limit.is_zero() && limit <= Self::LONGEST_TIMEOUT, "timeout", || {
            format!("must be more than 0 and at most 60s, is {}", self.timeout)
        });
        problems.require((Self::PAGE..=Self::LARGEST_MEMORY).contains(&self.memory), "memory", || {
            format!("must be within {} and {}, is {}", Self::PAGE, Self::LARGEST_MEMORY, self.memory)
        });
        problems.require(self.recycle_calls > 0, "recycle_calls", || "must be at least 1".into());
        if let Some(recycle) = self.recycle_memory {
            problems.require(recycle <= self.memory, "recycle_memory", || {
                format!("must be at most `memory`, which is {}, is {recycle}", self.memory)
            });
        }
        let (least, largest) = (Self::LEAST_COMPILE_MEMORY, Self::LARGEST_COMPILE_MEMORY);
        problems.require((least..=largest).contains(&self.compile_memory), "compile_memory", || {
            format!("must be within {least} and {largest}, is {}", self.compile_memory)
        });
        let limit = self.compile_timeout.0;
        problems.require(!limit.is_zero() && limit <= Self::LONGEST_COMPILE_TIMEOUT, "compile_timeout", || {
            format!("must be more than 0 and at most 10m, is {}", self.compile_timeout)
        });
        problems.into_result(()).err().unwrap_or_default()
    }

    /// How much of a body its questions need.
    pub(crate) fn peek(&self) -> Option<Peek> {
        let bytes = self.peek_body?;
        Some(Peek { bytes: to_usize(bytes), timeout: self.peek_timeout.0 })
    }

    /// Bytes of linear memory above which an instance is replaced.
    pub(crate) fn recycle_memory(&self) -> usize {
        to_usize(self.recycle_memory.unwrap_or(ByteSize::b(self.memory.as_u64() / 2)))
    }

    /// What compiling it may take.
    pub(crate) fn compile_limits(&self) -> CompileLimits {
        CompileLimits { memory: self.compile_memory, timeout: self.compile_timeout.0 }
    }

    /// Bytes of linear memory that an instance may hold.
    pub(crate) fn memory(&self) -> usize {
        to_usize(self.memory)
    }
}

fn to_usize(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ComponentConfig, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_file_is_enough() {
        let config = read(r#"file = "policies/build/service_b.wasm""#).expect("it is complete");
        assert_eq!(config, ComponentConfig::new("policies/build/service_b.wasm"));
        assert_eq!(config.validate(), []);
        assert_eq!(config.peek(), None);
        assert_eq!(config.recycle_memory(), 32 << 20);
    }

    #[test]
    fn sizes_and_durations_have_units_and_unknown_keys_are_refused() {
        let config = read("file = 'a.wasm'\npeek_body = '16KiB'\npeek_timeout = '50ms'\non_error = 'unhandled'");
        let config = config.expect("it is valid");
        assert_eq!(config.peek(), Some(Peek { bytes: 16 << 10, timeout: Duration::from_millis(50) }));
        assert_eq!(config.on_error, OnError::Unhandled);
        assert!(read("file = 'a.wasm'\nmemmory = '1MiB'").is_err());
    }

    #[test]
    fn everything_impossible_is_said_at_once() {
        let config = ComponentConfig {
            sha256: Some("abc".into()),
            peek_body: Some(ByteSize::gib(1)),
            timeout: ConfigDuration::from_millis(0),
            memory: ByteSize::kib(1),
            recycle_calls: 0,
            recycle_memory: Some(ByteSize::kib(2)),
            compile_memory: ByteSize::mib(1),
            compile_timeout: ConfigDuration::from_secs(601),
            ..ComponentConfig::new("")
        };
        let paths: Vec<_> = config.validate().into_iter().map(|problem| problem.path).collect();
        let first = ["file", "sha256", "peek_body", "timeout", "memory", "recycle_calls", "recycle_memory"];
        assert_eq!(paths[..7], first);
        assert_eq!(paths[7..], ["compile_memory", "compile_timeout"]);
    }
}
