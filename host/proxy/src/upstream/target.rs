//! Where an upstream is, and its limits: made once from the configuration.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fusebox_resilience::{Error, ErrorKind};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Uri, header};
use tokio::net::lookup_host;

use crate::config::{HostHeader, UpstreamConfig};

/// What `http::Uri` holds, and a slash less.
const LONGEST_URI: usize = 65_533;

/// An upstream's place and limits. Two that are equal share their connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As the configuration says it.
    pub url: String,
    /// What it is called in a Host header.
    pub authority: HeaderValue,
    /// Which Host it gets.
    pub host_header: HostHeader,
    /// Limits.
    pub limits: Limits,
    host: Box<str>,
    port: u16,
    /// Put in front of every path; without a slash at its end.
    base: Box<str>,
}

/// Limits on an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For a connection to be made.
    pub connect_timeout: Duration,
    /// For a response head, from the request on.
    pub response_timeout: Duration,
    /// For an unused connection to be kept.
    pub idle_timeout: Duration,
    /// For a response body to stall.
    pub body_timeout: Duration,
    /// Unused connections per worker.
    pub max_idle: usize,
    /// Bytes of a response head.
    pub max_header: usize,
}

impl Target {
    /// The target that `config` describes.
    ///
    /// # Errors
    /// The URL is not `http://host[:port][/base]`.
    pub fn new(config: &UpstreamConfig) -> Result<Self, String> {
        let url = &config.url;
        let wrong =
            |what: &str| format!("expected `http://host[:port][/base]`, found `{url}`{what}");
        let uri: Uri = url.parse().map_err(|_| wrong(""))?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => {}
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err(wrong(": TLS to upstreams is not there yet"));
            }
            _ => return Err(wrong("")),
        }
        let authority = uri.authority().ok_or_else(|| wrong(""))?;
        if authority.as_str().contains('@') {
            return Err("must not contain a user name".to_owned());
        }
        if uri.query().is_some() || url.contains('#') {
            return Err(wrong(": a query or fragment has no place here"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let has_port = authority.as_str().len() > authority.host().len();
        if host.is_empty() || has_port && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(wrong(""));
        }
        Ok(Self {
            url: url.clone(),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong(""))?,
            host_header: config.host,
            host: host.into(),
            port: authority.port_u16().unwrap_or(80),
            base: uri.path().trim_end_matches('/').into(),
            limits: Limits {
                connect_timeout: config.connect_timeout.0,
                response_timeout: config.response_timeout.0,
                idle_timeout: config.idle_timeout.0,
                body_timeout: config.body_timeout.0,
                max_idle: config.max_idle,
                max_header: usize::try_from(config.max_header.as_u64()).unwrap_or(usize::MAX),
            },
        })
    }

    /// The target of a request in origin form, below the base path, in parts.
    pub(super) fn path<'a>(&'a self, uri: &'a Uri) -> [&'a str; 3] {
        let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
        // That of `http://b?x` does not begin with one.
        let slash = if path.starts_with('/') { "" } else { "/" };
        [&self.base, slash, path]
    }

    /// The Host that a request with these headers gets.
    pub(super) fn host<'a>(&'a self, headers: &'a HeaderMap) -> &'a HeaderValue {
        match (self.host_header, headers.get(header::HOST)) {
            (HostHeader::Client, Some(host)) => host,
            (HostHeader::Upstream, _) | (_, None) => &self.authority,
        }
    }

    /// Whether the base path and that of a request are short enough together.
    pub fn takes(&self, uri: &Uri) -> bool {
        self.base.len() + uri.path_and_query().map_or(0, |path| path.as_str().len()) < LONGEST_URI
    }

    /// The addresses to try, in order.
    pub(super) async fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let dns_error =
            |source: std::io::Error| Error::new(ErrorKind::DnsError).with_source(source);
        let addresses: Vec<_> =
            lookup_host((&*self.host, self.port)).await.map_err(dns_error)?.collect();
        if addresses.is_empty() { Err(ErrorKind::DnsError.into()) } else { Ok(addresses) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        #[derive(serde::Deserialize)]
        struct Route {
            upstream: UpstreamConfig,
        }
        let route: Route = toml::from_str(&format!("upstream = {url:?}")).unwrap();
        Target::new(&route.upstream)
    }

    #[test]
    fn a_base_path_is_put_in_front() {
        let uri =
            |base: &str, uri: &str| target(base).unwrap().path(&uri.parse().unwrap()).concat();
        assert_eq!(uri("http://b:3001", "/x?y=1"), "/x?y=1");
        assert_eq!(uri("http://b:3001/", "/x"), "/x");
        assert_eq!(uri("http://b:3001/base/", "/x?y=1"), "/base/x?y=1");
        assert_eq!(uri("http://b:3001", "http://elsewhere/x"), "/x");
        assert_eq!(uri("http://b:3001/base", "http://elsewhere?x=1"), "/base/?x=1");
    }

    #[test]
    fn what_is_no_plain_http_url_is_refused() {
        for wrong in [
            "127.0.0.1:3001",
            "https://b",
            "http://",
            "http://user@b/",
            "http://b/?x",
            "http://b/#x",
            "ftp://b",
            "/b",
            "http://b:0",
            "http://b:99999",
            "http://b:",
        ] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
        assert_eq!(&*target("http://[::1]:3001").unwrap().host, "::1");
    }
}
