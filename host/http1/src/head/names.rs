//! Names that are taken for others.

/// Names whose shadow would frame the body or speak of the connection. A name without `-` has no
/// shadow.
const SHADOWED: [&[u8]; 5] =
    [b"content-length", b"transfer-encoding", b"keep-alive", b"proxy-connection", b"x-real-ip"];

/// What the names begin with that say where a request comes from.
const FORWARDED: &[u8] = b"x-forwarded-";

/// Whether a name is, but for a `_`, another that frames the body or says where a request comes
/// from. To CGI and its heirs it is that other.
pub fn is_shadow(name: &[u8]) -> bool {
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
