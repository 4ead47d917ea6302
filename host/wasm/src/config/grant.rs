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
    /// Plain HTTP requests to this host, by a standard HTTP component.
    Http(HttpHost),
}

/// A host and a port, as a URL names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpHost {
    host: String,
    port: u16,
}

impl HttpHost {
    /// With brackets if it is an IPv6 address, as resolving wants it.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl TryFrom<&str> for HttpHost {
    type Error = ();

    /// Without a port it is 80; a user is no part of a host.
    fn try_from(text: &str) -> Result<Self, ()> {
        let authority: Authority = text.parse().map_err(drop)?;
        let (host, port) = (authority.host(), authority.port());
        let has_port = authority.as_str().len() > host.len();
        let port = if has_port { port.ok_or(())?.as_u16() } else { 80 };
        // What else an authority may have is no name that anybody resolves: `*` looks like a
        // pattern, and is none.
        let is_name =
            host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
        if host.is_empty() || !is_name || port == 0 || authority.as_str().contains('@') {
            return Err(());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl fmt::Display for HttpHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if *port == 80 { f.write_str(host) } else { write!(f, "{host}:{port}") }
    }
}

impl<'de> Deserialize<'de> for Grant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(Self::Env(name.to_owned()))
            }
            Some(("http", host)) if let Ok(host) = HttpHost::try_from(host) => Ok(Self::Http(host)),
            _ => {
                let message =
                    format!("unknown grant `{text}`; expected `env:NAME` or `http:HOST[:PORT]`");
                Err(de::Error::custom(message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_and_a_port() {
        for (text, host, port) in [
            ("a.example", "a.example", 80),
            ("A.example:8080", "a.example", 8080),
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]:81", "[::1]", 81),
        ] {
            assert_eq!(
                HttpHost::try_from(text),
                Ok(HttpHost { host: host.into(), port }),
                "{text}"
            );
        }
        for wrong in
            ["", ":80", "a:", "a:0", "a:65536", "a:b", "u@a", "a/b", "*", "*.example", "a b", "::1"]
        {
            assert_eq!(HttpHost::try_from(wrong), Err(()), "{wrong}");
        }
    }
}
