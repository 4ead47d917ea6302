//! The machine's steps one by one, and what always holds.

use proptest::prelude::*;

use super::*;

const SETTINGS: LimiterSettings = LimiterSettings {
    min_limit: 1.0,
    max_limit: 200.0,
    initial_limit: 20.0,
    max_limit_factor: 5.0,
    shortest_window: Duration::from_secs(1),
    longest_window: Duration::from_secs(30),
    min_samples: 50,
    seed: 1,
};

/// A machine, its time, and windows in which every result is the same.
struct Course {
    machine: LimiterMachine,
    now: Instant,
}

/// A window: the time that a result takes, in milliseconds, results a second, calls in flight, and
/// how many of 100 results are drops.
#[derive(Clone, Copy)]
struct Same {
    millis: u64,
    results: u32,
    in_flight: usize,
    drops: u32,
}

impl Course {
    fn new() -> Self {
        let now = Instant::now();
        Self { machine: LimiterMachine::new(SETTINGS, now), now }
    }

    /// The change that the window leads to.
    fn window(&mut self, of: Same) -> Option<LimitChange> {
        let asked = Duration::from_millis(of.millis);
        // Past the epoch, and what opens the window.
        self.now += asked;
        let began = self.now - asked;
        for number in 0..=of.results {
            let ended = self.now + Duration::from_secs(1) * number / of.results;
            let is_drop = number % 100 < of.drops;
            let (in_flight, began) = (of.in_flight, ended.max(began) - asked);
            let sample = LimiterSample { began, ended, asked, in_flight, is_drop };
            let change = self.machine.record(&sample);
            if self.machine.window.is_none() {
                assert_eq!(number, of.results, "it ended early");
                self.now = ended;
                return change;
            }
        }
        panic!("it did not end");
    }

    /// The same at the limit, where Little's law says what a server of this capacity, which takes
    /// 50 ms, does.
    fn full(&mut self, capacity: u32) -> Option<LimitChange> {
        let in_flight = self.machine.limit();
        let free = in_flight as u32 * 20;
        let results = free.min(capacity);
        let millis = (in_flight as u64 * 1000 / u64::from(results)).max(50);
        self.window(Same { millis, results, in_flight, drops: 0 })
    }
}

fn change(from: usize, to: usize, kind: LimitChangeKind) -> Option<LimitChange> {
    Some(LimitChange { from, to, kind })
}

#[test]
fn not_full_it_grows_a_little_and_never_beyond_five_times_what_is_in_use() {
    let mut course = Course::new();
    let idle = Same { millis: 50, results: 100, in_flight: 5, drops: 0 };
    for limit in 20..25 {
        assert_eq!(course.window(idle), change(limit, limit + 1, LimitChangeKind::Grown));
    }
    assert_eq!(course.window(idle), None, "25 is five times 5");
    let idler = Same { in_flight: 2, ..idle };
    assert_eq!(course.window(idler), change(25, 22, LimitChangeKind::Capped), "by a tenth");
}

#[test]
fn the_first_full_window_begins_a_dip_which_goes_back_if_throughput_went_with_it() {
    let mut course = Course::new();
    assert_eq!(course.full(10_000), change(20, 15, LimitChangeKind::Dip));
    assert_eq!(course.full(10_000), change(15, 20, LimitChangeKind::Back));
    // The next is due in 8 to 12 windows: until then it tries to grow, and succeeds.
    assert_eq!(course.full(10_000), change(20, 25, LimitChangeKind::Up));
    assert_eq!(course.full(10_000), change(25, 31, LimitChangeKind::Up), "kept, and the next");
}

#[test]
fn a_dip_that_costs_no_throughput_is_kept_and_followed_by_the_next() {
    let mut course = Course::new();
    // 20 in flight, of which 10 wait: the latency that it learns first is twice that without.
    assert_eq!(course.full(200), change(20, 15, LimitChangeKind::Dip));
    assert_eq!(course.full(200), None, "kept");
    assert_eq!(course.full(200), change(15, 11, LimitChangeKind::Dip));
    assert_eq!(course.full(200), None);
    assert_eq!(course.full(200), change(11, 8, LimitChangeKind::Dip));
    assert_eq!(course.full(200), change(8, 11, LimitChangeKind::Back), "too low");
    let baseline = course.machine.baseline().expect("it has one");
    assert!(
        baseline < Duration::from_millis(70),
        "it has learnt that most was a queue: {baseline:?}"
    );
}

#[test]
fn an_up_that_brings_nothing_goes_back() {
    let mut course = Course::new();
    course.full(10_000);
    course.full(10_000);
    assert_eq!(course.full(400), change(20, 25, LimitChangeKind::Up));
    assert_eq!(course.full(400), change(25, 20, LimitChangeKind::Back));
    assert_eq!(course.full(400), change(20, 15, LimitChangeKind::Dip), "it is due at once");
}

#[test]
fn a_latency_that_has_risen_for_another_reason_becomes_the_baseline() {
    let mut course = Course::new();
    course.full(10_000);
    course.full(10_000);
    let slow = |in_flight: u32| Same {
        millis: 100,
        results: in_flight * 10,
        in_flight: in_flight as usize,
        drops: 0,
    };
    assert_eq!(
        course.window(slow(20)),
        change(20, 18, LimitChangeKind::Cut),
        "as if it were a queue"
    );
    assert_eq!(course.window(slow(18)), change(18, 20, LimitChangeKind::Back));
    assert_eq!(course.machine.baseline(), Some(Duration::from_millis(100)));
    assert_eq!(course.window(slow(20)), change(20, 25, LimitChangeKind::Up));
}

#[test]
fn drops_take_a_tenth_each_time_and_undo_an_experiment_that_raised_it() {
    let mut course = Course::new();
    let busy = |in_flight| Same { millis: 50, results: 400, in_flight, drops: 20 };
    assert_eq!(course.window(busy(20)), change(20, 18, LimitChangeKind::Drops));
    assert_eq!(course.window(busy(18)), change(18, 16, LimitChangeKind::Drops));
    let mut course = Course::new();
    course.full(10_000);
    course.full(10_000);
    assert_eq!(course.full(10_000), change(20, 25, LimitChangeKind::Up));
    assert_eq!(course.window(busy(25)), change(25, 20, LimitChangeKind::Back));
    let few = Same { drops: 9, ..busy(20) };
    assert_ne!(course.window(few).map(|change| change.kind), Some(LimitChangeKind::Drops));
}

#[test]
fn results_of_calls_that_were_admitted_under_another_limit_say_nothing() {
    let mut course = Course::new();
    course.full(10_000);
    let now = course.now;
    let asked = Duration::from_millis(50);
    let mut sample =
        LimiterSample { began: now - asked, ended: now, asked, in_flight: 20, is_drop: false };
    course.machine.record(&sample);
    assert!(course.machine.window.is_none(), "it began before");
    (sample.began, sample.ended) = (now, now + asked);
    course.machine.record(&sample);
    assert_eq!(course.machine.window_ends(), Some(now + asked + Duration::from_secs(1)));
}

#[test]
fn after_a_pause_the_window_begins_anew() {
    let now = Instant::now();
    let mut machine = LimiterMachine::new(SETTINGS, now);
    let asked = Duration::from_millis(50);
    let mut record = |second: u64| {
        let ended = now + Duration::from_secs(second);
        let began = ended - asked.min(ended - now);
        let sample = LimiterSample { began, ended, asked, in_flight: 20, is_drop: false };
        assert_eq!(machine.record(&sample), None);
        machine.window.map(|window| (window.began - now).as_secs())
    };
    assert_eq!([record(1), record(31), record(60)], [Some(1); 3]);
    assert_eq!(record(91), Some(91));
}

#[test]
fn what_was_cut_off_is_a_drop_if_it_took_twice_the_baseline() {
    let mut course = Course::new();
    assert!(!course.machine.is_drop_if_cut(Duration::from_secs(9)), "nothing is known yet");
    course.full(10_000);
    assert!(!course.machine.is_drop_if_cut(Duration::from_millis(99)));
    assert!(course.machine.is_drop_if_cut(Duration::from_millis(100)));
}

proptest! {
    /// Whatever is measured, and however the clock goes.
    #[test]
    fn the_limit_stays_within_its_bounds_and_changes_by_half_at_most(
        windows in prop::collection::vec(
            (0..5_000u64, 0..60_000u64, 0..300usize, 0..=100u32, -5_000..60_000i64), 0..60),
        min_limit in 1..20u32,
        seed in any::<u64>(),
    ) {
        let min_limit = f64::from(min_limit);
        let initial_limit = min_limit.max(20.0);
        let settings =
            LimiterSettings { min_limit, initial_limit, min_samples: 5, seed, ..SETTINGS };
        // Room to go back.
        let mut now = Instant::now() + Duration::from_secs(1 << 30);
        let mut machine = LimiterMachine::new(settings, now);
        for (asked, length, in_flight, drops, step) in windows {
            let millis = Duration::from_millis(step.unsigned_abs());
            now = if step < 0 { now - millis } else { now + millis };
            for number in 0..8u32 {
                let ended = now + Duration::from_millis(length) * number / 8;
                let asked = Duration::from_millis(asked * u64::from(number) / 4);
                let is_drop = number * 14 < drops;
                let began = ended - asked;
                let sample = LimiterSample { began, ended, asked, in_flight, is_drop };
                let before = (machine.limit(), machine.limit);
                let change = machine.record(&sample);
                let limit = machine.limit;
                prop_assert!((min_limit..=200.0).contains(&limit), "{}", limit);
                prop_assert!(limit >= before.1 * 0.499 || limit >= machine.level, "{:?}", change);
                prop_assert_eq!(
                    change.map(|change| (change.from, change.to)),
                    (before.0 != machine.limit()).then_some((before.0, machine.limit()))
                );
                prop_assert!(machine.baseline.is_none_or(f64::is_finite));
            }
        }
    }
}
