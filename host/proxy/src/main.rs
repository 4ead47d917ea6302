//! The command line: parse, call, exit code.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use fusebox::allocator::Mimalloc;
use fusebox::client::AdminClient;
use fusebox::config::ConfigError;
use fusebox::observe::{Log, Metrics};
use fusebox::proxy::{self, Proxy};
use fusebox::sockets;
use fusebox_resilience::Observers;
use fusebox_wasm::{Compiler, Components, WIT, child};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{spawn_blocking, spawn_local};

#[global_allocator]
static ALLOCATOR: Mimalloc = Mimalloc;

/// A resilience proxy whose failure predicates and fallbacks are WebAssembly components.
#[derive(Parser)]
#[command(name = "fusebox", version)]
struct CommandLine {
    #[command(subcommand)]
    command: FuseboxCommand,
}

#[derive(Subcommand)]
enum FuseboxCommand {
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
        /// Show the policies of this route, and what each comes to at worst
        #[arg(long, value_name = "ROUTE")]
        explain: Option<String>,
    },
    /// Replace a component of a running proxy, and its file
    Push {
        /// The component's name in the configuration
        name: String,
        /// The component
        file: PathBuf,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Put the previous version of a component back
    Rollback {
        /// The component's name in the configuration
        name: String,
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Load every component whose file has changed, and report each result
    Reload {
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Compile the component on stdin (used by fusebox itself)
    #[command(hide = true)]
    CompileComponent {
        /// The limit on memory, in bytes
        #[arg(long)]
        memory: u64,
        /// The limit on processor time, in seconds
        #[arg(long)]
        cpu: u64,
        /// The niceness: how far it comes behind what else is busy
        #[arg(long)]
        nice: i32,
        /// The process id of the proxy that asks for it
        #[arg(long)]
        parent: i32,
    },
    /// Print the contract between fusebox and its components
    Wit,
    /// Make, test and look at components
    #[cfg(feature = "author")]
    Component(fusebox::author::ComponentArguments),
    /// Make, test and look at components: not in this program
    #[cfg(not(feature = "author"))]
    #[command(disable_help_flag = true)]
    Component {
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        _arguments: Vec<std::ffi::OsString>,
    },
}

#[derive(Args)]
struct AdminArguments {
    /// The proxy's admin listener
    #[arg(long = "admin", value_name = "URL", default_value = "http://127.0.0.1:9901")]
    url: String,
    /// The file with the token, as in its `[admin] token_file`
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl AdminArguments {
    fn client(&self) -> anyhow::Result<AdminClient> {
        AdminClient::new(&self.url, self.token_file.as_deref())
    }
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        FuseboxCommand::Run { config } => run(&config),
        FuseboxCommand::Check { config, explain } => check(&config, explain.as_deref()),
        FuseboxCommand::Push { name, file, admin } => push(&name, &file, &admin),
        FuseboxCommand::Rollback { name, admin } => {
            admin.client().and_then(|client| client.roll_back(&name)).map(said)
        }
        FuseboxCommand::Reload { admin } => {
            admin.client().and_then(|client| client.reload()).map(said)
        }
        FuseboxCommand::CompileComponent { memory, cpu, nice, parent } => {
            Ok(child::compile(memory, cpu, nice, parent))
        }
        FuseboxCommand::Wit => Ok(said(WIT.trim_end().to_owned())),
        #[cfg(feature = "author")]
        FuseboxCommand::Component(arguments) => compiler()
            .and_then(|compiler| arguments.run(compiler, say, complain))
            .map(|is_well| if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        #[cfg(not(feature = "author"))]
        FuseboxCommand::Component { .. } => Err(anyhow::anyhow!(
            "`fusebox component` is not in this program: it was built without the feature `author`"
        )),
    };
    done.unwrap_or_else(|error| {
        complain(&format!("fusebox: {error:#}"));
        ExitCode::FAILURE
    })
}

/// A compiler that runs this program once for each component. The name under `/proc` is the running
/// program, even if its file has been replaced since the start.
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
    let (file, compiled) = match proxy::load(file, compiler()?.yielding(), observers) {
        Ok(loaded) => loaded,
        Err(errors) => return Ok(report(&errors)),
    };
    compiled.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
    let ((log, _writer), observers) = log.context("a configuration that was read has a log")?;
    sockets::raise_file_limit();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let done = runtime.block_on(async {
        // Before it says that it listens: from then on a signal must not kill it. The first starts
        // draining, the second ends the proxy at once.
        let (first, second) = (Signals::new()?, Signals::new()?);
        let hangup = signal(SignalKind::hangup())?;
        let proxy = Proxy::start(file, compiled.running, observers, metrics, log).await?;
        spawn_local(reload_on_hangup(hangup, proxy.components().clone()));
        proxy.run(first.nth(1), second.nth(2)).await?;
        Ok(ExitCode::SUCCESS)
    });
    // Do not wait for a component that is still being compiled.
    runtime.shutdown_background();
    done
}

/// The signals that end the program: SIGTERM and ctrl-c.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Returns when `count` signals have arrived.
    async fn nth(mut self, count: usize) {
        for _ in 0..count {
            tokio::select! {
                _ = self.terminate.recv() => {}
                _ = self.interrupt.recv() => {}
            }
        }
    }
}

/// On each SIGHUP, loads the components whose files have changed. Events report the results.
async fn reload_on_hangup(mut hangup: Signal, components: Components) {
    while hangup.recv().await.is_some() {
        let components = components.clone();
        // A slow one must not keep the next signal waiting.
        drop(spawn_blocking(move || components.retry_all()));
    }
}

fn check(file: &Path, explain: Option<&str>) -> anyhow::Result<ExitCode> {
    match proxy::load(file, compiler()?.yielding(), |_| Observers::default()) {
        Ok((_, compiled)) => {
            compiled.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
            compiled.notes.iter().for_each(|note| complain(&format!("note: {note}")));
            if let Some(name) = explain {
                let names = || compiled.reviews.iter().map(|route| &*route.name);
                let route = compiled.reviews.iter().find(|route| &*route.name == name);
                let route = route.with_context(|| {
                    format!(
                        "no route `{name}`, expected one of {}",
                        names().collect::<Vec<_>>().join(", ")
                    )
                })?;
                say(&route.explained().to_string());
            } else {
                compiled.reviews.iter().for_each(|route| say(&route.to_string()));
            }
            say(&format!("{}: ok", file.display()));
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => Ok(report(&errors)),
    }
}

fn push(name: &str, file: &Path, admin: &AdminArguments) -> anyhow::Result<ExitCode> {
    let client = admin.client()?;
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    client.push(name, bytes).map(said)
}

fn said(answer: String) -> ExitCode {
    say(&answer);
    ExitCode::SUCCESS
}

fn report(errors: &[ConfigError]) -> ExitCode {
    errors.iter().for_each(|error| complain(&error.to_string()));
    ExitCode::FAILURE
}

/// Errors of writing are ignored: there is nowhere else to report them.
fn complain(message: &str) {
    writeln!(io::stderr(), "{message}").ok();
}

fn say(message: &str) {
    writeln!(io::stdout(), "{message}").ok();
}
