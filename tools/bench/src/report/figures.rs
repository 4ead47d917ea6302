//! Figures over several rounds, and their ratios. Ratios are taken within a round, where the
//! machine was equally busy for both.

use std::collections::BTreeMap;

use clap::ValueEnum as _;

use crate::axis::Axis;
use crate::record::{Measured, Measurement, Micro, Overload, RunInfo};
use crate::statistics::{Spread, spread};

/// For each scenario, the newest run that measured it.
#[derive(Debug, Default)]
pub(crate) struct MeasuredFigures<'a> {
    scenarios: BTreeMap<&'a str, (&'a RunInfo, Vec<&'a Measurement>)>,
    /// Those of the newest run that has some.
    micros: Option<(&'a RunInfo, Vec<&'a Micro>)>,
    /// Of these, the calls through policies whose instructions were counted.
    policies: Option<(&'a RunInfo, Vec<&'a Micro>)>,
    overloads: Option<(&'a RunInfo, &'a [Overload])>,
}

impl<'a> MeasuredFigures<'a> {
    /// Takes runs with the oldest first.
    pub(crate) fn of(runs: impl IntoIterator<Item = &'a Measured>) -> Self {
        let mut scenarios = BTreeMap::<_, (_, Vec<_>)>::new();
        let (mut newest_micros, mut newest_policies, mut newest_overloads) = (None, None, None);
        for Measured { run, measurements, micros, overloads } in runs {
            let (policies, others): (Vec<_>, Vec<_>) =
                micros.iter().partition(|micro| micro.instructions.is_some());
            if !others.is_empty() {
                newest_micros = Some((run, others));
            }
            if !policies.is_empty() {
                newest_policies = Some((run, policies));
            }
            if !overloads.is_empty() {
                newest_overloads = Some((run, &**overloads));
            }
            let mut found = BTreeMap::<_, Vec<_>>::new();
            for measurement in measurements {
                found.entry(measurement.scenario.as_str()).or_default().push(measurement);
            }
            scenarios.extend(
                found.into_iter().map(|(scenario, measurements)| (scenario, (run, measurements))),
            );
        }
        Self {
            scenarios,
            micros: newest_micros,
            policies: newest_policies,
            overloads: newest_overloads,
        }
    }

    pub(crate) fn overloads(&self) -> Option<(&'a RunInfo, &'a [Overload])> {
        self.overloads
    }

    pub(crate) fn micros(&self) -> Option<&(&'a RunInfo, Vec<&'a Micro>)> {
        self.micros.as_ref()
    }

    pub(crate) fn policies(&self) -> Option<&(&'a RunInfo, Vec<&'a Micro>)> {
        self.policies.as_ref()
    }

    pub(crate) fn run(&self, scenario: &str) -> Option<&'a RunInfo> {
        self.scenarios.get(scenario).map(|(run, _)| *run)
    }

    /// The newest run that measured an axis.
    pub(crate) fn newest_scale(&self) -> Option<&'a RunInfo> {
        Axis::value_variants()
            .iter()
            .filter_map(|axis| self.run(axis.scenario()))
            .max_by_key(|run| run.time)
    }

    /// The contestants of a scenario, sorted by name.
    pub(crate) fn contestants(&self, scenario: &str) -> Vec<&'a str> {
        let mut names: Vec<_> =
            self.measurements(scenario).map(|measured| measured.contestant.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// The points of a scenario on its axis.
    pub(crate) fn points(&self, scenario: &str) -> Vec<u64> {
        let mut points: Vec<_> =
            self.measurements(scenario).filter_map(|measured| measured.point).collect();
        points.sort_unstable();
        points.dedup();
        points
    }

    fn measurements(&self, scenario: &str) -> impl Iterator<Item = &'a Measurement> {
        self.scenarios
            .get(scenario)
            .into_iter()
            .flat_map(|(_, measurements)| measurements.iter().copied())
    }

    /// All measurements of a contestant, with the warm-up.
    pub(crate) fn all(
        &self,
        scenario: &str,
        contestant: &str,
    ) -> impl Iterator<Item = &'a Measurement> {
        self.measurements(scenario).filter(move |measured| measured.contestant == contestant)
    }

    /// The measurements of a contestant at one point, a round each.
    fn rounds(&self, place: FigureOf<'_>) -> impl Iterator<Item = &'a Measurement> {
        self.all(place.scenario, place.contestant)
            .filter(move |measured| measured.round > 0 && measured.point == place.point)
    }

    pub(crate) fn value(&self, place: FigureOf<'_>, figure: Figure) -> Option<Spread> {
        spread(self.rounds(place).filter_map(figure))
    }

    /// The spread of the ratios of all rounds.
    pub(crate) fn ratio(
        &self,
        of: FigureOf<'_>,
        to: FigureOf<'_>,
        figure: Figure,
    ) -> Option<Spread> {
        let ratios = self.rounds(of).filter_map(|measured| {
            let other = self.rounds(to).find(|other| other.round == measured.round)?;
            Some(figure(measured)? / figure(other)?)
        });
        spread(ratios)
    }
}

/// A figure of a measurement.
pub(crate) type Figure = fn(&Measurement) -> Option<f64>;

pub(crate) const COST: Figure = |measured| Some(measured.cost());
pub(crate) const THROUGHPUT: Figure = |measured| Some(measured.throughput());
pub(crate) const P50: Figure = |measured| measured.p50_micros;
pub(crate) const P99: Figure = |measured| measured.p99_micros;
pub(crate) const RESIDENT: Figure =
    |measured| Some(measured.resident_bytes as f64 / f64::from(1 << 20));

/// Which measurements a figure is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FigureOf<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) contestant: &'a str,
    pub(crate) point: Option<u64>,
}

impl<'a> FigureOf<'a> {
    pub(crate) const fn new(scenario: &'a str, contestant: &'a str) -> Self {
        Self { scenario, contestant, point: None }
    }

    pub(crate) const fn at(self, point: u64) -> Self {
        Self { point: Some(point), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::MachineInfo;
    use crate::scenario::{Generator, Protocol};

    fn measured(
        scenario: &str,
        contestant: &str,
        round: usize,
        processor_seconds: f64,
    ) -> Measurement {
        Measurement {
            scenario: scenario.into(),
            point: None,
            contestant: contestant.into(),
            round,
            generator: Generator::Wrk,
            protocol: Protocol::Http1,
            tls: false,
            connections: 1,
            rate: None,
            seconds: 1.0,
            requests: 1_000_000,
            errors: 0,
            processor_seconds,
            p50_micros: None,
            p99_micros: None,
            resident_bytes: 0,
            proportional_bytes: 0,
            upstream_connections: 0,
            component_call_micros: None,
            component_call_p50_micros: None,
            component_call_p99_micros: None,
        }
    }

    fn run(revision: &str, measurements: Vec<Measurement>) -> Measured {
        let run = RunInfo {
            time: jiff::Timestamp::UNIX_EPOCH,
            revision: revision.into(),
            machine: MachineInfo::default(),
            versions: Vec::new(),
            arguments: Vec::new(),
        };
        Measured { run, measurements, micros: Vec::new(), overloads: Vec::new() }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine is slower from round to round; the ratio is 2 throughout. The warm-up does
        // not count.
        let rounds = [(0, 1.0, 100.0), (1, 1.0, 2.0), (2, 10.0, 20.0), (3, 100.0, 200.0)];
        let measurements = rounds.into_iter().flat_map(|(round, reference, other)| {
            [measured("get", "nginx", round, reference), measured("get", "other", round, other)]
        });
        let runs = [run("a", measurements.collect())];
        let figures = MeasuredFigures::of(&runs);
        let ratio =
            figures.ratio(FigureOf::new("get", "other"), FigureOf::new("get", "nginx"), COST);
        assert_eq!(ratio, Some(Spread { median: 2.0, min: 2.0, max: 2.0 }));
        assert_eq!(
            figures.ratio(FigureOf::new("get", "other"), FigureOf::new("get", "absent"), COST),
            None
        );
    }

    #[test]
    fn a_newer_run_replaces_the_scenarios_that_it_measured() {
        let runs = [
            run("old", vec![measured("get", "nginx", 1, 1.0), measured("bodies", "nginx", 1, 2.0)]),
            run("new", vec![measured("get", "nginx", 1, 3.0)]),
        ];
        let figures = MeasuredFigures::of(&runs);
        let revision = |scenario| figures.run(scenario).map(|run| run.revision.as_str());
        assert_eq!(
            (revision("get"), revision("bodies"), revision("retry-503")),
            (Some("new"), Some("old"), None)
        );
        assert_eq!(figures.value(FigureOf::new("get", "nginx"), COST).unwrap().median, 3.0);
    }
}
