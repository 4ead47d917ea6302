//! The cancellation sweep: a run of all policies is dropped at every instant and at every poll.
//! Nothing stays alive, nothing stays held, nothing is counted. A new policy joins on the day it is
//! written.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use fusebox_resilience::testing::read;
use fusebox_resilience::{
    AdaptiveLimiter, AdaptiveThrottler, Budget, Bulkhead, Call, CircuitBreaker, CircuitState,
    Outcome, Peek, Policy, RateLimiter, RequestBody, Shown,
};
use futures_util::future::LocalBoxFuture;
use http::Method;
use tokio::time::{Instant, timeout};

use crate::support::{
    Answer, Fake, Piece, Rig, Several, Surroundings, adaptive, breaker, budget, bulkhead,
    cache_among, fallback_among, hedge_among, ms, rate_limiter, request_body, retry_among, shown,
    throttler, timeout as limit,
};

/// The run: a body that arrives in parts and is waited for, a slow body that is peeked at and
/// refused, a lost connection by which another attempt starts at once, an inner rejection that is
/// waited out, two attempts at once of which both fail, one by being cut off, and last two of which
/// the second wins while the first is peeked at.
const SCRIPT: &str = "503:bodydelay=5:body=busy,close,200:delay=15:bodydelay=9:body=busy,hang,\
                      200:delay=25:bodydelay=20:body=well,200:delay=3:bodydelay=20:body=well";
const LIMIT: u64 = 30;
/// A POST, whose body arrives in parts, and a GET, whose answer is kept.
const METHODS: [Method; 2] = [Method::POST, Method::GET];

struct Sweep {
    rig: Rig<Several>,
    breaker: Arc<CircuitBreaker>,
    /// With a circuit for the endpoint, which is half-open for most of the run.
    each: Arc<CircuitBreaker>,
    throttler: Arc<AdaptiveThrottler>,
    limiter: Arc<RateLimiter>,
    bulkhead: Arc<Bulkhead>,
    adaptive: Arc<AdaptiveLimiter>,
    hedge: Arc<dyn Policy>,
    cache: Arc<dyn Policy>,
    budget: Arc<Budget>,
    call: Call,
    /// What is sent with it.
    body: &'static str,
}

impl Sweep {
    /// Of a POST that passes the cache, or of a GET that fills it.
    fn of(method: Method) -> Self {
        let budget = budget(1.0, 2);
        let busy = Fake::peeking(64, 50, |seen| match seen.outcome {
            Ok(response) => response.body.peeked(64, 0, 4) == b"busy",
            Err(_) => true,
        });
        let answer = Answer { peek: Some(Peek { bytes: 4, timeout: ms(50) }), respond: |_| None };
        let parts = Surroundings::default()
            .predicate("busy", &busy)
            .responder("declines", answer)
            .budget("shared", &budget);
        let each = breaker(
            "scope = \"endpoint\"\nfailure_threshold = 1\ndelay = \"0s\"\n\
             success_threshold = 9\nsuccess_capacity = 9",
        );
        // Half-open from the start, with few trials; two failures of the four open it, and it is
        // waited for.
        let breaker = breaker(
            "failure_threshold = 9\nsuccess_threshold = 3\nsuccess_capacity = 4\ndelay = \"25ms\"",
        );
        let throttler = throttler("");
        let hedge = hedge_among(
            "delay = \"10ms\"\nbudget = \"shared\"\nmethods = [\"*\"]\n\
             handle_if = { component = \"busy\" }",
            &parts,
        );
        // The later attempts wait for their turns.
        let limiter = rate_limiter("limit = 1\nper = \"20ms\"\nmax_wait = \"1s\"");
        let bulkhead = bulkhead("max_concurrency = 2");
        let adaptive = adaptive("initial_limit = 2\nuntil = \"body\"");
        let cache = cache_among("default_ttl = \"1m\"", &parts);
        let rig = Rig::around(
            Several::playing([SCRIPT]),
            [
                cache.clone(),
                fallback_among(
                    "handle_if = { component = \"busy\" }\nrespond = { component = \"declines\" }",
                    &parts,
                ),
                limit(10_000),
                retry_among(
                    "max_retries = 9\nbackoff = { delay = \"4ms\" }\nbudget = \"shared\"\n\
                     methods = [\"*\"]\n\
                     handle_if = { component = \"busy\" }",
                    &parts,
                ),
                hedge.clone(),
                breaker.clone(),
                throttler.clone(),
                limiter.clone(),
                bulkhead.clone(),
                adaptive.clone(),
                each.clone(),
                limit(LIMIT),
            ],
        );
        breaker.force(CircuitState::HalfOpen, &rig.recorder.observers());
        let (sent, body) = if method == Method::POST {
            let pieces =
                [Piece::Data("abc"), Piece::Wait(3), Piece::Data("def"), Piece::Trailer("x", "y")];
            (request_body(100, pieces), "abcdef")
        } else {
            (RequestBody::empty(), "")
        };
        let request = http::Request::builder().method(method).uri("http://service-b/");
        let call = rig.call_of(request, sent);
        Self {
            rig,
            breaker,
            each,
            throttler,
            limiter,
            bulkhead,
            adaptive,
            hedge,
            cache,
            budget,
            call,
            body,
        }
    }

    /// The call with its response body, as the client sees it.
    fn run(&self) -> LocalBoxFuture<'_, (u16, String)> {
        Box::pin(async {
            let outcome: Outcome = self.rig.outcome(&self.call).await;
            let response = outcome.expect("a response in the end");
            let body = read(response.body).await.expect("a whole body");
            (response.status.as_u16(), String::from_utf8_lossy(&body).into_owned())
        })
    }

    /// Trials at the endpoint, and what is counted there.
    fn of_endpoint(&self) -> (u64, Vec<Shown>) {
        let endpoints = self.each.endpoints().expect("it tells them apart");
        let mut shown: Vec<_> = endpoints.into_iter().flat_map(|it| it.shown).collect();
        let trials = shown.extract_if(.., |(field, _)| *field == "trials").map(|(_, it)| it);
        let trials = trials.map(|it| if let Shown::Count(count) = it { count } else { 0 }).sum();
        (trials, shown.into_iter().map(|(_, it)| it).collect())
    }

    /// Places that are taken, and those who wait for their clients.
    fn places(&self) -> (u64, u64) {
        let of_clients = |policy| shown(policy, "waiting_for_clients");
        let waiting = of_clients(&*self.hedge) + of_clients(&*self.limiter);
        let taken = shown(&*self.bulkhead, "in_use") + shown(&*self.adaptive, "in_use");
        (taken, waiting + of_clients(&*self.adaptive))
    }

    /// Calls and extras in flight that the budget counts.
    fn used(&self) -> (usize, usize) {
        let status = self.budget.status(Instant::now());
        (status.calls_in_flight, status.extras_in_flight)
    }

    /// Drops the run, and looks at what is left.
    async fn drop_and_check(&self, run: LocalBoxFuture<'_, (u16, String)>, when: &str) {
        let before = (self.breaker.status(), self.throttler.show());
        let (_, of_endpoint) = self.of_endpoint();
        drop(run);
        assert_eq!(self.of_endpoint(), (0, of_endpoint), "its endpoint: {when}");
        let after = (self.breaker.status(), self.throttler.show());
        assert_eq!(after.1, before.1, "the throttler counted it: {when}");
        let (before, after) = (before.0, after.0);
        assert_eq!(
            self.rig.upstream.endpoints[0].alive(),
            0,
            "an attempt or a body is alive: {when}"
        );
        assert_eq!(after.trials, 0, "a trial's permit is held: {when}");
        assert_eq!(
            (after.state, after.counts),
            (before.state, before.counts),
            "the cancelled attempt counted: {when}"
        );
        assert_eq!(self.places(), (0, 0), "a place is held: {when}");
        assert_eq!(shown(&*self.limiter, "waiting"), 0, "somebody is in the line: {when}");
        assert_eq!(self.used(), (0, 0), "the budget is held: {when}");
        assert_eq!(shown(&*self.cache, "fills"), 0, "a fill is under way: {when}");
        // Nobody is left who could read the rest of the body.
        assert_eq!(shown(&*self.cache, "entries"), 0, "a part is kept: {when}");
        assert!(self.call.body().can_repeat(), "{when}");
        assert_eq!(read(self.call.body().for_attempt()).await.unwrap(), self.body, "{when}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_run_goes_through_every_kind_of_wait() {
    for method in METHODS {
        goes_through_every_kind_of_wait(&Sweep::of(method)).await;
    }
}

async fn goes_through_every_kind_of_wait(sweep: &Sweep) {
    assert_eq!(sweep.run().await, (200, "well".to_owned()));
    let seen: Vec<_> =
        sweep.rig.events().into_iter().map(|(_, kind)| format!("{kind:?}")).collect();
    for part in [
        "Scheduled",
        "Exceeded",
        "to: HalfOpen",
        "from: HalfOpen, to: Open",
        "Rejected",
        "Launched",
        "Won",
        "Cancelled",
    ] {
        assert!(seen.iter().any(|event| event.contains(part)), "{part} in {seen:#?}");
    }
    let during: Vec<_> = sweep.rig.upstream.endpoints[0]
        .arrivals()
        .iter()
        .map(|arrival| arrival.body.clone())
        .collect();
    assert_eq!(during, [sweep.body; 6]);
    assert_eq!((sweep.used(), sweep.places()), ((0, 0), (0, 0)));
    let is_kept = sweep.call.head().method == Method::GET;
    let left = ["fills", "entries"].map(|name| shown(&*sweep.cache, name));
    assert_eq!(left, [0, u64::from(is_kept)]);
}

#[tokio::test(start_paused = true)]
async fn dropped_at_any_millisecond_nothing_stays_alive_held_or_counted() {
    for method in METHODS {
        dropped_at_any_millisecond(&method).await;
    }
}

async fn dropped_at_any_millisecond(method: &Method) {
    let whole = Sweep::of(method.clone());
    whole.run().await;
    let length = whole.rig.now();
    assert!(length > 100, "a run of {length} ms is too short to mean anything");
    let (mut held, mut tried, mut taken, mut filled) = (0, 0, [0, 0, 0], 0);
    for instant in 0..length {
        let sweep = Sweep::of(method.clone());
        let mut run = sweep.run();
        assert!(
            timeout(ms(instant), &mut run).await.is_err(),
            "the run is over at {instant} already"
        );
        held += sweep.breaker.status().trials + sweep.used().1;
        tried += sweep.of_endpoint().0;
        let (in_use, waiting) = sweep.places();
        let in_line = shown(&*sweep.limiter, "waiting");
        taken = [taken[0] + in_use, taken[1] + waiting, taken[2] + in_line];
        filled += shown(&*sweep.cache, "fills");
        sweep.drop_and_check(run, &format!("{method} at {instant} ms")).await;
    }
    assert!(held as u64 > length, "there was little to give back");
    assert!(tried > length / 3, "{tried} trials of the endpoint in {length} ms");
    let is_get = *method == Method::GET;
    assert!(taken[0] > length / 3 && taken[2] > 0, "{taken:?} in {length} ms");
    assert_eq!((taken[1] > 0, filled > length / 2), (!is_get, is_get), "{taken:?} {filled}");
}

/// Polls `future` at most so many times; false: it is not over then.
async fn polls<F: Future + Unpin>(future: &mut F, most: usize) -> bool {
    let mut polls = 0;
    poll_fn(|cx| {
        if polls == most {
            return Poll::Ready(false);
        }
        polls += 1;
        Pin::new(&mut *future).poll(cx).map(|_| true)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn dropped_after_any_number_of_polls_nothing_stays_alive_held_or_counted() {
    for method in METHODS {
        let mut most = 0;
        loop {
            let sweep = Sweep::of(method.clone());
            let mut run = sweep.run();
            if polls(&mut run, most).await {
                break;
            }
            sweep.drop_and_check(run, &format!("{method} after {most} polls")).await;
            most += 1;
        }
        assert!(most > 15, "a run of {most} polls is too short to mean anything");
    }
}
