//! `[components.NAME]`: what the file says of a component.

mod defaults;
pub(crate) mod grant;
pub(crate) mod probation;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use fusebox_resilience::Peek;
use fusebox_resilience::config::{ConfigDuration, Problem, Problems};
use serde::Deserialize;

use self::grant::Grant;
use self::probation::Probation;
use crate::compiler::limits::CompileLimits;

/// A WebAssembly component that conditions and fallbacks can name.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ComponentConfig {
    /// The file, relative to the configuration. It is swapped in when it changes.
    pub file: PathBuf,
    /// Its SHA-256 in hex: any other content is refused. Default: any content.
    pub sha256: Option<String>,
    /// The settings that the guest reads.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// How much of a response body it may look at, 1 byte to 1 MiB. Default: nothing.
    pub peek_body: Option<ByteSize>,
    /// How long to wait for that much of a body.
    #[serde(default = "defaults::peek_timeout")]
    pub peek_timeout: ConfigDuration,
    /// How long a call may run, in processor time of its thread, and how long an instance may take
    /// to start. Up to a minute; a guest may run up to twice as long before it is interrupted.
    #[serde(default = "defaults::timeout")]
    pub timeout: ConfigDuration,
    /// How long a standard HTTP component may take to answer, waiting included, until the head. Up
    /// to 10 minutes.
    #[serde(default = "defaults::response_timeout")]
    pub response_timeout: ConfigDuration,
    /// How long the body of that answer may take after its head, the client's slowness included.
    /// Up to 10 minutes.
    #[serde(default = "defaults::body_timeout")]
    pub body_timeout: ConfigDuration,
    /// How many requests a standard HTTP component may be handling at once, on all workers
    /// together, up to 100,000.
    #[serde(default = "defaults::max_instances")]
    pub max_instances: usize,
    /// How much linear memory an instance may hold, 64 KiB to 4 GiB.
    #[serde(default = "defaults::memory")]
    pub memory: ByteSize,
    /// After so many calls an instance is replaced by a fresh one.
    #[serde(default = "defaults::recycle_calls")]
    pub recycle_calls: u64,
    /// An instance that holds more than this after a call is replaced by a fresh one. Default:
    /// half of `memory`.
    pub recycle_memory: Option<ByteSize>,
    /// How much memory compiling it may take, 64 MiB to 16 GiB.
    #[serde(default = "defaults::compile_memory")]
    pub compile_memory: ByteSize,
    /// How long compiling it may take, in processor time, rounded up to whole seconds. Up to 10
    /// minutes.
    #[serde(default = "defaults::compile_timeout")]
    pub compile_timeout: ConfigDuration,
    /// What a predicate answers when the guest does not.
    #[serde(default)]
    pub on_error: OnError,
    /// Whether an instance serves many calls, one after the other, or one.
    #[serde(default)]
    pub isolation: Isolation,
    /// The host's resources that it may use beside the contract: `env:NAME`, `http:HOST[:PORT]`.
    /// Default: nothing.
    #[serde(default)]
    pub grant: Vec<Grant>,
    /// Elements that the tables of an instance may hold together, up to 10,000,000.
    #[serde(default = "defaults::table_elements")]
    pub table_elements: usize,
    /// Core modules that an instance may be made of, up to 10,000.
    #[serde(default = "defaults::core_instances")]
    pub core_instances: usize,
    /// How much of the thread's stack it may use, 64 KiB to 1 MiB.
    #[serde(default = "defaults::stack")]
    pub stack: ByteSize,
    /// How many bytes the host copies out of it at once, 4 KiB to 64 MiB: what it passes to one
    /// function of the host, or the response that it returns. Copying cannot be interrupted.
    #[serde(default = "defaults::hostcall_bytes")]
    pub hostcall_bytes: ByteSize,
    /// How many functions of the host it may call in a call, at least 1. A standard HTTP component
    /// has no such limit beside its time.
    #[serde(default = "defaults::host_calls")]
    pub host_calls: u32,
    /// How many lines it may print in a call, up to 1,000; more are counted and dropped.
    #[serde(default = "defaults::log_lines")]
    pub log_lines: usize,
    /// How many lines it may print in a second, on all workers together.
    #[serde(default = "defaults::log_rate")]
    pub log_rate: u32,
    /// Whether the proxy starts even if the file is not acceptable: `on_error` answers until it
    /// is.
    #[serde(default)]
    pub optional: bool,
    /// Whether a version is asked about made-up outcomes before it takes over, and refused if it
    /// fails to answer.
    #[serde(default = "defaults::probe")]
    pub probe: bool,
    /// A file of cases, relative to the configuration, that a version must pass before it takes
    /// over.
    pub cases: Option<PathBuf>,
    /// How many exchanges in a second become events, as cases. Default: none.
    #[serde(default)]
    pub capture: u32,
    /// For how long, or for how many calls, a new version is on probation.
    #[serde(default = "defaults::probation")]
    pub probation: Probation,
    /// Faults on probation, of its own, beyond which the previous version may be put back.
    #[serde(default = "defaults::max_faults")]
    pub max_faults: u32,
    /// How many earlier versions are kept in memory to roll back to, up to 10.
    #[serde(default = "defaults::keep_versions")]
    pub keep_versions: usize,
    /// Faults in a row after which it is set aside, at least 1.
    #[serde(default = "defaults::quarantine_after")]
    pub quarantine_after: u32,
    /// How often it then gets a trial call.
    #[serde(default = "defaults::quarantine_interval")]
    pub quarantine_interval: ConfigDuration,
}

/// What calls share.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// A worker keeps its instance for the next call: what a guest remembers, it remembers.
    #[default]
    Reuse,
    /// Each call gets a fresh instance.
    PerCall,
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

impl ComponentConfig {
    const PAGE: ByteSize = ByteSize::kib(64);
    const LARGEST_MEMORY: ByteSize = ByteSize::gib(4);
    /// A guest may ask for all of it again and again within one call, and copying cannot be
    /// interrupted.
    const LARGEST_PEEK: ByteSize = ByteSize::mib(1);
    const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
    /// A response waits for as long, whoever wants it.
    const LONGEST_PEEK: Duration = Duration::from_secs(60);
    const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);
    /// The compiler takes so much before it sees a component, and some more.
    const LEAST_COMPILE_MEMORY: ByteSize = ByteSize::mib(64);
    const LARGEST_COMPILE_MEMORY: ByteSize = ByteSize::gib(16);
    const LONGEST_COMPILE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
    /// Each takes some 20 µs and a line of the log.
    const MOST_CAPTURED: u32 = 1_000;

    /// A component in `file` with every default.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            sha256: None,
            settings: BTreeMap::new(),
            peek_body: None,
            peek_timeout: defaults::peek_timeout(),
            timeout: defaults::timeout(),
            response_timeout: defaults::response_timeout(),
            body_timeout: defaults::body_timeout(),
            max_instances: defaults::max_instances(),
            memory: defaults::memory(),
            recycle_calls: defaults::recycle_calls(),
            recycle_memory: None,
            compile_memory: defaults::compile_memory(),
            compile_timeout: defaults::compile_timeout(),
            on_error: OnError::default(),
            isolation: Isolation::default(),
            grant: Vec::new(),
            table_elements: defaults::table_elements(),
            core_instances: defaults::core_instances(),
            stack: defaults::stack(),
            hostcall_bytes: defaults::hostcall_bytes(),
            host_calls: defaults::host_calls(),
            log_lines: defaults::log_lines(),
            log_rate: defaults::log_rate(),
            optional: false,
            probe: defaults::probe(),
            cases: None,
            capture: 0,
            probation: defaults::probation(),
            max_faults: defaults::max_faults(),
            keep_versions: defaults::keep_versions(),
            quarantine_after: defaults::quarantine_after(),
            quarantine_interval: defaults::quarantine_interval(),
        }
    }

    /// Everything that is impossible about it.
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Problems::default();
        problems.require(!self.file.as_os_str().is_empty(), "file", || "must not be empty".into());
        if let Some(sha256) = &self.sha256 {
            let is_digest =
                sha256.len() == 64 && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
            problems.require(is_digest, "sha256", || {
                format!("expected 64 hex digits, found `{sha256}`")
            });
        }
        if let Some(peek) = self.peek_body {
            problems.require(
                (ByteSize::b(1)..=Self::LARGEST_PEEK).contains(&peek),
                "peek_body",
                || format!("must be within 1 byte and {}, is {peek}", Self::LARGEST_PEEK),
            );
        }
        let limit = self.timeout.0;
        let shortest = ConfigDuration::SHORTEST.0;
        problems.require((shortest..=Self::LONGEST_TIMEOUT).contains(&limit), "timeout", || {
            format!("must be from 1ms to 60s, is {}", self.timeout)
        });
        problems.require(self.peek_timeout.0 <= Self::LONGEST_PEEK, "peek_timeout", || {
            format!("must be at most 60s, is {}", self.peek_timeout)
        });
        for (key, limit) in
            [("response_timeout", self.response_timeout), ("body_timeout", self.body_timeout)]
        {
            problems.require((shortest..=Self::LONGEST_WAIT).contains(&limit.0), key, || {
                format!("must be from 1ms to 10m, is {limit}")
            });
        }
        problems.require(
            (Self::PAGE..=Self::LARGEST_MEMORY).contains(&self.memory),
            "memory",
            || {
                format!(
                    "must be within {} and {}, is {}",
                    Self::PAGE,
                    Self::LARGEST_MEMORY,
                    self.memory
                )
            },
        );
        problems.require(self.recycle_calls > 0, "recycle_calls", || "must be at least 1".into());
        if let Some(recycle) = self.recycle_memory {
            problems.require(
                (Self::PAGE..=self.memory).contains(&recycle),
                "recycle_memory",
                || {
                    format!(
                        "must be from {} to `memory`, which is {}, is {recycle}",
                        Self::PAGE,
                        self.memory
                    )
                },
            );
        }
        for (key, size, least, most) in [
            ("stack", self.stack, ByteSize::kib(64), ByteSize::mib(1)),
            ("hostcall_bytes", self.hostcall_bytes, ByteSize::kib(4), ByteSize::mib(64)),
        ] {
            problems.require((least..=most).contains(&size), key, || {
                format!("must be within {least} and {most}, is {size}")
            });
        }
        for (key, number, least, most) in [
            ("table_elements", self.table_elements, 1, 10_000_000),
            ("core_instances", self.core_instances, 1, 10_000),
            ("max_instances", self.max_instances, 1, 100_000),
            ("log_lines", self.log_lines, 0, 1_000),
            ("keep_versions", self.keep_versions, 0, 10),
        ] {
            problems.require((least..=most).contains(&number), key, || {
                format!("must be within {least} and {most}, is {number}")
            });
        }
        problems.require(self.capture <= Self::MOST_CAPTURED, "capture", || {
            format!("must be at most {}, is {}", Self::MOST_CAPTURED, self.capture)
        });
        problems.require(
            self.cases.as_ref().is_none_or(|cases| !cases.as_os_str().is_empty()),
            "cases",
            || "must not be empty".into(),
        );
        for (key, number) in
            [("host_calls", self.host_calls), ("quarantine_after", self.quarantine_after)]
        {
            problems.require(number > 0, key, || "must be at least 1".into());
        }
        problems.require_time(self.quarantine_interval, "quarantine_interval");
        let (least, largest) = (Self::LEAST_COMPILE_MEMORY, Self::LARGEST_COMPILE_MEMORY);
        problems.require(
            (least..=largest).contains(&self.compile_memory),
            "compile_memory",
            || format!("must be within {least} and {largest}, is {}", self.compile_memory),
        );
        let limit = self.compile_timeout.0;
        problems.require(
            (shortest..=Self::LONGEST_COMPILE_TIMEOUT).contains(&limit),
            "compile_timeout",
            || format!("must be from 1ms to 10m, is {}", self.compile_timeout),
        );
        problems.into_result(()).err().unwrap_or_default()
    }

    /// Bytes of the thread's stack that it may use.
    pub(crate) fn stack(&self) -> usize {
        to_usize(self.stack)
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
}

/// Saturates.
pub(crate) fn to_usize(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
