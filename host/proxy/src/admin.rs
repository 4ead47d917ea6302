//! The admin listener: health, metrics, state, and changes.
//!
//! Everybody who can reach it can read, so it belongs on loopback. Changes need the bearer token of
//! `token_file`; without such a file they are refused.

mod answer;
mod components;
mod state;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fusebox_resilience::{Observers, Shown};
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::observe::{self, ComponentSample, Log, Metrics, PolicySample, Scrape};
use crate::running::Running;
use crate::server::WorkerLoad;
use answer::{AdminAnswer, json, not_allowed, text};
use components::Switches;

/// How long a client may take for a request head, and stay without a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may last,
const CONNECTION_LIMIT: Duration = Duration::from_secs(300);
/// and how many there may be: they use the same file descriptors as the proxy's clients.
const MAX_CONNECTIONS: usize = 64;

/// What the admin listener shows and changes.
#[derive(Debug)]
pub(crate) struct Admin {
    running: Arc<Running>,
    switches: Switches,
    observers: Observers,
    metrics: Arc<Metrics>,
    log: Log,
    loads: Vec<Arc<WorkerLoad>>,
    token_file: Option<PathBuf>,
    /// Whether the proxy takes new requests.
    ready: AtomicBool,
}

impl Admin {
    /// An admin listener. Changes need the token in `token_file`.
    pub(crate) fn new(
        running: Arc<Running>,
        observers: Observers,
        metrics: Arc<Metrics>,
        log: Log,
        loads: Vec<Arc<WorkerLoad>>,
        token_file: Option<PathBuf>,
    ) -> Self {
        let switches = Switches::new(running.components.clone());
        let ready = AtomicBool::new(true);
        Self { running, switches, observers, metrics, log, loads, token_file, ready }
    }

    /// The proxy takes no new requests from here on.
    pub(crate) fn not_ready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Serves until it is dropped; its connections end with it.
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
                // Errors are not reported: the client sees them.
                timeout(CONNECTION_LIMIT, connection).await.ok();
            });
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> AdminAnswer {
        let path = request.uri().path().trim_matches('/');
        let steps: Vec<&str> = path.split('/').collect();
        match (request.method(), &steps[..]) {
            (&Method::GET | &Method::HEAD, ["healthz"]) => text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, ["readyz"]) => match self.unready() {
                None => text(StatusCode::OK, "ready\n"),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            (&Method::GET | &Method::HEAD, ["metrics"]) => self.metrics(),
            (&Method::GET | &Method::HEAD, ["state"]) => self.state(),
            (&Method::POST, ["policies", name, command]) => match self.authorize(&request).await {
                Ok(()) => self.command(name, command),
                Err(refusal) => refusal,
            },
            (&Method::POST, ["reload"]) => match self.authorize(&request).await {
                Ok(()) => self.switches.reload().await,
                Err(refusal) => refusal,
            },
            (&Method::POST, ["components", name, "rollback"]) => {
                match self.authorize(&request).await {
                    Ok(()) => self.switches.roll_back((*name).to_owned()).await,
                    Err(refusal) => refusal,
                }
            }
            (&Method::PUT, ["components", name]) => match self.authorize(&request).await {
                Ok(()) => {
                    let name = (*name).to_owned();
                    self.switches.push(name, request.into_body()).await
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

    /// Why no new requests should come. `None`: they may.
    fn unready(&self) -> Option<&'static str> {
        if !self.ready.load(Ordering::Relaxed) {
            Some("draining\n")
        } else if self.loads.iter().any(|load| load.is_stalled()) {
            Some("a worker is stalled\n")
        } else {
            None
        }
    }

    fn metrics(&self) -> AdminAnswer {
        let policies = self.running.policies.iter().map(|(name, policy)| PolicySample {
            name: name.clone(),
            kind: policy.kind(),
            shown: policy.show(),
        });
        let policies = policies.collect();
        let components =
            self.running.components.status().into_iter().map(|status| ComponentSample {
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

    fn state(&self) -> AdminAnswer {
        json(StatusCode::OK, &state::of(&self.running, &self.loads, self.unready().is_none()))
    }

    fn command(&self, name: &str, command: &str) -> AdminAnswer {
        let Some(policy) = self.running.policies.get(name) else {
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

    /// Checks the bearer token. The file is read each time, so that a new token takes effect at
    /// once.
    async fn authorize(&self, request: &Request<Incoming>) -> Result<(), AdminAnswer> {
        let Some(file) = &self.token_file else {
            return Err(text(StatusCode::FORBIDDEN, "changes need a `token_file` in `[admin]`\n"));
        };
        let Some(expected) = read_token(file).await else {
            return Err(text(
                StatusCode::FORBIDDEN,
                "the `token_file` of `[admin]` can't be read or is empty\n",
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
