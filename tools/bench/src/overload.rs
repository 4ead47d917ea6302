//! Too many requests: a service of fixed capacity behind each proxy, three times as many requests
//! for a while, and what becomes of them, second by second.

mod load;
pub(crate) mod plan;
mod proxy;
mod service;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::record::{RawDataFile, RawRecord};
use crate::report;
use crate::run::{self, ProgramArguments};
use crate::say::say;
use crate::upstream::Ports;
use plan::SECONDS;
use service::LimitedService;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct OverloadArguments {
    /// Only this proxy; may be given several times
    #[arg(long = "contestant", value_name = "NAME")]
    contestants: Vec<String>,
    /// Where the raw data goes, into a file named after the date
    #[arg(long, value_name = "DIR", default_value = run::DIRECTORY)]
    out: PathBuf,
    #[command(flatten)]
    programs: ProgramArguments,
}

pub(crate) async fn overload(arguments: OverloadArguments) -> Result<()> {
    let programs = arguments.programs.find_proxies()?;
    let mut proxies = proxy::all(&programs);
    if programs.envoy.is_none() {
        say!("envoy is not installed: going on without it (`make bench` installs it)");
    }
    if !arguments.contestants.is_empty() {
        proxies.retain(|proxy| arguments.contestants.iter().any(|name| name == proxy.name));
        ensure!(!proxies.is_empty(), "none of these is known: {:?}", arguments.contestants);
    }
    let total = Duration::from_secs((SECONDS * proxies.len()) as u64);
    say!("overload: {} proxies, about {}", proxies.len(), run::minutes(total));
    let (work, mut ports) = (tempfile::tempdir()?, Ports::new());
    let versions = run::versions_of_proxies(&programs);
    let mut recorder = RawDataFile::start(&arguments.out, run::describe_with(versions)?)?;
    for proxy in &proxies {
        // Each has a service of its own: what waits in line there is for nobody else.
        let service = LimitedService::start()?;
        let running = proxy.start(service.address, &mut ports, work.path()).await?;
        let mut measured = load::run(running.address, service.asked.clone()).await?;
        drop(running);
        measured.contestant = proxy.name.to_owned();
        measured.load_average = load_average()?;
        say!("{}", report::overload_line(&measured));
        recorder.write(&RawRecord::Overload(measured))?;
    }
    report::print(&recorder.path)
}

/// How busy the machine was in the last minute.
fn load_average() -> Result<f64> {
    let text = fs::read_to_string("/proc/loadavg")?;
    let first = text.split(' ').next().and_then(|value| value.parse().ok());
    first.context("/proc/loadavg is not as expected")
}
