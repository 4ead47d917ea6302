//! The demonstration's two services: A, which calls, and B, which fails as it is told to.
//!
//! Neither knows anything of resilience. fusebox stands between them, and what it does shows in
//! their answers and in their access lines. A and B are [`Service`]s; what they share is [`serve`],
//! which accepts, drains and writes a line for each request. [`tour`] runs all three as processes.

mod answer;
mod grpc;
mod log;
mod server;
mod service_a;
mod service_b;
mod stop;
pub mod tour;

pub use answer::AnswerBody;
pub use log::listening;
pub use server::{Lines, Service, bind, serve};
pub use service_a::{ServiceA, UpstreamUrl};
pub use service_b::{Behaviour, Mode, ServiceB};
pub use stop::Stop;

use std::io::Write;
use std::process::ExitCode;

/// Runs a service to its end on one thread; an error becomes one line on stderr and exit code 1.
pub fn run(service: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(service)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if stderr is gone.
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
