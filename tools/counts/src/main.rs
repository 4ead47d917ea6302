//! The cost of a request: instructions in user space and heap allocations, counted in the real
//! program under valgrind and compared with a record. The README beside this says how, and what the
//! figures can tell.

#![expect(clippy::print_stdout, reason = "figures are what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use case::{CASES, CountedCase};
use count::{CaseCounts, Counter};
use record::{Conditions, CostChange, CostRecord, RequestCost};

mod callgrind;
mod case;
mod code_cache;
mod count;
mod peers;
mod profile;
mod record;
mod valgrind;

/// Counts the instructions and heap allocations of a request, and compares them with
/// tools/counts/record.toml.
#[derive(Debug, Parser)]
#[command(name = "counts")]
struct CountsArguments {
    /// What to count; default: all
    cases: Vec<String>,
    /// Make what is counted the record
    #[arg(long, conflicts_with = "profile")]
    record: bool,
    /// Show where instructions and allocations come from, and keep callgrind's files in
    /// target/counts
    #[arg(long)]
    profile: bool,
    /// The program, built for release
    #[arg(long, default_value = "target/release/fusebox")]
    program: PathBuf,
    /// Requests that are counted
    #[arg(long, default_value_t = 1000)]
    requests: u32,
    /// Compile a component into a code cache, and nothing else; for `counts` itself, under
    /// valgrind
    #[arg(long, hide = true, num_args = 2, value_names = ["COMPONENT", "DIRECTORY"])]
    compile: Option<Vec<PathBuf>>,
}

fn main() -> Result<ExitCode> {
    let arguments = CountsArguments::parse();
    if let Some([component, directory]) = arguments.compile.as_deref() {
        code_cache::compile(component, directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    let known = |name: &String| {
        CASES.iter().find(|case| case.name == name).with_context(|| format!("no case `{name}`"))
    };
    let cases: Vec<&CountedCase> = match &arguments.cases[..] {
        [] => CASES.iter().collect(),
        names => names.iter().map(known).collect::<Result<_>>()?,
    };
    let counter = Counter::new(&arguments.program, arguments.requests)?;
    let mut record = CostRecord::read()?;
    let conditions = Conditions::here()?;
    let is_binding = arguments.record || record.conditions == conditions;
    if !is_binding {
        println!(
            "The record was made with {}; here are {conditions}: nothing is checked.",
            record.conditions
        );
    }
    println!(
        "{:14} {:>16}  {:>16}  {:>14}",
        "per request", "instructions", "allocations", "other threads"
    );
    let mut has_regressed = false;
    for case in cases {
        let counts = counter.count(case)?;
        let change =
            record.cases.get(case.name).map(|recorded| CostChange::of(counts.figures(), *recorded));
        print(case, &counts, change);
        has_regressed |= change.is_some_and(|change| change.is_regression);
        if arguments.profile {
            counts.print_profile();
            println!("{}", counter.keep(&counts)?.display());
        }
        if arguments.record {
            record.cases.insert(case.name.to_owned(), counts.figures());
        }
    }
    if arguments.record {
        ensure!(
            record.conditions == conditions || arguments.cases.is_empty(),
            "the record was made with {}: all cases have to be counted anew",
            record.conditions
        );
        record.conditions = conditions;
        record.cases.retain(|name, _| CASES.iter().any(|case| case.name == name));
        record.write()?;
    }
    let fails = has_regressed && is_binding && !arguments.record;
    if fails {
        println!(
            "A request costs more than it did. If it has to: `counts --record`, \
             and say why in the commit."
        );
    }
    Ok(if fails { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(case: &CountedCase, counts: &CaseCounts, change: Option<CostChange>) {
    let RequestCost { instructions, allocations } = counts.figures();
    let of = |change: Option<f64>| change.map_or(String::new(), |change| format!("{change:+.1}"));
    let percent =
        change.map_or(String::new(), |change| format!("{:+.1} %", change.instructions * 100.0));
    let said = match change {
        None => "not recorded yet",
        Some(CostChange { is_regression: true, .. }) => "MORE than recorded",
        Some(CostChange { is_improvement: true, .. }) => {
            "less than recorded: `counts --record` keeps it"
        }
        Some(_) => "",
    };
    println!(
        "{:14} {instructions:>8} {percent:>7}  {allocations:>10.1} {:>5}  {:>14.0}  {}{}{said}",
        case.name,
        of(change.map(|change| change.allocations)),
        counts.elsewhere(),
        case.about,
        if said.is_empty() { "" } else { ": " },
    );
}
