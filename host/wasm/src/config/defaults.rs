//! What a component is configured with where the file says nothing.

use fusebox_resilience::config::{ConfigDuration, ConfigSize};

use super::probation::Probation;

pub(super) fn peek_timeout() -> ConfigDuration {
    ConfigDuration::from_millis(100)
}

pub(super) fn timeout() -> ConfigDuration {
    ConfigDuration::from_millis(10)
}

pub(super) fn response_timeout() -> ConfigDuration {
    ConfigDuration::from_secs(1)
}

pub(super) fn body_timeout() -> ConfigDuration {
    ConfigDuration::from_secs(60)
}

/// With the default `memory`, 8 GiB if all of them held all that they may.
pub(super) fn max_instances() -> usize {
    128
}

pub(super) fn memory() -> ConfigSize {
    ConfigSize::mib(64)
}

pub(super) fn recycle_calls() -> u64 {
    1_000_000
}

/// The largest guest language seen (SpiderMonkey) needs about 20,000.
pub(super) fn table_elements() -> usize {
    1 << 17
}

/// A Python guest is linked from some twenty.
pub(super) fn core_instances() -> usize {
    256
}

pub(super) fn stack() -> ConfigSize {
    ConfigSize::kib(512)
}

/// A guest that asks in a loop for a header with a name of 16 MiB would hold a worker for
/// milliseconds at a time.
pub(super) fn hostcall_bytes() -> ConfigSize {
    ConfigSize::mib(1)
}

pub(super) fn host_calls() -> u32 {
    10_000
}

pub(super) fn log_lines() -> usize {
    16
}

pub(super) fn log_rate() -> u32 {
    100
}

pub(super) fn probe() -> bool {
    true
}

pub(super) fn probation() -> Probation {
    Probation::Time(ConfigDuration::from_secs(60))
}

pub(super) fn max_faults() -> u32 {
    3
}

pub(super) fn keep_versions() -> usize {
    2
}

/// A guest that fails for some requests only must stay in service for the others.
pub(super) fn quarantine_after() -> u32 {
    20
}

pub(super) fn quarantine_interval() -> ConfigDuration {
    ConfigDuration::from_secs(5)
}

pub(super) fn compile_memory() -> ConfigSize {
    ConfigSize::gib(1)
}

pub(super) fn compile_timeout() -> ConfigDuration {
    ConfigDuration::from_secs(60)
}
