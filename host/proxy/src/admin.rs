//! The admin listener: health, metrics, state, and changes.
//!
//! Everybody who can reach it can read, so it belongs on loopback or on a Unix socket. Changes need
//! the bearer token of `token_file`; without such a file they are refused.
//!
//! It has a thread and a runtime of its own: whatever is asked there, accepting goes on here, and
//! the other way round.

mod access;
mod answer;
mod components;
mod connections;
mod exposition;
mod reserve;
mod socket;
mod state;

pub(crate) use socket::AdminSocket;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use fusebox_resilience::{AdminEvent, Denial, EventKind, Observers, query_values};
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::observe::{
    self, BudgetSample, CertificateSample, ChosenEndpointSample, ComponentSample, EndpointSample,
    Log, Metrics, NameSample, PlacesSample, PolicySample, Scrape, TierSample,
};
use crate::running::Running;
use crate::server::ServerLoad;
use crate::tls::CertificateStatus;
use crate::upstream::shared::EndpointStanding;
use answer::{AdminAnswer, json, not_allowed, text};
use components::Switches;
use connections::{AdminRequester, AdminService, serve};
use exposition::Exposition;
use socket::SocketFile;

/// How long a request with a wrong token waits for its answer: who guesses does so slowly.
const DENIAL_DELAY: Duration = Duration::from_millis(100);

/// What the admin listener shows and changes.
#[derive(Debug)]
pub(crate) struct Admin {
    running: Arc<Running>,
    switches: Switches,
    observers: Observers,
    metrics: Arc<Metrics>,
    exposition: Exposition,
    log: Log,
    load: ServerLoad,
    token_file: Option<PathBuf>,
    hosts: Vec<String>,
    /// Whether the proxy takes new requests.
    ready: AtomicBool,
}

/// The thread of the admin listener. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminThread {
    _end: oneshot::Sender<()>,
    _file: Option<SocketFile>,
}

impl Admin {
    /// An admin listener. Changes need the token in `token_file`. `hosts` are its names beside
    /// addresses and `localhost`.
    pub(crate) fn new(
        running: Arc<Running>,
        observers: Observers,
        metrics: Arc<Metrics>,
        log: Log,
        load: ServerLoad,
        (token_file, hosts): (Option<PathBuf>, Vec<String>),
    ) -> Self {
        let switches = Switches::new(running.components.clone());
        let (ready, exposition) = (AtomicBool::new(true), Exposition::default());
        Self {
            running,
            switches,
            observers,
            metrics,
            exposition,
            log,
            load,
            token_file,
            hosts,
            ready,
        }
    }

    /// The proxy takes no new requests from here on.
    pub(crate) fn not_ready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(self: Arc<Self>, mut socket: AdminSocket) -> io::Result<AdminThread> {
        let file = socket.file.take();
        let (end, ended) = oneshot::channel();
        let runtime = || -> io::Result<_> {
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
        };
        let (started, start) = std::sync::mpsc::channel();
        thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let runtime = match runtime() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            runtime.block_on(async {
                match socket.listen() {
                    Ok(listener) => {
                        started.send(Ok(())).ok();
                        tokio::select! {
                            () = serve(self, listener) => {}
                            _ = ended => {}
                        }
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            });
            // Does not wait for a change under way.
            runtime.shutdown_background();
        })?;
        start.recv().map_err(io::Error::other)??;
        Ok(AdminThread { _end: end, _file: file })
    }

    fn emit(&self, event: AdminEvent) {
        self.observers.emit_for_policy(None, &EventKind::Admin(event));
    }

    /// Answers what changes nothing.
    async fn show(self: &Arc<Self>, method: &Method, steps: &[&str]) -> AdminAnswer {
        match (method, steps) {
            (&Method::GET | &Method::HEAD, ["healthz"]) => text(StatusCode::OK, "ok\n"),
            (&Method::GET | &Method::HEAD, ["readyz"]) => match self.unready() {
                None => text(StatusCode::OK, "ready\n"),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            },
            (&Method::GET | &Method::HEAD, ["metrics"]) => self.metrics().await,
            (&Method::GET | &Method::HEAD, ["state"]) => self.state(),
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
        } else if self.load.workers.iter().any(|worker| worker.is_stalled()) {
            Some("a worker is stalled\n")
        } else if self.load.is_full() {
            Some("all places for connections are taken\n")
        } else {
            None
        }
    }

    async fn metrics(self: &Arc<Self>) -> AdminAnswer {
        let admin = self.clone();
        let Some(rendered) = self.exposition.get(move || admin.render()).await else {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be rendered\n");
        };
        let mut response = text(StatusCode::OK, rendered);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(observe::CONTENT_TYPE));
        response
    }

    fn render(&self) -> String {
        let policies = self.running.policies.iter().map(|(name, policy)| PolicySample {
            name: name.clone(),
            kind: policy.kind(),
            shown: policy.show(),
            endpoints: policy.endpoints().unwrap_or_default(),
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
                memory: status.memory as u64,
            });
        let components = components.collect();
        let budgets = self
            .running
            .budget_uses()
            .map(|(name, status)| BudgetSample { name: name.into(), status });
        let certificates = self.running.certificates();
        let certificates = certificates
            .map(|CertificateStatus { file, until, .. }| CertificateSample { file, until });
        let ServerLoad { places, calls, .. } = &self.load;
        let scrape = Scrape {
            connections: PlacesSample { taken: places.taken(), places: places.count() },
            calls: calls
                .as_ref()
                .map(|calls| PlacesSample { taken: calls.taken(), places: calls.count() }),
            policies,
            budgets: budgets.collect(),
            endpoints: self.endpoints(),
            names: self.names(),
            tiers: self.tiers(),
            components,
            certificates: certificates.collect(),
            log_lines_dropped: self.log.dropped(),
        };
        self.metrics.render(&scrape)
    }

    fn endpoints(&self) -> Vec<EndpointSample> {
        let upstreams = self.running.routes.upstreams().iter();
        let samples = upstreams.flat_map(|upstream| {
            let name: Arc<str> = upstream.label().into();
            upstream.status().into_iter().map(move |status| EndpointSample {
                upstream: name.clone(),
                endpoint: status.url,
                connections: status.connections,
                waiting: status.waiting,
                in_flight: status.in_flight,
                among_others: status.usage.map(|usage| ChosenEndpointSample {
                    attempts: usage.attempts,
                    failures: usage.failures,
                    ejections: usage.ejections,
                    is_in: usage.standing == EndpointStanding::In,
                }),
            })
        });
        samples.collect()
    }

    fn names(&self) -> Vec<NameSample> {
        let upstreams = self.running.routes.upstreams().iter();
        let of_names = upstreams.filter(|upstream| upstream.config.endpoints.dns().is_some());
        let samples = of_names.map(|upstream| NameSample {
            upstream: upstream.label().into(),
            endpoints: upstream.status().len(),
            is_failing: upstream.problem().is_some(),
        });
        samples.collect()
    }

    fn tiers(&self) -> Vec<TierSample> {
        let upstreams = self.running.routes.upstreams().iter();
        let samples = upstreams.filter_map(|upstream| {
            let (_, place) = upstream.tier_in_use()?;
            Some(TierSample { upstream: upstream.label().into(), place })
        });
        samples.collect()
    }

    fn state(&self) -> AdminAnswer {
        json(StatusCode::OK, &state::of(&self.running, &self.load, self.unready().is_none()))
    }

    /// Makes a change, for somebody who may.
    async fn change(&self, change: AdminChange<'_>, body: Incoming) -> AdminAnswer {
        match change {
            AdminChange::Command { policy, command, key } => self.command(policy, command, &key),
            AdminChange::Reload => self.switches.reload().await,
            AdminChange::RollBack { component } => {
                self.switches.roll_back(component.to_owned()).await
            }
            AdminChange::Push { component } => self.switches.push(component.to_owned(), body).await,
        }
    }

    fn command(&self, name: &str, command: &str, key: &[String]) -> AdminAnswer {
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
        match policy.command(command, key, &self.observers) {
            Ok(state) => text(StatusCode::OK, format!("{name}: {state}\n")),
            Err(wrong) => text(StatusCode::BAD_REQUEST, format!("`{name}`: {wrong}\n")),
        }
    }

    /// Checks who asks for a change.
    async fn authorize(
        &self,
        request: &Request<Incoming>,
        requester: &AdminRequester,
    ) -> Result<(), AdminAnswer> {
        let Some(file) = &self.token_file else {
            return Err(text(StatusCode::FORBIDDEN, "changes need a `token_file` in `[admin]`\n"));
        };
        let Some(expected) = access::read_token(file).await else {
            return Err(text(
                StatusCode::FORBIDDEN,
                "the `token_file` of `[admin]` can't be read or is empty\n",
            ));
        };
        if access::has_token(request.headers(), &expected) {
            return Ok(());
        }
        self.deny(request, requester, Denial::Token);
        sleep(DENIAL_DELAY).await;
        let mut refusal = text(StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong\n");
        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Err(refusal)
    }

    /// Refuses what a page of elsewhere asks by way of somebody's browser.
    fn refuse(
        &self,
        request: &Request<Incoming>,
        requester: &AdminRequester,
        steps: &[&str],
    ) -> Option<AdminAnswer> {
        let takes_any_host =
            requester.peer.is_user || matches!(steps, ["healthz" | "readyz" | "metrics"]);
        let (uri, headers) = (request.uri(), request.headers());
        let denial = if !access::is_of_no_other_page(headers, &self.hosts) {
            Denial::Origin
        } else if takes_any_host || access::is_for_us(uri, headers, &self.hosts) {
            return None;
        } else {
            Denial::Host
        };
        self.deny(request, requester, denial);
        let name = denial.name();
        let expected = "an IP address, `localhost` or one of `[admin] hosts`";
        Some(text(StatusCode::FORBIDDEN, format!("the {name} must be {expected}\n")))
    }

    fn deny(&self, request: &Request<Incoming>, requester: &AdminRequester, reason: Denial) {
        self.emit(AdminEvent::Denied {
            client: requester.peer.name.clone(),
            request: named(request),
            reason,
            count: requester.denied.count(Instant::now()),
        });
    }
}

/// What a request changes.
#[derive(Clone, Debug)]
enum AdminChange<'a> {
    Command { policy: &'a str, command: &'a str, key: Vec<String> },
    Reload,
    RollBack { component: &'a str },
    Push { component: &'a str },
}

impl<'a> AdminChange<'a> {
    /// `None`: it changes nothing.
    fn of(method: &Method, steps: &[&'a str], query: &str) -> Option<Self> {
        Some(match (method, steps) {
            (&Method::POST, &["policies", policy, command]) => {
                let key = query_values(query, "key");
                let key = key.map(|value| String::from_utf8_lossy(&value).into_owned()).collect();
                Self::Command { policy, command, key }
            }
            (&Method::POST, ["reload"]) => Self::Reload,
            (&Method::POST, &["components", component, "rollback"]) => Self::RollBack { component },
            (&Method::PUT, &["components", component]) => Self::Push { component },
            _ => return None,
        })
    }
}

/// What a query says that a change does not take.
fn unknown<'a>(change: &AdminChange<'_>, query: &'a str) -> Option<&'a str> {
    let takes_key = matches!(change, AdminChange::Command { .. });
    let names = query.split('&').filter(|parameter| !parameter.is_empty());
    let mut names = names.map(|parameter| parameter.split('=').next().unwrap_or_default());
    names.find(|name| !(takes_key && *name == "key"))
}

/// Method and path.
fn named(request: &Request<Incoming>) -> Arc<str> {
    format!("{} {}", request.method(), request.uri().path()).into()
}

/// A change by somebody with the token: told at its end, also if the client does not wait for it.
struct AuditedChange<'a> {
    admin: &'a Admin,
    requester: &'a AdminRequester,
    request: Arc<str>,
    status: Option<u16>,
}

impl Drop for AuditedChange<'_> {
    fn drop(&mut self) {
        self.requester.is_changing.set(false);
        self.admin.emit(AdminEvent::Changed {
            client: self.requester.peer.name.clone(),
            request: self.request.clone(),
            status: self.status,
        });
    }
}

impl AdminService for Admin {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        requester: AdminRequester,
    ) -> AdminAnswer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
        if let Some(refusal) = self.refuse(&request, &requester, &steps) {
            return refusal;
        }
        let query = request.uri().query().unwrap_or_default();
        let Some(change) = AdminChange::of(&method, &steps, query) else {
            return self.show(&method, &steps).await;
        };
        if let Err(refusal) = self.authorize(&request, &requester).await {
            return refusal;
        }
        requester.is_changing.set(true);
        // With the key that a command is for.
        let target = request.uri().path_and_query().map_or(&*path, |target| target.as_str());
        let named = format!("{method} {target}").into();
        let (admin, requester) = (&*self, &requester);
        let mut audited = AuditedChange { admin, requester, request: named, status: None };
        let answer = match unknown(&change, request.uri().query().unwrap_or_default()) {
            // It may be what was to be changed, and all would be.
            Some(name) => {
                let expected = match change {
                    AdminChange::Command { .. } => "expected `key`",
                    _ => "none is expected",
                };
                text(StatusCode::BAD_REQUEST, format!("no parameter `{name}`; {expected}\n"))
            }
            None => self.change(change, request.into_body()).await,
        };
        audited.status = Some(answer.status().as_u16());
        answer
    }

    fn crowded(&self, count: Option<u64>) {
        self.emit(AdminEvent::Crowded { count });
    }
}
