//! What happens to every request, by route.
//!
//! Each thread counts for itself, in a shard that nobody else writes, and finds a route's counters
//! by the address of the route's name: no lock, no hash of a string, no cache line that another
//! worker writes. Only a name that the thread has not met goes by way of the shard's map, whose
//! lock it may have to share with a scrape. A scrape adds the shards up. What a thread has counted
//! outlives it, and the next thread that comes goes on in its shard.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fusebox_resilience::{CacheResult, Failure, GrpcStatus};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use rustc_hash::FxBuildHasher;

use super::counts::{
    BOUNDS, BUCKETS, CANCELLED, CLASSES, CLIENT, Counts, Durations, OUTCOMES, failure_index,
    outcome_word,
};

/// Counts requests and attempts, on any thread.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Routes that have series whether anything has happened on them or not.
    announced: Mutex<BTreeSet<Arc<str>>>,
    /// Those among them that have a cache.
    cached: Mutex<BTreeSet<Arc<str>>>,
    /// Those that are called by gRPC.
    grpc: Mutex<BTreeSet<Arc<str>>>,
    shards: Mutex<Vec<Arc<Shard>>>,
}

/// What one thread at a time counts, by the name of the route.
type Shard = Mutex<HashMap<Arc<str>, Arc<Counts>>>;

thread_local! {
    static OWN: RefCell<Option<Own>> = const { RefCell::new(None) };
}

/// A thread's shard, with its own way to it.
struct Own {
    requests: Arc<Requests>,
    shard: Arc<Shard>,
    /// By the address of the name.
    routes: HashMap<usize, Known, FxBuildHasher>,
}

struct Known {
    /// Held, so that its address can't become that of another.
    name: Arc<str>,
    counts: Arc<Counts>,
}

impl Requests {
    pub(super) fn announce(&self, route: &Arc<str>) {
        lock(&self.announced).insert(route.clone());
    }

    pub(super) fn announce_cache(&self, route: &Arc<str>) {
        lock(&self.cached).insert(route.clone());
    }

    pub(super) fn announce_grpc(&self, route: &Arc<str>) {
        lock(&self.grpc).insert(route.clone());
    }

    /// Counts something that has happened on a route.
    pub(super) fn count(self: &Arc<Self>, route: &Arc<str>, count: impl FnOnce(&Counts)) {
        // No call is left on a thread that has come to where it has no values any more.
        let _ = OWN.try_with(|own| {
            let mut own = own.borrow_mut();
            let own = match &mut *own {
                Some(own) if Arc::ptr_eq(&own.requests, self) => own,
                none => none.insert(Own::new(self)),
            };
            own.with(route, count);
        });
    }

    /// A shard for a thread: one whose thread has ended, else a new one.
    fn shard(&self) -> Arc<Shard> {
        let mut shards = lock(&self.shards);
        if let Some(orphan) = shards.iter_mut().position(|shard| Arc::get_mut(shard).is_some()) {
            return shards[orphan].clone();
        }
        let shard = Arc::<Shard>::default();
        shards.push(shard.clone());
        shard
    }

    /// All that was counted, as it is to be shown.
    pub(super) fn registry(&self) -> Registry {
        let mut totals: BTreeMap<Arc<str>, Totals> =
            lock(&self.announced).iter().map(|route| (route.clone(), Totals::default())).collect();
        let shards = lock(&self.shards).clone();
        for shard in shards {
            // Nobody waits for the sums.
            let routes: Vec<_> =
                lock(&shard).iter().map(|(name, counts)| (name.clone(), counts.clone())).collect();
            for (name, counts) in routes {
                totals.entry(name).or_default().add(&counts);
            }
        }
        for route in &*lock(&self.cached) {
            totals.entry(route.clone()).or_default().has_cache = true;
        }
        for route in &*lock(&self.grpc) {
            totals.entry(route.clone()).or_default().has_grpc = true;
        }
        let totals = Arc::new(totals);
        let mut registry = Registry::with_prefix("fusebox");
        for (shown, name, help) in [
            (
                RequestSeries::Requests,
                "requests",
                "Requests by the status that the client got; none if it left before",
            ),
            (
                RequestSeries::RequestDurations,
                "request_duration_seconds",
                "Time from a request's arrival to the end of its response",
            ),
            (
                RequestSeries::Attempts,
                "attempts",
                "Attempts on the upstream by class of status or by failure",
            ),
            (
                RequestSeries::AttemptDurations,
                "attempt_duration_seconds",
                "Time from an attempt's start to its response head or failure",
            ),
            (
                RequestSeries::CacheRequests,
                "cache_requests",
                "Requests by what a cache did for them",
            ),
            (
                RequestSeries::GrpcRequests,
                "grpc_requests",
                "Calls by gRPC, by the status that the client got",
            ),
        ] {
            registry.register(name, help, Series { totals: totals.clone(), shown });
        }
        registry
    }
}

impl Own {
    fn new(requests: &Arc<Requests>) -> Self {
        Self { requests: requests.clone(), shard: requests.shard(), routes: HashMap::default() }
    }

    fn with(&mut self, route: &Arc<str>, count: impl FnOnce(&Counts)) {
        match self.routes.get(&address(route)) {
            Some(known) => count(&known.counts),
            None => count(&self.learn(route)),
        }
    }

    #[cold]
    fn learn(&mut self, route: &Arc<str>) -> Arc<Counts> {
        let counts = lock(&self.shard).entry(route.clone()).or_default().clone();
        if self.routes.len() == self.routes.capacity() {
            // A reload makes the names anew; nobody asks for those before it any longer.
            self.routes.retain(|_, known| Arc::strong_count(&known.name) > 1);
        }
        self.routes.insert(address(route), Known { name: route.clone(), counts: counts.clone() });
        counts
    }
}

fn address(name: &Arc<str>) -> usize {
    name.as_ptr().addr()
}

/// What is under these locks is whole whenever they are free, so a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For tests: how many shards there are, and how many names this thread knows.
#[cfg(test)]
pub(super) fn sizes(requests: &Requests) -> (usize, usize) {
    (
        lock(&requests.shards).len(),
        OWN.with_borrow(|own| own.as_ref().map_or(0, |own| own.routes.len())),
    )
}

/// Statuses of which each route has a series from the start: all is well, and what is said of an
/// upstream that is not.
const EXPECTED: [u16; 5] = [200, 500, 502, 503, 504];

/// The same of gRPC's.
const EXPECTED_GRPC: [GrpcStatus; 6] = [
    GrpcStatus::Ok,
    GrpcStatus::Unknown,
    GrpcStatus::DeadlineExceeded,
    GrpcStatus::ResourceExhausted,
    GrpcStatus::Internal,
    GrpcStatus::Unavailable,
];

/// The sums over all shards.
#[derive(Debug, Default)]
struct Totals {
    statuses: BTreeMap<u16, u64>,
    other_status: u64,
    no_status: u64,
    request_durations: DurationTotals,
    attempts: [u64; OUTCOMES],
    attempt_durations: DurationTotals,
    cache: [u64; CacheResult::ALL.len()],
    has_cache: bool,
    grpc: [u64; GrpcStatus::ALL.len()],
    has_grpc: bool,
}

#[derive(Debug, Default)]
struct DurationTotals {
    buckets: [u64; BUCKETS],
    seconds: f64,
}

impl Totals {
    fn add(&mut self, counts: &Counts) {
        for (status, count) in counts.statuses() {
            *self.statuses.entry(status).or_default() += count;
        }
        self.other_status += counts.other_status.get();
        self.no_status += counts.no_status.get();
        self.request_durations.add(&counts.request_durations);
        self.attempts.iter_mut().zip(counts.attempts()).for_each(|(total, count)| *total += count);
        self.attempt_durations.add(&counts.attempt_durations);
        self.cache.iter_mut().zip(counts.cached()).for_each(|(total, count)| *total += count);
        let grpc = counts.grpc_statuses();
        self.grpc.iter_mut().zip(grpc).for_each(|(total, count)| *total += count);
    }

    /// Counts by the label `result`, if there is a cache.
    fn cache(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let results = CacheResult::ALL.into_iter().filter(|_| self.has_cache);
        results.map(|result| (result.name(), self.cache[result as usize]))
    }

    /// Counts by the label `grpc_status`; as of `status`, those that are 0 have no series but for a
    /// few.
    fn grpc(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let statuses = GrpcStatus::ALL.into_iter().zip(self.grpc);
        let counted = statuses.filter(|(status, count)| {
            *count > 0 || self.has_grpc && EXPECTED_GRPC.contains(status)
        });
        counted.map(|(status, count)| (status.name(), count))
    }

    /// Counts by the label `status`; those that are 0 have no series, but for what an alert needs
    /// the first increment of.
    fn requests(&self) -> impl Iterator<Item = (String, u64)> {
        let mut statuses: BTreeMap<u16, u64> = EXPECTED.map(|status| (status, 0)).into();
        statuses.extend(&self.statuses);
        let others = [("none", self.no_status), ("other", self.other_status)];
        let others = others.into_iter().filter(|(_, count)| *count > 0);
        let statuses = statuses.into_iter().map(|(status, count)| (status.to_string(), count));
        statuses.chain(others.map(|(name, count)| (name.to_owned(), count)))
    }

    /// Counts by the label `outcome`; those that are 0 have no series, but for what an alert needs
    /// the first increment of.
    fn attempts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        // What an attempt can come to: its failures are those of the way to the upstream.
        let failures = [
            Failure::Dns,
            Failure::Connect,
            Failure::Tls,
            Failure::ConnectionLost,
            Failure::Protocol,
            Failure::Timeout,
        ]
        .map(failure_index);
        let is_expected = move |index: usize| {
            (2..CLASSES.len()).contains(&index)
                || [CANCELLED, CLIENT].contains(&index)
                || failures.contains(&index)
        };
        let all = self.attempts.iter().copied().enumerate();
        all.filter(move |(index, count)| *count > 0 || is_expected(*index))
            .map(|(index, count)| (outcome_word(index), count))
    }
}

impl DurationTotals {
    fn add(&mut self, durations: &Durations) {
        self.buckets.iter_mut().zip(durations.buckets()).for_each(|(total, count)| *total += count);
        self.seconds += durations.seconds();
    }

    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(self.buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(
            self.seconds,
            self.buckets.iter().sum(),
            &buckets,
            None,
        )
    }
}

/// One family of series of all routes.
#[derive(Debug)]
struct Series {
    totals: Arc<BTreeMap<Arc<str>, Totals>>,
    shown: RequestSeries,
}

#[derive(Clone, Copy, Debug)]
enum RequestSeries {
    Requests,
    RequestDurations,
    Attempts,
    AttemptDurations,
    CacheRequests,
    GrpcRequests,
}

impl EncodeMetric for Series {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (route, totals) in &*self.totals {
            let mut counter = |label: &'static str, value: &str, count: u64| {
                let labels = [("route", &**route), (label, value)];
                encoder.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, None)
            };
            match self.shown {
                RequestSeries::Requests => totals
                    .requests()
                    .try_for_each(|(status, count)| counter("status", &status, count))?,
                RequestSeries::Attempts => totals
                    .attempts()
                    .try_for_each(|(outcome, count)| counter("outcome", outcome, count))?,
                RequestSeries::CacheRequests => totals
                    .cache()
                    .try_for_each(|(result, count)| counter("result", result, count))?,
                RequestSeries::GrpcRequests => totals
                    .grpc()
                    .try_for_each(|(status, count)| counter("grpc_status", status, count))?,
                RequestSeries::RequestDurations => totals
                    .request_durations
                    .encode(encoder.encode_family(&[("route", &**route)])?)?,
                RequestSeries::AttemptDurations => totals
                    .attempt_durations
                    .encode(encoder.encode_family(&[("route", &**route)])?)?,
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        match self.shown {
            RequestSeries::Requests
            | RequestSeries::Attempts
            | RequestSeries::CacheRequests
            | RequestSeries::GrpcRequests => MetricType::Counter,
            RequestSeries::RequestDurations | RequestSeries::AttemptDurations => {
                MetricType::Histogram
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self.shown {
            RequestSeries::CacheRequests => !self.totals.values().any(|totals| totals.has_cache),
            RequestSeries::GrpcRequests => {
                self.totals.values().all(|totals| totals.grpc().next().is_none())
            }
            _ => self.totals.is_empty(),
        }
    }
}
