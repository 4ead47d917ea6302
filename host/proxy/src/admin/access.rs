//! Who may ask what: hosts and origins, against pages in a browser that reach for what listens on
//! this machine (DNS rebinding), and the token, for changes.

use std::net::IpAddr;
use std::path::Path;

use http::uri::Authority;
use http::{HeaderMap, Uri, header};
use subtle::ConstantTimeEq;
use tokio::task::spawn_blocking;

/// Whether a request is for this listener by name. `hosts` are the configured ones.
pub(super) fn is_for_us(uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> bool {
    let named = |authority: Option<&Authority>| {
        authority.is_some_and(|authority| is_own(authority.host(), hosts))
    };
    if uri.authority().is_some() {
        return named(uri.authority());
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    named(host.as_ref())
}

/// Whether no page of another host makes the request.
pub(super) fn is_of_no_other_page(headers: &HeaderMap, hosts: &[String]) -> bool {
    headers.get_all(header::ORIGIN).iter().all(|origin| {
        let origin: Option<Uri> = origin.to_str().ok().and_then(|origin| origin.parse().ok());
        origin.is_some_and(|origin| {
            let host = origin.host().filter(|_| origin.scheme().is_some());
            host.is_some_and(|host| is_own(host, hosts))
        })
    })
}

/// An address can't be rebound.
fn is_own(host: &str, hosts: &[String]) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|own| own.eq_ignore_ascii_case(host))
}

/// Whether a request has this bearer token.
pub(super) fn has_token(headers: &HeaderMap, expected: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().split_at_checked(7))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map(|(_, token)| token);
    given.is_some_and(|given| given.ct_eq(expected.as_bytes()).into())
}

/// The token in a file. It is read each time, so that a new token takes effect at once.
pub(super) async fn read_token(file: &Path) -> Option<String> {
    let file = file.to_owned();
    let read = move || {
        std::fs::metadata(&file).ok()?.is_file().then(|| std::fs::read_to_string(&file).ok())?
    };
    let text = spawn_blocking(read).await.ok()??;
    let token = text.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_localhost_or_one_that_is_configured() {
        let hosts = ["fusebox.internal".to_owned()];
        let asked = |host: &'static str| {
            let headers = [(header::HOST, host.parse().unwrap())].into_iter().collect();
            is_for_us(&Uri::from_static("/state"), &headers, &hosts)
        };
        for host in ["127.0.0.1:9901", "[::1]:9901", "::1", "LocalHost:1", "Fusebox.Internal:9901"]
        {
            assert_eq!(asked(host), host != "::1", "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", ""] {
            assert!(!asked(host), "{host}");
        }
        assert!(!is_for_us(&Uri::from_static("/state"), &HeaderMap::new(), &hosts));
        let absolute = Uri::from_static("http://evil.example/state");
        let headers = [(header::HOST, "localhost".parse().unwrap())].into_iter().collect();
        assert!(!is_for_us(&absolute, &headers, &hosts));
    }

    #[test]
    fn an_origin_is_one_of_these_too() {
        let from = |origin: &'static str| {
            let headers = [(header::ORIGIN, origin.parse().unwrap())].into_iter().collect();
            is_of_no_other_page(&headers, &[])
        };
        assert!(is_of_no_other_page(&HeaderMap::new(), &[]));
        for own in ["http://127.0.0.1:9901", "http://localhost", "https://[::1]:1"] {
            assert!(from(own), "{own}");
        }
        for other in ["http://evil.example", "null", "localhost", "", "file://"] {
            assert!(!from(other), "{other}");
        }
    }
}
