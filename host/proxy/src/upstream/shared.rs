//! What all workers know of an upstream.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fusebox_resilience::{Budget, EndpointEvent, EndpointName};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::addresses::KnownAddresses;
use super::health::{FleetHealth, HealthChange};
use super::load::EndpointLoad;
use crate::config::UpstreamConfig;
use crate::tls::UpstreamTls;

/// An endpoint that comes back begins with this part of its share, if there is a `slow_start`.
const LEAST_SHARE: f64 = 0.1;

/// An upstream, shared by all workers.
#[derive(Debug)]
pub struct SharedUpstream {
    /// What the file says.
    pub config: Arc<UpstreamConfig>,
    /// The budget of those who ask it again and name none of their own.
    pub budget: Arc<Budget>,
    /// `None`: none of its endpoints speaks TLS.
    pub tls: Option<Arc<UpstreamTls>>,
    /// In the order of the file. With only one, nothing is kept of it: there is no choice to make.
    endpoints: Box<[EndpointState]>,
    /// In the same order.
    addresses: Box<[Arc<KnownAddresses>]>,
    /// Locked by failures, and by successes after them.
    health: Mutex<FleetHealth>,
    /// Whether those are used too that are out: more than half are.
    are_all_used: AtomicBool,
    /// An endpoint was ejected.
    ejected: Notify,
    since: Instant,
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

/// What is known of an endpoint; what each choice looks at is not behind the lock.
#[derive(Debug, Default)]
struct EndpointState {
    load: EndpointLoad,
    attempts: AtomicU64,
    failures: AtomicU64,
    ejections: AtomicU64,
    /// Whether it gets no requests for now.
    is_out: AtomicBool,
    /// Whether a success would change its health.
    is_suspect: AtomicBool,
    /// When it came back, in milliseconds. 0: it was never out.
    came_back: AtomicU64,
}

/// An endpoint as it is now.
#[derive(Clone, Debug)]
pub struct EndpointStatus<'a> {
    /// Its URL.
    pub url: &'a str,
    /// Its share, beside those of the others.
    pub weight: u32,
    /// What is known of it if there are others.
    pub usage: Option<EndpointUsage>,
}

/// How an endpoint is used.
#[derive(Clone, Copy, Debug)]
pub struct EndpointUsage {
    /// Whether it gets requests, unless all do.
    pub standing: EndpointStanding,
    /// Attempts under way; one lasts until its response body has ended.
    pub in_flight: u32,
    /// How long it took lately, failures included as if they were slow. `None`: nothing is known.
    pub asked: Option<Duration>,
    /// Attempts that have ended.
    pub attempts: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// How often it was ejected.
    pub ejections: u64,
}

/// Whether an endpoint gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointStanding {
    /// It does.
    In,
    /// Not for so long, since it has failed.
    Ejected(Duration),
    /// Not until its checks pass.
    Down,
}

impl EndpointStanding {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Ejected(_) => "ejected",
            Self::Down => "down",
        }
    }
}

/// How an attempt ended, for the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndpointResult {
    /// It answered.
    Answered,
    /// It answered, and says that it can't do its work.
    Ill,
    /// It answered that it has too much to do, and may have asked to be left alone.
    Busy { rest: Option<Duration>, is_ill: bool },
    /// There was no answer.
    Failed,
    /// Nobody waited for the answer.
    Cut,
    /// It says nothing of the endpoint.
    Neutral,
}

impl EndpointResult {
    fn is_failure(self) -> bool {
        matches!(self, Self::Ill | Self::Busy { .. } | Self::Failed)
    }

    /// Whether the endpoint is well; `None`: that is not known.
    fn is_well(self) -> Option<bool> {
        match self {
            Self::Answered => Some(true),
            Self::Ill | Self::Failed | Self::Busy { is_ill: true, .. } => Some(false),
            Self::Busy { .. } | Self::Cut | Self::Neutral => None,
        }
    }
}

impl SharedUpstream {
    /// An upstream that nobody has asked yet.
    pub fn new(config: Arc<UpstreamConfig>) -> Self {
        let since = Instant::now();
        let count = config.endpoints.len();
        Self {
            budget: Budget::of_upstream(since).into(),
            tls: None,
            endpoints: (0..count).map(|_| EndpointState::default()).collect(),
            addresses: (0..count).map(|_| Arc::default()).collect(),
            health: Mutex::new(FleetHealth::new(config.fleet.health.clone(), count)),
            are_all_used: AtomicBool::new(false),
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

    /// Whether there is a choice.
    pub fn has_several(&self) -> bool {
        self.endpoints.len() > 1
    }

    /// Its endpoints as they are now.
    pub fn status(&self) -> Vec<EndpointStatus<'_>> {
        let now = Instant::now();
        let health = self.health();
        let endpoints = self.config.endpoints.iter().zip(&self.endpoints).enumerate();
        let status = endpoints.map(|(place, (config, state))| {
            let standing = match health.remaining(place, now) {
                Some(time) => EndpointStanding::Ejected(time),
                None if health.is_out(place) => EndpointStanding::Down,
                None => EndpointStanding::In,
            };
            let usage = EndpointUsage {
                standing,
                in_flight: state.load.in_flight(),
                asked: state.load.asked(now, self.since),
                attempts: state.attempts.load(Relaxed),
                failures: state.failures.load(Relaxed),
                ejections: state.ejections.load(Relaxed),
            };
            let usage = self.has_several().then_some(usage);
            EndpointStatus { url: &config.url.url, weight: config.weight, usage }
        });
        status.collect()
    }

    /// What an endpoint is asked with over TLS, if it speaks it.
    pub(super) fn tls_at(&self, place: usize) -> Option<&Arc<UpstreamTls>> {
        self.tls.as_ref().filter(|_| self.config.endpoints[place].url.is_secure)
    }

    /// The addresses of an endpoint.
    pub(super) fn addresses(&self, place: usize) -> &Arc<KnownAddresses> {
        &self.addresses[place]
    }

    fn health(&self) -> MutexGuard<'_, FleetHealth> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this endpoint gets requests.
    pub(super) fn is_used(&self, place: usize) -> bool {
        !self.endpoints[place].is_out.load(Relaxed) || self.are_all_used.load(Relaxed)
    }

    /// What an attempt more would cost an endpoint, by its share.
    pub(super) fn cost(&self, place: usize, now: Instant) -> f64 {
        let weight = f64::from(self.config.endpoints[place].weight);
        self.endpoints[place].load.cost(now, self.since) / (weight * self.share(place, now))
    }

    /// The part of its share that an endpoint gets: after it came back, less at first.
    pub(super) fn share(&self, place: usize, now: Instant) -> f64 {
        let Some(slow_start) = self.config.fleet.slow_start else { return 1.0 };
        let came_back = match self.endpoints[place].came_back.load(Relaxed) {
            0 => return 1.0,
            millis => self.since + Duration::from_millis(millis),
        };
        let passed = now.saturating_duration_since(came_back);
        (passed.as_secs_f64() / slow_start.0.as_secs_f64()).clamp(LEAST_SHARE, 1.0)
    }

    pub(super) fn begin(&self, place: usize) {
        self.endpoints[place].load.begin();
    }

    /// What was begun has ended, its body included.
    pub(super) fn end(&self, place: usize) {
        self.endpoints[place].load.end();
    }

    /// The head of an attempt's response is there after so long, or will not come. With the head of
    /// an answer the endpoint is not yet known to be well, if its body is still to come. Returns
    /// what has changed.
    pub(super) fn record(
        &self,
        place: usize,
        result: EndpointResult,
        asked: Duration,
        has_come: bool,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        let EndpointState { load, attempts, failures, .. } = &self.endpoints[place];
        attempts.fetch_add(1, Relaxed);
        if result.is_failure() {
            failures.fetch_add(1, Relaxed);
        }
        match result {
            EndpointResult::Answered | EndpointResult::Ill => load.observe(asked, now, self.since),
            EndpointResult::Busy { rest, .. } => load.penalize(asked, rest, now, self.since),
            EndpointResult::Failed => load.penalize(asked, None, now, self.since),
            EndpointResult::Cut => load.observe_cut(asked, now, self.since),
            EndpointResult::Neutral => {}
        }
        let is_well = result.is_well().filter(|is_well| has_come || !is_well);
        is_well.map_or_else(Vec::new, |is_well| self.judge(place, is_well, now))
    }

    /// The body of a response that was an answer has come, too.
    pub(super) fn record_whole(&self, place: usize, now: Instant) {
        self.judge(place, true, now);
    }

    /// The body of a response that was an answer has broken off.
    pub(super) fn record_late(&self, place: usize, now: Instant) -> Vec<EndpointEvent> {
        let EndpointState { load, failures, .. } = &self.endpoints[place];
        failures.fetch_add(1, Relaxed);
        load.penalize(Duration::ZERO, None, now, self.since);
        self.judge(place, false, now)
    }

    fn judge(&self, place: usize, is_well: bool, now: Instant) -> Vec<EndpointEvent> {
        let state = &self.endpoints[place];
        if is_well && !state.is_suspect.load(Relaxed) {
            return Vec::new();
        }
        let mut health = self.health();
        let change = if is_well {
            health.succeeded(place);
            None
        } else {
            health.failed(place, now)
        };
        state.is_suspect.store(health.is_suspect(place), Relaxed);
        change.map_or_else(Vec::new, |change| self.apply(&health, place, change, "", now))
    }

    /// A check of an endpoint has passed, or failed for this reason.
    pub(super) fn checked(
        &self,
        place: usize,
        passed: Result<(), &str>,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        let mut health = self.health();
        let change = health.checked(place, passed.is_ok());
        let reason = passed.err().unwrap_or_default();
        change.map_or_else(Vec::new, |change| self.apply(&health, place, change, reason, now))
    }

    /// Lets those come back whose ejection is over. Returns when the next one will.
    pub(super) fn let_return(&self, now: Instant) -> (Vec<EndpointEvent>, Option<Instant>) {
        let mut events = Vec::new();
        let mut health = self.health();
        while let Some(place) = health.return_one(now) {
            self.endpoints[place].is_suspect.store(true, Relaxed);
            events.append(&mut self.apply(&health, place, HealthChange::Returned, "", now));
        }
        (events, health.next_return())
    }

    /// Waits until one is ejected. One that was before counts too.
    pub(super) async fn ejected(&self) {
        self.ejected.notified().await;
    }

    fn apply(
        &self,
        health: &FleetHealth,
        place: usize,
        change: HealthChange,
        reason: &str,
        now: Instant,
    ) -> Vec<EndpointEvent> {
        let state = &self.endpoints[place];
        let was_out = state.is_out.swap(health.is_out(place), Relaxed);
        if was_out && !health.is_out(place) {
            let millis = now.saturating_duration_since(self.since).as_millis();
            state.came_back.store(u64::try_from(millis).unwrap_or(u64::MAX).max(1), Relaxed);
            state.load.forget();
        }
        let upstream: Arc<str> = self.label().into();
        let endpoint = self.config.endpoints[place].url.url.as_str().into();
        let name = EndpointName { upstream: upstream.clone(), endpoint };
        let mut events = vec![match change {
            HealthChange::Ejected { failures, time } => {
                state.ejections.fetch_add(1, Relaxed);
                self.ejected.notify_one();
                EndpointEvent::Ejected { name, failures, time }
            }
            HealthChange::Returned => EndpointEvent::Returned { name },
            HealthChange::Down => EndpointEvent::Down { name, reason: reason.to_owned() },
            HealthChange::Up => EndpointEvent::Up { name },
        }];
        let (out, count) = (health.out(), self.endpoints.len());
        let are_all_used = 2 * out > count;
        if self.are_all_used.swap(are_all_used, Relaxed) != are_all_used {
            events.push(if are_all_used {
                EndpointEvent::AllUsed { upstream, out, count }
            } else {
                EndpointEvent::SomeUsed { upstream, out, count }
            });
        }
        events
    }
}
