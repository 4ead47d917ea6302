//! The breaker's states, pure: time is passed in, what changed is returned.
//!
//! ```text
//!              too many failures                 the delay has passed, and a call comes
//!   closed ───────────────────────▶ open ───────────────────────────────────────────▶ half-open
//!     ▲                              ▲                                                  │  │
//!     │                              └────────────────── too many failures ─────────────┘  │
//!     └───────────────────────────────── enough successes ─────────────────────────────────┘
//! ```
//!
//! Every change begins a new generation. A permit carries the generation that it was given in, and
//! its result is taken only in that one: a straggler from before the circuit opened changes
//! nothing. Half-open gives out at most as many permits as its window holds results; one that is
//! not answered within `trial_timeout` is taken back, and its late result ignored.

use std::time::Duration;

use tokio::time::Instant;

use super::window::{Counts, TimeSlices, Window};

/// Where a circuit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Traffic flows.
    Closed,
    /// Calls are rejected.
    Open,
    /// A few calls try whether the upstream is well again.
    HalfOpen,
}

impl State {
    /// Its word in log, metrics and `/state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// When the circuit opens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum FailureThreshold {
    /// `failures` of the last `capacity` results.
    Count { failures: usize, capacity: usize },
    /// `failures` within the period.
    Period { failures: usize, period: Duration },
    /// This rate of at least `min_calls` within the period.
    Rate { rate: f64, min_calls: usize, period: Duration },
}

/// When it closes: so many successes of the last `capacity` trials.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct SuccessThreshold {
    pub(super) successes: usize,
    pub(super) capacity: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) failure: FailureThreshold,
    /// None: half-open is judged by the failure threshold.
    pub(super) success: Option<SuccessThreshold>,
    pub(super) delay: Duration,
    pub(super) delay_factor: f64,
    pub(super) max_delay: Duration,
    pub(super) trial_timeout: Duration,
}

impl Settings {
    /// How many trials at once, and how many results half-open is judged by.
    fn trials(&self) -> usize {
        match (self.success, self.failure) {
            (Some(SuccessThreshold { capacity, .. }), _) => capacity,
            (None, FailureThreshold::Count { capacity, .. }) => capacity,
            (None, FailureThreshold::Period { failures, .. }) => failures,
            (None, FailureThreshold::Rate { min_calls, .. }) => min_calls,
        }
    }

    /// The delay of the opening number `openings` in a row, from 1.
    fn delay(&self, openings: u32) -> Duration {
        let grown = self.delay.as_secs_f64()
            * self.delay_factor.powf(f64::from(openings.saturating_sub(1)));
        if grown < self.max_delay.as_secs_f64() {
            Duration::from_secs_f64(grown)
        } else {
            self.max_delay
        }
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) from: State,
    pub(super) to: State,
    /// How long it stays open, if it opened.
    pub(super) delay: Option<Duration>,
}

/// Leave to ask the upstream once. It is answered by [`Machine::record`] or [`Machine::release`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permit {
    generation: u64,
    trial: u64,
}

/// No leave; `remaining` is how long the circuit stays open, unless it is half-open with all trials
/// under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) remaining: Option<Duration>,
}

impl Permit {
    /// Of a generation in which the circuit is closed.
    pub(super) fn of_closed(generation: u64) -> Self {
        Self { generation, trial: 0 }
    }

    pub(super) fn generation(self) -> u64 {
        self.generation
    }
}

/// Where a machine stands, as far as a call must know to go on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Calls are let through. Settled, a success changes nothing: it takes the place of another.
    Closed { generation: u64, is_settled: bool },
    /// Calls are rejected until then; none: for longer than time is told.
    Open { until: Option<Instant> },
    /// Trials.
    HalfOpen,
}

/// What an observer may know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Where it stands. Open turns half-open on the first call after the delay, so it may be open
    /// with nothing remaining.
    pub state: State,
    /// The results that it is judged by.
    pub counts: Counts,
    /// How long it stays open.
    pub remaining_delay: Duration,
    /// Trials under way.
    pub trials: usize,
    /// How many openings in a row there were without closing.
    pub openings: u32,
}

#[derive(Debug)]
pub(super) struct Machine {
    settings: Settings,
    phase: Phase,
    generation: u64,
    /// Openings since it was last closed.
    openings: u32,
}

#[derive(Debug)]
enum Phase {
    Closed { window: Window },
    Open { since: Instant, delay: Duration, counts: Counts },
    HalfOpen { window: Window, trials: Vec<Trial>, next_trial: u64 },
}

#[derive(Debug)]
struct Trial {
    number: u64,
    since: Instant,
}

impl Machine {
    pub(super) fn new(settings: Settings, now: Instant) -> Self {
        Self { phase: Phase::closed(&settings, now), settings, generation: 0, openings: 0 }
    }

    /// Asks for leave. After the delay, the first to ask turns the circuit half-open.
    pub(super) fn admit(
        &mut self,
        now: Instant,
    ) -> (Result<Permit, Rejection>, Option<Transition>) {
        let mut transition = None;
        if let Phase::Open { since, delay, .. } = self.phase {
            let remaining = delay.saturating_sub(now.saturating_duration_since(since));
            if !remaining.is_zero() {
                return (Err(Rejection { remaining: Some(remaining) }), None);
            }
            transition = Some(self.change(Phase::half_open(&self.settings), None));
        }
        let generation = self.generation;
        let permit = match &mut self.phase {
            Phase::HalfOpen { trials, next_trial, .. } => {
                trials.retain(|trial| {
                    now.saturating_duration_since(trial.since) < self.settings.trial_timeout
                });
                if trials.len() < self.settings.trials() {
                    let number = *next_trial;
                    *next_trial += 1;
                    trials.push(Trial { number, since: now });
                    Ok(Permit { generation, trial: number })
                } else {
                    Err(Rejection { remaining: None })
                }
            }
            Phase::Closed { .. } | Phase::Open { .. } => Ok(Permit::of_closed(generation)),
        };
        (permit, transition)
    }

    /// Records a result and judges. `requested` is how long the upstream asks to be left alone.
    #[cfg(test)]
    pub(super) fn record(
        &mut self,
        permit: Permit,
        failed: bool,
        requested: Option<Duration>,
        now: Instant,
    ) -> Option<Transition> {
        if self.take(permit, failed, now) { self.judge(requested, now) } else { None }
    }

    /// Records a result, to be judged by [`judge`](Self::judge). False: it is none that counts.
    pub(super) fn take(&mut self, permit: Permit, failed: bool, now: Instant) -> bool {
        if !self.take_back(permit, now) {
            return false;
        }
        match &mut self.phase {
            Phase::Open { .. } => return false,
            Phase::Closed { window } | Phase::HalfOpen { window, .. } => window.record(failed, now),
        }
        true
    }

    /// Judges the results so far. `requested` is how long the upstream asks to be left alone.
    pub(super) fn judge(
        &mut self,
        requested: Option<Duration>,
        now: Instant,
    ) -> Option<Transition> {
        let settings = self.settings;
        match &mut self.phase {
            Phase::Open { .. } => None,
            Phase::Closed { window } => {
                settings.failure.is_reached(window.counts(now)).then(|| self.open(requested, now))
            }
            Phase::HalfOpen { window, .. } => match settings.judge_trials(window.counts(now))? {
                Verdict::Close => Some(self.close(now)),
                Verdict::Open => Some(self.open(requested, now)),
            },
        }
    }

    /// What a call may know of it without asking it.
    pub(super) fn standing(&self) -> Standing {
        match &self.phase {
            Phase::Closed { window } => Standing::Closed {
                generation: self.generation,
                is_settled: window.is_full_of_successes(),
            },
            Phase::Open { since, delay, .. } => Standing::Open { until: since.checked_add(*delay) },
            Phase::HalfOpen { .. } => Standing::HalfOpen,
        }
    }

    /// The slices that results are counted in, if it is closed and counts by time.
    pub(super) fn slices(&mut self) -> Option<&mut TimeSlices> {
        match &mut self.phase {
            Phase::Closed { window: Window::Time(slices) } => Some(slices),
            _ => None,
        }
    }

    /// Whether it is closed and no further success in the slice under way could open it: that need
    /// not be judged, only counted.
    pub(super) fn is_safe_from_successes(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            Phase::Closed { window } => {
                self.settings.failure.is_safe_from_successes(window.counts(now))
            }
            Phase::Open { .. } | Phase::HalfOpen { .. } => false,
        }
    }

    /// Gives a permit back unanswered: nothing is recorded.
    pub(super) fn release(&mut self, permit: Permit, now: Instant) {
        self.take_back(permit, now);
    }

    /// Whether the permit is of this generation, and, if it is a trial's, still out.
    fn take_back(&mut self, permit: Permit, now: Instant) -> bool {
        if permit.generation != self.generation {
            return false;
        }
        match &mut self.phase {
            Phase::Closed { .. } | Phase::Open { .. } => true,
            Phase::HalfOpen { trials, .. } => {
                let Some(index) = trials.iter().position(|trial| trial.number == permit.trial)
                else {
                    return false;
                };
                let trial = trials.swap_remove(index);
                now.saturating_duration_since(trial.since) < self.settings.trial_timeout
            }
        }
    }

    /// Moves it by hand. None: it stands there already.
    pub(super) fn force(&mut self, state: State, now: Instant) -> Option<Transition> {
        if state == self.phase.state() {
            return None;
        }
        Some(match state {
            State::Closed => self.close(now),
            State::Open => self.open(None, now),
            State::HalfOpen => self.change(Phase::half_open(&self.settings), None),
        })
    }

    pub(super) fn status(&mut self, now: Instant) -> Status {
        let state = self.phase.state();
        let openings = self.openings;
        match &mut self.phase {
            Phase::Closed { window } => Status {
                state,
                counts: window.counts(now),
                remaining_delay: Duration::ZERO,
                trials: 0,
                openings,
            },
            Phase::Open { since, delay, counts } => Status {
                state,
                counts: *counts,
                remaining_delay: delay.saturating_sub(now.saturating_duration_since(*since)),
                trials: 0,
                openings,
            },
            Phase::HalfOpen { window, trials, .. } => Status {
                state,
                counts: window.counts(now),
                remaining_delay: Duration::ZERO,
                trials: trials
                    .iter()
                    .filter(|trial| {
                        now.saturating_duration_since(trial.since) < self.settings.trial_timeout
                    })
                    .count(),
                openings,
            },
        }
    }

    fn open(&mut self, requested: Option<Duration>, now: Instant) -> Transition {
        self.openings = self.openings.saturating_add(1);
        let delay = match requested {
            Some(requested) => requested.min(self.settings.max_delay),
            None => self.settings.delay(self.openings),
        };
        let counts = match &mut self.phase {
            Phase::Closed { window } | Phase::HalfOpen { window, .. } => window.counts(now),
            Phase::Open { counts, .. } => *counts,
        };
        self.change(Phase::Open { since: now, delay, counts }, Some(delay))
    }

    fn close(&mut self, now: Instant) -> Transition {
        self.openings = 0;
        self.change(Phase::closed(&self.settings, now), None)
    }

    fn change(&mut self, phase: Phase, delay: Option<Duration>) -> Transition {
        let transition = Transition { from: self.phase.state(), to: phase.state(), delay };
        self.phase = phase;
        self.generation += 1;
        transition
    }
}

impl Phase {
    fn closed(settings: &Settings, now: Instant) -> Self {
        let window = match settings.failure {
            FailureThreshold::Count { capacity, .. } => Window::of_last(capacity),
            FailureThreshold::Period { period, .. } | FailureThreshold::Rate { period, .. } => {
                Window::of_period(period, now)
            }
        };
        Self::Closed { window }
    }

    fn half_open(settings: &Settings) -> Self {
        Self::HalfOpen {
            window: Window::of_last(settings.trials()),
            trials: Vec::new(),
            next_trial: 0,
        }
    }

    fn state(&self) -> State {
        match self {
            Self::Closed { .. } => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen { .. } => State::HalfOpen,
        }
    }
}

enum Verdict {
    Close,
    Open,
}

impl FailureThreshold {
    fn is_reached(&self, counts: Counts) -> bool {
        match *self {
            Self::Count { failures, .. } | Self::Period { failures, .. } => {
                counts.failures >= failures
            }
            Self::Rate { rate, min_calls, .. } => {
                counts.total() >= min_calls && counts.failure_rate() >= rate
            }
        }
    }

    pub(super) fn is_by_time(&self) -> bool {
        matches!(self, Self::Period { .. } | Self::Rate { .. })
    }

    /// Whether it is not reached, and more successes can't make it so. They only lower a rate, but
    /// may complete `min_calls`.
    fn is_safe_from_successes(&self, counts: Counts) -> bool {
        match *self {
            Self::Count { failures, .. } | Self::Period { failures, .. } => {
                counts.failures < failures
            }
            Self::Rate { rate, min_calls, .. } => {
                counts.failures == 0 || counts.total() >= min_calls && counts.failure_rate() < rate
            }
        }
    }
}

impl Settings {
    /// Half-open's judgement. Without a success threshold the failure threshold decides both ways,
    /// as in failsafe-go: one success closes an n-of-n breaker, since n failures can no longer
    /// come together.
    fn judge_trials(&self, counts: Counts) -> Option<Verdict> {
        let (close, open) = match (self.success, self.failure) {
            (Some(SuccessThreshold { successes, capacity }), _) => {
                (counts.successes >= successes, counts.failures > capacity - successes)
            }
            (None, FailureThreshold::Count { failures, capacity }) => {
                (counts.successes > capacity - failures, counts.failures >= failures)
            }
            (None, FailureThreshold::Period { failures, .. }) => {
                (counts.successes > 0, counts.failures >= failures)
            }
            (None, FailureThreshold::Rate { rate, min_calls, .. }) => {
                let enough = counts.total() >= min_calls;
                (enough && counts.failure_rate() < rate, enough && counts.failure_rate() >= rate)
            }
        };
        if close {
            Some(Verdict::Close)
        } else if open {
            Some(Verdict::Open)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
