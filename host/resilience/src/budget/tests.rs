//! Budgets in one thread and in several, and over every window.

use loom::sync::Arc;
use loom::thread;
use proptest::prelude::*;

use super::*;

const WINDOW: Duration = Duration::from_secs(10);

fn budget(config: BudgetConfig, now: Instant) -> Budget {
    config.build(now).unwrap()
}

fn extras(budget: &Budget, now: Instant) -> Vec<Extra<'_>> {
    std::iter::from_fn(|| budget.try_extra(now)).collect()
}

#[test]
fn a_fifth_of_the_calls_in_flight_may_have_an_extra_and_three_always() {
    loom::model(|| {
        let now = Instant::now();
        let budget = budget(BudgetConfig::default(), now);
        let calls: Vec<_> = (0..25).map(|_| budget.enter(None, now)).collect();
        let extras = extras(&budget, now);
        assert_eq!(extras.len(), 5);
        drop(calls);
        drop(extras);
        assert_eq!(super::tests::extras(&budget, now).len(), 3, "nothing stays held");
    });
}

#[test]
fn within_a_window_a_fifth_of_the_calls_may_have_an_extra_and_a_hundred_always() {
    let mut model = loom::model::Builder::new();
    model.max_branches = 100_000;
    model.check(|| {
        let now = Instant::now();
        let config = BudgetConfig { min_per_second: 0.5, ..BudgetConfig::default() };
        let budget = budget(config, now);
        let begun = |now| (0..9).filter(|_| budget.try_extra(now).is_some()).count();
        assert_eq!(begun(now), 5);
        for _ in 0..40 {
            budget.enter(None, now);
        }
        assert_eq!((begun(now), begun(now)), (3, 0), "8 of 40");
        let almost = now + WINDOW - Duration::from_millis(1);
        assert_eq!(begun(almost), 0);
        // The calls have left the window, and a slice later the extras have.
        assert_eq!(begun(now + WINDOW), 0);
        assert_eq!(begun(now + WINDOW + WINDOW / 10), 5);
        assert_eq!(begun(now + 100 * WINDOW), 5);
    });
}

#[test]
fn a_call_counts_once_in_each_budget_that_it_enters() {
    loom::model(|| {
        let now = Instant::now();
        let [first, second] = [(); 2].map(|()| budget(BudgetConfig::default(), now));
        let outer = first.enter(None, now).unwrap();
        let inner = second.enter(Some(&outer), now).unwrap();
        assert!(first.enter(Some(&inner), now).is_none());
        assert!(second.enter(Some(&inner), now).is_none());
        for budget in [&first, &second] {
            let status = budget.status(now);
            assert_eq!((status.calls_in_flight, status.calls_begun), (1, 1));
        }
    });
}

/// None is interrupted more than twice, or it would take minutes.
#[test]
fn threads_that_want_an_extra_at_once_get_no_more_than_there_are_and_leave_nothing_held() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let now = Instant::now();
        let config = BudgetConfig { max_rate: 0.5, min_concurrency: 1, ..BudgetConfig::default() };
        let budget = Arc::new(budget(config, now));
        let call = move |budget: &Budget| {
            let _call = budget.enter(None, now);
            let _extra = budget.try_extra(now);
            // Of two calls, whichever of them are counted.
            assert!(budget.lock().in_flight <= 1);
        };
        let other = thread::spawn({
            let budget = budget.clone();
            move || call(&budget)
        });
        call(&budget);
        other.join().unwrap();
        let status = budget.status(now);
        assert_eq!((status.calls_in_flight, status.extras_in_flight), (0, 0));
        assert_eq!(status.calls_begun, 2, "also if both counted the first of a slice");
    });
}

/// What calls do to a budget, after so many milliseconds.
#[derive(Clone, Copy, Debug)]
enum Step {
    Call,
    Extra,
}

fn over_every_window(max_rate: f64, min_per_second: f64, steps: &[(u64, Step)]) {
    let origin = Instant::now();
    let config =
        BudgetConfig { max_rate, min_per_second, min_concurrency: 1_000, ..Default::default() };
    let budget = budget(config, origin);
    let (mut calls, mut extras) = (Vec::new(), Vec::new());
    let mut now = origin;
    for (wait, step) in steps {
        now += Duration::from_millis(*wait);
        match step {
            Step::Call => {
                drop(budget.enter(None, now));
                calls.push(now);
            }
            Step::Extra if budget.try_extra(now).is_some() => {
                extras.push(now);
                let within = |times: &[Instant]| {
                    times.iter().filter(|time| now - **time < WINDOW).count() as f64
                };
                let most = (max_rate * within(&calls)).max(10.0 * min_per_second);
                assert!(within(&extras) <= most, "{} of {most}", within(&extras));
            }
            Step::Extra => {}
        }
    }
}

proptest! {
    // In a model each step costs much.
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn extras_stay_within_the_budget_over_every_window(
        max_rate in 0.01..1.0_f64, min_per_second in 0.0..3.0_f64,
        steps in prop::collection::vec(
            (
                prop_oneof![6 => 0..50_u64, 1 => 0..3_000_u64],
                prop_oneof![Just(Step::Call), Just(Step::Extra)],
            ),
            0..200,
        ),
    ) {
        let mut model = loom::model::Builder::new();
        model.max_branches = 100_000;
        model.check(move || over_every_window(max_rate, min_per_second, &steps));
    }
}
