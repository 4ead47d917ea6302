//! The machine in front of an upstream of fixed capacity, on a clock of its own, with the numbers
//! that it must come to. The seed is fixed.

use super::*;
use crate::priority::PriorityClass;

/// Calls that come at random, so many a second, before an upstream that answers at once: so many of
/// each second well.
#[derive(Clone, Copy)]
struct Simulation {
    calls: f64,
    capacity: u64,
    /// Of those that could be answered well.
    failing: f64,
    /// Whether calls have levels, a fifth of each class.
    has_levels: bool,
    /// From and to which second nothing is answered well.
    outage: (u64, u64),
    seconds: u64,
}

/// What happened within a second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    calls: u64,
    sent: u64,
    well: u64,
    /// Calls that were sent, by class.
    classes: [u64; 5],
}

impl Simulation {
    const STEADY: Self = Self {
        calls: 300.0,
        capacity: u64::MAX,
        failing: 0.0,
        has_levels: false,
        outage: (0, 0),
        seconds: 300,
    };

    fn run(self) -> Vec<Second> {
        let settings = ThrottleSettings {
            failure_rate: 0.1,
            min_calls: 10,
            interval: Duration::from_secs(1),
            max_rejection_rate: 0.9,
        };
        let (start, mut random) = (Instant::now(), fastrand::Rng::with_seed(1));
        let mut fraction = move || random.u32(..) as f64 / 2f64.powi(32);
        let mut machine = ThrottleMachine::new(settings, start);
        let mut seconds = vec![Second::default(); self.seconds as usize];
        let mut time = 0.0;
        loop {
            time += -(1.0 - fraction()).ln() / self.calls;
            let Some(second) = seconds.get_mut(time as usize) else { return seconds };
            let now = start + Duration::from_secs_f64(time);
            second.calls += 1;
            let level = self.has_levels.then(|| level((fraction() * 1e6) as usize));
            if !machine.admit(level, fraction(), now).0 {
                continue;
            }
            second.sent += 1;
            if let Some(level) = level {
                second.classes[level.class() as usize] += 1;
            }
            let is_out = (self.outage.0..self.outage.1).contains(&(time as u64));
            let well = !is_out && second.sent <= self.capacity && fraction() >= self.failing;
            second.well += u64::from(well);
            machine.record(ResultCounts { all: 1, failed: u64::from(!well) }, now);
        }
    }
}

/// That of the call with this number.
fn level(number: usize) -> PriorityLevel {
    let class = PriorityClass::ALL[number % 5];
    PriorityLevel::of_request(class, &number.to_be_bytes())
}

/// Over those seconds, of one thing how much for one of the other.
fn ratio(seconds: &[Second], of: fn(&Second) -> u64, to: fn(&Second) -> u64) -> f64 {
    seconds.iter().map(of).sum::<u64>() as f64 / seconds.iter().map(to).sum::<u64>() as f64
}

#[test]
fn at_three_times_the_capacity_it_sends_a_fifth_too_much_at_most_and_wastes_nothing() {
    let overload = Simulation { calls: 1200.0, capacity: 400, ..Simulation::STEADY };
    let settled = &overload.run()[60..];
    let (sent, well) =
        (ratio(settled, |it| it.sent, |_| 400), ratio(settled, |it| it.well, |_| 400));
    assert!((1.05..=1.2).contains(&sent), "{sent}");
    assert!(well >= 0.98, "{well}");
}

#[test]
fn in_an_outage_it_sends_a_tenth_and_all_again_within_ten_seconds_of_its_end() {
    let outage = Simulation { outage: (100, 160), ..Simulation::STEADY };
    let seconds = outage.run();
    let sent = |range: std::ops::Range<usize>| ratio(&seconds[range], |it| it.sent, |it| it.calls);
    assert!((sent(90..100) - 1.0).abs() < 1e-9, "before");
    let during = sent(105..160);
    assert!((0.09..=0.12).contains(&during), "{during}");
    let after = (160..200).find(|&second| sent(second..second + 3) >= 0.9).expect("it recovers");
    assert!(after <= 170, "{} s", after - 160);
    assert!((sent(171..300) - 1.0).abs() < 1e-9);
}

#[test]
fn tolerated_failures_reject_less_than_a_hundredth() {
    for (calls, failing) in [(300.0, 0.05), (20.0, 0.05), (3.0, 0.05), (20.0, 0.08)] {
        let seconds = Simulation { calls, failing, seconds: 600, ..Simulation::STEADY }.run();
        let sent = ratio(&seconds, |it| it.sent, |it| it.calls);
        assert!(sent > 0.985, "{calls} calls a second of which {failing} fail: {sent}");
    }
}

#[test]
fn with_levels_it_sends_as_much_and_of_the_highest_classes_all_that_there_is_room_for() {
    let overload =
        Simulation { calls: 1200.0, capacity: 400, has_levels: true, ..Simulation::STEADY };
    let settled = &overload.run()[60..];
    let sent = ratio(settled, |it| it.sent, |_| 400);
    assert!((1.05..=1.2).contains(&sent), "{sent}");
    assert!(ratio(settled, |it| it.well, |_| 400) >= 0.98);
    // A fifth each: two thirds have to go, a tenth of which passes.
    let share = |class: usize| {
        let sent: u64 = settled.iter().map(|second| second.classes[class]).sum();
        sent as f64 * 5.0 / settled.iter().map(|second| second.calls).sum::<u64>() as f64
    };
    let [lowest, low, medium, high, highest] = [0, 1, 2, 3, 4].map(share);
    assert!((0.08..0.12).contains(&lowest) && (0.08..0.12).contains(&low), "{lowest} {low}");
    assert!((0.08..0.3).contains(&medium), "{medium}");
    assert!((0.2..0.9).contains(&high) && highest > 0.99, "{high} {highest}");
}

#[test]
fn an_outage_with_levels_is_found_to_be_over_as_soon() {
    let seconds = Simulation { has_levels: true, outage: (100, 160), ..Simulation::STEADY }.run();
    let sent = |range: std::ops::Range<usize>| ratio(&seconds[range], |it| it.sent, |it| it.calls);
    let during = sent(105..160);
    assert!((0.09..=0.12).contains(&during), "{during}");
    assert!(sent(171..300) > 0.99);
}

/// A request needs three services, each at twice its capacity: those that all three admit are
/// answered.
fn answered_by_all(has_levels: bool) -> f64 {
    let settings = ThrottleSettings {
        failure_rate: 0.1,
        min_calls: 10,
        interval: Duration::from_secs(1),
        max_rejection_rate: 0.9,
    };
    let (start, mut random) = (Instant::now(), fastrand::Rng::with_seed(1));
    let mut hops = [(); 3].map(|()| ThrottleMachine::new(settings, start));
    let mut answered = 0;
    for second in 0..120u64 {
        let mut used = [0; 3];
        for number in 0..600u64 {
            let now = start + Duration::from_micros(second * 1_000_000 + number * 1_666);
            let level = has_levels.then(|| level((second * 600 + number) as usize));
            let is_answered = hops.iter_mut().zip(&mut used).fold(true, |others, (hop, used)| {
                let chance = f64::from(random.u32(..)) / 2f64.powi(32);
                if !hop.admit(level, chance, now).0 {
                    return false;
                }
                *used += 1;
                let failed = *used > 300;
                hop.record(ResultCounts { all: 1, failed: u64::from(failed) }, now);
                others && !failed
            });
            answered += u64::from(second >= 60 && is_answered);
        }
    }
    answered as f64 / (60.0 * 300.0)
}

#[test]
fn a_request_that_needs_three_overloaded_services_lives_or_dies_whole() {
    let (by_level, by_chance) = (answered_by_all(true), answered_by_all(false));
    assert!(by_level > 0.7 && by_chance < 0.4, "{by_level} {by_chance}");
}
