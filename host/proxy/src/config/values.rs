//! Checks of strings.

use std::net::IpAddr;
use std::path::PathBuf;

use http::uri::Authority;
use http::{HeaderName, Method};
use ipnet::IpNet;
use rustls::pki_types::ServerName;

use crate::observe::NO_ROUTE;

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

/// Parses a network of clients; an address is a network of one. One of IPv4 addresses that are
/// written as IPv6 is one of IPv4 addresses, as its clients are. An address with a length after it
/// that leaves some of it out is refused: which of both is meant?
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse().map(|address: IpAddr| address.into()));
    let canonical = |network: IpNet| {
        let mapped = match network {
            IpNet::V4(_) => None,
            IpNet::V6(network) => network.addr().to_ipv4_mapped(),
        };
        let inner = mapped.zip(network.prefix_len().checked_sub(96));
        inner
            .and_then(|(address, length)| IpNet::new(address.into(), length).ok())
            .unwrap_or(network)
    };
    const EXPECTED: &str = "expected a network such as \"10.0.0.0/8\" or \"::1\", found";
    let network = network.map(canonical).map_err(|_| format!("{EXPECTED} `{text}`"))?;
    let (whole, address) = (network.trunc(), network.addr());
    if network == whole {
        return Ok(network);
    }
    Err(format!("{EXPECTED} `{text}`: the network is \"{whole}\", the address \"{address}\""))
}

/// Parses a method of a route.
pub(super) fn method(name: &str) -> Result<Method, String> {
    match Method::from_bytes(name.as_bytes()) {
        Ok(method) if name == name.to_ascii_uppercase() => Ok(method),
        _ => Err(format!("expected a method in capitals, such as \"GET\", found `{name}`")),
    }
}

/// Parses the name of a header that is fusebox's own, so that it means nothing else.
pub(super) fn own_header(name: &str) -> Result<HeaderName, String> {
    let is_taken = |name: &HeaderName| {
        let name = name.as_str();
        name.starts_with("x-forwarded-") || ["x-real-ip", "x-request-id"].contains(&name)
    };
    let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
    let is_own = |parsed: &HeaderName| parsed.as_str().starts_with("x-") && !is_taken(parsed);
    parsed.filter(is_own).ok_or_else(|| {
        format!("expected the name of a header such as \"x-priority\", found `{name}`")
    })
}

/// Checks the name of a protocol that a connection may switch to.
pub(super) fn upgrade(name: &str) -> Result<String, String> {
    if ["h2c", "http", "tls"].iter().any(|it| name.eq_ignore_ascii_case(it)) {
        return Err(format!("by `{name}`, requests would pass all routes and policies"));
    }
    // Both are tokens.
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(name.to_owned()),
        Err(_) => Err(format!(
            "expected the name of a protocol without version, such as \"websocket\", found `{name}`"
        )),
    }
}

/// Checks a subject or another name of a client's certificate, as the log has it.
pub(super) fn certificate_name(text: &str) -> Result<String, String> {
    const KINDS: [&str; 4] = ["DNS:", "URI:", "email:", "IP:"];
    let has_kind =
        KINDS.iter().any(|kind| text.strip_prefix(kind).is_some_and(|it| !it.is_empty()));
    if has_kind || text.split_once('=').is_some_and(|(kind, _)| !kind.contains([':', '/'])) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "expected a name such as \"URI:spiffe://example/a\" or \"DNS:a.example\", or a subject \
         such as \"CN=a\", found `{text}`"
    ))
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

/// Checks a name that a certificate can be for.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    let parsed = ServerName::try_from(text);
    parsed.map(|_| text.to_owned()).map_err(|_| {
        format!("expected a name or an address, such as \"b.example\", found `{text}`")
    })
}

/// Checks the name of a file.
pub(super) fn file(name: &str) -> Result<PathBuf, String> {
    if name.is_empty() { Err("must not be empty".to_owned()) } else { Ok(name.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_mapped_addresses_is_one_of_ipv4() {
        for (text, expected) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn an_address_within_a_network_is_refused_with_both() {
        for (text, whole, address) in [
            ("10.1.2.3/8", "10.0.0.0/8", "10.1.2.3"),
            ("::ffff:10.1.2.3/104", "10.0.0.0/8", "10.1.2.3"),
            ("fd00::1/8", "fd00::/8", "fd00::1"),
        ] {
            let wrong = network(text).unwrap_err();
            let both = format!("the network is \"{whole}\", the address \"{address}\"");
            assert!(wrong.ends_with(&format!("found `{text}`: {both}")), "{wrong}");
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
