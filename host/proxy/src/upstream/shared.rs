//! What all workers know of an upstream.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fusebox_resilience::{Budget, EndpointEvent, PolicyStates};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::health::{FleetHealth, HealthChange};
pub(super) use super::shared_endpoint::EndpointResult;
use super::shared_endpoint::SharedEndpoint;
pub(crate) use super::shared_endpoint::{EndpointStanding, EndpointStatus};
use super::tier::KnownTier;
use crate::config::{EndpointConfig, EndpointsConfig, UpstreamConfig};
use crate::tls::UpstreamTls;

/// The endpoints of an upstream at one time, by tier; within one, those of a file are in its order.
pub(super) type EndpointList = Arc<[Arc<SharedEndpoint>]>;

/// What is known of where an upstream is.
#[derive(Clone, Debug)]
pub(super) struct KnownEndpoints {
    pub(super) list: EndpointList,
    /// Why they could not be looked up the last time.
    pub(super) problem: Option<Arc<str>>,
}

impl KnownEndpoints {
    /// Whether they have been looked up, or need not be.
    pub(super) fn are_looked_up(&self) -> bool {
        !self.list.is_empty() || self.problem.is_some()
    }
}

/// An upstream, shared by all workers.
#[derive(Debug)]
pub struct SharedUpstream {
    /// What the file says.
    pub config: Arc<UpstreamConfig>,
    /// The budget of those who ask it again and name none of their own.
    pub budget: Arc<Budget>,
    /// `None`: none of its endpoints speaks TLS.
    pub tls: Option<Arc<UpstreamTls>>,
    /// What policies keep of it that have a say in which endpoint is asked.
    pub(super) gates: PolicyStates,
    /// Locked by failures, by successes after them, and while the endpoints change.
    fleet: Mutex<SharedFleet>,
    /// The endpoints of now, for those who have to know when they change.
    endpoints: watch::Sender<KnownEndpoints>,
    /// The tier of endpoints that gets requests.
    tier: KnownTier,
    /// An endpoint was ejected.
    ejected: Notify,
    since: Instant,
}

/// The endpoints, and their health in the same order.
#[derive(Debug)]
struct SharedFleet {
    endpoints: EndpointList,
    health: FleetHealth,
}

/// A worker's own handle: if each attempt counted in the shared one, workers would contend.
#[derive(Debug)]
pub(super) struct UpstreamHandle(pub(super) Arc<SharedUpstream>);

impl Deref for UpstreamHandle {
    type Target = SharedUpstream;

    fn deref(&self) -> &SharedUpstream {
        &self.0
    }
}

impl SharedFleet {
    /// `None`: it has gone.
    fn place_of(&self, endpoint: &Arc<SharedEndpoint>) -> Option<usize> {
        self.endpoints.iter().position(|other| Arc::ptr_eq(other, endpoint))
    }
}

impl SharedUpstream {
    /// An upstream that nobody has asked yet.
    pub fn new(config: Arc<UpstreamConfig>) -> Self {
        let since = Instant::now();
        let listed = match &config.endpoints {
            EndpointsConfig::Listed(listed) => by_tier(listed.clone()),
            EndpointsConfig::Dns(_) => Vec::new(),
        };
        let new = |endpoint| Arc::new(SharedEndpoint::new(&config, endpoint, since));
        let endpoints: EndpointList = listed.into_iter().map(new).collect();
        let known = KnownEndpoints { list: endpoints.clone(), problem: None };
        let tiers = endpoints.iter().map(|endpoint| endpoint.config.tier);
        let health = FleetHealth::new(config.fleet.health.clone(), tiers);
        Self {
            budget: Budget::of_upstream(since).into(),
            tls: None,
            gates: PolicyStates::default(),
            endpoints: watch::Sender::new(known),
            tier: KnownTier::new(health.tier_in_use()),
            fleet: Mutex::new(SharedFleet { endpoints, health }),
            ejected: Notify::new(),
            config,
            since,
        }
    }

    /// The same with TLS for its endpoints that speak it.
    #[must_use]
    pub fn with_tls(self, tls: Option<Arc<UpstreamTls>>) -> Self {
        Self { tls, ..self }
    }

    /// Its name, or else its URL.
    pub fn label(&self) -> &str {
        self.config.label()
    }

    /// Its endpoints as they are now.
    pub fn status(&self) -> Vec<EndpointStatus> {
        let now = Instant::now();
        let SharedFleet { endpoints, health } = &*self.fleet();
        let status = endpoints.iter().enumerate().map(|(place, endpoint)| {
            let standing = match health.remaining(place, now) {
                Some(time) => EndpointStanding::Ejected(time),
                None if health.is_out(place) => EndpointStanding::Down,
                None => EndpointStanding::In,
            };
            endpoint.status(self.config.is_fleet().then_some(standing), now)
        });
        status.collect()
    }

    /// The tier of its endpoints that gets requests, and its place among the tiers, from 0. `None`:
    /// there is no other.
    pub fn tier_in_use(&self) -> Option<(u16, usize)> {
        let endpoints = self.fleet().endpoints.clone();
        let tiers = endpoints.chunk_by(|one, next| one.config.tier == next.config.tier);
        let tiers: Vec<_> = tiers.map(|of| of[0].config.tier).collect();
        let tier = self.tier.get().filter(|_| tiers.len() > 1)?;
        Some((tier, tiers.iter().position(|other| *other == tier)?))
    }

    /// Its endpoints, now and whenever they change.
    pub(super) fn endpoints(&self) -> watch::Receiver<KnownEndpoints> {
        self.endpoints.subscribe()
    }

    /// Why they could not be looked up the last time.
    pub fn problem(&self) -> Option<Arc<str>> {
        self.endpoints.borrow().problem.clone()
    }

    /// Whether they could be looked up now. Returns whether they could not the last time.
    pub(super) fn set_problem(&self, problem: Option<&str>) -> bool {
        let was_failing = self.endpoints.borrow().problem.is_some();
        self.endpoints.send_if_modified(|known| {
            let has_changed = known.problem.as_deref() != problem;
            known.problem = problem.map(Arc::from);
            has_changed
        });
        was_failing
    }

    /// Whether this is one of them now.
    pub(super) fn has(&self, endpoint: &Arc<SharedEndpoint>) -> bool {
        self.fleet().place_of(endpoint).is_some()
    }

    /// From now on it has these endpoints, each once. Of those that it had already, with the same
    /// weight and tier, everything stays as it is. Returns what has changed.
    pub(super) fn set_endpoints(
        &self,
        endpoints: Vec<EndpointConfig>,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        let endpoints = by_tier(endpoints);
        let mut fleet = self.fleet();
        if fleet.endpoints.iter().map(|it| &it.config).eq(&endpoints) {
            return Vec::new();
        }
        let before = fleet.endpoints.clone();
        let old = before.iter().enumerate();
        let mut old: HashMap<_, _> = old.map(|(place, it)| (&it.config, (place, it))).collect();
        let new = endpoints.into_iter().map(|config| match old.remove(&config) {
            Some((place, endpoint)) => (Some(place), endpoint.clone()),
            None => {
                let new = SharedEndpoint::new(&self.config, config, self.since);
                if !before.is_empty() {
                    new.comes(now);
                }
                (None, Arc::new(new))
            }
        });
        let (places, endpoints): (Vec<_>, Vec<_>) = new.unzip();
        let new = places.iter().zip(&endpoints).filter(|(place, _)| place.is_none());
        let gone = before.iter().filter(|endpoint| old.contains_key(&endpoint.config));
        let url = |endpoint: &Arc<SharedEndpoint>| endpoint.name.endpoint.clone();
        let changed = EndpointEvent::Changed {
            upstream: self.label().into(),
            added: new.map(|(_, endpoint)| url(endpoint)).collect(),
            removed: gone.map(url).collect(),
            count: endpoints.len(),
        };
        let tiers = endpoints.iter().map(|endpoint| endpoint.config.tier);
        fleet.health.replace(places.into_iter().zip(tiers));
        fleet.endpoints = endpoints.into();
        self.endpoints.send_modify(|known| known.list = fleet.endpoints.clone());
        [changed].into_iter().chain(self.review(&fleet)).collect()
    }

    /// What an endpoint is asked with over TLS, if it speaks it.
    pub(super) fn tls_of(&self, endpoint: &SharedEndpoint) -> Option<&Arc<UpstreamTls>> {
        self.tls.as_ref().filter(|_| endpoint.config.url.is_secure)
    }

    fn fleet(&self) -> MutexGuard<'_, SharedFleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this endpoint gets requests.
    pub(super) fn is_used(&self, endpoint: &SharedEndpoint) -> bool {
        !endpoint.is_out() || self.tier.uses_all_of(endpoint.config.tier)
    }

    /// The head of an attempt's response is there after so long, or will not come. With the head of
    /// an answer the endpoint is not yet known to be well, if its body is still to come. Returns
    /// what has changed.
    pub(super) fn record(
        &self,
        endpoint: &Arc<SharedEndpoint>,
        result: EndpointResult,
        asked: Duration,
        has_come: bool,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        endpoint.observe(result, asked, now);
        if result == EndpointResult::Answered {
            // A stream may go on for hours, and its client leave in the end.
            endpoint.end_trial();
        }
        let is_well = result.is_well().filter(|is_well| has_come || !is_well);
        is_well.map_or_else(Vec::new, |is_well| self.judge(endpoint, is_well, now))
    }

    /// The body of a response that was an answer has come, too.
    pub(super) fn record_whole(&self, endpoint: &Arc<SharedEndpoint>, now: Instant) {
        self.judge(endpoint, true, now);
    }

    /// The body of a response that was an answer has broken off.
    pub(super) fn record_late(
        &self,
        endpoint: &Arc<SharedEndpoint>,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        endpoint.observe_late(now);
        self.judge(endpoint, false, now)
    }

    fn judge(
        &self,
        endpoint: &Arc<SharedEndpoint>,
        is_well: bool,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        if is_well && !endpoint.is_suspect() {
            return Vec::new();
        }
        let mut fleet = self.fleet();
        let Some(place) = fleet.place_of(endpoint) else { return Vec::new() };
        let change = if is_well {
            fleet.health.succeeded(place);
            None
        } else {
            fleet.health.failed(place, now)
        };
        endpoint.set_suspect(fleet.health.is_suspect(place));
        if !fleet.health.is_on_trial(place) {
            endpoint.end_trial();
        }
        change.map_or_else(Vec::new, |change| self.apply(&fleet, place, change, "", now))
    }

    /// A check of an endpoint has passed, or failed for this reason. Where checks have failed and
    /// pass again they end an ejection, too: whatever was the matter is over. (Those that have
    /// passed all the while say nothing of what it was ejected for.)
    pub(super) fn checked(
        &self,
        endpoint: &Arc<SharedEndpoint>,
        passed: Result<(), &str>,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        let mut fleet = self.fleet();
        let Some(place) = fleet.place_of(endpoint) else { return Vec::new() };
        let change = fleet.health.checked(place, passed.is_ok());
        let reason = passed.err().unwrap_or_default();
        let Some(change) = change else { return Vec::new() };
        let mut events = self.apply(&fleet, place, change, reason, now);
        if change == HealthChange::Up && fleet.health.end_ejection(place, now) {
            events.append(&mut self.apply_return(&fleet, place, now));
        }
        events
    }

    /// Lets those come back whose ejection is over. Returns when the next one will.
    pub(super) fn let_return(&self, now: Instant) -> (Vec<EndpointEvent>, Option<Instant>) {
        let mut events = Vec::new();
        let mut fleet = self.fleet();
        while let Some(place) = fleet.health.return_one(now) {
            events.append(&mut self.apply_return(&fleet, place, now));
        }
        (events, fleet.health.next_return())
    }

    fn apply_return(&self, fleet: &SharedFleet, place: usize, now: Instant) -> Vec<EndpointEvent> {
        fleet.endpoints[place].begin_trial();
        self.apply(fleet, place, HealthChange::Returned, "", now)
    }

    /// Waits until one is ejected. One that was before counts too.
    pub(super) async fn ejected(&self) {
        self.ejected.notified().await;
    }

    fn apply(
        &self,
        fleet: &SharedFleet,
        place: usize,
        change: HealthChange,
        reason: &str,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        let SharedFleet { endpoints, health } = fleet;
        let endpoint = &endpoints[place];
        let was_out = endpoint.set_out(health.is_out(place));
        if was_out && !health.is_out(place) {
            endpoint.comes(now);
        }
        let name = endpoint.name.clone();
        let event = match change {
            HealthChange::Ejected { failures, time } => {
                endpoint.count_ejection();
                self.ejected.notify_one();
                EndpointEvent::Ejected { name, failures, time }
            }
            HealthChange::Returned => EndpointEvent::Returned { name },
            HealthChange::Down => EndpointEvent::Down { name, reason: reason.to_owned() },
            HealthChange::Up => EndpointEvent::Up { name },
        };
        [event].into_iter().chain(self.review(fleet)).collect()
    }

    /// Looks which tier gets requests.
    fn review(&self, SharedFleet { health, .. }: &SharedFleet) -> Vec<EndpointEvent> {
        self.tier.set(health.tier_in_use(), self.label())
    }
}

/// The first tier first.
fn by_tier(mut endpoints: Vec<EndpointConfig>) -> Vec<EndpointConfig> {
    endpoints.sort_by_key(|endpoint| endpoint.tier);
    endpoints
}
