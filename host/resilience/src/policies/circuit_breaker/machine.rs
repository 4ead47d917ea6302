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
//! not answered within `trial_timeout` is a failed trial, and its late result ignored.
//!
//! After its trials were good, a circuit with a `ramp` admits a share of the calls that grows with
//! time, and goes on judging them as trials: not all who have waited come back at once.
//!
//! Openings are in a row until the circuit has been closed for as long as it was open the last
//! time: an upstream that is well for a moment only must not start the delays over.

mod look;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::permit::{CircuitCaller, CircuitPermit, CircuitRejection};
use super::result::CircuitResult;
use super::settings::{CircuitSettings, FailureThreshold, TrialVerdict};
use super::status::{CircuitStanding, CircuitStatus};
use super::trials::{TrialBody, Trials};
use super::window::{ResultWindow, TimeSlices, WindowCounts};
use crate::event::CircuitState;
use crate::levels::LevelWindow;
use crate::priority::PriorityLevel;
use crate::random::Random;

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CircuitTransition {
    pub(super) from: CircuitState,
    pub(super) to: CircuitState,
    /// How long it stays open, if it opened.
    pub(super) delay: Option<Duration>,
    /// How many openings in a row there were, with this one.
    pub(super) openings: u32,
    /// Of the state that it has changed to.
    pub(super) generation: u64,
}

/// Half-open with all trials under way, it may be closed as soon as they have ended.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct CircuitMachine {
    settings: CircuitSettings,
    phase: CircuitPhase,
    generation: u64,
    /// Openings in a row.
    openings: u32,
    /// How long it stays or stayed open the last time.
    last_delay: Duration,
    chance: Random,
}

#[derive(Debug)]
enum CircuitPhase {
    Closed { window: ResultWindow, since: Instant, ramp: Option<Box<CircuitRamp>> },
    Open { since: Instant, delay: Duration, counts: WindowCounts },
    HalfOpen { window: ResultWindow, trials: Trials },
}

/// A circuit that has just closed lets only a share of the calls through, which grows. The trials'
/// window goes on for so long, and may open it again.
#[derive(Debug)]
struct CircuitRamp {
    trials: ResultWindow,
    levels: LevelWindow,
}

/// The share at the begin of a ramp.
const LEAST_SHARE: f64 = 0.1;

impl CircuitMachine {
    pub(super) fn new(settings: CircuitSettings, now: Instant) -> Self {
        Self {
            phase: CircuitPhase::closed(&settings, now),
            settings,
            generation: 0,
            openings: 0,
            last_delay: Duration::ZERO,
            chance: Random::with_seed(settings.seed),
        }
    }

    /// The share of calls that is admitted after closing, and for how much longer; `None`: all
    /// are.
    fn ramp(&self, now: Instant) -> Option<(f64, Duration)> {
        let CircuitPhase::Closed { since, ramp: Some(_), .. } = &self.phase else { return None };
        let length = self.settings.ramp?;
        let elapsed = now.saturating_duration_since(*since);
        let left = length.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        Some((LEAST_SHARE.max(elapsed.as_secs_f64() / length.as_secs_f64()), left))
    }

    /// Ends a ramp whose time is over. Otherwise, if this call is not in the share that is
    /// admitted, says for how long the ramp goes on.
    fn reject_by_ramp(&mut self, level: Option<PriorityLevel>, now: Instant) -> Option<Duration> {
        let at = self.ramp(now);
        let CircuitPhase::Closed { ramp, .. } = &mut self.phase else { return None };
        let Some((share, left)) = at else {
            *ramp = None;
            return None;
        };
        let rejected = match (level, ramp) {
            (Some(level), Some(ramp)) => ramp.levels.arrive(level, 1.0 - share, now),
            _ => 1.0 - share,
        };
        (self.chance.fraction() < rejected).then_some(left)
    }

    /// Asks for a permit for a call without a level.
    #[cfg(test)]
    pub(super) fn admit(
        &mut self,
        now: Instant,
    ) -> (Result<CircuitPermit, CircuitRejection>, Option<CircuitTransition>) {
        self.admit_call(CircuitCaller::default(), now)
    }

    /// Asks for a permit. After the delay, the first to ask turns the circuit half-open.
    pub(super) fn admit_call(
        &mut self,
        caller: CircuitCaller,
        now: Instant,
    ) -> (Result<CircuitPermit, CircuitRejection>, Option<CircuitTransition>) {
        let mut transition = None;
        if let CircuitPhase::Open { since, delay, .. } = self.phase {
            let remaining = delay.saturating_sub(now.saturating_duration_since(since));
            if !remaining.is_zero() {
                return (Err(CircuitRejection { remaining }), None);
            }
            transition = Some(self.change(CircuitPhase::half_open(&self.settings), None));
        } else if matches!(self.phase, CircuitPhase::HalfOpen { .. }) {
            self.settle(now);
            transition = self.judge(None, now);
        }
        if let Some(remaining) = self.reject_by_ramp(caller.level, now) {
            return (Err(CircuitRejection { remaining }), transition);
        }
        let generation = self.generation;
        let permit = match &mut self.phase {
            CircuitPhase::HalfOpen { trials, .. } => {
                if trials.have_place(self.settings.trials(), caller.owes_body, now) {
                    Ok(CircuitPermit { generation, trial: trials.begin(now) })
                } else {
                    Err(CircuitRejection { remaining: LOOK_AGAIN })
                }
            }
            // A hung trial has just opened it.
            CircuitPhase::Open { delay, .. } if !delay.is_zero() => {
                Err(CircuitRejection { remaining: *delay })
            }
            CircuitPhase::Closed { .. } | CircuitPhase::Open { .. } => {
                Ok(CircuitPermit::of_closed(generation))
            }
        };
        (permit, transition)
    }

    /// Records the trials that have taken too long, which have failed.
    fn expire(&mut self, now: Instant) -> bool {
        let CircuitPhase::HalfOpen { window, trials } = &mut self.phase else { return false };
        let failed = trials.expire(self.settings.trial_timeout, now);
        (0..failed).for_each(|_| window.record(true, now));
        failed > 0
    }

    /// Records the trials that time has decided. They are judged with the next result, or when the
    /// next call comes.
    fn settle(&mut self, now: Instant) -> bool {
        let has_expired = self.expire(now);
        let CircuitPhase::HalfOpen { window, trials } = &mut self.phase else { return false };
        let succeeded = trials.settle(now);
        (0..succeeded).for_each(|_| window.record(false, now));
        has_expired || succeeded > 0
    }

    /// A trial got a good head, and its body is to come.
    pub(super) fn answered(&mut self, permit: CircuitPermit, body: &Arc<TrialBody>, now: Instant) {
        if permit.generation == self.generation
            && let CircuitPhase::HalfOpen { trials, .. } = &mut self.phase
        {
            trials.answered(permit.trial, body, now);
        }
    }

    /// Records that what had a good head at `head` is a failure all the same. False: that changes
    /// nothing any more.
    pub(super) fn take_late(&mut self, permit: CircuitPermit, head: Instant, now: Instant) -> bool {
        // Before others are settled: what is known of this one is the truth.
        let has_expired = self.expire(now);
        let counts = permit.generation == self.generation
            && match &mut self.phase {
                CircuitPhase::Open { .. } => false,
                CircuitPhase::Closed { window, ramp, .. } => {
                    window.turn(head, now);
                    if let Some(ramp) = ramp {
                        ramp.trials.turn(head, now);
                    }
                    true
                }
                CircuitPhase::HalfOpen { window, trials } => {
                    let is_under_way = trials.end(permit.trial);
                    let was_settled = !is_under_way && trials.was_settled(permit.trial);
                    if is_under_way {
                        window.record(true, now);
                    } else if was_settled {
                        window.turn(head, now);
                    }
                    is_under_way || was_settled
                }
            };
        self.settle(now) | has_expired | counts
    }

    /// Records it and judges.
    #[cfg(test)]
    pub(super) fn record_late(
        &mut self,
        permit: CircuitPermit,
        head: Instant,
        now: Instant,
    ) -> Option<CircuitTransition> {
        if self.take_late(permit, head, now) { self.judge(None, now) } else { None }
    }

    /// Records a result and judges. `requested` is how long the upstream asks to be left alone.
    #[cfg(test)]
    pub(super) fn record(
        &mut self,
        permit: CircuitPermit,
        result: impl Into<CircuitResult>,
        requested: Option<Duration>,
        now: Instant,
    ) -> Option<CircuitTransition> {
        if self.take(permit, result, now) { self.judge(requested, now) } else { None }
    }

    /// Records a result, to be judged by [`judge`](Self::judge). False: there is none that counts.
    pub(super) fn take(
        &mut self,
        permit: CircuitPermit,
        result: impl Into<CircuitResult>,
        now: Instant,
    ) -> bool {
        let result = result.into();
        let has_expired = self.expire(now);
        let mut counts = self.take_back(permit);
        match &mut self.phase {
            CircuitPhase::Open { .. } => counts = false,
            CircuitPhase::Closed { window, ramp, .. } if counts => {
                window.record(result, now);
                if let Some(ramp) = ramp {
                    ramp.trials.record(result, now);
                }
            }
            CircuitPhase::HalfOpen { window, .. } if counts => window.record(result, now),
            CircuitPhase::Closed { .. } | CircuitPhase::HalfOpen { .. } => {}
        }
        self.settle(now) | has_expired | counts
    }

    /// Judges the results so far. `requested` is how long the upstream asks to be left alone.
    pub(super) fn judge(
        &mut self,
        requested: Option<Duration>,
        now: Instant,
    ) -> Option<CircuitTransition> {
        let settings = self.settings;
        let is_ramping = self.ramp(now).is_some();
        match &mut self.phase {
            CircuitPhase::Open { .. } => None,
            CircuitPhase::Closed { window, ramp, .. } => {
                let mut opens = settings.opens(window.counts(now), window.slow(now));
                if let Some(CircuitRamp { trials, .. }) = ramp.as_deref_mut().filter(|_| is_ramping)
                {
                    let verdict = settings.judge_trials(trials.counts(now), trials.slow(now));
                    opens |= matches!(verdict, Some(TrialVerdict::Open));
                }
                opens.then(|| self.open(requested, now))
            }
            CircuitPhase::HalfOpen { window, .. } => {
                match settings.judge_trials(window.counts(now), window.slow(now))? {
                    TrialVerdict::Close => Some(self.close_by_trials(now)),
                    TrialVerdict::Open => Some(self.open(requested, now)),
                }
            }
        }
    }

    /// What a call may know of it without asking it.
    pub(super) fn standing(&self) -> CircuitStanding {
        match &self.phase {
            CircuitPhase::Closed { ramp: Some(_), .. } => CircuitStanding::Ramping,
            CircuitPhase::Closed { window, .. } => CircuitStanding::Closed {
                generation: self.generation,
                is_settled: window.is_full_of_successes(),
            },
            CircuitPhase::Open { since, delay, .. } => {
                CircuitStanding::Open { until: since.checked_add(*delay) }
            }
            CircuitPhase::HalfOpen { .. } => CircuitStanding::HalfOpen,
        }
    }

    /// The slices that results are counted in, if it is closed and counts by time.
    pub(super) fn slices(&mut self) -> Option<&mut TimeSlices> {
        match &mut self.phase {
            CircuitPhase::Closed { window: ResultWindow::Time(slices), .. } => Some(&mut **slices),
            _ => None,
        }
    }

    /// Whether it is closed and no further success in the slice under way could open it: that need
    /// not be judged, only counted.
    pub(super) fn is_safe_from_successes(&mut self, now: Instant) -> bool {
        match &mut self.phase {
            // Each success counts in the trials' window, too.
            CircuitPhase::Closed { ramp: Some(_), .. } => false,
            CircuitPhase::Closed { window, .. } => {
                self.settings.is_safe_from_successes(window.counts(now), window.slow(now))
            }
            CircuitPhase::Open { .. } | CircuitPhase::HalfOpen { .. } => false,
        }
    }

    /// Gives a permit back unanswered: nothing is recorded.
    pub(super) fn release(&mut self, permit: CircuitPermit, now: Instant) {
        self.expire(now);
        self.take_back(permit);
    }

    /// Whether the permit is of this generation, and, if it is a trial's, still out.
    fn take_back(&mut self, permit: CircuitPermit) -> bool {
        if permit.generation != self.generation {
            return false;
        }
        match &mut self.phase {
            CircuitPhase::Closed { .. } | CircuitPhase::Open { .. } => true,
            CircuitPhase::HalfOpen { trials, .. } => trials.end(permit.trial),
        }
    }

    /// Moves it by hand. None: it stands there already.
    pub(super) fn force(&mut self, state: CircuitState, now: Instant) -> Option<CircuitTransition> {
        if state == self.phase.state() {
            return None;
        }
        self.openings = self.openings(now);
        Some(match state {
            CircuitState::Closed => {
                // Whoever closes it knows that the upstream is well.
                self.openings = 0;
                self.close(now)
            }
            CircuitState::Open => self.open(None, now),
            CircuitState::HalfOpen => self.change(CircuitPhase::half_open(&self.settings), None),
        })
    }

    pub(super) fn status(&mut self, now: Instant) -> CircuitStatus {
        self.settle(now);
        let state = self.phase.state();
        let openings = self.openings(now);
        let admitted = self.ramp(now).map_or(1.0, |(share, _)| share);
        match &mut self.phase {
            CircuitPhase::Closed { window, .. } => CircuitStatus {
                state,
                counts: window.counts(now),
                slow_calls: window.slow(now),
                admitted,
                remaining_delay: Duration::ZERO,
                trials: 0,
                openings,
            },
            CircuitPhase::Open { since, delay, counts } => CircuitStatus {
                state,
                counts: *counts,
                slow_calls: 0,
                admitted: 0.0,
                remaining_delay: delay.saturating_sub(now.saturating_duration_since(*since)),
                trials: 0,
                openings,
            },
            CircuitPhase::HalfOpen { window, trials, .. } => CircuitStatus {
                state,
                counts: window.counts(now),
                slow_calls: window.slow(now),
                admitted: 0.0,
                remaining_delay: Duration::ZERO,
                trials: trials.count(),
                openings,
            },
        }
    }

    fn open(&mut self, requested: Option<Duration>, now: Instant) -> CircuitTransition {
        self.openings = self.openings(now).saturating_add(1);
        let delay = match requested {
            Some(requested) => requested.min(self.settings.max_delay),
            None => self.settings.delay(self.openings, self.chance.fraction()),
        };
        self.last_delay = delay;
        let counts = match &mut self.phase {
            CircuitPhase::Closed { window, .. } | CircuitPhase::HalfOpen { window, .. } => {
                window.counts(now)
            }
            CircuitPhase::Open { counts, .. } => *counts,
        };
        self.change(CircuitPhase::Open { since: now, delay, counts }, Some(delay))
    }

    /// It stays open for so long, from when it opened as this generation. False: it has changed
    /// since.
    pub(super) fn stay_open(&mut self, generation: u64, time: Duration) -> bool {
        match &mut self.phase {
            CircuitPhase::Open { delay, .. } if self.generation == generation => {
                *delay = time;
                self.last_delay = time;
                true
            }
            _ => false,
        }
    }

    /// How many openings in a row there were.
    fn openings(&self, now: Instant) -> u32 {
        match self.phase {
            CircuitPhase::Closed { since, .. }
                if now.saturating_duration_since(since) >= self.last_delay =>
            {
                0
            }
            _ => self.openings,
        }
    }

    fn close(&mut self, now: Instant) -> CircuitTransition {
        self.change(CircuitPhase::closed(&self.settings, now), None)
    }

    /// Closes it since its trials were good: not all come back at once.
    fn close_by_trials(&mut self, now: Instant) -> CircuitTransition {
        let trials = match &mut self.phase {
            CircuitPhase::HalfOpen { window, .. } => {
                Some(std::mem::replace(window, ResultWindow::of_last(0)))
            }
            CircuitPhase::Closed { .. } | CircuitPhase::Open { .. } => None,
        };
        let transition = self.close(now);
        if let CircuitPhase::Closed { ramp, .. } = &mut self.phase {
            let trials = trials.filter(|_| self.settings.ramp.is_some());
            *ramp = trials
                .map(|trials| Box::new(CircuitRamp { trials, levels: LevelWindow::default() }));
        }
        transition
    }

    fn change(&mut self, phase: CircuitPhase, delay: Option<Duration>) -> CircuitTransition {
        let from = self.phase.state();
        self.phase = phase;
        self.generation += 1;
        CircuitTransition {
            from,
            to: self.phase.state(),
            delay,
            openings: self.openings,
            generation: self.generation,
        }
    }
}

impl CircuitPhase {
    fn closed(settings: &CircuitSettings, now: Instant) -> Self {
        let window = match settings.failure {
            FailureThreshold::Count { capacity, .. } => ResultWindow::of_last(capacity),
            FailureThreshold::Period { period, .. } | FailureThreshold::Rate { period, .. } => {
                ResultWindow::of_period(period, now)
            }
        };
        Self::Closed { window, since: now, ramp: None }
    }

    fn half_open(settings: &CircuitSettings) -> Self {
        Self::HalfOpen {
            window: ResultWindow::of_last(settings.trials()),
            trials: Trials::default(),
        }
    }

    fn state(&self) -> CircuitState {
        match self {
            Self::Closed { .. } => CircuitState::Closed,
            Self::Open { .. } => CircuitState::Open,
            Self::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests;
