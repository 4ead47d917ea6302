//! `[listener]`, `[priority]`, `[admin]`, `[log]` and `[code_cache]`.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use fusebox_resilience::config::{ChangedDefault, ConfigDuration, ConfigSize};
use fusebox_resilience::{KeyConfig, LEVEL, PRIORITY, PriorityClass};
use http::HeaderName;
use ipnet::IpNet;
use serde::Deserialize;

use super::key;
use super::table::{Keys, defaults, table};
use super::tls::ListenerTlsConfig;
use super::values;
use crate::deadline::DeadlineHeader;
use crate::observe::Level;

/// The shortest time limit: the resolution of timers.
pub(super) const SHORTEST: ConfigDuration = ConfigDuration::from_millis(1);

/// The bounds of limits on message heads.
pub(super) const HEAD: std::ops::RangeInclusive<ConfigSize> =
    ConfigSize::kib(8)..=ConfigSize::mib(1);

table! {
    /// `[listener]`: limits on clients.
    #[derive(Clone, Debug)]
    pub struct ListenerConfig {
        /// How long a client may take from the first byte of a request head to its last.
        pub header_timeout: ConfigDuration = at_least(ConfigDuration::from_secs(10), SHORTEST),
        /// How long a connection may stay without a request.
        pub idle_timeout: ConfigDuration = at_least(ConfigDuration::from_secs(75), SHORTEST),
        /// How long a request body may stall, and how long a client may take nothing of its
        /// response.
        pub body_timeout: ConfigDuration = at_least(ConfigDuration::from_secs(60), SHORTEST),
        /// How long a client may take from the first byte of a request to the last one of its body;
        /// beyond it the client gets a 408. Default: no limit.
        pub request_timeout: Option<ConfigDuration> = optional_at_least(SHORTEST),
        /// The bytes of its request body, or of its response, that a client has to move in a second
        /// in which they are waited for. 0: any number.
        pub min_rate: ConfigSize = at_most(ConfigSize(64), ConfigSize::mib(1)),
        /// The largest request head; beyond it the client gets a 431.
        pub max_header: ConfigSize = within(ConfigSize::kib(64), HEAD),
        /// The largest request body, which is never in memory whole; beyond it the client gets a
        /// 413. 0: no request may have a body.
        pub max_body: ConfigSize = or(ConfigSize::gib(1)),
        /// The number of connections at once. For one more, the one that has been idle for longest
        /// ends; if none is idle, it waits in the kernel's queue.
        pub max_connections: usize = within(10_000, 1..=1_000_000),
        /// The same from each address, or block of 2^64 addresses of IPv6; further ones get a 503.
        /// Default: no limit of its own.
        pub max_connections_per_address: Option<usize> = optional_within(1..=1_000_000),
        /// The number of calls at once, on all workers; further ones get a 503. Default: no limit.
        pub max_in_flight: Option<usize> = optional_within(1..=1_000_000),
        /// The number of requests on a connection; it ends with the response to the last one.
        /// Default: no limit.
        pub max_requests: Option<u64> = optional_at_least(1),
        /// How old a connection may become: it ends with the first response after that, at most a
        /// tenth earlier. Default: no limit.
        pub max_age: Option<ConfigDuration> = optional_at_least(SHORTEST),
        /// How much memory request bodies take that are kept to be sent again, on all workers
        /// together; beyond it a request gets one attempt.
        pub max_replay_memory: ConfigSize = or(ConfigSize::mib(256)),
        /// The headers by which a trusted client says how long it waits; of several the shortest
        /// time counts. Default: none.
        pub deadline_headers: Vec<DeadlineHeader> = deadline_headers(),
        /// The longest time that a client waits, and that of clients that say nothing. Default:
        /// none.
        pub max_deadline: Option<ConfigDuration> = optional_at_least(SHORTEST),
        /// The networks of clients that are believed when they say where a request comes from.
        /// Default: none.
        pub trusted: Vec<IpNet> = networks(),
        /// The headers that tell upstreams where a request comes from, and that are believed.
        pub forwarded: ForwardedHeaders = or(ForwardedHeaders::XForwarded),
        /// What becomes of paths that programs read in different ways.
        pub paths: PathRule = or(PathRule::Strict),
        /// The part of itself by which a `Retry-After` of the proxy's own is longer at most, so
        /// that clients that were told the same time do not come back together. 0: it is exact.
        pub retry_after_jitter: f64 = within(0.2, 0.0..=1.0),
        /// How long calls in flight may take to end after SIGTERM. 0: they are cut at once.
        pub drain_timeout: ConfigDuration = or(ConfigDuration::from_secs(30)),
        /// Whether every connection begins with a header of the PROXY protocol. It is believed if
        /// it comes from a trusted client.
        pub proxy_protocol: bool = or(false),
        /// Clients speak TLS. Default: they do not.
        pub tls: Option<ListenerTlsConfig> = optional_table(),
    }
}

/// The headers that tell upstreams where a request comes from, and that trusted clients are
/// believed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeaders {
    /// `X-Forwarded-*`, and `Forwarded` where a request has it.
    XForwarded,
    /// Both.
    Both,
    /// `Forwarded` (RFC 7239) alone: nobody is believed the others, and they do not go on.
    Standard,
}

/// What becomes of paths that programs read in different ways.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum PathRule {
    /// However a path is spelled, its route is the same; those with dot segments are refused, if a
    /// route has a prefix or an upstream a base path.
    Strict,
    /// Routes take what is spelled as they are, and dot segments go on.
    AsIs,
}

table! {
    /// `[priority]`: how important requests are.
    #[derive(Clone, Debug)]
    pub struct PriorityConfig {
        /// The header in which a trusted client says the class, and upstreams are told it.
        pub header: HeaderName = parsed_or(values::own_header, PRIORITY),
        /// The same for the level.
        pub level_header: HeaderName = parsed_or(values::own_header, LEVEL),
        /// The class of requests of which nobody says it.
        pub default: PriorityClass = or(PriorityClass::default()),
        /// Whose a request is: those of users who take most of the upstreams' time have the lowest
        /// levels of their class. Default: chance decides.
        pub user: Option<KeyConfig> = user(),
        /// Of so many users, those that were seen last, it is known how much they take.
        pub max_users: Option<usize> = max_users(),
    }
}

impl PriorityConfig {
    /// The default of `max_users`.
    pub const MAX_USERS: usize = 10_000;
}

impl Default for PriorityConfig {
    fn default() -> Self {
        defaults()
    }
}

impl Keys<'_, '_> {
    fn networks(&mut self, key: &str) -> Option<Vec<IpNet>> {
        Some(self.list(key, values::network)?.unwrap_or_default())
    }

    /// A list of headers that say how long a client waits.
    pub(super) fn deadline_headers(&mut self, key: &str) -> Option<Vec<DeadlineHeader>> {
        Some(self.list(key, DeadlineHeader::parse)?.unwrap_or_default())
    }

    fn user(&mut self, key: &str) -> Option<Option<KeyConfig>> {
        let path = self.path_of(key);
        Some(key::read(self.reader, &path))
    }

    fn max_users(&mut self, key: &str) -> Option<Option<usize>> {
        if self.is_there(key) && !self.is_there("user") {
            let path = self.path_of(key);
            self.reader.error(&path, "needs a `user`");
        }
        self.optional_within(key, 1..=100_000)
    }

    fn hosts(&mut self, key: &str) -> Option<Vec<String>> {
        Some(self.list(key, values::host)?.unwrap_or_default())
    }

    fn admin_address(&mut self, key: &str) -> Option<AdminAddress> {
        self.required(key, "an IP address with a port or `unix:/path`", |text| {
            match text.strip_prefix("unix:") {
                Some(path) if path.is_empty() || path.contains('\0') => None,
                Some(path) => Some(AdminAddress::Unix(path.into())),
                None => text.parse().ok().map(AdminAddress::Tcp),
            }
        })
    }
}

impl ListenerConfig {
    /// Its defaults that are not what they were.
    pub const CHANGED_DEFAULTS: &'static [ChangedDefault] = &[
        ChangedDefault {
            keys: &["min_rate"],
            message: "is 64B: a client that moves less in a second of waiting for it is let go in \
                      the end; it was no limit, as with `min_rate = 0`",
        },
        ChangedDefault {
            keys: &["trusted"],
            message: "is none: `X-Forwarded-*`, `Forwarded` and `X-Real-IP` of clients are \
                      replaced; it was everybody, as with `trusted = [\"0.0.0.0/0\", \
                      \"::/0\"]`",
        },
        ChangedDefault {
            keys: &["paths"],
            message: "is \"strict\": dot segments may be refused; it was as with \
                      `paths = \"as-is\"`",
        },
        ChangedDefault {
            keys: &["max_replay_memory"],
            message: "is 256MiB for all kept request bodies together; it was no limit, as with \
                      `max_replay_memory = \"1TiB\"`",
        },
        ChangedDefault {
            keys: &["retry_after_jitter"],
            message: "is 0.2: a `Retry-After` of the proxy's own is up to a fifth longer; it was \
                      exact, as with `retry_after_jitter = 0`",
        },
    ];
}

table! {
    /// `[admin]`: health, metrics, state, and changes.
    #[derive(Clone, Debug)]
    pub struct AdminConfig {
        /// Where it listens. Everybody who can reach it can read everything, so keep it on
        /// loopback.
        pub listen: AdminAddress = admin_address(),
        /// The file with the bearer token for changes. Default: none, and nothing can be changed.
        pub token_file: Option<PathBuf> = parsed(values::file),
        /// Its names beside addresses and `localhost`.
        pub hosts: Vec<String> = hosts(),
    }
}

/// Where the admin listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// An address with a port.
    Tcp(SocketAddr),
    /// A path: `unix:/path` in the file.
    Unix(PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

table! {
    /// `[log]`: the JSON lines on stdout.
    #[derive(Clone, Copy, Debug)]
    pub struct LogConfig {
        /// The lowest level that is written: `debug`, `info`, `warn` or `error`.
        pub level: Level = or(Level::Info),
        /// Whether every request gets a line.
        pub access: bool = or(true),
    }
}

table! {
    /// `[code_cache]`: compiled components on disk, so that a start need not compile them again.
    #[derive(Clone, Debug)]
    pub struct CodeCacheConfig {
        /// A directory that only this user can write to; it is created if it does not exist.
        /// Default: `$CACHE_DIRECTORY`, else `$XDG_CACHE_HOME/fusebox`, else
        /// `$HOME/.cache/fusebox`.
        pub directory: Option<PathBuf> = parsed(values::file),
        /// Whether the cache is used.
        pub enabled: bool = or(true),
        /// How much code is kept; the least recently used goes first.
        pub max_size: ConfigSize = at_least(ConfigSize::gib(1), ConfigSize::mib(1)),
    }
}

impl Default for CodeCacheConfig {
    fn default() -> Self {
        defaults()
    }
}
