//! How cost grows with connections, routes, components, headers and workers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum as _;

use crate::axis::Axis;
use crate::contestant::{Contestant, Options, RunningContestant};
use crate::measure::measure;
use crate::record::{RawDataFile, RawRecord};
use crate::report;
use crate::run::{self, ProgramArguments};
use crate::say::say;
use crate::scenario::Generator;
use crate::upstream::{Ports, Servers};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ScaleArguments {
    /// How often each point is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// For how long
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=600))]
    seconds: u16,
    /// Only this axis; may be given several times
    #[arg(long = "axis", value_name = "NAME", value_enum)]
    axes: Vec<Axis>,
    /// Where the raw data goes, into a file named after the date
    #[arg(long, value_name = "DIR", default_value = run::DIRECTORY)]
    out: PathBuf,
    #[command(flatten)]
    programs: ProgramArguments,
}

/// Requests per second while connections grow: few enough for one connection.
const RATE: f64 = 2000.0;
const WARM_UP: Duration = Duration::from_secs(1);

pub(crate) async fn scale(arguments: ScaleArguments) -> Result<()> {
    let programs = arguments.programs.find()?;
    let axes = if arguments.axes.is_empty() { Axis::value_variants() } else { &arguments.axes };
    let (rounds, duration) =
        (usize::from(arguments.rounds), Duration::from_secs(arguments.seconds.into()));
    let contestants = Contestant::scaled(&programs);
    let mut count = 0;
    for axis in axes {
        count += axis.points()?.len() * axis.contestants(contestants.clone()).len();
    }
    let total = (WARM_UP + duration * u32::from(arguments.rounds)) * count as u32;
    say!("scale: {} axes, {count} points, about {}", axes.len(), run::minutes(total));

    let work = tempfile::tempdir()?;
    let (servers, mut ports) = (Servers::start()?, Ports::new());
    let mut recorder = RawDataFile::start(&arguments.out, run::describe(&programs)?)?;
    for &axis in axes {
        say!("\n{}", axis.title());
        let mut running: Vec<(Options, RunningContestant)> = Vec::new();
        let mut turn = Vec::new();
        for point in axis.points()? {
            for contestant in axis.contestants(contestants.clone()) {
                let options = axis.options(point);
                // Where only the load grows, one running contestant serves all points.
                let same = |(of, running): &(Options, RunningContestant)| {
                    *of == options && running.contestant.name == contestant.name
                };
                let index = match running.iter().position(same) {
                    Some(index) => index,
                    None => {
                        running.push((
                            options,
                            contestant.start(&servers, &mut ports, &options, work.path()).await?,
                        ));
                        running.len() - 1
                    }
                };
                turn.push((point, index));
            }
        }
        rounds_of(axis, &running, turn, rounds, duration, work.path(), &mut recorder).await?;
    }
    report::print(&recorder.path)
}

/// Measures each point once per round, in random order.
async fn rounds_of(
    axis: Axis,
    running: &[(Options, RunningContestant)],
    mut turn: Vec<(u64, usize)>,
    rounds: usize,
    duration: Duration,
    work: &Path,
    recorder: &mut RawDataFile,
) -> Result<()> {
    for round in 0..=rounds {
        fastrand::shuffle(&mut turn);
        for &(point, index) in &turn {
            let load = axis.load(point);
            let rate = (load.generator == Generator::OpenLoop).then_some(RATE);
            let duration = if round == 0 { WARM_UP } else { duration };
            let mut measured = measure(&load, &running[index].1, duration, rate, work).await?;
            (measured.round, measured.point) = (round, Some(point));
            if round > 0 {
                say!("{point:>6} {}", report::line(&measured));
            }
            recorder.write(&RawRecord::Measurement(measured))?;
        }
    }
    Ok(())
}
