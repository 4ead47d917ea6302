//! The tour: all stories of the demonstration, checked while they are told; or the demonstration
//! itself, to try.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use fusebox_examples::{Stop, run, tour};

/// Runs every story of the demonstration against a scripted service B, and checks each as it is
/// told.
///
/// The exit code is 0 if everything was as it should be. To be run from the root of the repository.
#[derive(Debug, Parser)]
#[command(name = "tour")]
struct TourArguments {
    #[command(subcommand)]
    command: Option<TourCommand>,
}

#[derive(Debug, Subcommand)]
enum TourCommand {
    /// Run a flaky service B, fusebox with the composition, and service A until ctrl-c
    Run(tour::Addresses),
}

fn main() -> ExitCode {
    let arguments = TourArguments::parse();
    run(async {
        let stop = Stop::on_signal_or_hangup()?;
        match arguments.command {
            None => tour::tell(stop).await,
            Some(TourCommand::Run(addresses)) => tour::run(addresses, stop).await,
        }
    })
}
