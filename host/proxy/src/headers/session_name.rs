//! Whether a request is for the host that its connection was made for.
//!
//! A client may use a connection for each host that its certificate is for (RFC 9113, section
//! 9.1.1). What was looked at in the handshake, such as the client's certificate, may then stand
//! for a host that it was not meant for.

use std::net::IpAddr;

/// The name that a client has asked for in its handshake.
#[derive(Debug)]
pub(super) struct SessionName(Option<Box<str>>);

impl SessionName {
    /// `None`: it has asked for none, as those do that ask for an IP address.
    pub(super) fn new(name: Option<&str>) -> Self {
        Self(name.map(Into::into))
    }

    /// Whether a request for this host, which has no port, may come by it. One of HTTP/1.0 need
    /// not name any.
    pub(super) fn is_for(&self, host: &str) -> bool {
        let without_brackets = host.trim_start_matches('[').trim_end_matches(']');
        host.is_empty()
            || match &self.0 {
                Some(name) => name.eq_ignore_ascii_case(host),
                None => without_brackets.parse::<IpAddr>().is_ok(),
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_for_itself_and_none_is_for_addresses() {
        for (name, host, is_for) in [
            (Some("b.example"), "B.example", true),
            (Some("b.example"), "c.example", false),
            (Some("b.example"), "192.0.2.7", false),
            (Some("b.example"), "", true),
            (None, "192.0.2.7", true),
            (None, "[2001:db8::1]", true),
            (None, "b.example", false),
        ] {
            assert_eq!(SessionName::new(name).is_for(host), is_for, "{name:?} {host}");
        }
    }
}
