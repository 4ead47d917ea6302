//! How the limit moves: TCP Vegas' estimate of a queue, in which every change by a tenth or more is
//! an experiment, judged by what it did to throughput.
//!
//! ```text
//! of a window:    r mean asked time, t results a second, d share of drops, full or not
//! the baseline:   what r would be without a queue; L = 1 below 100, 2 below 1000, …; α 3L, β 6L
//! the queue:      q = level · (1 − baseline/r)
//!
//!                          ┌───────────── level ─────────────┐
//!   d ≥ 0.1   × 0.9        │ moves by itself                 │
//!   q < α     + L          │                                 │
//!                          └──┬───────────┬───────────┬──────┘
//!                     q > β   │ dip due   │     q ≤ L │        and full
//!                          ┌──▼───┐    ┌──▼──┐     ┌──▼─┐
//!                          │ cut  │    │ dip │     │ up │      the limit is another for a window
//!                          └──┬───┘    └──┬──┘     └──┬─┘
//!             e = (t/t₀ − 1) / (limit/level − 1)       did throughput go with the limit?
//! ```
//!
//! Algorithms that take the lowest or an old latency for the baseline are wrong as soon as it is
//! not: learnt under load it drifts up to the overload (failsafe-go, Netflix), and a latency that
//! has risen for another reason is taken for a queue, for ever (Vegas). What an experiment did to
//! throughput tells them apart: if throughput went with the limit there was no queue of ours, and
//! the baseline rises to what was measured. `machine/simulation.rs` has what comes of it.

use std::time::Duration;

use tokio::time::Instant;

use super::window::{LimiterSample, SampleSums, WindowReading};
use crate::event::LimitChangeKind;

/// From this share of drops on the upstream says itself that it has too much to do.
const TOO_MANY_DROPS: f64 = 0.1;
/// A change by this part is an experiment.
const EXPERIMENT: f64 = 0.1;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct LimiterSettings {
    pub(super) min_limit: f64,
    pub(super) max_limit: f64,
    pub(super) initial_limit: f64,
    /// The limit is at most so many times the most calls in flight.
    pub(super) max_limit_factor: f64,
    /// A window is twice as long as the shortest asked time, within these.
    pub(super) shortest_window: Duration,
    pub(super) longest_window: Duration,
    /// So many results a window has at least.
    pub(super) min_samples: u64,
    /// Of the chance that says when the next dip is due.
    pub(super) seed: u64,
}

/// The limit has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LimitChange {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: LimitChangeKind,
}

/// Why the limit is not the level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ExperimentKind {
    /// There is a queue: does throughput stay with a lower limit?
    Cut,
    /// There is none: the same, now and then, so that the baseline stays honest.
    Dip,
    /// Does it grow with a higher one?
    Up,
}

#[derive(Clone, Copy, Debug)]
struct Experiment {
    kind: ExperimentKind,
    /// The throughput before it.
    throughput: f64,
}

#[derive(Clone, Copy, Debug)]
struct LimiterWindow {
    began: Instant,
    sums: SampleSums,
}

#[derive(Debug)]
pub(super) struct LimiterMachine {
    settings: LimiterSettings,
    random: fastrand::Rng,
    limit: f64,
    /// The limit outside of experiments.
    level: f64,
    /// The asked time without a queue, in seconds.
    baseline: Option<f64>,
    experiment: Option<Experiment>,
    /// So many full windows until a dip is due.
    until_dip: u32,
    /// `None`: it begins with the next result.
    window: Option<LimiterWindow>,
    /// Results of calls that were admitted before say nothing about the limit in force.
    epoch: Instant,
}

impl LimiterMachine {
    pub(super) fn new(settings: LimiterSettings, now: Instant) -> Self {
        Self {
            settings,
            random: fastrand::Rng::with_seed(settings.seed),
            limit: settings.initial_limit,
            level: settings.initial_limit,
            baseline: None,
            experiment: None,
            until_dip: 0,
            window: None,
            epoch: now,
        }
    }

    /// How many calls may be in flight.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The asked time without a queue.
    pub(super) fn baseline(&self) -> Option<Duration> {
        self.baseline.map(Duration::from_secs_f64)
    }

    /// See [`LimiterMachine::epoch`].
    pub(super) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// When the window under way may end; `None`: it begins with the next result.
    pub(super) fn window_ends(&self) -> Option<Instant> {
        self.window.map(|window| window.began + self.settings.shortest_window)
    }

    /// Whether a call that was cut off after this asked time is a drop. That it might have come to
    /// an end soon after is likely of a quicker one only.
    pub(super) fn is_drop_if_cut(&self, asked: Duration) -> bool {
        self.baseline.is_some_and(|baseline| asked.as_secs_f64() >= 2.0 * baseline)
    }

    /// Takes samples of the window under way, none of which ends it.
    pub(super) fn absorb(&mut self, sums: SampleSums) {
        if let Some(window) = &mut self.window {
            window.sums.merge(sums);
        }
    }

    /// Takes a sample, and moves the limit if it ends the window.
    pub(super) fn record(&mut self, sample: &LimiterSample) -> Option<LimitChange> {
        if sample.began < self.epoch {
            return None;
        }
        let LimiterSettings { shortest_window, longest_window, min_samples, .. } = self.settings;
        let now = sample.ended;
        let Some(window) = self.window.as_mut().filter(|window| {
            // After a pause nothing of before tells how much comes through.
            let last = window.sums.last().unwrap_or(window.began);
            now.saturating_duration_since(last) <= longest_window
        }) else {
            self.window = Some(LimiterWindow { began: now, sums: SampleSums::default() });
            return None;
        };
        window.sums.add(sample);
        let length = (2 * window.sums.shortest()).clamp(shortest_window, longest_window);
        let age = now.saturating_duration_since(window.began);
        if window.sums.count() < min_samples || age < length {
            return None;
        }
        let reading = window.sums.reading(age);
        self.window = None;
        let from = self.limit();
        let kind = self.step(&reading, now);
        let to = self.limit();
        (from != to).then_some(LimitChange { from, to, kind })
    }

    fn step(&mut self, window: &WindowReading, now: Instant) -> LimitChangeKind {
        let is_full = window.peak >= self.limit.floor();
        let baseline = self.learn(window, is_full);
        if let Some(experiment) = self.experiment.take() {
            let is_kept = self.judge(experiment, window, is_full);
            if is_kept {
                self.level = self.limit;
            }
            if !(is_kept && experiment.kind == ExperimentKind::Up && is_full) {
                self.set_limit(self.level, now);
                return LimitChangeKind::Back;
            }
        }
        self.move_level(window, baseline, is_full, now)
    }

    /// Follows what the asked time is without a queue.
    fn learn(&mut self, window: &WindowReading, is_full: bool) -> f64 {
        let baseline = self.baseline.get_or_insert(window.asked);
        if window.drops < TOO_MANY_DROPS {
            if window.asked < *baseline {
                *baseline += (window.asked - *baseline) / 2.0;
            } else if !is_full {
                *baseline += (window.asked - *baseline) * 2.0 / 11.0;
            }
        }
        *baseline
    }

    /// Whether what the experiment has changed stays.
    fn judge(&mut self, experiment: Experiment, window: &WindowReading, is_full: bool) -> bool {
        let Experiment { kind, throughput } = experiment;
        if window.drops >= TOO_MANY_DROPS {
            return self.limit < self.level;
        }
        if !is_full {
            return kind != ExperimentKind::Dip;
        }
        let effect = (window.throughput / throughput - 1.0) / (self.limit / self.level - 1.0);
        if effect <= 0.25 {
            self.until_dip = 0;
        }
        match kind {
            ExperimentKind::Up => effect >= 0.5,
            ExperimentKind::Cut | ExperimentKind::Dip if effect > 0.5 => {
                // Throughput went with the limit: what it takes is no queue of ours.
                let baseline = self.baseline.get_or_insert(window.asked);
                *baseline = baseline.max(window.asked);
                false
            }
            ExperimentKind::Cut => true,
            ExperimentKind::Dip => effect <= 0.25,
        }
    }

    /// Moves the level, or begins an experiment.
    fn move_level(
        &mut self,
        window: &WindowReading,
        baseline: f64,
        is_full: bool,
        now: Instant,
    ) -> LimitChangeKind {
        let level = self.level;
        let step = level.log10().floor().max(1.0);
        let (alpha, beta) = (3.0 * step, 6.0 * step);
        let queue = level * (1.0 - baseline / window.asked);
        let (wanted, experiment, kind) = if window.drops >= TOO_MANY_DROPS {
            (level * 0.9, None, LimitChangeKind::Drops)
        } else if is_full && queue > beta {
            let lower = level - step.max((queue - beta) / 2.0);
            (lower.max(level / 2.0), Some(ExperimentKind::Cut), LimitChangeKind::Cut)
        } else if is_full && self.until_dip == 0 {
            // It is counted down below.
            self.until_dip = self.random.u32(8..=12);
            (level * 0.75, Some(ExperimentKind::Dip), LimitChangeKind::Dip)
        } else if is_full && queue <= step {
            (level + step.max(level / 4.0), Some(ExperimentKind::Up), LimitChangeKind::Up)
        } else if queue < alpha {
            let experiment = is_full.then_some(ExperimentKind::Up);
            (level + step, experiment, LimitChangeKind::Grown)
        } else {
            (level, None, LimitChangeKind::Grown)
        };
        if is_full {
            self.until_dip = self.until_dip.saturating_sub(1);
        }
        let (wanted, kind) = self.capped(wanted, window.peak, kind);
        let is_experiment =
            (wanted - level).abs() >= EXPERIMENT * level && wanted.floor() != level.floor();
        match experiment.filter(|_| is_experiment) {
            Some(of) => {
                let throughput = window.throughput;
                self.experiment = Some(Experiment { kind: of, throughput });
            }
            None => self.level = wanted,
        }
        self.set_limit(wanted, now);
        kind
    }

    /// Within what is in use, and the bounds.
    fn capped(&self, wanted: f64, peak: f64, kind: LimitChangeKind) -> (f64, LimitChangeKind) {
        let LimiterSettings { min_limit, max_limit, max_limit_factor, .. } = self.settings;
        let most = (peak * max_limit_factor).max(1.0);
        if wanted <= most {
            return (wanted.clamp(min_limit, max_limit), kind);
        }
        let capped = if self.level > most { most.max(self.level * 0.9) } else { most };
        (capped.clamp(min_limit, max_limit), LimitChangeKind::Capped)
    }

    fn set_limit(&mut self, limit: f64, now: Instant) {
        if (limit - self.limit).abs() >= EXPERIMENT * self.limit {
            self.epoch = now;
        }
        self.limit = limit;
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
