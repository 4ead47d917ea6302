//! How long calls into components took.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use fusebox_wasm::CallHistogram;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// A histogram for each component.
#[derive(Debug)]
pub(super) struct CallDurations(BTreeMap<Arc<str>, CallHistogram>);

impl CallDurations {
    /// By component; those of one component are added up.
    pub(super) fn of<'a>(
        calls: impl IntoIterator<Item = (&'a Arc<str>, &'a CallHistogram)>,
    ) -> Self {
        let mut all = BTreeMap::<Arc<str>, CallHistogram>::new();
        for (name, call_times) in calls {
            let sum = all.entry(name.clone()).or_default();
            sum.counts.iter_mut().zip(call_times.counts).for_each(|(sum, count)| *sum += count);
            sum.nanos = sum.nanos.saturating_add(call_times.nanos);
        }
        Self(all)
    }
}

impl EncodeMetric for CallDurations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for (name, CallHistogram { counts, nanos }) in &self.0 {
            let bounds = CallHistogram::BOUNDS
                .iter()
                .map(|nanos| *nanos as f64 / 1e9)
                .chain([f64::INFINITY]);
            let buckets: Vec<_> = bounds.zip(*counts).collect();
            let labels = [("component", &**name)];
            let mut encoder = encoder.encode_family(&labels)?;
            encoder.encode_histogram::<NoLabelSet>(
                *nanos as f64 / 1e9,
                counts.iter().sum(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
