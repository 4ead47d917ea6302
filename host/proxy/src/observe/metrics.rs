//! The metrics: counters and durations of everything that happens, in the text format of
//! Prometheus.
//!
//! Names begin with `fusebox_` (those about the process itself have the names that all programs
//! share), units are base units. Labels come from bounded sets only: the names of routes, policies
//! and components in the configuration, statuses, and the words of our enums; never a path, a
//! message, or anything else that a client or a guest chooses. `outcome` and `reason` speak with
//! the words of conditions and guests (`connect`, `timeout`, `circuit-open`, …).
//!
//! Some values are known elsewhere, a breaker's state for one. They are handed in when somebody
//! asks, as a [`Scrape`], so that nothing is kept twice and what no longer exists vanishes.
//!
//! # What a request costs
//!
//! Two events happen to every request: an attempt ends, the call ends. They count in plain counters
//! of the thread that they happen on, which a scrape adds up: [`requests`]. The rarer events take
//! the library's way by labels.

mod calls;
mod clients;
mod components;
mod counts;
mod endpoints;
mod family;
mod faults;
mod policies;
mod process;
mod requests;
mod routes;
mod scrape;
mod tls;
mod tunnels;

pub use endpoints::{ChosenEndpointSample, EndpointSample, NameSample, TierSample};
pub use scrape::{
    BudgetSample, CertificateSample, ComponentSample, PlacesSample, PolicySample, Scrape,
};

use std::sync::Arc;

use fusebox_resilience::{
    AdminEvent, AttemptEvent, CacheEvent, CallEvent, ConnectionEvent, Denial, EndpointEvent, Event,
    EventKind, Observer, Policy, QueueEvent, Request, ServerEvent,
};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use self::clients::ClientCounters;
use self::components::ComponentCounters;
use self::family::{Counters, Families, of};
use self::faults::Faults;
use self::policies::{PolicyCounters, Whose};
use self::requests::Requests;
use self::routes::RouteCounters;
use self::tls::TlsCounters;
use self::tunnels::Tunnels;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Counts events. Shared by everybody who emits.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Arc<Requests>,
    routes: RouteCounters,
    policies: PolicyCounters,
    tunnels: Tunnels,
    components: ComponentCounters,
    faults: Faults,
    endpoints_full: Counters<3>,
    clients: ClientCounters,
    tls: TlsCounters,
    worker_stalls: Counter,
    admin_denied: Counters<1>,
    admin_changes: Counter,
    admin_crowded: Counter,
    /// When the process started, in seconds since 1970, where the system says so.
    started: Option<f64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("fusebox");
        let mut new = Families(&mut registry);
        let metrics = Self {
            requests: Arc::default(),
            routes: RouteCounters::new(&mut new),
            policies: PolicyCounters::new(&mut new),
            tunnels: Tunnels::new(&mut new),
            components: ComponentCounters::new(&mut new),
            faults: Faults::new(
                new.counters("component_faults", "Calls into a component that failed"),
            ),
            endpoints_full: new.counters(
                "endpoint_full",
                "Calls that were turned away, since an endpoint had reached a limit",
            ),
            clients: ClientCounters::new(&mut new),
            tls: TlsCounters::new(&mut new),
            worker_stalls: new.register(
                "worker_stalls",
                "Times that a worker was blocked for too long",
                Counter::default(),
            ),
            admin_denied: new.counters("admin_denied", "Requests that the admin listener denied"),
            admin_changes: new.register(
                "admin_changes",
                "Changes that somebody with the token asked for",
                Counter::default(),
            ),
            admin_crowded: new.register(
                "admin_crowded",
                "Connections of the admin listener that were closed to make place",
                Counter::default(),
            ),
            started: process::start_time(),
            registry,
        };
        for reason in Denial::ALL {
            of(&metrics.admin_denied, [("reason", reason.name().into())]);
        }
        metrics
    }

    /// Makes the series of a route appear, at 0: an alert on a rate needs the first increment to be
    /// one.
    pub fn announce_route(&self, route: &Arc<str>) {
        self.requests.announce(route);
        self.routes.announce(route);
    }

    /// The same for a route that is called by gRPC.
    pub fn announce_grpc(&self, route: &Arc<str>) {
        self.requests.announce_grpc(route);
    }

    /// Makes the series of a route's tunnels appear, at 0.
    pub fn announce_tunnels(&self, route: &Arc<str>) {
        self.tunnels.announce(route);
    }

    /// Makes the series of a policy on a route appear, at 0.
    pub fn announce_policy(&self, route: &Arc<str>, policy: &dyn Policy) {
        for kind in policy.announces() {
            if let EventKind::Cache(CacheEvent::Used { .. }) = kind {
                self.requests.announce_cache(route);
            }
            let whose = Whose { route: Some(route), policy: Some(policy.name()) };
            self.counter(whose, &kind);
            if let EventKind::Queue(QueueEvent::Admitted { .. }) = kind {
                self.policies.queue_wait(whose);
            }
        }
    }

    /// Makes the series of a component appear, at 0; those of its versions do when they are loaded.
    pub fn announce_component(&self, component: &Arc<str>) {
        self.components.announce(component);
    }

    /// Makes the series of handshakes appear, at 0.
    pub fn announce_handshakes(&self) {
        self.tls.announce_handshakes();
    }

    /// Makes the series of a file of certificates appear, at 0.
    pub fn announce_certificate(&self, file: &str) {
        self.tls.announce_certificate(file);
    }

    /// Everything, for Prometheus: the body that goes with [`CONTENT_TYPE`].
    pub fn render(&self, scrape: &Scrape) -> String {
        let mut text = String::with_capacity(16 << 10);
        let requests = self.requests.registry();
        for registry in
            [&requests, &self.registry, &scrape.registry(), &process::registry(self.started)]
        {
            // A `String` takes everything.
            let _ = prometheus_text::encode(&mut text, registry);
        }
        text
    }
}

impl Metrics {
    /// The counter of an event of this policy on this route, which exists from then on; `None` if
    /// it is counted otherwise.
    fn counter(&self, whose: Whose<'_>, kind: &EventKind) -> Option<Counter> {
        let policies = &self.policies;
        match kind {
            EventKind::Timeout(event) => Some(policies.timeout(event, whose)),
            EventKind::Retry(event) => Some(policies.retry(event, whose)),
            EventKind::CircuitBreaker(event) => Some(policies.circuit_breaker(event, whose)),
            EventKind::Fallback(event) => Some(policies.fallback(event, whose)),
            EventKind::AdaptiveLimiter(event) => Some(policies.adaptive_limiter(event, whose)),
            EventKind::Hedge(event) => Some(policies.hedge(event, whose)),
            EventKind::Keys(event) => Some(policies.keys(event, whose)),
            EventKind::Cache(event) => policies.cache(event, whose),
            EventKind::Call(CallEvent::Rejected { kind, .. }) => {
                Some(policies.rejection(*kind, whose))
            }
            EventKind::Call(event) => self.routes.call(event, whose.route()),
            EventKind::Attempt(event) => self.routes.attempt(event, whose.route()),
            EventKind::Component(event) => self.components.counter(event),
            EventKind::Endpoint(event) => self.endpoint(event),
            EventKind::Connection(
                ConnectionEvent::Secured { .. } | ConnectionEvent::HandshakeFailed { .. },
            )
            | EventKind::Certificate(_) => self.tls.counter(kind),
            EventKind::Connection(ConnectionEvent::Refused { reason, .. }) => {
                Some(self.routes.unread(reason))
            }
            EventKind::Connection(ConnectionEvent::StreamRefused { .. }) => {
                Some(self.routes.unread(ConnectionEvent::STREAM_REFUSED))
            }
            EventKind::Connection(event) => self.clients.counter(event),
            EventKind::Server(event) => self.server(event),
            EventKind::Admin(event) => Some(self.admin(event)),
            // The gauge at a scrape says what a throttler admits; details; and what is counted by
            // its duration, or by route.
            EventKind::AdaptiveThrottler(_)
            | EventKind::Queue(_)
            | EventKind::Condition(_)
            | EventKind::Tunnel(_) => None,
        }
    }

    fn endpoint(&self, event: &EndpointEvent) -> Option<Counter> {
        match event {
            EndpointEvent::Full { name, limit, .. } => {
                Some(of(&self.endpoints_full, endpoints::full(name, *limit)))
            }
            EndpointEvent::Changed { upstream, removed, .. } => {
                endpoints::forget(&self.endpoints_full, upstream, removed);
                None
            }
            // A scrape shows how often each was ejected, and which are out.
            _ => None,
        }
    }

    fn server(&self, event: &ServerEvent) -> Option<Counter> {
        match event {
            ServerEvent::Full { .. } => Some(self.clients.connections_delayed.clone()),
            ServerEvent::WorkerStalled { .. } => Some(self.worker_stalls.clone()),
            // Who ended for it is a handshake that failed; the state shows who is back; nobody is
            // asked after a loss.
            ServerEvent::HandshakesFull { .. }
            | ServerEvent::WorkerResumed { .. }
            | ServerEvent::WorkerLost { .. } => None,
        }
    }

    fn admin(&self, event: &AdminEvent) -> Counter {
        match event {
            AdminEvent::Denied { reason, .. } => {
                of(&self.admin_denied, [("reason", reason.name().into())])
            }
            AdminEvent::Changed { .. } => self.admin_changes.clone(),
            AdminEvent::Crowded { .. } => self.admin_crowded.clone(),
        }
    }
}

impl Observer for Metrics {
    fn observe(&self, event: &Event<'_>) {
        let route = event.request.map(Request::route);
        match (event.kind, route) {
            (&EventKind::Attempt(AttemptEvent::Finished { outcome, elapsed, .. }), Some(route)) => {
                self.requests.count(route, |route| route.attempt(outcome, elapsed));
            }
            (&EventKind::Call(CallEvent::Finished { status, grpc, elapsed, .. }), Some(route)) => {
                self.requests.count(route, |route| {
                    route.request(status, elapsed);
                    if let Some(grpc) = grpc {
                        route.grpc(grpc);
                    }
                });
            }
            (&EventKind::Cache(CacheEvent::Used { result, .. }), Some(route)) => {
                self.requests.count(route, |route| route.cache(result));
            }
            (EventKind::Tunnel(event), Some(route)) => self.tunnels.observe(route, event),
            (kind, route) => {
                let whose = Whose { route, policy: event.policy };
                if let Some(counter) = self.counter(whose, kind) {
                    counter.inc();
                }
                if let EventKind::Queue(QueueEvent::Admitted { waited }) = kind {
                    self.policies.queue_wait(whose).observe(waited.as_secs_f64());
                }
                self.faults.observe(kind);
            }
        }
    }

    fn wants_details(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
