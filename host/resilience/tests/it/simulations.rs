//! Whole fleets of calls on the paused clock, with the numbers that they must come to.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fusebox_resilience::{
    ATTEMPT, Attempt, Budget, Call, Marks, Observers, Outcome, Pipeline, Policy, Random, Request,
    RequestBody, Response, ResponseBody, Scope, Upstream, Worker,
};
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::{ms, response, retry, spread_retry, timeout};

/// Calls that come at a steady rate, whatever becomes of them.
struct Fleet {
    upstream: Rc<dyn Upstream>,
    pipeline: Pipeline,
    worker: Rc<Worker>,
    answered: RefCell<Vec<(Duration, Result<u16, ()>)>>,
    start: Instant,
}

impl Fleet {
    fn new<const N: usize>(upstream: Rc<dyn Upstream>, policies: [Arc<dyn Policy>; N]) -> Rc<Self> {
        Rc::new(Self {
            upstream,
            pipeline: Pipeline::new(policies),
            worker: Worker::new(Observers::default(), Random::with_seed(7)).into(),
            answered: RefCell::default(),
            start: Instant::now(),
        })
    }

    async fn call(&self, marked: Option<HeaderValue>) -> Outcome {
        let mut request = http::Request::get("http://service-b/");
        if let Some(mark) = marked {
            request = request.header(ATTEMPT, mark);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let id = HeaderValue::from_static("1");
        let request = Request::new(id, "test".into(), head, SystemTime::UNIX_EPOCH);
        let call = Call::new(request, RequestBody::empty(), self.worker.clone());
        let mut outcome = self.pipeline.execute(&call, &Scope::new(&*self.upstream)).await;
        if let Ok(response) = &mut outcome
            && response.is_given_up()
            && call.attempts() > 1
        {
            let status = format!("fusebox; attempts={}", call.attempts());
            let status = HeaderValue::try_from(status).expect("a value");
            response.headers.map_mut().append("proxy-status", status);
        }
        outcome
    }

    async fn answer(self: Rc<Self>) {
        let outcome = self.call(None).await;
        let result = outcome.map(|response| response.status.as_u16()).map_err(drop);
        self.answered.borrow_mut().push((self.start.elapsed(), result));
    }

    /// So many calls, with so much time between them, to the end of the last.
    async fn run(self: Rc<Self>, calls: u32, apart: Duration) {
        let local = LocalSet::new();
        for number in 0..calls {
            let fleet = self.clone();
            drop(local.spawn_local(async move {
                sleep_until(fleet.start + apart * number).await;
                fleet.answer().await;
            }));
        }
        local.await;
    }

    /// The share of calls that were answered well within the second that began so many seconds in.
    fn well(&self, second: u64) -> f64 {
        let answered = self.answered.borrow();
        let within = answered.iter().filter(|(at, _)| at.as_secs() == second);
        let (mut all, mut well) = (0, 0);
        for (_, result) in within {
            all += 1;
            well += usize::from(*result == Ok(200));
        }
        well as f64 / f64::from(all.max(1))
    }
}

// ===== amplification =====

/// An upstream of which every attempt fails.
struct Failing {
    budget: Budget,
    first: Duration,
    later: Duration,
    attempts: Cell<u32>,
}

impl Failing {
    fn new(first: Duration, later: Duration) -> Rc<Self> {
        let budget = Budget::of_upstream(Instant::now());
        Rc::new(Self { budget, first, later, attempts: Cell::new(0) })
    }
}

impl Upstream for Failing {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            self.attempts.set(self.attempts.get() + 1);
            sleep(if attempt.number() == 1 { self.first } else { self.later }).await;
            attempt.finish(Ok(response(503, &[], ResponseBody::empty())))
        })
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }
}

/// Attempts for each call, at 1,000 calls a second for 20 s.
async fn amplification(first: u64, later: u64, config: &str) -> f64 {
    const CALLS: u32 = 20_000;
    let upstream = Failing::new(ms(first), ms(later));
    Fleet::new(upstream.clone(), [spread_retry(config)]).run(CALLS, ms(1)).await;
    f64::from(upstream.attempts.get()) / f64::from(CALLS)
}

#[tokio::test(start_paused = true)]
async fn with_every_attempt_failing_retries_add_a_fifth_at_most() {
    for (first, later) in [(1, 1), (1_000, 1_000), (5_000, 5_000), (5_000, 1)] {
        for delay in ["", "delay = \"0s\""] {
            let sent = amplification(first, later, delay).await;
            assert!((1.01..=1.2).contains(&sent), "{first} ms, {later} ms, {delay}: {sent}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_budget_they_treble_the_load() {
    let sent = amplification(1, 1, "budget = \"none\"").await;
    assert!((sent - 3.0).abs() < f64::EPSILON, "{sent}");
}

// ===== layers =====

/// A further proxy, in front of the next.
struct Layer {
    next: Rc<Fleet>,
    budget: Budget,
    sent: RefCell<Vec<u32>>,
}

impl Upstream for Layer {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"layer".into());
            let received = call.header(ATTEMPT.as_str()).cloned();
            let marks = Marks::of(call, attempt.number(), false);
            let mark = marks.fields().next().map(|(_, mark)| mark.clone());
            let marked = mark.or(received);
            self.sent.borrow_mut().push(attempt.number());
            let outcome = self.next.call(marked).await;
            attempt.finish(outcome)
        })
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }
}

/// Three layers in front of an upstream of which every attempt fails.
fn three_layers(config: &str) -> (Rc<Failing>, Rc<Fleet>) {
    let upstream = Failing::new(ms(1), ms(1));
    let mut fleet = Fleet::new(upstream.clone(), [spread_retry(config)]);
    for _ in 0..2 {
        let budget = Budget::of_upstream(Instant::now());
        let layer = Layer { next: fleet, budget, sent: RefCell::default() };
        fleet = Fleet::new(Rc::new(layer), [spread_retry(config)]);
    }
    (upstream, fleet)
}

#[tokio::test(start_paused = true)]
async fn three_layers_make_three_attempts_of_one_request_and_in_the_mean_what_budgets_allow() {
    let (upstream, fleet) = three_layers("");
    fleet.run(1, ms(1)).await;
    assert_eq!(upstream.attempts.get(), 3);
    let (upstream, fleet) = three_layers("");
    fleet.run(20_000, ms(1)).await;
    let mean = f64::from(upstream.attempts.get()) / 20_000.0;
    assert!((1.05..=1.2 * 1.2 * 1.2).contains(&mean), "{mean}");
    let (upstream, fleet) = three_layers("budget = \"none\"\nretry_retried = true");
    fleet.run(1, ms(1)).await;
    assert_eq!(upstream.attempts.get(), 27, "as it would be without");
}

// ===== a collapse =====

/// A server that answers 100 calls a second, one after the other, and works on whatever has come,
/// whether or not somebody still waits. From 5 s to 10 s it does nothing.
struct Server {
    budget: Budget,
    start: Instant,
    free_at: Cell<Instant>,
}

impl Server {
    const CALL: Duration = Duration::from_millis(10);
    const QUEUE: Duration = Duration::from_secs(2);

    fn new() -> Rc<Self> {
        let start = Instant::now();
        Rc::new(Self { budget: Budget::of_upstream(start), start, free_at: Cell::new(start) })
    }

    /// When a call that comes now is done. `None`: the queue is full.
    fn queue(&self) -> Option<Instant> {
        let now = Instant::now();
        let stalled = self.start + Duration::from_secs(5)..self.start + Duration::from_secs(10);
        let able = if stalled.contains(&now) { stalled.end } else { now };
        let begins = self.free_at.get().max(able);
        (begins - able <= Self::QUEUE).then(|| {
            self.free_at.set(begins + Self::CALL);
            begins + Self::CALL
        })
    }
}

impl Upstream for Server {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let status = match self.queue() {
                Some(done) => {
                    sleep_until(done).await;
                    StatusCode::OK
                }
                None => StatusCode::SERVICE_UNAVAILABLE,
            };
            attempt.finish(Ok(Response::new(status, HeaderMap::new(), ResponseBody::empty())))
        })
    }

    fn budget(&self) -> Option<&Budget> {
        Some(&self.budget)
    }
}

/// 60 calls a second for 60 s, each attempt of which is given a second.
async fn collapse(config: &str) -> Rc<Fleet> {
    let fleet = Fleet::new(Server::new(), [spread_retry(config), timeout(1_000)]);
    fleet.clone().run(3_600, Duration::from_micros(16_667)).await;
    fleet
}

#[tokio::test(start_paused = true)]
async fn a_collapse_ends_within_20_s_with_the_budget_and_never_without() {
    let fleet = collapse("").await;
    assert!(fleet.well(3) > 0.99, "before");
    assert!(fleet.well(8) < 0.1, "during the stall: {}", fleet.well(8));
    assert!((30..59).all(|second| fleet.well(second) > 0.99), "20 s after its end");
    let fleet = collapse("budget = \"none\"").await;
    assert!(fleet.well(3) > 0.99, "before");
    let late: Vec<_> = (30..59).map(|second| fleet.well(second)).collect();
    assert!(late.iter().all(|well| *well < 0.5), "{late:?}");
}

// ===== a herd =====

/// An upstream that turns every first attempt away with `Retry-After: 1`, and counts when the
/// others come, in slices of 10 ms.
#[derive(Default)]
struct Herded {
    arrivals: RefCell<BTreeMap<u128, u32>>,
}

impl Upstream for Herded {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            if attempt.number() == 1 {
                let headers = [("retry-after", "1")];
                return attempt.finish(Ok(response(503, &headers, ResponseBody::empty())));
            }
            let slice = call.elapsed().as_millis() / 10;
            *self.arrivals.borrow_mut().entry(slice).or_default() += 1;
            attempt.finish(Ok(response(200, &[], ResponseBody::empty())))
        })
    }
}

/// The most of a thousand that come within 10 ms.
async fn most_at_once(policy: Arc<dyn Policy>) -> u32 {
    let upstream = Rc::new(Herded::default());
    Fleet::new(upstream.clone(), [policy]).run(1_000, Duration::ZERO).await;
    let arrivals = upstream.arrivals.borrow();
    assert_eq!(arrivals.values().sum::<u32>(), 1_000);
    assert!(arrivals.keys().all(|slice| (100..=120).contains(slice)), "{arrivals:?}");
    arrivals.values().max().copied().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn a_herd_of_a_thousand_that_was_told_the_same_time_is_spread() {
    let most = most_at_once(spread_retry("")).await;
    assert!(most <= 80, "50 on average: {most}");
    assert_eq!(most_at_once(retry("jitter = 0")).await, 1_000, "without jitter, all at once");
}
