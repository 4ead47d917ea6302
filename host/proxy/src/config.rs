//! What the configuration file says: plain values, no lookups.
//!
//! A file is read in two steps. [`Config::parse`] takes it table by table, so that one wrong table
//! does not hide what is wrong in the others; [`compile`](crate::compile) then looks up names and
//! checks meanings in what there is. Everything that is wrong is reported at once, each problem
//! with its line, its path and what was expected.

mod document;

pub use document::{ConfigError, Document};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use fusebox_resilience::config::{ConfigDuration, Problem};
use fusebox_resilience::{
    AnyPolicyConfig, BudgetConfig, PolicyConfig, ReadPolicyConfig, policy_kinds,
};
use fusebox_wasm::{CodeCache, ComponentConfig};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::observe::Level;

/// A whole configuration file.
#[derive(Debug)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Worker threads. Default: one per core.
    pub workers: Option<usize>,
    /// Limits on clients.
    pub listener: ListenerConfig,
    /// The second listener. Default: none.
    pub admin: Option<AdminConfig>,
    /// What is logged.
    pub log: LogConfig,
    /// Where compiled components are kept.
    pub code_cache: CodeCacheConfig,
    /// `[components.NAME]`.
    pub components: BTreeMap<String, ComponentConfig>,
    /// `[budgets.NAME]`.
    pub budgets: BTreeMap<String, BudgetConfig>,
    /// `[policies.NAME]`.
    pub policies: BTreeMap<String, Box<dyn AnyPolicyConfig>>,
    /// `[[routes]]`, in the file's order.
    pub routes: Vec<RouteConfig>,
}

/// `[listener]`: limits on clients.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerConfig {
    /// How long a client may take from the first byte of a request head to its end. Default 10 s.
    pub header_timeout: ConfigDuration,
    /// How long a connection may stay without a request. Default 75 s.
    pub idle_timeout: ConfigDuration,
    /// How long a request body may stall, or a client may not take what it is sent. Default 60 s.
    pub body_timeout: ConfigDuration,
    /// The largest request head, 8 KiB to 1 MiB. Default 64 KiB; beyond it the client gets a 431.
    pub max_header: ByteSize,
    /// The largest request body; it is never held in memory whole. Default 1 GiB; beyond it the
    /// client gets a 413.
    pub max_body: ByteSize,
    /// Connections at once; up to 1,000,000; further ones wait in the kernel's queue. Default
    /// 10,000.
    pub max_connections: usize,
    /// How long calls in flight may take to end after SIGTERM. Default 30 s.
    pub drain_timeout: ConfigDuration,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self {
            header_timeout: ConfigDuration::from_secs(10),
            idle_timeout: ConfigDuration::from_secs(75),
            body_timeout: ConfigDuration::from_secs(60),
            max_header: ByteSize::kib(64),
            max_body: ByteSize::gib(1),
            max_connections: 10_000,
            drain_timeout: ConfigDuration::from_secs(30),
        }
    }
}

/// `[admin]`: health, metrics, state, and the switches.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    /// Where. Whoever reaches it can read everything it shows, so keep it on loopback.
    pub listen: SocketAddr,
    /// The file with the bearer token that whatever changes something asks for. Default: none, and
    /// nothing can be changed.
    pub token_file: Option<PathBuf>,
}

/// `[log]`: the JSON lines on stdout.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// The least level that is written: `debug`, `info`, `warn` or `error`. Default `info`.
    pub level: Level,
    /// Whether every request gets a line. Default true.
    pub access: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: Level::Info, access: true }
    }
}

/// `[code_cache]`: compiled components on disk, so that a start need not compile them again.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodeCacheConfig {
    /// A directory that only this user can write to; it is made if it is not there. Default:
    /// `$CACHE_DIRECTORY`, else `$XDG_CACHE_HOME/fusebox`, else `$HOME/.cache/fusebox`.
    pub directory: Option<PathBuf>,
    /// Whether there is one at all. Default true.
    pub enabled: bool,
    /// How much code is kept, from 1 MiB. Default 1 GiB; what was used least recently goes first.
    pub max_size: ByteSize,
}

impl Default for CodeCacheConfig {
    fn default() -> Self {
        Self { directory: None, enabled: true, max_size: CodeCache::DEFAULT_SIZE }
    }
}

/// `[[routes]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Its place in the file, from 0.
    #[serde(skip)]
    pub index: usize,
    /// Its name in log, metrics and for guests. Default: made from what it matches.
    pub name: Option<String>,
    /// The prefix of the paths that it takes, at `/` boundaries. Default `/`.
    #[serde(default = "root")]
    pub path: String,
    /// The host that it takes, without port. Default: any.
    pub host: Option<String>,
    /// The methods that it takes. Default: any.
    pub methods: Option<Vec<String>>,
    /// Where its requests go.
    pub upstream: UpstreamConfig,
    /// Names of policies, outermost first. Default: none.
    #[serde(default)]
    pub policies: Vec<String>,
    /// How much of a request body is kept to send it again, up to 16 MiB. Default 64 KiB.
    #[serde(default = "max_replay_body")]
    pub max_replay_body: ByteSize,
}

fn root() -> String {
    "/".to_owned()
}

fn max_replay_body() -> ByteSize {
    ByteSize::kib(64)
}

/// An upstream: its URL, or a table with the URL and limits. Two that say the same are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamConfig {
    /// `http://host[:port][/base]`; the base path is put in front of the request's.
    pub url: String,
    /// Whether the Host header goes on as it came, or names the upstream. Default: as it came.
    pub host: HostHeader,
    /// How long a connection may take to be made. Default 5 s.
    pub connect_timeout: ConfigDuration,
    /// How long a response head may take, from the request on; the bound where no timeout policy
    /// is nearer. Default 5 min.
    pub response_timeout: ConfigDuration,
    /// How long an unused connection is kept. Default 60 s.
    pub idle_timeout: ConfigDuration,
    /// How long a response body may stall. Default 60 s.
    pub body_timeout: ConfigDuration,
    /// Unused connections kept per worker and upstream. Default 1,024.
    pub max_idle: usize,
    /// The largest response head, 8 KiB to 1 MiB. Default 64 KiB.
    pub max_header: ByteSize,
}

/// What the upstream sees as Host.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum HostHeader {
    /// The client's.
    #[default]
    Client,
    /// The upstream's own.
    Upstream,
}

/// The table form of an upstream.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UpstreamTable {
    url: Option<String>,
    host: HostHeader,
    connect_timeout: ConfigDuration,
    response_timeout: ConfigDuration,
    idle_timeout: ConfigDuration,
    body_timeout: ConfigDuration,
    max_idle: usize,
    max_header: ByteSize,
}

impl Default for UpstreamTable {
    fn default() -> Self {
        Self {
            url: None,
            host: HostHeader::Client,
            connect_timeout: ConfigDuration::from_secs(5),
            response_timeout: ConfigDuration::from_secs(300),
            idle_timeout: ConfigDuration::from_secs(60),
            body_timeout: ConfigDuration::from_secs(60),
            max_idle: 1024,
            max_header: ByteSize::kib(64),
        }
    }
}

impl<'de> Deserialize<'de> for UpstreamConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UpstreamVisitor;
        impl<'de> serde::de::Visitor<'de> for UpstreamVisitor {
            type Value = UpstreamTable;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a URL such as \"http://127.0.0.1:3001\", or a table with `url`")
            }

            fn visit_str<E: serde::de::Error>(self, url: &str) -> Result<UpstreamTable, E> {
                Ok(UpstreamTable { url: Some(url.to_owned()), ..UpstreamTable::default() })
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<UpstreamTable, A::Error> {
                UpstreamTable::deserialize(serde::de::value::MapAccessDeserializer::new(map))
            }
        }
        let table = deserializer.deserialize_any(UpstreamVisitor)?;
        let url = table.url.ok_or_else(|| serde::de::Error::missing_field("url"))?;
        let UpstreamTable {
            host,
            connect_timeout,
            response_timeout,
            idle_timeout,
            body_timeout,
            max_idle,
            max_header,
            ..
        } = table;
        Ok(Self {
            url,
            host,
            connect_timeout,
            response_timeout,
            idle_timeout,
            body_timeout,
            max_idle,
            max_header,
        })
    }
}

impl Config {
    /// Reads a file, for what it says: whether all of that is possible is not looked at.
    ///
    /// # Errors
    /// All that has not the right shape.
    pub fn read(file: &Path) -> Result<Self, Vec<ConfigError>> {
        let text = std::fs::read_to_string(file)
            .map_err(|error| vec![ConfigError::unreadable(file, &error)])?;
        let document = Document::parse(file, &text, |name| std::env::var(name).ok())?;
        let (config, errors) = Self::parse(&document);
        let problems = document.problems(errors);
        if problems.is_empty() { Ok(config) } else { Err(problems) }
    }

    /// Reads what a document says, as far as it has the right shape, and says what is wrong with
    /// the rest: every such table has one problem at least.
    pub fn parse(document: &Document<'_>) -> (Self, Vec<ConfigError>) {
        let mut reader = Reader { document, errors: Vec::new() };
        reader.known_keys(
            "",
            &[
                "listen",
                "workers",
                "listener",
                "admin",
                "log",
                "code_cache",
                "components",
                "budgets",
                "policies",
                "routes",
            ],
        );
        let listen = reader.value("listen");
        if document.value("listen").is_none() {
            reader.errors.push(
                document.error("listen", "missing; expected an address such as \"127.0.0.1:3002\""),
            );
        }
        let config = Self {
            listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
            workers: reader.value("workers"),
            listener: reader.value("listener").unwrap_or_default(),
            admin: reader.value("admin"),
            log: reader.value("log").unwrap_or_default(),
            code_cache: reader.value("code_cache").unwrap_or_default(),
            components: reader.named("components", Reader::value),
            budgets: reader.named("budgets", Reader::value),
            policies: reader.named("policies", Reader::policy),
            routes: reader.routes(),
        };
        reader.meanings(&config);
        (config, reader.errors)
    }
}

/// The table of one policy, for its kind to read.
struct PolicyTable<'a> {
    document: &'a Document<'a>,
    errors: &'a mut Vec<ConfigError>,
    path: &'a str,
}

impl ReadPolicyConfig for PolicyTable<'_> {
    fn read<C: PolicyConfig>(&mut self) -> Option<C> {
        match self.document.read(self.path, &["kind"])? {
            Ok(config) => Some(config),
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }
}

/// Takes a document apart, and collects what is wrong with it.
struct Reader<'a> {
    document: &'a Document<'a>,
    errors: Vec<ConfigError>,
}

impl Reader<'_> {
    /// The value at `path`, if there is one of the right shape.
    fn value<T: DeserializeOwned>(&mut self, path: &str) -> Option<T> {
        self.document.read(path, &[]).transpose().unwrap_or_else(|error| {
            self.errors.push(error);
            None
        })
    }

    fn named<T>(
        &mut self,
        section: &str,
        read: impl Fn(&mut Self, &str) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let names = match self.document.keys(section) {
            Ok(names) => names,
            Err(error) => {
                self.errors.push(error);
                return BTreeMap::new();
            }
        };
        let mut values = BTreeMap::new();
        for name in names {
            let path = format!("{section}.{name}");
            if name.is_empty()
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            {
                self.errors
                    .push(self.document.error(&path, "a name has letters, digits, `-` and `_`"));
            } else if let Some(value) = read(self, &path) {
                values.insert(name, value);
            }
        }
        values
    }

    fn policy(&mut self, path: &str) -> Option<Box<dyn AnyPolicyConfig>> {
        let kinds = policy_kinds::<PolicyTable<'_>>();
        let kind_path = format!("{path}.kind");
        let expected = || {
            let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
            format!("expected one of {}", names.join(", "))
        };
        if self.document.value(&kind_path).is_none() {
            self.errors.push(self.document.error(path, format!("missing `kind`; {}", expected())));
            return None;
        }
        let name: String = self.value(&kind_path)?;
        let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
            self.errors.push(
                self.document.error(&kind_path, format!("unknown kind `{name}`; {}", expected())),
            );
            return None;
        };
        (kind.read)(&mut PolicyTable { document: self.document, errors: &mut self.errors, path })
    }

    fn routes(&mut self) -> Vec<RouteConfig> {
        match self.document.length("routes") {
            Ok(0) => {
                self.errors.push(
                    self.document.error("routes", "missing; expected at least one `[[routes]]`"),
                );
                Vec::new()
            }
            Ok(length) => (0..length)
                .filter_map(|index| {
                    Some(RouteConfig { index, ..self.value(&format!("routes[{index}]"))? })
                })
                .collect(),
            Err(error) => {
                self.errors.push(error);
                Vec::new()
            }
        }
    }

    fn known_keys(&mut self, path: &str, known: &[&str]) {
        for key in self.document.keys(path).unwrap_or_default() {
            if !known.contains(&key.as_str()) {
                let message = format!("unknown key `{key}`; expected one of {}", known.join(", "));
                self.errors.push(self.document.error(&key, message));
            }
        }
    }

    /// Bounds that concern one table alone.
    fn meanings(&mut self, config: &Config) {
        let mut require = |ok: bool, path: &str, message: &str| {
            if !ok {
                self.errors.push(self.document.error(path, message));
            }
        };
        require(
            config.workers.is_none_or(|workers| (1..=1024).contains(&workers)),
            "workers",
            "must be within 1 to 1024",
        );
        let listener = &config.listener;
        for (name, duration) in [
            ("header_timeout", listener.header_timeout),
            ("idle_timeout", listener.idle_timeout),
            ("body_timeout", listener.body_timeout),
        ] {
            require(!duration.0.is_zero(), &format!("listener.{name}"), "must be more than 0");
        }
        require(is_head_size(listener.max_header), "listener.max_header", HEAD_SIZE);
        require(
            (1..=1_000_000).contains(&listener.max_connections),
            "listener.max_connections",
            "must be within 1 to 1,000,000",
        );
        require(
            config.code_cache.max_size >= ByteSize::mib(1),
            "code_cache.max_size",
            "must be at least 1 MiB",
        );
        if let Some(directory) = &config.code_cache.directory {
            require(!directory.as_os_str().is_empty(), "code_cache.directory", "must not be empty");
        }
        for route in &config.routes {
            let at = |key: &str| format!("routes[{}].{key}", route.index);
            require(
                route.max_replay_body <= ByteSize::mib(16),
                &at("max_replay_body"),
                "must be at most 16 MiB",
            );
            require(is_head_size(route.upstream.max_header), &at("upstream.max_header"), HEAD_SIZE);
            for (name, duration) in [
                ("connect_timeout", route.upstream.connect_timeout),
                ("body_timeout", route.upstream.body_timeout),
            ] {
                require(
                    !duration.0.is_zero(),
                    &at(&format!("upstream.{name}")),
                    "must be more than 0",
                );
            }
        }
        for (name, component) in &config.components {
            for Problem { path, message } in component.validate() {
                self.errors
                    .push(self.document.error(&format!("components.{name}.{path}"), message));
            }
        }
    }
}

const HEAD_SIZE: &str = "must be within 8 KiB and 1 MiB";

fn is_head_size(size: ByteSize) -> bool {
    (ByteSize::kib(8)..=ByteSize::mib(1)).contains(&size)
}

#[cfg(test)]
mod tests;
