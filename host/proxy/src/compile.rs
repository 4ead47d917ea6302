//! From what the file says to what runs: names are looked up, meanings checked, components loaded,
//! pipelines built.
//!
//! The one place that knows everybody; straight-line code. Nothing keeps the configuration
//! afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use fusebox_resilience::config::Problem;
use fusebox_resilience::{
    Answer, Budget, Exchange, Observers, Parts, Pipeline, Policy, Predicate, Responder, Verdict,
};
use fusebox_wasm::{Compiler as ComponentCompiler, ComponentStatus, Components};
use http::Method;

use crate::code_cache;
use crate::config::{Config, ConfigError, Document, RouteConfig, UpstreamConfig};
use crate::route::{Route, RouteMatch, RouteTable};
use crate::upstream::Target;

/// What a configuration comes to.
#[derive(Debug)]
pub struct Compiled {
    /// All routes.
    pub routes: Arc<RouteTable>,
    /// The policies, for those who look at them or command them.
    pub policies: Policies,
    /// The components that policies ask.
    pub components: Components,
    /// What is allowed but hardly meant.
    pub warnings: Vec<ConfigError>,
}

/// Builds everything that `config` describes. Relative paths are relative to `directory`. What `document` has and `config` lacks is wrong, and the caller knows it.
///
/// # Errors
/// Everything that is wrong with it, components that can't be loaded included.
pub fn compile(
    document: &Document<'_>,
    config: &Config,
    directory: &Path,
    component_compiler: ComponentCompiler,
    observers: &Observers,
) -> Result<Compiled, Vec<ConfigError>> {
    let mut compiler = Compiler { document, config, errors: Vec::new(), warnings: Vec::new() };
    let budgets = compiler.budgets();
    let components = compiler.components(directory, component_compiler, observers);
    let parts = Surroundings { document, components: components.as_ref(), budgets };
    let policies = compiler.policies(&parts);
    let routes = compiler.routes(&policies);
    compiler.unused();
    let Compiler { errors, warnings, .. } = compiler;
    match components {
        Some(components) if errors.is_empty() => {
            Ok(Compiled { routes: Arc::new(routes), policies, components, warnings })
        }
        _ => Err(errors),
    }
}

struct Compiler<'a> {
    document: &'a Document<'a>,
    config: &'a Config,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigError>,
}

/// All policies, by name.
pub type Policies = BTreeMap<Arc<str>, Arc<dyn Policy>>;

impl Compiler<'_> {
    fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push(self.document.error(path, message));
    }

    fn problems(&mut self, path: &str, problems: Vec<Problem>) {
        for problem in problems {
            self.error(&format!("{path}.{}", problem.path), problem.message);
        }
    }

    fn budgets(&mut self) -> BTreeMap<String, Arc<Budget>> {
        let mut budgets = BTreeMap::new();
        for (name, config) in &self.config.budgets {
            match config.clone().build() {
                Ok(budget) => {
                    budgets.insert(name.clone(), Arc::new(budget));
                }
                Err(problems) => self.problems(&format!("budgets.{name}"), problems),
            }
        }
        budgets
    }

    /// None: some can't be loaded, and the errors say why.
    fn components(
        &mut self,
        directory: &Path,
        compiler: ComponentCompiler,
        observers: &Observers,
    ) -> Option<Components> {
        // What is impossible about the others has been said.
        let possible =
            self.config.components.iter().filter(|(_, component)| component.validate().is_empty());
        let possible: BTreeMap<_, _> =
            possible.map(|(name, component)| (name.clone(), component.clone())).collect();
        let compiler =
            if possible.is_empty() { compiler } else { self.with_cache(compiler, directory) };
        match Components::load(possible, directory, compiler, observers.clone()) {
            Ok(components) => {
                for ComponentStatus { name, rejection, .. } in components.status() {
                    if let Some(rejection) = rejection {
                        let message = format!(
                            "{}; `on_error` answers until there is a good one",
                            rejection.reason
                        );
                        self.warnings
                            .push(self.document.error(&format!("components.{name}.file"), message));
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

    /// Adds the cache to it. That one which nobody asked for can't be had is no reason not to
    /// start.
    fn with_cache(&mut self, compiler: ComponentCompiler, directory: &Path) -> ComponentCompiler {
        let config = &self.config.code_cache;
        // What is impossible about it has been said.
        let is_empty =
            config.directory.as_ref().is_some_and(|directory| directory.as_os_str().is_empty());
        match if is_empty { Ok(None) } else { code_cache::open(config, directory) } {
            Ok(Some(cache)) => return compiler.with_cache(cache),
            Ok(None) => {}
            Err(error) if config.directory.is_some() => {
                self.error("code_cache.directory", format!("{error:#}"))
            }
            Err(error) => {
                let message = format!("{error:#}; components are compiled at each start");
                self.warnings.push(self.document.error("code_cache.directory", message));
            }
        }
        compiler
    }

    fn policies(&mut self, parts: &Surroundings<'_>) -> Policies {
        let mut policies = Policies::new();
        for (name, config) in &self.config.policies {
            let path = format!("policies.{name}");
            for Problem { path: key, message } in config.warnings() {
                self.warnings.push(self.document.error(&format!("{path}.{key}"), message));
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

    fn routes(&mut self, policies: &Policies) -> RouteTable {
        let config = self.config;
        let matches: Vec<_> = config.routes.iter().map(|route| self.matches(route)).collect();
        let mut routes: Vec<Route> = Vec::new();
        let mut targets: Vec<Arc<Target>> = Vec::new();
        let mut known_targets: HashMap<&UpstreamConfig, usize> = HashMap::new();
        let mut claims = HashSet::new();
        let mut names: HashSet<Arc<str>> = HashSet::new();
        for (route, matches) in config.routes.iter().zip(&matches) {
            let path = format!("routes[{}]", route.index);
            let pipeline = self.pipeline(route, policies, &path);
            let target = Target::new(&route.upstream);
            let (matches, target) = match (matches, target) {
                (Some(matches), Ok(target)) => (matches, target),
                (_, Err(message)) => {
                    self.error(&format!("{path}.upstream"), message);
                    continue;
                }
                (None, Ok(_)) => continue,
            };
            let upstream = *known_targets.entry(&route.upstream).or_insert_with(|| {
                targets.push(Arc::new(target));
                targets.len() - 1
            });
            let name: Arc<str> = route.name.clone().unwrap_or_else(|| matches.to_string()).into();
            if matches.claims().any(|claim| claims.contains(&claim)) {
                self.error(&path, format!("takes the same requests as another route: `{matches}`"));
            } else if names.contains(&name) {
                self.error(&format!("{path}.name"), format!("another route is called `{name}`"));
            }
            claims.extend(matches.claims());
            names.insert(name.clone());
            let repeats = pipeline.policies().iter().any(|policy| policy.repeats());
            let replay_limit =
                usize::try_from(route.max_replay_body.as_u64()).unwrap_or(usize::MAX);
            routes.push(Route {
                name,
                matches: matches.clone(),
                pipeline,
                upstream,
                replay_limit: if repeats { replay_limit } else { 0 },
            });
        }
        RouteTable::new(routes, targets)
    }

    fn matches(&mut self, route: &RouteConfig) -> Option<RouteMatch> {
        let path = format!("routes[{}]", route.index);
        let before = self.errors.len();
        if !route.path.starts_with('/') || route.path.contains(['?', '#', ' ']) {
            self.error(
                &format!("{path}.path"),
                format!("expected a path such as \"/api\", found `{}`", route.path),
            );
        }
        if let Some(host) = &route.host
            && (host.is_empty()
                || host.contains(['/', ' ', '@'])
                || host.contains(':') && !host.starts_with('['))
        {
            self.error(
                &format!("{path}.host"),
                format!("expected a host name without port, found `{host}`"),
            );
        }
        if let Some(name) = &route.name
            && (name.is_empty() || name.len() > 64 || name.chars().any(char::is_control))
        {
            self.error(&format!("{path}.name"), "expected 1 to 64 characters");
        }
        let mut methods = None;
        if let Some(names) = &route.methods {
            if names.is_empty() {
                self.error(
                    &format!("{path}.methods"),
                    "an empty list takes no request; leave it out to take any",
                );
            }
            let mut known = Vec::new();
            for (index, name) in names.iter().enumerate() {
                match Method::from_bytes(name.as_bytes()) {
                    Ok(method) if *name == name.to_ascii_uppercase() => known.push(method),
                    _ => self.error(
                        &format!("{path}.methods[{index}]"),
                        format!("expected a method in capitals, found `{name}`"),
                    ),
                }
            }
            methods = Some(known);
        }
        (self.errors.len() == before)
            .then(|| RouteMatch::new(route.host.as_deref(), &route.path, methods))
    }

    fn pipeline(&mut self, route: &RouteConfig, policies: &Policies, path: &str) -> Pipeline {
        let mut pipeline = Vec::new();
        for (index, name) in route.policies.iter().enumerate() {
            let path = format!("{path}.policies[{index}]");
            if route.policies[..index].contains(name) {
                self.error(&path, format!("`{name}` stands here twice"));
            }
            if let Some(policy) = policies.get(name.as_str()) {
                pipeline.push(policy.clone());
            } else if !self.document.has_key("policies", name) {
                self.error(&path, unknown("policy", name, &names(self.document, "policies")));
            }
        }
        Pipeline::new(pipeline)
    }

    fn unused(&mut self) {
        let used: BTreeSet<&String> =
            self.config.routes.iter().flat_map(|route| &route.policies).collect();
        for name in self.config.policies.keys().filter(|name| !used.contains(name)) {
            self.warnings
                .push(self.document.error(&format!("policies.{name}"), "no route uses it"));
        }
    }
}

/// The names that a section of the file has, for right or wrong.
fn names(document: &Document<'_>, section: &str) -> Vec<String> {
    document.keys(section).unwrap_or_default()
}

fn unknown(what: &str, name: &str, known: &[String]) -> String {
    if known.is_empty() {
        return format!("unknown {what} `{name}`; the file has none");
    }
    format!("unknown {what} `{name}`; expected one of {}", known.join(", "))
}

/// What policies may ask for while they are built.
struct Surroundings<'a> {
    document: &'a Document<'a>,
    /// None: some can't be loaded.
    components: Option<&'a Components>,
    budgets: BTreeMap<String, Arc<Budget>>,
}

impl Surroundings<'_> {
    /// None: it is there but wrong.
    fn component(&self, name: &str) -> Result<Option<&Components>, String> {
        if self.document.has_key("components", name) {
            Ok(self
                .components
                .filter(|components| components.files().any(|(loaded, _)| loaded == name)))
        } else {
            Err(unknown("component", name, &names(self.document, "components")))
        }
    }
}

impl Parts for Surroundings<'_> {
    fn predicate(&self, component: &str) -> Result<Arc<dyn Predicate>, String> {
        self.component(component)?
            .map_or(Ok(Arc::new(NotLoaded)), |components| components.predicate(component))
    }

    fn responder(&self, component: &str) -> Result<Arc<dyn Responder>, String> {
        self.component(component)?
            .map_or(Ok(Arc::new(NotLoaded)), |components| components.responder(component))
    }

    fn budget(&self, name: &str) -> Result<Arc<Budget>, String> {
        match self.budgets.get(name) {
            Some(budget) => Ok(budget.clone()),
            // It is there but wrong, which has been said.
            None if self.document.has_key("budgets", name) => Ok(Arc::new(Budget::default())),
            None => Err(unknown("budget", name, &names(self.document, "budgets"))),
        }
    }
}

/// Stands in for a component that can't be loaded, so that the rest of the file is checked too. The
/// errors are known by then, so nothing that holds it ever runs.
#[derive(Debug)]
struct NotLoaded;

impl Predicate for NotLoaded {
    fn judge(&self, seen: &Exchange<'_>) -> Verdict {
        Verdict::native(seen.default_answer())
    }
}

impl Responder for NotLoaded {
    fn respond<'a>(&'a self, _: &'a Exchange<'a>) -> Answer<'a> {
        Answer::Now(None)
    }
}
