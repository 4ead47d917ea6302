//! `grant`: what of the host a component may use.

use std::fmt;

use http::uri::Authority;
use serde::de;
use serde::{Deserialize, Deserializer};

/// Something of the host that a guest may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// The environment variable of this name, as it is when an instance starts.
    Env(String),
    /// Requests to this host, by a standard HTTP component.
    Http(HttpHost),
}

/// A host and a port, as a URL names them, and whether TLS is spoken there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHost {
    is_secure: bool,
    host: String,
    port: u16,
}

impl HttpHost {
    /// Its URL, without a path.
    pub fn url(&self) -> String {
        self.written("://")
    }

    fn written(&self, separator: &str) -> String {
        let Self { is_secure, host, port } = self;
        let scheme = if *is_secure { "https" } else { "http" };
        match *port == default_port(*is_secure) {
            true => format!("{scheme}{separator}{host}"),
            false => format!("{scheme}{separator}{host}:{port}"),
        }
    }

    /// Without a port it is that of the scheme; a user is no part of a host. `None`: it is no host.
    pub(crate) fn parse(text: &str, is_secure: bool) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        let (host, port) = (authority.host(), authority.port());
        let has_port = authority.as_str().len() > host.len();
        let port = if has_port { port?.as_u16() } else { default_port(is_secure) };
        // What else an authority may have is no name that anybody resolves: `*` looks like a
        // pattern, and is none.
        let is_name =
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
        if host.is_empty() || !is_name || port == 0 || authority.as_str().contains('@') {
            return None;
        }
        Some(Self { is_secure, host: host.to_ascii_lowercase(), port })
    }
}

fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

/// As it is granted.
impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(":"))
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(Self::Env(name.to_owned()))
            }
            Some((scheme @ ("http" | "https"), host))
                if let Some(host) = HttpHost::parse(host, scheme == "https") =>
            {
                Ok(Self::Http(host))
            }
            _ => Err(de::Error::custom(format!(
                "unknown grant `{text}`; expected `env:NAME`, `http:HOST[:PORT]` or \
                 `https:HOST[:PORT]`"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_a_port() {
        for (text, is_secure, host, port, shown) in [
            ("a.example", false, "a.example", 80, "http:a.example"),
            ("a.example", true, "a.example", 443, "https:a.example"),
            ("A.example:8080", false, "a.example", 8080, "http:a.example:8080"),
            ("127.0.0.1:80", true, "127.0.0.1", 80, "https:127.0.0.1:80"),
            ("[::1]:81", false, "[::1]", 81, "http:[::1]:81"),
        ] {
            let parsed = HttpHost::parse(text, is_secure).expect(text);
            assert_eq!(parsed, HttpHost { is_secure, host: host.into(), port });
            assert_eq!(parsed.to_string(), shown);
        }
        assert_eq!(HttpHost::parse("[::1]", true).unwrap().url(), "https://[::1]");
        for wrong in
            ["", ":80", "a:", "a:0", "a:65536", "a:b", "u@a", "a/b", "*", "*.example", "a b", "::1"]
        {
            assert_eq!(HttpHost::parse(wrong, false), None, "{wrong}");
        }
    }
}
