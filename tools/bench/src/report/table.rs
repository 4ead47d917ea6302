//! Tables in Markdown.

use std::fmt::Write as _;

use clap::ValueEnum as _;

use super::figures::{COST, Figure, FigureOf, MeasuredFigures, P50, P99, RESIDENT, THROUGHPUT};
use crate::axis::Axis;
use crate::contestant::{Contestant, REFERENCE};
use crate::record::Micro;
use crate::scenario::{Generator, Scenario};
use crate::statistics::Spread;

/// A table for each scenario in which contestants were compared.
pub(crate) fn comparisons(figures: &MeasuredFigures<'_>) -> String {
    let mut text = String::new();
    for scenario in Scenario::ALL {
        let mut contestants = figures.contestants(scenario.name);
        if contestants.is_empty() {
            continue;
        }
        contestants.sort_by_key(|name| Contestant::rank(name));
        writeln!(text, "### `{}`: {}\n", scenario.name, scenario.title).ok();
        comparison(&mut text, figures, &scenario, &contestants);
        text.push('\n');
    }
    text
}

fn comparison(
    text: &mut String,
    figures: &MeasuredFigures<'_>,
    scenario: &Scenario,
    contestants: &[&str],
) {
    let open = scenario.generator == Generator::OpenLoop;
    // Not all speak everything.
    let reference = [REFERENCE, "envoy"].into_iter().find(|name| contestants.contains(name));
    let reference = reference.unwrap_or(REFERENCE);
    let relative = |figure| format!("{figure}, {reference} = 1");
    let mut head = vec![String::new(), relative("CPU per request"), "µs".into()];
    if !open {
        head.extend([relative("requests/s"), "requests/s".into()]);
    }
    head.push(relative("p99"));
    head.extend(["p50, ms", "p99, ms", "resident, MiB", "connections", "errors"].map(Into::into));
    row(text, &head);
    row(text, head.iter().enumerate().map(|(column, _)| if column == 0 { "---" } else { "---:" }));
    for &contestant in contestants {
        let of = FigureOf::new(scenario.name, contestant);
        let reference = FigureOf::new(scenario.name, reference);
        let ratio = |figure| figures.ratio(of, reference, figure).map_or_else(none, range);
        let value = |figure, show: fn(f64) -> String| {
            figures.value(of, figure).map_or_else(none, |value| show(value.median))
        };
        let mut cells = vec![
            Contestant::title(contestant).into(),
            ratio(COST),
            value(COST, |value| format!("{value:.2}")),
        ];
        if !open {
            cells.extend([ratio(THROUGHPUT), value(THROUGHPUT, thousands)]);
        }
        cells.extend([ratio(P99), value(P50, milliseconds), value(P99, milliseconds)]);
        cells.push(value(RESIDENT, |value| format!("{value:.1}")));
        let all = || figures.all(scenario.name, contestant);
        cells.push(all().map(|measured| measured.upstream_connections).sum::<u64>().to_string());
        cells.push(all().map(|measured| measured.errors).sum::<u64>().to_string());
        row(text, cells);
    }
}

/// Criterion's medians with their 95 % confidence intervals.
pub(crate) fn micros(micros: &[&Micro]) -> String {
    let mut text = String::new();
    row(&mut text, ["", "median", "95 % confidence"]);
    row(&mut text, ["---", "---:", "---:"]);
    for Micro { name, nanos, low, high, .. } in micros {
        row(
            &mut text,
            [name, &duration(*nanos), &format!("{}–{}", duration(*low), duration(*high))],
        );
    }
    text
}

/// A time in the unit that leaves at most three digits before the point.
pub(super) fn duration(nanos: f64) -> String {
    let (value, unit) = match nanos {
        _ if nanos < 1e3 => (nanos, "ns"),
        _ if nanos < 1e6 => (nanos / 1e3, "µs"),
        _ => (nanos / 1e6, "ms"),
    };
    format!("{value:.digits$} {unit}", digits = if value < 100.0 { 1 } else { 0 })
}

pub(crate) fn row(text: &mut String, cells: impl IntoIterator<Item = impl AsRef<str>>) {
    text.push('|');
    for cell in cells {
        write!(text, " {} |", cell.as_ref()).ok();
    }
    text.push('\n');
}

/// `0.97 (0.95–1.02)`
pub(crate) fn range(Spread { median, min, max }: Spread) -> String {
    format!("{median:.2} ({min:.2}–{max:.2})")
}

pub(crate) fn none() -> String {
    "–".into()
}

/// `48,692`
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in milliseconds with three significant digits, at most three of them decimals.
pub(crate) fn milliseconds(micros: f64) -> String {
    let milliseconds = micros / 1e3;
    let digits = if milliseconds < 1.0 {
        3
    } else if milliseconds < 10.0 {
        2
    } else {
        1
    };
    format!("{milliseconds:.digits$}")
}

/// A table per axis, a row per point.
pub(crate) fn scales(figures: &MeasuredFigures<'_>) -> String {
    let mut text = String::new();
    for axis in Axis::value_variants() {
        let scenario = axis.scenario();
        let mut contestants = figures.contestants(scenario);
        if contestants.is_empty() {
            continue;
        }
        contestants.sort_by_key(|name| Contestant::rank(name));
        // The newest run, which the page describes, need not have measured each axis.
        let (run, newest) = (figures.run(scenario), figures.newest_scale());
        if let Some(run) = run.filter(|run| newest.is_none_or(|newest| newest != *run)) {
            let date = run.time.strftime("%Y-%m-%d");
            writeln!(text, "Of {date}, revision `{}`:\n", run.revision).ok();
        }
        let mut head = vec![axis.title().to_owned()];
        for name in &contestants {
            let unit = ["µs per request", "requests/s", "p99, ms", "MiB"];
            head.extend(unit.map(|unit| format!("{name}, {unit}")));
        }
        row(&mut text, &head);
        row(&mut text, head.iter().map(|_| "---:"));
        for point in figures.points(scenario) {
            let mut cells = vec![thousands(point as f64)];
            for contestant in &contestants {
                let of = FigureOf::new(scenario, contestant).at(point);
                let value = |figure, show: fn(f64) -> String| {
                    figures.value(of, figure).map_or_else(none, |value| show(value.median))
                };
                cells.push(figures.value(of, COST).map_or_else(none, range));
                cells.push(value(THROUGHPUT, thousands));
                cells.extend([
                    value(P99, milliseconds),
                    value(RESIDENT, |value| format!("{value:.1}")),
                ]);
            }
            row(&mut text, cells);
        }
        text.push('\n');
    }
    text.push_str(&efficiency(figures));
    text
}

/// How much a second worker adds.
fn efficiency(figures: &MeasuredFigures<'_>) -> String {
    let mut text = String::new();
    let scenario = Axis::Workers.scenario();
    for contestant in figures.contestants(scenario) {
        let workers = |count| FigureOf::new(scenario, contestant).at(count);
        let ratio = |figure| figures.ratio(workers(2), workers(1), figure);
        if let (Some(throughput), Some(cost)) = (ratio(THROUGHPUT), ratio(COST)) {
            writeln!(
                text,
                "- {contestant}: two workers answer {} times as many requests as one, \
                 at {} times the cost of each.",
                range(throughput),
                range(cost)
            )
            .ok();
        }
    }
    text
}

/// A row per run that compared proxies, with the figures of the goals.
pub(crate) fn history(runs: &[MeasuredFigures<'_>]) -> String {
    let mut text = String::new();
    row(
        &mut text,
        [
            "date, UTC",
            "revision",
            "CPU, native / nginx",
            "CPU, component / nginx",
            "CPU, component / Envoy with filter",
            "requests/s, component / nginx",
            "p99 at a fixed rate, component / nginx",
            "resident, MiB",
        ],
    );
    row(&mut text, ["---", "---", "---:", "---:", "---:", "---:", "---:", "---:"]);
    for figures in runs {
        let Some(run) = figures.run("get") else { continue };
        let ratio = |scenario, of, to, figure: Figure| {
            figures
                .ratio(FigureOf::new(scenario, of), FigureOf::new(scenario, to), figure)
                .map_or_else(none, range)
        };
        let component = "fusebox-wasm";
        let resident = figures.value(FigureOf::new("get", component), RESIDENT);
        row(
            &mut text,
            [
                run.time.strftime("%Y-%m-%d %H:%M").to_string(),
                format!("`{}`", run.revision),
                ratio("get", "fusebox-native", REFERENCE, COST),
                ratio("get", component, REFERENCE, COST),
                ratio("get", component, "envoy-wasm", COST),
                ratio("get", component, REFERENCE, THROUGHPUT),
                ratio("fixed-rate", component, REFERENCE, P99),
                resident.map_or_else(none, |value| format!("{:.1}", value.median)),
            ],
        );
    }
    text
}
