//! What happened, and who listens.
//!
//! Policies only emit; nothing here logs or counts. Log and metrics are [`Observer`]s that match
//! [`EventKind`] exhaustively, so a new event does not compile until each has decided what to do
//! with it.

mod admin;
mod cache;
mod call;
mod certificate;
mod component;
mod connection;
mod endpoint;
mod policy;
mod server;
mod tunnel;

pub use admin::{AdminEvent, Denial};
pub use cache::{CacheEvent, CacheResult, NotStored, StaleReason};
pub use call::{
    AttemptEvent, AttemptOutcome, CallEvent, ConditionEvent, RequestFlaw, SentAgainCause,
};
pub use certificate::CertificateEvent;
pub use component::{ComponentEvent, ComponentId, Fault};
pub use connection::{ConnectionEvent, ConnectionLimit, HandshakeFailure, Http2Fault};
pub use endpoint::{EndpointEvent, EndpointLimit, EndpointName};
pub use policy::{
    AdaptiveLimiterEvent, AdaptiveThrottlerEvent, BodyLimit, CircuitBreakerEvent, CircuitState,
    FallbackEvent, HedgeEvent, KeysEvent, LimitChangeKind, NoHedge, NoRetry, QueueEvent,
    RetryEvent, TimeoutEvent,
};
pub use server::ServerEvent;
pub use tunnel::{TunnelEnd, TunnelEvent};

use std::fmt;
use std::sync::Arc;

use crate::provenance::Provenance;
use crate::request::Request;

/// Something that happened, to a call or to what serves calls.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// The request that it concerns.
    pub request: Option<&'a Request>,
    /// The policy that emits it.
    pub policy: Option<&'a Arc<str>>,
    /// The version of a component whose answer to a condition led to it.
    pub decided_by: Option<&'a ComponentId>,
    /// The attempt that it is about, or whose outcome led to it.
    pub provenance: Option<&'a Provenance>,
    /// The endpoint of that attempt, if its upstream has several.
    pub endpoint: Option<&'a Arc<str>>,
    /// What happened.
    pub kind: &'a EventKind,
}

/// What happened, by who emits it.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// To a whole call.
    Call(CallEvent),
    /// To an attempt.
    Attempt(AttemptEvent),
    /// To a condition.
    Condition(ConditionEvent),
    /// In a timeout policy.
    Timeout(TimeoutEvent),
    /// In a retry policy.
    Retry(RetryEvent),
    /// In a circuit breaker.
    CircuitBreaker(CircuitBreakerEvent),
    /// In a fallback.
    Fallback(FallbackEvent),
    /// In an adaptive limiter.
    AdaptiveLimiter(AdaptiveLimiterEvent),
    /// In an adaptive throttler.
    AdaptiveThrottler(AdaptiveThrottlerEvent),
    /// In the line in front of a policy.
    Queue(QueueEvent),
    /// Among the keys of a policy.
    Keys(KeysEvent),
    /// In a hedge.
    Hedge(HedgeEvent),
    /// In a cache.
    Cache(CacheEvent),
    /// To a component.
    Component(ComponentEvent),
    /// To an endpoint of an upstream.
    Endpoint(EndpointEvent),
    /// On a client's connection.
    Connection(ConnectionEvent),
    /// To a certificate's file.
    Certificate(CertificateEvent),
    /// To a tunnel.
    Tunnel(TunnelEvent),
    /// To the server.
    Server(ServerEvent),
    /// On the admin listener.
    Admin(AdminEvent),
}

/// `XEvent` is `EventKind::X`.
macro_rules! from_groups {
    ($($group:ident($event:ident)),*) => {
        $(impl From<$event> for EventKind {
            fn from(event: $event) -> Self {
                Self::$group(event)
            }
        })*
    };
}

from_groups!(
    Call(CallEvent),
    Attempt(AttemptEvent),
    Condition(ConditionEvent),
    Timeout(TimeoutEvent),
    Retry(RetryEvent),
    CircuitBreaker(CircuitBreakerEvent),
    Fallback(FallbackEvent),
    AdaptiveLimiter(AdaptiveLimiterEvent),
    AdaptiveThrottler(AdaptiveThrottlerEvent),
    Queue(QueueEvent),
    Keys(KeysEvent),
    Hedge(HedgeEvent),
    Cache(CacheEvent),
    Component(ComponentEvent),
    Endpoint(EndpointEvent),
    Connection(ConnectionEvent),
    Certificate(CertificateEvent),
    Tunnel(TunnelEvent),
    Server(ServerEvent),
    Admin(AdminEvent)
);

/// Hears of events. Must not block: it is called on the workers, between two lines of a request.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn observe(&self, event: &Event<'_>);

    /// Whether it wants the details too: events of every request, such as each question to a
    /// condition. They are not made if no observer wants them.
    fn wants_details(&self) -> bool {
        true
    }
}

/// Everyone who listens.
#[derive(Clone, Default)]
pub struct Observers {
    list: Arc<[Arc<dyn Observer>]>,
    wants_details: bool,
}

impl Observers {
    /// These.
    pub fn new(observers: impl Into<Arc<[Arc<dyn Observer>]>>) -> Self {
        let list = observers.into();
        let wants_details = list.iter().any(|observer| observer.wants_details());
        Self { list, wants_details }
    }

    /// The same observers in a list of its own. Workers that clone a shared list for every call
    /// would contend on one reference count.
    #[must_use]
    pub fn unshared(&self) -> Self {
        Self { list: self.list.iter().cloned().collect(), wants_details: self.wants_details }
    }

    /// Whether one of them wants the details.
    pub fn wants_details(&self) -> bool {
        self.wants_details
    }

    /// Tells all of them, in order.
    pub fn emit(&self, event: &Event<'_>) {
        for observer in &*self.list {
            observer.observe(event);
        }
    }

    /// Tells them of something that concerns no request.
    pub fn emit_for_policy(&self, policy: Option<&Arc<str>>, kind: &EventKind) {
        self.emit(&Event {
            request: None,
            policy,
            decided_by: None,
            provenance: None,
            endpoint: None,
            kind,
        });
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observers").field(&self.list.len()).finish()
    }
}
