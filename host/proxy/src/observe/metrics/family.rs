//! Counters and gauges by their labels.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{
    EncodeLabelSet, EncodeLabelValue, LabelSetEncoder, LabelValueEncoder,
};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::counts::BOUNDS;

pub(super) type Labels<const N: usize> = [(&'static str, Label); N];
pub(super) type Counters<const N: usize> = Family<SeriesLabels<N>, Counter>;
pub(super) type Gauges<const N: usize> = Family<SeriesLabels<N>, Gauge>;
pub(super) type Rates<const N: usize> = Family<SeriesLabels<N>, Gauge<f64, AtomicU64>>;
/// With the bounds of all durations.
pub(super) type Histograms<const N: usize> = Family<SeriesLabels<N>, Histogram, fn() -> Histogram>;

/// The labels of a series of a family. All series of a family have the same names, so values alone
/// tell them apart: to hash the names too took as long again.
#[derive(Clone, Debug)]
pub(super) struct SeriesLabels<const N: usize>(Labels<N>);

impl<const N: usize> From<Labels<N>> for SeriesLabels<N> {
    fn from(labels: Labels<N>) -> Self {
        Self(labels)
    }
}

impl<const N: usize> PartialEq for SeriesLabels<N> {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|((_, one), (_, other))| **one == **other)
    }
}

impl<const N: usize> Eq for SeriesLabels<N> {}

impl<const N: usize> Hash for SeriesLabels<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|(_, value)| state.write(value.as_bytes()));
    }
}

impl<const N: usize> EncodeLabelSet for SeriesLabels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }
}

/// A label's value: a word of ours, or a name of the configuration, whose owner shares it with all
/// series.
#[derive(Clone, Debug)]
pub(super) enum Label {
    Word(&'static str),
    Name(Arc<str>),
}

impl From<&'static str> for Label {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<&Arc<str>> for Label {
    fn from(name: &Arc<str>) -> Self {
        Self::Name(name.clone())
    }
}

impl From<String> for Label {
    fn from(text: String) -> Self {
        Self::Name(text.into())
    }
}

impl Deref for Label {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Name(name) => name,
        }
    }
}

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&&**self, encoder)
    }
}

/// The metric of a series, which exists from then on.
pub(super) fn of<const N: usize, M: Clone, C: MetricConstructor<M>>(
    family: &Family<SeriesLabels<N>, M, C>,
    labels: Labels<N>,
) -> M {
    family.get_or_create_owned(&labels.into())
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
