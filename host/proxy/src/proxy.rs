//! The whole proxy, from a configuration file to its end: as the program runs it, and the tests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fusebox_resilience::{Observer, Observers};
use fusebox_wasm::{Compiler, Components};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_local};

use crate::admin::Admin;
use crate::compile::{Compiled, compile};
use crate::config::{Config, ConfigError, Document};
use crate::observe::{Level, Log, Metrics};
use crate::server::{Server, Shared, bind};
use crate::watch::watch;

/// Reads a configuration file whole, without running it: what it says, and what it comes to. Blocks
/// while `compiler` compiles; the cache that the file asks for is added to it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load(
    file: &Path,
    compiler: Compiler,
    observers: impl FnOnce(&Config) -> Observers,
) -> Result<(Config, Compiled), Vec<ConfigError>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| vec![ConfigError::unreadable(file, &error)])?;
    let document = Document::parse(file, &text, |name| std::env::var(name).ok())?;
    let (mut config, mut errors) = Config::parse(&document);
    let directory = file.parent().unwrap_or(Path::new(""));
    if let Some(token_file) = config.admin.as_mut().and_then(|admin| admin.token_file.as_mut()) {
        *token_file = directory.join(&token_file);
    }
    let observers = observers(&config);
    let compiled = compile(&document, &config, directory, compiler, &observers);
    let compiled = compiled.map_err(|more| errors.extend(more)).ok();
    let problems = document.problems(errors);
    match compiled {
        Some(mut compiled) if problems.is_empty() => {
            let token_file = config.admin.as_ref().and_then(|admin| admin.token_file.as_ref());
            if let Some(Err(error)) = token_file.map(std::fs::metadata) {
                compiled
                    .warnings
                    .push(document.error("admin.token_file", format!("can't be read: {error}")));
            }
            Ok((config, compiled))
        }
        _ => Err(problems),
    }
}

/// A proxy whose sockets are bound and whose workers run. It must be used within a `LocalRuntime`.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    server: Server,
    admin: Arc<Admin>,
    components: Components,
    tasks: Tasks,
    log: Log,
}

/// Tasks that end with their owner.
#[derive(Debug, Default)]
struct Tasks(Vec<JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Proxy {
    /// Binds the sockets and starts the workers.
    ///
    /// # Errors
    /// An address is in use or not ours, or the system has no thread for a worker.
    pub async fn start(
        config: Config,
        compiled: Compiled,
        observers: Observers,
        metrics: Arc<Metrics>,
        log: Log,
    ) -> anyhow::Result<Self> {
        let listener = bind("listen", config.listen).await?;
        let admin_listener = match &config.admin {
            Some(admin) => Some(bind("admin.listen", admin.listen).await?),
            None => None,
        };
        let address = listener.local_addr()?;
        let admin_address = admin_listener.as_ref().map(TcpListener::local_addr).transpose()?;

        let Compiled { routes, policies, components, warnings: _ } = compiled;
        for route in routes.routes() {
            metrics.announce_route(&route.name);
            for policy in route.pipeline.policies() {
                metrics.announce_policy(&route.name, &**policy);
            }
        }
        components.status().iter().for_each(|status| metrics.announce_component(&status.name));

        let workers =
            config.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        let shared = Shared {
            routes: routes.clone(),
            limits: config.listener,
            observers: observers.clone(),
            components: components.clone(),
        };
        let server = Server::start(listener, workers, shared, log.clone())?;
        let admin = Arc::new(Admin {
            routes,
            policies,
            components: components.clone(),
            changes: Arc::new(Semaphore::new(1)),
            observers,
            metrics,
            log: log.clone(),
            loads: server.loads(),
            token_file: config.admin.and_then(|admin| admin.token_file),
            ready: AtomicBool::new(true),
        });
        let mut tasks = Tasks(vec![spawn_local(watch(components.clone()))]);
        tasks.0.extend(admin_listener.map(|listener| spawn_local(admin.clone().serve(listener))));
        log.line(Level::Info, "listening", |line| {
            line.field("listen", address.to_string())
                .maybe("admin", admin_address.map(|address| address.to_string()))
                .field("workers", workers);
        });
        Ok(Self { address, admin_address, server, admin, components, tasks, log })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the admin listener is.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// The components that it asks.
    pub fn components(&self) -> &Components {
        &self.components
    }

    /// Serves until `shutdown`, then lets the calls in flight end, but for no longer than until
    /// `hurry`.
    pub async fn run(self, shutdown: impl Future<Output = ()>, hurry: impl Future<Output = ()>) {
        let Self { server, admin, tasks, log, .. } = self;
        let announced = async {
            shutdown.await;
            admin.ready.store(false, Ordering::Relaxed);
            log.line(Level::Info, "draining", |_| {});
        };
        let cut = server.run(announced, hurry).await;
        drop(tasks);
        let level = if cut == 0 { Level::Info } else { Level::Warn };
        log.line(level, "stopped", |line| {
            line.field("connections_cut", cut);
        });
    }
}

/// Everyone who listens to events: log and metrics.
pub fn observers(log: &Log, metrics: &Arc<Metrics>) -> Observers {
    Observers::new([Arc::new(log.clone()) as Arc<dyn Observer>, metrics.clone()])
}
