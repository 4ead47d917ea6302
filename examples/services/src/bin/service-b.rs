//! Service B of the demonstration: the upstream, which fails as it is told to.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use fusebox_examples::{Behaviour, Lines, Mode, ServiceB, Stop, bind, listening, run, serve};
use fusebox_resilience::testing::{Step, Steps};

/// The upstream of the demonstration: says hello, or fails as it is told to. By HTTP, and over
/// HTTP/2 by gRPC: `examples/services/service_b.proto`.
#[derive(Debug, Parser)]
struct ServiceBArguments {
    /// Where to listen; port 0 takes a free one, which the first line on stdout names.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3001")]
    listen: SocketAddr,

    /// How to behave, by chance.
    #[arg(long, value_enum, default_value = "ok")]
    mode: Mode,

    /// Repeat the chances of another run, whose first line on stdout names its seed.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// What to do with each request, in place of a mode: `503:ra=1,503:ra=1,200`.
    ///
    /// A step is `STATUS`, `close` (the connection, without an answer) or `hang` (never answer).
    /// `*3` after a step plays it three times. After a status: `:delay=MS` before the answer,
    /// `:ra=SECONDS` or `:radate=SECONDS` for a Retry-After in seconds or as a date,
    /// `:body=TEXT`, `:bodydelay=MS` between head and body. The texts `graphql-errors` and
    /// `graphql-data` stand for a GraphQL answer with errors and one without, `model-error` and
    /// `model-words` for the stream of a language model that begins with an error and for one that
    /// doesn't; `model-limit` and `model-quota` for its refusals, of which only the first ends
    /// soon.
    ///
    /// Whoever asks by gRPC gets the same as a status of gRPC: 503 is unavailable, 429
    /// resource-exhausted, 500 internal and 504 deadline-exceeded, a Retry-After is a pushback. A
    /// failure with a body has its status behind a message.
    #[arg(long, value_name = "STEPS", conflicts_with_all = ["mode", "seed"])]
    script: Option<Steps>,

    /// What to do after the last step of the script [default: 200].
    #[arg(long, value_name = "STEP", conflicts_with_all = ["mode", "seed"])]
    rest: Option<Step>,

    /// Work on so many requests at once; further ones wait in line [default: any number].
    #[arg(long, value_name = "NUMBER")]
    servers: Option<usize>,

    /// No line on stdout for each request.
    #[arg(long)]
    quiet: bool,
}

fn main() -> ExitCode {
    let args = ServiceBArguments::parse();
    run(service_b(args))
}

async fn service_b(args: ServiceBArguments) -> anyhow::Result<()> {
    let stop = Stop::on_signal()?;
    let listener = bind(args.listen).await?;
    let (behaviour, seed) = if args.script.is_some() || args.rest.is_some() {
        let rest = args.rest.map_or_else(|| "200".parse(), Ok)?;
        (Behaviour::script(args.script.unwrap_or_default(), rest), None)
    } else {
        let seed = args.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
        (Behaviour::mode(args.mode, seed), Some(seed))
    };
    listening("service-b", listener.local_addr()?, seed);
    let lines = if args.quiet { Lines::Omitted } else { Lines::Written };
    let service = ServiceB::new(behaviour, stop.clone()).with_servers(args.servers);
    serve(listener, service, lines, stop).await;
    Ok(())
}
