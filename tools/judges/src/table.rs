//! The table of what everybody sees.

use std::fs;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::cases::{FAMILIES, OddRequest, REFUSED_LATER};
use crate::judge::JUDGES;
use crate::reading::Reading;

const DOCUMENT: &str = "docs/http1.md";

/// What stands between these lines of the document is the table.
const BEGIN: &str = "<!-- `make judges` writes what follows -->";
const END: &str = "<!-- and no more -->";

/// What everybody sees of a case.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) family: &'static str,
    pub(crate) odd: &'static OddRequest,
    /// As `host/http1` reads it.
    pub(crate) codecs: Reading,
    pub(crate) hypers: Reading,
    /// fusebox first.
    pub(crate) judges: Vec<Reading>,
}

impl Row {
    fn ours(&self) -> &Reading {
        &self.judges[0]
    }

    fn others(&self) -> impl Iterator<Item = &Reading> {
        std::iter::once(&self.hypers).chain(&self.judges[1..])
    }

    /// Whether the proxy reads it as its codec does.
    fn is_read_alike(&self) -> bool {
        let is_refused_later = REFUSED_LATER.contains(&&*self.case());
        is_refused_later != self.ours().is_same_as(&self.codecs)
    }

    fn is_alone(&self) -> bool {
        !self.others().any(|other| other.is_same_as(self.ours()))
    }

    fn is_undisputed(&self) -> bool {
        self.others().all(|other| other.is_same_as(self.ours()))
    }

    fn case(&self) -> String {
        format!("{}: {}", self.family, self.odd.what)
    }

    /// How many requests it sees; `≠` if they are others than we see, `→` if it hands on something
    /// that we refuse; and its status if it refuses what comes then.
    fn cell(&self, reading: &Reading) -> String {
        let count = reading.requests.len();
        let is_same_number = count == self.ours().requests.len();
        let other =
            if is_same_number && reading.requests != self.ours().requests { "≠" } else { "" };
        let refused = reading.refused.map(|status| format!(", {status}")).unwrap_or_default();
        let handed_on = if reading.handed_on { " →" } else { "" };
        format!("{other}{count}{handed_on}{refused}")
    }

    fn line(&self) -> String {
        let cells = std::iter::once(self.ours()).chain(self.others());
        let cells: Vec<String> = cells.map(|reading| self.cell(reading)).collect();
        format!("| {} | {} |", self.case(), cells.join(" | "))
    }
}

fn heading(first: &str) -> String {
    let [ours, others @ ..] = JUDGES.map(|judge| judge.name);
    let names = [&[first, ours, "hyper"], &others[..]].concat();
    format!("| {} |\n{}|\n", names.join(" | "), "|---".repeat(names.len()))
}

/// Prints the tables, and puts them into the document.
pub(crate) fn keep(rows: &[Row], versions: &[String]) -> Result<ExitCode> {
    let text = text(rows, versions);
    let document = fs::read_to_string(DOCUMENT).with_context(|| format!("no {DOCUMENT}"))?;
    let (before, rest) = document.split_once(BEGIN).context("the document has no place for it")?;
    let (_, after) = rest.split_once(END).context("the document has no end for it")?;
    fs::write(DOCUMENT, format!("{before}{BEGIN}\n\n{text}\n{END}{after}"))?;
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    let wrong = wrong(rows);
    for told in &wrong {
        writeln!(out, "{told}")?;
    }
    Ok(if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What has to be looked into.
fn wrong(rows: &[Row]) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in rows {
        let case = row.case();
        if row.is_alone() == row.odd.alone.is_empty() {
            wrong.push(format!("Nobody else sees the same, or no longer: {}", row.line()));
        }
        if !row.is_read_alike() {
            let (proxy, codec) = (row.ours(), &row.codecs);
            wrong.push(format!("The proxy reads {case} as {proxy:?}, its codec as {codec:?}"));
        }
    }
    wrong
}

fn text(rows: &[Row], versions: &[String]) -> String {
    let mut text = format!("{} cases; {}.\n\n", rows.len(), versions.join(", "));
    text += &heading("the same as fusebox, of");
    for (family, odd) in FAMILIES {
        let of_family = rows.iter().filter(|row| row.family == family);
        let mut same = vec![0; JUDGES.len()];
        for row in of_family {
            for (count, other) in same.iter_mut().zip(row.others()) {
                *count += usize::from(other.is_same_as(row.ours()));
            }
        }
        let same: Vec<String> = same.iter().map(ToString::to_string).collect();
        text += &format!("| {family} | {} | {} |\n", odd.len(), same.join(" | "));
    }
    text += "\n### Where nobody else sees the same\n\n| case | fusebox | why |\n|---|---|---|\n";
    for row in rows.iter().filter(|row| row.is_alone()) {
        let (case, seen) = (row.case(), row.odd.seen.replace('|', "\\|"));
        text += &format!("| {case} | {seen} | {} |\n", row.odd.alone);
    }
    text += "\n### Where somebody sees something else\n\n";
    text += &heading("case");
    for row in rows.iter().filter(|row| !row.is_undisputed()) {
        text += &format!("{}\n", row.line());
    }
    text
}
