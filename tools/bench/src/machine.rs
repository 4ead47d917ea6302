//! The machine and the revision of a run.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};

/// What the figures depend on.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct MachineInfo {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) system: String,
}

impl MachineInfo {
    pub(crate) fn describe() -> Self {
        let field = |file: &str, name: &str, separator: char| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let mut lines = text.lines().filter_map(|line| line.split_once(separator));
            lines.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
        };
        let memory = field("/proc/meminfo", "MemTotal", ':');
        let memory: Option<u64> = memory.and_then(|value| value.strip_suffix(" kB")?.parse().ok());
        Self {
            processor: field("/proc/cpuinfo", "model name", ':')
                .unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.unwrap_or(0) / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            system: field("/etc/os-release", "PRETTY_NAME", '=')
                .unwrap_or_default()
                .trim_matches('"')
                .to_owned(),
        }
    }
}

/// The first line that a program prints on stdout or stderr; `None` if it can't be run.
pub(crate) fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = if output.stdout.trim_ascii().is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

/// The commit that is measured, marked if there are uncommitted changes.
pub(crate) fn revision() -> String {
    first_line(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]))
        .unwrap_or_else(|| "unknown".into())
}
