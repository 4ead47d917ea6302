//! In one thread, the shared machine does what the plain one does.

use proptest::prelude::*;

use super::*;
use crate::policies::circuit_breaker::settings::{SlowThreshold, SuccessThreshold};

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Admit,
    Answer { which: usize, result: CircuitResult },
    Head { which: usize },
    Break { which: usize },
    Release { which: usize },
    Force(CircuitState),
    Look,
}

/// Steps, each with the shard that it is taken on. Now and then something goes wrong.
fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        4 => (0..30_u64).prop_map(Step::Wait),
        20 => Just(Step::Admit),
        20 => (any::<usize>(), prop::bool::weighted(0.2), prop::bool::weighted(0.1)).prop_map(
            |(which, failed, slow)| Step::Answer { which, result: CircuitResult { failed, slow } }
        ),
        10 => any::<usize>().prop_map(|which| Step::Head { which }),
        4 => any::<usize>().prop_map(|which| Step::Break { which }),
        2 => any::<usize>().prop_map(|which| Step::Release { which }),
        1 => prop_oneof![
            Just(CircuitState::Closed), Just(CircuitState::Open), Just(CircuitState::HalfOpen),
        ].prop_map(Step::Force),
        1 => Just(Step::Look),
    ];
    prop::collection::vec((0..SHARDS, step), 0..200)
}

fn thresholds() -> impl Strategy<Value = FailureThreshold> {
    prop_oneof![
        (1..4_usize, 0..4_usize).prop_map(|(failures, more)| FailureThreshold::Count {
            failures,
            capacity: failures + more
        }),
        (1..5_usize).prop_map(|failures| FailureThreshold::Period { failures, period: PERIOD }),
        (0.01..1.0, 1..12_usize).prop_map(|(rate, min_calls)| FailureThreshold::Rate {
            rate,
            min_calls,
            period: PERIOD
        }),
    ]
}

fn does_what_the_machine_does(settings: CircuitSettings, steps: Vec<(usize, Step)>) {
    let mut now = Instant::now();
    let mut machine = CircuitMachine::new(settings, now);
    let shared = shared(settings, SHARDS, now);
    let (mut permits, mut heads) = (Vec::new(), Vec::new());
    for (place, step) in steps {
        take_place(place);
        match step {
            Step::Wait(millis) => now += Duration::from_millis(millis),
            Step::Admit => {
                let admitted = shared.admit(now);
                assert_eq!(admitted, machine.admit(now));
                permits.extend(admitted.0);
            }
            Step::Answer { which, result } if !permits.is_empty() => {
                let permit = permits.swap_remove(which % permits.len());
                assert_eq!(
                    shared.record(permit, result, None, now),
                    machine.record(permit, result, None, now)
                );
            }
            Step::Head { which } if !permits.is_empty() => {
                let permit = permits.swap_remove(which % permits.len());
                assert_eq!((&shared).head(permit, now), machine.head(permit, now));
                heads.push((permit, now));
            }
            Step::Break { which } if !heads.is_empty() => {
                let (permit, head) = heads.swap_remove(which % heads.len());
                assert_eq!(
                    shared.record_late(permit, head, now),
                    machine.record_late(permit, head, now)
                );
            }
            Step::Release { which } if !permits.is_empty() => {
                let permit = permits.swap_remove(which % permits.len());
                shared.release(permit, now);
                machine.release(permit, now);
            }
            Step::Answer { .. } | Step::Head { .. } | Step::Break { .. } | Step::Release { .. } => {
            }
            Step::Force(state) => assert_eq!(shared.force(state, now), machine.force(state, now)),
            Step::Look => assert_eq!(shared.status(now), machine.status(now)),
        }
    }
    assert_eq!(shared.status(now), machine.status(now));
}

proptest! {
    #[test]
    fn in_one_thread_it_does_what_the_machine_does(
        steps in steps(), failure in thresholds(),
        success in prop::option::of((1..4_usize, 0..3_usize)),
        ramp in prop::option::of(1..200_u64),
        slow in prop::option::of((0.1..1.0, 1..12_usize)),
    ) {
        // Slow calls are counted apart only in a period.
        let slow = slow.filter(|_| failure.is_by_time());
        let slow = slow.map(|(rate, min_calls)| SlowThreshold { rate, min_calls });
        let ramp = ramp.map(Duration::from_millis);
        let success = success.map(|(successes, more)| {
            SuccessThreshold { successes, capacity: successes + more }
        });
        let mut model = loom::model::Builder::new();
        model.max_branches = 100_000;
        let settings = CircuitSettings { success, ramp, slow, ..settings(failure) };
        model.check(move || does_what_the_machine_does(settings, steps.clone()));
    }
}
