//! The whole proxy, from a configuration file to the end of the process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use fusebox_resilience::{Observer, Observers};
use fusebox_wasm::{Compiler, Components};
use tokio::task::{JoinHandle, spawn_local};

use crate::admin::{Admin, AdminSocket, AdminThread};
use crate::compile::{Compiled, compile};
use crate::config::{Config, ConfigError, ConfigFile};
use crate::handler::CallPlaces;
use crate::observe::{Level, Log, Metrics};
use crate::read::read;
use crate::running::Running;
use crate::server::{Server, WorkerContext, WorkerLost, bind};
use crate::sockets;
use crate::tls::{self, Reloads};
use crate::upstream::care::look_after;
use crate::watch::watch;

/// Reads a configuration file and compiles it, without running it. Blocks while `compiler` compiles
/// components.
///
/// # Errors
/// All problems of the file. If the file is wrong, its components are loaded all the same,
/// so that their problems are reported, too.
pub fn load(
    file: &Path,
    compiler: Compiler,
    observers: impl FnOnce(&Config) -> Observers,
) -> Result<(ConfigFile, Compiled), Vec<ConfigError>> {
    match read(file) {
        Ok(read) => {
            let observers = observers(&read.config);
            let compiled = compile(&read, compiler, &observers);
            // Components report by name. A person reads the file by line.
            compiled.map(|compiled| (read, compiled)).map_err(|mut errors| {
                errors.sort_by_key(|error| error.line);
                errors
            })
        }
        Err(mut invalid) => {
            if let Some(rest) = invalid.rest.take() {
                let compiled = compile(&rest, compiler, &Observers::default());
                invalid.add(compiled.err().unwrap_or_default());
            }
            Err(invalid.errors)
        }
    }
}

/// A proxy whose sockets are bound and whose workers run. It needs a `LocalRuntime`.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    server: Server,
    admin: Arc<Admin>,
    admin_thread: Option<AdminThread>,
    running: Arc<Running>,
    tasks: Tasks,
    log: Log,
}

/// Tasks that are aborted when this is dropped.
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
    /// An address is in use or not available, or a thread can't be started.
    pub async fn start(
        file: ConfigFile,
        running: Running,
        observers: Observers,
        metrics: Arc<Metrics>,
        log: Log,
    ) -> anyhow::Result<Self> {
        let ConfigFile { config, directory, .. } = file;
        let listener = bind("listen", config.listen).await?;
        let admin_socket =
            config.admin.as_ref().map(|admin| AdminSocket::bind(&admin.listen, &directory));
        let admin_socket = admin_socket.transpose()?;
        let address = listener.local_addr()?;
        let admin_address = admin_socket.as_ref().map(ToString::to_string);

        let running = Arc::new(running);
        let Running { routes, components, tls, .. } = &*running;
        for route in routes.routes() {
            metrics.announce_route(&route.name);
            if route.is_grpc {
                metrics.announce_grpc(&route.name);
            }
            if !route.upgrades.is_empty() {
                metrics.announce_tunnels(&route.name);
            }
            for policy in route.pipeline.policies() {
                metrics.announce_policy(&route.name, &**policy);
            }
        }
        if tls.is_some() {
            metrics.announce_handshakes();
        }
        let files = routes.tls().flat_map(|tls| tls.file_names());
        tls.iter().flat_map(|tls| tls.file_names()).chain(files).for_each(|file| {
            metrics.announce_certificate(&file);
        });
        components.status().iter().for_each(|status| metrics.announce_component(&status.name));

        let workers =
            config.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        let longest_call = config.components.values().map(|component| component.timeout.0).max();
        let shared = WorkerContext {
            routes: routes.clone(),
            calls: config.listener.max_in_flight.map(CallPlaces::new).map(Arc::new),
            limits: config.listener,
            tls: tls.clone(),
            observers: observers.clone(),
            components: components.clone(),
            workers,
            longest_call: longest_call.unwrap_or_default(),
        };
        if let Some((limit, needed)) = sockets::missing_files(shared.limits.max_connections) {
            let message = "the limit of open files is too low for `max_connections`";
            log.line(Level::Warn, message, |line| {
                line.field("max_connections", shared.limits.max_connections)
                    .field("open_files", limit)
                    .field("needed", needed);
            });
        }
        let server = Server::start(listener, shared, log.clone())?;
        let access = config
            .admin
            .map(|admin| (admin.token_file.map(|file| directory.join(file)), admin.hosts));
        let load = server.load();
        let access = access.unwrap_or_default();
        let watching = observers.clone();
        let admin = Admin::new(running.clone(), observers, metrics, log.clone(), load, access);
        let admin = Arc::new(admin);
        let admin_thread = admin_socket.map(|socket| admin.clone().start(socket)).transpose()?;
        let upstreams = running.routes.upstreams().to_vec();
        let mut tasks = vec![
            spawn_local(watch(running.components.clone())),
            spawn_local(look_after(upstreams, watching.clone())),
        ];
        let listener = running.tls.iter().map(|tls| tls.clone() as Arc<dyn Reloads>);
        let upstreams = running.routes.tls().map(|tls| tls.clone() as Arc<dyn Reloads>);
        let certificates = listener.chain(upstreams).collect();
        tasks.push(spawn_local(tls::watch(certificates, watching)));
        let tasks = Tasks(tasks);
        let is_secure = running.tls.is_some();
        log.line(Level::Info, "listening", |line| {
            line.field("listen", address.to_string())
                .maybe("admin", admin_address)
                .maybe("tls", is_secure.then_some(true))
                .field("workers", workers);
        });
        Ok(Self { address, server, admin, admin_thread, running, tasks, log })
    }

    /// The address that clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The components that the policies ask.
    pub fn components(&self) -> &Components {
        &self.running.components
    }

    /// Serves until `shutdown` is ready, then waits for the calls in flight, until `hurry` is ready
    /// at the latest.
    ///
    /// # Errors
    /// A worker is lost, and what is left must not go on.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        hurry: impl Future<Output = ()>,
    ) -> Result<(), WorkerLost> {
        let Self { server, admin, admin_thread, tasks, log, .. } = self;
        let announced = async {
            shutdown.await;
            admin.not_ready();
            log.line(Level::Info, "draining", |_| {});
        };
        let cut = server.run(announced, hurry).await?;
        drop((admin_thread, tasks));
        let level = if cut == 0 { Level::Info } else { Level::Warn };
        log.line(level, "stopped", |line| {
            line.field("connections_cut", cut);
        });
        Ok(())
    }
}

/// The observers of all events: log and metrics.
pub fn observers(log: &Log, metrics: &Arc<Metrics>) -> Observers {
    Observers::new([Arc::new(log.clone()) as Arc<dyn Observer>, metrics.clone()])
}
