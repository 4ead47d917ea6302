//! The fields by which a connection switches to another protocol (RFC 9110, section 7.8).
//!
//! They concern one connection, and so end here like others; for a protocol that its route names, a
//! request goes on with fields of our own.

use http::{HeaderMap, HeaderValue, Version, header, request};

use crate::websocket::{self, is_websocket};

/// Asks by the fields of HTTP/1.1 for what a client has asked for by an extended CONNECT (RFC
/// 8441). No request over HTTP/2 can have them otherwise.
pub fn put_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, protocol);
}

/// Whether a request that came with these fields is an extended CONNECT.
pub fn is_extended_connect(head: &request::Parts) -> bool {
    head.version == Version::HTTP_2 && head.headers.contains_key(header::UPGRADE)
}

/// What a request asks for, of the protocols with these names, as its upstream is to be asked.
/// HTTP/1.0 can't ask.
pub fn wanted_upgrade(head: &request::Parts, names: &[String]) -> Option<HeaderValue> {
    if head.version == Version::HTTP_10 || !items(&head.headers, header::CONNECTION).any(is_upgrade)
    {
        return None;
    }
    let is_named = |protocol: &&[u8]| {
        names.iter().any(|name| name_of(protocol).eq_ignore_ascii_case(name.as_bytes()))
    };
    let wanted: Vec<&[u8]> = items(&head.headers, header::UPGRADE).filter(is_named).collect();
    if wanted.is_empty() { None } else { HeaderValue::from_bytes(&wanted.join(&b", "[..])).ok() }
}

/// Asks the upstream for these protocols, on behalf of a client that speaks this version.
pub fn ask_for_upgrade(headers: &mut HeaderMap, wanted: HeaderValue, version: Version) {
    if version == Version::HTTP_2 && is_websocket(&wanted) {
        headers.insert(websocket::KEY, websocket::new_key());
    }
    put_upgrade(headers, wanted);
}

/// The protocols that the head of a 101 names. `None`: none, or not only such as were asked for.
pub fn switched_to(asked: &HeaderMap, answered: &HeaderMap) -> Option<HeaderValue> {
    let is_asked_for = |protocol: &[u8]| {
        items(asked, header::UPGRADE).any(|asked| {
            let has_version = asked.contains(&b'/');
            let answer = if has_version { protocol } else { name_of(protocol) };
            answer.eq_ignore_ascii_case(asked)
        })
    };
    let named: Vec<&[u8]> = items(answered, header::UPGRADE).collect();
    let is_right = !named.is_empty() && named.iter().all(|protocol| is_asked_for(protocol));
    if is_right { HeaderValue::from_bytes(&named.join(&b", "[..])).ok() } else { None }
}

/// The items of a list header that are not empty.
fn items(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    let items = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    items.map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

fn is_upgrade(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"upgrade")
}

/// A protocol without its version.
fn name_of(protocol: &[u8]) -> &[u8] {
    protocol.split(|byte| *byte == b'/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, Request};

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn wanted(version: Version, fields: &[(&'static str, &'static str)]) -> Option<String> {
        let mut head = Request::get("/").version(version).body(()).unwrap().into_parts().0;
        head.headers = headers(fields);
        let names = ["websocket".to_owned(), "spdy".to_owned()];
        let wanted = wanted_upgrade(&head, &names)?;
        Some(wanted.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_is_named_and_asked_for_in_both_fields_goes_on() {
        let of = |connection, upgrade| {
            wanted(Version::HTTP_11, &[("connection", connection), ("upgrade", upgrade)])
        };
        for (connection, upgrade, expected) in [
            ("upgrade", "websocket", Some("websocket")),
            ("keep-alive, Upgrade", "WebSocket", Some("WebSocket")),
            ("upgrade", "h2c, websocket", Some("websocket")),
            ("upgrade", "SPDY/3.1,, websocket , h2c", Some("SPDY/3.1, websocket")),
            ("upgrade", "h2c", None),
            ("upgrade", "websockets", None),
            ("upgrade", "websocket2, web", None),
            ("upgrade", "", None),
            ("keep-alive", "websocket", None),
            ("upgrades", "websocket", None),
            ("", "websocket", None),
        ] {
            assert_eq!(of(connection, upgrade).as_deref(), expected, "{connection}: {upgrade}");
        }
        let fields = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(wanted(Version::HTTP_10, &fields), None);
        assert_eq!(wanted(Version::HTTP_2, &fields).as_deref(), Some("websocket"));
        assert_eq!(wanted(Version::HTTP_11, &fields[1..]), None);
        let lines = [
            ("connection", "close"),
            ("connection", "upgrade"),
            ("upgrade", "h2c"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(wanted(Version::HTTP_11, &lines).as_deref(), Some("websocket"));
    }

    #[test]
    fn only_what_was_asked_for_is_switched_to() {
        for (asked, answered, expected) in [
            ("websocket", "WebSocket", Some("WebSocket")),
            ("spdy/3.1, websocket", "SPDY/3.1", Some("SPDY/3.1")),
            ("spdy", "SPDY/3.1", Some("SPDY/3.1")),
            ("spdy/3.1", "SPDY/2", None),
            ("spdy/3.1", "SPDY", None),
            ("websocket", "h2c", None),
            ("websocket", "websocket, h2c", None),
            ("websocket", "", None),
            ("websocket", " , ", None),
        ] {
            let (asked, answered) =
                (headers(&[("upgrade", asked)]), headers(&[("upgrade", answered)]));
            let switched = switched_to(&asked, &answered);
            assert_eq!(switched.as_ref().map(HeaderValue::as_bytes), expected.map(str::as_bytes));
        }
        let upgrade = headers(&[("upgrade", "x")]);
        assert_eq!(switched_to(&HeaderMap::new(), &upgrade), None);
        assert_eq!(switched_to(&upgrade, &HeaderMap::new()), None);
    }
}
