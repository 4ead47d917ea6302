//! Counters and gauges by their labels.

use std::borrow::Cow;
use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::counts::BOUNDS;

pub(super) type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
pub(super) type Counters<const N: usize> = Family<Labels<N>, Counter>;
pub(super) type Gauges<const N: usize> = Family<Labels<N>, Gauge>;
pub(super) type Rates<const N: usize> = Family<Labels<N>, Gauge<f64, AtomicU64>>;
/// With the bounds of all durations.
pub(super) type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// A label's value.
pub(super) fn owned(name: &str) -> Cow<'static, str> {
    Cow::Owned(name.to_owned())
}

/// Makes the series exist.
pub(super) fn appear<const N: usize>(family: &Counters<N>, labels: &Labels<N>) {
    drop(family.get_or_create(labels));
}

/// Makes families in a registry.
pub(super) struct Families<'a>(pub(super) &'a mut Registry);

impl Families<'_> {
    pub(super) fn counters<const N: usize>(&mut self, name: &str, help: &str) -> Counters<N> {
        self.register(name, help, Family::default())
    }

    pub(super) fn gauges<const N: usize>(&mut self, name: &str, help: &str) -> Gauges<N> {
        self.register(name, help, Family::default())
    }

    pub(super) fn rates<const N: usize>(&mut self, name: &str, help: &str) -> Rates<N> {
        self.register(name, help, Family::default())
    }

    pub(super) fn histograms<const N: usize>(&mut self, name: &str, help: &str) -> Histograms<N> {
        let empty = || Histogram::new(BOUNDS.map(|micros| micros as f64 / 1e6));
        self.register(name, help, Family::new_with_constructor(empty))
    }

    pub(super) fn register<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }
}
