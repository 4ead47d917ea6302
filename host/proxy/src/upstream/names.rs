//! Looks up the names of upstreams whose endpoints are all addresses of a name, off the workers.
//!
//! A name is looked up again when the shortest time has passed that its answers are good for. IPv4
//! and IPv6 are asked for apart: where one of them has no answer its last addresses stay. When
//! there is none at all, all stay.

mod merge;
mod resolver;

use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{EndpointEvent, EndpointName, Observers};
use tokio::time::{Instant, sleep};

use super::shared::SharedUpstream;
use crate::config::{DnsConfig, EndpointConfig};
use merge::KnownFamilies;
use resolver::Resolver;

/// So soon a name is looked up again after the first failure; after each further one the time is
/// twice as long,
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// and at most so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Looks up the name of this upstream's endpoints, again and again.
pub(super) async fn follow(upstream: Arc<SharedUpstream>, dns: DnsConfig, observers: Observers) {
    let mut resolver = Resolver::new(dns.resolver);
    let mut known = KnownFamilies::default();
    let mut pause = FIRST_PAUSE;
    loop {
        let merged = known.merge(resolver.look_up(&dns.dns.host).await);
        let has_failed = merged.problem.is_some();
        let mut events = Vec::new();
        if merged.has_some {
            let at = |ip| EndpointConfig { url: dns.dns.at(ip), weight: 1 };
            let endpoints = known.addresses().map(at).collect();
            events.extend(upstream.set_endpoints(endpoints, Instant::now()));
        }
        let is_known = known.addresses().next().is_some();
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
