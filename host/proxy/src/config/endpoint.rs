//! The endpoints of an upstream: where it is.

use std::collections::HashSet;
use std::fmt;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

use super::table::{Reader, table};

/// One of an upstream's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointConfig {
    /// Where it is.
    pub url: EndpointUrl,
    /// Its share of the requests, beside those of the others.
    pub weight: u32,
}

table! {
    /// The keys of an endpoint beside its URL.
    #[derive(Debug)]
    pub struct EndpointSettings {
        /// Its share of the requests, beside those of the others.
        pub weight: u32 = within(1, 1..=100),
    }
}

/// Reads the list at `path`: URLs, or tables with `url` and `weight`. Wrong ones are reported and
/// left out.
pub(super) fn endpoints(reader: &mut Reader<'_>, path: &str) -> Vec<EndpointConfig> {
    const EXPECTED: &str = "a list such as [\"http://127.0.0.1:3001\"]";
    if reader.document.value(path).is_none() {
        reader.error(path, format!("missing; expected {EXPECTED}"));
        return Vec::new();
    }
    let count = reader.document.length(path, "a list");
    let Some(count) = reader.report(count) else { return Vec::new() };
    if count == 0 {
        reader.error(path, format!("expected {EXPECTED}, found an empty one"));
    }
    let mut urls = HashSet::new();
    let read = (0..count).filter_map(|at| {
        let path = format!("{path}[{at}]");
        let endpoint = endpoint(reader, &path)?;
        if !urls.insert(endpoint.url.clone()) {
            let message = format!("`{}` is in the list twice; a `weight` is a share", endpoint.url);
            reader.error(&path, message);
        }
        Some(endpoint)
    });
    read.collect()
}

fn endpoint(reader: &mut Reader<'_>, path: &str) -> Option<EndpointConfig> {
    let value = reader.document.value(path)?.get_ref();
    if !value.is_table() {
        let url = reader.parsed(path, EndpointUrl::parse)?;
        return Some(EndpointConfig { url, weight: 1 });
    }
    let settings: EndpointSettings = reader.table_beside(path, &["url"])?;
    let path = format!("{path}.url");
    if reader.document.value(&path).is_none() {
        reader.error(&path, "missing; expected a URL such as \"http://127.0.0.1:3001\"");
    }
    let url = reader.parsed(&path, EndpointUrl::parse)?;
    Some(EndpointConfig { url, weight: settings.weight })
}

/// The URL of an upstream: `http://host[:port][/base]`, or the same with `https`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointUrl {
    /// The URL, as the file has it.
    pub url: String,
    /// A name or an IP address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether TLS is spoken there.
    pub is_secure: bool,
    /// Host and port, as in a Host header.
    authority: HeaderValue,
    /// The path in front of the paths of requests, without a slash at its end.
    pub(super) base: String,
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

impl EndpointUrl {
    /// Parses a URL.
    ///
    /// # Errors
    /// It has another form. The message says which one is expected.
    pub fn parse(url: &str) -> Result<Self, String> {
        let wrong =
            |what: &str| format!("expected `http[s]://host[:port][/base]`, found `{url}`{what}");
        let uri: Uri = url.parse().map_err(|_| {
            let needs_brackets = url.contains("::") && !url.contains('[');
            wrong(if needs_brackets { ": an IPv6 address needs brackets" } else { "" })
        })?;
        let is_secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            _ => return Err(wrong("")),
        };
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
            url: url.to_owned(),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 }),
            is_secure,
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong(""))?,
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Host and port, as in a Host header.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// The target of a request in origin form, below the base path, in parts.
    pub fn path<'a>(&'a self, uri: &'a Uri) -> [&'a str; 3] {
        let path = uri.path_and_query().map_or("", PathAndQuery::as_str);
        // The path of `http://b?x` has no slash.
        let slash = if path.starts_with('/') { "" } else { "/" };
        [&self.base, slash, path]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_is_put_in_front() {
        let uri = |base: &str, uri: &str| {
            EndpointUrl::parse(base).unwrap().path(&uri.parse().unwrap()).concat()
        };
        assert_eq!(uri("http://b:3001", "/x?y=1"), "/x?y=1");
        assert_eq!(uri("http://b:3001/", "/x"), "/x");
        assert_eq!(uri("http://b:3001/base/", "/x?y=1"), "/base/x?y=1");
        assert_eq!(uri("http://b:3001", "http://elsewhere/x"), "/x");
        assert_eq!(uri("http://b:3001/base", "http://elsewhere?x=1"), "/base/?x=1");
    }

    #[test]
    fn what_is_no_http_url_is_refused() {
        for wrong in [
            "127.0.0.1:3001",
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
            assert!(EndpointUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(&*EndpointUrl::parse("http://[::1]:3001").unwrap().host, "::1");
        let port = |url| EndpointUrl::parse(url).map(|url| (url.port, url.is_secure));
        assert_eq!(port("http://b"), Ok((80, false)));
        assert_eq!(port("https://b/base"), Ok((443, true)));
    }
}
