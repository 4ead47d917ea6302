//! Looks up the names of upstreams whose endpoints are all addresses of a name, off the workers.
//!
//! A name is looked up again when the shortest time has passed that its answers are good for. IPv4
//! and IPv6 are asked for apart: where one of them has no answer its last addresses stay. When
//! there is none at all, all stay.
//!
//! The records of a service name hosts with their ports, each of which is looked up so.

mod merge;
mod resolver;
mod service;

use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{EndpointEvent, EndpointName, Observers};
use tokio::time::{Instant, sleep};

use super::shared::SharedUpstream;
use crate::config::{DnsConfig, EndpointConfig, EndpointUrl};
use merge::{KnownFamilies, MergedAnswers};
use resolver::Resolver;
use service::KnownService;

/// So soon a name is looked up again after the first failure; after each further one the time is
/// twice as long,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// and at most so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Looks up the name of this upstream's endpoints, again and again.
pub(super) async fn follow(upstream: Arc<SharedUpstream>, dns: DnsConfig, observers: Observers) {
    let mut resolver = Resolver::new(dns.resolver);
    let mut known = match dns.srv {
        true => KnownName::Service(KnownService::default()),
        false => KnownName::Host(KnownFamilies::default()),
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let merged = known.look_up(&resolver, &dns.dns.host).await;
        let has_failed = merged.problem.is_some();
        let mut events = Vec::new();
        if merged.has_some {
            events.extend(upstream.set_endpoints(known.endpoints(&dns.dns), Instant::now()));
        }
        let is_known = !known.endpoints(&dns.dns).is_empty();
        events.extend(note(&upstream, &dns, merged.problem, is_known));
        for event in events {
            observers.emit_for_policy(None, &event.into());
        }
        let mut time = merged.good_for;
        if has_failed {
            time = time.min(pause);
            pause = (2 * pause).min(LONGEST_PAUSE);
            // What the system says of its name servers may have changed.
            resolver = Resolver::new(dns.resolver);
        } else {
            pause = FIRST_PAUSE;
        }
        sleep(time).await;
    }
}

/// What is known of a name.
enum KnownName {
    Host(KnownFamilies),
    Service(KnownService),
}

impl KnownName {
    async fn look_up(&mut self, resolver: &Resolver, name: &str) -> MergedAnswers {
        match self {
            Self::Host(known) => known.merge(resolver.look_up(name).await),
            Self::Service(known) => known.look_up(resolver, name).await,
        }
    }

    /// The endpoints that it leads to, each once.
    fn endpoints(&self, url: &EndpointUrl) -> Vec<EndpointConfig> {
        match self {
            Self::Host(known) => known.addresses().map(|ip| url.at(ip).into()).collect(),
            Self::Service(known) => known.endpoints(url),
        }
    }
}

/// Notes whether the name could be looked up. Returns what is to be told: that it fails, or works
/// again.
fn note(
    upstream: &SharedUpstream,
    dns: &DnsConfig,
    problem: Option<String>,
    is_known: bool,
) -> Option<EndpointEvent> {
    let was_failing = upstream.set_problem(problem.as_deref());
    let name = || EndpointName {
        upstream: upstream.label().into(),
        endpoint: dns.dns.url.as_str().into(),
    };
    match problem {
        Some(reason) if !was_failing => {
            Some(EndpointEvent::LookupFails { name: name(), reason, is_known })
        }
        None if was_failing => Some(EndpointEvent::LookupWorks { name: name() }),
        _ => None,
    }
}
