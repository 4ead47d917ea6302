//! Whose fault it is: what the client takes is not the upstream's time, and what nobody asked the
//! upstream for is not its failure.

use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::{
    Attempt, Behind, Call, CircuitBreaker, CircuitState, ErrorKind, Observers, Outcome, Policy,
    RequestBody, ResponseBody, Scope, Shown, Upstream, WindowCounts,
};
use futures_util::FutureExt;
use futures_util::future::{LocalBoxFuture, join_all};
use http_body_util::BodyExt;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};

use crate::support::{
    Answers, Piece, Rig, Surroundings, breaker, budget, bulkhead, fallback, ms, rate_limiter,
    request_body, response, retry, retry_among, throttler, timeout,
};

const SENSITIVE: &str = "failure_threshold = 1";

fn counts(successes: usize, failures: usize) -> WindowCounts {
    WindowCounts { successes, failures }
}

/// Four bytes in 270 ms.
fn trickle() -> RequestBody {
    let [data, wait] = [Piece::Data("a"), Piece::Wait(90)];
    request_body(100, [data, wait, data, wait, data, wait, data])
}

/// A client that stops within its body.
fn stuck() -> RequestBody {
    request_body(100, [Piece::Data("a"), Piece::Hang])
}

fn stuck_call(rig: &Rig) -> Call {
    rig.call_of(http::Request::post("http://service-b/"), stuck())
}

fn kind(outcome: Outcome) -> Result<u16, ErrorKind> {
    outcome.map(|response| response.status.as_u16()).map_err(|error| error.kind())
}

// ===== limits stand still while the client is waited for =====

#[tokio::test(start_paused = true)]
async fn an_upload_longer_than_the_limit_is_answered_and_the_limit_stays_exact() {
    for (delay, expected) in
        [(0, (271, Ok(200))), (98, (369, Ok(200))), (100, (370, Err(ErrorKind::Timeout)))]
    {
        let rig = Rig::new(&format!("200:delay={delay}"), [timeout(100)]);
        assert_eq!(rig.request("POST", trickle()).await, expected, "{delay}");
    }
}

/// Takes so many milliseconds for each piece of the request.
struct Reads(u64);

impl Upstream for Reads {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let mut body = call.body().for_attempt();
            while body.frame().await.is_some() {
                sleep(ms(self.0)).await;
            }
            attempt.finish(Ok(response(200, &[], ResponseBody::empty())))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_upstream_took_before_and_after_the_client_was_waited_for_counts() {
    let body = || request_body(100, [Piece::Data("a"), Piece::Wait(1000), Piece::Data("b")]);
    for (limit, expected) in [(121, (1120, Ok(200))), (119, (1119, Err(ErrorKind::Timeout)))] {
        let rig = Rig::around(Reads(60), [timeout(limit)]);
        assert_eq!(rig.request("POST", body()).await, expected, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_around_retries_does_not_count_what_earlier_attempts_waited() {
    let rig = Rig::new("503,hang", [timeout(500), retry("methods = [\"*\"]\ndelay = \"100ms\"")]);
    // 270 ms of waiting, then 1 + 100 + 399 ms.
    assert_eq!(rig.request("POST", trickle()).await, (770, Err(ErrorKind::Timeout)));
}

// ===== a slow client is not a sick upstream =====

#[tokio::test(start_paused = true)]
async fn clients_that_trickle_leave_a_breaker_with_limits_closed() {
    let breaker = breaker("failure_threshold = 1\nslow_call = \"100ms\"");
    let rig = Rig::new("200", [breaker.clone(), timeout(100)]);
    for _ in 0..5 {
        let _ended = rig.request("POST", trickle()).await;
    }
    assert_eq!(breaker.status().state, CircuitState::Closed);
    assert_eq!(breaker.status().counts.failures, 0);
}

#[tokio::test(start_paused = true)]
async fn ten_clients_that_stop_within_their_bodies_do_not_keep_it_half_open() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"10ms\"");
    let rig = Rig::new("close", [breaker.clone()]);
    rig.run().await;
    rig.until(20).await;
    for number in 0..10 {
        let (first, second) = (stuck_call(&rig), stuck_call(&rig));
        let trial = rig.outcome(&first);
        tokio::pin!(trial);
        assert!(trial.as_mut().now_or_never().is_none(), "the trial {number}");
        assert_eq!(kind(rig.outcome(&second).await), Err(ErrorKind::CircuitOpen), "it is taken");
        assert!(tokio::time::timeout(ms(1000), trial.as_mut()).await.is_err());
        assert_eq!(breaker.status().trials, 0, "its place is free after 1 s");
    }
    assert_eq!(rig.get().await.1, Ok(200));
    assert_eq!(breaker.status().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_missed_is_kept_for_calls_whose_clients_owe_nothing() {
    let config = "failure_threshold = 1\nsuccess_threshold = 2\ndelay = \"10ms\"";
    let breaker = breaker(config);
    let rig = Rig::new("close,200", [breaker.clone()]);
    rig.run().await;
    rig.until(20).await;
    let both = [stuck_call(&rig), stuck_call(&rig)];
    let slow = join_all(both.iter().map(|call| rig.outcome(call)));
    // They leave before they would have to give their places back, and the next are there at once.
    assert!(tokio::time::timeout(ms(900), slow).await.is_err());
    let again = stuck_call(&rig);
    {
        let both = [stuck_call(&rig), stuck_call(&rig)];
        let slow = join_all(both.iter().map(|call| rig.outcome(call)));
        tokio::pin!(slow);
        assert!(slow.as_mut().now_or_never().is_none(), "nobody else has come");
        assert_eq!(rig.get().await.1, Err(ErrorKind::CircuitOpen));
        assert!(tokio::time::timeout(ms(900), slow).await.is_err());
    }
    assert_eq!(breaker.status().trials, 0);
    assert_eq!(kind(rig.outcome(&again).await), Err(ErrorKind::CircuitOpen));
    // A body that is there by now is owed no more.
    assert_eq!(rig.request("POST", request_body(100, [Piece::Data("a")])).await.1, Ok(200));
    // 10 s after the one that found no place.
    sleep(ms(9_098)).await;
    assert_eq!(kind(rig.outcome(&stuck_call(&rig)).await), Err(ErrorKind::CircuitOpen));
    sleep(ms(1)).await;
    let last = stuck_call(&rig);
    assert!(rig.outcome(&last).now_or_never().is_none());
    assert_eq!(rig.get().await.1, Ok(200));
    assert_eq!(breaker.status().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_waited_for_its_client_is_neutral_from_then_on() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"10ms\"");
    let rig = Rig::new("close,503", [breaker.clone()]);
    rig.run().await;
    rig.until(20).await;
    let body = request_body(100, [Piece::Data("a"), Piece::Wait(1000), Piece::Data("b")]);
    assert_eq!(rig.request("POST", body).await, (1021, Ok(503)));
    assert_eq!(breaker.status().state, CircuitState::HalfOpen);
    assert_eq!(breaker.status().counts, counts(0, 0));
}

/// Closes the connection once the request has not ended for this long.
struct Impatient(Duration);

impl Upstream for Impatient {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let body = call.body().for_attempt().collect();
            let read = tokio::time::timeout(self.0, body).await;
            attempt.finish(match read {
                Ok(_) => Ok(response(200, &[], ResponseBody::empty())),
                Err(_) => Err(ErrorKind::ConnectionTerminated.into()),
            })
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_lets_a_slow_client_go_has_not_failed() {
    for (patience, failures) in [(999, 1), (1000, 0), (5000, 0)] {
        let breaker = breaker("failure_threshold = 9");
        let rig = Rig::around(Impatient(ms(patience)), [breaker.clone()]);
        let ended = rig.request("POST", stuck()).await;
        assert_eq!(ended, (patience, Err(ErrorKind::ConnectionTerminated)));
        assert_eq!(breaker.status().counts, counts(0, failures), "{patience}");
    }
}

proptest! {
    /// Any pause of the client at any byte may turn a trial neutral, and never anything into a
    /// failure.
    #[test]
    fn no_pause_of_the_client_makes_a_failure(
        pauses in prop::collection::vec(0..3000_u64, 4),
        limit in 2..200_u64,
        is_trial in any::<bool>(),
        is_outside in any::<bool>(),
    ) {
        let [a, b, c, d] = pauses[..] else { unreachable!() };
        let data = Piece::Data("x");
        let body = request_body(
            100,
            [Piece::Wait(a), data, Piece::Wait(b), data, Piece::Wait(c), data, Piece::Wait(d)],
        );
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let breaker = breaker(&format!(
                "failure_threshold = 1\ndelay = \"10ms\"\nslow_call = \"{limit}ms\""
            ));
            let rig = if is_outside {
                Rig::new("", [timeout(limit) as Arc<dyn Policy>, breaker.clone()])
            } else {
                Rig::new("", [breaker.clone() as Arc<dyn Policy>, timeout(limit)])
            };
            if is_trial {
                breaker.force(CircuitState::Open, &Observers::default());
                rig.until(20).await;
            }
            let start = rig.now();
            let (at, ended) = rig.request("POST", body).await;
            let paused = a + b + c + d;
            let status = breaker.status();
            assert_eq!((at - start, ended), (paused + 1, Ok(200)));
            assert_eq!(status.counts.failures, 0);
            let expected = if is_trial && paused >= 1000 {
                CircuitState::HalfOpen
            } else {
                CircuitState::Closed
            };
            assert_eq!(status.state, expected);
        });
    }
}

// ===== cut =====

/// The state of a breaker with `slow_call = "50ms"`, after one call that is cut off at 80 ms.
async fn cut(script: &str, body: RequestBody, inner: Arc<dyn Policy>) -> CircuitBreaker {
    let breaker = breaker("failure_threshold = 1\nslow_call = \"50ms\"");
    let rig = Rig::new(script, [breaker.clone() as Arc<dyn Policy>, inner]);
    let call = rig.call_of(http::Request::post("http://service-b/"), body);
    let cut = tokio::time::timeout(ms(80), rig.outcome(&call)).await;
    assert!(cut.is_err(), "it was answered before");
    drop(rig);
    Arc::into_inner(breaker).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_cut_off_is_neutral_unless_it_was_slow_already() {
    let calm = || retry("max_retries = 0");
    let hung = cut("hang", RequestBody::empty(), calm()).await;
    assert_eq!(hung.status().state, CircuitState::Open, "hung");
    let waiting = cut("200", stuck(), calm()).await;
    assert_eq!(waiting.status().counts, counts(0, 0), "the client was waited for");
    let between =
        cut("503:delay=60", RequestBody::empty(), retry("methods = [\"*\"]\ndelay = \"100ms\""));
    assert_eq!(between.await.status().counts, counts(0, 0), "within the wait for a retry");
    let fresh =
        cut("503:delay=40,hang", RequestBody::empty(), retry("methods = [\"*\"]\ndelay = \"1ms\""));
    assert_eq!(fresh.await.status().counts, counts(0, 0), "the one under way is not slow");
}

#[tokio::test(start_paused = true)]
async fn a_hung_upstream_under_an_outer_timeout_opens_the_breaker_by_slow_call_only() {
    for (slow_call, failures) in
        [("slow_call = \"50ms\"", 3), ("", 0), ("slow_call = \"100ms\"", 0)]
    {
        let breaker = breaker(&format!("failure_threshold = 9\n{slow_call}"));
        let rig = Rig::new("hang*3", [timeout(100), breaker.clone()]);
        for _ in 0..3 {
            rig.run().await;
        }
        assert_eq!(breaker.status().counts, counts(0, failures), "{slow_call}");
    }
}

#[tokio::test(start_paused = true)]
async fn slow_call_counts_the_attempt_and_not_our_own_waits() {
    for (script, failures) in [("503,200", 0), ("503,200:delay=60", 1), ("503:delay=60,200", 0)] {
        let breaker = breaker("failure_threshold = 9\nslow_call = \"50ms\"");
        let rig = Rig::new(script, [breaker.clone(), retry("delay = \"100ms\"")]);
        rig.run().await;
        assert_eq!(breaker.status().counts.failures, failures, "{script}");
    }
}

// ===== asked, or not asked =====

#[tokio::test(start_paused = true)]
async fn a_limit_that_passed_before_anybody_was_asked_is_neutral() {
    let (outer, inner) = (breaker("failure_threshold = 9"), breaker("delay = \"2s\""));
    inner.force(CircuitState::Open, &Observers::default());
    let waits = retry("handle_if = { failure = [\"circuit-open\"] }\nmax_retry_after = \"9s\"");
    let rig =
        Rig::new("", [outer.clone() as Arc<dyn Policy>, timeout(3000), timeout(100), waits, inner]);
    let (_, ended) = rig.get().await;
    assert!(matches!(ended, Err(ErrorKind::Timeout | ErrorKind::CircuitOpen)), "{ended:?}");
    assert_eq!(rig.attempts(), [0_u64; 0]);
    assert_eq!(outer.status().counts, counts(0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_after_attempts_says_what_they_came_to() {
    let (outer, inner) = (breaker(SENSITIVE), breaker("failure_threshold = 1\ndelay = \"60s\""));
    let rig = Rig::new("503", [outer.clone(), retry("delay = \"10ms\""), inner]);
    let error = rig.outcome(&rig.call()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CircuitOpen);
    assert_eq!(error.behind(), Some(Behind::Response(http::StatusCode::SERVICE_UNAVAILABLE)));
    assert_eq!(outer.status().state, CircuitState::Open);
    // Nobody is behind the next one.
    let other = breaker(SENSITIVE);
    let pipeline = [other.clone() as Arc<dyn Policy>].into_iter();
    let pipeline: Vec<_> = pipeline.chain(rig.pipeline.policies()[1..].iter().cloned()).collect();
    let call = rig.call();
    let again = fusebox_resilience::Pipeline::new(pipeline);
    let error = again.execute(&call, &Scope::new(&rig.upstream)).await.unwrap_err();
    assert_eq!((error.kind(), error.behind()), (ErrorKind::CircuitOpen, None));
    assert_eq!(other.status().counts, counts(0, 0));
}

/// What a breaker or a throttler outside records.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Recorded {
    Success,
    Failure,
    Neutral,
}

const WRAPPERS: [&str; 9] = [
    "nothing",
    "timeout",
    "retry",
    "gives up",
    "budget",
    "fallback",
    "bulkhead",
    "rate limiter",
    "open breaker",
];
const CLIENTS: [&str; 3] = ["quick", "slow", "left"];

fn wrapper(name: &str) -> Arc<dyn Policy> {
    let again = "methods = [\"*\"]\nmax_retries = 1\ndelay = \"5ms\"";
    match name {
        "nothing" => retry("max_retries = 0"),
        "timeout" => timeout(50),
        "retry" => retry(again),
        "gives up" => retry(&format!("{again}\nreturn_last_failure = false")),
        "budget" => {
            let parts = Surroundings::default().budget("spent", &budget(0.1, 0));
            let config = format!("{again}\nreturn_last_failure = false\nbudget = \"spent\"");
            retry_among(&config, &parts)
        }
        "fallback" => fallback("respond = { status = 200 }"),
        "bulkhead" => bulkhead("max_concurrency = 1"),
        "rate limiter" => rate_limiter("limit = 1\nper = \"1s\""),
        _ => {
            let open = breaker("delay = \"60s\"");
            open.force(CircuitState::Open, &Observers::default());
            open
        }
    }
}

fn expected(inner: Result<u16, ErrorKind>, wrapper: &str, client: &str) -> Recorded {
    use Recorded::{Failure, Neutral, Success};
    if client == "left" || wrapper == "open breaker" {
        return Neutral;
    }
    match (inner, wrapper) {
        (Err(ErrorKind::RequestIncomplete), _) => Neutral,
        (Ok(200 | 404), _) => Success,
        (Ok(429), "budget") => Neutral,
        (Ok(429), _) => Success,
        (_, "fallback") => Success,
        (Err(kind), _) if kind.is_own_fault() || kind.is_rejection() => Neutral,
        _ => Failure,
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_of_what_a_breaker_and_a_throttler_outside_record() {
    let inner = [
        Ok(200),
        Ok(404),
        Ok(429),
        Ok(503),
        Err(ErrorKind::ConnectionTerminated),
        Err(ErrorKind::ConnectionRefused),
        Err(ErrorKind::Exhausted),
        Err(ErrorKind::Internal),
        Err(ErrorKind::BulkheadFull),
        Err(ErrorKind::RateLimited),
        Err(ErrorKind::RequestIncomplete),
    ];
    let rows = inner.into_iter().flat_map(|inner| {
        let of_wrapper = move |name| CLIENTS.into_iter().map(move |client| (inner, name, client));
        WRAPPERS.into_iter().flat_map(of_wrapper)
    });
    for (inner, name, client) in rows {
        let breaker = breaker("failure_threshold = 9");
        let upstream = Answers(move |_| Ok(response(inner?, &[], ResponseBody::empty())));
        let throttler = throttler("");
        let rig = Rig::around(
            upstream,
            [throttler.clone(), breaker.clone() as Arc<dyn Policy>, wrapper(name)],
        );
        let body = match client {
            "quick" => RequestBody::empty(),
            "slow" => trickle(),
            _ => stuck(),
        };
        let call = rig.call_of(http::Request::post("http://service-b/"), body);
        let _ended = tokio::time::timeout(ms(10_000), rig.outcome(&call)).await;
        let recorded = match breaker.status().counts {
            WindowCounts { successes: 0, failures: 0 } => Recorded::Neutral,
            WindowCounts { failures: 0, .. } => Recorded::Success,
            WindowCounts { .. } => Recorded::Failure,
        };
        let row = format!("{inner:?} in {name} for a client that is {client}");
        let expected = expected(inner, name, client);
        assert_eq!(recorded, expected, "{row}");
        let throttled = match *throttler.show() {
            [_, (_, Shown::Count(0)), _] => Recorded::Neutral,
            [_, _, (_, Shown::Count(0))] => Recorded::Success,
            _ => Recorded::Failure,
        };
        // That too many come is what it is there for.
        let is_busy = inner == Ok(429) && client != "left";
        match name {
            "fallback" | "open breaker" => assert_eq!(throttled, expected, "{row}"),
            _ if is_busy => assert_eq!(throttled, Recorded::Failure, "{row}"),
            _ => assert_eq!(throttled, expected, "{row}"),
        }
    }
}

/// Answers the first attempt with a 503 before it has read anything, and others once it has read
/// all of the request.
struct Early;

impl Upstream for Early {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            if attempt.number() == 1 {
                return attempt.finish(Ok(response(503, &[], ResponseBody::empty())));
            }
            let read = call.body().for_attempt().collect().await;
            attempt.finish(read.map(|_| response(200, &[], ResponseBody::empty())))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fails_within_a_retry_does_not_make_a_failure_of_what_came_before() {
    let again = "methods = [\"*\"]\ndelay = \"5ms\"";
    for kind in
        [ErrorKind::RequestIncomplete, ErrorKind::RequestInvalid, ErrorKind::RequestTooLarge]
    {
        let breaker = breaker(SENSITIVE);
        let rig = Rig::around(Early, [breaker.clone(), retry(again)]);
        let body = request_body(100, [Piece::Data("a"), Piece::Wait(50), Piece::Break(kind)]);
        assert_eq!(rig.request("POST", body).await.1, Err(kind));
        assert_eq!(breaker.status().counts, counts(0, 0), "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_waits_for_its_client_gives_its_place_in_the_budget_back() {
    let budget = budget(0.1, 1);
    let parts = Surroundings::default().budget("shared", &budget);
    let again = "methods = [\"*\"]\ndelay = \"5ms\"\nbudget = \"shared\"";
    let rig = Rig::around(Early, [retry_among(again, &parts)]);
    let call = rig.call_of(http::Request::post("http://service-b/"), stuck());
    let waits = rig.outcome(&call);
    tokio::pin!(waits);
    assert!(tokio::time::timeout(ms(900), waits.as_mut()).await.is_err());
    assert_eq!(rig.get().await.1, Ok(503), "its place is taken");
    assert!(tokio::time::timeout(ms(200), waits.as_mut()).await.is_err());
    assert_eq!(budget.status(Instant::now()).extras_in_flight, 0, "it is free after 1 s");
    assert_eq!(rig.get().await.1, Ok(200));
    assert_eq!(budget.status(Instant::now()).extras_begun, 2);
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_of_which_some_are_slow_clients_are_counted_by_the_others() {
    let breaker = breaker("failure_threshold = 3\nfailure_capacity = 20");
    let rig = Rig::around(
        Answers(|_| Ok(response(200, &[], ResponseBody::empty()))),
        [breaker.clone() as Arc<dyn Policy>, timeout(50)],
    );
    let calls: Vec<_> = (0..20)
        .map(|number| {
            let body = if number % 2 == 0 { trickle() } else { RequestBody::empty() };
            rig.call_of(http::Request::post("http://service-b/"), body)
        })
        .collect();
    join_all(calls.iter().map(|call| rig.outcome(call))).await;
    assert_eq!(breaker.status().counts, counts(20, 0));
}

#[tokio::test(start_paused = true)]
async fn own_faults_are_taken_only_where_they_are_written_out_and_breakers_ask_nobody_about_them() {
    let upstream = || Answers(|_| Err(ErrorKind::Exhausted.into()));
    let attempts = async |config: &str| {
        let rig = Rig::around(upstream(), [retry(&format!("delay = \"5ms\"\n{config}"))]);
        let call = rig.call();
        drop(rig.outcome(&call).await);
        call.attempts()
    };
    assert_eq!(attempts("").await, 1);
    assert_eq!(attempts("handle_if = { failure = [\"other\"] }").await, 3);
    let lost_before = Answers(|attempt| match attempt {
        1 => Err(ErrorKind::ConnectionTerminated.into()),
        _ => Err(ErrorKind::Exhausted.into()),
    });
    let rig = Rig::around(lost_before, [retry("delay = \"5ms\""), retry("delay = \"5ms\"")]);
    let call = rig.call();
    drop(rig.outcome(&call).await);
    assert_eq!(call.attempts(), 2, "whatever came before it");
    let breaker = breaker("failure_threshold = 1\nhandle_if = { failure = [\"any\"] }");
    Rig::around(upstream(), [breaker.clone()]).run().await;
    assert_eq!(breaker.status().counts, counts(0, 0));
}
