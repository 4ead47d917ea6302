//! What all workers know of an upstream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use fusebox_resilience::Budget;
use tokio::time::Instant;

use super::load::EndpointLoad;
use crate::config::UpstreamConfig;

/// An upstream, shared by all workers.
#[derive(Debug)]
pub struct SharedUpstream {
    /// What the file says.
    pub config: Arc<UpstreamConfig>,
    /// The budget of those who ask it again and name none of their own.
    pub budget: Arc<Budget>,
    /// In the order of the file. With only one, nothing is kept of it: there is no choice to make.
    endpoints: Box<[EndpointState]>,
    since: Instant,
}

/// What is known of an endpoint.
#[derive(Debug, Default)]
struct EndpointState {
    load: EndpointLoad,
    attempts: AtomicU64,
    failures: AtomicU64,
}

/// An endpoint as it is now.
#[derive(Clone, Debug)]
pub struct EndpointStatus<'a> {
    /// Its URL.
    pub url: &'a str,
    /// Its share, beside those of the others.
    pub weight: u32,
    /// What is known of it if there are others.
    pub usage: Option<EndpointUse>,
}

/// How an endpoint is used.
#[derive(Clone, Copy, Debug)]
pub struct EndpointUse {
    /// Attempts under way; one lasts until its response body has ended.
    pub in_flight: u32,
    /// How long it took lately, failures included as if they were slow. `None`: nothing is known.
    pub asked: Option<Duration>,
    /// Attempts that have ended.
    pub attempts: u64,
    /// Those of them that failed.
    pub failures: u64,
}

/// How an attempt ended, for the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndpointResult {
    /// It answered.
    Answered {
        /// After so long.
        asked: Duration,
    },
    /// It failed, or was too busy.
    Failed {
        /// After so long.
        asked: Duration,
        /// It asks to be left alone.
        rest: Option<Duration>,
    },
    /// It was cut after so long.
    Cut {
        /// After so long.
        asked: Duration,
    },
    /// It says nothing of the endpoint.
    Neutral,
}

impl SharedUpstream {
    /// An upstream that nobody has asked yet.
    pub fn new(config: Arc<UpstreamConfig>) -> Self {
        let since = Instant::now();
        let endpoints = config.endpoints.iter().map(|_| EndpointState::default());
        Self {
            budget: Budget::of_upstream(since).into(),
            endpoints: endpoints.collect(),
            config,
            since,
        }
    }

    /// Its name, or else its URL.
    pub fn label(&self) -> &str {
        self.config.label()
    }

    /// Its endpoints as they are now.
    pub fn status(&self) -> impl Iterator<Item = EndpointStatus<'_>> {
        let now = Instant::now();
        let are_several = self.endpoints.len() > 1;
        self.config.endpoints.iter().zip(&self.endpoints).map(move |(config, state)| {
            let usage = are_several.then(|| EndpointUse {
                in_flight: state.load.in_flight(),
                asked: state.load.asked(now, self.since),
                attempts: state.attempts.load(Relaxed),
                failures: state.failures.load(Relaxed),
            });
            EndpointStatus { url: &config.url.url, weight: config.weight, usage }
        })
    }

    /// What an attempt more would cost an endpoint, by its weight.
    pub(super) fn cost(&self, place: usize, now: Instant) -> f64 {
        let weight = self.config.endpoints[place].weight;
        self.endpoints[place].load.cost(now, self.since) / f64::from(weight)
    }

    pub(super) fn begin(&self, place: usize) {
        self.endpoints[place].load.begin();
    }

    /// What was begun has ended, its body included.
    pub(super) fn end(&self, place: usize) {
        self.endpoints[place].load.end();
    }

    /// The head of an attempt's response is there, or will not come.
    pub(super) fn record(&self, place: usize, result: EndpointResult, now: Instant) {
        let EndpointState { load, attempts, failures } = &self.endpoints[place];
        attempts.fetch_add(1, Relaxed);
        match result {
            EndpointResult::Answered { asked } => load.observe(asked, now, self.since),
            EndpointResult::Failed { asked, rest } => {
                failures.fetch_add(1, Relaxed);
                load.penalize(asked, rest, now, self.since);
            }
            EndpointResult::Cut { asked } => load.observe_cut(asked, now, self.since),
            EndpointResult::Neutral => {}
        }
    }

    /// The body of a response that was an answer has broken off.
    pub(super) fn record_late(&self, place: usize, now: Instant) {
        let EndpointState { load, failures, .. } = &self.endpoints[place];
        failures.fetch_add(1, Relaxed);
        load.penalize(Duration::ZERO, None, now, self.since);
    }
}
