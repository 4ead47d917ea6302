//! Under which key a response is kept: what was asked for, and what it depends on (RFC 9111,
//! section 4.1).
//!
//! The first key is made of host, path and query, and of what the configuration adds. If the
//! response there has `Vary`, only the names of those fields are kept under it, and each variant
//! under a second key, which has their values too. What forgets the names forgets all variants:
//! each list of names has a number of its own, which is part of the second keys.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Uri, header};

use crate::key::KeyValues;
use crate::request::Request;

/// A key. Header values may have any bytes but the line feeds between the parts.
pub(super) type CacheKey = Arc<[u8]>;

/// The key of what a request asks for; `by` is what the configuration adds.
pub(super) fn first(request: &Request, by: &KeyValues<'_>) -> CacheKey {
    of_target(request, &request.head().uri, by)
}

/// The key of what else a response concerns (RFC 9111, section 4.4): a reference of it, within the
/// same host.
pub(super) fn referred(request: &Request, reference: &str, by: &KeyValues<'_>) -> Option<CacheKey> {
    let uri: Uri = reference.parse().ok()?;
    let is_own = |authority: &str| authority.as_bytes().eq_ignore_ascii_case(host(request));
    let is_within = uri.authority().is_none_or(|authority| is_own(authority.as_str()));
    (is_within && uri.path().starts_with('/')).then(|| of_target(request, &uri, by))
}

fn host(request: &Request) -> &[u8] {
    request.head().headers.get(header::HOST).map_or(b"", |host| host.as_bytes())
}

fn of_target(request: &Request, uri: &Uri, by: &KeyValues<'_>) -> CacheKey {
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut key = host(request).to_ascii_lowercase();
    key.push(b'\n');
    key.extend_from_slice(target.as_bytes());
    for value in by.iter() {
        // With its length: it may have line feeds. None is another one than an empty one.
        match value {
            Some(value) => {
                key.extend_from_slice(format!("\n{}:", value.len()).as_bytes());
                key.extend_from_slice(value);
            }
            None => key.extend_from_slice(b"\n-"),
        }
    }
    key.into()
}

/// The fields of a request that a response depends on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct VaryNames {
    /// In order, each once.
    names: Box<[HeaderName]>,
    number: u64,
}

impl VaryNames {
    /// Those of a response; `None`: it depends on none. What is not the name of a field can't be
    /// one of a request.
    pub(super) fn of(response: &HeaderMap, number: u64) -> Option<Self> {
        let values = response.get_all(header::VARY).iter();
        let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        let mut names: Vec<_> =
            names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
        names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        names.dedup();
        (!names.is_empty()).then(|| Self { names: names.into(), number })
    }

    /// Whether these are the same fields, whatever their number.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.names == other.names
    }

    /// The key of the variant for this request.
    pub(super) fn second(&self, first: &CacheKey, request: &Request) -> CacheKey {
        let mut key = first.to_vec();
        key.extend_from_slice(format!("\n{}", self.number).as_bytes());
        for name in &self.names {
            key.extend_from_slice(b"\n");
            for (_, value) in request.headers().filter(|(other, _)| *other == name) {
                // The same list, however it is split and spaced, is the same value.
                for item in value.as_bytes().split(|byte| *byte == b',') {
                    key.extend_from_slice(item.trim_ascii());
                    key.push(b',');
                }
            }
        }
        key.into()
    }

    /// The bytes that they take.
    pub(super) fn weight(&self) -> usize {
        self.names.iter().map(|name| size_of::<HeaderName>() + name.as_str().len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::SystemTime;

    fn request(uri: &str, fields: &[(&'static str, &'static str)]) -> Request {
        let mut request = http::Request::get(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        Request::new(HeaderValue::from_static("1"), "r".into(), head, SystemTime::UNIX_EPOCH)
    }

    fn vary(value: &'static str) -> Option<VaryNames> {
        let value = HeaderValue::from_static(value);
        VaryNames::of(&[(header::VARY, value)].into_iter().collect(), 1)
    }

    #[test]
    fn the_first_key_is_host_path_and_query() {
        let key = |uri, host| first(&request(uri, &[("host", host)]), &KeyValues::default());
        assert_eq!(key("/a?b=c", "B.example"), key("http://x/a?b=c", "b.example"));
        for other in [("/a", "b.example"), ("/a?b=d", "b.example"), ("/a?b=c", "c.example")] {
            assert_ne!(key("/a?b=c", "b.example"), key(other.0, other.1), "{other:?}");
        }
    }

    #[test]
    fn a_reference_counts_within_the_same_host_only() {
        let request = request("/a", &[("host", "b.example")]);
        let own =
            first(&super::tests::request("/c", &[("host", "b.example")]), &KeyValues::default());
        for same in ["/c", "http://b.example/c", "http://B.EXAMPLE/c"] {
            assert_eq!(
                referred(&request, same, &KeyValues::default()).as_ref(),
                Some(&own),
                "{same}"
            );
        }
        for other in ["http://c.example/c", "c", ""] {
            assert_eq!(referred(&request, other, &KeyValues::default()), None, "{other}");
        }
    }

    #[test]
    fn a_variant_has_the_values_of_all_fields_that_count() {
        let names = vary("accept , Accept-Encoding").unwrap();
        assert!(names.is_like(&vary("accept-encoding,accept,accept").unwrap()));
        assert_eq!(vary(" , "), None);
        let key = |fields: &[(&'static str, &'static str)]| {
            let request = request("/", fields);
            names.second(&first(&request, &KeyValues::default()), &request)
        };
        let one = key(&[("accept", "a, b"), ("x", "1")]);
        assert_eq!(one, key(&[("accept", "a"), ("accept", "b")]));
        for other in [
            &[("accept", "a")][..],
            &[("accept", "b, a")],
            &[("accept", "a, b"), ("accept-encoding", "gzip")],
            &[("accept-encoding", "a, b")],
            &[],
        ] {
            assert_ne!(one, key(other), "{other:?}");
        }
    }
}
