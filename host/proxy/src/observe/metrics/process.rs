//! What Linux says of this process, in the names that Prometheus gives it. Elsewhere there is
//! nothing.

use std::fs;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// `USER_HZ`, which is 100 wherever Linux shows it to programs.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn registry(started: Option<f64>) -> Registry {
    let mut registry = Registry::default();
    if let Some(seconds) = read("/proc/self/stat").as_deref().and_then(cpu_seconds) {
        registry.register(
            "process_cpu_seconds",
            "User and system CPU time",
            ConstCounter::new(seconds),
        );
    }
    if let Some(bytes) = read("/proc/self/status").as_deref().and_then(resident_bytes) {
        registry.register(
            "process_resident_memory_bytes",
            "Resident memory",
            ConstGauge::new(bytes),
        );
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let count = i64::try_from(open.count()).unwrap_or(i64::MAX);
        registry.register("process_open_fds", "Open file descriptors", ConstGauge::new(count));
    }
    if let Some(started) = started {
        registry.register(
            "process_start_time_seconds",
            "When the process started, in seconds since 1970",
            ConstGauge::new(started),
        );
    }
    registry
}

pub(super) fn start_time() -> Option<f64> {
    let booted: f64 = read("/proc/stat")?
        .lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()?;
    Some(booted + start_after_boot(&read("/proc/self/stat")?)?)
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The field of proc_pid_stat(5) with this number, of those after the program's name (which may
/// hold anything).
fn field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

pub(super) fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((field(stat, 14)? + field(stat, 15)?) / TICKS_PER_SECOND)
}

pub(super) fn start_after_boot(stat: &str) -> Option<f64> {
    Some(field(stat, 22)? / TICKS_PER_SECOND)
}

pub(super) fn resident_bytes(status: &str) -> Option<i64> {
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = size.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}
