//! Takes criterion's results into the raw data.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::record::{Micro, RawDataFile, RawRecord};
use crate::report;
use crate::run;
use crate::say::say;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct MicroArguments {
    /// Where criterion has left what it found
    #[arg(long, value_name = "DIR", default_value = "target/criterion")]
    criterion: PathBuf,
    /// Where the raw data goes, into a file named after the date
    #[arg(long, value_name = "DIR", default_value = run::DIRECTORY)]
    out: PathBuf,
}

pub(crate) fn micro(arguments: MicroArguments) -> Result<()> {
    let mut found = Vec::new();
    collect(&arguments.criterion, &mut found)?;
    ensure!(
        !found.is_empty(),
        "nothing in {}: run `cargo bench` first",
        arguments.criterion.display()
    );
    found.sort_by(|one, other| one.name.cmp(&other.name));
    let run = run::describe_with(vec![run::version("rustc", Path::new("rustc"), "--version")])?;
    let mut recorder = RawDataFile::start(&arguments.out, run)?;
    for micro in &found {
        recorder.write(&RawRecord::Micro(micro.clone()))?;
    }
    say!("{}", report::micros(&found));
    say!("raw data: {}", recorder.path.display());
    Ok(())
}

#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
}

#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// The latest results are in directories named `new`.
fn collect(directory: &Path, found: &mut Vec<Micro>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        if path.ends_with("new") {
            let Benchmark { full_id } = read(&path.join("benchmark.json"))?;
            let Estimates { median } = read(&path.join("estimates.json"))?;
            let Interval { lower_bound: low, upper_bound: high } = median.confidence_interval;
            found.push(Micro { name: full_id, nanos: median.point_estimate, low, high });
        } else {
            collect(&path, found)?;
        }
    }
    Ok(())
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    serde_json::from_reader(file).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_last_is_collected_from_all_groups() {
        let directory = tempfile::tempdir().unwrap();
        for (of, id, median) in
            [("a/b/new", "a/b", 2.0), ("a/b/base", "a/b", 1.0), ("c/new", "c", 3.0)]
        {
            let path = directory.path().join(of);
            fs::create_dir_all(&path).unwrap();
            fs::write(
                path.join("benchmark.json"),
                format!(r#"{{"group_id":"x","full_id":"{id}"}}"#),
            )
            .unwrap();
            let interval = r#"{"confidence_level":0.95,"lower_bound":0.5,"upper_bound":4.0}"#;
            let median =
                format!(r#"{{"point_estimate":{median},"confidence_interval":{interval}}}"#);
            fs::write(path.join("estimates.json"), format!(r#"{{"median":{median}}}"#)).unwrap();
        }
        let mut found = Vec::new();
        collect(directory.path(), &mut found).unwrap();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let micro = |name: &str, nanos| Micro { name: name.into(), nanos, low: 0.5, high: 4.0 };
        assert_eq!(found, [micro("a/b", 2.0), micro("c", 3.0)]);
    }
}
