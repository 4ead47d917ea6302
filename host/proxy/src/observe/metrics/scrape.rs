//! What is known elsewhere and told at a scrape.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fusebox_resilience::{BudgetStatus, ComponentId, Shown, ShownEndpoint};
use fusebox_wasm::{CallHistogram, ComponentStanding};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::calls::CallDurations;
use super::endpoints::{EndpointSample, NameSample, TierSample};
use super::family::{Counters, Families, Gauges, Rates, of};

/// What is known elsewhere, at the time of a scrape.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    /// The connections of clients.
    pub connections: PlacesSample,
    /// The calls in flight, if they have a limit.
    pub calls: Option<PlacesSample>,
    /// The policies.
    pub policies: Vec<PolicySample>,
    /// The budgets, those of upstreams included.
    pub budgets: Vec<BudgetSample>,
    /// The endpoints of upstreams that have several.
    pub endpoints: Vec<EndpointSample>,
    /// The upstreams whose endpoints are the addresses of a name.
    pub names: Vec<NameSample>,
    /// The upstreams whose endpoints are of several tiers.
    pub tiers: Vec<TierSample>,
    /// The components, those on their way out included.
    pub components: Vec<ComponentSample>,
    /// The certificates in use.
    pub certificates: Vec<CertificateSample>,
    /// See `Log::dropped`.
    pub log_lines_dropped: u64,
}

/// How many places are taken, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PlacesSample {
    /// Those that are taken.
    pub taken: usize,
    /// All.
    pub places: usize,
}

impl PlacesSample {
    /// `names` and `helps` are of `taken` and of `places`.
    fn register(self, names: [&str; 2], helps: [&str; 2], new: &mut Families<'_>) {
        let counts = [self.taken, self.places].map(|count| as_gauge(count as u64));
        for ((name, help), count) in names.into_iter().zip(helps).zip(counts) {
            new.0.register(name, help, ConstGauge::new(count));
        }
    }
}

/// What a policy shows of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicySample {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its `kind` in the configuration.
    pub kind: &'static str,
    /// See [`Policy::show`](fusebox_resilience::Policy::show).
    pub shown: Vec<(&'static str, Shown)>,
    /// See [`Policy::endpoints`](fusebox_resilience::Policy::endpoints).
    pub endpoints: Vec<ShownEndpoint>,
}

/// How a budget is used. Those of the same name are added up.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetSample {
    /// Its name in the configuration, or that of the upstream whose own it is.
    pub name: Arc<str>,
    /// Its use.
    pub status: BudgetStatus,
}

impl BudgetSample {
    fn register(budgets: &[Self], new: &mut Families<'_>) {
        let calls: Gauges<1> = new.gauges("budget_calls", "Calls in flight that a budget counts");
        let extras: Gauges<1> =
            new.gauges("budget_extras", "Retries and hedges in flight that a budget counts");
        for Self { name, status } in budgets {
            let labels = [("budget", name.into())];
            of(&calls, labels.clone()).inc_by(as_gauge(status.calls_in_flight as u64));
            of(&extras, labels).inc_by(as_gauge(status.extras_in_flight as u64));
        }
    }
}

/// A certificate in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSample {
    /// Its file, as the configuration names it.
    pub file: String,
    /// Until when it is valid.
    pub until: SystemTime,
}

impl CertificateSample {
    fn register(certificates: &[Self], new: &mut Families<'_>) {
        let expiry: Gauges<1> = new.gauges(
            "certificate_expiry_timestamp_seconds",
            "When a certificate in use expires, in seconds since 1970",
        );
        for Self { file, until } in certificates {
            let until = until.duration_since(UNIX_EPOCH).unwrap_or_default();
            of(&expiry, [("file", file.clone().into())]).set(as_gauge(until.as_secs()));
        }
    }
}

fn as_gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
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
    /// Bytes of linear memory that these hold.
    pub memory: u64,
}

/// The gauges of policies, by name.
#[derive(Default)]
struct PolicyGauges {
    states: BTreeMap<String, Gauges<2>>,
    endpoint_states: BTreeMap<String, Gauges<4>>,
    counts: BTreeMap<String, Gauges<1>>,
    rates: BTreeMap<String, Rates<1>>,
}

impl PolicySample {
    /// A gauge for each word that the policy could show, 1 for the one that it shows:
    /// `fusebox_circuit_breaker_state{policy,state}`; and one for each count and each rate that is
    /// a gauge: `fusebox_retry_waiting{policy}`, `fusebox_adaptive_throttler_admitted{policy}`.
    fn register(&self, new: &mut Families<'_>, known: &mut PolicyGauges) {
        self.register_endpoints(new, known);
        let PolicyGauges { states, counts, rates, .. } = known;
        for &(field, shown) in &self.shown {
            let name = format!("{}_{field}", self.kind.replace('-', "_"));
            let policy = ("policy", (&self.name).into());
            match shown {
                Shown::Word { is, of: all } => {
                    let kind = self.kind.replace('-', " ");
                    let help = format!("1 for the {field} of a {kind}, 0 for all others");
                    let words = states.entry(name);
                    let words = words.or_insert_with_key(|name| new.gauges(name, &help));
                    for &word in all {
                        let labels = [policy.clone(), (field, word.into())];
                        of(words, labels).set(i64::from(word == is));
                    }
                }
                Shown::Gauge(count, help) => {
                    let counts = counts.entry(name);
                    let counts = counts.or_insert_with_key(|name| new.gauges(name, help));
                    of(counts, [policy]).set(as_gauge(count));
                }
                Shown::RateGauge(rate, help) => {
                    let rates = rates.entry(name);
                    let rates = rates.or_insert_with_key(|name| new.rates(name, help));
                    of(rates, [policy]).set(rate);
                }
                Shown::Count(_) | Shown::Rate(_) | Shown::Time(_) => {}
            }
        }
    }
}

impl PolicySample {
    /// The same words of each endpoint:
    /// `fusebox_circuit_breaker_endpoint_state{policy,upstream,endpoint,state}`.
    fn register_endpoints(&self, new: &mut Families<'_>, known: &mut PolicyGauges) {
        for ShownEndpoint { name, shown } in &self.endpoints {
            for &(field, shown) in shown {
                let Shown::Word { is, of: all } = shown else { continue };
                let metric = format!("{}_endpoint_{field}", self.kind.replace('-', "_"));
                let kind = self.kind.replace('-', " ");
                let help =
                    format!("1 for the {field} of an endpoint in a {kind}, 0 for all others");
                let words = known.endpoint_states.entry(metric);
                let words = words.or_insert_with_key(|metric| new.gauges(metric, &help));
                for &word in all {
                    let labels = [
                        ("policy", (&self.name).into()),
                        ("upstream", (&name.upstream).into()),
                        ("endpoint", (&name.endpoint).into()),
                        (field, word.into()),
                    ];
                    of(words, labels).set(i64::from(word == is));
                }
            }
        }
    }
}

impl Scrape {
    pub(super) fn registry(&self) -> Registry {
        let mut registry = Registry::with_prefix("fusebox");
        let mut new = Families(&mut registry);
        let mut gauges = PolicyGauges::default();
        let helps = ["Connections of clients", "Connections of clients that there may be"];
        self.connections.register(["connections", "max_connections"], helps, &mut new);
        if let Some(calls) = self.calls {
            let helps = ["Calls in flight", "Calls in flight that there may be"];
            calls.register(["calls_in_flight", "max_in_flight"], helps, &mut new);
        }
        for policy in &self.policies {
            policy.register(&mut new, &mut gauges);
        }
        BudgetSample::register(&self.budgets, &mut new);
        CertificateSample::register(&self.certificates, &mut new);
        EndpointSample::register(&self.endpoints, &mut new);
        NameSample::register(&self.names, &mut new);
        TierSample::register(&self.tiers, &mut new);
        let calls: Counters<1> = new.counters("component_calls", "Calls into a component");
        let instances: Gauges<1> =
            new.gauges("component_instances", "Instances of a component that are alive");
        let memory: Gauges<1> = new.gauges(
            "component_memory_bytes",
            "Linear memory that the instances of a component hold",
        );
        let skipped: Counters<1> = new.counters(
            "component_calls_skipped",
            "Questions that on_error answered because the component was set aside",
        );
        let standings: Gauges<2> =
            new.gauges("component_state", "1 for the state of a component, 0 for all others");
        let info: Gauges<3> =
            new.gauges("component_info", "1 for the version of a component that is in use");
        for component in &self.components {
            let name = ("component", (&component.name).into());
            let labels = || [name.clone()];
            of(&calls, labels()).inc_by(component.calls);
            of(&instances, labels()).inc_by(i64::try_from(component.instances).unwrap_or(i64::MAX));
            of(&memory, labels()).inc_by(i64::try_from(component.memory).unwrap_or(i64::MAX));
            of(&skipped, labels()).inc_by(component.skipped);
            for standing in ComponentStanding::ALL {
                let state = ("state", standing.name().into());
                of(&standings, [name.clone(), state])
                    .set(i64::from(standing == component.standing));
            }
            if let Some(ComponentId { digest, generation, .. }) = &component.version {
                let labels = [
                    name,
                    ("digest", digest.into()),
                    ("generation", generation.to_string().into()),
                ];
                of(&info, labels).set(1);
            }
        }
        let calls = self.components.iter().map(|sample| (&sample.name, &sample.call_times));
        let durations = CallDurations::of(calls);
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
        let build: Gauges<1> = new.gauges("build_info", "1 for the version of fusebox that runs");
        of(&build, [("version", env!("CARGO_PKG_VERSION").into())]).set(1);
        registry
    }
}
