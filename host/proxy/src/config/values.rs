//! Types of values, and checks of strings.

use std::fmt;
use std::net::IpAddr;

use bytesize::ByteSize;
use http::Method;
use http::uri::Authority;
use ipnet::IpNet;
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// The route name in log and metrics for requests that no route takes.
pub const NO_ROUTE: &str = "none";

/// A number of bytes, written as `"64KiB"` or as a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigSize(u64);

impl ConfigSize {
    /// `count` KiB.
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// `count` MiB.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// `count` GiB.
    pub const fn gib(count: u64) -> Self {
        Self(count << 30)
    }

    /// The number of bytes, for what is counted.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes, for what is held in memory.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Shown as in the file, in the largest unit that gives a whole number.
impl fmt::Display for ConfigSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        let unit = if self.0 == 0 { 0 } else { self.0.trailing_zeros() as usize / 10 };
        write!(f, "{}{}", self.0 >> (10 * unit), units[unit])
    }
}

impl Serialize for ConfigSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConfigSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;
        impl Visitor<'_> for SizeVisitor {
            type Value = ConfigSize;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64KiB\"")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ConfigSize, E> {
                u64::try_from(bytes)
                    .map(ConfigSize)
                    .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ConfigSize, E> {
                let size: ByteSize =
                    text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
                // Larger numbers are parsed as the largest one.
                if size.as_u64() == u64::MAX {
                    return Err(E::custom(format!("must be less than 16EiB, is `{text}`")));
                }
                Ok(ConfigSize(size.as_u64()))
            }
        }
        deserializer.deserialize_any(SizeVisitor)
    }
}

/// Checks the path prefix of a route.
pub(super) fn path(text: &str) -> Result<String, String> {
    let has_no_place =
        |char: char| char.is_whitespace() || char.is_control() || "?#".contains(char);
    if text.starts_with('/') && !text.contains(has_no_place) {
        Ok(text.to_owned())
    } else {
        Err(format!("expected a path such as \"/api\", found `{text}`"))
    }
}

/// Checks the host of a route: the host of a request, without its port.
pub(super) fn host(text: &str) -> Result<String, String> {
    let authority: Option<Authority> = text.parse().ok();
    // A port makes an authority longer than its host. `*` is valid in an authority, but no
    // wildcard.
    match authority {
        Some(authority) if authority.host() == text && !text.contains('*') => Ok(text.to_owned()),
        _ => Err(format!(
            "expected a host such as \"b.example\" or \"[::1]\", without port or wildcard, \
             found `{text}`"
        )),
    }
}

/// Parses a network of clients; an address is a network of one.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    network.map_err(|_| {
        format!("expected a network such as \"10.0.0.0/8\" or \"::1\", found `{text}`")
    })
}

/// Parses a method of a route.
pub(super) fn method(name: &str) -> Result<Method, String> {
    match Method::from_bytes(name.as_bytes()) {
        Ok(method) if name == name.to_ascii_uppercase() => Ok(method),
        _ => Err(format!("expected a method in capitals, such as \"GET\", found `{name}`")),
    }
}

/// Checks the name of a route.
pub(super) fn route_name(name: &str) -> Result<String, String> {
    let length = name.chars().count();
    if name.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    if !(1..=64).contains(&length) {
        return Err(format!("must have 1 to 64 characters, has {length}"));
    }
    if name == NO_ROUTE {
        return Err(format!("`{NO_ROUTE}` is the name for requests that no route takes"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_shown_as_the_file_would_say_it() {
        for (bytes, shown) in [
            (0, "0B"),
            (1, "1B"),
            (1_000, "1000B"),
            (1_024, "1KiB"),
            (1_536, "1536B"),
            (64 << 10, "64KiB"),
            (1 << 30, "1GiB"),
            (3 << 60, "3EiB"),
        ] {
            assert_eq!(ConfigSize(bytes).to_string(), shown);
        }
    }

    #[test]
    fn a_host_has_no_port_and_no_user() {
        for good in ["b", "b.example", "[::1]", "127.0.0.1"] {
            assert!(host(good).is_ok(), "{good}");
        }
        for wrong in ["", "b:80", "u@b", "b/c", "b c", "::1", "[::1]:80", "http://b", "*.b", "*"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_path_is_one_that_a_request_can_have() {
        for good in ["/", "/api", "/a%20b/", "/ä"] {
            assert!(path(good).is_ok(), "{good}");
        }
        for wrong in ["", "api", "/a b", "/a?b", "/a#b", "/a\n", "/a\u{7f}"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
