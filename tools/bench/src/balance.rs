//! How requests are shared among three endpoints of which one is odd: fusebox and Envoy, each by
//! least request and by round robin, under the same load at a fixed rate.

mod contestant;
mod endpoint;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use crate::load::LoadResult;
use crate::open_loop::{self, Plan};
use crate::run::DIRECTORY;
use crate::say::say;
use crate::upstream::Ports;
use contestant::BalancedContestant;
use endpoint::{BalancedEndpoint, Oddity};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BalanceArguments {
    /// For how long each is loaded
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(2..=600))]
    seconds: u16,
    /// Requests per second
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    rate: u16,
    /// The program to measure
    #[arg(long, value_name = "FILE", default_value = "target/pgo/fusebox")]
    fusebox: PathBuf,
    /// Envoy's binary; by default the one that `make bench` has installed
    #[arg(long, value_name = "FILE")]
    envoy: Option<PathBuf>,
}

/// Connections of clients: enough for the slow endpoint, asked in turn.
const CONNECTIONS: usize = 64;
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: b\r\n\r\n";

pub(crate) async fn balance(arguments: BalanceArguments) -> Result<()> {
    let envoy = arguments.envoy.unwrap_or_else(|| Path::new(DIRECTORY).join("venv/bin/envoy"));
    for program in [&arguments.fusebox, &envoy] {
        ensure!(program.is_file(), "{} is not there", program.display());
    }
    let duration = Duration::from_secs(arguments.seconds.into());
    let mut ports = Ports::new();
    say!("| one of three | by | its share | p50 | p99 | errors |");
    say!("|---|---|---|---|---|---|");
    for oddity in Oddity::ALL {
        for contestant in BalancedContestant::all(&arguments.fusebox, &envoy) {
            let rate = f64::from(arguments.rate);
            let (share, load) = measure(oddity, &contestant, rate, duration, &mut ports).await?;
            let millis = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e3;
            say!(
                "| {} | {} | {:.1} % | {:.1} ms | {:.1} ms | {:.2} % |",
                oddity.title(),
                contestant.title(),
                share * 100.0,
                millis(load.p50),
                millis(load.p99),
                load.errors as f64 * 100.0 / (rate * duration.as_secs_f64()),
            );
        }
    }
    Ok(())
}

/// The share of the odd endpoint, of the time in which it is there, and what came of the load.
async fn measure(
    oddity: Oddity,
    contestant: &BalancedContestant,
    rate: f64,
    duration: Duration,
    ports: &mut Ports,
) -> Result<(f64, LoadResult)> {
    let work = tempfile::tempdir()?;
    let mut odd = BalancedEndpoint::new(ports.next()?, oddity);
    let mut first = BalancedEndpoint::well(ports.next()?);
    let mut second = BalancedEndpoint::well(ports.next()?);
    first.open()?;
    second.open()?;
    if oddity.is_there_at_first() {
        odd.open()?;
    }
    let endpoints = [odd.address, first.address, second.address];
    let listen = ports.next()?;
    let mut running = contestant.start(listen, endpoints, work.path())?;
    running.listens(listen).await.with_context(|| {
        let log = std::fs::read_to_string(work.path().join("log")).unwrap_or_default();
        format!("{}: {}", contestant.title(), log.trim_end())
    })?;
    let plan =
        Plan { address: listen, request: REQUEST.into(), connections: CONNECTIONS, rate, duration };
    let (started, has_started) = oneshot::channel();
    let load = tokio::spawn(open_loop::run(plan, started));
    has_started.await?;
    let counts = |odd: &BalancedEndpoint| [odd.asked(), first.asked(), second.asked()];
    let mut before = counts(&odd);
    if oddity.comes() {
        sleep_until(Instant::now() + duration / 2).await;
        odd.open()?;
        before = counts(&odd);
    }
    let load = load.await??;
    let after = counts(&odd);
    let asked = [0, 1, 2].map(|place: usize| (after[place] - before[place]) as f64);
    Ok((asked[0] / asked.iter().sum::<f64>().max(1.0), load))
}
