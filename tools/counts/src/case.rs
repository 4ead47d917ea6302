//! The cases: a configuration of the program, the client's request and the upstream's responses.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};

/// A body of the usual length of a small JSON service.
const ANSWER: &str = r#"{"message":"hello from service B"}"#;

const LARGE: usize = 64 << 10;

/// A message of gRPC: whether it is compressed, and its length, stand before it.
const MESSAGE: &[u8] = b"\0\0\0\0\x21hello from service B, over HTTP/2";

/// The type of a call of gRPC and its answer, which ends with trailers.
const GRPC: &str = "application/grpc";

/// Policies that a route may name.
const POLICIES: [(&str, &str); 9] = [
    ("fallback", r#"{ kind = "fallback", respond = { status = 200, body = "{}" } }"#),
    ("retry", r#"{ kind = "retry" }"#),
    ("retry-at-once", r#"{ kind = "retry", delay = "0ms", budget = "none" }"#),
    ("breaker", r#"{ kind = "circuit-breaker" }"#),
    ("tolerant-breaker", r#"{ kind = "circuit-breaker", failure_threshold = 5 }"#),
    ("timeout", r#"{ kind = "timeout", limit = "60s" }"#),
    ("wasm-retry", r#"{ kind = "retry", handle_if = { component = "service-b" } }"#),
    (
        "wasm-only-retry",
        r#"{ kind = "retry", handle_if.component = "service-b", handle_if.only.status = ["5xx"] }"#,
    ),
    (
        "wasm-fallback",
        concat!(
            r#"{ kind = "fallback", handle_if = { component = "service-b" }, "#,
            r#"respond = { component = "service-b" } }"#
        ),
    ),
];

/// What a peer speaks, without TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PeerProtocol {
    Http1,
    Http2,
}

/// A case.
#[derive(Debug)]
pub(crate) struct CountedCase {
    pub(crate) name: &'static str,
    /// Its description in the table.
    pub(crate) about: &'static str,
    /// The route's policies, outermost first.
    policies: &'static [&'static str],
    access_log: bool,
    /// The statuses of the upstream's responses, in turn.
    pub(crate) statuses: &'static [u16],
    /// The status that the client receives.
    pub(crate) expected: u16,
    body: usize,
    /// A unary call of gRPC.
    grpc: bool,
    pub(crate) client: PeerProtocol,
    pub(crate) upstream: PeerProtocol,
}

/// The case that the others are variations of.
const SIMPLE: CountedCase = CountedCase {
    name: "plain",
    about: "no policy",
    policies: &[],
    access_log: false,
    statuses: &[200],
    expected: 200,
    body: 0,
    grpc: false,
    client: PeerProtocol::Http1,
    upstream: PeerProtocol::Http1,
};

/// All cases.
pub(crate) const CASES: &[CountedCase] = &[
    SIMPLE,
    CountedCase {
        name: "log",
        about: "no policy, with the access log",
        access_log: true,
        ..SIMPLE
    },
    CountedCase { name: "bodies", about: "no policy, 64 KiB both ways", body: LARGE, ..SIMPLE },
    CountedCase {
        name: "native",
        about: "fallback, retry, breaker and timeout",
        policies: &["fallback", "retry", "breaker", "timeout"],
        ..SIMPLE
    },
    CountedCase {
        name: "retried",
        about: "the same; the first attempt gets a 503, and is repeated at once",
        policies: &["fallback", "retry-at-once", "tolerant-breaker", "timeout"],
        statuses: &[503, 200],
        ..SIMPLE
    },
    CountedCase {
        name: "wasm",
        about: "the same; a component is asked about every response",
        policies: &["fallback", "wasm-retry", "breaker", "timeout"],
        ..SIMPLE
    },
    CountedCase {
        name: "wasm-only",
        about: "the same; it would be asked about 5xx only",
        policies: &["fallback", "wasm-only-retry", "breaker", "timeout"],
        ..SIMPLE
    },
    CountedCase {
        name: "wasm-fallback",
        about: "a component takes a 503 for a failure and answers in its place",
        policies: &["wasm-fallback"],
        statuses: &[503],
        ..SIMPLE
    },
    CountedCase {
        name: "http2",
        about: "no policy, the client over HTTP/2",
        client: PeerProtocol::Http2,
        ..SIMPLE
    },
    CountedCase {
        name: "http2-both",
        about: "no policy, HTTP/2 on both sides",
        client: PeerProtocol::Http2,
        upstream: PeerProtocol::Http2,
        ..SIMPLE
    },
    CountedCase {
        name: "grpc",
        about: "a unary call of gRPC: fallback, retry, breaker and timeout",
        policies: &["fallback", "retry", "breaker", "timeout"],
        ..CALL
    },
    CountedCase {
        name: "grpc-wasm",
        about: "the same; a component is asked about every outcome",
        policies: &["fallback", "wasm-retry", "breaker", "timeout"],
        ..CALL
    },
];

const CALL: CountedCase = CountedCase {
    grpc: true,
    client: PeerProtocol::Http2,
    upstream: PeerProtocol::Http2,
    ..SIMPLE
};

impl CountedCase {
    /// The program's configuration.
    pub(crate) fn config(
        &self,
        upstream: SocketAddr,
        component: &Path,
        code_cache: &Path,
    ) -> String {
        let Self { access_log, policies, grpc, .. } = self;
        let mut config =
            format!("listen = '127.0.0.1:0'\nworkers = 1\nlog = {{ access = {access_log} }}\n");
        if policies.iter().any(|name| name.starts_with("wasm")) {
            config += &format!("[code_cache]\ndirectory = {code_cache:?}\n");
            config +=
                &format!("[components]\nservice-b = {{ file = {component:?}, timeout = '60s' }}\n");
        }
        config += "[policies]\n";
        for (name, policy) in POLICIES.iter().filter(|(name, _)| policies.contains(name)) {
            config += &format!("{name} = {policy}\n");
        }
        let protocol = match self.upstream {
            PeerProtocol::Http1 => "http1",
            PeerProtocol::Http2 => "http2",
        };
        config
            + &format!(
                "[[routes]]\nupstream = {{ url = 'http://{upstream}', protocol = '{protocol}' }}\n\
                 grpc = {grpc}\npolicies = {policies:?}\n"
            )
    }

    /// The client's request, which it repeats.
    pub(crate) fn request(&self) -> Request<Bytes> {
        let mut request = Request::get("http://service-b.example/items?page=2")
            .header(header::USER_AGENT, "counts")
            .header(header::ACCEPT, "*/*")
            .body(Bytes::from(vec![b'x'; self.body]))
            .expect("a valid request");
        if self.body > 0 {
            *request.method_mut() = Method::PUT;
            request.headers_mut().insert(header::CONTENT_LENGTH, self.body.into());
        }
        if self.grpc {
            *request.method_mut() = Method::POST;
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
            request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
            *request.body_mut() = Bytes::from_static(MESSAGE);
        }
        request
    }

    /// The upstream's responses, in turn.
    pub(crate) fn responses(&self) -> Vec<Response<Bytes>> {
        let (kind, body) = match self.body {
            _ if self.grpc => (GRPC, Bytes::from_static(MESSAGE)),
            0 => ("application/json", Bytes::from_static(ANSWER.as_bytes())),
            length => ("application/json", vec![b'x'; length].into()),
        };
        let response = |status: &u16| {
            let mut response = Response::builder()
                .status(*status)
                .header(header::CONTENT_TYPE, kind)
                .header(header::DATE, "Tue, 20 Aug 2024 08:37:36 GMT")
                .header(header::SERVER, "counts");
            if !self.grpc {
                response = response.header(header::CONTENT_LENGTH, body.len());
            }
            response.body(body.clone()).expect("a valid response")
        };
        self.statuses.iter().map(response).collect()
    }

    /// What each of them ends with, over HTTP/2.
    pub(crate) fn trailers(&self) -> Option<HeaderMap> {
        let status = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        self.grpc.then(|| HeaderMap::from_iter([status]))
    }
}
