//! What happens to the endpoints of upstreams.

use std::sync::Arc;

use fusebox_resilience::{EndpointEvent, EndpointName};

use super::say::Say;
use super::words::milliseconds;
use crate::observe::level::Level;
use crate::observe::line::Line;

/// So many of the endpoints that come or go are named.
const LISTED: usize = 10;

pub(super) fn endpoint(of: &EndpointEvent, say: &impl Say) {
    match of {
        EndpointEvent::Ejected { name, failures, time } => {
            say.say(Level::Warn, "Endpoint ejected", |line| {
                named(name, line);
                line.field("failures", failures).field("ejected_ms", milliseconds(*time));
            });
        }
        EndpointEvent::Returned { name } => {
            say.say(Level::Info, "Endpoint returned", |line| named(name, line));
        }
        EndpointEvent::Down { name, reason } => {
            say.say(Level::Warn, "Endpoint down: its checks fail", |line| {
                named(name, line);
                line.text("reason", reason.as_bytes());
            });
        }
        EndpointEvent::Up { name } => {
            say.say(Level::Info, "Endpoint up: its checks pass", |line| named(name, line));
        }
        EndpointEvent::Full { name, limit, waited } => {
            say.say(Level::Info, "Endpoint full: a call is turned away", |line| {
                named(name, line);
                line.text("limit", limit.key().as_bytes())
                    .field("waited_ms", milliseconds(*waited));
            });
        }
        EndpointEvent::LookupFails { name, reason, is_known } => {
            let message = match is_known {
                true => "Endpoint not looked up: its last addresses are used",
                false => "Endpoint not looked up: no address of it is known",
            };
            say.say(Level::Warn, message, |line| {
                named(name, line);
                line.text("reason", reason.as_bytes());
            });
        }
        EndpointEvent::LookupWorks { name } => {
            say.say(Level::Info, "Endpoint looked up again", |line| named(name, line));
        }
        EndpointEvent::Changed { upstream, added, removed, count } => {
            say.say(Level::Info, "Endpoints changed", |line| {
                line.text("upstream", upstream.as_bytes()).field("count", count);
                for (field, urls) in [("added", added), ("removed", removed)] {
                    if !urls.is_empty() {
                        line.text(field, listed(urls).as_bytes());
                    }
                }
            });
        }
        EndpointEvent::TierUsed { upstream, from, to } => {
            let (level, message) = match from < to {
                true => (Level::Warn, "Endpoints of a later tier used: none in front is in"),
                false => (Level::Info, "Endpoints of an earlier tier used: one is in"),
            };
            say.say(level, message, |line| {
                line.text("upstream", upstream.as_bytes()).field("from", from).field("to", to);
            });
        }
        EndpointEvent::AllUsed { upstream, tier, out, count } => {
            let message = "All endpoints used: more than half are ejected, down or open";
            say.say(Level::Error, message, |line| used(upstream, *tier, [*out, *count], line));
        }
        EndpointEvent::SomeUsed { upstream, tier, out, count } => {
            let message = "Only endpoints used that are neither ejected, down nor open";
            say.say(Level::Info, message, |line| used(upstream, *tier, [*out, *count], line));
        }
    }
}

fn used(upstream: &str, tier: Option<u16>, [out, count]: [usize; 2], line: &mut Line<'_>) {
    line.text("upstream", upstream.as_bytes());
    if let Some(tier) = tier {
        line.field("tier", tier);
    }
    line.field("out", out).field("count", count);
}

/// The first of them in words.
fn listed(urls: &[Arc<str>]) -> String {
    let (first, more) = urls.split_at(urls.len().min(LISTED));
    let first = first.join(", ");
    if more.is_empty() { first } else { format!("{first}, and {} more", more.len()) }
}

fn named(EndpointName { upstream, endpoint }: &EndpointName, line: &mut Line<'_>) {
    line.text("upstream", upstream.as_bytes()).text("endpoint", endpoint.as_bytes());
}
