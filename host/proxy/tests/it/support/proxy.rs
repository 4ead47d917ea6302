//! [`Proxy`]: the real program with a configuration in a directory of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use fusebox_dev::{Daemon, LIMIT, Message, Wire, try_ask};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::metrics::metrics;

/// A route for everything, without policies. `ORIGIN` becomes the origin's URL.
pub(crate) const ROUTE: &str = "[[routes]]\nupstream = \"ORIGIN\"\n";

/// The program itself, running.
#[derive(Debug)]
pub(crate) struct Proxy {
    program: Daemon,
    directory: TempDir,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Deref for Proxy {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.program
    }
}

impl DerefMut for Proxy {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.program
    }
}

impl Proxy {
    /// In front of `origin`, whose URL takes the place of `ORIGIN` in `config`. The listeners are
    /// there already; `config` may begin with more top-level keys.
    #[track_caller]
    pub(crate) fn before(origin: &impl fmt::Display, config: &str) -> Self {
        Self::with_files(origin, &[], config)
    }

    /// Likewise, with files beside the configuration.
    #[track_caller]
    pub(crate) fn with_files(
        origin: &impl fmt::Display,
        files: &[(&str, &[u8])],
        config: &str,
    ) -> Self {
        let (directory, config) = Self::prepared(origin, files, config);
        Self::run(directory, &config)
    }

    /// Likewise, in a process that may have so many files open.
    #[track_caller]
    pub(crate) fn with_open_files(
        limit: u32,
        origin: &impl fmt::Display,
        files: &[(&str, &[u8])],
        config: &str,
    ) -> Self {
        let (directory, config) = Self::prepared(origin, files, config);
        fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]);
        shell.arg(env!("CARGO_BIN_EXE_fusebox"));
        Self::start_by(shell, directory, "fusebox.toml").listening()
    }

    /// Likewise, on a system that trusts those whose certificates are in this PEM, and nobody else.
    #[track_caller]
    pub(crate) fn trusting(
        roots: &str,
        origin: &impl fmt::Display,
        files: &[(&str, &[u8])],
        config: &str,
    ) -> Self {
        let (directory, config) = Self::prepared(origin, files, config);
        fs::write(directory.path().join("fusebox.toml"), config).expect("a file");
        let file = directory.path().join("system.pem");
        fs::write(&file, roots).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_fusebox"));
        command.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
        Self::start_by(command, directory, "fusebox.toml").listening()
    }

    fn prepared(
        origin: &impl fmt::Display,
        files: &[(&str, &[u8])],
        config: &str,
    ) -> (TempDir, String) {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, bytes) in files {
            fs::write(directory.path().join(name), bytes).expect("a file");
        }
        fs::write(directory.path().join("token"), "open sesame\n").expect("a file");
        let listeners =
            "listen = '127.0.0.1:0'\nadmin = { listen = '127.0.0.1:0', token_file = 'token' }\n";
        (directory, format!("{listeners}{}", config.replace("ORIGIN", &origin.to_string())))
    }

    /// With this whole configuration, which has an admin listener.
    #[track_caller]
    pub(crate) fn run(directory: TempDir, config: &str) -> Self {
        Self::spawn(directory, config).listening()
    }

    /// With this whole configuration in a file of that name, which the program, running in the
    /// directory, is told.
    #[track_caller]
    pub(crate) fn run_file(directory: TempDir, file: &str, config: &str) -> Self {
        Self::spawn_file(directory, file, config).listening()
    }

    #[track_caller]
    fn listening(self) -> Self {
        let mut proxy = self;
        let line = proxy.line("listening");
        let address = |key: &str| line[key].as_str().and_then(|address| address.parse().ok());
        proxy.address = address("listen").expect("an address");
        proxy.admin = address("admin").expect("an address");
        proxy
    }

    /// Not yet known to listen.
    #[track_caller]
    pub(crate) fn spawn(directory: TempDir, config: &str) -> Self {
        Self::spawn_file(directory, "fusebox.toml", config)
    }

    #[track_caller]
    fn spawn_file(directory: TempDir, file: &str, config: &str) -> Self {
        fs::write(directory.path().join(file), config).expect("a file");
        Self::start(directory, file)
    }

    /// The same directory and configuration, after this one's end.
    #[track_caller]
    pub(crate) fn again(mut self) -> Self {
        self.end();
        let other = tempfile::tempdir().expect("a directory");
        Self::start(std::mem::replace(&mut self.directory, other), "fusebox.toml").listening()
    }

    #[track_caller]
    fn start(directory: TempDir, file: &str) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_fusebox")), directory, file)
    }

    #[track_caller]
    fn start_by(mut command: Command, directory: TempDir, file: &str) -> Self {
        let program = Daemon::start(
            command
                .args(["run", file])
                .current_dir(directory.path())
                .env("XDG_CACHE_HOME", directory.path().join("cache")),
        );
        let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { program, directory, address: nowhere, admin: nowhere }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    #[track_caller]
    pub(crate) fn connect(&self) -> Wire {
        Wire::connect(self.address).expect("it listens")
    }

    /// Asks on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        self.connect().ask(request)
    }

    // ----- what it says -----

    /// Waits for the end of the request `id`, and gives all its lines. Its access line is the last.
    #[track_caller]
    pub(crate) fn story(&self, id: &str) -> Vec<Value> {
        self.wait(&format!("the access line of `{id}`"), |lines| {
            let mut story = lines.iter().filter(|line| line["request_id"] == id);
            let end = story.clone().position(|line| line.get("request").is_some())?;
            Some(story.by_ref().take(end + 1).cloned().collect())
        })
    }

    /// The messages of that, details left out.
    #[track_caller]
    pub(crate) fn told(&self, id: &str) -> Vec<String> {
        let is_detail = |message: &String| {
            message == "Call started"
                || message.starts_with("Condition ")
                || message.starts_with("Attempt ") && message.ends_with(" started")
        };
        self.told_in_detail(id).into_iter().filter(|message| !is_detail(message)).collect()
    }

    /// All messages of that.
    #[track_caller]
    pub(crate) fn told_in_detail(&self, id: &str) -> Vec<String> {
        self.story(id)
            .iter()
            .map(|line| line["msg"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    // ----- the admin listener -----

    #[track_caller]
    pub(crate) fn admin(&self, request: &str) -> Message {
        self.admin_with(request, "")
    }

    /// The same with more headers, each with its line end.
    #[track_caller]
    pub(crate) fn admin_with(&self, request: &str, headers: &str) -> Message {
        let mut wire = Wire::connect(self.admin).expect("it listens");
        let head = request.starts_with("HEAD");
        wire.send(format!(
            "{request} HTTP/1.1\r\nhost: localhost\r\n{headers}connection: close\r\n\r\n"
        ));
        if head { wire.head().expect("a response") } else { wire.response() }
    }

    /// The same with a body.
    #[track_caller]
    pub(crate) fn admin_sending(&self, request: &str, headers: &str, body: &[u8]) -> Message {
        try_ask(self.admin, request, headers, body).expect("it listens")
    }

    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    #[track_caller]
    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(self.admin("GET /state").text()).expect("JSON")
    }

    /// All metrics.
    #[track_caller]
    pub(crate) fn series(&self) -> BTreeMap<String, f64> {
        metrics(self.admin("GET /metrics").text())
    }

    /// Waits until these series have these values.
    #[track_caller]
    pub(crate) fn counts(&self, expected: &[(&str, f64)]) {
        let deadline = Instant::now() + LIMIT;
        loop {
            let series = self.series();
            let found = expected
                .iter()
                .map(|(name, _)| (*name, series.get(*name).copied().unwrap_or(f64::NAN)));
            let found: Vec<(&str, f64)> = found.collect();
            if found == expected {
                return;
            }
            assert!(Instant::now() < deadline, "expected {expected:?}\nfound {found:?}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The series that counts this fault of the version of the component `c` that is in use.
    #[track_caller]
    pub(crate) fn fault_series(&self, fault: &str) -> String {
        let digest = self.state()["components"]["c"]["digest"].clone();
        format!(
            r#"fusebox_component_faults_total{{component="c",digest={digest},fault="{fault}"}}"#
        )
    }

    /// The most memory that it has had so far, in bytes.
    #[track_caller]
    pub(crate) fn peak_memory(&self) -> u64 {
        self.memory("VmHWM")
    }

    /// The memory that it has now, less what is in its file, in bytes.
    #[track_caller]
    pub(crate) fn private_memory(&self) -> u64 {
        self.memory("RssAnon")
    }

    #[track_caller]
    fn memory(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let mut fields = status.lines().filter_map(|line| line.split_once(':'));
        let kib = fields.find_map(|(name, value)| {
            (name == what).then(|| value.strip_suffix("kB")?.trim().parse().ok())?
        });
        kib.map(|kib: u64| kib << 10).unwrap_or_else(|| panic!("no {what}: {status}"))
    }

    /// How long its threads and ours have been ready to run while the processors were with others.
    #[track_caller]
    pub(crate) fn queued(&self) -> Duration {
        let tasks = ["self".to_owned(), self.id().to_string()]
            .map(|id| fs::read_dir(format!("/proc/{id}/task")));
        let tasks = tasks.into_iter().flat_map(|tasks| tasks.expect("it runs")).flatten();
        // A thread that has ended since has no file.
        let times = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
        let queued = times.filter_map(|times| times.split(' ').nth(1)?.parse().ok());
        queued.map(Duration::from_nanos).sum()
    }
}
