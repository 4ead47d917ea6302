//! The machine's steps one by one, and what always holds.

use proptest::prelude::*;

use super::*;

const SETTINGS: ThrottleSettings = ThrottleSettings {
    failure_rate: 0.1,
    min_calls: 10,
    interval: Duration::from_secs(1),
    max_rejection_rate: 0.9,
};

const SECOND: Duration = Duration::from_secs(1);

fn counts(all: u64, failed: u64) -> ResultCounts {
    ResultCounts { all, failed }
}

/// A machine and its time.
struct Course {
    machine: ThrottleMachine,
    now: Instant,
}

impl Course {
    fn new() -> Self {
        let now = Instant::now();
        Self { machine: ThrottleMachine::new(SETTINGS, now), now }
    }

    /// An interval with these results; the share after it, in thousandths.
    fn interval(&mut self, all: u64, failed: u64) -> u64 {
        assert_eq!(self.machine.record(counts(1, u64::from(failed > 0)), self.now), None);
        self.now += SECOND;
        self.machine.record(counts(all - 1, failed.saturating_sub(1)), self.now);
        self.share()
    }

    fn share(&self) -> u64 {
        (self.machine.share() * 1000.0).round() as u64
    }
}

#[test]
fn the_share_falls_by_what_fails_and_grows_faster_with_each_good_interval() {
    let mut course = Course::new();
    assert_eq!(course.interval(100, 0), 1000);
    assert_eq!(course.interval(100, 13), 1000, "chance alone may take three more than ten");
    // (100 − 40 + 3) / 100 / 0.9
    assert_eq!(course.interval(100, 40), 700);
    assert_eq!(course.interval(100, 100), 350, "by half at most");
    assert_eq!(course.interval(100, 100), 175);
    assert_eq!(course.interval(100, 100), 100, "a tenth is always admitted");
    let grown: Vec<u64> = (0..8).map(|_| course.interval(100, 0)).collect();
    assert_eq!(grown, [105, 115, 139, 194, 349, 699, 1000, 1000]);
}

#[test]
fn a_failure_ends_the_growth() {
    let mut course = Course::new();
    course.interval(100, 100);
    course.interval(100, 0);
    course.interval(100, 0);
    assert_eq!(course.interval(100, 100), 289, "half of 500 · 1.05 · 1.1");
    assert_eq!(course.interval(100, 0), 303, "a twentieth again");
}

#[test]
fn an_interval_ends_with_enough_results_after_its_length_or_with_what_it_has_after_ten_seconds() {
    let now = Instant::now();
    let new = || ThrottleMachine::new(SETTINGS, now);
    let mut machine = new();
    assert_eq!(machine.record(counts(99, 99), now), None);
    assert_eq!(machine.interval_ends(), Some(now + SECOND));
    assert_eq!(machine.record(counts(1, 1), now + SECOND / 2), None);
    assert!(machine.record(counts(1, 1), now + SECOND).is_some());
    let mut machine = new();
    assert_eq!(machine.record(counts(1, 1), now), None);
    assert_eq!(machine.record(counts(8, 8), now + 9 * SECOND), None, "nine results");
    assert!(machine.record(counts(1, 1), now + 9 * SECOND).is_some());
    let mut machine = new();
    assert_eq!(machine.record(counts(1, 1), now), None);
    assert!(machine.record(counts(1, 1), now + 10 * SECOND).is_some());
}

#[test]
fn an_interval_begins_with_its_first_result_however_long_there_was_none() {
    let now = Instant::now();
    let mut machine = ThrottleMachine::new(SETTINGS, now);
    // The first of a burst, after a pause.
    assert_eq!(machine.record(counts(1, 1), now + 100 * SECOND), None);
    assert_eq!(machine.record(counts(99, 0), now + 101 * SECOND), None);
    assert_eq!(machine.status(now).share, 1.0);
}

#[test]
fn after_a_minute_without_a_call_everything_is_admitted() {
    let mut course = Course::new();
    course.interval(100, 100);
    let Course { mut machine, now } = course;
    for call in 0..5 {
        assert_eq!(machine.admit(None, 0.6, now + 59 * call * SECOND), (false, None));
    }
    let last = now + 4 * 59 * SECOND;
    assert_eq!(machine.status(last + 59 * SECOND).share, 0.5);
    assert_eq!(machine.status(last + 60 * SECOND).share, 1.0);
    let change = Some(ShareChange { from: 0.5, to: 1.0 });
    assert_eq!(machine.admit(None, 0.99, last + 60 * SECOND), (true, change));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Admit(f64),
    Record(u64, u64),
    /// The clock goes by so many milliseconds, backwards too.
    Clock(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0.0..1.0).prop_map(Step::Admit),
        (0..200u64)
            .prop_flat_map(|all| (Just(all), 0..=all))
            .prop_map(|(all, failed)| { Step::Record(all, failed) }),
        (-500..3_000i64).prop_map(Step::Clock),
        Just(Step::Clock(86_400_000)),
        Just(Step::Clock(-86_400_000)),
    ]
}

proptest! {
    /// Whatever happens, and however the clock goes.
    #[test]
    fn the_share_stays_within_its_bounds_and_changes_are_told(
        failure_rate in 0.001..0.999,
        max_rejection_rate in 0.01..0.99,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let settings = ThrottleSettings { failure_rate, max_rejection_rate, ..SETTINGS };
        // Room to go back.
        let mut now = Instant::now() + Duration::from_secs(1 << 30);
        let mut machine = ThrottleMachine::new(settings, now);
        for step in steps {
            let before = machine.share();
            let change = match step {
                Step::Admit(chance) => {
                    let (admitted, change) = machine.admit(None, chance, now);
                    prop_assert_eq!(admitted, chance < machine.share());
                    change
                }
                Step::Record(all, failed) => machine.record(counts(all, failed), now),
                Step::Clock(millis) => {
                    let step = Duration::from_millis(millis.unsigned_abs());
                    now = if millis < 0 { now - step } else { now + step };
                    None
                }
            };
            let share = machine.share();
            prop_assert!((1.0 - max_rejection_rate - 1e-9..=1.0).contains(&share), "{}", share);
            prop_assert!(share >= before / 2.0 - 1e-9 && share <= before * 2.0 + 1e-9
                || share == 1.0, "{} to {}", before, share);
            let expected = (before != share).then_some(ShareChange { from: before, to: share });
            prop_assert_eq!(change, expected);
        }
    }
}
