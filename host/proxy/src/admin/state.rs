//! `/state`: what runs, and its state, as JSON. The field names are a contract.

use fusebox_resilience::{Budget, ComponentId, Shown, ShownEndpoint, ShownKeys};
use fusebox_wasm::ComponentRejection;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::route::Route;
use crate::running::Running;
use crate::server::ServerLoad;
use crate::upstream::shared::{EndpointStanding, EndpointStatus, SharedUpstream};

/// Routes in the order in which they are tried; policies and components by name.
pub(super) fn of(running: &Running, load: &ServerLoad, is_ready: bool) -> Value {
    let workers = load
        .workers
        .iter()
        .map(|load| json!({ "connections": load.connections(), "stalled": load.is_stalled() }));
    let routes = running.routes.routes().iter().map(|route| self::route(running, route));
    let upstreams = running.routes.upstreams().iter().map(|shared| upstream(shared));
    let budgets = running.budgets.iter().map(|(name, of)| (name.clone(), budget(of)));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": is_ready,
        "connections": { "taken": load.places.taken(), "places": load.places.count() },
        "calls": load.calls.as_ref().map(|calls| {
            json!({ "in_flight": calls.taken(), "places": calls.count() })
        }),
        "workers": workers.collect::<Vec<_>>(),
        "routes": routes.collect::<Vec<_>>(),
        "upstreams": upstreams.collect::<Vec<_>>(),
        "policies": policies(running),
        "budgets": Value::Object(budgets.collect()),
        "components": components(running),
        "certificates": certificates(running),
    })
}

fn route(running: &Running, route: &Route) -> Value {
    let policies: Vec<_> =
        route.pipeline.policies().iter().map(|policy| policy.name().to_string()).collect();
    json!({
        "name": &*route.name,
        "matches": route.matches.to_string(),
        "upstream": running.routes.upstreams()[route.upstream].label(),
        "policies": policies,
    })
}

fn certificates(running: &Running) -> Value {
    let certificates = running.certificates().map(|certificate| {
        json!({
            "file": certificate.file,
            "subject": certificate.subject,
            "hosts": certificate.hosts,
            "until": jiff::Timestamp::try_from(certificate.until).ok(),
        })
    });
    certificates.collect()
}

/// Endpoints are objects, so that fields can be added.
fn upstream(upstream: &SharedUpstream) -> Value {
    let config = &upstream.config;
    let tier = upstream.tier_in_use().map(|(tier, _)| tier);
    let endpoints = upstream.status().into_iter().map(|status| endpoint(status, tier.is_some()));
    let mut shown = json!({
        "name": config.name,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "settings": config.settings,
        "budget": budget(&upstream.budget),
    });
    if let Some(dns) = config.endpoints.dns() {
        shown["dns"] = json!({
            "url": dns.dns.url,
            "resolver": dns.resolver,
            "problem": upstream.problem().as_deref(),
        });
    }
    if config.is_fleet() {
        shown["balance"] = config.fleet.balance.name().into();
    }
    if let Some(tier) = tier {
        shown["tier"] = tier.into();
    }
    shown
}

/// Of the only endpoint less is known.
fn endpoint(status: EndpointStatus, has_tiers: bool) -> Value {
    let EndpointStatus { url, weight, tier, connections, waiting, in_flight, usage } = status;
    let mut shown = json!({ "url": &*url, "connections": connections, "waiting": waiting });
    if let Some(in_flight) = in_flight {
        shown["in_flight"] = in_flight.into();
    }
    if let Some(usage) = usage {
        shown["weight"] = weight.into();
        if has_tiers {
            shown["tier"] = tier.into();
        }
        shown["state"] = usage.standing.name().into();
        if let EndpointStanding::Ejected(time) = usage.standing {
            shown["ejected_ms"] = millis(time);
        }
        shown["asked_ms"] = usage.asked.map_or(Value::Null, millis);
        shown["attempts"] = usage.attempts.into();
        shown["failures"] = usage.failures.into();
        shown["ejections"] = usage.ejections.into();
    }
    shown
}

fn budget(of: &Budget) -> Value {
    let status = of.status(Instant::now());
    json!({
        "calls_in_flight": status.calls_in_flight,
        "extras_in_flight": status.extras_in_flight,
        "calls_begun": status.calls_begun,
        "extras_begun": status.extras_begun,
    })
}

fn policies(running: &Running) -> Value {
    let policies = running.policies.iter().map(|(name, policy)| {
        let mut shown = json!({ "kind": policy.kind() });
        show(&mut shown, &policy.show());
        if let Some(keys) = policy.keys() {
            shown["keys"] = self::keys(&keys);
        }
        if let Some(endpoints) = policy.endpoints() {
            shown["endpoints"] = endpoints.iter().map(endpoint_of_policy).collect();
        }
        (name.to_string(), shown)
    });
    Value::Object(policies.collect())
}

fn endpoint_of_policy(ShownEndpoint { name, shown }: &ShownEndpoint) -> Value {
    let mut state = json!({ "upstream": &*name.upstream, "endpoint": &*name.endpoint });
    show(&mut state, shown);
    state
}

/// The busiest keys, and what calls without one and newcomers share.
fn keys(keys: &ShownKeys) -> Value {
    let state = |shown: &[(&'static str, Shown)]| {
        let mut state = json!({});
        show(&mut state, shown);
        state
    };
    let busiest = keys.busiest.iter().map(|key| {
        let mut shown = json!({ "key": &*key.key, "calls": key.calls });
        show(&mut shown, &key.shown);
        shown
    });
    json!({
        "count": keys.count,
        "max": keys.max,
        "busiest": busiest.collect::<Vec<_>>(),
        "none": state(&keys.none),
        "overflow": keys.overflow.as_deref().map(state),
    })
}

fn show(on: &mut Value, shown: &[(&'static str, Shown)]) {
    for &(field, value) in shown {
        match value {
            Shown::Word { is, .. } => on[field] = is.into(),
            Shown::Count(count) | Shown::Gauge(count, _) => {
                on[field] = count.into();
            }
            Shown::Rate(rate) | Shown::RateGauge(rate, _) => on[field] = rate.into(),
            Shown::Time(time) => on[&*format!("{field}_ms")] = millis(time),
        }
    }
}

fn components(running: &Running) -> Value {
    let components = running.components.status().into_iter().map(|status| {
        let faults =
            status.faults.iter().map(|(fault, count)| (fault.name().to_owned(), json!(count)));
        let component = json!({
            "file": status.file.display().to_string(),
            "digest": status.version.as_ref().map(|version| &*version.digest),
            "generation": status.version.as_ref().map(|version| version.generation),
            "state": status.standing.name(),
            "kept": status.kept.iter().map(version).collect::<Vec<_>>(),
            "rejected": status.rejection.as_ref().map(rejection),
            "calls": status.calls,
            "skipped": status.skipped,
            "faults": Value::Object(faults.collect()),
            "instances": status.instances,
            "memory_bytes": status.memory,
        });
        (status.name.to_string(), component)
    });
    Value::Object(components.collect())
}

fn version(component: &ComponentId) -> Value {
    json!({ "digest": &*component.digest, "generation": component.generation })
}

fn rejection(rejection: &ComponentRejection) -> Value {
    json!({
        "digest": rejection.digest.as_deref(),
        "reason": &*rejection.reason,
        "ago_ms": millis(rejection.at.elapsed()),
    })
}

fn millis(duration: std::time::Duration) -> Value {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).into()
}
