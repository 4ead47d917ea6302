//! The second listener: health, metrics, state, and the switches.
//!
//! Reading is open to whoever reaches the listener, which is why it belongs on loopback. Whatever
//! changes something needs the bearer token of `token_file`; without one it is refused.

mod components;
mod state;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fusebox_resilience::{Observers, Shown};
use fusebox_wasm::Components;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::compile::Policies;
use crate::observe::{self, ComponentSample, Log, Metrics, PolicySample, Scrape};
use crate::route::RouteTable;
use crate::server::WorkerLoad;

/// How long a client of the admin listener may take for a request head, and stay without one.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long its connection may last, whatever it does,
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);
/// and how many there may be: they take from the same files as the proxy's own.
const MAX_CONNECTIONS: usize = 64;

/// What the admin listener shows and moves.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) routes: Arc<RouteTable>,
    pub(crate) policies: Policies,
    pub(crate) components: Components,
    /// One change that may take long is made at a time: a component may take 64 MiB, and its
    /// compiling minutes.
    pub(crate) changes: Arc<Semaphore>,
    pub(crate) observers: Observers,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: Log,
    pub(crate) loads: Vec<Arc<WorkerLoad>>,
    pub(crate) token_file: Option<PathBuf>,
    /// Whether new requests are welcome.
    pub(crate) ready: AtomicBool,
}

impl Admin {
    /// Serves until it is dropped, and its connections with it.
    pub(crate) async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let admin = self.clone();
            connections.spawn_local(async move {
                let _place = place;
                let service = service_fn(move |request| {
                    let admin = admin.clone();
                    async move { Ok::<_, Infallible>(admin.answer(request).await) }
                });
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .serve_connection(TokioIo::new(stream), service);
                // Who asks here sees for himself when the connection breaks.
                timeout(CONNECTION_LIMIT, connection).await.ok();
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().trim_matches('/');
        let steps: Vec<&str> = path.split('/').collect();
        match (request.method(), &steps[..]) {
            (&Method::GET | &Method::HEAD, ["healthz"]) => text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, ["readyz"]) if self.ready.load(Ordering::Relaxed) => {
                text(StatusCode::OK, "ready\n")
            }
            (&Method::GET | &Method::HEAD, ["readyz"]) => {
                text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
            }
            (&Method::GET | &Method::HEAD, ["metrics"]) => self.metrics(),
            (&Method::GET | &Method::HEAD, ["state"]) => self.state(),
            (&Method::POST, ["policies", name, command]) => match self.authorize(&request).await {
                Ok(()) => self.command(name, command),
                Err(refusal) => refusal,
            },
            (&Method::POST, ["reload"]) => match self.authorize(&request).await {
                Ok(()) => self.reload().await,
                Err(refusal) => refusal,
            },
            (&Method::POST, ["components", name, "rollback"]) => {
                match self.authorize(&request).await {
                    Ok(()) => self.roll_back((*name).to_owned()).await,
                    Err(refusal) => refusal,
                }
            }
            (&Method::PUT, ["components", name]) => match self.authorize(&request).await {
                Ok(()) => {
                    let name = (*name).to_owned();
                    self.push(name, request.into_body()).await
                }
                Err(refusal) => refusal,
            },
            (_, ["healthz" | "readyz" | "metrics" | "state"]) => not_allowed("GET, HEAD"),
            (_, ["policies", _, _] | ["reload"] | ["components", _, "rollback"]) => {
                not_allowed("POST")
            }
            (_, ["components", _]) => not_allowed("PUT"),
            _ => text(
                StatusCode::NOT_FOUND,
                "GET /healthz, /readyz, /metrics, /state; POST /reload, /policies/NAME/COMMAND, \
                 /components/NAME/rollback; PUT /components/NAME\n",
            ),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let policies = self.policies.iter().map(|(name, policy)| PolicySample {
            name: name.clone(),
            kind: policy.kind(),
            shown: policy.show(),
        });
        let policies = policies.collect();
        let components = self.components.status().into_iter().map(|status| ComponentSample {
            name: status.name,
            version: status.version,
            standing: status.standing,
            calls: status.calls,
            call_times: status.call_times,
            skipped: status.skipped,
            instances: status.instances as u64,
        });
        let components = components.collect();
        let scrape = Scrape { policies, components, log_lines_dropped: self.log.dropped() };
        let mut response = text(StatusCode::OK, self.metrics.render(&scrape));
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(observe::CONTENT_TYPE));
        response
    }

    fn state(&self) -> Response<Full<Bytes>> {
        json(StatusCode::OK, &state::of(self))
    }

    fn command(&self, name: &str, command: &str) -> Response<Full<Bytes>> {
        let Some(policy) = self.policies.get(name) else {
            return text(StatusCode::NOT_FOUND, format!("no policy `{name}`\n"));
        };
        let (kind, commands) = (policy.kind(), policy.commands());
        if commands.is_empty() {
            let message = format!("`{name}` is a {kind}, which takes no command\n");
            return text(StatusCode::NOT_FOUND, message);
        }
        if !commands.contains(&command) {
            let message = format!("no command `{command}`; expected {}\n", commands.join(", "));
            return text(StatusCode::NOT_FOUND, message);
        }
        policy.command(command, &self.observers);
        let state = policy.show().into_iter().find_map(|(_, shown)| match shown {
            Shown::Word { is, .. } => Some(is),
            _ => None,
        });
        text(StatusCode::OK, format!("{name}: {}\n", state.unwrap_or(command)))
    }

    /// Whether the request carries the token. The file is read each time, so that a rotated token
    /// takes effect.
    async fn authorize(&self, request: &Request<Incoming>) -> Result<(), Response<Full<Bytes>>> {
        let Some(file) = &self.token_file else {
            return Err(text(
                StatusCode::FORBIDDEN,
                "nothing can be changed here without `[admin] token_file`\n",
            ));
        };
        let Some(expected) = read_token(file).await else {
            return Err(text(
                StatusCode::FORBIDDEN,
                "the `[admin] token_file` can't be read, or is empty\n",
            ));
        };
        let given = request
            .headers()
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_at_checked(7))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
            .map(|(_, token)| token);
        if given.is_some_and(|given| given.ct_eq(expected.as_bytes()).into()) {
            return Ok(());
        }
        let mut refusal = text(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong\n");
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refusal)
    }
}

async fn read_token(file: &Path) -> Option<String> {
    let file = file.to_owned();
    let read = move || {
        std::fs::metadata(&file).ok()?.is_file().then(|| std::fs::read_to_string(&file).ok())?
    };
    let text = spawn_blocking(read).await.ok()??;
    let token = text.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = text(status, format!("{value:#}\n"));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("{allow} only\n"));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}
