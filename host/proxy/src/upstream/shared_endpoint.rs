//! What all workers know of an endpoint. What each choice looks at is not behind a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fusebox_resilience::{EndpointName, GatedEndpoint};
use tokio::time::Instant;

use super::addresses::KnownAddresses;
use super::limits::EndpointLimits;
use super::load::EndpointLoad;
use crate::config::{EndpointConfig, UpstreamConfig};

/// An endpoint that comes back begins with this part of its share, if there is a `slow_start`.
const LEAST_SHARE: f64 = 0.1;

/// An endpoint that is back from an ejection is tried by one attempt, and by another one after so
/// long, if a tier behind has its requests meanwhile. (No claim would be sure to be given back: the
/// attempt may be cut.)
const TRIAL: Duration = Duration::from_secs(1);

/// An endpoint, shared by all workers. If it is the only one for ever, nothing is kept of it but
/// its addresses: there is no choice to make.
#[derive(Debug)]
pub(super) struct SharedEndpoint {
    pub(super) config: EndpointConfig,
    pub(super) name: EndpointName,
    /// Of the host in its URL.
    pub(super) addresses: KnownAddresses,
    pub(super) limits: Arc<EndpointLimits>,
    gated: GatedEndpoint,
    load: EndpointLoad,
    attempts: AtomicU64,
    failures: AtomicU64,
    ejections: AtomicU64,
    /// Whether it gets no requests for now.
    is_out: AtomicBool,
    /// Whether a success would change its health.
    is_suspect: AtomicBool,
    /// Until when an attempt tries it after an ejection, in milliseconds, and one more. 0: it need
    /// not be tried.
    trial: AtomicU64,
    slow_start: Option<Duration>,
    /// When it came, or came back, in milliseconds. 0: it was there from the start.
    came: AtomicU64,
    /// From when on times are counted.
    since: Instant,
}

/// An endpoint as it is now.
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Its URL.
    pub url: Arc<str>,
    /// Its share, beside those of the others.
    pub weight: u32,
    /// Those of a later tier get requests if none in front is in.
    pub tier: u16,
    /// Its connections, of all workers, those that are being made included.
    pub connections: usize,
    /// Calls that wait for it.
    pub waiting: usize,
    /// Attempts under way, if they are counted; one lasts until its response body has ended.
    pub in_flight: Option<usize>,
    /// What is known of it if there are others, or may be.
    pub usage: Option<EndpointUsage>,
}

/// How an endpoint is used.
#[derive(Clone, Copy, Debug)]
pub struct EndpointUsage {
    /// Whether it gets requests, unless all do.
    pub standing: EndpointStanding,
    /// How long it took lately. `None`: nothing is known, as after a failure.
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
    pub(super) fn is_well(self) -> Option<bool> {
        match self {
            Self::Answered => Some(true),
            Self::Ill | Self::Failed | Self::Busy { is_ill: true, .. } => Some(false),
            Self::Busy { .. } | Self::Cut | Self::Neutral => None,
        }
    }
}

impl SharedEndpoint {
    /// One that is there from the start, at `since`.
    pub(super) fn new(upstream: &UpstreamConfig, config: EndpointConfig, since: Instant) -> Self {
        let url = config.url.url.as_str().into();
        let name = EndpointName { upstream: upstream.label().into(), endpoint: url };
        Self {
            gated: GatedEndpoint::new(name.clone()),
            name,
            config,
            addresses: KnownAddresses::default(),
            limits: EndpointLimits::new(&upstream.settings).into(),
            load: EndpointLoad::default(),
            attempts: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            is_out: AtomicBool::new(false),
            is_suspect: AtomicBool::new(false),
            trial: AtomicU64::new(0),
            slow_start: upstream.fleet.slow_start.map(|time| time.0),
            came: AtomicU64::new(0),
            since,
        }
    }

    /// It as policies know it that have a say in whether it is asked.
    pub(super) fn gated(&self) -> &GatedEndpoint {
        &self.gated
    }

    /// It comes now, or comes back: what it took while it was ill says nothing of it.
    pub(super) fn comes(&self, now: Instant) {
        self.came.store(self.millis(now).max(1), Relaxed);
        self.load.forget();
    }

    fn millis(&self, at: Instant) -> u64 {
        let millis = at.saturating_duration_since(self.since).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    /// Its ejection is over: it is to be tried.
    pub(super) fn begin_trial(&self) {
        self.trial.store(1, Relaxed);
        self.set_suspect(true);
    }

    /// It is known how it is.
    pub(super) fn end_trial(&self) {
        // All workers read this.
        if self.trial.load(Relaxed) > 0 {
            self.trial.store(0, Relaxed);
        }
    }

    /// An attempt goes there. Others leave it alone, if it is to be tried.
    pub(super) fn try_it(&self, now: Instant) {
        if self.trial.load(Relaxed) > 0 {
            self.trial.store(1 + self.millis(now + TRIAL), Relaxed);
        }
    }

    /// Whether it is to be tried, and an attempt does it.
    pub(super) fn is_being_tried(&self, now: impl FnOnce() -> Instant) -> bool {
        match self.trial.load(Relaxed) {
            0 => false,
            until => until - 1 > self.millis(now()),
        }
    }

    /// What an attempt more would cost it, by its share.
    pub(super) fn cost(&self, now: Instant) -> f64 {
        let weight = f64::from(self.config.weight);
        self.load.cost(now, self.since) / (weight * self.share(now))
    }

    /// The part of its share that it gets: after it came, less at first.
    pub(super) fn share(&self, now: Instant) -> f64 {
        let Some(slow_start) = self.slow_start else { return 1.0 };
        let came = match self.came.load(Relaxed) {
            0 => return 1.0,
            millis => self.since + Duration::from_millis(millis),
        };
        let passed = now.saturating_duration_since(came);
        (passed.as_secs_f64() / slow_start.as_secs_f64()).clamp(LEAST_SHARE, 1.0)
    }

    /// An attempt begins.
    pub(super) fn begin(&self) {
        self.load.begin();
    }

    /// What was begun has ended, its body included.
    pub(super) fn end(&self) {
        self.load.end();
    }

    /// An attempt has come to this after so long.
    pub(super) fn observe(&self, result: EndpointResult, asked: Duration, now: Instant) {
        let Self { load, since, .. } = self;
        self.attempts.fetch_add(1, Relaxed);
        if result.is_failure() {
            self.failures.fetch_add(1, Relaxed);
        }
        match result {
            EndpointResult::Answered | EndpointResult::Ill => load.observe(asked, now, *since),
            EndpointResult::Busy { rest, .. } => load.rest(rest, now, *since),
            EndpointResult::Failed => load.rest(None, now, *since),
            EndpointResult::Cut => load.observe_cut(asked, now, *since),
            EndpointResult::Neutral => {}
        }
    }

    /// The body of a response that was an answer has broken off.
    pub(super) fn observe_late(&self, now: Instant) {
        self.failures.fetch_add(1, Relaxed);
        self.load.rest(None, now, self.since);
    }

    /// It is ejected.
    pub(super) fn count_ejection(&self) {
        self.ejections.fetch_add(1, Relaxed);
    }

    /// Whether it gets no requests for now.
    pub(super) fn is_out(&self) -> bool {
        self.is_out.load(Relaxed)
    }

    /// Whether it gets none from now on. Returns whether it got none before.
    pub(super) fn set_out(&self, is_out: bool) -> bool {
        self.is_out.swap(is_out, Relaxed)
    }

    /// Whether a success would change its health.
    pub(super) fn is_suspect(&self) -> bool {
        self.is_suspect.load(Relaxed)
    }

    pub(super) fn set_suspect(&self, is_suspect: bool) {
        self.is_suspect.store(is_suspect, Relaxed);
    }

    /// How it is now. `standing`: it stands so among others.
    pub(super) fn status(
        &self,
        standing: Option<EndpointStanding>,
        now: Instant,
    ) -> EndpointStatus {
        let in_flight = || standing.map(|_| self.load.in_flight() as usize);
        EndpointStatus {
            url: self.name.endpoint.clone(),
            weight: self.config.weight,
            tier: self.config.tier,
            connections: self.limits.connections(),
            waiting: self.limits.waiting(),
            in_flight: self.limits.in_flight().or_else(in_flight),
            usage: standing.map(|standing| self.usage(standing, now)),
        }
    }

    /// How it is used, as it stands so.
    fn usage(&self, standing: EndpointStanding, now: Instant) -> EndpointUsage {
        EndpointUsage {
            standing,
            asked: self.load.asked(now, self.since),
            attempts: self.attempts.load(Relaxed),
            failures: self.failures.load(Relaxed),
            ejections: self.ejections.load(Relaxed),
        }
    }
}
