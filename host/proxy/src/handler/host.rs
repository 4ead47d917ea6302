//! Finds the host that a request is for.

use std::cell::RefCell;
use std::rc::Rc;

use http::{HeaderValue, Method, Version, header, request};

/// Finds the hosts of requests. It remembers the last one, since most clients send many requests to
/// the same host.
#[derive(Debug, Default)]
pub(super) struct Hosts(RefCell<Option<KnownHost>>);

#[derive(Debug)]
struct KnownHost {
    header: HeaderValue,
    host: Rc<str>,
}

impl Hosts {
    /// The host of a request, without port and final dot; `None` if it is missing or not valid. An
    /// absolute target wins over the Host header and replaces it (RFC 9112, section 3.2.2).
    /// HTTP/1.0 needs no host.
    pub(super) fn canonical(&self, head: &mut request::Parts) -> Option<Rc<str>> {
        if head.method == Method::CONNECT {
            return None;
        }
        if let Some(authority) = head.uri.authority() {
            // Without a scheme it is the target of a CONNECT.
            head.uri.scheme()?;
            let value = HeaderValue::from_str(authority.as_str()).ok()?;
            head.headers.insert(header::HOST, value);
        }
        let mut headers = head.headers.get_all(header::HOST).iter();
        let Some(header) = headers.next() else {
            return (head.version == Version::HTTP_10).then(|| "".into());
        };
        if headers.next().is_some() {
            return None;
        }
        let mut known = self.0.borrow_mut();
        if let Some(known) = known.as_ref().filter(|known| known.header == header) {
            return Some(known.host.clone());
        }
        let host = without_port(header)?;
        // Copied, so that it does not keep the memory of the request.
        let header = HeaderValue::from_bytes(header.as_bytes()).ok()?;
        *known = Some(KnownHost { header, host: host.clone() });
        Some(host)
    }
}

fn without_port(header: &HeaderValue) -> Option<Rc<str>> {
    let authority: http::uri::Authority = header.to_str().ok()?.parse().ok()?;
    let host = authority.host();
    if !authority.as_str().strip_prefix(host).is_some_and(is_port) {
        return None;
    }
    // `b.example.` is `b.example`, said in full.
    let host = host.strip_suffix('.').filter(|host| !host.is_empty()).unwrap_or(host);
    Some(host.into())
}

/// Whether this is what may follow a host: nothing, or a port, which may be empty (RFC 3986,
/// section 3.2.3).
fn is_port(text: &str) -> bool {
    text.is_empty()
        || text.strip_prefix(':').is_some_and(|port| {
            let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
            is_number && (port.is_empty() || port.parse::<u16>().is_ok())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn host(request: request::Builder) -> Option<String> {
        let mut head = request.body(()).unwrap().into_parts().0;
        Hosts::default().canonical(&mut head).map(|host| host.to_string())
    }

    #[test]
    fn the_host_is_without_port_and_an_absolute_target_wins() {
        assert_eq!(host(Request::get("/").header("host", "b:3002")).as_deref(), Some("b"));
        assert_eq!(host(Request::get("/").header("host", "[::1]:3002")).as_deref(), Some("[::1]"));
        assert_eq!(host(Request::get("/").header("host", "b:65535")).as_deref(), Some("b"));
        assert_eq!(host(Request::get("/").header("host", "b:")).as_deref(), Some("b"));
        assert_eq!(host(Request::get("http://c:1/").header("host", "b")).as_deref(), Some("c"));
        assert_eq!(host(Request::get("/").header("host", "b.c.:80")).as_deref(), Some("b.c"));
        assert_eq!(host(Request::get("/").version(Version::HTTP_10)).as_deref(), Some(""));
    }

    #[test]
    fn a_missing_repeated_or_odd_host_is_refused() {
        assert_eq!(host(Request::get("/")), None);
        assert_eq!(host(Request::get("/").header("host", "a").header("host", "a")), None);
        for odd in [
            "", "a b", "u@b", "b/c", "b:x:y", "b:abc", "b:65536", "b:+80", "b:-1", "[::1]x", "[::1",
        ] {
            assert_eq!(host(Request::get("/").header("host", odd)), None, "{odd}");
        }
        assert_eq!(host(Request::get("http://c:99999/").header("host", "b")), None);
        assert_eq!(host(Request::connect("b:443").header("host", "b")), None);
        assert_eq!(host(Request::get("c.example").header("host", "b")), None);
    }

    #[test]
    fn the_host_remembered_is_that_of_the_same_header_only() {
        let hosts = Hosts::default();
        let mut canonical = |host: &str| {
            let mut head = Request::get("/").header("host", host).body(()).unwrap().into_parts().0;
            hosts.canonical(&mut head).map(|host| host.to_string())
        };
        let asked = ["a:1", "a:1", "b", "u@b", "b", "a"].map(&mut canonical);
        assert_eq!(asked.map(|host| host.unwrap_or_default()), ["a", "a", "b", "", "b", "a"]);
    }
}
