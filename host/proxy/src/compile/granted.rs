//! What is behind the hosts that components may ask.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use fusebox_resilience::config::ConfigDuration;
use fusebox_wasm::HttpHost;

use crate::config::{Config, EndpointUrl, UpstreamConfig};

/// How long making a connection may take to a host that no upstream declares.
const CONNECT_TIMEOUT: ConfigDuration = ConfigDuration::from_secs(1);
/// Connections to it, on all workers: as many as a component has instances, if nothing else is
/// said.
const CONNECTIONS: usize = 128;

/// What is behind each host that a component may ask, by what is granted: the declared upstream
/// whose only endpoint it is, or else one of its own.
pub(super) fn granted(config: &Config) -> BTreeMap<Arc<str>, Cow<'_, UpstreamConfig>> {
    let hosts = config.components.values().flat_map(|component| component.hosts());
    let behind = hosts.filter_map(|host| {
        let url = EndpointUrl::parse(&host.url()).ok()?;
        let declared = config.upstreams.values().find(|upstream| upstream.is_only_at(&url));
        let upstream = declared.map_or_else(|| Cow::Owned(own(url)), Cow::Borrowed);
        Some((host.to_string().into(), upstream))
    });
    behind.collect()
}

/// The first component that may ask this upstream, which no table declares.
pub(super) fn asked_by<'a>(config: &'a Config, upstream: &UpstreamConfig) -> Option<&'a str> {
    let is_it = |host: &HttpHost| {
        EndpointUrl::parse(&host.url()).is_ok_and(|url| upstream.is_only_at(&url))
    };
    let mut components = config.components.iter();
    let (name, _) = components.find(|(_, component)| component.hosts().any(is_it))?;
    Some(name)
}

fn own(url: EndpointUrl) -> UpstreamConfig {
    let mut upstream = UpstreamConfig::new(url);
    upstream.settings.connect_timeout = CONNECT_TIMEOUT;
    upstream.settings.max_connections = Some(CONNECTIONS);
    upstream
}
