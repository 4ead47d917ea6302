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

/// The labels of calls that were turned away by this limit.
pub(super) fn full(of: &EndpointName, limit: EndpointLimit) -> Labels<3> {
    [
        ("upstream", (&of.upstream).into()),
        ("endpoint", (&of.endpoint).into()),
        ("limit", limit.key().into()),
    ]
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
