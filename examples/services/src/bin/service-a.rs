//! Service A of the demonstration: the client, which calls B through fusebox and knows nothing of
//! resilience.

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use fusebox_examples::{Lines, ServiceA, Stop, UpstreamUrl, bind, listening, run, serve};
use http::HeaderValue;

/// The client of the demonstration: calls service B through fusebox, and says hello from both.
#[derive(Debug, Parser)]
struct ServiceAArguments {
    /// Where to listen; port 0 takes a free one, which the first line on stdout names.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,

    /// Where service B is called: fusebox.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:3002")]
    upstream: UpstreamUrl,

    /// Call service B by gRPC.
    #[arg(long)]
    grpc: bool,

    /// How long an answer by gRPC may take, as `grpc-timeout` has it: `300m` is 300 ms. A only says
    /// so, and waits for whatever comes.
    #[arg(long, value_name = "TIME", requires = "grpc")]
    grpc_timeout: Option<HeaderValue>,
}

fn main() -> ExitCode {
    let args = ServiceAArguments::parse();
    run(service_a(args))
}

async fn service_a(args: ServiceAArguments) -> anyhow::Result<()> {
    let stop = Stop::on_signal()?;
    let listener = bind(args.listen).await?;
    listening("service-a", listener.local_addr()?, None);
    let service = match args.grpc {
        true => ServiceA::by_grpc(args.upstream, args.grpc_timeout),
        false => ServiceA::new(args.upstream),
    };
    serve(listener, service, Lines::Written, stop).await;
    Ok(())
}
