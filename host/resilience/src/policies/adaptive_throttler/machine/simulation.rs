//! The machine in front of an upstream of fixed capacity, on a clock of its own, with the numbers
//! that it must come to. The seed is fixed.

use super::*;

/// Calls that come at random, so many a second, before an upstream that answers at once: so many of
/// each second well.
#[derive(Clone, Copy)]
struct Simulation {
    calls: f64,
    capacity: u64,
    /// Of those that could be answered well.
    failing: f64,
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
}

impl Simulation {
    const STEADY: Self =
        Self { calls: 300.0, capacity: u64::MAX, failing: 0.0, outage: (0, 0), seconds: 300 };

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
            if !machine.admit(fraction(), now).0 {
                continue;
            }
            second.sent += 1;
            let is_out = (self.outage.0..self.outage.1).contains(&(time as u64));
            let well = !is_out && second.sent <= self.capacity && fraction() >= self.failing;
            second.well += u64::from(well);
            machine.record(ResultCounts { all: 1, failed: u64::from(!well) }, now);
        }
    }
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
