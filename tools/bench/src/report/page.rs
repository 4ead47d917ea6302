//! The page of all runs, docs/performance.md. The text between its two marks is generated from raw
//! data, the rest is written by hand.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::figures::MeasuredFigures;
use super::{goals, overload, plot, policies, table};
use crate::record::{self, RunInfo};
use crate::say::say;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PageArguments {
    /// Files of raw data; by default all that are published
    #[arg(value_name = "RAW")]
    raw: Vec<PathBuf>,
    /// The page to write, between its marks; the plots go into the directory of its name
    #[arg(long, value_name = "FILE", default_value = "docs/performance.md")]
    page: PathBuf,
}

const BEGIN: &str = "<!-- `bench report` writes what follows -->\n";
const END: &str = "<!-- `bench report` wrote this -->\n";

pub(crate) fn write(arguments: PageArguments) -> Result<()> {
    let directory = arguments.page.with_extension("");
    let mut raw = arguments.raw;
    if raw.is_empty() {
        raw = published(&directory)?;
    }
    ensure!(!raw.is_empty(), "there is no raw data in {}", directory.display());
    // They are named after their dates.
    raw.sort_by(|one, other| one.file_name().cmp(&other.file_name()));

    let mut runs = Vec::new();
    for path in &raw {
        runs.extend(record::read(path)?);
    }
    let figures = MeasuredFigures::of(&runs);
    let history: Vec<_> = runs.iter().map(|run| MeasuredFigures::of([run])).collect();

    fs::create_dir_all(&directory)?;
    let plots = directory.file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!("\n## The goals\n\n{}\n", goals::table(&figures));
    if let Some(run) = figures.run("get") {
        plot::comparison(&figures, &directory.join("comparison.svg"))?;
        text += &format!("## Beside other proxies\n\n{}\n", describe(run));
        text +=
            &format!("![Cost, throughput, latency and memory of each]({plots}/comparison.svg)\n\n");
        text += &table::comparisons(&figures);
    }
    if let Some(run) = figures.newest_scale() {
        plot::scale(&figures, &directory.join("scale.svg"))?;
        text += &format!("## As things grow\n\n{}\n", describe(run));
        text += &format!(
            "![Cost per request on each axis]({plots}/scale.svg)\n\n{}\n",
            table::scales(&figures)
        );
    }
    if let Some((run, overloads)) = figures.overloads() {
        overload::plot(overloads, &directory.join("overload.svg"))?;
        text += &format!("## Three times too many requests\n\n{}\n", describe(run));
        text += &format!(
            "![Good answers, and how long they take]({plots}/overload.svg)\n\n{}\n",
            overload::table(overloads)
        );
    }
    if let Some((run, policies)) = figures.policies() {
        text += &format!(
            "## What each policy costs\n\n{}\n{}\n",
            describe(run),
            policies::table(policies)
        );
    }
    if let Some((run, micros)) = figures.micros() {
        text += &format!(
            "## Small things by themselves\n\n{}\n{}\n",
            describe(run),
            table::micros(micros)
        );
    }
    text += &format!("## History\n\n{}\n", table::history(&history));

    let page = fs::read_to_string(&arguments.page)
        .with_context(|| arguments.page.display().to_string())?;
    let page = between_marks(&page, &text)
        .with_context(|| format!("{} lacks a mark", arguments.page.display()))?;
    fs::write(&arguments.page, page)?;
    say!("written: {}", arguments.page.display());
    Ok(())
}

fn published(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            found.push(path);
        }
    }
    Ok(found)
}

fn describe(run: &RunInfo) -> String {
    let machine = &run.machine;
    let versions: Vec<_> =
        run.versions.iter().map(|(program, version)| format!("{program} (`{version}`)")).collect();
    format!(
        "{}, revision `{}`. {}, {} cores, {} GiB, Linux {}, {}. {}.\n",
        run.time.strftime("%Y-%m-%d %H:%M UTC"),
        run.revision,
        machine.processor,
        machine.cores,
        (machine.memory_mib + 512) / 1024,
        machine.kernel,
        machine.system,
        versions.join(", "),
    )
}

/// The page with this text between its marks; `None` if one is missing.
fn between_marks(page: &str, text: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{text}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let page = format!("by hand\n{BEGIN}old\n{END}more by hand\n");
        let new = between_marks(&page, "new\n").unwrap();
        assert_eq!(new, format!("by hand\n{BEGIN}new\n{END}more by hand\n"));
        assert_eq!(between_marks(&new, "new\n").unwrap(), new);
        assert_eq!(between_marks("by hand\n", "new\n"), None);
    }
}
