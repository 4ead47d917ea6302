//! Compiles a configuration into what runs: loads components, builds policies and routes.
//!
//! This module knows all others. It is straight-line code.

mod granted;
mod streams;
mod surroundings;
mod tls;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use fusebox_resilience::config::{ChangedDefault, Problem};
use fusebox_resilience::{Budget, Observers, Pipeline, ReplayLimit};
use fusebox_wasm::{Compiler as ComponentCompiler, ComponentMemory, ComponentStatus, Components};
use tokio::time::Instant;

use crate::code_cache;
use crate::config::{
    AdminAddress, Config, ConfigError, ConfigFile, ListenerConfig, PathRule, Places,
    PriorityConfig, RouteConfig, RouteUpstream, UpstreamConfig, UpstreamProtocol, UpstreamSettings,
    join,
};
use crate::priority::PriorityRules;
use crate::route::path::canonical;
use crate::route::{OtherUpstream, Route, RouteMatch, RouteTable};
use crate::route_review::{RouteReview, by_remark};
use crate::running::{PoliciesByName, Running};
use crate::upstream::shared::SharedUpstream;
use granted::granted;
use streams::limits_of_streams;
use surroundings::Surroundings;

/// What a token should have at least, in bytes.
const SHORTEST_TOKEN: usize = 16;

/// The result of compiling a configuration.
#[derive(Debug)]
pub struct Compiled {
    /// What runs.
    pub running: Running,
    /// Warnings: settings that are valid but probably not intended.
    pub warnings: Vec<ConfigError>,
    /// Notes: defaults in force that are not what they were in the version before, and limits that
    /// hold less than one might think.
    pub notes: Vec<ConfigError>,
    /// What each route comes to at worst, in the order of the file.
    pub reviews: Vec<RouteReview>,
}

/// Compiles a configuration. Blocks while `compiler` compiles components;
/// the configured code cache is added to it.
///
/// Names that are not declared are skipped: `read` has reported them.
///
/// # Errors
/// Problems outside the file: components that can't be loaded, a code cache that can't be
/// used.
pub fn compile(
    file: &ConfigFile,
    compiler: ComponentCompiler,
    observers: &Observers,
) -> Result<Compiled, Vec<ConfigError>> {
    let mut compilation = Compilation::new(file);
    let budgets = compilation.budgets();
    let components = compilation.components(compiler, observers);
    let parts = Surroundings { places: &file.places, components: components.as_ref(), budgets };
    let policies = compilation.policies(&parts);
    let budgets = parts.budgets;
    let routes = compilation.routes(&policies);
    let reviews = compilation.reviews(&policies);
    compilation.unused();
    compilation.fleets();
    compilation.endpoints();
    compilation.grpc();
    compilation.listener();
    let tls = compilation.listener_tls();
    compilation.admin();
    let mut notes = compilation.changed_defaults();
    notes.extend(limits_of_streams(file, &policies));
    let Compilation { errors, mut warnings, .. } = compilation;
    warnings.sort_by_key(|warning| warning.line);
    match components {
        Some(components) if errors.is_empty() => {
            let routes = Arc::new(routes);
            let running = Running { routes, policies, budgets, components, tls };
            Ok(Compiled { running, warnings, notes, reviews })
        }
        _ => Err(errors),
    }
}

/// The errors in the policies of a file, as far as they do not depend on its components. The
/// policies are built with placeholders for components, and dropped.
pub(crate) fn policy_errors(file: &ConfigFile) -> Vec<ConfigError> {
    let mut compilation = Compilation::new(file);
    let budgets = compilation.budgets();
    compilation.policies(&Surroundings { places: &file.places, components: None, budgets });
    compilation.errors
}

/// Which requests a route takes.
pub(crate) fn matches(route: &RouteConfig, paths: PathRule) -> RouteMatch {
    let path = match paths {
        PathRule::Strict => canonical(&route.path),
        PathRule::AsIs => route.path.as_str().into(),
    };
    RouteMatch::new(route.host.as_deref(), &path, route.methods.clone())
        .of_clients(route.client_certificate.clone())
}

/// The configured name of a route, or else one made from what it takes.
pub(crate) fn route_name(route: &RouteConfig, matches: &RouteMatch) -> Arc<str> {
    route.name.clone().unwrap_or_else(|| matches.to_string()).into()
}

struct Compilation<'a> {
    places: &'a Places,
    config: &'a Config,
    directory: &'a Path,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

impl<'a> Compilation<'a> {
    fn new(file: &'a ConfigFile) -> Self {
        let ConfigFile { places, config, directory } = file;
        Self { places, config, directory, errors: Vec::new(), warnings: Vec::new() }
    }

    fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(self.places.error(path, message));
    }

    fn warn(&mut self, path: &str, message: impl Into<String>) {
        self.warnings.push(self.places.error(path, message));
    }

    fn problems(&mut self, path: &str, problems: Vec<Problem>) {
        for problem in problems {
            self.error(&format!("{path}.{}", problem.path), problem.message);
        }
    }

    fn budgets(&mut self) -> BTreeMap<String, Arc<Budget>> {
        let mut budgets = BTreeMap::new();
        for (name, config) in &self.config.budgets {
            match config.clone().build(Instant::now()) {
                Ok(budget) => {
                    budgets.insert(name.clone(), Arc::new(budget));
                }
                Err(problems) => self.problems(&format!("budgets.{name}"), problems),
            }
        }
        budgets
    }

    /// `None`: some can't be loaded; their errors have been reported.
    fn components(
        &mut self,
        compiler: ComponentCompiler,
        observers: &Observers,
    ) -> Option<Components> {
        let configs = self.config.components.clone();
        let memory = self.config.max_component_memory;
        let memory = ComponentMemory::within(memory);
        let compiler = if configs.is_empty() { compiler } else { self.with_cache(compiler) };
        let observers = observers.clone();
        match Components::load(configs, self.directory, compiler, memory, observers) {
            Ok(components) => {
                for ComponentStatus { name, rejection, .. } in components.status() {
                    if let Some(rejection) = rejection {
                        let message = format!(
                            "{}; until a valid one appears, `on_error` answers",
                            rejection.reason
                        );
                        self.warn(&format!("components.{name}.file"), message);
                    }
                }
                Some(components)
            }
            Err(failures) => {
                for (name, error) in failures {
                    self.error(&format!("components.{name}.file"), format!("{error:#}"));
                }
                None
            }
        }
    }

    /// Adds the code cache to the compiler. If the default directory can't be used, that is only a
    /// warning.
    fn with_cache(&mut self, compiler: ComponentCompiler) -> ComponentCompiler {
        let config = &self.config.code_cache;
        match code_cache::open(config, self.directory) {
            Ok(Some(cache)) => return compiler.with_cache(cache),
            Ok(None) => {}
            Err(error) if config.directory.is_some() => {
                self.error("code_cache.directory", format!("{error:#}"))
            }
            Err(error) => {
                let message = format!("{error:#}; components are compiled at each start");
                self.warn("code_cache.directory", message);
            }
        }
        compiler
    }

    fn policies(&mut self, parts: &Surroundings<'_>) -> PoliciesByName {
        let mut policies = PoliciesByName::new();
        for (name, config) in &self.config.policies {
            let path = format!("policies.{name}");
            let is_of_grpc = self.is_of_grpc(name);
            for Problem { path: key, message } in config.warnings() {
                // All of gRPC is POST: what may be repeated is said by the choice of routes.
                if !(is_of_grpc && key == "methods") {
                    self.warn(&format!("{path}.{key}"), message);
                }
            }
            let name: Arc<str> = name.as_str().into();
            match config.build_any(name.clone(), parts) {
                Ok(policy) => {
                    policies.insert(name, policy);
                }
                Err(problems) => self.problems(&path, problems),
            }
        }
        policies
    }

    /// Whether all routes of a policy are routes of gRPC.
    fn is_of_grpc(&self, policy: &String) -> bool {
        let routes = self.config.routes.values();
        let mut of_policy = routes.filter(|route| route.policies.contains(policy)).peekable();
        of_policy.peek().is_some() && of_policy.all(|route| route.grpc)
    }

    fn routes(&mut self, policies: &PoliciesByName) -> RouteTable {
        let config = self.config;
        let granted = granted(config);
        let mut upstreams: Vec<Arc<UpstreamConfig>> = Vec::new();
        let mut known: HashMap<&UpstreamConfig, usize> = HashMap::new();
        let mut place_of = |upstream| {
            *known.entry(upstream).or_insert_with(|| {
                upstreams.push(Arc::new(upstream.clone()));
                upstreams.len() - 1
            })
        };
        let pipeline = |names: &[String]| {
            let policies = names.iter().filter_map(|name| policies.get(&**name));
            Pipeline::new(policies.cloned().collect::<Vec<_>>())
        };
        let mut routes: Vec<Route> = Vec::new();
        for route in config.routes.values() {
            let upstream = match &route.upstream {
                RouteUpstream::Own(upstream) => Some(&**upstream),
                RouteUpstream::Named(name) => config.upstreams.get(name),
            };
            let Some(upstream) = upstream else { continue };
            let upstream = place_of(upstream);
            let pipeline = pipeline(&route.policies);
            let replay_limit = ReplayLimit {
                bytes: route.max_replay_body.in_memory(),
                is_for_attempts: pipeline.policies().iter().any(|policy| policy.repeats()),
            };
            let matches = matches(route, config.listener.paths);
            routes.push(Route {
                name: route_name(route, &matches),
                matches,
                pipeline,
                upstream,
                replay_limit,
                is_grpc: route.grpc,
                grpc_idle_timeout: route.grpc_idle_timeout.0,
                upgrades: route.upgrades.clone(),
                tunnel_idle_timeout: route.tunnel_idle_timeout.0,
                priority: route.priority,
            });
        }
        let asked: BTreeSet<&str> =
            config.policies.values().flat_map(|policy| policy.upstreams()).collect();
        let others = asked.into_iter().filter_map(|name| {
            let upstream = config.upstreams.get(name)?;
            let pipeline = pipeline(&upstream.policies);
            Some(OtherUpstream { name: name.into(), pipeline, upstream: place_of(upstream) })
        });
        let others = others.collect();
        let granted = granted.iter().map(|(grant, upstream)| (grant.clone(), place_of(upstream)));
        let granted = granted.collect();
        let upstreams = upstreams.into_iter().map(|upstream| {
            let tls = self.upstream_tls(&upstream);
            SharedUpstream::new(upstream).with_tls(tls)
        });
        let upstreams = upstreams.collect();
        RouteTable::new(routes, upstreams, self.priority())
            .with_others(others)
            .with_granted(granted)
    }

    /// Asked for by its table, or by a route.
    fn priority(&self) -> Option<PriorityRules> {
        let is_wanted = self.config.routes.values().any(|route| route.priority.is_some());
        let config = self.config.priority.clone();
        let config = config.or_else(|| is_wanted.then(PriorityConfig::default));
        config.as_ref().map(PriorityRules::new)
    }

    /// Looks at each route as a whole, and warns of what is hardly meant.
    fn reviews(&mut self, policies: &PoliciesByName) -> Vec<RouteReview> {
        let config = self.config;
        let reviews: Vec<RouteReview> = config
            .routes
            .values()
            .filter_map(|route| {
                RouteReview::of(
                    route,
                    route_name(route, &matches(route, config.listener.paths)),
                    config,
                    policies,
                )
            })
            .collect();
        self.clients_that_trickle(&reviews);
        for (remark, routes) in by_remark(&reviews) {
            let path = format!("policies.{}.{}", remark.policy, remark.key);
            self.warn(&path, format!("{} ({routes})", remark.message));
        }
        reviews
    }

    /// Warns where policies wait for request bodies that may take for ever.
    fn clients_that_trickle(&mut self, reviews: &[RouteReview]) {
        let ListenerConfig { min_rate, request_timeout, .. } = &self.config.listener;
        if min_rate.0 > 0 || request_timeout.is_some() {
            return;
        }
        let mut waiting = reviews.iter().filter_map(|it| Some((it.waits_for_clients()?, &it.name)));
        if let Some((policy, route)) = waiting.next() {
            let message = format!(
                "a client that sends a byte now and then keeps `{policy}` waiting for ever for its \
                 body (route {route}); set it, or `request_timeout`"
            );
            self.warn("listener.min_rate", message);
        }
    }

    fn changed_defaults(&self) -> Vec<ConfigError> {
        let policies = self
            .config
            .policies
            .iter()
            .map(|(name, policy)| (format!("policies.{name}"), policy.changed_defaults()));
        let tables = [
            (String::new(), Config::CHANGED_DEFAULTS),
            ("listener".to_owned(), ListenerConfig::CHANGED_DEFAULTS),
        ];
        let mut notes = Vec::new();
        for (table, defaults) in tables.into_iter().chain(policies) {
            for ChangedDefault { keys, message } in defaults {
                let path = |key: &&str| join(&table, key);
                if !keys.iter().any(|key| self.places.has(&path(key))) {
                    let own = keys.first().map(path).unwrap_or_default();
                    notes.push(self.places.error(&own, format!("the default {message}")));
                }
            }
        }
        notes
    }

    /// Warns of policies and upstreams that no route uses.
    fn unused(&mut self) {
        let config = self.config;
        let routes = || config.routes.values();
        let asked: BTreeSet<&str> =
            config.policies.values().flat_map(|policy| policy.upstreams()).collect();
        let others = config.upstreams.iter().filter(|(name, _)| asked.contains(&***name));
        let policies: BTreeSet<&String> = routes()
            .flat_map(|route| &route.policies)
            .chain(others.flat_map(|(_, upstream)| &upstream.policies))
            .collect();
        let mut upstreams: BTreeSet<&str> = routes()
            .filter_map(|route| match &route.upstream {
                RouteUpstream::Named(name) => Some(name.as_str()),
                RouteUpstream::Own(_) => None,
            })
            .collect();
        upstreams.extend(&asked);
        let granted = granted(config);
        upstreams.extend(granted.values().filter_map(|upstream| upstream.name.as_deref()));
        for name in config.policies.keys().filter(|name| !policies.contains(name)) {
            self.warn(&format!("policies.{name}"), "no route uses it");
        }
        for (name, upstream) in &config.upstreams {
            if !upstreams.contains(&**name) {
                self.warn(&format!("upstreams.{name}"), "no route uses it");
            } else if !upstream.policies.is_empty() && !asked.contains(&**name) {
                let message = "no fallback asks this upstream, and routes have their own policies";
                self.warn(&format!("upstreams.{name}.policies"), message);
            }
        }
    }

    /// Warns of what is said of several endpoints where there is one.
    fn fleets(&mut self) {
        let config = self.config;
        for (name, _) in config.upstreams.iter().filter(|(_, it)| !it.is_fleet()) {
            for key in ["balance", "slow_start", "health"] {
                let path = format!("upstreams.{name}.{key}");
                if self.places.has(&path) {
                    self.warn(&path, "says nothing: the upstream has one endpoint");
                }
            }
        }
    }

    /// Warns of attempts at once for which there are not enough connections.
    fn endpoints(&mut self) {
        let config = self.config;
        let named = config.upstreams.iter().map(|(name, it)| (format!("upstreams.{name}"), it));
        let own = config.routes.iter().filter_map(|(at, route)| match &route.upstream {
            RouteUpstream::Own(own) => Some((format!("routes[{at}].upstream"), &**own)),
            RouteUpstream::Named(_) => None,
        });
        for (path, upstream) in named.chain(own) {
            let UpstreamSettings { max_connections, max_in_flight, .. } = upstream.settings;
            if let (Some(most), Some(attempts)) = (max_connections, max_in_flight)
                && attempts > most
                && !upstream.may_speak_http2()
            {
                let message =
                    format!("is never reached over HTTP/1.1, since `max_connections` is {most}");
                self.warn(&format!("{path}.max_in_flight"), message);
            }
        }
    }

    /// Warns of calls by gRPC that go on over HTTP/1.1 without anybody having said so.
    fn grpc(&mut self) {
        let config = self.config;
        for (at, route) in config.routes.iter().filter(|(_, route)| route.grpc) {
            let upstream = match &route.upstream {
                RouteUpstream::Own(own) => Some(&**own),
                RouteUpstream::Named(name) => config.upstreams.get(name),
            };
            let is_unsaid = |it: &&UpstreamConfig| it.settings.protocol == UpstreamProtocol::Auto;
            if upstream.filter(is_unsaid).is_some_and(|upstream| !upstream.may_speak_http2()) {
                let message = "its upstream is asked over HTTP/1.1, which servers of gRPC do not \
                               speak; say `protocol = \"http2\"`, or \"http1\" for a proxy that \
                               does";
                self.warn(&format!("routes[{at}].grpc"), message);
            }
        }
    }

    /// Warns of limits of clients that others keep from being reached.
    fn listener(&mut self) {
        let config = self.config;
        let limits = &config.listener;
        // A default that is not reached is in nobody's way.
        let is_own = self.places.has("listener.header_timeout");
        let mut never = |key: &str, other: &str, of_other: &dyn fmt::Display| {
            let message = format!("is never reached, since `{other}` is {of_other}");
            self.warn(&format!("listener.{key}"), message);
        };
        let most = limits.max_connections;
        let counts = [
            ("max_in_flight", limits.max_in_flight),
            ("max_connections_per_address", limits.max_connections_per_address),
        ];
        for (key, count) in counts {
            if count.is_some_and(|count| count > most) {
                never(key, "max_connections", &most);
            }
        }
        if let Some(whole) = limits.request_timeout.filter(|_| is_own)
            && whole < limits.header_timeout
        {
            never("header_timeout", "request_timeout", &whole);
        }
    }

    /// Warns of an admin listener that is open to more people than it should be.
    fn admin(&mut self) {
        let Some(admin) = &self.config.admin else { return };
        if let AdminAddress::Tcp(address) = &admin.listen
            && !address.ip().to_canonical().is_loopback()
        {
            let message = format!("whoever can reach `{address}` can read everything there");
            self.warn("admin.listen", message);
        }
        // The proxy reads the file again for each request that needs it.
        let Some(file) = admin.token_file.as_ref().map(|file| self.directory.join(file)) else {
            return;
        };
        let read = fs::metadata(&file)
            .and_then(|found| Ok((found.permissions().mode() & 0o777, fs::read_to_string(&file)?)));
        match read {
            Err(error) => self.warn("admin.token_file", format!("can't be read: {error}")),
            Ok((mode, token)) => {
                let length = token.trim().len();
                if mode & 0o077 != 0 {
                    let message = format!("others may use it: its mode is {mode:o}, expected 600");
                    self.warn("admin.token_file", message);
                }
                if length < SHORTEST_TOKEN {
                    let message = format!(
                        "the token can be guessed: it has {length} bytes, expected at least \
                         {SHORTEST_TOKEN}"
                    );
                    self.warn("admin.token_file", message);
                }
            }
        }
    }
}
