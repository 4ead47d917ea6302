use proptest::prelude::*;

use fusebox_resilience::config::ConfigDuration;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

const RULES: Rules = Rules {
    probation: Probation::Time(ConfigDuration(Duration::from_secs(60))),
    max_faults: 2,
    quarantine_after: 4,
    quarantine_interval: Duration::from_secs(5),
    keep: 2,
};

/// With these versions admitted, an hour apart.
fn life(
    rules: Rules,
    versions: impl IntoIterator<Item = &'static str>,
) -> (Life<&'static str>, Instant) {
    let (mut life, mut now) = (Life::new(rules), Instant::now());
    for version in versions {
        now += 3600 * SECOND;
        life.admit(version, now, 0);
    }
    (life, now)
}

#[test]
fn faults_in_probation_bring_the_previous_version_back() {
    let (mut life, now) = life(RULES, ["a", "b"]);
    assert_eq!(life.standing(now, 0), ComponentStanding::Probation);
    assert_eq!(life.faulted(2, now, 1, Check::Impossible), Consequence::None);
    // A success between them does not count for it: half of the calls failing is too many still.
    assert!(!life.succeeded(2));
    assert_eq!(life.faulted(2, now + 30 * SECOND, 3, Check::Impossible), Consequence::None);
    let back = Consequence::RolledBack { from: "b", to: "a", faults: 3 };
    assert_eq!(life.faulted(2, now + 59 * SECOND, 4, Check::Impossible), back);
    assert_eq!((life.current(), life.standing(now, 4)), (Some(&"a"), ComponentStanding::Serving));
    assert_eq!(
        life.faulted(2, now, 5, Check::Impossible),
        Consequence::None,
        "of calls that were under way"
    );
    assert!(!life.is_troubled());
    assert_eq!(life.next_generation(), 3);
}

#[test]
fn after_probation_faults_in_a_row_set_it_aside_and_a_trial_brings_it_back() {
    let (mut life, start) = life(RULES, ["a", "b"]);
    let now = start + 60 * SECOND;
    for calls in 1..4 {
        assert_eq!(life.faulted(2, now, calls, Check::Impossible), Consequence::None);
    }
    assert!(!life.succeeded(2), "and the row begins anew");
    for calls in 5..8 {
        assert_eq!(life.faulted(2, now, calls, Check::Impossible), Consequence::None);
    }
    assert!(life.may_call(now));
    assert_eq!(life.faulted(2, now, 8, Check::Impossible), Consequence::Quarantined { faults: 4 });
    assert_eq!(life.standing(now, 8), ComponentStanding::Quarantined);
    assert!(!life.may_call(now + 5 * SECOND - Duration::from_nanos(1)));
    assert!(life.may_call(now + 5 * SECOND));
    assert!(!life.may_call(now + 5 * SECOND), "one trial at a time");
    assert_eq!(
        life.faulted(2, now + 6 * SECOND, 9, Check::Impossible),
        Consequence::None,
        "it failed, and quarantine goes on"
    );
    assert!(life.may_call(now + 10 * SECOND));
    assert!(life.succeeded(2), "it is back");
    assert!(life.may_call(now + 10 * SECOND));
    assert_eq!(life.standing(now, 10), ComponentStanding::Serving);
    assert!(!life.is_troubled());
}

#[test]
fn a_first_version_has_nothing_to_go_back_to_and_is_set_aside() {
    let (mut life, now) = life(RULES, ["a"]);
    for calls in 1..4 {
        assert_eq!(life.faulted(1, now, calls, Check::Impossible), Consequence::None);
    }
    assert_eq!(life.faulted(1, now, 4, Check::Impossible), Consequence::Quarantined { faults: 4 });
    assert_eq!(life.admit("b", now, 4), Some("a"), "a new version ends it");
    assert!(life.may_call(now));
}

#[test]
fn probation_can_be_a_number_of_calls() {
    let rules = Rules { probation: Probation::Calls(10), max_faults: 0, ..RULES };
    let (mut life, now) = life(rules, ["a"]);
    life.admit("b", now, 100);
    assert_eq!(life.standing(now + 3600 * SECOND, 110), ComponentStanding::Probation);
    assert_eq!(life.standing(now, 111), ComponentStanding::Serving);
    assert_eq!(life.faulted(2, now, 111, Check::Impossible), Consequence::None);
    life.admit("c", now, 200);
    assert!(matches!(
        life.faulted(3, now + 3600 * SECOND, 210, Check::Impossible),
        Consequence::RolledBack { .. }
    ));
}

#[test]
fn rolling_back_goes_as_far_as_versions_are_kept() {
    let (mut life, now) = life(RULES, ["a", "b", "c", "d"]);
    assert_eq!(life.kept().copied().collect::<Vec<_>>(), ["c", "b"]);
    assert_eq!(life.roll_back(now, 0), Some(("d", "c")));
    assert_eq!(life.roll_back(now, 0), Some(("c", "b")));
    assert_eq!(life.roll_back(now, 0), None);
    assert_eq!((life.current(), life.next_generation()), (Some(&"b"), 5));
    assert_eq!(life.standing(now, 0), ComponentStanding::Serving);
}

#[test]
fn a_version_that_has_not_proved_itself_is_passed_over_and_let_go_first() {
    let (mut life, now) = life(RULES, ["good"]);
    let now = now + 60 * SECOND;
    for bad in ["b", "c", "d"] {
        life.admit(bad, now, 0);
    }
    assert_eq!(
        life.kept().copied().collect::<Vec<_>>(),
        ["c", "good"],
        "the one that is known to be good stays"
    );
    for calls in 1..3 {
        life.faulted(4, now, calls, Check::Impossible);
    }
    assert_eq!(
        life.faulted(4, now, 3, Check::Impossible),
        Consequence::RolledBack { from: "d", to: "good", faults: 3 }
    );
    assert_eq!((life.standing(now, 3), life.kept().count()), (ComponentStanding::Serving, 0));
}

#[test]
fn a_version_that_is_put_back_before_it_has_proved_itself_goes_on_with_its_probation() {
    let (mut life, now) = life(RULES, ["a"]);
    life.faulted(1, now, 1, Check::Impossible);
    life.admit("b", now, 1);
    assert_eq!(life.roll_back(now, 1), Some(("b", "a")));
    assert_eq!(life.standing(now, 1), ComponentStanding::Probation);
    life.admit("c", now, 1);
    for calls in 2..4 {
        life.faulted(3, now, calls, Check::Impossible);
    }
    assert_eq!(
        life.faulted(3, now, 4, Check::Impossible),
        Consequence::RolledBack { from: "c", to: "a", faults: 3 }
    );
    assert_eq!(life.standing(now, 4), ComponentStanding::Probation);
}

#[test]
fn nothing_is_called_while_nothing_is_there() {
    let (mut life, now) = life(RULES, []);
    assert_eq!((life.standing(now, 0), life.is_troubled()), (ComponentStanding::Absent, true));
    assert!(!life.may_call(now));
    assert_eq!(
        (life.faulted(0, now, 0, Check::Impossible), life.roll_back(now, 0)),
        (Consequence::None, None)
    );
    life.admit("a", now, 0);
    assert!(life.may_call(now) && !life.is_troubled());
}

#[derive(Clone, Debug)]
enum Step {
    Admit,
    /// A call into the current version, or into an older one that is still under way.
    Fault {
        late: bool,
        check: Check,
    },
    /// What came of a fault that was being checked.
    Checked(Checked),
    Success,
    RollBack,
    Wait(u64),
}

fn check() -> impl Strategy<Value = Check> {
    prop_oneof![Just(Check::Begins), Just(Check::Skipped), Just(Check::Impossible)]
}

fn checked() -> impl Strategy<Value = Checked> {
    use Checked::*;
    prop_oneof![3 => Just(Answers), 1 => Just(Faults), 1 => Just(Impossible), 1 => Just(Skipped)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Admit),
        6 => (any::<bool>(), check()).prop_map(|(late, check)| Step::Fault { late, check }),
        4 => checked().prop_map(Step::Checked),
        2 => Just(Step::Success),
        1 => Just(Step::RollBack),
        2 => (0..90_u64).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..80)
}

/// What the machine should hold: a version, and whether it has proved itself.
type Model = Vec<(u64, bool)>;

/// Lets go of what is too much, but for the latest proven version.
fn trim(model: &mut Model, keep: usize) {
    // The last is the current one.
    while model.len() > keep + 1 {
        let older = model.len() - 1;
        let is_last_proven = model[0].1 && !model[1..older].iter().any(|(_, is_proven)| *is_proven);
        model.remove(usize::from(is_last_proven && older > 1));
    }
}

proptest! {
    /// Whatever happens: a version is followed only by a new one or by one that it replaced; the
    /// latest proven version is kept for as long as any is, and faults lead back to it; and a
    /// version in quarantine is tried again.
    #[test]
    fn no_good_version_is_ever_lost(steps in steps(), keep in 0..4_usize, max_faults in 0..4_u32) {
        let rules = Rules { keep, max_faults, ..RULES };
        let (mut life, mut now, mut calls) = (Life::new(rules), Instant::now(), 0);
        let mut model = Model::new();
        let mut admitted = 0;
        for step in steps {
            if let Some((_, is_proven)) = model.last_mut() {
                // Once it has, it stays so.
                *is_proven |= life.is_proven(now, calls);
            }
            let had_proven = model.iter().any(|(_, is_proven)| *is_proven);
            match step {
                Step::Admit => {
                    admitted += 1;
                    prop_assert_eq!(life.next_generation(), admitted);
                    let current = model.last().map(|(version, _)| *version);
                    prop_assert_eq!(life.admit(admitted, now, calls), current);
                    model.push((admitted, false));
                    trim(&mut model, keep);
                    prop_assert_eq!(life.standing(now, calls), ComponentStanding::Probation);
                    let has_proven = model.iter().any(|(_, is_proven)| *is_proven);
                    prop_assert!(keep == 0 || !had_proven || has_proven);
                }
                Step::Fault { .. } | Step::Checked(_) => {
                    let current = model.last().map(|(version, _)| *version);
                    let mut generation = current.unwrap_or(0);
                    let consequence = match step {
                        Step::Fault { late, check } => {
                            calls += 1;
                            if late {
                                generation = admitted.saturating_sub(1);
                            }
                            life.faulted(generation, now, calls, check)
                        }
                        Step::Checked(checked) => life.checked(generation, now, calls, checked),
                        _ => Consequence::None,
                    };
                    match consequence {
                        Consequence::RolledBack { from, to, faults } => {
                            prop_assert!(faults > max_faults);
                            let popped = model.pop();
                            prop_assert_eq!(popped, Some((from, false)), "it had proved itself");
                            prop_assert_eq!(current, Some(generation));
                            let proven = model.iter().rposition(|(_, is_proven)| *is_proven);
                            model.truncate(proven.map_or(model.len(), |latest| latest + 1));
                            prop_assert_eq!(model.last().map(|(version, _)| *version), Some(to));
                        }
                        Consequence::Quarantined { faults } => {
                            prop_assert!(current == Some(generation));
                            prop_assert!(faults >= rules.quarantine_after);
                            let standing = life.standing(now, calls);
                            prop_assert_eq!(standing, ComponentStanding::Quarantined);
                        }
                        Consequence::None => {}
                    }
                }
                Step::Success => {
                    calls += 1;
                    let generation = model.last().map_or(0, |(version, _)| *version);
                    let standing = life.standing(now, calls);
                    let was_quarantined = standing == ComponentStanding::Quarantined;
                    prop_assert_eq!(life.succeeded(generation), was_quarantined);
                    prop_assert!(model.is_empty() || !life.is_troubled());
                }
                Step::RollBack => match life.roll_back(now, calls) {
                    Some((from, to)) => {
                        prop_assert_eq!(model.pop().map(|(version, _)| version), Some(from));
                        prop_assert_eq!(model.last().map(|(version, _)| *version), Some(to));
                    }
                    None => prop_assert!(model.len() <= 1),
                },
                Step::Wait(seconds) => now += Duration::from_secs(seconds),
            }
            prop_assert_eq!(life.current(), model.last().map(|(version, _)| version));
            let older: Vec<u64> = model.iter().rev().skip(1).map(|(version, _)| *version).collect();
            prop_assert_eq!(life.kept().copied().collect::<Vec<_>>(), older);
            // Whatever is there gets a call within one interval at the latest.
            let may_call = life.clone().may_call(now + rules.quarantine_interval);
            prop_assert_eq!(may_call, !model.is_empty());
        }
    }
}

/// With a version "b" on probation, before which "a" had so many calls and faults.
fn after(calls: u64, faults: u64) -> (Life<&'static str>, Instant) {
    let (mut life, start) = life(Rules { quarantine_after: u32::MAX, ..RULES }, ["a"]);
    for _ in 0..faults {
        life.faulted(1, start, calls, Check::Impossible);
    }
    life.admit("b", start, calls);
    (life, start)
}

/// A fault of "b" on what "a" makes this of; whether that leads back to "a".
fn is_back(life: &mut Life<&'static str>, now: Instant, calls: u64, checked: Checked) -> bool {
    let begun = life.faulted(2, now, calls, Check::Begins);
    assert_eq!(begun, Consequence::None, "not before it is checked");
    matches!(life.checked(2, now, calls, checked), Consequence::RolledBack { .. })
}

proptest! {
    /// Whoever sends what neither version can answer, however often, keeps no new one out.
    #[test]
    fn what_neither_answers_never_leads_back(
        (calls, faults) in (0..100_000_u64, 0..100_u64),
        sent in prop::collection::vec(any::<Option<bool>>(), 0..200),
    ) {
        let (mut life, now) = after(calls, faults);
        for (calls, fault) in (calls + 1..).zip(sent) {
            match fault {
                None => prop_assert!(!life.succeeded(2)),
                Some(true) => prop_assert!(!is_back(&mut life, now, calls, Checked::Faults)),
                Some(false) => {
                    let consequence = life.faulted(2, now, calls, Check::Skipped);
                    prop_assert_eq!(consequence, Consequence::None);
                }
            }
        }
        prop_assert_eq!(life.current(), Some(&"b"));
    }

    /// A version that faults on all that the one before answers goes with the first fault beyond
    /// `max_faults` that was checked, however many were not.
    #[test]
    fn what_only_the_new_version_does_not_answer_leads_back(
        calls in 0..100_000_u64,
        skipped in prop::collection::vec(0..50_u64, 3),
    ) {
        let (mut life, now) = after(calls, 0);
        let mut calls = calls;
        for (checked, skipped) in skipped.into_iter().enumerate() {
            for _ in 0..skipped {
                calls += 1;
                let consequence = life.faulted(2, now, calls, Check::Skipped);
                prop_assert_eq!(consequence, Consequence::None);
            }
            calls += 1;
            let is_back = is_back(&mut life, now, calls, Checked::Answers);
            prop_assert_eq!(is_back, checked == 2, "{}", checked);
        }
    }

    /// A version that faults by itself no more often than the one before has stays, and one that
    /// does so ten times as often does not.
    #[test]
    fn how_often_the_one_before_faults_is_the_measure(every in 100..1000_u64) {
        let (calls, faults) = (20 * every, 20);
        let (mut life, now) = after(calls, faults);
        for number in 1..=20 {
            let calls = calls + number * every;
            prop_assert!(!is_back(&mut life, now, calls, Checked::Answers), "{}", number);
        }
        let (mut life, now) = after(calls, faults);
        let worse = (1..=20).any(|number| {
            is_back(&mut life, now, calls + number * every / 10, Checked::Answers)
        });
        prop_assert!(worse);
    }
}

#[test]
fn a_fault_that_is_checked_after_its_probation_still_counts() {
    let rules = Rules { probation: Probation::Calls(4), max_faults: 0, ..RULES };
    let (mut life, now) = life(rules, ["a", "b"]);
    assert_eq!(life.faulted(2, now, 4, Check::Begins), Consequence::None);
    assert_eq!(life.standing(now, 100), ComponentStanding::Probation, "until that is known");
    let back = Consequence::RolledBack { from: "b", to: "a", faults: 1 };
    assert_eq!(life.clone().checked(2, now, 6, Checked::Answers), back);
    assert_eq!(life.checked(2, now, 6, Checked::Faults), Consequence::None);
    assert_eq!(life.standing(now, 6), ComponentStanding::Serving);
}

#[test]
fn it_is_set_aside_only_after_what_is_checked_is_known() {
    let (mut life, now) = life(RULES, ["a", "b"]);
    for calls in 1..=6 {
        assert_eq!(life.faulted(2, now, calls, Check::Begins), Consequence::None);
    }
    for _ in 1..6 {
        assert_eq!(life.checked(2, now, 6, Checked::Faults), Consequence::None);
    }
    let aside = Consequence::Quarantined { faults: 6 };
    assert_eq!(life.checked(2, now, 6, Checked::Faults), aside);
}
