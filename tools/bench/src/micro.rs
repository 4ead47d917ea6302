//! Takes criterion's results into the raw data, and has the instructions of calls through policies
//! counted: times vary with what else the machine does, and these do not.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    count_calls(&mut found)?;
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

/// How often it was done in each sample, and how long that took.
#[derive(Deserialize)]
struct Samples {
    iters: Vec<f64>,
    times: Vec<f64>,
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
            let Samples { iters, times } = read(&path.join("sample.json"))?;
            let fastest = times.iter().zip(iters).map(|(time, count)| time / count);
            let fastest = fastest.min_by(f64::total_cmp);
            let (nanos, instructions) = (median.point_estimate, None);
            found.push(Micro { name: full_id, nanos, low, high, fastest, instructions });
        } else {
            collect(&path, found)?;
        }
    }
    Ok(())
}

/// Calls through policies, as `host/resilience/benches/pipeline.rs` makes them.
const CALLS: &str = "pipeline/";

/// Counts the instructions of those that are calls through policies.
fn count_calls(found: &mut [Micro]) -> Result<()> {
    let mut calls = found
        .iter_mut()
        .filter_map(|micro| Some((micro.name.strip_prefix(CALLS)?.to_owned(), micro)))
        .peekable();
    if calls.peek().is_none() {
        return Ok(());
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        say!("valgrind is not installed: no instructions are counted");
        return Ok(());
    }
    let program = bench_program()?;
    for (name, micro) in calls {
        // What comes before the first call is in both.
        let (few, many) = (1_000, 3_000);
        let counted = instructions(&program, &name, many)? - instructions(&program, &name, few)?;
        micro.instructions = Some(counted / f64::from(many - few));
    }
    Ok(())
}

fn bench_program() -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "-p", "fusebox-resilience", "--bench", "pipeline", "--no-run"]);
    let output = command.arg("--message-format=json").output().context("cargo")?;
    let messages = String::from_utf8(output.stdout)?;
    let mut programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let is_it = message["target"]["name"] == "pipeline";
        message["executable"].as_str().filter(|_| is_it).map(PathBuf::from)
    });
    programs.next_back().context("cargo names no program of the benchmark")
}

/// What the program executes that makes so many calls.
fn instructions(program: &Path, name: &str, count: u32) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--calls", name, &count.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} under valgrind: {said}");
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    let count = collected.and_then(|count| count.trim().parse().ok());
    count.with_context(|| format!("valgrind has counted nothing: {said}"))
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
            let samples = format!(r#"{{"iters":[1.0,2.0],"times":[{median},{median}]}}"#);
            fs::write(path.join("sample.json"), samples).unwrap();
            let median =
                format!(r#"{{"point_estimate":{median},"confidence_interval":{interval}}}"#);
            fs::write(path.join("estimates.json"), format!(r#"{{"median":{median}}}"#)).unwrap();
        }
        let mut found = Vec::new();
        collect(directory.path(), &mut found).unwrap();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        let micro = |name: &str, nanos| Micro {
            name: name.into(),
            nanos,
            low: 0.5,
            high: 4.0,
            fastest: Some(nanos / 2.0),
            instructions: None,
        };
        assert_eq!(found, [micro("a/b", 2.0), micro("c", 3.0)]);
    }
}
