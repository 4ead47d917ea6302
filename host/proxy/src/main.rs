//! The command line: parse, call, exit code.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, value_parser};
use fusebox::client::AdminClient;
use fusebox::code_cache;
use fusebox::config::{CodeCacheConfig, ConfigError};
use fusebox::observe::{Log, Metrics};
use fusebox::policy::build::{self, Built};
use fusebox::policy::manifest::Language;
use fusebox::policy::scaffold::{self, Kind};
use fusebox::policy::{Subject, component_of, test};
use fusebox::proxy::{self, Proxy};
use fusebox::sockets;
use fusebox_resilience::Observers;
use fusebox_wasm::{Compiler, Components, WIT, compile_child};
use tokio::runtime::{Builder, LocalOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{spawn_blocking, spawn_local};

/// An allocator that needs 0.93 to 1.0 of the processor time per request of the system's allocator
/// (measured).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        /// The process id of the proxy that asks for it
        #[arg(long)]
        parent: i32,
    },
    /// Print the contract between fusebox and its components
    Wit,
    /// Make, test and look at components
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
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

#[derive(Subcommand)]
enum PolicyCommand {
    /// Make a folder with a policy that builds and passes its cases as it is
    New {
        /// Its name: lower case letters, digits and `-`
        name: String,
        /// What it is written in
        #[arg(long)]
        lang: Language,
        /// What it does
        #[arg(long, default_value = "predicate")]
        kind: Kind,
    },
    /// Build a policy with the tools of its language
    Build {
        /// The policy's folder
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Run a component's cases
    Test {
        #[command(flatten)]
        subject: SubjectArguments,
        /// Go on, and run them again when the component or the cases have changed
        #[arg(long)]
        watch: bool,
    },
    /// Measure a component's calls by its cases
    Bench {
        #[command(flatten)]
        subject: SubjectArguments,
        /// Calls for each case
        #[arg(long, default_value_t = 10_000, value_parser = value_parser!(u32).range(1..=10_000_000))]
        calls: u32,
    },
    /// Show what a component imports, exports and may do
    Inspect {
        /// The component, or a policy's folder
        #[arg(default_value = ".")]
        path: PathBuf,
    },
}

#[derive(Args)]
struct SubjectArguments {
    /// A policy's folder, or a component
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The cases; default: those of the folder, or `cases.toml` beside the component
    cases: Option<PathBuf>,
    /// Configure it as this configuration does, and not as the cases say
    #[arg(long, value_name = "FILE", requires = "component")]
    config: Option<PathBuf>,
    /// Its name there, and in a log: cases that were captured of others are passed over
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
}

impl SubjectArguments {
    fn find(&self) -> anyhow::Result<Subject> {
        Subject::find(&self.path, self.cases.clone())?
            .named(self.component.clone(), self.config.as_deref())
    }
}

fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        FuseboxCommand::Run { config } => run(&config),
        FuseboxCommand::Check { config } => check(&config),
        FuseboxCommand::Push { name, file, admin } => push(&name, &file, &admin),
        FuseboxCommand::Rollback { name, admin } => {
            admin.client().and_then(|client| client.roll_back(&name)).map(said)
        }
        FuseboxCommand::Reload { admin } => {
            admin.client().and_then(|client| client.reload()).map(said)
        }
        FuseboxCommand::CompileComponent { memory, cpu, parent } => {
            Ok(compile_child(memory, cpu, parent))
        }
        FuseboxCommand::Wit => Ok(said(WIT.trim_end().to_owned())),
        FuseboxCommand::Policy { command } => policy_command(command),
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
    let (file, compiled) = match proxy::load(file, compiler()?, observers) {
        Ok(loaded) => loaded,
        Err(errors) => return Ok(report(&errors)),
    };
    compiled.warnings.iter().for_each(|warning| complain(&format!("warning: {warning}")));
    let ((log, _writer), observers) = log.context("a configuration that was read has a log")?;
    sockets::raise_file_limit();
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let done = runtime.block_on(async {
        let proxy = Proxy::start(file, compiled.running, observers, metrics, log).await?;
        // The first signal starts draining, the second ends the proxy at once.
        let (first, second) = (Signals::new()?, Signals::new()?);
        spawn_local(reload_on_hangup(signal(SignalKind::hangup())?, proxy.components().clone()));
        proxy.run(first.nth(1), second.nth(2)).await;
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
        spawn_blocking(move || components.reload_all()).await.ok();
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

fn policy_command(command: PolicyCommand) -> anyhow::Result<ExitCode> {
    match command {
        PolicyCommand::New { name, lang, kind } => {
            let next = scaffold::new(Path::new(""), &name, lang, kind)?;
            say(&format!("{name}: made. Next:\n  {}", next.join("\n  ")));
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Build { folder } => {
            let Built { component, size, changed } = build::build(&folder, complain)?;
            let unchanged = if changed { "" } else { ", unchanged" };
            say(&format!("{}: {size} bytes{unchanged}", component.display()));
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Test { subject, watch } => {
            let compiler = cached_compiler()?;
            if watch {
                test::watch(|| subject.find(), &compiler, say)
            }
            let passed = test::test(&subject.find()?, compiler, say)?;
            Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        PolicyCommand::Bench { subject, calls } => {
            say(&subject.find()?.trial(cached_compiler()?)?.bench(calls)?.to_string());
            Ok(ExitCode::SUCCESS)
        }
        PolicyCommand::Inspect { path } => inspect(&component_of(&path)?),
    }
}

/// A compiler with the user's code cache, if it can be used. Without the cache it is only slower.
fn cached_compiler() -> anyhow::Result<Compiler> {
    Ok(match code_cache::open(&CodeCacheConfig::default(), Path::new("")) {
        Ok(Some(cache)) => compiler()?.with_cache(cache),
        _ => compiler()?,
    })
}

fn inspect(file: &Path) -> anyhow::Result<ExitCode> {
    let inspection = fusebox_wasm::inspect(file, cached_compiler()?)?;
    say(inspection.to_string().trim_end());
    Ok(if inspection.refusal.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
