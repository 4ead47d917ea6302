//! Upstreams: `[upstreams.NAME]`, and those declared by a route itself.

use fusebox_resilience::config::{ConfigDuration, ConfigSize};
use http::{HeaderMap, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::balance::BalanceConfig;
use super::endpoint::{EndpointConfig, EndpointUrl, EndpointsConfig};
use super::health::HealthConfig;
use super::table::{Keys, Reader, Table as _, defaults, is_name, table};
use super::tables::{HEAD, SHORTEST};
use super::tls::UpstreamTlsConfig;
use super::words::found;
use crate::deadline::DeadlineHeader;
use crate::headers;

/// One byte less than `http::Uri` holds: a slash may be added between base path and path.
const LONGEST_PATH: usize = 65_533;

table! {
    /// The settings of an upstream.
    #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
    pub struct UpstreamSettings {
        /// What is spoken with the upstream.
        pub protocol: UpstreamProtocol = or(UpstreamProtocol::Auto),
        /// Which Host header the upstream gets.
        pub host: HostHeader = or(HostHeader::Client),
        /// Whether each attempt tells its number in `x-envoy-attempt-count`, as Envoy's do.
        pub envoy_attempt_count: bool = or(false),
        /// Headers that tell each attempt how long it is waited for. Default: none; but
        /// `grpc-timeout` is told right where a request has it.
        pub forward_deadline: Vec<DeadlineHeader> = deadline_headers(),
        /// By so much what they tell is shorter.
        pub deadline_margin: ConfigDuration = or(ConfigDuration::from_millis(5)),
        /// How long making a connection may take, for all addresses of a name together.
        pub connect_timeout: ConfigDuration = at_least(ConfigDuration::from_secs(5), SHORTEST),
        /// How long a response head may take, counted from the request. A timeout policy is the
        /// tighter limit.
        pub response_timeout: ConfigDuration = at_least(ConfigDuration::from_secs(300), SHORTEST),
        /// How long an unused connection is kept.
        pub idle_timeout: ConfigDuration = at_least(ConfigDuration::from_secs(60), SHORTEST),
        /// How long a response body may stall.
        pub body_timeout: ConfigDuration = at_least(ConfigDuration::from_secs(60), SHORTEST),
        /// The number of unused connections per worker. 0: every request makes a connection.
        pub max_idle: usize = at_most(1024, 1_000_000),
        /// The number of connections to an endpoint, on all workers, each of which has its share,
        /// but one at least. Default: 1,024 on each.
        pub max_connections: Option<usize> = optional_within(1..=1_000_000),
        /// The number of attempts at an endpoint at once, on all workers; further ones wait for up
        /// to `connect_timeout`. Default: no limit.
        pub max_in_flight: Option<usize> = optional_within(1..=1_000_000),
        /// How old a connection may become: after that it gets no more requests, at most a tenth
        /// earlier. Default: no limit.
        pub max_age: Option<ConfigDuration> = optional_at_least(SHORTEST),
        /// The number of requests on a connection. Default: no limit.
        pub max_requests: Option<u64> = optional_at_least(1),
        /// The largest response head.
        pub max_header: ConfigSize = within(ConfigSize::kib(64), HEAD),
        /// How endpoints are asked whose URL begins with `https`. Default: their certificates have
        /// to be for their names, by those whom the system trusts.
        pub tls: Option<UpstreamTlsConfig> = optional_table(),
    }
}

/// What is spoken with an upstream.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// HTTP/2 or HTTP/1.1, as the upstream says above TLS; else HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, which the upstream is known to speak: from the first byte on, or above TLS.
    Http2,
}

/// Which Host header the upstream gets.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum HostHeader {
    /// The client's.
    Client,
    /// The host and port of the endpoint.
    Upstream,
}

table! {
    /// The settings of an upstream's endpoints together.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub struct FleetSettings {
        /// Which of several endpoints gets a request.
        pub balance: BalanceConfig = balance(),
        /// For so long an endpoint that comes back gets less than its share. Default: it gets all
        /// of it at once.
        pub slow_start: Option<ConfigDuration> = optional_at_least(SHORTEST),
        /// When an endpoint gets no requests for now.
        pub health: HealthConfig = table(),
    }
}

impl Keys<'_, '_> {
    fn balance(&mut self, key: &str) -> Option<BalanceConfig> {
        let path = self.path_of(key);
        Some(BalanceConfig::read(self.reader, &path))
    }
}

/// An upstream. Routes with the same named upstream share it, and so do routes whose own upstreams
/// are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamConfig {
    /// Its name in the file. `None`: a route declares it itself.
    pub name: Option<String>,
    /// Where it is.
    pub endpoints: EndpointsConfig,
    /// What holds for several endpoints together.
    pub fleet: FleetSettings,
    /// Its settings.
    pub settings: UpstreamSettings,
    /// The policies of calls that come by a fallback, outermost first.
    pub policies: Vec<String>,
    /// The length of the longest base path of an endpoint.
    longest_base: usize,
}

impl UpstreamConfig {
    /// An upstream without a name, with all defaults.
    pub fn new(url: EndpointUrl) -> Self {
        Self {
            name: None,
            longest_base: url.base.len(),
            endpoints: EndpointsConfig::Listed(vec![url.into()]),
            fleet: defaults(),
            settings: defaults(),
            policies: Vec::new(),
        }
    }

    /// Whether there is a choice of endpoints, or may be.
    pub fn is_fleet(&self) -> bool {
        match &self.endpoints {
            EndpointsConfig::Listed(endpoints) => endpoints.len() > 1,
            EndpointsConfig::Dns(_) => true,
        }
    }

    /// Whether this is its only endpoint, for ever, which has no base path.
    pub fn is_only_at(&self, url: &EndpointUrl) -> bool {
        let EndpointsConfig::Listed(endpoints) = &self.endpoints else { return false };
        let [EndpointConfig { url: own, .. }] = &endpoints[..] else { return false };
        let of = |url: &EndpointUrl| (url.is_secure, url.host.to_ascii_lowercase(), url.port);
        of(own) == of(url) && !self.has_base()
    }

    /// Whether TLS is spoken by any of its endpoints.
    pub fn is_secure(&self) -> bool {
        self.endpoints.urls().any(|url| url.is_secure)
    }

    /// Whether HTTP/2 may be spoken with it.
    pub fn may_speak_http2(&self) -> bool {
        match self.settings.protocol {
            UpstreamProtocol::Auto => self.is_secure(),
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
        }
    }

    /// Its name, or else its URL.
    pub fn label(&self) -> &str {
        let url = || self.endpoints.urls().next().map_or("", |url| &url.url);
        self.name.as_deref().unwrap_or_else(url)
    }

    /// The Host header of a request with these headers to this endpoint.
    pub fn host<'a>(&self, endpoint: &'a EndpointUrl, headers: &'a HeaderMap) -> &'a HeaderValue {
        match (self.settings.host, headers::host(headers)) {
            (HostHeader::Client, Some(host)) => host,
            (HostHeader::Upstream, _) | (_, None) => endpoint.authority(),
        }
    }

    /// Whether an endpoint's path is more than `/`.
    pub fn has_base(&self) -> bool {
        self.longest_base > 0
    }

    /// Whether the path of a request with the longest base path is short enough.
    pub fn takes(&self, uri: &Uri) -> bool {
        let path = uri.path_and_query().map_or(0, |path| path.as_str().len());
        self.longest_base + path < LONGEST_PATH
    }

    /// `[upstreams.NAME]` at `path`.
    pub(super) fn named(reader: &mut Reader<'_>, path: &str) -> Option<Self> {
        let name = path.rsplit('.').next().map(str::to_owned);
        let others = [&["endpoints", "policies"], FleetSettings::KEYS].concat();
        let settings: UpstreamSettings = reader.table_beside(path, &others)?;
        let fleet: FleetSettings = reader.part_of_table(path)?;
        fleet.health.check(reader, &format!("{path}.health"));
        let policies = reader.policy_names(&format!("{path}.policies")).unwrap_or_default();
        let endpoints = EndpointsConfig::read(reader, &format!("{path}.endpoints"));
        let are_secure = || {
            let mut urls = endpoints.iter().flat_map(EndpointsConfig::urls);
            urls.all(|url| url.is_secure)
        };
        let may_speak_http2 = match settings.protocol {
            UpstreamProtocol::Auto => are_secure(),
            UpstreamProtocol::Http1 => false,
            UpstreamProtocol::Http2 => true,
        };
        if fleet.health.grpc.is_some() && !may_speak_http2 {
            let message = "needs HTTP/2: `protocol = \"http2\"`";
            reader.error(&format!("{path}.health.grpc"), message);
        }
        let endpoints = endpoints?;
        let longest_base = endpoints.urls().map(|url| url.base.len()).max()?;
        Some(Self { name, endpoints, fleet, settings, policies, longest_base })
    }
}

/// The `upstream` key of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteUpstream {
    /// The name of a declared upstream.
    Named(String),
    /// An upstream of its own.
    Own(Box<UpstreamConfig>),
}

impl RouteUpstream {
    /// Reads the key at `path`: a URL, a name, or a table with a URL and settings.
    pub(super) fn read(reader: &mut Reader<'_>, path: &str) -> Option<Self> {
        const EXPECTED: &str = "a URL such as \"http://127.0.0.1:3001\", the name of an upstream, \
                                or a table with `url`";
        let Some(value) = reader.document.value(path) else {
            reader.error(path, format!("missing; expected {EXPECTED}"));
            return None;
        };
        let value = value.get_ref();
        let (endpoint, settings) = if let Some(text) = value.as_str() {
            if is_name(text) {
                let found = reader.document.places().look_up("upstreams", "upstream", text);
                return match found {
                    Ok(()) => Some(Self::Named(text.to_owned())),
                    Err(unknown) => {
                        reader.error(
                            path,
                            format!("{unknown}; a URL begins with `http://` or `https://`"),
                        );
                        None
                    }
                };
            }
            (reader.parsed(path, EndpointUrl::parse), defaults())
        } else if value.is_table() {
            let settings = reader.table_beside(path, &["url"])?;
            let path = format!("{path}.url");
            if reader.document.value(&path).is_none() {
                reader.error(&path, "missing; expected a URL such as \"http://127.0.0.1:3001\"");
            }
            (reader.parsed(&path, EndpointUrl::parse), settings)
        } else {
            let found = found(value);
            reader.error(path, format!("expected {EXPECTED}, found {found}"));
            return None;
        };
        let upstream = UpstreamConfig { settings, ..UpstreamConfig::new(endpoint?) };
        Some(Self::Own(upstream.into()))
    }
}
