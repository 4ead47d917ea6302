//! The command line: parse, call, exit code.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Parser, Subcommand};
use fusebox::code_cache;
use fusebox::config::{CodeCacheConfig, ConfigError};
use fusebox::observe::{Log, Metrics};
use fusebox::proxy::{self, Proxy};
use fusebox::sockets;
use fusebox_resilience::Observers;
use fusebox_wasm::{Compiler, compile_child};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Measured: 0.93 to 1.0 of the processor time per request of the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A resilience proxy whose failure predicates and fallbacks are WebAssembly components.
#[derive(Parser)]
#[command(name = "fusebox", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy until SIGTERM or ctrl-c
    Run {
        /// The configuration file
        #[arg(default_value = "fusebox.toml")]
        config: PathBuf,
    },
    /// Check a configuration, its components included, without running it
    Check {
        /// The configuration file
        #[arg(default_value = "fusebox.toml")]
        config: PathBuf,
    },
    /// Compile the component on stdin; for `fusebox` itself
    #[command(hide = true)]
    CompileComponent {
        /// Bytes
        #[arg(long)]
        memory: u64,
        /// Seconds of processor time
        #[arg(long)]
        cpu: u64,
        /// The process that wants it
        #[arg(long)]
        parent: i32,
    },
    /// Look at components
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Show what a component imports, exports and may do
    Inspect {
        /// The component
        file: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { config } => check(&config),
        Command::CompileComponent { memory, cpu, parent } => Ok(compile_child(memory, cpu, parent)),
        Command::Policy { command: PolicyCommand::Inspect { file } } => inspect(&file),
    };
    done.unwrap_or_else(|error| {
        complain(&format!("fusebox: {error:#}"));
        ExitCode::FAILURE
    })
}

/// This program once more, for each component. The name under `/proc` is the program that runs, even if its file has been
/// replaced by another since.
fn compiler() -> anyhow::Result<Compiler> {
    let running = Path::new("/proc/self/exe");
    let program = if running.exists() { running.to_owned() } else { std::env::current_exe()? };
    Ok(Compiler::child(program, vec!["compile-component".into()]))
}

fn run(file: &Path) -> anyhow::Result<ExitCode> {
    let metrics = Arc::new(Metrics::new());
    let mut log = None;
    let observers = |config: &fusebox::config::Config| {
        let started = Log::start(io::stdout(), config.log.level, config.log.access);
        let observers = proxy::observers(&started.0, &metrics);
        log = Some((started, observers.clone()));
        observers
    };
    let (config, compiled) = match proxy::load(file, compiler()?, observers) {
        Ok(loaded) => loaded,
        Err(errors) => return Ok(report(&errors)),
    };
    compiled.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
    let ((log, _writer), observers) = log.context("a configuration that was read has a log")?;
    sockets::raise_file_limit();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let done = runtime.block_on(async {
        let proxy = Proxy::start(config, compiled, observers, metrics, log).await?;
        // The first signal drains, the second means now.
        let (first, second) = (Signals::new()?, Signals::new()?);
        proxy.run(first.nth(1), second.nth(2)).await;
        Ok(ExitCode::SUCCESS)
    });
    // A component that is still being compiled is not waited for.
    runtime.shutdown_background();
    done
}

/// SIGTERM and ctrl-c.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// When so many of them have come.
    async fn nth(mut self, count: usize) {
        for _ in 0..count {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
    }
}

fn check(file: &Path) -> anyhow::Result<ExitCode> {
    match proxy::load(file, compiler()?, |_| Observers::default()) {
        Ok((_, compiled)) => {
            compiled.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
            say(&format!("{}: ok", file.display()));
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => Ok(report(&errors)),
    }
}

fn inspect(file: &Path) -> anyhow::Result<ExitCode> {
    let compiler = match code_cache::open(&CodeCacheConfig::default(), Path::new("")) {
        Ok(Some(cache)) => compiler()?.with_cache(cache),
        // It takes longer, and nothing else.
        _ => compiler()?,
    };
    let inspection = fusebox_wasm::inspect(file, compiler)?;
    say(inspection.to_string().trim_end());
    Ok(if inspection.refusal.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(errors: &[ConfigError]) -> ExitCode {
    errors.iter().for_each(|error| complain(&error.to_string()));
    ExitCode::FAILURE
}

/// What can't be written has no other place to go.
fn complain(message: &str) {
    writeln!(io::stderr(), "{message}").ok();
}

fn say(message: &str) {
    writeln!(io::stdout(), "{message}").ok();
}
