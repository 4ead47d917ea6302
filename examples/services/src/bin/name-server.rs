//! The name server of the demonstration, which says where service B runs.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use fusebox_dev::{NameServer, Offer, Says, local};
use fusebox_examples::{Stop, listening, run};

/// For how many seconds an answer is good.
const GOOD_FOR: u32 = 1;

/// Answers each question for a service with these records, and each for a name with 127.0.0.1.
#[derive(Debug, Parser)]
struct NameServerArguments {
    /// Where to listen, by UDP and TCP.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8600")]
    listen: SocketAddr,

    /// Where the service runs: those of the lowest priority go first.
    #[arg(value_name = "PRIORITY:PORT", value_parser = offer)]
    offers: Vec<Offer>,
}

/// Parses `10:3001`.
fn offer(text: &str) -> Result<Offer, String> {
    let wrong = || format!("expected a priority and a port such as `10:3001`, found `{text}`");
    let (priority, port) = text.split_once(':').ok_or_else(wrong)?;
    let [priority, port] =
        [priority, port].map(|number| number.parse::<u16>().map_err(|_| wrong()));
    Ok((priority?, 1, port?, "b.test"))
}

fn main() -> ExitCode {
    let args = NameServerArguments::parse();
    run(name_server(args))
}

async fn name_server(args: NameServerArguments) -> anyhow::Result<()> {
    let stop = Stop::on_signal()?;
    let says = (Says::Addresses(vec![local(1)]), Says::Nothing, GOOD_FOR);
    let server = NameServer::on(args.listen, says)
        .with_context(|| format!("listen on `{}`", args.listen))?;
    server.offers(&args.offers);
    listening("name-server", server.address(), None);
    stop.requested().await;
    Ok(())
}
