//! Figures of several rounds, and their ratios, each within its round: what else the machine did then, it did to both.

use std::collections::BTreeMap;

use crate::record::{Measured, Measurement, Run};
use crate::statistics::{Spread, spread};

/// For each scenario, what the newest run says in which it was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures<'a> {
    scenarios: BTreeMap<&'a str, (&'a Run, Vec<&'a Measurement>)>,
}

impl<'a> Figures<'a> {
    /// Of runs with the oldest first.
    pub(crate) fn of(runs: impl IntoIterator<Item = &'a Measured>) -> Self {
        let mut scenarios = BTreeMap::<_, (_, Vec<_>)>::new();
        for Measured { run, measurements } in runs {
            let mut found = BTreeMap::<_, Vec<_>>::new();
            for measurement in measurements {
                found.entry(measurement.scenario.as_str()).or_default().push(measurement);
            }
            scenarios.extend(found.into_iter().map(|(scenario, measurements)| (scenario, (run, measurements))));
        }
        Self { scenarios }
    }

    pub(crate) fn run(&self, scenario: &str) -> Option<&'a Run> {
        self.scenarios.get(scenario).map(|(run, _)| *run)
    }

    /// In the order of the first round, sorted by name.
    pub(crate) fn contestants(&self, scenario: &str) -> Vec<&'a str> {
        let mut names: Vec<_> = self.measurements(scenario).map(|measured| measured.contestant.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The points on its axis.
    pub(crate) fn points(&self, scenario: &str) -> Vec<u64> {
        let mut points: Vec<_> = self.measurements(scenario).filter_map(|measured| measured.point).collect();
        points.sort_unstable();
        points.dedup();
        points
    }

    fn measurements(&self, scenario: &str) -> impl Iterator<Item = &'a Measurement> {
        self.scenarios.get(scenario).into_iter().flat_map(|(_, measurements)| measurements.iter().copied())
    }

    /// Of one contestant, warm-up included.
    pub(crate) fn all(&self, scenario: &str, contestant: &str) -> impl Iterator<Item = &'a Measurement> {
        self.measurements(scenario).filter(move |measured| measured.contestant == contestant)
    }

    /// Of one contestant at one point, in all rounds.
    fn rounds(&self, place: Place<'_>) -> impl Iterator<Item = &'a Measurement> {
        self.all(place.scenario, place.contestant)
            .filter(move |measured| measured.round > 0 && measured.point == place.point)
    }

    pub(crate) fn value(&self, place: Place<'_>, figure: Figure) -> Option<Spread> {
        spread(self.rounds(place).filter_map(figure))
    }

    /// Round by round.
    pub(crate) fn ratio(&self, of: Place<'_>, to: Place<'_>, figure: Figure) -> Option<Spread> {
        let ratios = self.rounds(of).filter_map(|measured| {
            let other = self.rounds(to).find(|other| other.round == measured.round)?;
            Some(figure(measured)? / figure(other)?)
        });
        spread(ratios)
    }
}

/// What is looked at of a measurement.
pub(crate) type Figure = fn(&Measurement) -> Option<f64>;

pub(crate) const COST: Figure = |measured| Some(measured.cost());
pub(crate) const THROUGHPUT: Figure = |measured| Some(measured.throughput());
pub(crate) const P50: Figure = |measured| measured.p50_micros;
pub(crate) const P99: Figure = |measured| measured.p99_micros;
pub(crate) const RESIDENT: Figure = |measured| Some(measured.resident_bytes as f64 / f64::from(1 << 20));

/// Whose figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) contestant: &'a str,
    pub(crate) point: Option<u64>,
}

impl<'a> Place<'a> {
    pub(crate) const fn new(scenario: &'a str, contestant: &'a str) -> Self {
        Self { scenario, contestant, point: None }
    }

    pub(crate) const fn at(self, point: u64) -> Self {
        Self { point: Some(point), ..self }
    }
}
