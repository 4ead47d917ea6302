//! The endpoints of an upstream: where it is.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Uri};

use super::table::{Keys, Reader, table};
use super::words::found;

/// The port of name servers.
const DNS_PORT: u16 = 53;

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EndpointsConfig {
    /// At these endpoints; one or more.
    Listed(Vec<EndpointConfig>),
    /// At all addresses of a name, as they are at the time.
    Dns(DnsConfig),
}

/// One of an upstream's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointConfig {
    /// Where it is.
    pub url: EndpointUrl,
    /// Its share of the requests, beside those of the others.
    pub weight: u32,
    /// Those of a later tier get requests if none in front is in.
    pub tier: u16,
}

impl From<EndpointUrl> for EndpointConfig {
    /// With the share of one, in the first tier.
    fn from(url: EndpointUrl) -> Self {
        Self { url, weight: 1, tier: 0 }
    }
}

table! {
    /// The keys of an endpoint beside its URL.
    #[derive(Debug)]
    pub struct EndpointSettings {
        /// Its share of the requests, beside those of the others.
        pub weight: u32 = within(1, 1..=100),
        /// Those of a later tier get requests if none in front is in.
        pub tier: u16 = or(0),
    }
}

table! {
    /// `endpoints = { dns = "name:8080" }`, or `{ srv = "_http._tcp.name" }`.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    pub struct DnsConfig {
        /// The URL of each endpoint, but for its address.
        pub dns: EndpointUrl = dns_name(),
        /// Whether it names a service, whose records have the ports.
        pub srv: bool = names_service(),
        /// The name server that is asked for the addresses. Default: those that the system asks.
        pub resolver: Option<SocketAddr> = parsed(name_server),
    }
}

impl Keys<'_, '_> {
    fn dns_name(&mut self, key: &str) -> Option<EndpointUrl> {
        let of_service = "srv";
        if self.is_there(of_service) {
            if self.is_there(key) {
                self.reader.error(&self.path_of(of_service), "either `dns` or `srv`");
            }
            return self.parsed(of_service, EndpointUrl::of_service)?;
        }
        if !self.is_there(key) {
            let message = "missing; expected a name with a port, such as \"b.example:8080\"";
            self.reader.error(&self.path_of(key), message);
        }
        self.parsed(key, EndpointUrl::of_name)?
    }

    fn names_service(&mut self, key: &str) -> Option<bool> {
        Some(self.is_there(key))
    }
}

/// Parses `127.0.0.1` or `127.0.0.1:53`.
fn name_server(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    let address = text.parse::<SocketAddr>().or_else(|_| bare()).ok();
    address.filter(|address| address.port() != 0).ok_or_else(|| {
        format!("expected the address of a name server, such as \"127.0.0.1:53\", found `{text}`")
    })
}

impl EndpointsConfig {
    /// Reads the key at `path`. `None`: it is wrong, which has been reported.
    pub(super) fn read(reader: &mut Reader<'_>, path: &str) -> Option<Self> {
        let value = reader.document.value(path).map(|value| value.get_ref());
        if value.is_some_and(|value| value.is_table()) {
            return reader.table(path).map(Self::Dns);
        }
        let listed = listed(reader, path);
        (!listed.is_empty()).then_some(Self::Listed(listed))
    }

    /// The name whose addresses they are; `None`: they are listed.
    pub fn dns(&self) -> Option<&DnsConfig> {
        match self {
            Self::Listed(_) => None,
            Self::Dns(dns) => Some(dns),
        }
    }

    /// The URLs of those that are listed, or that of the name.
    pub(super) fn urls(&self) -> impl Iterator<Item = &EndpointUrl> {
        let (listed, name) = match self {
            Self::Listed(endpoints) => (&endpoints[..], None),
            Self::Dns(name) => (&[][..], Some(&name.dns)),
        };
        listed.iter().map(|endpoint| &endpoint.url).chain(name)
    }
}

/// Reads the list at `path`: URLs, or tables with `url`, `weight` and `tier`. Wrong ones are
/// reported and left out.
fn listed(reader: &mut Reader<'_>, path: &str) -> Vec<EndpointConfig> {
    const LIST: &str = "a list such as [\"http://127.0.0.1:3001\"]";
    const TABLE: &str = "a table such as { dns = \"b.example:8080\" }";
    let Some(value) = reader.document.value(path) else {
        reader.error(path, format!("missing; expected {LIST} or {TABLE}"));
        return Vec::new();
    };
    let Some(count) = value.get_ref().as_array().map(|array| array.len()) else {
        let found = found(value.get_ref());
        reader.error(path, format!("expected {LIST} or {TABLE}, found {found}"));
        return Vec::new();
    };
    if count == 0 {
        reader.error(path, format!("expected {LIST}, found an empty one"));
    }
    let mut urls = HashSet::new();
    let read = (0..count).filter_map(|at| {
        let path = format!("{path}[{at}]");
        let endpoint = endpoint(reader, &path)?;
        if !urls.insert(endpoint.url.place()) {
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
        return reader.parsed(path, EndpointUrl::parse).map(EndpointConfig::from);
    }
    let EndpointSettings { weight, tier } = reader.table_beside(path, &["url"])?;
    let path = format!("{path}.url");
    if reader.document.value(&path).is_none() {
        reader.error(&path, "missing; expected a URL such as \"http://127.0.0.1:3001\"");
    }
    let url = reader.parsed(&path, EndpointUrl::parse)?;
    Some(EndpointConfig { url, weight, tier })
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
    /// Its address, if that is known without looking its host up.
    pub address: Option<SocketAddr>,
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
    /// Where it leads, however it is spelled.
    fn place(&self) -> (bool, String, u16, String) {
        let host = self.address.map_or_else(
            || self.host.trim_end_matches('.').to_ascii_lowercase(),
            |address| address.ip().to_canonical().to_string(),
        );
        (self.is_secure, host, self.port, self.base.clone())
    }

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
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Self {
            url: url.to_owned(),
            host: host.to_owned(),
            port,
            is_secure,
            address: host.parse().ok().map(|ip| SocketAddr::new(ip, port)),
            authority: HeaderValue::from_str(authority.as_str()).map_err(|_| wrong(""))?,
            base: uri.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Parses a name with a port, or a URL with a name.
    fn of_name(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("expected `name:port` or `http[s]://name[:port][/base]`, found `{text}`{what}")
        };
        let has_scheme = text.contains("://");
        let url = if has_scheme { text.to_owned() } else { format!("http://{text}") };
        let url = Self::parse(&url).map_err(|_| wrong(""))?;
        if url.address.is_some() {
            return Err(wrong(": an address is no name; it goes into a list"));
        }
        if !is_dns_name(&url.host) {
            return Err(wrong(": not a name"));
        }
        if !has_scheme && url.authority.as_bytes() == url.host.as_bytes() {
            return Err(wrong(": a port is missing"));
        }
        Ok(url)
    }

    /// Parses the name of a service, or a URL with it.
    fn of_service(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("expected `_service._proto.name` or `http[s]://…[/base]`, found `{text}`{what}")
        };
        let has_scheme = text.contains("://");
        let url = if has_scheme { text.to_owned() } else { format!("http://{text}") };
        let url = Self::parse(&url).map_err(|_| wrong(""))?;
        if url.address.is_some() || !is_dns_name(&url.host) {
            return Err(wrong(": not a name"));
        }
        if url.authority.as_bytes() != url.host.as_bytes() {
            return Err(wrong(": the port is what its records say"));
        }
        Ok(url)
    }

    /// The same at this address and port, of what offers the service of its name. What is said to
    /// the endpoint is for the name behind the service: `b.example` of `_http._tcp.b.example`.
    #[must_use]
    pub fn offered_at(&self, ip: IpAddr, port: u16) -> Self {
        let is_of_service = |label: &&str| label.starts_with('_');
        let labels: Vec<_> = self.host.split('.').skip_while(is_of_service).collect();
        let host = if labels.is_empty() { self.host.clone() } else { labels.join(".") };
        let authority = HeaderValue::from_str(&format!("{host}:{port}"));
        let authority = authority.unwrap_or_else(|_| self.authority.clone());
        Self { host, port, authority, ..self.clone() }.at(ip)
    }

    /// The same at this address of its name. The URL names the address; everything that is said to
    /// the endpoint is for the name.
    #[must_use]
    pub fn at(&self, ip: IpAddr) -> Self {
        let address = SocketAddr::new(ip, self.port);
        let scheme = if self.is_secure { "https" } else { "http" };
        let url = format!("{scheme}://{address}{}", self.base);
        Self { url, address: Some(address), ..self.clone() }
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

/// Labels of letters, digits, `-` and `_`, as services have them. A dot at the end says that no
/// domain is put behind it.
fn is_dns_name(host: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_of_name);
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
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

    #[test]
    fn a_service_is_offered_where_its_records_say() {
        let at = |text| {
            EndpointUrl::of_service(text).map(|url| {
                let at = url.offered_at("10.0.0.1".parse().unwrap(), 81);
                let authority = at.authority.to_str().unwrap().to_owned();
                (at.url, at.host, authority, at.address.unwrap().port())
            })
        };
        for (text, url, host) in [
            ("_http._tcp.b.svc", "http://10.0.0.1:81", "b.svc"),
            ("https://_https._tcp.b.svc./base", "https://10.0.0.1:81/base", "b.svc."),
            ("b.service.consul", "http://10.0.0.1:81", "b.service.consul"),
        ] {
            let expected = (url.to_owned(), host.to_owned(), format!("{host}:81"), 81);
            assert_eq!(at(text), Ok(expected), "{text}");
        }
        for wrong in ["", "_http._tcp.b:80", "10.0.0.1", "http://[::1]", "_http.._tcp", "ftp://b"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_is_looked_up_and_nothing_else() {
        let of_name = |text| EndpointUrl::of_name(text).map(|it| (it.url, it.is_secure, it.port));
        for (text, url, is_secure, port) in [
            ("b:3001", "http://b:3001", false, 3001),
            ("b_1.c-d.svc.:80/base", "http://b_1.c-d.svc.:80/base", false, 80),
            ("http://b", "http://b", false, 80),
            ("https://b.c", "https://b.c", true, 443),
        ] {
            assert_eq!(of_name(text), Ok((url.to_owned(), is_secure, port)), "{text}");
        }
        let long = format!("{}:80", "b".repeat(64));
        for wrong in [
            "",
            "b",
            ":80",
            "b:0",
            "b:x",
            "127.0.0.1:80",
            "[::1]:80",
            "::1",
            "https://[::1]",
            "b..c:80",
            ".b:80",
            "b%20:80",
            "ftp://b:80",
            "b:80?x",
            "u@b:80",
            "b c:80",
            "*.b:80",
            &long,
        ] {
            assert!(of_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn at_an_address_it_is_still_the_name_that_is_spoken_to() {
        let url = EndpointUrl::of_name("https://b.example:8443/base/").unwrap();
        let [v4, v6] = ["10.0.0.1", "fd00::1"].map(|ip| url.at(ip.parse().unwrap()));
        assert_eq!(v4.url, "https://10.0.0.1:8443/base");
        assert_eq!(v6.url, "https://[fd00::1]:8443/base");
        assert_eq!(v6.address, Some("[fd00::1]:8443".parse().unwrap()));
        assert_eq!((&*v4.host, v4.authority()), ("b.example", url.authority()));
        assert_eq!(EndpointUrl::parse(&v6.url).unwrap().address, v6.address);
    }

    #[test]
    fn a_name_server_is_an_address() {
        let address = |text| name_server(text).map(|address| address.to_string());
        for (text, expected) in [
            ("127.0.0.1", "127.0.0.1:53"),
            ("127.0.0.1:8600", "127.0.0.1:8600"),
            ("::1", "[::1]:53"),
            ("[::1]:8600", "[::1]:8600"),
        ] {
            assert_eq!(address(text), Ok(expected.to_owned()));
        }
        for wrong in ["", "localhost", "localhost:53", "127.0.0.1:0", "127.0.0.1:x", "[::1]"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
