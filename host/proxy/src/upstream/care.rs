//! Looks after the endpoints of upstreams, off the workers: looks up where they are, checks them,
//! and lets those come back that were ejected.

use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;

use fusebox_resilience::{
    Attempt, Call, EndpointEvent, Observers, Outcome, Random, Request as ClientRequest,
    RequestBody, Scope, Worker,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, header};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::HttpUpstream;
use super::endpoint::Endpoint;
use super::grpc_health;
use super::limits::WorkerShare;
use super::names;
use super::shared::SharedUpstream;
use crate::config::HealthConfig;
use crate::observe::wall_clock;

/// Looks after these until it is dropped.
pub(crate) async fn look_after(upstreams: Vec<Arc<SharedUpstream>>, observers: Observers) {
    let mut tasks = JoinSet::new();
    for shared in upstreams.into_iter().filter(|upstream| upstream.config.is_fleet()) {
        if let Some(question) = CheckQuestion::of(&shared.config.fleet.health) {
            tasks.spawn_local(check_all(shared.clone(), question, observers.clone()));
        }
        if let Some(dns) = shared.config.endpoints.dns() {
            tasks.spawn_local(names::follow(shared.clone(), dns.clone(), observers.clone()));
        }
        tasks.spawn_local(let_return(shared, observers.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

/// Checks the endpoints of an upstream, as they come and go.
async fn check_all(shared: Arc<SharedUpstream>, question: CheckQuestion, observers: Observers) {
    let upstream = HttpUpstream::new(shared.clone(), WorkerShare::WHOLE, &Rc::default());
    let mut changes = shared.endpoints();
    let mut checked: Vec<Rc<Endpoint>> = Vec::new();
    let mut tasks = JoinSet::new();
    loop {
        let endpoints = upstream.endpoints();
        let is_new = |it: &&Rc<Endpoint>| !checked.iter().any(|known| Rc::ptr_eq(known, it));
        for endpoint in endpoints.iter().filter(is_new) {
            let check = EndpointCheck {
                upstream: upstream.clone(),
                shared: shared.clone(),
                endpoint: endpoint.clone(),
                question: question.clone(),
            };
            tasks.spawn_local(check.repeat(observers.clone()));
        }
        checked = endpoints;
        while tasks.try_join_next().is_some() {}
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn let_return(upstream: Arc<SharedUpstream>, observers: Observers) {
    loop {
        let (events, next) = upstream.let_return(Instant::now());
        tell(&observers, events);
        match next {
            Some(next) => tokio::select! {
                () = sleep_until(next) => {}
                () = upstream.ejected() => {}
            },
            None => upstream.ejected().await,
        }
    }
}

fn tell(observers: &Observers, events: Vec<EndpointEvent>) {
    for event in events {
        observers.emit_for_policy(None, &event.into());
    }
}

/// The checks of an endpoint. They go the way of requests, on connections of their own.
struct EndpointCheck {
    upstream: HttpUpstream,
    shared: Arc<SharedUpstream>,
    endpoint: Rc<Endpoint>,
    question: CheckQuestion,
}

/// What an endpoint is asked to check it.
#[derive(Clone, Debug)]
enum CheckQuestion {
    Path(PathAndQuery),
    /// For its health by gRPC, of this service.
    Grpc(String),
}

impl CheckQuestion {
    /// `None`: it is not checked.
    fn of(config: &HealthConfig) -> Option<Self> {
        let HealthConfig { path, grpc, .. } = config.clone();
        path.map(Self::Path).or_else(|| grpc.map(Self::Grpc))
    }

    fn request(&self) -> (Parts, RequestBody) {
        match self {
            Self::Path(path) => {
                let mut head = Request::new(()).into_parts().0;
                head.uri = path.clone().into();
                (head, RequestBody::empty())
            }
            Self::Grpc(service) => (grpc_health::head(), grpc_health::body(service)),
        }
    }

    /// # Errors
    /// It has not passed, for this reason.
    async fn judge(&self, outcome: Outcome, config: &HealthConfig) -> Result<(), String> {
        let response = outcome.map_err(|error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })?;
        match self {
            Self::Path(_) => {
                let status = response.status.as_u16();
                let is_expected = config.expect.iter().any(|expected| expected.has(status));
                if is_expected { Ok(()) } else { Err(format!("answered {status}")) }
            }
            Self::Grpc(_) => grpc_health::passes(response).await,
        }
    }
}

impl EndpointCheck {
    /// Until it has gone.
    async fn repeat(self, observers: Observers) {
        let config = self.shared.config.fleet.health.clone();
        // Not all at once.
        sleep(config.interval.0.mul_f64(Random::with_seed(fastrand::u64(..)).fraction())).await;
        while self.shared.has(self.endpoint.shared()) {
            let passed = timeout(config.timeout.0, self.check(&config)).await;
            let passed = passed.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            let passed = passed.as_ref().map(drop).map_err(|reason| &**reason);
            let endpoint = self.endpoint.shared();
            tell(&observers, self.shared.checked(endpoint, passed, Instant::now()));
            sleep(config.interval.0).await;
        }
    }

    /// Not for a client, and nobody is told.
    ///
    /// # Errors
    /// It has not passed, for this reason.
    async fn check(&self, config: &HealthConfig) -> Result<(), String> {
        let (mut head, body) = self.question.request();
        head.headers.insert(header::USER_AGENT, HeaderValue::from_static("fusebox"));
        let id = HeaderValue::from_static("check");
        let request = ClientRequest::new(id, "check".into(), head, wall_clock::now());
        let call = Call::new(request, body, Worker::unobserved().into());
        let attempt = Attempt::detached(&call, None);
        let scope = Scope::new(&self.upstream);
        let outcome = self.endpoint.exchange(&call, &attempt, &scope).await;
        self.question.judge(attempt.finish(outcome), config).await
    }
}
