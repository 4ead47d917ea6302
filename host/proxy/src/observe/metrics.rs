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
mod counts;
mod endpoints;
mod family;
mod faults;
mod process;
mod requests;
mod scrape;
mod tls;
mod tunnels;

pub use endpoints::{ChosenEndpointSample, EndpointSample, NameSample};
pub use scrape::{
    BudgetSample, CertificateSample, ComponentSample, PlacesSample, PolicySample, Scrape,
};

use std::sync::Arc;

use fusebox_resilience::{
    AdaptiveLimiterEvent, AdminEvent, AttemptEvent, CacheEvent, CallEvent, CircuitBreakerEvent,
    ComponentEvent, ConnectionEvent, ConnectionLimit, Denial, EndpointEvent, Event, EventKind,
    FallbackEvent, HedgeEvent, Http2Fault, KeysEvent, Observer, Policy, QueueEvent, Request,
    RequestFlaw, RetryEvent, ServerEvent, TimeoutEvent,
};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::no_route::NO_ROUTE;
use crate::reply::Unread;

use self::family::{Counters, Families, Histograms, Label, Labels, of};
use self::faults::Faults;
use self::requests::Requests;
use self::tls::TlsCounters;
use self::tunnels::Tunnels;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Why a call is refused for which there is no place.
const IN_FLIGHT: &str = "in-flight";

/// Counts events. Shared by everybody who emits.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Arc<Requests>,
    retries: Counters<2>,
    retries_exhausted: Counters<2>,
    retries_aborted: Counters<2>,
    retries_skipped: Counters<3>,
    timeouts: Counters<2>,
    transitions: Counters<3>,
    late_failures: Counters<2>,
    rejections: Counters<3>,
    fallbacks: Counters<2>,
    fallbacks_declined: Counters<2>,
    queue_waits: Histograms<2>,
    key_overflows: Counters<2>,
    limit_changes: Counters<2>,
    hedges: Counters<2>,
    hedges_won: Counters<2>,
    hedges_cancelled: Counters<2>,
    hedges_skipped: Counters<3>,
    cache_stale: Counters<3>,
    cache_broken: Counters<2>,
    cache_waits: Counters<2>,
    incomplete: Counters<2>,
    sent_again: Counters<1>,
    bodies_not_kept: Counters<1>,
    deadlines_exceeded: Counters<1>,
    deadlines_ignored: Counters<1>,
    refused: Counters<2>,
    forwarded_replaced: Counters<1>,
    tunnels: Tunnels,
    faults: Faults,
    loads: Counters<2>,
    quarantines: Counters<1>,
    excused: Counters<1>,
    connections_ended: Counters<1>,
    streams_ended: Counters<1>,
    endpoints_full: Counters<3>,
    connection_faults: Counters<1>,
    connections_delayed: Counter,
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
            retries: new.counters("retries", "Retries that were scheduled"),
            retries_exhausted: new
                .counters("retries_exhausted", "Calls that failed still after the last retry"),
            retries_aborted: new.counters("retries_aborted", "Calls whose retries abort_if ended"),
            retries_skipped: new
                .counters("retries_skipped", "Failures that were not retried, by the reason"),
            timeouts: new.counters("timeouts", "Calls and attempts that a timeout policy cut off"),
            transitions: new
                .counters("circuit_breaker_transitions", "Changes of a circuit breaker's state"),
            late_failures: new.counters(
                "late_failures",
                "Responses that a circuit breaker took for a success until their body broke off",
            ),
            rejections: new.counters("rejections", "Calls and attempts that a policy turned away"),
            fallbacks: new.counters("fallbacks", "Answers that a fallback gave"),
            fallbacks_declined: new
                .counters("fallbacks_declined", "Calls that a fallback's component did not answer"),
            queue_waits: new.histograms(
                "queue_wait_seconds",
                "Time that calls waited for their turn in a policy, of those that were admitted",
            ),
            limit_changes: new
                .counters("adaptive_limiter_changes", "Changes of an adaptive limiter's limit"),
            hedges: new.counters("hedges", "Attempts that a hedge started beside others"),
            hedges_won: new
                .counters("hedges_won", "Those whose outcome went out in place of the first's"),
            hedges_cancelled: new.counters(
                "hedges_cancelled",
                "Attempts, first ones too, that were cancelled since another had won",
            ),
            hedges_skipped: new
                .counters("hedges_skipped", "Hedges that were not started, by the reason"),
            key_overflows: new.counters(
                "key_overflows",
                "Calls that share a state with others, since a policy has too many keys",
            ),
            cache_stale: new.counters(
                "cache_stale_served",
                "Answers of a cache that were stale, by the reason",
            ),
            cache_broken: new.counters(
                "cache_fills_broken",
                "Responses that a cache could not store because their body broke off",
            ),
            cache_waits: new.counters(
                "cache_waits_exceeded",
                "Requests that waited too long for the answer to the same request",
            ),
            incomplete: new.counters(
                "responses_incomplete",
                "Responses that broke off after their head was sent",
            ),
            sent_again: new.counters(
                "attempts_sent_again",
                "Attempts that went once more because their kept connection had died",
            ),
            bodies_not_kept: new.counters(
                "request_bodies_not_kept",
                "Requests that had one attempt because the memory for bodies was full",
            ),
            deadlines_exceeded: new
                .counters("deadlines_exceeded", "Calls whose deadline passed before an answer"),
            deadlines_ignored: new.counters(
                "deadlines_ignored",
                "Requests that said of their deadline what is not valid",
            ),
            refused: new.counters("requests_refused", "Requests whose head was refused"),
            forwarded_replaced: new.counters(
                "forwarded_headers_replaced",
                "Connections of clients that said where they come from and are not trusted",
            ),
            tunnels: Tunnels::new(&mut new),
            faults: Faults::new(
                new.counters("component_faults", "Calls into a component that failed"),
            ),
            loads: new.counters(
                "component_loads",
                "Versions of a component that were loaded, rejected, overtaken or put back",
            ),
            quarantines: new
                .counters("component_quarantines", "Times that a component was set aside"),
            excused: new.counters(
                "component_faults_excused",
                "Faults on probation that do not count, since the version before faults too",
            ),
            connections_ended: new
                .counters("connections_ended", "Connections of clients that a limit ended"),
            endpoints_full: new.counters(
                "endpoint_full",
                "Calls that were turned away, since an endpoint had reached a limit",
            ),
            streams_ended: new
                .counters("streams_ended", "Streams of clients over HTTP/2 that a limit ended"),
            connection_faults: new.counters(
                "connection_faults",
                "Connections of clients over HTTP/2 that ended for what the client did",
            ),
            connections_delayed: new.register(
                "connections_delayed",
                "Clients that had to wait until a connection ended or became idle",
                Counter::default(),
            ),
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
        for limit in ConnectionLimit::ALL {
            of(&metrics.connections_ended, [("limit", limit.key().into())]);
        }
        for limit in ConnectionLimit::OF_STREAMS {
            of(&metrics.streams_ended, [("limit", limit.key().into())]);
        }
        for fault in Http2Fault::ALL {
            of(&metrics.connection_faults, [("fault", fault.name().into())]);
        }
        of(&metrics.refused, unread_labels(ConnectionEvent::STREAM_REFUSED));
        for unread in Unread::all() {
            of(&metrics.refused, unread_labels(unread.name()));
        }
        metrics
    }

    /// Makes the series of a route appear, at 0: an alert on a rate needs the first increment to be
    /// one.
    pub fn announce_route(&self, route: &Arc<str>) {
        self.requests.announce(route);
        for flaw in RequestFlaw::ALL {
            of(&self.refused, [("route", route.into()), ("reason", flaw.name().into())]);
        }
        of(&self.refused, [("route", route.into()), ("reason", IN_FLIGHT.into())]);
        of(&self.bodies_not_kept, [("route", route.into())]);
        of(&self.deadlines_exceeded, [("route", route.into())]);
        of(&self.deadlines_ignored, [("route", route.into())]);
        of(&self.sent_again, [("route", route.into())]);
        of(&self.forwarded_replaced, [("route", route.into())]);
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
            let (route, policy) = (Some(route), Some(policy.name()));
            self.counter(route, policy, &kind);
            if let EventKind::Queue(QueueEvent::Admitted { .. }) = kind {
                self.queue_wait(route, policy);
            }
        }
    }

    /// Makes the series of a component appear, at 0; those of its versions do when they are loaded.
    pub fn announce_component(&self, component: &Arc<str>) {
        for result in ["loaded", "rejected", "overtaken", "rolled-back"] {
            of(&self.loads, load(component, result));
        }
        of(&self.quarantines, [("component", component.into())]);
        of(&self.excused, [("component", component.into())]);
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
    fn counter(
        &self,
        route: Option<&Arc<str>>,
        policy: Option<&Arc<str>>,
        kind: &EventKind,
    ) -> Option<Counter> {
        // Not for the events of every request.
        let labels = || of_policy(route, policy);
        let with_reason = |reason: &'static str| {
            let [route, policy] = labels();
            [route, policy, ("reason", reason.into())]
        };
        let counter = match kind {
            EventKind::Timeout(TimeoutEvent::Exceeded { .. }) => of(&self.timeouts, labels()),
            EventKind::Retry(event) => match event {
                RetryEvent::Scheduled { .. } => of(&self.retries, labels()),
                RetryEvent::Exhausted { .. } => of(&self.retries_exhausted, labels()),
                RetryEvent::Aborted => of(&self.retries_aborted, labels()),
                RetryEvent::Skipped { reason } => {
                    of(&self.retries_skipped, with_reason(reason.name()))
                }
            },
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged { from, to, .. }) => {
                let [_, policy] = labels();
                let (from, to) = (("from", from.name().into()), ("to", to.name().into()));
                of(&self.transitions, [policy, from, to])
            }
            EventKind::CircuitBreaker(CircuitBreakerEvent::FailedLate { .. }) => {
                of(&self.late_failures, labels())
            }
            EventKind::Fallback(FallbackEvent::Served { .. }) => of(&self.fallbacks, labels()),
            EventKind::Fallback(FallbackEvent::Declined) => of(&self.fallbacks_declined, labels()),
            EventKind::AdaptiveLimiter(AdaptiveLimiterEvent::LimitChanged { kind, .. }) => {
                let [_, policy] = labels();
                of(&self.limit_changes, [policy, ("kind", kind.name().into())])
            }
            // The gauge at a scrape says what is admitted.
            EventKind::AdaptiveThrottler(_) => return None,
            EventKind::Hedge(event) => match event {
                HedgeEvent::Launched { .. } => of(&self.hedges, labels()),
                HedgeEvent::Won { .. } => of(&self.hedges_won, labels()),
                HedgeEvent::Cancelled { .. } => of(&self.hedges_cancelled, labels()),
                HedgeEvent::Skipped { reason } => {
                    of(&self.hedges_skipped, with_reason(reason.name()))
                }
            },
            EventKind::Keys(KeysEvent::Overflowed { .. }) => of(&self.key_overflows, labels()),
            EventKind::Cache(event) => match event {
                CacheEvent::ServedStale { reason, .. } => {
                    of(&self.cache_stale, with_reason(reason.name()))
                }
                CacheEvent::Broken { .. } => of(&self.cache_broken, labels()),
                CacheEvent::WaitedTooLong => of(&self.cache_waits, labels()),
                // What happens to every request is counted by route (`requests.rs`); the others
                // are details, and an operator's own doing.
                CacheEvent::Used { .. }
                | CacheEvent::Stored { .. }
                | CacheEvent::Refused { .. }
                | CacheEvent::Invalidated
                | CacheEvent::Purged { .. } => return None,
            },
            EventKind::Call(event) => match event {
                CallEvent::Rejected { kind, .. } => {
                    of(&self.rejections, with_reason(kind.failure().name()))
                }
                CallEvent::ResponseIncomplete { kind } => {
                    let [route, _] = labels();
                    of(&self.incomplete, [route, ("failure", kind.failure().name().into())])
                }
                CallEvent::Refused { flaw } => {
                    let [route, _] = labels();
                    of(&self.refused, [route, ("reason", flaw.name().into())])
                }
                CallEvent::BodyNotKept => {
                    let [route, _] = labels();
                    of(&self.bodies_not_kept, [route])
                }
                CallEvent::DeadlineExceeded { .. } => {
                    let [route, _] = labels();
                    of(&self.deadlines_exceeded, [route])
                }
                CallEvent::DeadlineIgnored { .. } => {
                    let [route, _] = labels();
                    of(&self.deadlines_ignored, [route])
                }
                CallEvent::ForwardedReplaced { .. } => {
                    let [route, _] = labels();
                    of(&self.forwarded_replaced, [route])
                }
                CallEvent::TurnedAway { .. } => {
                    let [route, _] = labels();
                    of(&self.refused, [route, ("reason", IN_FLIGHT.into())])
                }
                // A detail, and what is counted by route (`requests.rs`).
                CallEvent::Started | CallEvent::Finished { .. } => return None,
            },
            EventKind::Component(event) => match event {
                ComponentEvent::Loaded { component, .. } => {
                    of(&self.loads, load(&component.name, "loaded"))
                }
                ComponentEvent::Rejected { name, .. } => of(&self.loads, load(name, "rejected")),
                ComponentEvent::Overtaken { name, .. } => of(&self.loads, load(name, "overtaken")),
                ComponentEvent::RolledBack { component, .. } => {
                    of(&self.loads, load(&component.name, "rolled-back"))
                }
                ComponentEvent::Excused { component, .. } => {
                    of(&self.excused, [("component", (&component.name).into())])
                }
                ComponentEvent::Quarantined { component, .. } => {
                    of(&self.quarantines, [("component", (&component.name).into())])
                }
                // Lines are for reading, faults are counted by version (`faults.rs`), the state at
                // a scrape says who is back, and what the system lacks does not change.
                ComponentEvent::Printed { .. }
                | ComponentEvent::Captured { .. }
                | ComponentEvent::Unconfined { .. }
                | ComponentEvent::Faulted { .. }
                | ComponentEvent::Released { .. } => return None,
            },
            EventKind::Endpoint(EndpointEvent::Full { name, limit, .. }) => {
                of(&self.endpoints_full, endpoints::full(name, *limit))
            }
            EventKind::Endpoint(EndpointEvent::Changed { upstream, removed, .. }) => {
                endpoints::forget(&self.endpoints_full, upstream, removed);
                return None;
            }
            // A scrape shows how often each was ejected, and which are out.
            EventKind::Endpoint(_) => return None,
            EventKind::Connection(ConnectionEvent::Refused { reason, .. }) => {
                of(&self.refused, unread_labels(reason))
            }
            EventKind::Connection(ConnectionEvent::Ended { limit, .. }) => {
                of(&self.connections_ended, [("limit", limit.key().into())])
            }
            EventKind::Connection(ConnectionEvent::StreamRefused { .. }) => {
                of(&self.refused, unread_labels(ConnectionEvent::STREAM_REFUSED))
            }
            EventKind::Connection(ConnectionEvent::StreamEnded { limit, .. }) => {
                of(&self.streams_ended, [("limit", limit.key().into())])
            }
            EventKind::Connection(ConnectionEvent::Http2Failed { fault, .. }) => {
                of(&self.connection_faults, [("fault", fault.name().into())])
            }
            EventKind::Connection(
                ConnectionEvent::Secured { .. } | ConnectionEvent::HandshakeFailed { .. },
            )
            | EventKind::Certificate(_) => return self.tls.counter(kind),
            // Who ended for it is a handshake that failed.
            EventKind::Server(ServerEvent::HandshakesFull { .. }) => return None,
            EventKind::Server(ServerEvent::Full { .. }) => self.connections_delayed.clone(),
            EventKind::Server(ServerEvent::WorkerStalled { .. }) => self.worker_stalls.clone(),
            // The state shows who is back; nobody is asked after a loss.
            EventKind::Server(
                ServerEvent::WorkerResumed { .. } | ServerEvent::WorkerLost { .. },
            ) => {
                return None;
            }
            EventKind::Admin(event) => match event {
                AdminEvent::Denied { reason, .. } => {
                    of(&self.admin_denied, [("reason", reason.name().into())])
                }
                AdminEvent::Changed { .. } => self.admin_changes.clone(),
                AdminEvent::Crowded { .. } => self.admin_crowded.clone(),
            },
            EventKind::Attempt(AttemptEvent::SentAgain { .. }) => {
                let [route, _] = labels();
                of(&self.sent_again, [route])
            }
            // Details, and what is counted by route (`requests.rs`) or by its duration.
            EventKind::Attempt(_)
            | EventKind::Queue(_)
            | EventKind::Condition(_)
            | EventKind::Tunnel(_) => return None,
        };
        Some(counter)
    }
}

impl Metrics {
    /// How long calls wait in this policy, on this route.
    fn queue_wait(&self, route: Option<&Arc<str>>, policy: Option<&Arc<str>>) -> Histogram {
        of(&self.queue_waits, of_policy(route, policy))
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
                if let Some(counter) = self.counter(route, event.policy, kind) {
                    counter.inc();
                }
                if let EventKind::Queue(QueueEvent::Admitted { waited }) = kind {
                    self.queue_wait(route, event.policy).observe(waited.as_secs_f64());
                }
                self.faults.observe(kind);
            }
        }
    }

    fn wants_details(&self) -> bool {
        false
    }
}

fn of_policy(route: Option<&Arc<str>>, policy: Option<&Arc<str>>) -> Labels<2> {
    let name = |name: Option<&Arc<str>>| name.map_or(Label::Word(""), Label::from);
    [("route", name(route)), ("policy", name(policy))]
}

fn unread_labels(reason: &'static str) -> Labels<2> {
    [("route", NO_ROUTE.into()), ("reason", reason.into())]
}

fn load(component: &Arc<str>, result: &'static str) -> Labels<2> {
    [("component", component.into()), ("result", result.into())]
}

#[cfg(test)]
mod tests;
