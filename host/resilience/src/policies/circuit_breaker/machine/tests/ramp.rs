//! After its trials were good, a circuit lets calls back in by degrees.

use super::*;

fn closed_by_trials(ramp: Duration, now: Instant) -> CircuitMachine {
    let success = SuccessThreshold { successes: 2, capacity: 3 };
    let settings = CircuitSettings { ramp: Some(ramp), ..settings(consecutive(9), Some(success)) };
    let mut machine = half_open(settings, now);
    for _ in 0..2 {
        let permit = machine.admit(now).0.unwrap();
        machine.record(permit, false, None, now);
    }
    assert_eq!(machine.status(now).state, CircuitState::Closed);
    machine
}

proptest! {
    #[test]
    fn a_ramp_admits_a_share_that_grows_and_says_how_long_it_goes_on(part in 0.0..0.99_f64) {
        let (ramp, start) = (Duration::from_secs(10), Instant::now());
        let mut machine = closed_by_trials(ramp, start);
        let now = start + ramp.mul_f64(part);
        let share = part.max(0.1);
        prop_assert!((machine.status(now).admitted - share).abs() < 1e-6);
        let admitted = (0..2000).filter(|_| match machine.admit(now).0 {
            Ok(_) => true,
            Err(rejection) => {
                assert_eq!(rejection.remaining, ramp - (now - start));
                false
            }
        });
        prop_assert!((admitted.count() as f64 / 2000.0 - share).abs() < 0.06);
    }
}

#[test]
fn after_the_ramp_all_are_admitted_without_the_lock() {
    let start = Instant::now();
    let mut machine = closed_by_trials(Duration::from_secs(1), start);
    assert_eq!(machine.standing(), CircuitStanding::Ramping);
    let after = start + Duration::from_secs(1);
    assert!((0..100).all(|_| machine.admit(after).0.is_ok()));
    assert!(matches!(machine.standing(), CircuitStanding::Closed { .. }));
    assert_eq!(machine.status(after).admitted, 1.0);
}

#[test]
fn within_the_ramp_the_trials_threshold_goes_on_judging() {
    let start = Instant::now();
    let mut machine = closed_by_trials(Duration::from_secs(1), start);
    let permit = CircuitPermit::of_closed(machine.generation);
    assert_eq!(machine.record(permit, true, None, start), None, "one of three may fail");
    let opened = machine.record(permit, true, None, start).expect("two may not");
    assert_eq!((opened.from, opened.to), (CircuitState::Closed, CircuitState::Open));
    // Once it is over, only the nine in a row do.
    let mut machine = closed_by_trials(Duration::from_secs(1), start);
    let (permit, after) = (CircuitPermit::of_closed(machine.generation), start + TRIAL * 20);
    assert!((0..8).all(|_| machine.record(permit, true, None, after).is_none()));
    assert!(machine.record(permit, true, None, after).is_some());
}

#[test]
fn whoever_closes_it_by_hand_has_no_ramp() {
    let now = Instant::now();
    let settings = CircuitSettings { ramp: Some(DELAY), ..settings(consecutive(1), None) };
    let mut machine = half_open(settings, now);
    machine.force(CircuitState::Closed, now);
    assert!((0..100).all(|_| machine.admit(now).0.is_ok()));
}

#[test]
fn within_the_ramp_the_lowest_levels_are_rejected() {
    let start = Instant::now();
    let mut machine = closed_by_trials(Duration::from_secs(10), start);
    let caller = |number: u16| CircuitCaller {
        level: PriorityLevel::parse(&number.to_string()),
        owes_body: false,
    };
    let mut admitted = [0, 0];
    for step in 0..2000_u32 {
        let now = start + Duration::from_secs(5) + Duration::from_micros(500) * step;
        for (which, number) in [100, 300].into_iter().enumerate() {
            admitted[which] += usize::from(machine.admit_call(caller(number), now).0.is_ok());
        }
    }
    assert!(admitted[1] > 1950 && admitted[0] < 350, "{admitted:?}");
}
