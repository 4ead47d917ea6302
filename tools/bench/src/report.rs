//! Reports of raw data: a line per measurement, tables, goals, plots, and the page of all runs.

mod figures;
mod goals;
mod overload;
pub(crate) mod page;
mod plot;
mod policies;
mod table;

use std::path::Path;

use anyhow::Result;

use crate::record::{self, Measurement, Micro, Overload};
use crate::say::say;

use figures::MeasuredFigures;
use table::milliseconds;

/// A measurement in a line.
pub(crate) fn line(measured: &Measurement) -> String {
    let latency = |micros: Option<f64>| micros.map_or("-".into(), milliseconds);
    let errors =
        if measured.errors > 0 { format!(", {} errors", measured.errors) } else { String::new() };
    format!(
        "{:>2} {:18} {:7.2} µs {:7.0}/s, p50 {} ms, p99 {} ms{errors}",
        measured.round,
        measured.contestant,
        measured.cost(),
        measured.throughput(),
        latency(measured.p50_micros),
        latency(measured.p99_micros),
    )
}

/// What became of too many requests, in a line.
pub(crate) fn overload_line(overload: &Overload) -> String {
    overload::line(overload)
}

/// The table of criterion's results.
pub(crate) fn micros(micros: &[Micro]) -> String {
    let (policies, others): (Vec<_>, Vec<_>) =
        micros.iter().partition(|micro| micro.instructions.is_some());
    format!("{}\n{}", policies::table(&policies), table::micros(&others))
}

/// Prints the tables of the last run in a file.
pub(crate) fn print(path: &Path) -> Result<()> {
    let Some(last) = record::read(path)?.pop() else { return Ok(()) };
    let figures = MeasuredFigures::of([&last]);
    let compared = table::comparisons(&figures);
    if !compared.is_empty() {
        say!("\n{compared}\n{}", goals::table(&figures));
    }
    if figures.newest_scale().is_some() {
        say!("\n{}", table::scales(&figures));
    }
    if let Some((_, overloads)) = figures.overloads() {
        say!("\n{}", overload::table(overloads));
    }
    say!("raw data: {}", path.display());
    Ok(())
}
