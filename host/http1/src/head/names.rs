//! Names of fields.

use http::HeaderName;

/// A name as it is written, and as `http` has it.
type UsualName = (&'static str, HeaderName);

macro_rules! usual {
    ($($name:literal),*) => { [$(($name, HeaderName::from_static($name))),*] };
}

/// Usual names that `http` does not know, by their first letter: for any other of that kind it
/// allocates.
static X: [UsualName; 7] = usual![
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-requested-with"
];
static S: [UsualName; 7] = usual![
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform"
];
static T: [UsualName; 2] = usual!["traceparent", "tracestate"];

/// A name, in lower case. `None`: it is none, or too long for one.
pub(crate) fn field_name(bytes: &[u8]) -> Option<HeaderName> {
    let usual: &[UsualName] = match bytes.first()?.to_ascii_lowercase() {
        b'x' => &X,
        b's' => &S,
        b't' => &T,
        _ => &[],
    };
    let known = usual.iter().find(|(text, _)| is_same(bytes, text.as_bytes()));
    known.map(|(_, name)| name.clone()).or_else(|| HeaderName::from_bytes(bytes).ok())
}

/// The same as `eq_ignore_ascii_case`, at a quarter of the price, for a token and a name of letters
/// and `-`: both are what they are in lower case if this bit is set.
fn is_same(token: &[u8], name: &[u8]) -> bool {
    token.len() == name.len() && token.iter().zip(name).all(|(byte, of)| byte | 0x20 == *of)
}

/// Names whose shadow would frame the body or speak of the connection. A name without `-` has no
/// shadow.
const SHADOWED: [&[u8]; 5] =
    [b"content-length", b"transfer-encoding", b"keep-alive", b"proxy-connection", b"x-real-ip"];

/// What the names begin with that say where a request comes from.
const FORWARDED: &[u8] = b"x-forwarded-";

/// Whether a name is, but for a `_`, another that frames the body or says where a request comes
/// from. To CGI and its heirs it is that other.
pub(crate) fn is_shadow(name: &[u8]) -> bool {
    let begins_as = |other: &[u8]| {
        let mut pairs = name.iter().zip(other);
        pairs.all(|(byte, of)| byte.eq_ignore_ascii_case(of) || (*byte, *of) == (b'_', b'-'))
    };
    let mut shadowed = SHADOWED.iter().filter(|other| other.len() == name.len());
    let is_like = shadowed.any(|other| begins_as(other))
        || name.len() > FORWARDED.len() && begins_as(FORWARDED);
    is_like && name.contains(&b'_')
}

/// Whether a name, or its shadow, says where a request comes from.
pub(crate) fn is_forwarded(name: &[u8]) -> bool {
    name.len() > FORWARDED.len() && name[..FORWARDED.len()].eq_ignore_ascii_case(FORWARDED)
        || name.eq_ignore_ascii_case(b"x-real-ip")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_name_is_the_same_as_any_other_way_to_make_it() {
        for (text, name) in X.iter().chain(&S).chain(&T) {
            let upper = text.to_ascii_uppercase();
            assert_eq!(field_name(upper.as_bytes()).as_ref(), Some(name));
            assert_eq!(HeaderName::from_bytes(upper.as_bytes()).as_ref().ok(), Some(name));
        }
        assert_eq!(field_name(b"Host"), Some(http::header::HOST));
        assert_eq!(field_name(b"X-Other").expect("a name").as_str(), "x-other");
        for none in ["", "a b", "\u{e4}", "x:"] {
            assert_eq!(field_name(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn a_shadow_differs_by_underscores_only() {
        for shadow in [
            "content_length",
            "Transfer_Encoding",
            "keep_alive",
            "proxy_connection",
            "X_Real-IP",
            "x_forwarded_for",
            "x-forwarded_proto",
            "x-forwarded-client_cert",
        ] {
            assert!(is_shadow(shadow.as_bytes()), "{shadow}");
        }
        for other in [
            "content-length",
            "content-length_",
            "contents_length",
            "x-forwarded-for",
            "x_forwarded_",
            "x_request_id",
            "host_",
            "_host",
            "content_type",
        ] {
            assert!(!is_shadow(other.as_bytes()), "{other}");
        }
    }
}
