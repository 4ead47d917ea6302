//! Who a request comes from: what a client says of its way, and whom fusebox believes.
//!
//! `Forwarded` is RFC 7239. `X-Forwarded-*` and `X-Real-IP` have no standard; the rules are those
//! of nginx and Envoy, and of Traefik for the last. An upstream takes all of them for the word of
//! its own proxy, so those of a client that is not trusted do not go on.
//!
//! Others do, as with all three: names for the same that belong to one product, such as
//! `True-Client-IP`, and `X-Original-URL` or `X-Rewrite-URL`, in which ingresses tell an
//! authorising service what was asked for. An upstream that heeds those must know who sets them.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use ipnet::IpNet;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// What most of them begin with. To CGI and its heirs `_` is `-`.
const FAMILY: &[u8] = b"x-forwarded-";
const REAL_IP: &[u8] = b"x-real-ip";

/// Whether a header says where a request comes from.
pub(super) fn is_forwarded(name: &HeaderName) -> bool {
    if *name == header::FORWARDED {
        return true;
    }
    let name = name.as_str().as_bytes();
    let begins_as = |other: &[u8]| {
        name.iter().zip(other).all(|(byte, of)| byte == of || (*byte, *of) == (b'_', b'-'))
    };
    // Most names begin otherwise.
    name.first() == Some(&b'x')
        && (name.len() > FAMILY.len() && begins_as(FAMILY)
            || name.len() == REAL_IP.len() && begins_as(REAL_IP))
}

/// The peer of a connection from a client.
#[derive(Debug)]
pub(super) struct Peer {
    address: IpAddr,
    text: Rc<str>,
    is_trusted: bool,
    /// Whether something that it said has been replaced.
    is_known_to_claim: Cell<bool>,
}

impl Peer {
    /// A peer at this address; those in `trusted` are believed.
    pub(super) fn new(address: IpAddr, trusted: &[IpNet]) -> Self {
        Self {
            address,
            text: address.to_string().into(),
            is_trusted: contains(trusted, address),
            is_known_to_claim: Cell::new(false),
        }
    }

    pub(super) fn address(&self) -> IpAddr {
        self.address
    }

    pub(super) fn text(&self) -> &Rc<str> {
        &self.text
    }

    /// The address as a header's value.
    pub(super) fn value(&self) -> HeaderValue {
        HeaderValue::try_from(&*self.text).expect("an address is a valid value")
    }

    pub(super) fn is_trusted(&self) -> bool {
        self.is_trusted
    }

    /// An element of `Forwarded`.
    pub(super) fn element(&self) -> HeaderValue {
        let element = match self.address {
            IpAddr::V4(address) => format!("for={address};proto=http"),
            IpAddr::V6(address) => format!("for=\"[{address}]\";proto=http"),
        };
        HeaderValue::try_from(element).expect("an address is a valid value")
    }

    /// Takes away what a peer that is not trusted says. Returns whether it is the first time.
    pub(super) fn silence(&self, headers: &mut HeaderMap) -> bool {
        let said: Vec<_> = headers.keys().filter(|name| is_forwarded(name)).cloned().collect();
        for name in said {
            headers.remove(&name);
            if name == header::FORWARDED {
                headers.insert(name, self.element());
            } else if name == X_REAL_IP {
                headers.insert(name, self.value());
            }
        }
        !self.is_known_to_claim.replace(true)
    }

    /// The client of a request that a trusted peer hands on: the last address on its way that is
    /// not trusted, or else the first one.
    pub(super) fn client(&self, headers: &HeaderMap, trusted: &[IpNet]) -> Rc<str> {
        let values = |name| headers.get_all(name).iter().rev().map(HeaderValue::as_bytes);
        let last = if headers.contains_key(X_FORWARDED_FOR) {
            let said = values(X_FORWARDED_FOR).flat_map(|value| value.rsplit(|byte| *byte == b','));
            last_untrusted(said.map(address), trusted)
        } else {
            let said = values(header::FORWARDED).flat_map(|value| from_behind(value, b','));
            last_untrusted(said.map(forwarded_for), trusted)
        };
        last.map_or_else(|| self.text.clone(), |address| address.to_string().into())
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// From the last on, until one is not trusted or no address: what is before that, nobody who is
/// trusted has seen.
fn last_untrusted(
    addresses: impl Iterator<Item = Option<IpAddr>>,
    trusted: &[IpNet],
) -> Option<IpAddr> {
    let mut last = None;
    for address in addresses.map_while(|address| address) {
        last = Some(address);
        if !contains(trusted, address) {
            break;
        }
    }
    last
}

/// The address of an element of `Forwarded`.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    from_behind(element, b';').find_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(4)?;
        if name.eq_ignore_ascii_case(b"for=") { address(value) } else { None }
    })
}

/// The parts between separators that are not in quotes, the last one first. What a client has sent
/// may stand in quotes of a proxy, or begin some before what that proxy adds: read from behind,
/// neither hides or feigns a part that comes later.
fn from_behind(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut in_quotes = false;
        let at = text.iter().enumerate().rev().find_map(|(at, &byte)| {
            in_quotes ^= byte == b'"' && !is_escaped(text, at);
            (byte == separator && !in_quotes).then_some(at)
        });
        rest = at.map(|at| &text[..at]);
        Some(at.map_or(text, |at| &text[at + 1..]))
    })
}

/// Whether a backslash, itself not escaped, stands before this place.
fn is_escaped(text: &[u8], at: usize) -> bool {
    text[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// An address with or without port, brackets and quotes, as proxies write it.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().or_else(|_| text.parse().map(|socket: SocketAddr| socket.ip()));
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_told_by_its_beginning() {
        let is = |name| is_forwarded(&HeaderName::from_static(name));
        for name in [
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-client-cert",
            "x_forwarded_for",
            "x-real-ip",
            "x_real_ip",
        ] {
            assert!(is(name), "{name}");
        }
        for name in [
            "x-forwarded-",
            "x-forwarded",
            "x-forward-for",
            "xforwarded-for",
            "x",
            "via",
            "x-real-ips",
            "x-real",
            "x-original-url",
        ] {
            assert!(!is(name), "{name}");
        }
    }

    #[test]
    fn what_is_in_quotes_separates_nothing() {
        for (text, parts) in [
            ("a,b", &["b", "a"][..]),
            ("", &[""]),
            (",a,", &["", "a", ""]),
            ("a=\"1,2\",b", &["b", "a=\"1,2\""]),
            // An escaped quote ends nothing; one after an escaped backslash does.
            (r#"a="1\",2\"",b"#, &["b", r#"a="1\",2\"""#]),
            (r#"a="1\\",b"#, &["b", r#"a="1\\""#]),
            // Quotes that a client began do not take what comes after them.
            ("a=\",b=\"1,2\"", &["b=\"1,2\"", "a=\""]),
        ] {
            let found =
                from_behind(text.as_bytes(), b',').map(|part| str::from_utf8(part).unwrap());
            assert_eq!(found.collect::<Vec<_>>(), parts, "{text}");
        }
    }

    #[test]
    fn an_address_may_have_port_brackets_and_quotes() {
        for (text, expected) in [
            ("192.0.2.7", Some("192.0.2.7")),
            (" 192.0.2.7:80 ", Some("192.0.2.7")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("\"[2001:db8::1]:80\"", Some("2001:db8::1")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("unknown", None),
            ("_hidden", None),
            ("", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(address(text.as_bytes()), expected, "{text}");
        }
    }
}
