//! The machine in front of a simulated upstream, on a clock of its own, with the numbers that it
//! must come to. The seeds are fixed.
//!
//! The upstream has servers that take calls in their order, each for a time of lognormal
//! distribution; calls come at random.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use super::*;

/// What is simulated. Functions are of the time in seconds.
#[derive(Clone, Copy)]
struct Simulation {
    /// Calls a second.
    calls: f64,
    servers: fn(f64) -> usize,
    /// What a call takes a server, on average.
    service: f64,
    /// By how much it takes longer, where servers are shared by too many.
    thrashing: f64,
    /// By how much a call takes longer that holds no server.
    extra: fn(f64) -> f64,
    /// By what factor it takes longer.
    slow: fn(f64) -> f64,
    /// A call is cut off after this time.
    timeout: f64,
    /// An answer is good within this time.
    good_within: f64,
    seconds: usize,
    seed: u64,
}

const STEADY: Simulation = Simulation {
    calls: 1200.0,
    servers: |_| 20,
    service: 0.05,
    thrashing: 0.0,
    extra: |_| 0.0,
    slow: |_| 1.0,
    timeout: f64::INFINITY,
    good_within: 0.25,
    seconds: 180,
    seed: 1,
};

/// What happened within 30 s.
#[derive(Clone, Copy, Debug, Default)]
struct Period {
    calls: u32,
    good: u32,
    /// Calls in flight, times seconds.
    in_flight: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Happening {
    Arrival,
    /// A server is done with a call.
    Served(usize),
    Answered(usize),
    Cut(usize),
}

/// In the order of their time, and then of their making.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scheduled(f64, u64, Happening);

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

struct SimulatedCall {
    began: f64,
    in_flight: usize,
    has_ended: bool,
}

struct Run {
    of: Simulation,
    random: fastrand::Rng,
    machine: LimiterMachine,
    start: Instant,
    now: f64,
    schedule: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    calls: Vec<SimulatedCall>,
    in_flight: usize,
    busy: usize,
    queue: VecDeque<usize>,
    periods: Vec<Period>,
}

impl Simulation {
    fn run(self) -> Vec<Period> {
        let settings = LimiterSettings {
            min_limit: 1.0,
            max_limit: 200.0,
            initial_limit: 20.0,
            max_limit_factor: 5.0,
            shortest_window: Duration::from_secs(1),
            longest_window: Duration::from_secs(30),
            min_samples: 50,
            seed: self.seed,
        };
        let start = Instant::now();
        let mut run = Run {
            of: self,
            random: fastrand::Rng::with_seed(self.seed),
            machine: LimiterMachine::new(settings, start),
            start,
            now: 0.0,
            schedule: BinaryHeap::new(),
            scheduled: 0,
            calls: Vec::new(),
            in_flight: 0,
            busy: 0,
            queue: VecDeque::new(),
            periods: vec![Period::default(); self.seconds / 30],
        };
        run.schedule(0.0, Happening::Arrival);
        while let Some(Reverse(Scheduled(now, _, what))) = run.schedule.pop() {
            let Some(period) = run.periods.get_mut((now / 30.0) as usize) else { break };
            period.in_flight += run.in_flight as f64 * (now - run.now);
            run.now = now;
            match what {
                Happening::Arrival => run.arrive(now),
                Happening::Served(call) => run.serve(now, call),
                Happening::Answered(call) => run.end(now, call, false),
                Happening::Cut(call) => run.end(now, call, true),
            }
        }
        run.periods
    }
}

impl Run {
    fn fraction(&mut self) -> f64 {
        f64::from(self.random.u32(..)) / 2f64.powi(32)
    }

    fn schedule(&mut self, at: f64, what: Happening) {
        self.scheduled += 1;
        self.schedule.push(Reverse(Scheduled(at, self.scheduled, what)));
    }

    /// Lognormal, with half of the mean as its deviation.
    fn service(&mut self, mean: f64) -> f64 {
        let variance = 1.25f64.ln();
        let (one, other) = (1.0 - self.fraction(), self.fraction());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        (mean.ln() - variance / 2.0 + variance.sqrt() * normal).exp()
    }

    fn period(&mut self, now: f64) -> &mut Period {
        &mut self.periods[(now / 30.0) as usize]
    }

    fn arrive(&mut self, now: f64) {
        let next = now - (1.0 - self.fraction()).ln() / self.of.calls;
        self.schedule(next, Happening::Arrival);
        self.period(now).calls += 1;
        if self.in_flight >= self.machine.limit() {
            return;
        }
        self.in_flight += 1;
        let call = self.calls.len();
        let (in_flight, has_ended) = (self.in_flight, false);
        self.calls.push(SimulatedCall { began: now, in_flight, has_ended });
        if self.of.timeout.is_finite() {
            self.schedule(now + self.of.timeout, Happening::Cut(call));
        }
        self.queue.push_back(call);
        self.begin(now);
    }

    fn begin(&mut self, now: f64) {
        while self.busy < (self.of.servers)(now)
            && let Some(call) = self.queue.pop_front()
        {
            self.busy += 1;
            let beyond = (self.busy + self.queue.len()).saturating_sub((self.of.servers)(now));
            let thrashing = 1.0 + self.of.thrashing * (beyond as f64).powi(2);
            let time = self.service(self.of.service * (self.of.slow)(now) * thrashing);
            self.schedule(now + time, Happening::Served(call));
        }
    }

    fn serve(&mut self, now: f64, call: usize) {
        self.busy -= 1;
        self.schedule(now + (self.of.extra)(now), Happening::Answered(call));
        self.begin(now);
    }

    fn end(&mut self, now: f64, call: usize, is_drop: bool) {
        let SimulatedCall { began, in_flight, has_ended } = &mut self.calls[call];
        if std::mem::replace(has_ended, true) {
            return;
        }
        let (asked, in_flight) = (now - *began, *in_flight);
        let at = |time| self.start + Duration::from_secs_f64(time);
        let sample = LimiterSample {
            began: at(now - asked),
            ended: at(now),
            asked: Duration::from_secs_f64(asked),
            in_flight,
            is_drop,
        };
        self.machine.record(&sample);
        self.in_flight -= 1;
        let is_good = !is_drop && asked <= self.of.good_within;
        self.period(now).good += u32::from(is_good);
    }
}

/// Each 30 s of as many runs, with other seeds: the share of `of` that was answered well.
fn shares(simulation: Simulation, of: impl Fn(usize, &Period) -> f64) -> Vec<[f64; RUNS]> {
    let runs: Vec<_> =
        (1..=RUNS as u64).map(|seed| Simulation { seed, ..simulation }.run()).collect();
    let share =
        |run: &[Period], number: usize| f64::from(run[number].good) / of(number, &run[number]);
    let periods = 0..simulation.seconds / 30;
    periods.map(|number| std::array::from_fn(|run| share(&runs[run], number))).collect()
}

const RUNS: usize = 4;

fn mean(shares: &[f64]) -> f64 {
    shares.iter().sum::<f64>() / shares.len() as f64
}

fn is_least(shares: &[f64], least: f64) -> bool {
    shares.iter().all(|share| *share >= least)
}

/// Of so many a second that can be answered.
fn of(capacity: f64) -> impl Fn(usize, &Period) -> f64 {
    move |_, _| capacity * 30.0
}

#[test]
fn at_three_times_the_capacity_nine_tenths_of_it_are_answered_well() {
    let shares = shares(STEADY, of(400.0));
    assert!(shares.iter().all(|period| is_least(period, 0.9)), "{shares:.3?}");
}

#[test]
fn nor_does_an_upstream_thrash_that_slows_down_with_what_is_in_it() {
    let shares = shares(Simulation { thrashing: 0.002, ..STEADY }, of(400.0));
    assert!(shares.iter().all(|period| is_least(period, 0.88)), "{shares:.3?}");
}

#[test]
fn it_follows_a_capacity_that_is_halved_and_comes_back() {
    let servers = |at| if (60.0..120.0).contains(&at) { 10 } else { 20 };
    let halved = Simulation { calls: 600.0, servers, ..STEADY };
    let shares =
        shares(halved, |number, _| 30.0 * if [2, 3].contains(&number) { 200.0 } else { 400.0 });
    // A run may lose a tenth and a little while it starts, or begins anew.
    let is_well = |period: &[f64; RUNS]| mean(period) >= 0.9 && is_least(period, 0.86);
    assert!(shares.iter().all(is_well), "{shares:.3?}");
}

#[test]
fn a_latency_that_is_not_of_load_costs_nothing() {
    let extra = |at| if at >= 60.0 { 0.05 } else { 0.0 };
    let delayed = Simulation { calls: 300.0, servers: |_| 100, extra, ..STEADY };
    let shares = shares(delayed, |_, period| f64::from(period.calls));
    assert!(shares[2..].iter().all(|period| is_least(period, 0.98)), "{shares:.3?}");
}

#[test]
fn an_upstream_that_hangs_has_twenty_calls_at_most_after_thirty_seconds() {
    let hung = Simulation {
        calls: 300.0,
        servers: |at| if (60.0..120.0).contains(&at) { usize::MAX } else { 40 },
        slow: |at| if (60.0..120.0).contains(&at) { 100.0 } else { 1.0 },
        timeout: 1.0,
        ..STEADY
    };
    for seed in 1..=RUNS as u64 {
        let periods = Simulation { seed, ..hung }.run();
        let in_flight = periods[3].in_flight / 30.0;
        assert!(in_flight <= 20.0, "{seed}: {in_flight}");
        let well = f64::from(periods[5].good) / f64::from(periods[5].calls);
        assert!(well >= 0.98, "{seed}: {well}, although it is well again");
    }
}
