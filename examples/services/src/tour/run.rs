//! The demonstration, running until it is told to end: B, fusebox and A, with their logs side by
//! side.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::bail;
use clap::Args;
use futures_util::future::select_all;
use tokio::io::{AsyncBufRead, Lines};
use tokio::task::JoinSet;

use super::config::config;
use super::print::print;
use super::program::{DemoProgram, Output, Program};
use crate::stop::Stop;

/// Where the programs listen. Port 0 takes a free port.
#[derive(Args, Clone, Copy, Debug)]
pub struct Addresses {
    /// Where service A listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    service_a: SocketAddr,

    /// Where service B listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3001")]
    service_b: SocketAddr,

    /// Where fusebox listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3002")]
    fusebox: SocketAddr,

    /// Where fusebox shows its state.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9901")]
    admin: SocketAddr,
}

/// Runs the three until it is time to stop.
///
/// # Errors
/// One of them does not start, or ends by itself. The others have ended by then, too.
pub async fn run(addresses: Addresses, stop: Stop) -> anyhow::Result<()> {
    let config = config("composition.toml")?;
    let mut running = Demonstration::default();
    let outcome = tokio::select! {
        biased;
        () = stop.requested() => Ok(()),
        outcome = running.start_and_watch(addresses, &config) => outcome,
    };
    let ended = running.end().await;
    outcome.and(ended)
}

/// The running programs in the order of their start, and the tasks that print their output.
#[derive(Debug, Default)]
struct Demonstration {
    programs: Vec<Program>,
    printers: JoinSet<()>,
}

impl Demonstration {
    /// Returns only with an error. If cancelled, the programs that have started go on.
    async fn start_and_watch(&mut self, addresses: Addresses, config: &Path) -> anyhow::Result<()> {
        let Addresses { service_a, service_b, fusebox, admin } = addresses;
        self.enter(Program::service_b(service_b, &["--mode", "flaky"]).await?);
        let b = self.address("address")?;
        self.enter(
            Program::fusebox(config, fusebox, admin, &[("SERVICE_B", format!("http://{b}"))])
                .await?,
        );
        let (fusebox, admin) = (self.address("listen")?, self.address("admin")?);
        self.enter(Program::service_a(service_a, fusebox, &[]).await?);
        print(&invitation(self.address("address")?, fusebox, b, admin));
        let (who, ..) =
            select_all(self.programs.iter_mut().map(|program| Box::pin(program.ended()))).await;
        bail!(who)
    }

    fn enter(&mut self, (program, output): (Program, Output)) {
        let prefix = match program.role() {
            DemoProgram::A => "A",
            DemoProgram::B => "B",
            DemoProgram::Fusebox => "fusebox",
        };
        self.printers.spawn(print_all(output.lines, prefix));
        self.printers.spawn(print_all(output.errors, prefix));
        self.programs.push(program);
    }

    /// The address of the program that started last.
    fn address(&self, field: &str) -> anyhow::Result<SocketAddr> {
        match self.programs.last() {
            Some(program) => program.address(field),
            None => bail!("nobody has started"),
        }
    }

    /// Ends the programs, the last one first, so that none loses its upstream, and prints the rest
    /// of their output.
    async fn end(self) -> anyhow::Result<()> {
        let Self { programs, mut printers } = self;
        let mut outcome = Ok(());
        for program in programs.into_iter().rev() {
            let name = program.role().name();
            let ended = match program.stop().await {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(anyhow::anyhow!("{name} has ended with {status}")),
                Err(error) => Err(error),
            };
            outcome = outcome.and(ended);
        }
        while printers.join_next().await.is_some() {}
        outcome
    }
}

fn invitation(a: SocketAddr, fusebox: SocketAddr, b: SocketAddr, admin: SocketAddr) -> String {
    let mut text =
        "\nB fails every other time; fusebox stands between it and A. Try, in another terminal:\n\n"
            .to_owned();
    for (command, what) in [
        (format!("curl -i http://{a}"), "ask A, a few times"),
        (format!("curl -i http://{b}"), "ask B, without fusebox"),
        (format!("curl -i http://{fusebox}"), "ask B through fusebox"),
        (format!("curl -s http://{admin}/state"), "see the breaker and the component"),
        (format!("curl -s http://{admin}/metrics"), "see what has been counted"),
    ] {
        text.push_str(&format!("  {command:<42}  # {what}\n"));
    }
    text.push_str(
        "\nEdit policies/service-b/src/lib.rs, then `make policies` in another terminal: \
         it is swapped while it runs.\nctrl-c ends all three.\n\n",
    );
    text
}

async fn print_all<R: AsyncBufRead + Unpin>(mut lines: Lines<R>, prefix: &str) {
    while let Ok(Some(line)) = lines.next_line().await {
        print(&format!("{prefix:>7} | {line}\n"));
    }
}
