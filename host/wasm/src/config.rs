//! `[components.NAME]`: what the file says of a component.

mod defaults;
pub(crate) mod grant;
pub(crate) mod probation;

use std::collections::BTreeMap;
use std::path::PathBuf;

use fusebox_resilience::Peek;
use fusebox_resilience::config::{ConfigDuration, ConfigSize, Problem, Problems};
use serde::Deserialize;

use self::grant::{Grant, HttpHost};
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
    pub peek_body: Option<ConfigSize>,
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
    pub memory: ConfigSize,
    /// After so many calls an instance is replaced by a fresh one.
    #[serde(default = "defaults::recycle_calls")]
    pub recycle_calls: u64,
    /// An instance that holds more than this after a call is replaced by a fresh one. Default:
    /// half of `memory`.
    pub recycle_memory: Option<ConfigSize>,
    /// How much memory compiling it may take, 64 MiB to 16 GiB.
    #[serde(default = "defaults::compile_memory")]
    pub compile_memory: ConfigSize,
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
    pub stack: ConfigSize,
    /// How many bytes the host copies out of it at once, 4 KiB to 64 MiB: what it passes to one
    /// function of the host, or the response that it returns. Copying cannot be interrupted.
    #[serde(default = "defaults::hostcall_bytes")]
    pub hostcall_bytes: ConfigSize,
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
    const PAGE: ConfigSize = ConfigSize::kib(64);
    const LARGEST_MEMORY: ConfigSize = ConfigSize::gib(4);
    /// A guest may ask for all of it again and again within one call, and copying cannot be
    /// interrupted.
    const LARGEST_PEEK: ConfigSize = ConfigSize::mib(1);
    const LONGEST_TIMEOUT: ConfigDuration = ConfigDuration::from_secs(60);
    /// A response waits for as long, whoever wants it.
    const LONGEST_PEEK: ConfigDuration = ConfigDuration::from_secs(60);
    const LONGEST_WAIT: ConfigDuration = ConfigDuration::from_secs(10 * 60);
    /// The compiler takes so much before it sees a component, and some more.
    const LEAST_COMPILE_MEMORY: ConfigSize = ConfigSize::mib(64);
    const LARGEST_COMPILE_MEMORY: ConfigSize = ConfigSize::gib(16);
    const LONGEST_COMPILE_TIMEOUT: ConfigDuration = ConfigDuration::from_secs(10 * 60);
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
        problems.require(
            self.cases.as_ref().is_none_or(|cases| !cases.as_os_str().is_empty()),
            "cases",
            || "must not be empty".into(),
        );
        self.validate_sizes(&mut problems);
        self.validate_times(&mut problems);
        self.validate_counts(&mut problems);
        problems.into_result(()).err().unwrap_or_default()
    }

    fn validate_sizes(&self, problems: &mut Problems) {
        for (key, size, least, most) in [
            ("memory", self.memory, Self::PAGE, Self::LARGEST_MEMORY),
            ("stack", self.stack, ConfigSize::kib(64), ConfigSize::mib(1)),
            ("hostcall_bytes", self.hostcall_bytes, ConfigSize::kib(4), ConfigSize::mib(64)),
            (
                "compile_memory",
                self.compile_memory,
                Self::LEAST_COMPILE_MEMORY,
                Self::LARGEST_COMPILE_MEMORY,
            ),
        ] {
            problems.require_within(size, least..=most, key);
        }
        if let Some(peek) = self.peek_body {
            problems.require_within(peek, ConfigSize(1)..=Self::LARGEST_PEEK, "peek_body");
        }
        if let Some(recycle) = self.recycle_memory {
            let (least, most) = (Self::PAGE, self.memory);
            problems.require((least..=most).contains(&recycle), "recycle_memory", || {
                format!("must be from {least} to `memory`, which is {most}, is {recycle}")
            });
        }
    }

    fn validate_times(&self, problems: &mut Problems) {
        for (key, time, most) in [
            ("timeout", self.timeout, Self::LONGEST_TIMEOUT),
            ("response_timeout", self.response_timeout, Self::LONGEST_WAIT),
            ("body_timeout", self.body_timeout, Self::LONGEST_WAIT),
            ("compile_timeout", self.compile_timeout, Self::LONGEST_COMPILE_TIMEOUT),
        ] {
            problems.require_within(time, ConfigDuration::SHORTEST..=most, key);
        }
        problems.require(self.peek_timeout <= Self::LONGEST_PEEK, "peek_timeout", || {
            format!("must be at most {}, is {}", Self::LONGEST_PEEK, self.peek_timeout)
        });
        problems.require_time_or_zero(self.peek_timeout, "peek_timeout");
        problems.require_time(self.quarantine_interval, "quarantine_interval");
        if let Probation::Time(time) = self.probation {
            problems.require_time_or_zero(time, "probation");
        }
    }

    fn validate_counts(&self, problems: &mut Problems) {
        for (key, count, least, most) in [
            ("table_elements", self.table_elements, 1, 10_000_000),
            ("core_instances", self.core_instances, 1, 10_000),
            ("max_instances", self.max_instances, 1, 100_000),
            ("log_lines", self.log_lines, 0, 1_000),
            ("keep_versions", self.keep_versions, 0, 10),
        ] {
            problems.require_within(count, least..=most, key);
        }
        problems.require(self.capture <= Self::MOST_CAPTURED, "capture", || {
            format!("must be at most {}, is {}", Self::MOST_CAPTURED, self.capture)
        });
        problems.require_least(self.recycle_calls, 1, "recycle_calls");
        problems.require_least(self.host_calls, 1, "host_calls");
        problems.require_least(self.quarantine_after, 1, "quarantine_after");
    }

    /// Bytes of the thread's stack that it may use.
    pub(crate) fn stack(&self) -> usize {
        self.stack.in_memory()
    }

    /// The hosts that it may ask.
    pub fn hosts(&self) -> impl Iterator<Item = &HttpHost> {
        self.grant.iter().filter_map(|grant| match grant {
            Grant::Http(host) => Some(host),
            Grant::Env(_) => None,
        })
    }

    /// Whether it may ask others.
    pub(crate) fn grants_hosts(&self) -> bool {
        self.hosts().next().is_some()
    }

    /// How much of a body its questions need.
    pub(crate) fn peek(&self) -> Option<Peek> {
        let bytes = self.peek_body?;
        Some(Peek { bytes: bytes.in_memory(), timeout: self.peek_timeout.0 })
    }

    /// Bytes of linear memory above which an instance is replaced.
    pub(crate) fn recycle_memory(&self) -> usize {
        self.recycle_memory.unwrap_or(ConfigSize(self.memory.0 / 2)).in_memory()
    }

    /// What compiling it may take.
    pub(crate) fn compile_limits(&self) -> CompileLimits {
        CompileLimits { memory: self.compile_memory, timeout: self.compile_timeout.0 }
    }
}

#[cfg(test)]
mod tests;
