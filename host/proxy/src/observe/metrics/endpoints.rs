//! The endpoints of upstreams that have several.

use std::sync::Arc;

use super::family::{Counters, Families, Gauges, of};

/// How an endpoint is used.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointSample {
    /// The name of its upstream.
    pub upstream: Arc<str>,
    /// Its URL.
    pub endpoint: Arc<str>,
    /// Attempts under way.
    pub in_flight: u32,
    /// Attempts that have ended.
    pub attempts: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// How often it was ejected.
    pub ejections: u64,
    /// Whether it is neither ejected nor down.
    pub is_in: bool,
}

impl EndpointSample {
    pub(super) fn register(endpoints: &[Self], new: &mut Families<'_>) {
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
        for sample in endpoints {
            let labels = || {
                [("upstream", (&sample.upstream).into()), ("endpoint", (&sample.endpoint).into())]
            };
            of(&in_flight, labels()).set(sample.in_flight.into());
            of(&attempts, labels()).inc_by(sample.attempts);
            of(&failures, labels()).inc_by(sample.failures);
            of(&ejections, labels()).inc_by(sample.ejections);
            of(&are_in, labels()).set(sample.is_in.into());
        }
    }
}
