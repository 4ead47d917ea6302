//! A body that breaks off after a good head, beside whatever others do: it turns its success, once,
//! and only in the generation of its permit.

use super::*;
use crate::policies::circuit_breaker::window::WindowCounts;

const BREAK: Script = &[(0, Act::Admit), (0, Act::Head), (0, Act::Break)];
const BREAK_AND_ASK: Script = &[(0, Act::Admit), (0, Act::Head), (0, Act::Break), (0, Act::Admit)];

#[test]
fn the_last_results_with_a_body_that_breaks_off() {
    is_linear(count(2, 2), TWO_OK, &[BREAK, OK]);
    is_linear(count(2, 2), TWO_OK, &[BREAK, BREAK]);
    is_linear(count(2, 3), TWO_OK, &[BREAK, TWO_FAIL]);
    is_linear(count(1, 1), OK, &[BREAK_AND_ASK, OK]);
    is_linear(count(1, 1), OK, &[BREAK_AND_ASK, TO_AND_FRO]);
    is_linear(count(2, 2), TWO_OK, &[BREAK, FAIL, BREAK]);
}

#[test]
fn a_rate_or_a_period_with_a_body_that_breaks_off() {
    is_linear(rate(0.3, 3), OK, &[BREAK, TWO_OK]);
    is_linear(rate(0.5, 2), TWO_OK, &[BREAK_AND_ASK, BREAK]);
    is_linear(rate(0.5, 1), &[], &[BREAK, TO_AND_FRO]);
    let settings = settings(FailureThreshold::Period { failures: 2, period: PERIOD });
    let later: Script = &[(0, Act::Admit), (0, Act::Head), (15, Act::Break)];
    is_linear(settings, OK, &[later, &[(15, Act::Admit), (15, Act::Succeed), (15, Act::Look)]]);
    is_linear(settings, OK, &[later, &[(15, Act::Admit), (15, Act::Fail)]]);
}

#[test]
fn a_trial_whose_body_breaks_off() {
    let half_open: Script = &[(0, Act::Force(CircuitState::HalfOpen))];
    for settings in [count(1, 1), count(2, 2)] {
        is_linear(settings, half_open, &[BREAK_AND_ASK, OK]);
        is_linear(settings, half_open, &[BREAK, BREAK]);
        is_linear(settings, half_open, &[BREAK, FAIL]);
        is_linear(settings, half_open, &[BREAK, TO_AND_FRO]);
    }
}

/// The plain machine is told nothing twice; this says that the shared one neither loses a success
/// that a shard holds, nor a failure, nor takes one for another.
#[test]
fn a_body_that_breaks_off_counts_once_and_in_its_generation_only() {
    let period = FailureThreshold::Period { failures: 9, period: PERIOD };
    for settings in [count(9, 9), settings(period), rate(0.9, 9)] {
        for (moved, successes, failures) in [(&[][..], 3, 2), (TO_AND_FRO, 1, 0)] {
            let mut model = loom::model::Builder::new();
            model.preemption_bound = Some(2);
            model.check(move || {
                let now = Instant::now();
                let shared = Arc::new(shared(settings, SHARDS, now));
                let heads = [1, 2].map(|place| {
                    take_place(place);
                    // Opens its shard, if it has one.
                    run(&mut &*shared, now, OK);
                    let permit = shared.admit(now).0.unwrap();
                    assert_eq!((&*shared).head(permit, now), None);
                    permit
                });
                let threads = heads.map(|permit| {
                    let shared = shared.clone();
                    thread::spawn(move || shared.record_late(permit, now, now))
                });
                take_place(0);
                run(&mut &*shared, now, moved);
                run(&mut &*shared, now, OK);
                for thread in threads {
                    assert_eq!(thread.join().unwrap(), None);
                }
                let counts = shared.status(now).counts;
                assert_eq!(counts, WindowCounts { successes, failures });
            });
        }
    }
}
