//! What the configuration file says: plain values, no lookups.
//!
//! [`Config::parse`] reads a file key by key, so that one error does not hide the others.
//! [`read`](crate::read) then checks what concerns several tables, and [`compile`](crate::compile)
//! turns the result into what runs. All errors are reported at once, each with its line, its path
//! and what was expected.

mod balance;
mod document;
mod endpoint;
mod health;
mod key;
mod long_texts;
mod missing;
mod path;
mod route;
mod table;
mod tables;
mod tls;
mod upstream;
mod values;
mod variables;
mod words;

pub use balance::BalanceConfig;
pub(crate) use document::independent;
pub use document::{ConfigError, Document, Places};
pub use endpoint::{DnsConfig, EndpointConfig, EndpointSettings, EndpointUrl, EndpointsConfig};
pub use health::{HealthConfig, StatusRange};
pub(crate) use path::join;
pub use route::RouteConfig;
pub use tables::{
    AdminAddress, AdminConfig, CodeCacheConfig, ForwardedHeaders, ListenerConfig, LogConfig,
    PathRule, PriorityConfig,
};
pub use tls::{CertificateFiles, ClientAuth, ListenerTlsConfig, TlsVersion, UpstreamTlsConfig};
pub use upstream::{
    FleetSettings, HostHeader, RouteUpstream, UpstreamConfig, UpstreamProtocol, UpstreamSettings,
};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use fusebox_resilience::config::{ChangedDefault, ConfigSize, Problem};
use fusebox_resilience::{
    AnyPolicyConfig, BudgetConfig, PolicyConfig, ReadPolicyConfig, policy_kinds,
};
use fusebox_wasm::ComponentConfig;

use table::{Keys, Reader, table};

table! {
    /// What a configuration file says.
    #[derive(Debug)]
    pub struct Config {
        /// The address that clients connect to. Port 0: any free port.
        pub listen: SocketAddr = listen(),
        /// Worker threads. Default: one per core.
        pub workers: Option<usize> = optional_within(1..=1024),
        /// Linear memory of all components' instances together.
        pub max_component_memory: ConfigSize = at_least(ConfigSize::gib(2), ConfigSize::mib(1)),
        /// Limits on clients.
        pub listener: ListenerConfig = table(),
        /// How important requests are. Default: nobody asks, unless a route has a `priority`.
        pub priority: Option<PriorityConfig> = optional_table(),
        /// The admin listener. Default: none.
        pub admin: Option<AdminConfig> = optional_table(),
        /// The log.
        pub log: LogConfig = table(),
        /// Where compiled components are stored.
        pub code_cache: CodeCacheConfig = table(),
        /// `[components.NAME]`.
        pub components: BTreeMap<String, ComponentConfig> = named(Reader::component),
        /// `[budgets.NAME]`.
        pub budgets: BTreeMap<String, BudgetConfig> = named(Reader::budget),
        /// `[policies.NAME]`.
        pub policies: BTreeMap<String, Box<dyn AnyPolicyConfig>> = named(Reader::policy),
        /// `[upstreams.NAME]`.
        pub upstreams: BTreeMap<String, UpstreamConfig> = named(UpstreamConfig::named),
        /// `[[routes]]`, by their index in the file.
        pub routes: BTreeMap<usize, RouteConfig> = routes(),
    }
}

/// A configuration file that has been read.
#[derive(Debug)]
pub struct ConfigFile {
    /// The configuration.
    pub config: Config,
    /// The lines of everything in the file, for errors.
    pub places: Places,
    /// The directory of the file, which relative paths are relative to.
    pub directory: PathBuf,
}

impl Config {
    /// Its defaults that are not what they were.
    pub const CHANGED_DEFAULTS: &'static [ChangedDefault] = &[ChangedDefault {
        keys: &["max_component_memory"],
        message: "is 2GiB for all instances together; it was no limit, as with \
                  `max_component_memory = \"1000GiB\"`",
    }];

    /// The configuration, with defaults in place of what is wrong, and the errors.
    pub fn parse(document: &Document<'_>) -> (Self, Vec<ConfigError>) {
        let mut reader = Reader::new(document);
        let config = reader.table("").expect("a file is a table, and all its keys have defaults");
        (config, reader.errors)
    }
}

impl Keys<'_, '_> {
    /// A wrong address is reported, and the rest of the file is checked with another.
    fn listen(&mut self, key: &str) -> Option<SocketAddr> {
        let address = self.address(key);
        Some(address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))))
    }

    fn routes(&mut self, key: &str) -> Option<BTreeMap<usize, RouteConfig>> {
        let path = self.path_of(key);
        let length = self.reader.document.length(&path, "an array of tables");
        let length = self.reader.report(length);
        if length == Some(0) {
            self.reader.error(&path, "missing; expected at least one `[[routes]]`");
        }
        let mut routes = BTreeMap::new();
        for index in 0..length.unwrap_or_default() {
            if let Some(route) = self.reader.table(&format!("{path}[{index}]")) {
                routes.insert(index, route);
            }
        }
        Some(routes)
    }
}

impl Reader<'_> {
    fn budget(&mut self, path: &str) -> Option<BudgetConfig> {
        if path == "budgets.none" {
            self.error(path, "no budget can have this name: `budget = \"none\"` goes without one");
        }
        self.value(path)
    }

    /// A component with anything wrong is left out.
    fn component(&mut self, path: &str) -> Option<ComponentConfig> {
        let before = self.errors.len();
        let component: ComponentConfig = self.value(path)?;
        let problem =
            |Problem { path: key, message }| self.document.error(&format!("{path}.{key}"), message);
        let problems = component.validate().into_iter().map(problem);
        let problems = independent(problems, &self.errors[before..]);
        self.errors.extend(problems);
        (self.errors.len() == before).then_some(component)
    }

    fn policy(&mut self, path: &str) -> Option<Box<dyn AnyPolicyConfig>> {
        let kinds = policy_kinds::<PolicyTable<'_, '_>>();
        let kind_path = format!("{path}.kind");
        let expected = || {
            let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
            format!("expected one of {}", names.join(", "))
        };
        if self.document.value(&kind_path).is_none() {
            self.error(path, format!("missing `kind`; {}", expected()));
            return None;
        }
        let name: String = self.value(&kind_path)?;
        let Some(kind) = kinds.iter().find(|kind| kind.name == name) else {
            self.error(&kind_path, format!("unknown kind `{name}`; {}", expected()));
            return None;
        };
        (kind.read)(&mut PolicyTable { reader: self, path })
    }
}

/// The table of one policy, for its kind to read.
struct PolicyTable<'r, 'a> {
    reader: &'r mut Reader<'a>,
    path: &'r str,
}

impl ReadPolicyConfig for PolicyTable<'_, '_> {
    fn read<C: PolicyConfig>(&mut self) -> Option<C> {
        self.reader.value_without(self.path, &["kind"])
    }
}
