//! The proxies that are measured. Each is started once, with a service of its own behind it, so
//! that the connections it opens can be counted.

mod client;
pub(crate) mod envoy;
pub(crate) mod fusebox;
pub(crate) mod haproxy;
pub(crate) mod nginx;
pub(crate) mod setup;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use fusebox_dev::Authority;

use client::{Client, HOST};
use setup::Setup;

use crate::process::ContestantProcess;
use crate::scenario::Wires;
use crate::upstream::{MeasuredService, Ports, Servers};

/// A proxy in one configuration.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    /// Its name in raw data and tables.
    pub(crate) name: String,
    pub(crate) kind: ContestantKind,
    pub(crate) wires: Wires,
    /// Whether it can retry as the scenario of retries needs.
    pub(crate) retries: bool,
    /// Whether it takes part in scenarios with few contestants.
    pub(crate) main: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum ContestantKind {
    Nginx,
    Haproxy,
    Envoy { binary: PathBuf, filter: bool },
    Fusebox { binary: PathBuf, component: PathBuf, policies: fusebox::PolicySet, access_log: bool },
}

/// The name of the contestant that all ratios refer to.
pub(crate) const REFERENCE: &str = "nginx";

const TITLES: [(&str, &str); 12] = [
    (REFERENCE, "nginx, `proxy_pass`"),
    ("haproxy", "haproxy"),
    ("envoy", "Envoy"),
    ("envoy-wasm", "Envoy, proxy-wasm filter"),
    ("fusebox", "fusebox, no policy"),
    ("fusebox-native", "fusebox, native policies"),
    ("fusebox-wasm", "fusebox, component asked about every response"),
    ("fusebox-wasm-only", "fusebox, component behind `only`"),
    ("fusebox-native-log", "fusebox, native policies, access log"),
    ("before", "before, no policy"),
    ("before-native", "before, native policies"),
    ("before-wasm", "before, component asked about every response"),
];

impl Contestant {
    fn new(name: &str, kind: ContestantKind) -> Self {
        Self { name: name.into(), kind, wires: Wires::Plain, retries: true, main: true }
    }

    pub(crate) fn nginx() -> Self {
        Self::new(REFERENCE, ContestantKind::Nginx)
    }

    /// The contestants on the axes: nginx, and fusebox with native policies and with a component.
    pub(crate) fn scaled(programs: &Programs) -> [Self; 3] {
        let [_, native, wasm, ..] =
            Self::fuseboxes("fusebox", &programs.fusebox, &programs.component);
        [Self::nginx(), native, wasm]
    }

    /// All contestants that are installed, and the names of those that are not.
    pub(crate) fn all(programs: &Programs) -> (Vec<Self>, Vec<String>) {
        let (mut all, mut missing) = (vec![Self::nginx()], Vec::new());
        if programs.haproxy {
            all.push(Self::new("haproxy", ContestantKind::Haproxy));
        } else {
            missing.push("haproxy".into());
        }
        if let Some(binary) = &programs.envoy {
            let envoy = |filter| ContestantKind::Envoy { binary: binary.clone(), filter };
            all.push(Self { main: false, ..Self::new("envoy", envoy(false)) });
            all.push(Self::new("envoy-wasm", envoy(true)));
        } else {
            missing.push("envoy".into());
        }
        all.extend(Self::fuseboxes("fusebox", &programs.fusebox, &programs.component));
        if let Some(before) = &programs.before {
            all.extend(Self::fuseboxes("before", before, &programs.component).into_iter().take(3));
        }
        let wired = |wires: Wires| {
            let takes_part = move |contestant: &&Self| match (&contestant.kind, wires) {
                (ContestantKind::Fusebox { access_log, .. }, _) => !access_log,
                (ContestantKind::Nginx, Wires::Tls | Wires::TlsWithoutTickets)
                | (ContestantKind::Envoy { filter: false, .. }, Wires::Http2) => true,
                _ => false,
            };
            all.iter().filter(takes_part).map(|one| one.over(wires)).collect::<Vec<_>>()
        };
        let others = [Wires::Tls, Wires::TlsWithoutTickets, Wires::Http2].map(wired);
        all.extend(others.into_iter().flatten());
        (all, missing)
    }

    /// fusebox in each configuration.
    pub(crate) fn fuseboxes(prefix: &str, binary: &Path, component: &Path) -> [Self; 5] {
        let new = |name: &str, policies, access_log| {
            let kind = ContestantKind::Fusebox {
                binary: binary.into(),
                component: component.into(),
                policies,
                access_log,
            };
            Self::new(&format!("{prefix}{name}"), kind)
        };
        let plain =
            Self { retries: false, main: false, ..new("", fusebox::PolicySet::None, false) };
        let native = new("-native", fusebox::PolicySet::Native, false);
        let wasm = new("-wasm", fusebox::PolicySet::Wasm, false);
        let only = new("-wasm-only", fusebox::PolicySet::WasmOnly, false);
        let logging = Self { main: false, ..new("-native-log", fusebox::PolicySet::Native, true) };
        [plain, native, wasm, only, logging]
    }

    /// The same over other wires, where all are of interest.
    pub(crate) fn over(&self, wires: Wires) -> Self {
        Self { wires, main: true, ..self.clone() }
    }

    /// Its title in tables.
    pub(crate) fn title(name: &str) -> &str {
        TITLES.iter().find(|(known, _)| *known == name).map_or(name, |(_, title)| title)
    }

    /// Its position in tables.
    pub(crate) fn rank(name: &str) -> usize {
        TITLES.iter().position(|(known, _)| *known == name).unwrap_or(TITLES.len())
    }

    /// Whether the others are worth measuring without it.
    pub(crate) const fn may_be_missing(&self) -> bool {
        matches!(self.kind, ContestantKind::Haproxy | ContestantKind::Envoy { .. })
    }

    fn command(&self, setup: &Setup) -> Result<Command> {
        match &self.kind {
            ContestantKind::Nginx => nginx::command(setup),
            ContestantKind::Haproxy => haproxy::command(setup),
            ContestantKind::Envoy { binary, filter } => envoy::command(setup, binary, *filter),
            ContestantKind::Fusebox { binary, component, policies, access_log } => {
                fusebox::command(setup, binary, component, *policies, *access_log)
            }
        }
    }

    /// Starts it, waits until it serves, and checks that it works as configured.
    pub(crate) async fn start(
        &self,
        servers: &Servers,
        ports: &mut Ports,
        options: &Options,
        work: &Path,
    ) -> Result<RunningContestant> {
        let upstream = servers.service(ports.next()?)?;
        let mut setup = Setup {
            listen: ports.next()?,
            upstream: upstream.address,
            admin: ports.next()?,
            directory: tempfile::tempdir_in(work)?.keep(),
            wires: self.wires,
            pair: None,
            workers: options.workers,
            connections: options.connections,
            routes: options.routes,
            components: options.components,
            max_header: options.max_header,
            has_keys: options.has_keys,
        };
        let client = match self.wires {
            Wires::Plain => Client::Plain,
            Wires::Http2 => Client::Http2,
            Wires::Tls | Wires::TlsWithoutTickets => {
                let authority = Authority::new("bench");
                let issued = authority.issue(HOST, &[HOST]);
                let cert = setup.write("cert.pem", issued.cert)?;
                setup.pair = Some((cert, setup.write("key.pem", issued.key)?));
                Client::Tls(authority.client(None).into())
            }
        };
        let log = setup.directory.join("log");
        // Only a log may fill it. It is appended to, so that it can be emptied.
        let stdout = matches!(self.kind, ContestantKind::Fusebox { access_log: true, .. });
        let open =
            || File::options().create(true).append(true).open(setup.directory.join("stdout"));
        let stdout = stdout.then(open).transpose()?;
        let output = stdout.as_ref().map(File::try_clone).transpose()?;
        let program = ContestantProcess::start(self.command(&setup)?, stdout, &log)?;
        let mut running = RunningContestant {
            contestant: self.clone(),
            program,
            client,
            address: setup.listen,
            admin: setup.admin,
            upstream,
            output,
        };
        let ready = running.ready().await;
        ready.with_context(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            format!("{}{}{}", self.name, if log.is_empty() { "" } else { ": " }, log.trim_end())
        })?;
        Ok(running)
    }
}

/// Sizes of a contestant's configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) workers: usize,
    pub(crate) connections: usize,
    pub(crate) routes: u64,
    pub(crate) components: u64,
    pub(crate) max_header: Option<u64>,
    /// Whether clients are told apart.
    pub(crate) has_keys: bool,
}

impl Default for Options {
    fn default() -> Self {
        let (workers, connections) = (2, 4096);
        let (routes, components, max_header, has_keys) = (0, 1, None, false);
        Self { workers, connections, routes, components, max_header, has_keys }
    }
}

/// The programs that were found.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) haproxy: bool,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) fusebox: PathBuf,
    pub(crate) component: PathBuf,
    pub(crate) before: Option<PathBuf>,
}

/// A contestant that serves.
#[derive(Debug)]
pub(crate) struct RunningContestant {
    pub(crate) contestant: Contestant,
    pub(crate) program: ContestantProcess,
    pub(crate) address: SocketAddr,
    pub(crate) upstream: MeasuredService,
    client: Client,
    admin: SocketAddr,
    output: Option<File>,
}

impl RunningContestant {
    /// Its response to a `GET`, head and body.
    pub(crate) async fn get(&self, target: &str) -> Result<String> {
        self.client.get(self.address, target).await
    }

    /// Asks it `times` times over a new connection, in each way that it has.
    pub(crate) async fn ask_often(&self, times: usize) -> Result<()> {
        self.client.ask_often(self.address, times).await
    }

    async fn ready(&mut self) -> Result<()> {
        self.program.listens(self.address).await?;
        let answer = self.get("/").await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "it answers {answer}");
        ensure!(!answer.contains(envoy::HANDLED), "its filter takes good answers for bad ones");
        if self.contestant.retries {
            let answer = self.get("/retry/fail-once/0").await?;
            ensure!(answer.starts_with("HTTP/1.1 200"), "it does not retry: {answer}");
        }
        if matches!(self.contestant.kind, ContestantKind::Envoy { filter: true, .. }) {
            let answer = self.get("/unavailable").await?;
            ensure!(answer.contains(envoy::HANDLED), "its filter is not asked: {answer}");
        }
        Ok(())
    }

    /// The calls of its components so far; `None` if it has no component.
    pub(crate) async fn component_calls(&self) -> Result<Option<fusebox::Calls>> {
        match self.contestant.kind {
            ContestantKind::Fusebox { policies, .. } if policies.ask_component() => {
                fusebox::Calls::of(&Client::Plain.get(self.admin, "/metrics").await?).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Empties its output.
    pub(crate) fn empty_output(&self) -> Result<()> {
        self.output.as_ref().map_or(Ok(()), |output| Ok(output.set_len(0)?))
    }
}
