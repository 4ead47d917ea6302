//! Reads a configuration file and checks everything that needs nothing but the file. (Whether a
//! component can be loaded, or an address is free, is not checked here.)
//!
//! [`compile`](mod@crate::compile) is the second step. The steps are separate so that a new
//! configuration is known to be right before anything of the old one is touched.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;

use socket2::SockAddr;

use crate::compile;
use crate::config::{
    AdminAddress, Config, ConfigError, ConfigFile, Document, PathRule, PriorityConfig,
    RouteUpstream, independent,
};
use crate::route::path::has_dot_segment;

/// The largest configuration, in bytes. (Ten thousand routes need less than 2 MiB.)
const LONGEST: u64 = 16 << 20;

/// A configuration that is wrong.
#[derive(Debug)]
pub struct InvalidConfig {
    /// Its errors, in the order of the file.
    pub errors: Vec<ConfigError>,
    /// The part that is right. `None`: it is not TOML.
    pub rest: Option<Box<ConfigFile>>,
}

impl InvalidConfig {
    fn new(errors: Vec<ConfigError>) -> Self {
        Self { errors, rest: None }
    }

    /// Adds errors, except those that are the same as one that is known or can follow from it.
    pub fn add(&mut self, errors: impl IntoIterator<Item = ConfigError>) {
        let errors = independent(errors, &self.errors);
        self.errors.extend(errors);
        self.errors.sort_by_key(|error| error.line);
    }
}

/// Reads and checks a file.
///
/// # Errors
/// All problems of the file.
pub fn read(file: &Path) -> Result<ConfigFile, InvalidConfig> {
    let text = text(file).map_err(|error| InvalidConfig::new(vec![error]))?;
    parse(file, &text, |name| std::env::var(name).ok())
}

fn text(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::of_file(file, None, format!("can't be read: {error}"));
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(LONGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST {
        let message = format!("is longer than {} MiB, too long for a configuration", LONGEST >> 20);
        return Err(ConfigError::of_file(file, None, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::of_file(file, Some(line), "is not text in UTF-8")
    })
}

fn parse(
    file: &Path,
    text: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<ConfigFile, InvalidConfig> {
    let document = Document::parse(file, text, variable).map_err(InvalidConfig::new)?;
    let (config, errors) = Config::parse(&document);
    let directory = file.parent().unwrap_or(Path::new("")).to_owned();
    let read = ConfigFile { config, places: document.places().clone(), directory };
    let mut invalid = InvalidConfig::new(document.unset().to_vec());
    invalid.add(errors);
    let errors = together(&read, &invalid.errors);
    invalid.add(errors);
    if invalid.errors.is_empty() {
        return Ok(read);
    }
    invalid.rest = Some(Box::new(read));
    Err(invalid)
}

/// Checks what concerns several tables.
fn together(file: &ConfigFile, wrong: &[ConfigError]) -> Vec<ConfigError> {
    let mut errors = compile::policy_errors(file);
    errors.extend(listeners(file));
    errors.extend(client_auth(file));
    errors.extend(client_certificates(file));
    errors.extend(proxy_protocol(file));
    errors.extend(upstream_tls(file));
    errors.extend(priority(file));
    errors.extend(routes(file, wrong));
    errors.extend(fallback_loops(file));
    errors
}

/// Checks that no upstream asks itself by its fallbacks, and theirs.
fn fallback_loops(file: &ConfigFile) -> Vec<ConfigError> {
    let config = &file.config;
    let asked = |name: &str| {
        let names = config.upstreams.get(name).map(|upstream| &upstream.policies);
        let policies = names.into_iter().flatten().filter_map(|name| config.policies.get(name));
        policies.flat_map(|policy| policy.upstreams()).collect::<Vec<_>>()
    };
    let mut errors = Vec::new();
    for name in config.upstreams.keys() {
        let (mut reached, mut next) = (BTreeSet::new(), asked(name));
        while let Some(other) = next.pop() {
            if reached.insert(other) {
                next.extend(asked(other));
            }
        }
        if reached.contains(&**name) {
            let message = "a fallback among them leads back to this upstream";
            errors.push(file.places.error(&format!("upstreams.{name}.policies"), message));
        }
    }
    errors
}

/// Checks that somebody is believed who says whose connections he hands on.
fn proxy_protocol(file: &ConfigFile) -> Option<ConfigError> {
    let listener = &file.config.listener;
    let message = "needs `trusted`: the networks of those who are believed";
    (listener.proxy_protocol && listener.trusted.is_empty())
        .then(|| file.places.error("listener.proxy_protocol", message))
}

/// Checks that it is known who signs the certificates that clients are asked for.
fn client_auth(file: &ConfigFile) -> Option<ConfigError> {
    let tls = file.config.listener.tls.as_ref()?;
    let key = match (&tls.client_ca, tls.client_auth, tls.forward_client_cert) {
        (None, Some(_), _) => "client_auth",
        (None, None, true) => "forward_client_cert",
        _ => return None,
    };
    let message = "needs `client_ca`: a file with the certificates of those who sign clients'";
    Some(file.places.error(&format!("listener.tls.{key}"), message))
}

/// Checks that routes that take clients by their certificates can see some.
fn client_certificates(file: &ConfigFile) -> Vec<ConfigError> {
    let tls = file.config.listener.tls.as_ref();
    if tls.is_some_and(|tls| tls.client_ca.is_some()) {
        return Vec::new();
    }
    let wanted = file.config.routes.iter().filter(|(_, it)| it.client_certificate.is_some());
    let error = |at| {
        let message = "needs `client_ca` in `[listener.tls]`: clients are asked for none";
        file.places.error(&format!("routes[{at}].client_certificate"), message)
    };
    wanted.map(|(at, _)| error(at)).collect()
}

/// Checks that what is said of TLS to an upstream goes together.
fn upstream_tls(file: &ConfigFile) -> Vec<ConfigError> {
    let config = &file.config;
    let named = config.upstreams.iter();
    let named = named.map(|(name, upstream)| (format!("upstreams.{name}"), upstream));
    let own = config.routes.iter().filter_map(|(at, route)| match &route.upstream {
        RouteUpstream::Own(own) => Some((format!("routes[{at}].upstream"), &**own)),
        RouteUpstream::Named(_) => None,
    });
    let wrong = named.chain(own).filter_map(|(path, upstream)| {
        let tls = upstream.settings.tls.as_ref()?;
        let (key, message) = match (&tls.cert, &tls.key) {
            _ if !upstream.is_secure() => ("", "needs a URL that begins with `https://`"),
            (Some(_), None) => (".cert", "needs `key`: the file with its private key"),
            (None, Some(_)) => (".key", "needs `cert`: the file with its certificate"),
            _ => return None,
        };
        Some(file.places.error(&format!("{path}.tls{key}"), message))
    });
    wrong.collect()
}

/// Checks that the two listeners have different addresses, and that a Unix socket can have its
/// path.
fn listeners(file: &ConfigFile) -> Option<ConfigError> {
    let listen = file.config.listen;
    let admin = match &file.config.admin.as_ref()?.listen {
        AdminAddress::Tcp(admin) => *admin,
        AdminAddress::Unix(path) => {
            let path = file.directory.join(path);
            let is_too_long = SockAddr::unix(&path).is_err();
            return is_too_long.then(|| {
                let path = path.display();
                let message = format!("the path of a Unix socket is too long: `{path}`");
                file.places.error("admin.listen", message)
            });
        }
    };
    let is_any = |address: SocketAddr| address.ip().is_unspecified();
    let is_same = listen.port() == admin.port()
        && (listen.ip() == admin.ip() || is_any(listen) || is_any(admin));
    (is_same && listen.port() != 0).then(|| {
        let message = format!("must differ from `listen`, which is `{listen}`, is `{admin}`");
        file.places.error("admin.listen", message)
    })
}

/// Checks that class and level have different headers.
fn priority(file: &ConfigFile) -> Option<ConfigError> {
    let PriorityConfig { header, level_header, .. } = file.config.priority.as_ref()?;
    (header == level_header).then(|| {
        let message = format!("must differ from `header`, is `{header}`");
        file.places.error("priority.level_header", message)
    })
}

/// Checks that no two routes take the same requests or have the same name. Routes with errors are
/// skipped: what they should take is not known.
fn routes(file: &ConfigFile, wrong: &[ConfigError]) -> Vec<ConfigError> {
    let places = &file.places;
    let mut errors = Vec::new();
    let mut claims = HashMap::new();
    let mut names = HashMap::new();
    let right = file.config.routes.iter().filter(|(index, _)| {
        let path = format!("routes[{index}]");
        !wrong.iter().any(|error| error.path.starts_with(&path))
    });
    let paths = file.config.listener.paths;
    let right: Vec<_> =
        right.map(|(index, route)| (index, compile::matches(route, paths), route)).collect();
    for (index, matches, route) in &right {
        let path = format!("routes[{index}]");
        if let Some(message) = never_matches(&route.path, paths) {
            errors.push(places.error(&format!("{path}.path"), message));
            continue;
        }
        let name = compile::route_name(route, matches);
        if let Some(other) = matches.claims().find_map(|claim| claims.get(&claim)) {
            let message = format!("takes the same requests as routes[{other}]: `{matches}`");
            errors.push(places.error(&path, message));
        } else if let Some(other) = names.get(&name) {
            let message = format!("routes[{other}] has the name `{name}`, too");
            errors.push(places.error(&format!("{path}.name"), message));
        }
        claims.extend(matches.claims().map(|claim| (claim, *index)));
        names.insert(name, *index);
    }
    errors
}

/// Why no request has this path; `None`: some may.
fn never_matches(path: &str, paths: PathRule) -> Option<String> {
    match paths {
        PathRule::Strict if has_dot_segment(path) => Some(format!(
            "no request has the path `{path}`: those with a segment `.` or `..` are refused \
             (`paths = \"strict\"`)"
        )),
        PathRule::Strict if path.contains(';') => Some(format!(
            "leave out what follows the `;` of `{path}`: it does not count in the paths of \
             requests (`paths = \"strict\"`)"
        )),
        PathRule::AsIs if !path.is_ascii() => Some(format!(
            "no request has the path `{path}` as it stands: write it encoded, such as `%C3%A4` \
             (`paths = \"as-is\"`)"
        )),
        PathRule::Strict | PathRule::AsIs => None,
    }
}

#[cfg(test)]
mod tests;
