//! What the configuration file says: plain values, no lookups.
//!
//! [`Config::parse`] takes a file table by table, so that one wrong table does not hide what is
//! wrong in the others. [`read`](crate::read) then checks what concerns several tables, and
//! [`compile`](crate::compile) makes of it what runs. Everything that is wrong is reported at once,
//! each problem with its line, its path and what was expected.

mod document;
mod path;
mod route;
mod table;
mod tables;
mod upstream;
mod values;
mod variables;
mod words;

pub use document::{ConfigError, Document, Places};
pub use route::RouteConfig;
pub use tables::{AdminConfig, CodeCacheConfig, ListenerConfig, LogConfig};
pub use upstream::{Endpoint, HostHeader, RouteUpstream, UpstreamConfig, UpstreamSettings};
pub use values::{ConfigSize, NO_ROUTE};

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use fusebox_resilience::config::Problem;
use fusebox_resilience::{
    AnyPolicyConfig, BudgetConfig, PolicyConfig, ReadPolicyConfig, policy_kinds,
};
use fusebox_wasm::ComponentConfig;

use table::{Keys, Reader, table};

table! {
    /// What a configuration file says.
    #[derive(Debug)]
    pub struct Config {
        /// Where clients connect. Port 0: any that is free.
        pub listen: SocketAddr = listen(),
        /// Worker threads. Default: one per core.
        pub workers: Option<usize> = optional_within(1..=1024),
        /// Limits on clients.
        pub listener: ListenerConfig = table(),
        /// The second listener. Default: none.
        pub admin: Option<AdminConfig> = optional_table(),
        /// What is logged.
        pub log: LogConfig = table(),
        /// Where compiled components are kept.
        pub code_cache: CodeCacheConfig = table(),
        /// `[components.NAME]`.
        pub components: BTreeMap<String, ComponentConfig> = named(Reader::component),
        /// `[budgets.NAME]`.
        pub budgets: BTreeMap<String, BudgetConfig> = named(Reader::value),
        /// `[policies.NAME]`.
        pub policies: BTreeMap<String, Box<dyn AnyPolicyConfig>> = named(Reader::policy),
        /// `[upstreams.NAME]`.
        pub upstreams: BTreeMap<String, UpstreamConfig> = named(UpstreamConfig::named),
        /// `[[routes]]`, by their place in the file.
        pub routes: BTreeMap<usize, RouteConfig> = routes(),
    }
}

/// A configuration that has been read, with where everything in it is.
#[derive(Debug)]
pub struct ConfigFile {
    /// What it says.
    pub config: Config,
    /// Where it says that.
    pub places: Places,
    /// Relative paths are relative to this directory.
    pub directory: PathBuf,
}

impl Config {
    /// What a document says as far as it is right, with defaults for the rest, and what is wrong.
    pub fn parse(document: &Document<'_>) -> (Self, Vec<ConfigError>) {
        let mut reader = Reader::new(document);
        let config = reader.table("").expect("a file is a table, and all its keys have defaults");
        (config, reader.errors)
    }
}

impl Keys<'_, '_> {
    /// The rest of the file is checked without it, too.
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
    /// One that is impossible is left out.
    fn component(&mut self, path: &str) -> Option<ComponentConfig> {
        let component: ComponentConfig = self.value(path)?;
        let problems = component.validate();
        for Problem { path: key, message } in &problems {
            self.error(&format!("{path}.{key}"), message);
        }
        problems.is_empty().then_some(component)
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
        let read = self.reader.document.read(self.path, &["kind"]).transpose();
        self.reader.report(read).flatten()
    }
}
