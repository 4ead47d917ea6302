//! The machine against a plain model, and its promises one by one.

mod ramp;
mod slow;

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::policies::circuit_breaker::settings::SuccessThreshold;

const DELAY: Duration = Duration::from_millis(100);
const TRIAL: Duration = Duration::from_millis(50);

fn settings(failure: FailureThreshold, success: Option<SuccessThreshold>) -> CircuitSettings {
    CircuitSettings {
        failure,
        success,
        delay: DELAY,
        delay_factor: 1.0,
        max_delay: 8 * DELAY,
        delay_jitter: 0.0,
        seed: 1,
        trial_timeout: TRIAL,
        ramp: None,
        slow: None,
    }
}

fn consecutive(failures: usize) -> FailureThreshold {
    FailureThreshold::Count { failures, capacity: failures }
}

fn opened(settings: CircuitSettings, now: Instant) -> CircuitMachine {
    let mut machine = CircuitMachine::new(settings, now);
    machine.force(CircuitState::Open, now);
    machine
}

fn half_open(settings: CircuitSettings, now: Instant) -> CircuitMachine {
    let mut machine = CircuitMachine::new(settings, now);
    machine.force(CircuitState::HalfOpen, now);
    machine
}

#[test]
fn a_straggler_from_an_earlier_generation_changes_nothing() {
    let now = Instant::now();
    let mut machine = CircuitMachine::new(settings(consecutive(1), None), now);
    let (straggler, _) = machine.admit(now);
    let (permit, _) = machine.admit(now);
    assert_eq!(machine.record(permit.unwrap(), true, None, now).unwrap().to, CircuitState::Open);
    let (trial, transition) = machine.admit(now + DELAY);
    assert_eq!(transition.unwrap().to, CircuitState::HalfOpen);
    assert_eq!(machine.record(straggler.unwrap(), true, None, now + DELAY), None);
    assert_eq!(
        machine.record(trial.unwrap(), false, None, now + DELAY).unwrap().to,
        CircuitState::Closed
    );
}

#[test]
fn open_turns_half_open_on_the_first_call_after_the_delay_and_not_before() {
    let now = Instant::now();
    let mut machine = opened(settings(consecutive(1), None), now);
    let almost = now + DELAY - Duration::from_nanos(1);
    let (rejected, transition) = machine.admit(almost);
    assert_eq!(rejected.unwrap_err().remaining, Duration::from_nanos(1));
    assert_eq!(transition, None);
    assert_eq!(
        machine.status(now + 2 * DELAY).state,
        CircuitState::Open,
        "looking does not change it"
    );
    assert!(machine.admit(now + DELAY).0.is_ok());
}

#[test]
fn a_trial_that_is_not_answered_in_time_has_failed_and_its_late_result_is_ignored() {
    let now = Instant::now();
    let mut machine = half_open(settings(consecutive(1), None), now);
    let late = machine.admit(now).0.unwrap();
    let almost = now + TRIAL - Duration::from_nanos(1);
    assert_eq!(machine.admit(almost).0.unwrap_err().remaining, Duration::from_secs(1));
    let mut noticed_by_its_end = half_open(settings(consecutive(1), None), now);
    let its_own = noticed_by_its_end.admit(now).0.unwrap();
    let (rejected, noticed_by_another) = machine.admit(now + TRIAL);
    assert_eq!(rejected.unwrap_err().remaining, DELAY);
    assert_eq!(machine.record(late, false, None, now + TRIAL), None);
    for transition in
        [noticed_by_another, noticed_by_its_end.record(its_own, false, None, now + TRIAL)]
    {
        let transition = transition.unwrap();
        assert_eq!(
            (transition.from, transition.to, transition.delay),
            (CircuitState::HalfOpen, CircuitState::Open, Some(DELAY))
        );
    }
}

#[test]
fn hung_trials_are_judged_with_those_that_end() {
    let now = Instant::now();
    let success = SuccessThreshold { successes: 2, capacity: 3 };
    let mut machine = half_open(settings(consecutive(1), Some(success)), now);
    let hung = machine.admit(now).0.unwrap();
    let good = machine.admit(now + DELAY).0.unwrap();
    assert_eq!(machine.record(good, false, None, now + DELAY), None);
    let status = machine.status(now + DELAY);
    assert_eq!((status.counts, status.trials), (WindowCounts { successes: 1, failures: 1 }, 0));
    assert_eq!(machine.record(hung, false, None, now + DELAY), None);
    let good = machine.admit(now + DELAY).0.unwrap();
    let closed = machine.record(good, false, None, now + DELAY).unwrap();
    assert_eq!(closed.to, CircuitState::Closed);
}

#[test]
fn the_delay_grows_with_each_opening_in_a_row_and_starts_over_after_as_long_in_closed() {
    let mut now = Instant::now();
    let mut machine = CircuitMachine::new(
        CircuitSettings { delay_factor: 3.0, ..settings(consecutive(1), None) },
        now,
    );
    let mut fail = |machine: &mut CircuitMachine, failed: bool, closed_for: Duration| {
        now += closed_for;
        let permit = machine.admit(now).0.unwrap();
        let delay = machine.record(permit, failed, None, now).unwrap().delay;
        now += delay.unwrap_or_default();
        (delay, machine.status(now).openings)
    };
    let none = Duration::ZERO;
    let delays: Vec<_> = (0..4).map(|_| fail(&mut machine, true, none).0.unwrap()).collect();
    assert_eq!(delays, [DELAY, 3 * DELAY, 8 * DELAY, 8 * DELAY]);
    assert_eq!(fail(&mut machine, false, none), (None, 4));
    let almost = 8 * DELAY - Duration::from_nanos(1);
    assert_eq!(fail(&mut machine, true, almost), (Some(8 * DELAY), 5), "flapping");
    assert_eq!(fail(&mut machine, false, none), (None, 5));
    assert_eq!(fail(&mut machine, true, 8 * DELAY), (Some(DELAY), 1));
    assert_eq!(fail(&mut machine, false, none), (None, 1));
    machine.force(CircuitState::Open, Instant::now());
    machine.force(CircuitState::Closed, Instant::now());
    assert_eq!(machine.status(Instant::now()).openings, 0, "closed by hand");
}

#[test]
fn jitter_lengthens_the_own_delay_and_not_what_the_upstream_asks_for() {
    let now = Instant::now();
    let settings = CircuitSettings { delay_jitter: 0.1, ..settings(consecutive(1), None) };
    let delay = |seed, requested| {
        let mut machine = CircuitMachine::new(CircuitSettings { seed, ..settings }, now);
        let permit = machine.admit(now).0.unwrap();
        machine.record(permit, true, requested, now).unwrap().delay.unwrap()
    };
    let delays: Vec<_> = (0..100).map(|seed| delay(seed, None)).collect();
    assert!(delays.iter().all(|delay| (DELAY..=DELAY.mul_f64(1.1)).contains(delay)), "{delays:?}");
    let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
    assert!(*least < DELAY.mul_f64(1.01) && *most > DELAY.mul_f64(1.09), "{least:?} {most:?}");
    assert!((0..100).all(|seed| delay(seed, Some(2 * DELAY)) == 2 * DELAY));
}

#[test]
fn what_the_upstream_asks_for_wins_over_the_delay_and_is_capped() {
    let now = Instant::now();
    for (requested, expected) in
        [(Duration::ZERO, Duration::ZERO), (2 * DELAY, 2 * DELAY), (100 * DELAY, 8 * DELAY)]
    {
        let mut machine = CircuitMachine::new(settings(consecutive(1), None), now);
        let permit = machine.admit(now).0.unwrap();
        assert_eq!(
            machine.record(permit, true, Some(requested), now).unwrap().delay,
            Some(expected)
        );
    }
}

#[test]
fn a_rate_is_judged_from_min_calls_on_and_may_open_on_a_success() {
    let now = Instant::now();
    let rate = FailureThreshold::Rate { rate: 0.5, min_calls: 4, period: Duration::from_secs(1) };
    let mut machine = CircuitMachine::new(settings(rate, None), now);
    let transitions: Vec<_> = [true, false, true, false]
        .into_iter()
        .map(|failed| {
            let permit = machine.admit(now).0.unwrap();
            machine.record(permit, failed, None, now).map(|transition| transition.to)
        })
        .collect();
    assert_eq!(transitions, [None, None, None, Some(CircuitState::Open)]);
}

#[test]
fn one_third_is_not_rounded_up_to_34_percent() {
    let now = Instant::now();
    let rate =
        FailureThreshold::Rate { rate: 0.3349, min_calls: 3, period: Duration::from_secs(1) };
    let mut machine = CircuitMachine::new(settings(rate, None), now);
    for failed in [true, false, false] {
        let permit = machine.admit(now).0.unwrap();
        assert_eq!(machine.record(permit, failed, None, now), None);
    }
}

/// What can happen to a machine.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Admit,
    Answer { which: usize, failed: bool },
    Release { which: usize },
    Force(CircuitState),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..40_u64).prop_map(Step::Wait),
        6 => Just(Step::Admit),
        6 => (any::<usize>(), any::<bool>())
            .prop_map(|(which, failed)| Step::Answer { which, failed }),
        2 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => prop_oneof![
            Just(CircuitState::Closed), Just(CircuitState::Open), Just(CircuitState::HalfOpen),
        ].prop_map(Step::Force),
    ];
    prop::collection::vec(step, 0..300)
}

/// A count-based breaker told in the plainest words: lists, and everything looked at anew each
/// time.
struct Model {
    failures: usize,
    capacity: usize,
    success: Option<SuccessThreshold>,
    state: CircuitState,
    results: VecDeque<bool>,
    since: Instant,
    epoch: u64,
    /// Trials that are out, with the time they were given.
    out: Vec<(usize, Instant)>,
}

impl Model {
    fn half_open_capacity(&self) -> usize {
        self.success.map_or(self.capacity, |success| success.capacity)
    }

    fn enter(&mut self, state: CircuitState, now: Instant) {
        self.state = state;
        self.results.clear();
        self.since = now;
        self.epoch += 1;
        self.out.clear();
    }

    fn admit(&mut self, id: usize, now: Instant) -> bool {
        if self.state == CircuitState::Open && now - self.since >= DELAY {
            self.enter(CircuitState::HalfOpen, now);
        } else {
            self.expire(now);
            self.judge(now);
        }
        match self.state {
            CircuitState::Closed => true,
            CircuitState::Open => false,
            CircuitState::HalfOpen => {
                let admitted = self.out.len() < self.half_open_capacity();
                if admitted {
                    self.out.push((id, now));
                }
                admitted
            }
        }
    }

    fn take_back(&mut self, id: usize, epoch: u64, now: Instant) -> bool {
        if epoch != self.epoch {
            return false;
        }
        if self.state != CircuitState::HalfOpen {
            return true;
        }
        self.expire(now);
        let given = self.out.iter().any(|(out, _)| *out == id);
        self.out.retain(|(out, _)| *out != id);
        given
    }

    /// Trials that have taken too long have failed.
    fn expire(&mut self, now: Instant) {
        let expired = self.out.iter().filter(|(_, since)| now - *since >= TRIAL).count();
        self.out.retain(|(_, since)| now - *since < TRIAL);
        self.results.extend(std::iter::repeat_n(true, expired));
    }

    fn answer(&mut self, id: usize, epoch: u64, failed: bool, now: Instant) {
        if !self.take_back(id, epoch, now) || self.state == CircuitState::Open {
            return;
        }
        self.results.push_back(failed);
        self.judge(now);
    }

    fn judge(&mut self, now: Instant) {
        let capacity = match self.state {
            CircuitState::Open => return,
            CircuitState::Closed => self.capacity,
            CircuitState::HalfOpen => self.half_open_capacity(),
        };
        while self.results.len() > capacity {
            self.results.pop_front();
        }
        let failures = self.results.iter().filter(|failed| **failed).count();
        let successes = self.results.len() - failures;
        if self.state == CircuitState::Closed {
            if failures >= self.failures {
                self.enter(CircuitState::Open, now);
            }
            return;
        }
        let (enough, too_many) = match self.success {
            Some(success) => (success.successes, success.capacity - success.successes + 1),
            None => (self.capacity - self.failures + 1, self.failures),
        };
        if successes >= enough {
            self.enter(CircuitState::Closed, now);
        } else if failures >= too_many {
            self.enter(CircuitState::Open, now);
        }
    }
}

proptest! {
    #[test]
    fn the_machine_does_what_the_model_does(
        steps in steps(), failures in 1..5_usize, more in 0..4_usize,
        success in prop::option::of((1..4_usize, 0..3_usize)),
    ) {
        let mut now = Instant::now();
        let capacity = failures + more;
        let success = success.map(|(successes, more)| {
            SuccessThreshold { successes, capacity: successes + more }
        });
        let threshold = FailureThreshold::Count { failures, capacity };
        let mut machine = CircuitMachine::new(settings(threshold, success), now);
        let mut model = Model {
            failures, capacity, success, state: CircuitState::Closed, results: VecDeque::new(),
            since: now, epoch: 0, out: Vec::new(),
        };
        // Permits that are out, with the model's name for them.
        let mut permits: Vec<(CircuitPermit, usize, u64)> = Vec::new();
        for (id, step) in steps.into_iter().enumerate() {
            let before = machine.status(now).state;
            let transition = match step {
                Step::Wait(millis) => {
                    now += Duration::from_millis(millis);
                    None
                }
                Step::Admit => {
                    let (permit, transition) = machine.admit(now);
                    prop_assert_eq!(permit.is_ok(), model.admit(id, now));
                    permits.extend(permit.ok().map(|permit| (permit, id, model.epoch)));
                    transition
                }
                Step::Answer { which, failed } if !permits.is_empty() => {
                    let (permit, id, epoch) = permits.swap_remove(which % permits.len());
                    model.answer(id, epoch, failed, now);
                    machine.record(permit, failed, None, now)
                }
                Step::Release { which } if !permits.is_empty() => {
                    let (permit, id, epoch) = permits.swap_remove(which % permits.len());
                    model.take_back(id, epoch, now);
                    machine.release(permit, now);
                    None
                }
                Step::Answer { .. } | Step::Release { .. } => None,
                Step::Force(state) => {
                    if state != model.state {
                        model.enter(state, now);
                    }
                    machine.force(state, now)
                }
            };
            let status = machine.status(now);
            prop_assert_eq!(status.state, model.state);
            if let Some(transition) = transition {
                prop_assert_eq!((transition.from, transition.to), (before, status.state));
                prop_assert_ne!(transition.from, transition.to);
            } else {
                prop_assert_eq!(before, status.state, "no change goes unreported");
            }
            let trials = model.out.iter().filter(|(_, since)| now - *since < TRIAL).count();
            prop_assert_eq!(status.trials, trials);
            prop_assert!(
                status.trials <= model.half_open_capacity(),
                "half-open admits no more than its trials"
            );
        }
    }
}
