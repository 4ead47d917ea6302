//! Preconditions: what a client that has the response already gets (RFC 9110, section 13), and
//! what the upstream's word that one is still valid changes in it (RFC 9111, sections 3.2 and
//! 4.3.4).

use fusebox_head::FieldLookup;
use http::{HeaderMap, HeaderName, StatusCode, header};

use super::rules::date;
use crate::request::Request;

/// Fields of a 304 that say nothing of the response which is kept.
const NOT_UPDATED: [HeaderName; 5] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::AGE,
];

/// The fields of a 304 for a client (RFC 9110, section 15.4.5).
const OF_NOT_MODIFIED: [HeaderName; 7] = [
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::VARY,
];

/// Whether the client has this response already.
pub(super) fn has_already(request: &Request, status: StatusCode, headers: &HeaderMap) -> bool {
    if status != StatusCode::OK {
        return false;
    }
    let asked = &request.head().headers;
    if asked.contains_key(header::IF_NONE_MATCH) {
        let own = headers.get(header::ETAG).map(|tag| opaque(tag.as_bytes()));
        let values = asked.get_all(header::IF_NONE_MATCH).iter();
        let mut tags = values.flat_map(|value| Tags(value.as_bytes()));
        return tags.any(|tag| tag == b"*" || Some(opaque(tag)) == own);
    }
    let known = date(asked.get(header::IF_MODIFIED_SINCE));
    let changed = date(headers.get(header::LAST_MODIFIED).or_else(|| headers.get(header::DATE)));
    known.zip(changed).is_some_and(|(known, changed)| changed <= known)
}

/// A tag without the mark of a weak one: a GET compares so.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The tags of a list. One may have commas within its quotes.
struct Tags<'a>(&'a [u8]);

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let is_between = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
        let start = self.0.iter().position(|byte| !is_between(byte))?;
        let rest = &self.0[start..];
        let mut quotes = 0;
        let is_end = |byte: &u8| {
            quotes += usize::from(*byte == b'"');
            *byte == b',' && quotes % 2 == 0
        };
        let end = rest.iter().position(is_end).unwrap_or(rest.len());
        self.0 = &rest[end..];
        Some(rest[..end].trim_ascii())
    }
}

/// The fields that a client gets which has the response already.
pub(super) fn not_modified(headers: &HeaderMap) -> HeaderMap {
    let fields = headers.iter().filter(|(name, _)| OF_NOT_MODIFIED.contains(name));
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Whether a 304 is about this response: it names no other one.
pub(super) fn is_about(kept: &HeaderMap, update: &impl FieldLookup) -> bool {
    let tags = kept.first(&header::ETAG).zip(update.first(&header::ETAG));
    tags.is_none_or(|(kept, new)| opaque(kept) == opaque(new))
}

/// The fields of a kept response with those of the 304 about it in place of older ones.
pub(super) fn updated(kept: &HeaderMap, update: &HeaderMap) -> HeaderMap {
    let mut headers = kept.clone();
    let names = update.keys().filter(|name| !NOT_UPDATED.contains(name));
    for name in names {
        headers.remove(name);
        for value in update.get_all(name) {
            headers.append(name.clone(), value.clone());
        }
    }
    if let Some(age) = update.get(header::AGE) {
        headers.insert(header::AGE, age.clone());
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use std::time::SystemTime;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn has(asked: &[(&str, &str)], kept: &[(&str, &str)]) -> bool {
        let (mut head, ()) = http::Request::get("/").body(()).unwrap().into_parts();
        head.headers = headers(asked);
        let id = HeaderValue::from_static("1");
        let request = Request::new(id, "r".into(), head, SystemTime::UNIX_EPOCH);
        has_already(&request, StatusCode::OK, &headers(kept))
    }

    #[test]
    fn tags_are_compared_weakly_and_before_dates() {
        for (asked, kept, expected) in [
            ("\"a\"", "\"a\"", true),
            ("W/\"a\"", "\"a\"", true),
            ("\"a\"", "W/\"a\"", true),
            ("\"b\", \"a\"", "\"a\"", true),
            ("\"b,\" , W/\"a,b\"", "\"a,b\"", true),
            ("*", "\"a\"", true),
            ("\"b\"", "\"a\"", false),
            ("\"a", "\"a\"", false),
            ("a", "\"a\"", false),
            ("", "\"a\"", false),
        ] {
            assert_eq!(has(&[("if-none-match", asked)], &[("etag", kept)]), expected, "{asked}");
        }
        let (early, late) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        let since = |asked, kept| has(&[("if-modified-since", asked)], &[("last-modified", kept)]);
        assert!(since(late, late) && since(late, early) && !since(early, late));
        assert!(!since("soon", early) && !since(late, "once"));
        assert!(has(&[("if-modified-since", late)], &[("date", early)]));
        let both = [("if-none-match", "\"b\""), ("if-modified-since", late)];
        assert!(!has(&both, &[("etag", "\"a\""), ("last-modified", early)]));
    }

    #[test]
    fn an_update_replaces_fields_but_not_those_of_the_body() {
        let kept = headers(&[("etag", "\"a\""), ("x", "1"), ("x", "2"), ("content-length", "3")]);
        let update = headers(&[("x", "3"), ("content-length", "0"), ("y", "1"), ("age", "4")]);
        let expected = headers(&[
            ("etag", "\"a\""),
            ("x", "3"),
            ("content-length", "3"),
            ("y", "1"),
            ("age", "4"),
        ]);
        assert_eq!(updated(&kept, &update), expected);
        assert!(is_about(&kept, &update) && is_about(&kept, &headers(&[("etag", "W/\"a\"")])));
        assert!(!is_about(&kept, &headers(&[("etag", "\"b\"")])));
    }
}
