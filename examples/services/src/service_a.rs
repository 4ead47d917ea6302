//! Service A: says hello, and what B says, for which it calls B through fusebox.
//!
//! There is no resilience in it: no timeout, no retry, no breaker, no fallback. It asks once, waits
//! for as long as it takes, and shows what went wrong. All the rest is what fusebox is for.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail};
use bytes::Bytes;
use fusebox_resilience::GrpcStatus;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header, request};
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;

use crate::answer::AnswerBody;
use crate::grpc;
use crate::log::REQUEST_ID;
use crate::server::Service;

/// The longest body that is read from B.
const MOST: usize = 64 * 1024;

/// B's URL, with the scheme `http`.
#[derive(Clone, Debug)]
pub struct UpstreamUrl(Uri);

impl FromStr for UpstreamUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .ok()
            .filter(|url: &Uri| {
                url.scheme_str() == Some("http") && url.host().is_some_and(|host| !host.is_empty())
            })
            .map(Self)
            .ok_or_else(|| "expected a URL such as `http://127.0.0.1:3002`".to_owned())
    }
}

impl fmt::Display for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Says hello on `/`.
#[derive(Debug)]
pub struct ServiceA {
    upstream: UpstreamUrl,
    by: CalledBy,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// How B is called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CalledBy {
    Http,
    Grpc {
        /// What is said of how long it may take.
        timeout: Option<HeaderValue>,
    },
}

/// The result of a call.
struct Heard {
    /// B's message, or why there is none.
    message: anyhow::Result<String>,
    /// The request id in the answer.
    request_id: Option<HeaderValue>,
}

impl ServiceA {
    /// A service that calls B at this URL.
    pub fn new(upstream: UpstreamUrl) -> Self {
        Self::calling(upstream, CalledBy::Http)
    }

    /// The same by gRPC, and with this `grpc-timeout`.
    pub fn by_grpc(upstream: UpstreamUrl, timeout: Option<HeaderValue>) -> Self {
        Self::calling(upstream, CalledBy::Grpc { timeout })
    }

    fn calling(upstream: UpstreamUrl, by: CalledBy) -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .http2_only(by != CalledBy::Http)
            .build_http();
        Self { upstream, by, client }
    }

    /// Calls B. Dropping the future cancels the call, which fusebox notices.
    async fn ask(&self, request_id: Option<&HeaderValue>) -> Heard {
        let mut request = match &self.by {
            CalledBy::Http => to(self.upstream.0.clone()),
            CalledBy::Grpc { timeout } => self.grpc_request(timeout.as_ref()),
        };
        if let Some(request_id) = request_id {
            request.headers_mut().insert(REQUEST_ID, request_id.clone());
        }
        match self.client.request(request).await {
            Ok(response) => {
                let request_id = response.headers().get(REQUEST_ID).cloned();
                let message = match self.by {
                    CalledBy::Http => read(response).await,
                    CalledBy::Grpc { .. } => read_grpc(response).await,
                };
                Heard { message, request_id }
            }
            Err(error) => Heard { message: Err(error.into()), request_id: None },
        }
    }

    fn grpc_request(&self, timeout: Option<&HeaderValue>) -> Request<Full<Bytes>> {
        let mut parts = self.upstream.0.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::from_static(grpc::HELLO));
        let mut request = to(Uri::from_parts(parts).unwrap_or_default());
        *request.method_mut() = Method::POST;
        // It has no fields.
        *request.body_mut() = Full::new(grpc::framed(&[]));
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, grpc::CONTENT_TYPE);
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        if let Some(timeout) = timeout {
            headers.insert(grpc::TIMEOUT, timeout.clone());
        }
        request
    }
}

fn to(uri: Uri) -> Request<Full<Bytes>> {
    let mut request = Request::default();
    *request.uri_mut() = uri;
    request
}

async fn collect(body: Incoming) -> anyhow::Result<Collected<Bytes>> {
    let body = Limited::new(body, MOST).collect().await.map_err(anyhow::Error::from_boxed);
    body.context("the answer broke off")
}

async fn read_grpc(response: Response<Incoming>) -> anyhow::Result<String> {
    let (head, body) = response.into_parts();
    let body = collect(body).await?;
    // The head says it if there is nothing else.
    let end = body.trailers().unwrap_or(&head.headers);
    let status = GrpcStatus::said(end).unwrap_or_else(|| GrpcStatus::of_http(head.status));
    if status != GrpcStatus::Ok {
        let reason = end.get(grpc::MESSAGE).and_then(|reason| reason.to_str().ok());
        bail!("grpc {}: {}", status.number(), reason.unwrap_or(status.name()));
    }
    grpc::text(&body.to_bytes()).context("unusable answer")
}

async fn read(response: Response<Incoming>) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct Hello {
        message: String,
    }
    let (head, body) = response.into_parts();
    let body = collect(body).await?.to_bytes();
    if !head.status.is_success() {
        bail!(problem(&head.headers, &body).unwrap_or_else(|| head.status.to_string()));
    }
    serde_json::from_slice(&body).map(|Hello { message }| message).context("unusable answer")
}

impl Service for ServiceA {
    fn route(&self, path: &str) -> &'static str {
        if path == "/" { "/" } else { "" }
    }

    async fn answer(&self, request: &request::Parts) -> Option<Response<AnswerBody>> {
        if request.uri.path() != "/" {
            return Some(text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()));
        }
        if request.method != Method::GET {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, String::new());
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
            return Some(response);
        }
        let Heard { message, request_id } = self.ask(request.headers.get(REQUEST_ID)).await;
        let mut response = match message {
            Ok(message) => {
                let message = serde_json::Value::from(message);
                let body =
                    format!(r#"{{"messageA": "hello from service A","messageB": {message}}}"#);
                let mut response = Response::new(AnswerBody::new(body));
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(error) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, format!("`{}`: {error:#}", self.upstream))
            }
        };
        if let Some(request_id) = request_id {
            response.headers_mut().insert(REQUEST_ID, request_id);
        }
        Some(response)
    }
}

/// The title of a problem (RFC 9457), which is how fusebox says why there is no answer of B's.
fn problem(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Problem {
        title: String,
    }
    headers
        .get(header::CONTENT_TYPE)
        .filter(|kind| kind.as_bytes().starts_with(b"application/problem+json"))?;
    serde_json::from_slice(body).map(|Problem { title }| title).ok()
}

fn text(status: StatusCode, text: String) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::new(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
