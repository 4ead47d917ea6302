//! Tables of Markdown.

use std::fmt::Write as _;

use super::figures::{COST, Figures, P50, P99, Place, RESIDENT, THROUGHPUT};
use super::milliseconds;
use crate::contestant::{Contestant, REFERENCE};
use crate::scenario::{Generator, Scenario};
use crate::statistics::Spread;

/// A table for each scenario in which contestants were compared.
pub(crate) fn comparisons(figures: &Figures<'_>) -> String {
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

fn comparison(text: &mut String, figures: &Figures<'_>, scenario: &Scenario, contestants: &[&str]) {
    let open = scenario.generator == Generator::OpenLoop;
    let mut head = vec!["", "CPU per request, nginx = 1", "µs"];
    head.extend(if open { &[][..] } else { &["requests/s, nginx = 1", "requests/s"] });
    head.extend(["p99, nginx = 1", "p50, ms", "p99, ms", "resident, MiB", "connections", "errors"]);
    row(text, head.iter().copied());
    row(text, head.iter().enumerate().map(|(column, _)| if column == 0 { "---" } else { "---:" }));
    for &contestant in contestants {
        let of = Place::new(scenario.name, contestant);
        let reference = Place::new(scenario.name, REFERENCE);
        let ratio = |figure| figures.ratio(of, reference, figure).map_or_else(none, range);
        let value =
            |figure, show: fn(f64) -> String| figures.value(of, figure).map_or_else(none, |value| show(value.median));
        let mut cells =
            vec![Contestant::title(contestant).into(), ratio(COST), value(COST, |value| format!("{value:.2}"))];
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
