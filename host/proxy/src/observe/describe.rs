//! What an event comes to in words: the one place that knows the level, the message and the fields
//! of each. The access line alone has a form of its own (`log/access.rs`).

mod call;
mod component;
mod endpoint;
mod policy;
mod say;
mod server;
mod words;

pub(crate) use say::Say;

use std::fmt;

use fusebox_resilience::{CircuitBreakerEvent, Event, EventKind};

use super::level::Level;
use super::line::Line;

/// Describes an event.
pub(crate) fn describe(event: &Event<'_>, say: &impl Say) {
    let say = &WithContext { event, say };
    match event.kind {
        EventKind::Call(of) => call::call(event, of, say),
        EventKind::Attempt(of) => call::attempt(event, of, say),
        EventKind::Condition(of) => call::condition(of, say),
        EventKind::Timeout(of) => policy::timeout(of, say),
        EventKind::Retry(of) => policy::retry(of, say),
        EventKind::CircuitBreaker(of) => policy::circuit_breaker(of, say),
        EventKind::Fallback(of) => policy::fallback(of, say),
        EventKind::AdaptiveLimiter(of) => policy::adaptive_limiter(of, say),
        EventKind::AdaptiveThrottler(of) => policy::adaptive_throttler(of, say),
        EventKind::Queue(of) => policy::queue(of, say),
        EventKind::Keys(of) => policy::keys(of, say),
        EventKind::Hedge(of) => policy::hedge(of, say),
        EventKind::Cache(of) => policy::cache(of, say),
        EventKind::Component(of) => component::component(of, say),
        EventKind::Endpoint(of) => endpoint::endpoint(of, say),
        EventKind::Connection(of) => server::connection(of, say),
        EventKind::Certificate(of) => server::certificate(of, say),
        EventKind::Tunnel(of) => call::tunnel(of, say),
        EventKind::Server(of) => server::server(of, say),
        EventKind::Admin(of) => server::admin(of, say),
    }
}

/// Puts what every event has before the fields of its own.
struct WithContext<'a, S> {
    event: &'a Event<'a>,
    say: &'a S,
}

impl<S: Say> Say for WithContext<'_, S> {
    fn say(&self, level: Level, message: impl fmt::Display, fields: impl FnOnce(&mut Line<'_>)) {
        let Event { request, policy, decided_by, provenance, endpoint, .. } = self.event;
        self.say.say(level, message, |line| {
            if let Some(request) = request {
                line.own("request_id", request.id()).text("route", request.route().as_bytes());
            }
            if let Some(policy) = policy {
                line.text("policy", policy.as_bytes());
            }
            if let Some(component) = decided_by {
                line.open("decided_by").component(component).close();
            }
            if let Some(provenance) = provenance {
                line.field("attempt", provenance.attempt);
                // What happens to an endpoint names it itself.
                if let Some(endpoint) = endpoint
                    && !names_endpoint(self.event.kind)
                {
                    line.text("endpoint", endpoint.as_bytes());
                }
                if let Some(address) = provenance.address {
                    line.address(address);
                }
                if provenance.is_http2 {
                    line.field("upstream_protocol", "HTTP/2");
                }
            }
            fields(line);
        });
    }
}

fn names_endpoint(kind: &EventKind) -> bool {
    use CircuitBreakerEvent::StateChanged;
    matches!(
        kind,
        EventKind::Endpoint(_) | EventKind::CircuitBreaker(StateChanged { endpoint: Some(_), .. })
    )
}
