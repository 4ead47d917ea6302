//! Slow calls, counted apart.

use super::*;
use crate::policies::circuit_breaker::settings::SlowThreshold;

const SLOW: CircuitResult = CircuitResult { failed: false, slow: true };

fn with_slow(failure: FailureThreshold, rate: f64, min_calls: usize) -> CircuitSettings {
    let slow = Some(SlowThreshold { rate, min_calls });
    let success = SuccessThreshold { successes: 2, capacity: 2 };
    CircuitSettings { slow, ..settings(failure, Some(success)) }
}

proptest! {
    /// It opens at the first result by which so many of them are slow, or have failed.
    #[test]
    fn slow_calls_open_it_at_their_rate(
        results in prop::collection::vec(
            (any::<bool>(), any::<bool>())
                .prop_map(|(failed, slow)| CircuitResult { failed, slow }),
            1..60,
        ),
        rate in 0.1..1.0_f64,
        min_calls in 1..20_usize,
    ) {
        let now = Instant::now();
        let period = Duration::from_secs(10);
        let failure = FailureThreshold::Rate { rate: 0.9, min_calls, period };
        let mut machine = CircuitMachine::new(with_slow(failure, rate, min_calls), now);
        let permit = machine.admit(now).0.unwrap();
        let (mut total, mut slow, mut failed) = (0, 0, 0);
        for result in results {
            total += 1;
            slow += usize::from(result.slow);
            failed += usize::from(result.failed);
            let enough = total >= min_calls;
            let opens = enough
                && (slow as f64 >= rate * total as f64 || failed as f64 / total as f64 >= 0.9);
            prop_assert_eq!(machine.record(permit, result, None, now).is_some(), opens);
            if opens {
                break;
            }
            // If it is safe, good ones could not open it, however many.
            if machine.is_safe_from_successes(now) {
                let more = total + 1;
                let reached = more >= min_calls && slow as f64 >= rate * more as f64;
                prop_assert!(!reached);
            }
        }
    }
}

#[test]
fn slow_trials_do_not_close_it() {
    let now = Instant::now();
    let period = Duration::from_secs(10);
    let failure = FailureThreshold::Rate { rate: 0.5, min_calls: 2, period };
    for (trials, to) in [
        ([SLOW, SLOW], CircuitState::Open),
        ([SLOW, false.into()], CircuitState::Closed),
        ([false.into(), false.into()], CircuitState::Closed),
    ] {
        let mut machine = half_open(with_slow(failure, 0.8, 2), now);
        let permits = [machine.admit(now).0.unwrap(), machine.admit(now).0.unwrap()];
        assert_eq!(machine.record(permits[0], trials[0], None, now), None);
        let decided = machine.record(permits[1], trials[1], None, now);
        assert_eq!(decided.map(|it| it.to), Some(to), "{trials:?}");
    }
}

#[test]
fn slow_calls_leave_the_window_with_their_slice() {
    let now = Instant::now();
    let period = Duration::from_secs(10);
    let failure = FailureThreshold::Period { failures: 99, period };
    let mut machine = CircuitMachine::new(with_slow(failure, 0.9, 100), now);
    let permit = machine.admit(now).0.unwrap();
    machine.record(permit, SLOW, None, now);
    machine.record(permit, SLOW, None, now + period / 2);
    let slow_at = |machine: &mut CircuitMachine, at| machine.status(now + at).slow_calls;
    assert_eq!(slow_at(&mut machine, period / 2), 2);
    assert_eq!(slow_at(&mut machine, period), 1);
    assert_eq!(slow_at(&mut machine, 2 * period), 0);
}
