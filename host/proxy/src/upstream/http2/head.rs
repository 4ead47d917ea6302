//! A request's head as HTTP/2 has it.

use bytes::Bytes;
use fusebox_resilience::is_grpc;
use h2::ext::Protocol;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version, header, request};

use super::super::fields::Fields;
use crate::config::EndpointUrl;
use crate::headers::{TakesTrailers, mark_if_passing};
use crate::websocket;

/// Room for what is added to a client's headers, so that the map does not grow.
const ADDED: usize = 8;

const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// The head of a request with these fields. Of its body this length is known, if one is.
///
/// # Errors
/// With the endpoint's base path its target is not one.
pub(super) fn head(
    of_client: &request::Parts,
    fields: &Fields<'_>,
    endpoint: &EndpointUrl,
    length: Option<u64>,
) -> Result<Request<()>, http::Error> {
    let mut head = Request::new(());
    head.method_mut().clone_from(&of_client.method);
    *head.version_mut() = Version::HTTP_2;
    *head.uri_mut() = target(&of_client.uri, fields.host(), endpoint)?;
    let headers = head.headers_mut();
    headers.reserve(of_client.headers.len() + ADDED);
    for (name, value) in fields.others() {
        match *name {
            // The body says how long it is; that there is none may be said too.
            header::CONTENT_LENGTH if length != Some(0) || value != "0" => {}
            // HTTP/2 has no upgrade: what wants one goes as what it is without.
            header::TE | header::CONNECTION | header::UPGRADE => {}
            _ => {
                let mut value = value.clone();
                mark_if_passing(name, &mut value);
                headers.append(name, value);
            }
        }
    }
    if let Some(length) = length.filter(|length| *length > 0) {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    // Servers of gRPC refuse what does not say so, and a hop before may have dropped it.
    if of_client.extensions.get::<TakesTrailers>().is_some() || is_grpc(&of_client.headers) {
        headers.insert(header::TE, TRAILERS);
    }
    Ok(head)
}

/// The head of an extended CONNECT (RFC 8441), by which a request asks for a tunnel in which this
/// is spoken.
///
/// # Errors
/// As of other requests.
pub(super) fn connect(
    of_client: &request::Parts,
    fields: &Fields<'_>,
    endpoint: &EndpointUrl,
    protocol: &str,
) -> Result<Request<()>, http::Error> {
    let mut head = head(of_client, fields, endpoint, None)?;
    *head.method_mut() = Method::CONNECT;
    // There are no keys here.
    head.headers_mut().remove(websocket::KEY);
    head.extensions_mut().insert(Protocol::from(protocol));
    Ok(head)
}

/// What is asked for, and of whom.
fn target(of_client: &Uri, host: &HeaderValue, endpoint: &EndpointUrl) -> Result<Uri, http::Error> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(if endpoint.is_secure { Scheme::HTTPS } else { Scheme::HTTP });
    // A client of HTTP/1.0 need not name a host.
    let authority = Authority::try_from(host.as_bytes());
    parts.authority =
        Some(authority.or_else(|_| Authority::try_from(endpoint.authority().as_bytes()))?);
    let path = match (endpoint.path(of_client), of_client.path_and_query()) {
        // What is there already is not parsed again.
        (["", "", _], Some(path)) => path.clone(),
        (path, _) => PathAndQuery::from_maybe_shared(Bytes::from(path.concat()))?,
    };
    parts.path_and_query = Some(path);
    Ok(Uri::from_parts(parts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_authority_and_the_whole_target_are_asked_for() {
        let asked = |base: &str, host: &'static str, uri: &str| {
            let endpoint = EndpointUrl::parse(base).unwrap();
            let host = HeaderValue::from_static(host);
            target(&uri.parse().unwrap(), &host, &endpoint).unwrap().to_string()
        };
        assert_eq!(asked("http://b:1", "a.example", "/x?y=1"), "http://a.example/x?y=1");
        assert_eq!(asked("http://b:1/base/", "a:2", "/x"), "http://a:2/base/x");
        assert_eq!(asked("http://b:1", "a", "http://a?y"), "http://a/?y");
        assert_eq!(asked("http://b:1", "", "/"), "http://b:1/");
        assert_eq!(asked("https://b", "a", "/"), "https://a/");
    }
}
