//! The record: what a request cost when somebody last said that it may.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// By what part instructions may change unnoticed. The same program repeats within a fifth of that.
const INSTRUCTIONS: f64 = 0.02;

/// By how much allocations may. What allocates once in some requests is seen a little more or less
/// often.
const ALLOCATIONS: f64 = 0.3;

const COMMENT: &str = "\
# What a request costs a worker, in instructions in user space and in heap allocations: `make counts` holds the program
# against this, and `target/debug/counts --record` writes it.

";

/// All of it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Record {
    pub(crate) conditions: Conditions,
    pub(crate) cases: BTreeMap<String, Figures>,
}

/// What the figures depend on beside the program. With others they say nothing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Conditions {
    rustc: String,
    libc: String,
    /// Valgrind shows the program a processor of its own, but not a better one than there is. (On
    /// an Intel and on an AMD processor the figures of one program were within 0.1 % of each
    /// other.)
    processor: String,
}

/// Of one request.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct Figures {
    pub(crate) instructions: u64,
    pub(crate) allocations: f64,
}

/// How figures compare with those that were recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Verdict {
    /// The part by which they are more.
    pub(crate) instructions: f64,
    /// How many they are more.
    pub(crate) allocations: f64,
    /// One is more than it may be.
    pub(crate) is_regression: bool,
    /// One is less by so much that the record should know.
    pub(crate) is_improvement: bool,
}

impl Figures {
    /// As exact as they repeat.
    pub(crate) fn new(instructions: f64, allocations: f64) -> Self {
        Self {
            instructions: instructions.round() as u64,
            allocations: (allocations * 10.0).round() / 10.0,
        }
    }
}

impl Verdict {
    pub(crate) fn of(now: Figures, recorded: Figures) -> Self {
        let instructions = now.instructions as f64 / recorded.instructions as f64 - 1.0;
        let allocations = now.allocations - recorded.allocations;
        Self {
            instructions,
            allocations,
            is_regression: instructions > INSTRUCTIONS || allocations > ALLOCATIONS,
            is_improvement: instructions < -INSTRUCTIONS || allocations < -ALLOCATIONS,
        }
    }
}

impl Conditions {
    /// Those of now.
    pub(crate) fn here() -> Result<Self> {
        let first_line = |program: &str| {
            let output = Command::new(program)
                .arg("--version")
                .output()
                .with_context(|| program.to_owned())?;
            ensure!(
                output.status.success(),
                "{program}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(String::from_utf8_lossy(&output.stdout)
                .lines()
                .next()
                .unwrap_or_default()
                .to_owned())
        };
        #[cfg(target_arch = "x86_64")]
        let has_avx2 = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let has_avx2 = false;
        let processor =
            format!("{}{}", std::env::consts::ARCH, if has_avx2 { " with AVX2" } else { "" });
        // `ldd (Debian GLIBC 2.36-9+deb12u14) 2.36`: what a distribution mends in it changes no
        // figure.
        let libc = first_line("ldd")?.rsplit(' ').next().map(|version| format!("libc {version}"));
        Ok(Self { rustc: first_line("rustc")?, libc: libc.unwrap_or_default(), processor })
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rustc, libc, processor } = self;
        write!(f, "{rustc}, {libc}, {processor}")
    }
}

impl Record {
    fn file() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("record.toml")
    }

    pub(crate) fn read() -> Result<Self> {
        let file = Self::file();
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        toml::from_str(&text).with_context(|| file.display().to_string())
    }

    pub(crate) fn write(&self) -> Result<()> {
        let file = Self::file();
        fs::write(&file, format!("{COMMENT}{}", toml::to_string(self)?))
            .with_context(|| file.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(instructions: f64, allocations: f64) -> (bool, bool) {
        let recorded = Figures::new(40_000.0, 18.0);
        let verdict = Verdict::of(Figures::new(instructions, allocations), recorded);
        (verdict.is_regression, verdict.is_improvement)
    }

    #[test]
    fn a_change_counts_beyond_the_margin() {
        assert_eq!(verdict(40_790.0, 18.0), (false, false));
        assert_eq!(verdict(40_810.0, 18.0), (true, false));
        assert_eq!(verdict(39_210.0, 18.2), (false, false));
        assert_eq!(verdict(39_190.0, 18.0), (false, true));
        assert_eq!(verdict(40_000.0, 19.0), (true, false));
        assert_eq!(verdict(40_000.0, 17.0), (false, true));
        // Less of one is no excuse for more of the other.
        assert_eq!(verdict(30_000.0, 19.0), (true, true));
    }

    #[test]
    fn the_record_has_every_case_and_no_other() {
        let recorded: Vec<_> = Record::read().expect("a record").cases.into_keys().collect();
        let mut cases: Vec<_> = crate::case::CASES.iter().map(|case| case.name).collect();
        cases.sort_unstable();
        assert_eq!(recorded, cases);
    }
}
