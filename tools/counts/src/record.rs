//! The record: the accepted cost of a request.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The tolerated change of instructions, as a fraction. The same program repeats within a fifth of
/// it.
const INSTRUCTIONS: f64 = 0.02;

/// The tolerated change of allocations. Those that happen once in some requests vary a little.
const ALLOCATIONS: f64 = 0.3;

const COMMENT: &str = "\
# What a request costs a worker, in instructions in user space and in heap allocations:
# `make counts` holds the program against this, and `target/debug/counts --record` writes it.

";

/// The record of all cases.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct CostRecord {
    pub(crate) conditions: Conditions,
    pub(crate) cases: BTreeMap<String, RequestCost>,
}

/// What the figures depend on besides the program. Figures under other conditions can't be
/// compared.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Conditions {
    rustc: String,
    libc: String,
    /// Valgrind shows the program a processor of its own, but not a better one than there is. (On
    /// an Intel and on an AMD processor the figures of one program were within 0.1 % of each
    /// other.)
    processor: String,
}

/// The cost of one request.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub(crate) struct RequestCost {
    pub(crate) instructions: u64,
    pub(crate) allocations: f64,
}

/// The change of a cost since it was recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CostChange {
    /// The increase as a fraction.
    pub(crate) instructions: f64,
    /// The increase as a number.
    pub(crate) allocations: f64,
    /// One of them has increased by more than is tolerated.
    pub(crate) is_regression: bool,
    /// One of them has decreased by more than is tolerated.
    pub(crate) is_improvement: bool,
}

impl RequestCost {
    /// Rounded to the digits that repeat.
    pub(crate) fn new(instructions: f64, allocations: f64) -> Self {
        Self {
            instructions: instructions.round() as u64,
            allocations: (allocations * 10.0).round() / 10.0,
        }
    }
}

impl CostChange {
    pub(crate) fn of(now: RequestCost, recorded: RequestCost) -> Self {
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
    /// The present conditions.
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

impl CostRecord {
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
        let recorded = RequestCost::new(40_000.0, 18.0);
        let change = CostChange::of(RequestCost::new(instructions, allocations), recorded);
        (change.is_regression, change.is_improvement)
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
        let recorded: Vec<_> = CostRecord::read().expect("a record").cases.into_keys().collect();
        let mut cases: Vec<_> = crate::case::CASES.iter().map(|case| case.name).collect();
        cases.sort_unstable();
        assert_eq!(recorded, cases);
    }
}
