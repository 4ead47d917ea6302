//! The benchmark of fusebox: beside other proxies, and as things grow.
//! [docs/performance.md](../../../docs/performance.md) has the method and the results.

mod axis;
mod balance;
mod compare;
mod contestant;
mod generator;
mod load;
mod machine;
mod measure;
mod micro;
mod open_loop;
mod overload;
mod process;
mod record;
mod report;
mod run;
mod say;
mod scale;
mod scenario;
mod statistics;
mod train;
mod upstream;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Measures fusebox beside other proxies. To be run from the root of the repository.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct BenchArguments {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Load fusebox and other proxies in turn: processor time per request, throughput, latency,
    /// memory, connections
    Compare(compare::CompareArguments),
    /// Load fusebox and nginx with more and more connections, routes, components, headers, workers
    Scale(scale::ScaleArguments),
    /// Put fusebox and Envoy under three times too many requests, with and without protection
    Overload(overload::OverloadArguments),
    /// Load fusebox and Envoy in front of three endpoints of which one is odd
    Balance(balance::BalanceArguments),
    /// Load fusebox for a while, to compile it by what it does then
    Train(train::TrainArguments),
    /// Take what criterion has found into the raw data
    Micro(micro::MicroArguments),
    /// Write tables, plots and history of published raw data into docs/performance.md
    Report(report::page::PageArguments),
}

fn main() -> ExitCode {
    let arguments = BenchArguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.map_err(Into::into).and_then(|runtime| {
        let result = runtime.block_on(until_signal(run(arguments.command)));
        // An open loop that was interrupted has a thread of its own, which need not end.
        runtime.shutdown_background();
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(std::io::stderr(), "bench: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

async fn run(command: BenchCommand) -> Result<()> {
    raise_file_limit()?;
    match command {
        BenchCommand::Compare(arguments) => compare::compare(arguments).await,
        BenchCommand::Scale(arguments) => scale::scale(arguments).await,
        BenchCommand::Overload(arguments) => overload::overload(arguments).await,
        BenchCommand::Balance(arguments) => balance::balance(arguments).await,
        BenchCommand::Train(arguments) => train::train(arguments).await,
        BenchCommand::Micro(arguments) => micro::micro(arguments),
        BenchCommand::Report(arguments) => report::page::write(arguments),
    }
}

/// Each of thousands of connections is an open file, here and in the programs that are started.
fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}

/// Drops `work`, and so ends what it has started, when the process is asked to end.
async fn until_signal(work: impl Future<Output = Result<()>>) -> Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => anyhow::bail!("interrupted"),
        _ = terminate.recv() => anyhow::bail!("terminated"),
    }
}
