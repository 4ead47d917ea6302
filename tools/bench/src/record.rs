//! Raw data: JSON lines, a `run` and then its measurements.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::MachineInfo;
use crate::scenario::{Generator, Protocol};

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "record", rename_all = "kebab-case")]
pub(crate) enum RawRecord {
    Run(RunInfo),
    Measurement(Measurement),
    Micro(Micro),
    Overload(Overload),
}

/// When, where and with what.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct RunInfo {
    /// In UTC.
    pub(crate) time: jiff::Timestamp,
    pub(crate) revision: String,
    pub(crate) machine: MachineInfo,
    /// Programs with their versions.
    pub(crate) versions: Vec<(String, String)>,
    /// The command line.
    pub(crate) arguments: Vec<String>,
}

/// One load on one contestant.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Measurement {
    pub(crate) scenario: String,
    /// The point on its axis, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) point: Option<u64>,
    pub(crate) contestant: String,
    /// Counted from 1; 0 is the warm-up.
    pub(crate) round: usize,
    pub(crate) generator: Generator,
    pub(crate) protocol: Protocol,
    pub(crate) tls: bool,
    pub(crate) connections: usize,
    /// The rate that was asked for, in requests per second; `None`: as many as possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    /// Processor time of all processes of the contestant.
    pub(crate) processor_seconds: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p50_micros: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p99_micros: Option<f64>,
    /// Resident memory after the load.
    pub(crate) resident_bytes: u64,
    /// The same with every shared page counted once.
    pub(crate) proportional_bytes: u64,
    /// Connections opened to the service during the load.
    pub(crate) upstream_connections: u64,
    /// The mean time of a component call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) component_call_micros: Option<f64>,
    /// The median and the 99th percentile of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) component_call_p50_micros: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) component_call_p99_micros: Option<f64>,
}

impl Measurement {
    /// Microseconds of processor time per request.
    pub(crate) fn cost(&self) -> f64 {
        self.processor_seconds * 1e6 / self.requests.max(1) as f64
    }

    /// Requests per second.
    pub(crate) fn throughput(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// The time of one operation, measured by criterion.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Micro {
    /// Criterion's group and function.
    pub(crate) name: String,
    /// The median in nanoseconds, with the bounds of its confidence interval.
    pub(crate) nanos: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// The fastest sample, which is what it takes when nothing else has the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fastest: Option<f64>,
    /// Instructions in user space, if they were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) instructions: Option<f64>,
}

/// What became of requests of which there were too many, behind one proxy.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Overload {
    pub(crate) contestant: String,
    /// That of the machine, of its last minute.
    pub(crate) load_average: f64,
    /// The 99th percentile of the time that good answers took while there were too many.
    pub(crate) good_p99_micros: Option<f64>,
    /// By the second in which they were due.
    pub(crate) seconds: Vec<OverloadSecond>,
}

/// What became of the requests that were due in one second.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct OverloadSecond {
    /// Those that were answered well, in time.
    pub(crate) good: u64,
    /// Those that were answered well, too late.
    pub(crate) late: u64,
    /// Those that were answered with a failure.
    pub(crate) failed: u64,
    /// Those whose clients have left.
    pub(crate) left: u64,
    /// How many requests came to the service meanwhile.
    pub(crate) asked: u64,
    /// The 99th percentile of the time of those that were not answered with a failure.
    pub(crate) waited_p99_micros: Option<f64>,
}

/// A file with a line per record.
#[derive(Debug)]
pub(crate) struct RawDataFile {
    file: File,
    pub(crate) path: PathBuf,
}

impl RawDataFile {
    /// Appends `run` to the file of today in `directory`.
    pub(crate) fn start(directory: &Path, run: RunInfo) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let path = directory.join(format!("{}.jsonl", run.time.strftime("%Y-%m-%d")));
        let file = File::options().create(true).append(true).open(&path);
        let mut recorder = Self { file: file.with_context(|| path.display().to_string())?, path };
        recorder.write(&RawRecord::Run(run))?;
        Ok(recorder)
    }

    pub(crate) fn write(&mut self, record: &RawRecord) -> Result<()> {
        writeln!(self.file, "{}", serde_json::to_string(record)?)?;
        Ok(())
    }
}

/// A run with its measurements.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) run: RunInfo,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) micros: Vec<Micro>,
    pub(crate) overloads: Vec<Overload>,
}

/// All runs in a file, the oldest first.
pub(crate) fn read(path: &Path) -> Result<Vec<Measured>> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let mut runs: Vec<Measured> = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("{}, line {}", path.display(), index + 1);
        let run = runs.last_mut().context("a measurement before any run").with_context(place);
        match serde_json::from_str(&line?).with_context(place)? {
            RawRecord::Run(run) => {
                let (measurements, micros, overloads) = Default::default();
                runs.push(Measured { run, measurements, micros, overloads });
            }
            RawRecord::Measurement(measurement) => run?.measurements.push(measurement),
            RawRecord::Micro(micro) => run?.micros.push(micro),
            RawRecord::Overload(overload) => run?.overloads.push(overload),
        }
    }
    Ok(runs)
}
