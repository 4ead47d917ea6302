//! The shared machine against the plain one: step by step in one thread, and in every order that
//! two or three threads can get there.

mod alone;
mod late;

use std::sync::Arc;

use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::*;
use crate::policies::circuit_breaker::settings::FailureThreshold;
use crate::sharded::take_place;

const DELAY: Duration = Duration::from_millis(100);
const TRIAL: Duration = Duration::from_millis(50);
const PERIOD: Duration = Duration::from_millis(100);
const SHARDS: usize = 3;

fn settings(failure: FailureThreshold) -> CircuitSettings {
    CircuitSettings {
        failure,
        success: None,
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

fn count(failures: usize, capacity: usize) -> CircuitSettings {
    settings(FailureThreshold::Count { failures, capacity })
}

fn rate(rate: f64, min_calls: usize) -> CircuitSettings {
    settings(FailureThreshold::Rate { rate, min_calls, period: PERIOD })
}

fn shared(settings: CircuitSettings, shards: usize, now: Instant) -> SharedCircuit {
    let shards = settings.failure.is_by_time().then(|| Sharded::with_shards(shards));
    SharedCircuit::with_shards(settings, shards, now)
}

/// One that has seen a success on each of its shards, or as many as its window holds.
fn well(settings: CircuitSettings, now: Instant) -> SharedCircuit {
    let shared = shared(settings, SHARDS, now);
    for place in 0..SHARDS {
        take_place(place);
        let permit = shared.admit(now).0.unwrap();
        assert_eq!(shared.record(permit, false, None, now), None);
    }
    take_place(0);
    shared
}

#[test]
fn a_word_says_what_was_put_into_it() {
    for value in [0, 1, 0x1234_5678_9abc_def0, Word::MAX] {
        for word in [
            Word::Ask,
            Word::Closed { generation: value },
            Word::Settled { generation: value },
            Word::Open { until: value },
        ] {
            assert_eq!(Word::decode(word.encode()), word);
        }
    }
}

#[test]
fn healthy_calls_and_rejected_ones_take_no_lock_and_change_no_word() {
    let period = FailureThreshold::Period { failures: 2, period: PERIOD };
    for settings in [count(2, 2), count(2, 3), settings(period), rate(0.5, 9)] {
        loom::model(move || {
            let now = Instant::now();
            let shared = well(settings, now);
            let word = shared.word();
            // Whoever wants it now waits for ever, which loom tells.
            let held = shared.lock();
            for _ in 0..3 {
                let permit = shared.admit(now).0.unwrap();
                assert_eq!(shared.record(permit, false, None, now), None);
                shared.release(shared.admit(now).0.unwrap(), now);
            }
            assert_eq!(shared.word(), word);
            drop(held);
            shared.force(CircuitState::Open, now);
            let held = shared.lock();
            assert_eq!(shared.admit(now).0, Err(CircuitRejection { remaining: DELAY }));
            drop(held);
        });
    }
}

#[test]
fn a_failure_among_the_last_results_makes_successes_count_until_it_is_forgotten() {
    loom::model(|| {
        let now = Instant::now();
        let shared = well(count(2, 3), now);
        let record = |failed| shared.record(shared.admit(now).0.unwrap(), failed, None, now);
        let counts = || shared.status(now).counts;
        assert_eq!(record(true), None);
        for left in [1, 1, 1, 0, 0] {
            assert_eq!(counts().failures, left);
            assert_eq!(record(false), None);
        }
        assert_eq!(record(true), None);
        assert_eq!(record(true).unwrap().to, CircuitState::Open);
    });
}

#[test]
fn a_success_that_others_have_seen_tells_against_opening() {
    loom::model(|| {
        let start = Instant::now();
        let shared = shared(rate(0.3, 2), SHARDS, start);
        let record = |place, millis, failed| {
            take_place(place);
            let now = start + Duration::from_millis(millis);
            shared.record(shared.admit(now).0.unwrap(), failed, None, now)
        };
        for _ in 0..3 {
            assert_eq!(record(0, 0, false), None);
        }
        assert_eq!(record(0, 50, true), None);
        for _ in 0..6 {
            assert_eq!(record(1, 50, false), None);
        }
        // The first three have left the period. Of what the machine itself has seen since, a third
        // are failures.
        assert_eq!(record(0, 105, false), None);
        assert_eq!(shared.status(start + Duration::from_millis(105)).counts.successes, 7);
    });
}

/// What one thread does, at which millisecond. It answers its permits, and ends its bodies, in the
/// order in which it got them.
type Script = &'static [(u64, Act)];

#[derive(Clone, Copy, Debug)]
enum Act {
    Admit,
    Succeed,
    Fail,
    /// A good head, whose body is to come.
    Head,
    /// It breaks off.
    Break,
    Force(CircuitState),
    /// How many counted results there are, and failures among them.
    Look,
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Admitted(Option<CircuitRejection>, Option<CircuitTransition>),
    Answered(Option<CircuitTransition>),
    CircuitStatus(CircuitStatus),
}

/// What a thread has not answered or ended yet.
#[derive(Clone, Debug, Default)]
struct Held {
    permits: Vec<CircuitPermit>,
    /// Each with when its head came.
    heads: Vec<(CircuitPermit, Instant)>,
}

/// Both machines' functions.
trait Acting {
    fn act(&mut self, act: Act, held: &mut Held, now: Instant) -> Option<Seen>;

    /// A success by its head, which decides all but a trial.
    fn head(&mut self, permit: CircuitPermit, now: Instant) -> Option<CircuitTransition>;
}

macro_rules! acting {
    ($machine:ty) => {
        impl Acting for $machine {
            fn act(&mut self, act: Act, held: &mut Held, now: Instant) -> Option<Seen> {
                let Held { permits, heads } = held;
                let answered = match act {
                    Act::Admit => {
                        let (admitted, transition) = self.admit(now);
                        permits.extend(admitted);
                        return Some(Seen::Admitted(admitted.err(), transition));
                    }
                    Act::Succeed | Act::Fail | Act::Head if permits.is_empty() => return None,
                    Act::Break if heads.is_empty() => return None,
                    Act::Succeed => self.record(permits.remove(0), false, None, now),
                    Act::Fail => self.record(permits.remove(0), true, None, now),
                    Act::Head => {
                        let permit = permits.remove(0);
                        heads.push((permit, now));
                        self.head(permit, now)
                    }
                    Act::Break => {
                        let (permit, head) = heads.remove(0);
                        self.record_late(permit, head, now)
                    }
                    Act::Force(state) => self.force(state, now),
                    Act::Look => return Some(Seen::CircuitStatus(self.status(now))),
                };
                Some(Seen::Answered(answered))
            }

            fn head(&mut self, permit: CircuitPermit, now: Instant) -> Option<CircuitTransition> {
                if permit.is_trial() {
                    self.answered(permit, &Arc::default(), now);
                    return None;
                }
                self.record(permit, false, None, now)
            }
        }
    };
}

acting!(CircuitMachine);
acting!(&SharedCircuit);

/// What each thread has seen, and the status when all is over.
type History = (Vec<Vec<Option<Seen>>>, CircuitStatus);

/// All that the plain machine can come to when the scripts are dealt into one, after `before`.
fn possible(
    settings: CircuitSettings,
    start: Instant,
    before: Script,
    scripts: &[Script],
) -> Vec<History> {
    let mut histories = Vec::new();
    let mut orders = vec![Vec::new()];
    while let Some(order) = orders.pop() {
        let done = |thread: usize| order.iter().filter(|other| **other == thread).count();
        let ready: Vec<usize> =
            (0..scripts.len()).filter(|thread| done(*thread) < scripts[*thread].len()).collect();
        if ready.is_empty() {
            histories.push(in_order(settings, start, before, scripts, &order));
        }
        orders.extend(ready.into_iter().map(|thread| [order.as_slice(), &[thread]].concat()));
    }
    histories
}

fn in_order(
    settings: CircuitSettings,
    start: Instant,
    before: Script,
    scripts: &[Script],
    order: &[usize],
) -> History {
    let mut machine = CircuitMachine::new(settings, start);
    run(&mut machine, start, before);
    let mut held = vec![Held::default(); scripts.len()];
    let mut seen = vec![Vec::new(); scripts.len()];
    for thread in order {
        let (millis, act) = scripts[*thread][seen[*thread].len()];
        let one = machine.act(act, &mut held[*thread], start + Duration::from_millis(millis));
        seen[*thread].push(one);
    }
    (seen, machine.status(end(start, scripts)))
}

fn run(machine: &mut impl Acting, start: Instant, script: Script) -> Vec<Option<Seen>> {
    let mut held = Held::default();
    script
        .iter()
        .map(|(millis, act)| machine.act(*act, &mut held, start + Duration::from_millis(*millis)))
        .collect()
}

fn end(start: Instant, scripts: &[Script]) -> Instant {
    let last = scripts.iter().flat_map(|script| script.iter()).map(|(millis, _)| *millis).max();
    start + Duration::from_millis(last.unwrap_or_default())
}

/// Runs the scripts in threads of their own, in the orders that loom finds, with a shard for each
/// and with one for all: each must be one of the plain machine's. Of three threads, none is
/// interrupted more than twice, or it would take minutes.
fn is_linear(settings: CircuitSettings, before: Script, scripts: &[Script]) {
    let start = Instant::now();
    let possible = Arc::new(possible(settings, start, before, scripts));
    let shards = if settings.failure.is_by_time() { &[1, SHARDS][..] } else { &[1] };
    for shards in shards {
        let (possible, scripts) = (possible.clone(), scripts.to_vec());
        let mut model = loom::model::Builder::new();
        model.preemption_bound = (scripts.len() > 2).then_some(2);
        model.check(move || {
            let shared = Arc::new(shared(settings, *shards, start));
            take_place(0);
            run(&mut &*shared, start, before);
            let thread = |(place, &script): (usize, &Script)| {
                let shared = shared.clone();
                thread::spawn(move || {
                    take_place(place);
                    run(&mut &*shared, start, script)
                })
            };
            let threads: Vec<_> = scripts.iter().enumerate().map(thread).collect();
            let seen: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            let history = (seen, shared.status(end(start, &scripts)));
            assert!(possible.contains(&history), "in no order: {history:#?}");
        });
    }
}

const OK: Script = &[(0, Act::Admit), (0, Act::Succeed)];
const TWO_OK: Script = &[(0, Act::Admit), (0, Act::Succeed), (0, Act::Admit), (0, Act::Succeed)];
const FAIL: Script = &[(0, Act::Admit), (0, Act::Fail)];
const TWO_FAIL: Script = &[(0, Act::Admit), (0, Act::Fail), (0, Act::Admit), (0, Act::Fail)];
const TO_AND_FRO: Script =
    &[(0, Act::Force(CircuitState::Open)), (0, Act::Force(CircuitState::Closed))];

#[test]
fn the_last_results_with_successes_and_failures_at_once() {
    is_linear(count(2, 2), TWO_OK, &[OK, TWO_FAIL]);
    is_linear(count(2, 3), TWO_OK, &[TWO_OK, TWO_FAIL]);
    is_linear(count(1, 1), OK, &[OK, &[(0, Act::Admit), (0, Act::Fail), (0, Act::Admit)]]);
    is_linear(count(2, 2), TWO_OK, &[OK, FAIL, FAIL]);
}

#[test]
fn the_last_results_moved_by_hand() {
    is_linear(count(2, 2), TWO_OK, &[OK, TO_AND_FRO]);
    is_linear(
        count(1, 1),
        OK,
        &[FAIL, &[(0, Act::Force(CircuitState::HalfOpen)), (0, Act::Admit)]],
    );
    let trial: Script = &[(100, Act::Admit), (100, Act::Succeed)];
    is_linear(count(1, 1), &[(0, Act::Force(CircuitState::Open))], &[trial, &[(100, Act::Admit)]]);
}

#[test]
fn a_rate_with_a_success_that_completes_min_calls() {
    // Opened by whichever result is the last of three, or of four.
    is_linear(rate(0.3, 3), OK, &[OK, FAIL]);
    is_linear(rate(0.2, 4), OK, &[TWO_OK, FAIL]);
    is_linear(rate(0.3, 3), &[], &[OK, OK, FAIL]);
    is_linear(rate(0.5, 2), TWO_OK, &[TWO_OK, TWO_FAIL]);
}

#[test]
fn a_rate_with_each_threads_shard_open() {
    let then_fail: Script = &[(0, Act::Admit), (0, Act::Succeed), (0, Act::Admit), (0, Act::Fail)];
    is_linear(rate(0.2, 5), &[], &[TWO_OK, then_fail]);
    let then_look: Script = &[(0, Act::Admit), (0, Act::Succeed), (0, Act::Look)];
    is_linear(rate(0.2, 3), &[], &[TWO_OK, then_look]);
}

#[test]
fn a_period_with_results_in_two_slices_and_moved_by_hand() {
    let settings = settings(FailureThreshold::Period { failures: 2, period: PERIOD });
    let later: Script = &[(0, Act::Admit), (0, Act::Succeed), (15, Act::Admit), (15, Act::Succeed)];
    is_linear(settings, OK, &[later, &[(15, Act::Admit), (15, Act::Fail)]]);
    is_linear(settings, OK, &[later, TO_AND_FRO]);
}

#[test]
fn a_straggler_does_not_count_on_a_shard_that_another_thread_has_opened_since() {
    loom::model(|| {
        let now = Instant::now();
        let shared = Arc::new(shared(rate(0.5, 9), 1, now));
        run(&mut &*shared, now, OK);
        let straggler = shared.admit(now).0.unwrap();
        let other = thread::spawn({
            let shared = shared.clone();
            move || [TO_AND_FRO, OK].map(|script| run(&mut &*shared, now, script))
        });
        assert_eq!(shared.record(straggler, false, None, now), None);
        other.join().unwrap();
        assert_eq!(shared.status(now).counts.successes, 1);
    });
}

#[test]
fn what_happened_before_a_call_is_seen_by_it() {
    for settings in [count(1, 1), rate(0.5, 1)] {
        loom::model(move || {
            let now = Instant::now();
            let shared = Arc::new(well(settings, now));
            let is_open = Arc::new(AtomicBool::new(false));
            let other = thread::spawn({
                let (shared, is_open) = (shared.clone(), is_open.clone());
                move || {
                    take_place(1);
                    shared.force(CircuitState::Open, now);
                    is_open.store(true, Ordering::Release);
                }
            });
            if is_open.load(Ordering::Acquire) {
                assert!(shared.admit(now).0.is_err());
            }
            other.join().unwrap();
        });
    }
}
