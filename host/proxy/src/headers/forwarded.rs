//! Who a request comes from: what a client says of its way, and whom fusebox believes.
//!
//! `Forwarded` is RFC 7239. `X-Forwarded-*` and `X-Real-IP` have no standard; the rules are those
//! of nginx and Envoy, and of Traefik for the last. An upstream takes all of them for the word of
//! its own proxy, so those of a client that is not trusted do not go on.
//!
//! Others do, as with all three: names for the same that belong to one product, such as
//! `True-Client-IP`, and `X-Original-URL` or `X-Rewrite-URL`, in which ingresses tell an
//! authorising service what was asked for. An upstream that heeds those must know who sets them.

use std::borrow::Cow;
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

/// Whom fusebox believes, and how it tells upstreams.
#[derive(Debug)]
pub struct ForwardedRules {
    /// The networks of clients that are believed.
    pub trusted: Vec<IpNet>,
    /// Whether `X-Forwarded-*` are told, and believed.
    pub by_x: bool,
    /// Whether `Forwarded` is told, whether or not a request has it.
    pub by_standard: bool,
}

/// The peer of a connection from a client.
#[derive(Debug)]
pub(super) struct Peer {
    address: IpAddr,
    text: Rc<str>,
    is_trusted: bool,
    /// Whether it speaks TLS.
    is_secure: bool,
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
            is_secure: false,
            is_known_to_claim: Cell::new(false),
        }
    }

    /// It speaks TLS.
    pub(super) fn secure(&mut self) {
        self.is_secure = true;
    }

    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
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

    /// An element of `Forwarded`, of a request to this host.
    pub(super) fn element(&self, host: Option<&HeaderValue>) -> HeaderValue {
        let mut element = match self.address {
            IpAddr::V4(address) => format!("for={address}").into_bytes(),
            IpAddr::V6(address) => format!("for=\"[{address}]\"").into_bytes(),
        };
        if let Some(host) = host {
            element.extend_from_slice(b";host=");
            put_value(&mut element, host.as_bytes());
        }
        element.extend_from_slice(if self.is_secure {
            b";proto=https"
        } else {
            &b";proto=http"[..]
        });
        HeaderValue::try_from(element).expect("its parts are valid values")
    }

    /// Takes away what a peer that is not trusted says, and says itself what would not be told
    /// otherwise. Returns whether it is the first time.
    pub(super) fn silence(&self, headers: &mut HeaderMap, rules: &ForwardedRules) -> bool {
        for name in said(headers) {
            headers.remove(&name);
            if name == header::FORWARDED && !rules.by_standard {
                let host = headers.get(header::HOST).cloned();
                headers.insert(name, self.element(host.as_ref()));
            } else if name == X_REAL_IP && rules.by_x {
                headers.insert(name, self.value());
            }
        }
        !self.is_known_to_claim.replace(true)
    }

    /// The client of a request that a trusted peer hands on: the last address on its way that is
    /// not trusted, or else the first one. Headers that nobody is believed are taken away.
    pub(super) fn client(&self, headers: &mut HeaderMap, rules: &ForwardedRules) -> Rc<str> {
        if !rules.by_x {
            for name in said(headers).into_iter().filter(|name| *name != header::FORWARDED) {
                headers.remove(name);
            }
        }
        let values = |name| headers.get_all(name).iter().rev().map(HeaderValue::as_bytes);
        let last = if headers.contains_key(X_FORWARDED_FOR) {
            let said = values(X_FORWARDED_FOR).flat_map(|value| value.rsplit(|byte| *byte == b','));
            last_untrusted(said.map(address), &rules.trusted)
        } else {
            let said = values(header::FORWARDED).flat_map(|value| from_behind(value, b','));
            last_untrusted(said.map(forwarded_for), &rules.trusted)
        };
        last.map_or_else(|| self.text.clone(), |address| address.to_string().into())
    }
}

/// The names of all headers that say where a request comes from.
fn said(headers: &HeaderMap) -> Vec<HeaderName> {
    headers.keys().filter(|name| is_forwarded(name)).cloned().collect()
}

/// Appends a parameter's value, in quotes if it is no token.
fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    let is_of_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if !value.is_empty() && value.iter().all(is_of_token) {
        return out.extend_from_slice(value);
    }
    out.push(b'"');
    for byte in value {
        if b"\"\\".contains(byte) {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
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

/// The address of an element of `Forwarded`. `None` too if it names several.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut nodes = from_behind(element, b';').filter_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(4)?;
        name.eq_ignore_ascii_case(b"for=").then_some(value)
    });
    let node = nodes.next()?;
    if nodes.next().is_some() { None } else { address(&unquoted(node)?) }
}

/// A parameter's value without its quotes. `None`: it is not valid.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let quotes: Vec<_> = quotes(value).collect();
    match quotes[..] {
        [] => return Some(value.into()),
        [0, end] if end == value.len() - 1 => {}
        _ => return None,
    }
    let mut is_escaped = false;
    let plain = value[1..value.len() - 1].iter().copied().filter(|byte| {
        is_escaped = *byte == b'\\' && !is_escaped;
        !is_escaped
    });
    Some(plain.collect::<Vec<_>>().into())
}

/// Where quotes begin and end.
fn quotes(text: &[u8]) -> impl Iterator<Item = usize> {
    (0..text.len()).filter(|at| text[*at] == b'"' && !is_escaped(text, *at))
}

/// Whether all quotes in a value of `Forwarded` have their ends.
pub(super) fn is_whole(value: &HeaderValue) -> bool {
    let text = value.as_bytes();
    quotes(text).count().is_multiple_of(2) && !is_escaped(text, text.len())
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

/// An address with or without port, brackets and quotes, as proxies write it. A port may be hidden
/// (RFC 7239, section 6.3); an address that is, is none.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?.trim().trim_matches('"');
    let text = text.split_once(":_").map_or(text, |(address, _)| address);
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
            ("192.0.2.7:_hidden", Some("192.0.2.7")),
            ("[2001:db8::1]:_hidden", Some("2001:db8::1")),
            ("unknown", None),
            ("_hidden", None),
            ("", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(address(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn an_element_of_forwarded_is_read_as_the_standard_has_it() {
        for (element, expected) in [
            ("for=192.0.2.7", Some("192.0.2.7")),
            (" FOR=\"192.0.2.7:4711\" ;proto=https", Some("192.0.2.7")),
            ("by=10.0.0.1;for=\"[2001:db8::1]:_port\";host=b", Some("2001:db8::1")),
            (r#"for="\1\92.0.2.7""#, Some("192.0.2.7")),
            // Hidden, unknown, absent.
            ("for=unknown", None),
            ("for=_gateway", None),
            ("for=\"_gateway:80\"", None),
            ("proto=https", None),
            ("", None),
            // What is no value, or more than one.
            ("for = 192.0.2.7", None),
            ("for=192.0.2.7;for=192.0.2.8", None),
            ("for=\"192.0.2.7", None),
            ("for=192.0.2.7\"", None),
            ("for=\"192.0.2.7\"x\"", None),
            (r#"for="192.0.2.7\""#, None),
            ("for=\"\"", None),
            ("for=\"", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(forwarded_for(element.as_bytes()), expected, "{element}");
        }
    }

    #[test]
    fn quotes_that_do_not_end_are_noticed() {
        for (value, whole) in [
            ("", true),
            ("for=a;host=\"b, c\"", true),
            (r#"host="\"""#, true),
            ("host=\"", false),
            (r#"host="\""#, false),
            ("host=\\", false),
        ] {
            assert_eq!(is_whole(&HeaderValue::from_static(value)), whole, "{value}");
        }
    }

    #[test]
    fn a_value_is_quoted_where_it_has_to_be() {
        for (value, put) in [
            ("b.example", "b.example"),
            ("b:3002", "\"b:3002\""),
            ("[::1]", "\"[::1]\""),
            (r#"a"b\"#, r#""a\"b\\""#),
            ("", "\"\""),
        ] {
            let mut out = Vec::new();
            put_value(&mut out, value.as_bytes());
            assert_eq!(str::from_utf8(&out).unwrap(), put);
            assert_eq!(&*unquoted(&out).unwrap(), value.as_bytes());
        }
    }
}
