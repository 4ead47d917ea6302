//! How cost grows: with connections, routes, components, headers and workers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::process::{Resource, getrlimit};

use crate::contestant::{Contestant, Options, Running};
use crate::measure::measure;
use crate::record::{Record, Recorder};
use crate::run::{self, ProgramArguments};
use crate::scenario::{Generator, Request, Scenario};
use crate::upstream::{Ports, Servers};
use crate::{report, say};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Arguments {
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

/// What grows while all else stays.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Axis {
    /// Open connections of clients, at a fixed rate of requests
    Connections,
    /// Routes, asked in turn
    Routes,
    /// Components, each with a route of its own, asked in turn
    Components,
    /// Headers of 32 bytes, in request and response
    Headers,
    /// The size of each of 5 headers in request and response
    HeaderSize,
    /// Workers
    Workers,
}

/// Requests per second where connections grow: few enough that one connection carries them.
const RATE: f64 = 2000.0;
const WARM_UP: Duration = Duration::from_secs(1);

impl Axis {
    /// In raw data.
    pub(crate) const fn scenario(self) -> &'static str {
        match self {
            Self::Connections => "scale-connections",
            Self::Routes => "scale-routes",
            Self::Components => "scale-components",
            Self::Headers => "scale-headers",
            Self::HeaderSize => "scale-header-size",
            Self::Workers => "scale-workers",
        }
    }

    /// For tables and plots.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Connections => "connections, at 2,000 requests/s",
            Self::Routes => "routes",
            Self::Components => "components",
            Self::Headers => "headers each way",
            Self::HeaderSize => "bytes per header, 5 each way",
            Self::Workers => "workers",
        }
    }

    fn points(self) -> Result<Vec<u64>> {
        Ok(match self {
            Self::Connections => vec![1, 10, 100, 1000, most_connections()?.min(10_000)],
            Self::Routes => vec![1, 10, 100, 1000, 10_000],
            Self::Components => vec![1, 10, 100],
            Self::Headers => vec![5, 20, 50, 100],
            Self::HeaderSize => vec![16, 256, 2048, 8192],
            Self::Workers => vec![1, 2],
        })
    }

    fn contestants(self, [nginx, native, wasm]: [Contestant; 3]) -> Vec<Contestant> {
        if self == Self::Components { vec![wasm] } else { vec![nginx, native] }
    }

    fn options(self, point: u64) -> Options {
        let usual = Options::default();
        match self {
            Self::Connections => Options { connections: 12_000, ..usual },
            Self::Routes => Options { routes: point, ..usual },
            Self::Components => Options { routes: point, components: point, ..usual },
            Self::Headers | Self::HeaderSize => Options { max_header: Some(64 * 1024), ..usual },
            Self::Workers => Options { workers: point as usize, ..usual },
        }
    }

    fn load(self, point: u64) -> Scenario {
        let (request, connections, generator) = match self {
            Self::Connections => (Request::Get("/"), point as usize, Generator::OpenLoop),
            Self::Routes | Self::Components => {
                (Request::Spread { routes: point }, 64, Generator::Wrk)
            }
            Self::Headers => (Request::Headers { count: point, size: 32 }, 64, Generator::Wrk),
            Self::HeaderSize => (Request::Headers { count: 5, size: point }, 64, Generator::Wrk),
            Self::Workers => (Request::Get("/"), 64, Generator::Wrk),
        };
        Scenario::on_axis(self.scenario(), request, connections, generator)
    }
}

/// What a proxy may have open is for clients and services, of which the latter need far fewer
/// connections at a modest rate; a few files are its own.
fn most_connections() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    (limit / 4 * 3).checked_sub(100).context("too few files may be open")
}

pub(crate) async fn scale(arguments: Arguments) -> Result<()> {
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
    let mut recorder = Recorder::start(&arguments.out, run::describe(&programs)?)?;
    for &axis in axes {
        say!("\n{}", axis.title());
        let mut running: Vec<(Options, Running)> = Vec::new();
        let mut turn = Vec::new();
        for point in axis.points()? {
            for contestant in axis.contestants(contestants.clone()) {
                let options = axis.options(point);
                // Where only the load grows, one and the same bears it.
                let same = |(of, running): &(Options, Running)| {
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

/// Measures each point once in each round, in another order each time.
async fn rounds_of(
    axis: Axis,
    running: &[(Options, Running)],
    mut turn: Vec<(u64, usize)>,
    rounds: usize,
    duration: Duration,
    work: &Path,
    recorder: &mut Recorder,
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
            recorder.write(&Record::Measurement(measured))?;
        }
    }
    Ok(())
}
