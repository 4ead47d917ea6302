//! All contestants side by side: each is started once, and each round loads each of them once, in
//! random order.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::builder::PossibleValuesParser;

use crate::contestant::{Contestant, Options, REFERENCE, RunningContestant};
use crate::measure::measure;
use crate::record::{RawDataFile, RawRecord};
use crate::report;
use crate::run::{self, ProgramArguments};
use crate::say::say;
use crate::scenario::{Generator, Scenario};
use crate::statistics::spread;
use crate::upstream::{Ports, Servers};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct CompareArguments {
    /// How often each contestant is loaded in each scenario
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// For how long; scenarios other than `get` and `fixed-rate` take half of it
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Only this scenario; may be given several times
    #[arg(long = "scenario", value_name = "NAME", value_parser = scenario_names())]
    scenarios: Vec<String>,
    /// Only this contestant, and nginx; may be given several times
    #[arg(long = "contestant", value_name = "NAME")]
    contestants: Vec<String>,
    /// Where the raw data goes, into a file named after the date
    #[arg(long, value_name = "DIR", default_value = run::DIRECTORY)]
    out: PathBuf,
    #[command(flatten)]
    programs: ProgramArguments,
}

fn scenario_names() -> PossibleValuesParser {
    PossibleValuesParser::new(Scenario::ALL.map(|scenario| scenario.name))
}

/// The load before the first round of a scenario. It counts as round 0, of which only the
/// connections are of interest.
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) async fn compare(arguments: CompareArguments) -> Result<()> {
    let programs = arguments.programs.find()?;
    let (all, missing) = Contestant::all(&programs);
    for name in missing {
        say!("{name} is not installed: going on without it (`make bench` installs it)");
    }
    let contestants = chosen(all, &arguments.contestants)?;
    let scenarios = scenarios(&arguments.scenarios);
    let takes_part = |scenario: &Scenario, contestant: &Contestant| {
        let asked_for = arguments.contestants.contains(&contestant.name);
        contestant.wires == scenario.wires
            && (contestant.main || asked_for || !scenario.main_contestants)
            && (contestant.retries || scenario.name != "retry-503")
    };

    let (rounds, seconds) = (u32::from(arguments.rounds), f64::from(arguments.seconds));
    let mut total = Duration::ZERO;
    for scenario in &scenarios {
        let count =
            contestants.iter().filter(|contestant| takes_part(scenario, contestant)).count() as u32;
        total += (WARM_UP + scenario.duration(seconds) * rounds) * count;
    }
    say!(
        "compare: {} contestants, {} scenarios, about {}",
        contestants.len(),
        scenarios.len(),
        run::minutes(total)
    );

    let work = tempfile::tempdir()?;
    let (servers, mut ports) = (Servers::start()?, Ports::new());
    let mut running: Vec<RunningContestant> = Vec::new();
    let needed = |contestant: &&Contestant| {
        scenarios.iter().any(|scenario| takes_part(scenario, contestant))
    };
    for contestant in contestants.iter().filter(needed) {
        match contestant.start(&servers, &mut ports, &Options::default(), work.path()).await {
            Ok(started) => running.push(started),
            Err(error) if contestant.may_be_missing() => say!("going on without {error:#}"),
            Err(error) => return Err(error),
        }
    }
    let mut recorder = RawDataFile::start(&arguments.out, run::describe(&programs)?)?;
    let (mut half_rate, mut failed) = (None, 0);
    for scenario in &scenarios {
        say!("\n{}: {}", scenario.name, scenario.title);
        let mut turn: Vec<_> =
            running.iter().filter(|running| takes_part(scenario, &running.contestant)).collect();
        let duration = scenario.duration(seconds);
        let rate = match scenario.generator {
            Generator::OpenLoop => {
                Some(half_rate.context("the fixed rate follows from the scenario `get`")?)
            }
            Generator::Wrk | Generator::H2load => None,
        };
        for running in &turn {
            match measure(scenario, running, WARM_UP, rate, work.path()).await {
                Ok(warm_up) => recorder.write(&RawRecord::Measurement(warm_up))?,
                Err(error) => say!("   {error:#}"),
            }
        }
        let mut throughput: BTreeMap<usize, f64> = BTreeMap::new();
        for round in 1..=usize::from(arguments.rounds) {
            fastrand::shuffle(&mut turn);
            for running in &turn {
                // A failure does not discard what the others have done.
                let mut measured =
                    match measure(scenario, running, duration, rate, work.path()).await {
                        Ok(measured) => measured,
                        Err(error) => {
                            say!("{round:>2} {error:#}");
                            failed += 1;
                            continue;
                        }
                    };
                measured.round = round;
                if measured.contestant == REFERENCE {
                    throughput.insert(round, measured.throughput());
                }
                say!("{}", report::line(&measured));
                recorder.write(&RawRecord::Measurement(measured))?;
            }
        }
        if scenario.name == "get" {
            half_rate =
                spread(throughput.into_values()).map(|spread| (spread.median / 2.0).round());
        }
    }
    drop(running);
    report::print(&recorder.path)?;
    ensure!(failed == 0, "{failed} measurements failed, and are missing");
    Ok(())
}

/// The contestants that were asked for, and the reference.
fn chosen(all: Vec<Contestant>, names: &[String]) -> Result<Vec<Contestant>> {
    if let Some(unknown) =
        names.iter().find(|name| !all.iter().any(|contestant| &contestant.name == *name))
    {
        let known: Vec<_> = all.iter().map(|contestant| contestant.name.as_str()).collect();
        bail!("there is no contestant `{unknown}`; there are {}", known.join(", "));
    }
    let wanted = |contestant: &Contestant| {
        names.is_empty() || contestant.name == REFERENCE || names.contains(&contestant.name)
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// The scenarios that were asked for, and those that they depend on.
fn scenarios(names: &[String]) -> Vec<Scenario> {
    let named = |name: &str| names.iter().any(|wanted| wanted == name);
    let wanted = |scenario: &Scenario| {
        names.is_empty() || named(scenario.name) || (scenario.name == "get" && named("fixed-rate"))
    };
    Scenario::ALL.into_iter().filter(wanted).collect()
}
