//! The endpoints of upstreams.

use std::sync::Arc;

use fusebox_resilience::{EndpointLimit, EndpointName};

use super::family::{Counters, Families, Gauges, Labels, of};

/// An endpoint as it is at a scrape.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSample {
    /// The name of its upstream.
    pub upstream: Arc<str>,
    /// Its URL.
    pub endpoint: Arc<str>,
    /// Connections to it.
    pub connections: usize,
    /// Calls that wait for it.
    pub waiting: usize,
    /// Attempts under way, if they are counted.
    pub in_flight: Option<usize>,
    /// How it is used, if its upstream has several.
    pub among_others: Option<ChosenEndpointSample>,
}

/// How an endpoint of several is used.
#[derive(Clone, Debug, PartialEq)]
pub struct ChosenEndpointSample {
    /// Attempts that have ended.
    pub attempts: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// Whether it is neither ejected nor down.
    pub is_in: bool,
}

/// An upstream whose endpoints are the addresses of a name.
#[derive(Clone, Debug, PartialEq)]
pub struct NameSample {
    /// The name of the upstream.
    pub upstream: Arc<str>,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// Whether looking the name up has failed the last time.
    pub is_failing: bool,
}

/// An upstream whose endpoints are of several tiers.
#[derive(Clone, Debug, PartialEq)]
pub struct TierSample {
    /// The name of the upstream.
    pub upstream: Arc<str>,
    /// The place of the tier in use, from 0.
    pub place: usize,
}

impl TierSample {
    pub(super) fn register(tiers: &[Self], new: &mut Families<'_>) {
        if tiers.is_empty() {
            return;
        }
        let places: Gauges<1> = new.gauges(
            "upstream_tier",
            "The tier of an upstream's endpoints that gets the requests; 0 is the first",
        );
        for Self { upstream, place } in tiers {
            let labels = [("upstream", upstream.into())];
            of(&places, labels).set(i64::try_from(*place).unwrap_or(i64::MAX));
        }
    }
}

impl NameSample {
    pub(super) fn register(names: &[Self], new: &mut Families<'_>) {
        if names.is_empty() {
            return;
        }
        let counts: Gauges<1> =
            new.gauges("upstream_endpoints", "Endpoints that the name of an upstream leads to");
        let failing: Gauges<1> = new.gauges(
            "upstream_lookup_failing",
            "1 for an upstream whose name can't be looked up for now",
        );
        for Self { upstream, endpoints, is_failing } in names {
            let labels = || [("upstream", upstream.into())];
            of(&counts, labels()).set(i64::try_from(*endpoints).unwrap_or(i64::MAX));
            of(&failing, labels()).set((*is_failing).into());
        }
    }
}

/// The labels of calls that were turned away by this limit.
pub(super) fn full(of: &EndpointName, limit: EndpointLimit) -> Labels<3> {
    [
        ("upstream", (&of.upstream).into()),
        ("endpoint", (&of.endpoint).into()),
        ("limit", limit.key().into()),
    ]
}

/// Those that have gone leave no series behind.
pub(super) fn forget(full: &Counters<3>, upstream: &Arc<str>, gone: &[Arc<str>]) {
    for endpoint in gone {
        let name = EndpointName { upstream: upstream.clone(), endpoint: endpoint.clone() };
        for limit in EndpointLimit::ALL {
            full.remove(&self::full(&name, limit).into());
        }
    }
}

impl EndpointSample {
    pub(super) fn register(endpoints: &[Self], new: &mut Families<'_>) {
        let connections: Gauges<2> =
            new.gauges("endpoint_connections", "Connections to an endpoint");
        let waiting: Gauges<2> = new.gauges(
            "endpoint_waiting",
            "Calls that wait for an endpoint, of which a limit is reached",
        );
        let in_flight: Gauges<2> =
            new.gauges("endpoint_in_flight", "Attempts under way at an endpoint");
        let attempts: Counters<2> =
            new.counters("endpoint_attempts", "Attempts at an endpoint that have ended");
        let failures: Counters<2> =
            new.counters("endpoint_failures", "Attempts at an endpoint that failed");
        let ejections: Counters<2> =
            new.counters("endpoint_ejections", "Times that an endpoint was ejected");
        let are_in: Gauges<2> =
            new.gauges("endpoint_in", "1 for an endpoint that is neither ejected nor down");
        let gauge = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for sample in endpoints {
            let labels = || {
                [("upstream", (&sample.upstream).into()), ("endpoint", (&sample.endpoint).into())]
            };
            of(&connections, labels()).set(gauge(sample.connections));
            of(&waiting, labels()).set(gauge(sample.waiting));
            if let Some(count) = sample.in_flight {
                of(&in_flight, labels()).set(gauge(count));
            }
            if let Some(sample) = &sample.among_others {
                of(&attempts, labels()).inc_by(sample.attempts);
                of(&failures, labels()).inc_by(sample.failures);
                of(&ejections, labels()).inc_by(sample.ejections);
                of(&are_in, labels()).set(sample.is_in.into());
            }
        }
    }
}
