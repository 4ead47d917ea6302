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
mod faults;
mod process;
mod requests;

use std::borrow::Cow;
use std::sync::Arc;

use fusebox_resilience::{
    ComponentId, ErrorKind, Event, EventKind, NoRetry, Observer, State, Status,
};
use fusebox_wasm::{CallHistogram, ComponentStanding};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

use self::calls::CallDurations;
use self::faults::Faults;
use self::requests::Requests;
use super::no_retry_name;
use crate::config::PolicyKind;

/// The `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

const SKIPS: [NoRetry; 5] =
    [NoRetry::Method, NoRetry::Body, NoRetry::RetryAfter, NoRetry::CircuitOpen, NoRetry::Budget];
const STATES: [State; 3] = [State::Closed, State::Open, State::HalfOpen];

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Gauges<const N: usize> = Family<Labels<N>, Gauge>;

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
    rejections: Counters<3>,
    fallbacks: Counters<2>,
    fallbacks_declined: Counters<2>,
    incomplete: Counters<2>,
    faults: Faults,
    loads: Counters<2>,
    quarantines: Counters<1>,
    /// When the process started, in seconds since 1970, where the system says so.
    started: Option<f64>,
}

/// What is known elsewhere, at the time of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The circuit breakers by name.
    pub breakers: Vec<(Arc<str>, Status)>,
    /// The components, those on their way out included.
    pub components: Vec<ComponentSample>,
    /// See `Log::dropped`.
    pub log_lines_dropped: u64,
}

/// A component's version and what it has done. Versions of one component are added up.
#[derive(Clone, Debug, PartialEq)]
pub struct ComponentSample {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The version in use, if there is one.
    pub version: Option<ComponentId>,
    /// Where that version stands.
    pub standing: ComponentStanding,
    /// Calls into it.
    pub calls: u64,
    /// How long they took.
    pub call_times: CallHistogram,
    /// Questions that its `on_error` answered without a call.
    pub skipped: u64,
    /// Instances that are alive.
    pub instances: u64,
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
        Self {
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
            rejections: new.counters("rejections", "Calls and attempts that a policy turned away"),
            fallbacks: new.counters("fallbacks", "Answers that a fallback gave"),
            fallbacks_declined: new
                .counters("fallbacks_declined", "Calls that a fallback's component did not answer"),
            incomplete: new.counters(
                "responses_incomplete",
                "Responses that broke off after their head was sent",
            ),
            faults: Faults::new(
                new.counters("component_faults", "Calls into a component that failed"),
            ),
            loads: new.counters(
                "component_loads",
                "Versions of a component that were loaded, rejected or put back",
            ),
            quarantines: new
                .counters("component_quarantines", "Times that a component was set aside"),
            started: process::start_time(),
            registry,
        }
    }

    /// Makes the series of a route appear, at 0: an alert on a rate needs the first increment to be
    /// one.
    pub fn announce_route(&self, route: &Arc<str>) {
        self.requests.announce(route);
    }

    /// Makes the series of a policy on a route appear, at 0.
    pub fn announce_policy(&self, route: &Arc<str>, policy: &Arc<str>, kind: PolicyKind) {
        let of_policy = || [("route", owned(route)), ("policy", owned(policy))];
        match kind {
            PolicyKind::Retry => {
                for family in [&self.retries, &self.retries_exhausted, &self.retries_aborted] {
                    appear(family, &of_policy());
                }
                for reason in SKIPS {
                    appear(&self.retries_skipped, &with_reason(of_policy(), no_retry_name(reason)));
                }
            }
            PolicyKind::CircuitBreaker => {
                let reason = ErrorKind::CircuitOpen.failure().name();
                appear(&self.rejections, &with_reason(of_policy(), reason));
                for (from, to) in [
                    (State::Closed, State::Open),
                    (State::Open, State::HalfOpen),
                    (State::HalfOpen, State::Open),
                    (State::HalfOpen, State::Closed),
                ] {
                    appear(&self.transitions, &transition(policy, from, to));
                }
            }
            PolicyKind::Timeout => appear(&self.timeouts, &of_policy()),
            PolicyKind::Fallback => {
                for family in [&self.fallbacks, &self.fallbacks_declined] {
                    appear(family, &of_policy());
                }
            }
        }
    }

    /// Makes the series of a component appear, at 0; those of its versions do when they are loaded.
    pub fn announce_component(&self, component: &Arc<str>) {
        for result in ["loaded", "rejected", "rolled-back"] {
            appear(&self.loads, &load(component, result));
        }
        appear(&self.quarantines, &[("component", owned(component))]);
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

impl Observer for Metrics {
    fn observe(&self, event: &Event<'_>) {
        // Not for the events of every request.
        let of_policy = || {
            let route = event.call.map_or("", |call| call.route());
            [("route", owned(route)), ("policy", owned(event.policy.unwrap_or_default()))]
        };
        match event.kind {
            &EventKind::AttemptFinished { outcome, elapsed, .. } => {
                if let Some(call) = event.call {
                    self.requests.count(call.route(), |route| route.attempt(outcome, elapsed));
                }
            }
            &EventKind::CallFinished { status, elapsed, .. } => {
                if let Some(call) = event.call {
                    self.requests.count(call.route(), |route| route.request(status, elapsed));
                }
            }
            EventKind::RetryScheduled { .. } => increment(&self.retries, &of_policy()),
            EventKind::RetriesExhausted { .. } => increment(&self.retries_exhausted, &of_policy()),
            EventKind::RetryAborted => increment(&self.retries_aborted, &of_policy()),
            &EventKind::RetrySkipped { reason } => {
                increment(&self.retries_skipped, &with_reason(of_policy(), no_retry_name(reason)));
            }
            EventKind::TimeoutExceeded { .. } => increment(&self.timeouts, &of_policy()),
            &EventKind::CircuitStateChanged { from, to, .. } => {
                increment(
                    &self.transitions,
                    &transition(event.policy.unwrap_or_default(), from, to),
                );
            }
            EventKind::CallRejected { kind, .. } => {
                increment(&self.rejections, &with_reason(of_policy(), kind.failure().name()));
            }
            EventKind::FallbackServed { .. } => increment(&self.fallbacks, &of_policy()),
            EventKind::FallbackDeclined => increment(&self.fallbacks_declined, &of_policy()),
            EventKind::ComponentFaulted { component, fault, .. } => {
                self.faults.count(component, *fault);
            }
            EventKind::ComponentLoaded { component, .. } => {
                increment(&self.loads, &load(&component.name, "loaded"));
                self.faults.announce(component);
            }
            EventKind::ComponentRejected { name, .. } => {
                increment(&self.loads, &load(name, "rejected"))
            }
            EventKind::ComponentRolledBack { component, .. } => {
                increment(&self.loads, &load(&component.name, "rolled-back"));
                self.faults.announce(component);
            }
            EventKind::ComponentQuarantined { component, .. } => {
                increment(&self.quarantines, &[("component", owned(&component.name))]);
            }
            &EventKind::ResponseIncomplete { kind } => {
                let [route, _] = of_policy();
                increment(&self.incomplete, &[route, ("failure", kind.failure().name().into())]);
            }
            // Lines are for reading, and the state at a scrape says who is back.
            EventKind::ComponentPrinted { .. }
            | EventKind::ExchangeCaptured { .. }
            | EventKind::ComponentReleased { .. } => {}
        }
    }
}

fn owned(name: &str) -> Cow<'static, str> {
    Cow::Owned(name.to_owned())
}

/// Makes the series exist.
fn appear<const N: usize>(family: &Counters<N>, labels: &Labels<N>) {
    drop(family.get_or_create(labels));
}

fn increment<const N: usize>(family: &Counters<N>, labels: &Labels<N>) {
    family.get_or_create(labels).inc();
}

fn with_reason([route, policy]: Labels<2>, reason: &'static str) -> Labels<3> {
    [route, policy, ("reason", reason.into())]
}

fn transition(policy: &str, from: State, to: State) -> Labels<3> {
    [("policy", owned(policy)), ("from", from.name().into()), ("to", to.name().into())]
}

fn load(component: &str, result: &'static str) -> Labels<2> {
    [("component", owned(component)), ("result", result.into())]
}

/// Makes families in a registry.
struct Families<'a>(&'a mut Registry);

impl Families<'_> {
    fn counters<const N: usize>(&mut self, name: &str, help: &str) -> Counters<N> {
        self.register(name, help, Family::default())
    }

    fn gauges<const N: usize>(&mut self, name: &str, help: &str) -> Gauges<N> {
        self.register(name, help, Family::default())
    }

    fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}

impl Scrape {
    fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("fusebox");
        let mut new = Families(&mut registry);
        let states: Gauges<2> =
            new.gauges("circuit_breaker_state", "Where a circuit breaker stands: 1 for one state");
        for (policy, status) in &self.breakers {
            for state in STATES {
                let gauge = states.get_or_create_owned(&[
                    ("policy", owned(policy)),
                    ("state", state.name().into()),
                ]);
                gauge.set(i64::from(state == status.state));
            }
        }
        let calls: Counters<1> = new.counters("component_calls", "Calls into a component");
        let instances: Gauges<1> =
            new.gauges("component_instances", "Instances of a component that are alive");
        let skipped: Counters<1> = new.counters(
            "component_calls_skipped",
            "Questions that on_error answered because the component was set aside",
        );
        let standings: Gauges<2> =
            new.gauges("component_state", "Where a component stands: 1 for one state");
        let info: Gauges<3> =
            new.gauges("component_info", "The versions of a component that are in use");
        for component in &self.components {
            let labels = [("component", owned(&component.name))];
            calls.get_or_create(&labels).inc_by(component.calls);
            instances
                .get_or_create(&labels)
                .inc_by(i64::try_from(component.instances).unwrap_or(i64::MAX));
            skipped.get_or_create(&labels).inc_by(component.skipped);
            let [name] = labels;
            for standing in ComponentStanding::ALL {
                let gauge = standings
                    .get_or_create_owned(&[name.clone(), ("state", standing.name().into())]);
                gauge.set(i64::from(standing == component.standing));
            }
            if let Some(ComponentId { digest, generation, .. }) = &component.version {
                let labels = [
                    name,
                    ("digest", owned(digest)),
                    ("generation", generation.to_string().into()),
                ];
                info.get_or_create(&labels).set(1);
            }
        }
        let durations = CallDurations::of(&self.components);
        new.0.register(
            "component_call_seconds",
            "Time that calls into a component took",
            durations,
        );
        let dropped = ConstCounter::new(self.log_lines_dropped);
        new.0.register(
            "log_lines_dropped",
            "Log lines that were lost because the output did not keep up",
            dropped,
        );
        let build: Gauges<1> = new.gauges("build_info", "The version of fusebox");
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").into())]).set(1);
        registry
    }
}

#[cfg(test)]
mod tests;
