//! A request of HTTP/2 (RFC 9113, section 8.3) as the head that it would have in HTTP/1.1.
//!
//! `h2` has refused what is malformed by itself: pseudo-headers that are missing, twice or behind
//! others, names with capitals, headers of a connection, a length that is none or several.

use bytes::BytesMut;
use fusebox_http1::{Framing, HttpExchange, MAX_HEADERS, RequestFault, RequestHead, is_shadow};
use h2::ext::Protocol;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, request};

use crate::headers::put_upgrade;

/// The head of a request, whose authority, if it has one, is its `Host`.
///
/// # Errors
/// It can't be used.
pub(super) fn head(parts: request::Parts) -> Result<RequestHead, RequestFault> {
    let request::Parts { mut method, uri, version, mut headers, mut extensions, .. } = parts;
    let protocol = extensions.remove::<Protocol>();
    if method == Method::CONNECT && protocol.is_none() {
        return Err(RequestFault::Connect);
    }
    if uri.scheme().is_some_and(|scheme| *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS) {
        return Err(RequestFault::Target);
    }
    let (authority, path) = (uri.authority(), uri.path_and_query());
    let target = path.and_then(|path| target(&method, path)).ok_or(RequestFault::Target)?;
    if let Some(authority) = authority {
        name_host(&mut headers, authority);
    }
    if let Some(protocol) = protocol {
        // To all others it is what it is over HTTP/1.1. What follows is no body.
        method = Method::GET;
        headers.remove(header::CONTENT_LENGTH);
        put_upgrade(&mut headers, token(&protocol).ok_or(RequestFault::FieldValue)?);
    }
    // One look at all names costs less than a lookup for each.
    let (mut has_cookie, mut has_length, mut has_shadow) = (false, false, false);
    for name in headers.keys() {
        match *name {
            header::COOKIE => has_cookie = true,
            header::CONTENT_LENGTH => has_length = true,
            _ => has_shadow |= is_shadowed(name),
        }
    }
    if has_cookie {
        join_cookies(&mut headers);
    }
    if has_shadow {
        drop_shadows(&mut headers);
    }
    if has_length {
        unite_lengths(&mut headers);
    }
    if headers.len() > MAX_HEADERS {
        return Err(RequestFault::TooManyFields);
    }
    if let Some(fault) = fault_of(&headers) {
        return Err(fault);
    }
    let (framing, exchange) = (Framing::Length(0), HttpExchange::without_request());
    Ok(RequestHead { method, target, version, headers, framing, exchange })
}

/// What `h2` lets pass and makes a request malformed (RFC 9113, section 8.2.1): a quote in a name,
/// and a blank before or behind a value. Who reads it as HTTP/1 would read something else.
pub(super) fn fault_of(fields: &HeaderMap) -> Option<RequestFault> {
    if fields.keys().any(|name| name.as_str().contains('"')) {
        return Some(RequestFault::FieldName);
    }
    let has_blank = |value: &HeaderValue| value.as_bytes().trim_ascii().len() < value.len();
    fields.values().any(has_blank).then_some(RequestFault::FieldValue)
}

fn target(method: &Method, path: &PathAndQuery) -> Option<Uri> {
    let is_known = match path.as_str() {
        "*" => method == Method::OPTIONS,
        path => path.starts_with('/') && path.is_ascii(),
    };
    is_known.then(|| Uri::from(path.clone()))
}

/// The name of a protocol.
fn token(protocol: &Protocol) -> Option<HeaderValue> {
    // Both are tokens.
    HeaderName::from_bytes(protocol.as_ref()).ok()?;
    HeaderValue::from_bytes(protocol.as_ref()).ok()
}

/// A `Host` that says something else makes two of them, which no request may have.
fn name_host(headers: &mut HeaderMap, authority: &Authority) {
    let mut said = headers.get_all(header::HOST).iter();
    let is_same =
        |host: &HeaderValue| host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
    let is_one = match said.next() {
        Some(host) => is_same(host) && said.next().is_none(),
        None => false,
    };
    // An authority is made of characters that a value may have.
    if !is_one && let Ok(host) = HeaderValue::from_str(authority.as_str()) {
        headers.append(header::HOST, host);
    }
}

/// They may come in pieces, which HTTP/1 does not know (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(header::COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return;
    }
    let mut joined = BytesMut::new();
    for piece in headers.get_all(header::COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(piece.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(header::COOKIE, joined);
    }
}

fn is_shadowed(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.contains('_') && is_shadow(name.as_bytes())
}

fn drop_shadows(headers: &mut HeaderMap) {
    let shadows: Vec<_> = headers.keys().filter(|name| is_shadowed(name)).cloned().collect();
    for name in shadows {
        headers.remove(name);
    }
}

/// Several are the same; digits that are one number may be read as another.
fn unite_lengths(headers: &mut HeaderMap) {
    let length = length(headers);
    if let Some(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
}

/// The length that a head announces.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    str::from_utf8(headers.get(header::CONTENT_LENGTH)?.as_bytes()).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn taken(request: request::Builder) -> Result<RequestHead, RequestFault> {
        head(request.body(()).expect("a request").into_parts().0)
    }

    fn values<'a>(head: &'a RequestHead, name: &str) -> Vec<&'a str> {
        head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn the_authority_is_the_host_and_another_one_makes_two() {
        let host = |hosts: &[&str]| {
            let mut request = Request::get("http://a:1/x?y");
            for host in hosts {
                request = request.header("host", *host);
            }
            let head = taken(request).expect("a head");
            assert_eq!(head.target, "/x?y");
            values(&head, "host").join(",")
        };
        assert_eq!(host(&[]), "a:1");
        assert_eq!(host(&["A:1"]), "A:1");
        assert_eq!(host(&["b"]), "b,a:1");
        assert_eq!(host(&["a:1", "a:1"]), "a:1,a:1,a:1");
        let head = taken(Request::get("/").header("host", "b")).expect("a head");
        assert_eq!(values(&head, "host"), ["b"]);
    }

    #[test]
    fn a_target_is_a_path_or_a_star_for_options() {
        let target = |method: &str, target: &str| {
            let mut parts = http::uri::Parts::default();
            parts.path_and_query = Some(target.parse().expect("a path"));
            let uri = Uri::from_parts(parts).expect("a target");
            taken(Request::builder().method(method).uri(uri)).map(|head| head.target.to_string())
        };
        assert_eq!(target("GET", "/a?b").as_deref(), Ok("/a?b"));
        assert_eq!(target("OPTIONS", "*").as_deref(), Ok("*"));
        assert_eq!(target("GET", "*"), Err(RequestFault::Target));
        assert_eq!(target("GET", "/\u{e4}"), Err(RequestFault::Target));
        assert_eq!(
            taken(Request::connect("a:1")).map(|head| head.target),
            Err(RequestFault::Connect)
        );
    }

    #[test]
    fn a_scheme_is_one_of_two() {
        let scheme = |uri: &str| taken(Request::get(uri)).map(|_| ());
        assert_eq!([scheme("http://a/"), scheme("https://a/")], [Ok(()), Ok(())]);
        assert_eq!(scheme("ftp://a/"), Err(RequestFault::Target));
    }

    #[test]
    fn cookies_are_one_shadows_are_gone_and_a_length_is_plain() {
        let head = taken(
            Request::post("/")
                .header("cookie", "a=1")
                .header("x", "1")
                .header("cookie", "b=2")
                .header("content_length", "7")
                .header("x_forwarded_for", "1")
                .header("x_own", "1")
                .header("content-length", "007")
                .header("content-length", "7"),
        )
        .expect("a head");
        assert_eq!(values(&head, "cookie"), ["a=1; b=2"]);
        assert_eq!(values(&head, "content-length"), ["7"]);
        let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "cookie", "x", "x_own"]);
    }

    #[test]
    fn there_may_be_so_many_headers_a_cookie_in_pieces_being_one() {
        let with = |name: &str, count: usize| {
            let names = (0..count).map(|number| name.replace('N', &number.to_string()));
            let request = names.fold(Request::get("/"), |request, name| request.header(name, "1"));
            taken(request).map(|head| head.headers.len())
        };
        assert_eq!(with("cookie", 2 * MAX_HEADERS), Ok(1));
        assert_eq!(with("x-N", MAX_HEADERS), Ok(MAX_HEADERS));
        assert_eq!(with("x-N", MAX_HEADERS + 1), Err(RequestFault::TooManyFields));
    }
}
