//! Hedge: when the next attempt starts, who wins, and what becomes of the others.

use std::time::Duration;

use fusebox_resilience::testing::{Arrived, read};
use fusebox_resilience::{
    AttemptOutcome, Call, CircuitState, ErrorKind, HedgeConfig, HedgeEvent, NoHedge, PolicyConfig,
    RequestBody, ResponseBody, Role, Shown, WindowCounts,
};
use proptest::prelude::*;
use tokio::time::Instant;

use crate::support::{
    Answers, Fake, Piece, Rig, Surroundings, breaker, budget, hedge, hedge_among, ms, problems,
    request_body, response, retry, shown, timeout,
};

fn launched(hedge: u32, asked: u64) -> HedgeEvent {
    HedgeEvent::Launched { hedge, asked: ms(asked) }
}

fn skipped(reason: NoHedge) -> HedgeEvent {
    HedgeEvent::Skipped { reason }
}

/// What the hedge said, with times.
fn said<U: fusebox_resilience::Upstream>(rig: &Rig<U>) -> Vec<(u64, HedgeEvent)> {
    let events = rig.events().into_iter();
    events
        .filter_map(|(at, kind)| match kind {
            fusebox_resilience::EventKind::Hedge(event) => Some((at, event)),
            _ => None,
        })
        .collect()
}

fn ends(rig: &Rig) -> Vec<(u64, Arrived)> {
    let arrivals = rig.upstream.arrivals().into_iter();
    arrivals.map(|it| (it.ended.map_or(u64::MAX, |at| at.as_millis() as u64), it.outcome)).collect()
}

fn counts(successes: usize, failures: usize) -> WindowCounts {
    WindowCounts { successes, failures }
}

// ===== when =====

#[tokio::test(start_paused = true)]
async fn a_second_attempt_starts_beside_a_slow_one_and_wins() {
    let rig = Rig::new("200:delay=300:body=slow,200:body=fast", [hedge("delay = \"60ms\"")]);
    let call = rig.call();
    let response = rig.outcome(&call).await.expect("a response");
    assert_eq!((rig.now(), response.attempt()), (61, 2));
    assert_eq!(read(response.body).await.unwrap(), "fast");
    assert_eq!(rig.attempts(), [0, 60]);
    assert_eq!(ends(&rig), [(61, Arrived::Canceled), (61, Arrived::Responded)]);
    assert_eq!(
        said(&rig),
        [
            (60, launched(1, 60)),
            (61, HedgeEvent::Cancelled { hedge: 0 }),
            (61, HedgeEvent::Won { hedge: 1 }),
        ]
    );
    let history: Vec<_> = call
        .history()
        .into_iter()
        .map(|past| (past.provenance.attempt, past.provenance.role, past.outcome))
        .collect();
    assert_eq!(
        history,
        [
            (2, Role::Hedge(1), AttemptOutcome::Response(200)),
            (1, Role::First, AttemptOutcome::Cancelled),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_is_fast_enough_is_alone() {
    let rig = Rig::new("200:delay=98", [hedge("delay = \"100ms\"")]);
    assert_eq!(rig.get().await, (99, Ok(200)));
    assert_eq!((rig.attempts(), said(&rig)), (vec![0], vec![]));
}

#[tokio::test(start_paused = true)]
async fn the_first_one_may_still_win() {
    let rig = Rig::new("200:delay=80,hang", [hedge("delay = \"50ms\"")]);
    assert_eq!(rig.get().await, (81, Ok(200)));
    assert_eq!(ends(&rig), [(81, Arrived::Responded), (81, Arrived::Canceled)]);
    assert_eq!(said(&rig), [(50, launched(1, 50)), (81, HedgeEvent::Cancelled { hedge: 1 })]);
}

#[tokio::test(start_paused = true)]
async fn each_further_one_starts_a_delay_after_the_one_before() {
    let rig = Rig::new("hang*3,200", [hedge("delay = \"40ms\"\nmax_hedges = 3")]);
    assert_eq!(rig.get().await, (121, Ok(200)));
    assert_eq!(rig.attempts(), [0, 40, 80, 120]);
    assert_eq!(rig.upstream.alive(), 0);
    let rig = Rig::new("hang*9", [timeout(500), hedge("delay = \"40ms\"\nmax_hedges = 2")]);
    assert_eq!(rig.get().await, (500, Err(ErrorKind::Timeout)));
    assert_eq!(rig.attempts(), [0, 40, 80], "no more than that");
}

#[tokio::test(start_paused = true)]
async fn when_all_have_failed_the_next_starts_at_once() {
    let rig = Rig::new("503,close,200", [hedge("delay = \"100ms\"\nmax_hedges = 2")]);
    assert_eq!(rig.get().await, (3, Ok(200)));
    assert_eq!(rig.attempts(), [0, 1, 2]);
    assert_eq!(
        said(&rig),
        [(1, launched(1, 1)), (2, launched(2, 1)), (3, HedgeEvent::Won { hedge: 2 })]
    );
    // One of two has failed: the next keeps its time.
    let rig = Rig::new("200:delay=200,503,200", [hedge("delay = \"50ms\"\nmax_hedges = 2")]);
    assert_eq!(rig.get().await, (101, Ok(200)));
    assert_eq!(rig.attempts(), [0, 50, 100]);
}

#[tokio::test(start_paused = true)]
async fn time_that_is_ours_does_not_count() {
    let rig = Rig::new("503,hang,200", [hedge("delay = \"50ms\""), retry("delay = \"100ms\"")]);
    assert_eq!(rig.get().await, (152, Ok(200)));
    assert_eq!(rig.attempts(), [0, 101, 151], "not during the retry's delay");
    assert_eq!(said(&rig)[0], (151, launched(1, 50)));
}

#[tokio::test(start_paused = true)]
async fn each_has_its_own_retries_and_its_own_limit() {
    let rig = Rig::new(
        "hang,503,200",
        [hedge("delay = \"30ms\""), retry("delay = \"10ms\""), timeout(100)],
    );
    assert_eq!(rig.get().await, (42, Ok(200)));
    assert_eq!(rig.attempts(), [0, 30, 41]);
    // The limit of the first is about the first attempt, though a second has begun.
    let rig = Rig::new("hang,hang", [hedge("delay = \"30ms\""), timeout(100)]);
    let call = rig.call();
    let error = rig.outcome(&call).await.expect_err("both fail");
    assert_eq!((rig.now(), error.kind(), error.attempt()), (130, ErrorKind::Timeout, 2));
    let exceeded: Vec<_> = rig
        .recorder
        .recorded()
        .into_iter()
        .filter(|it| it.policy.as_deref() == Some("timeout"))
        .collect();
    assert_eq!(exceeded.len(), 2);
    let ended: Vec<_> = call.history().iter().map(|past| past.provenance.attempt).collect();
    assert_eq!(ended, [1, 2]);
}

// ===== who wins =====

#[tokio::test(start_paused = true)]
async fn a_fast_failure_does_not_win_unless_cancel_if_takes_it() {
    let rig = Rig::new("200:delay=200:body=good,503", [hedge("delay = \"50ms\"")]);
    assert_eq!(rig.get().await, (201, Ok(200)));
    assert_eq!(rig.attempts(), [0, 50]);
    let taken = "delay = \"50ms\"\ncancel_if = { status = [\"503\"] }";
    let rig = Rig::new("200:delay=200:body=good,503", [hedge(taken)]);
    assert_eq!(rig.get().await, (51, Ok(503)));
    let rig = Rig::new("503", [hedge(taken)]);
    assert_eq!(rig.get().await, (1, Ok(503)), "the first one too");
    assert_eq!(rig.attempts(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_component_may_look_at_bodies_while_others_run() {
    let good = Fake::peeking(4, 100, |seen| match seen.outcome {
        Ok(response) => response.body.peeked(4, 0, 4) != b"good",
        Err(_) => true,
    });
    let parts = Surroundings::default().predicate("good", &good);
    let config = "delay = \"20ms\"\nhandle_if = { component = \"good\" }";
    let script = "200:delay=30:bodydelay=60:body=good,200:delay=15:bodydelay=30:body=well";
    let rig = Rig::new(script, [hedge_among(config, &parts)]);
    assert_eq!(rig.get().await, (91, Ok(200)));
    assert_eq!(good.seen(), ["200 \"well\" of attempt 2", "200 \"good\" of attempt 1"]);
    assert_eq!(rig.upstream.alive(), 0);
}

/// Nothing wins of these, the first of which ends after 1 ms and the second after `second`.
async fn best_of(first: fn() -> Outcome, second: fn() -> Outcome) -> (Result<u16, ErrorKind>, u32) {
    let rig = Rig::around(
        Answers(move |number| if number == 1 { first() } else { second() }),
        [hedge("delay = \"50ms\"\nhandle_if = { failure = [\"any\"] }")],
    );
    let call = rig.call();
    let outcome = rig.outcome(&call).await;
    let attempt = match &outcome {
        Ok(response) => response.attempt(),
        Err(error) => error.attempt(),
    };
    (outcome.map(|it| it.status.as_u16()).map_err(|it| it.kind()), attempt)
}

type Outcome = fusebox_resilience::Outcome;

#[tokio::test(start_paused = true)]
async fn when_none_wins_the_best_goes_out() {
    let busy = || Ok(response(503, &[], ResponseBody::empty()));
    let ill = || Ok(response(500, &[], ResponseBody::empty()));
    let lost = || Err(ErrorKind::ConnectionTerminated.into());
    let refused = || Err(ErrorKind::ConnectionRefused.into());
    let open = || Err(ErrorKind::CircuitOpen.into());
    assert_eq!(best_of(busy, lost).await, (Ok(503), 1), "a response before an error");
    assert_eq!(best_of(lost, busy).await, (Ok(503), 2));
    assert_eq!(best_of(busy, ill).await, (Ok(500), 2), "the last of two of a kind");
    assert_eq!(best_of(lost, refused).await, (Err(ErrorKind::ConnectionRefused), 2));
    let before = Err(ErrorKind::ConnectionTerminated);
    assert_eq!(best_of(lost, open).await, (before, 1), "the upstream's before ours");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_starts_no_other_and_never_wins() {
    let config = "delay = \"50ms\"\ncancel_if = { failure = [\"circuit-open\", \"other\"] }";
    for kind in [ErrorKind::CircuitOpen, ErrorKind::BulkheadFull, ErrorKind::Exhausted] {
        let rig = Rig::around(Answers(move |_| Err(kind.into())), [hedge(config)]);
        assert_eq!(rig.get().await, (1, Err(kind)), "it is alone");
        assert_eq!(said(&rig), []);
    }
    // Half-open with one trial, which the first attempt is.
    let half_open = breaker("failure_threshold = 1\nsuccess_threshold = 1");
    let rig = Rig::new("200:delay=80", [hedge(config), half_open.clone()]);
    half_open.force(CircuitState::HalfOpen, &rig.recorder.observers());
    assert_eq!(rig.get().await, (81, Ok(200)));
    assert_eq!(rig.attempts(), [0]);
    assert_eq!(said(&rig), [(50, launched(1, 50))]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_asks_for_rest_gets_no_further_attempt() {
    for headers in [("retry-after", "1"), ("grpc-retry-pushback-ms", "-1")] {
        let rig = Rig::around(
            Answers(move |_| Ok(response(503, &[headers], ResponseBody::empty()))),
            [hedge("delay = \"50ms\"")],
        );
        assert_eq!(rig.get().await, (1, Ok(503)));
        assert_eq!(said(&rig), [(1, skipped(NoHedge::RetryAfter))]);
    }
    // Those under way go on.
    let rig = Rig::new("200:delay=200,503:ra=1", [hedge("delay = \"50ms\"\nmax_hedges = 5")]);
    assert_eq!(rig.get().await, (201, Ok(200)));
    assert_eq!(said(&rig)[1..], [(100, skipped(NoHedge::RetryAfter))]);
    assert_eq!(rig.attempts(), [0, 50]);
}

// ===== what is hedged =====

#[tokio::test(start_paused = true)]
async fn what_must_not_come_twice_is_not_hedged() {
    let rig = Rig::new("200:delay=99", [hedge("delay = \"50ms\"")]);
    assert_eq!(rig.request("POST", RequestBody::empty()).await, (100, Ok(200)));
    assert_eq!(said(&rig), [(50, skipped(NoHedge::Method))]);
    let rig = Rig::new("hang,200", [hedge("delay = \"50ms\"")]);
    let request = http::Request::post("http://service-b/").header("idempotency-key", "1");
    assert_eq!(rig.send(&rig.call_of(request, RequestBody::empty())).await, (51, Ok(200)));
    let rig = Rig::new("hang,200", [hedge("delay = \"50ms\"\nmethods = [\"*\"]")]);
    assert_eq!(rig.request("POST", RequestBody::empty()).await, (51, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn what_has_not_reached_the_upstream_may_come_again() {
    let answer = |number| match number {
        1 => Err(ErrorKind::ConnectionRefused.into()),
        _ => Ok(response(200, &[], ResponseBody::empty())),
    };
    let rig = Rig::around(Answers(answer), [hedge("delay = \"50ms\"")]);
    assert_eq!(rig.request("POST", RequestBody::empty()).await, (2, Ok(200)));
    let lost = |_| Err(ErrorKind::ConnectionTerminated.into());
    let rig = Rig::around(Answers(lost), [hedge("delay = \"50ms\"")]);
    let ended = rig.request("POST", RequestBody::empty()).await;
    assert_eq!(ended, (1, Err(ErrorKind::ConnectionTerminated)));
    assert_eq!(said(&rig), [(1, skipped(NoHedge::Method))]);
}

fn slow_body() -> RequestBody {
    request_body(100, [Piece::Data("abc"), Piece::Wait(70), Piece::Data("def")])
}

#[tokio::test(start_paused = true)]
async fn the_body_is_waited_for_and_every_attempt_sends_all_of_it() {
    let rig = Rig::new("hang,200", [timeout(60), hedge("delay = \"20ms\"")]);
    assert_eq!(
        rig.request("PUT", slow_body()).await,
        (91, Ok(200)),
        "the client's time is not ours"
    );
    assert_eq!(rig.attempts(), [70, 90]);
    let sent: Vec<_> = rig.upstream.arrivals().into_iter().map(|it| it.body).collect();
    assert_eq!(sent, ["abcdef", "abcdef"]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_waited_for_shows() {
    let policy = hedge("delay = \"20ms\"");
    let rig = Rig::new("hang*2", [policy.clone()]);
    let count = |name| shown(&*policy, name);
    let call = rig.call_of(http::Request::put("http://service-b/"), slow_body());
    let mut run = Box::pin(rig.send(&call));
    assert!(tokio::time::timeout(ms(30), &mut run).await.is_err());
    assert_eq!(count("waiting_for_clients"), 1);
    assert!(tokio::time::timeout(ms(70), &mut run).await.is_err());
    assert_eq!(count("waiting_for_clients"), 0);
    assert_eq!(count("racing"), 1);
    assert!(policy.show().contains(&("delay", Shown::Time(ms(20)))));
    drop(run);
    assert_eq!(count("racing"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_kept_has_one_attempt_and_arrives_whole() {
    let rig = Rig::new("200:delay=90", [hedge("delay = \"20ms\"")]);
    let body = request_body(
        5,
        [
            Piece::Data("abc"),
            Piece::Wait(10),
            Piece::Data("def"),
            Piece::Wait(40),
            Piece::Data("g"),
        ],
    );
    assert_eq!(rig.request("PUT", body).await, (141, Ok(200)));
    assert_eq!(rig.attempts(), [10], "not before as much of it came as may be kept");
    assert_eq!(rig.upstream.arrivals()[0].body, "abcdefg");
    assert_eq!(said(&rig), [(10, skipped(NoHedge::Body))]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fails_while_it_is_waited_for_has_no_attempt() {
    let rig = Rig::new("", [hedge("delay = \"20ms\"")]);
    let body = request_body(99, [Piece::Data("abc"), Piece::Break(ErrorKind::RequestIncomplete)]);
    assert_eq!(rig.request("PUT", body).await, (0, Err(ErrorKind::RequestIncomplete)));
    assert_eq!(rig.attempts(), Vec::<u64>::new());
}

#[tokio::test(start_paused = true)]
async fn what_another_layer_repeats_is_not_hedged() {
    let rig = Rig::new("200:delay=99", [hedge("delay = \"50ms\"")]);
    let request = http::Request::get("http://service-b/").header("x-fusebox-attempt", "2");
    assert_eq!(rig.send(&rig.call_of(request, RequestBody::empty())).await, (100, Ok(200)));
    assert_eq!(said(&rig), [(50, skipped(NoHedge::Retried))]);
    let retried = [("proxy-status", "fusebox; received-status=503; attempts=3")];
    let rig = Rig::around(
        Answers(move |_| Ok(response(503, &retried, ResponseBody::empty()))),
        [hedge("delay = \"50ms\"")],
    );
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(said(&rig), [(1, skipped(NoHedge::Retried))]);
}

// ===== what becomes of the others =====

#[tokio::test(start_paused = true)]
async fn a_spent_budget_starts_none_and_lets_the_others_go_on() {
    let spent = budget(0.01, 1);
    let parts = Surroundings::default().budget("b", &spent);
    let policy = hedge_among("delay = \"50ms\"\nmax_hedges = 3\nbudget = \"b\"", &parts);
    let rig = Rig::new("200:delay=200,hang", [policy]);
    assert_eq!(rig.get().await, (201, Ok(200)));
    assert_eq!(
        said(&rig),
        [
            (50, launched(1, 50)),
            (100, skipped(NoHedge::Budget)),
            (201, HedgeEvent::Cancelled { hedge: 1 }),
        ]
    );
    let status = spent.status(Instant::now());
    assert_eq!((status.calls_in_flight, status.extras_in_flight), (0, 0));
    assert_eq!((status.calls_begun, status.extras_begun), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_lost_are_neutral_for_a_breaker_inside() {
    let inside = breaker("failure_threshold = 9");
    let rig = Rig::new("hang,200", [hedge("delay = \"50ms\""), inside.clone()]);
    assert_eq!(rig.get().await, (51, Ok(200)));
    assert_eq!(inside.status().counts, counts(1, 0));
    let rig = Rig::new("hang,200", [hedge("delay = \"50ms\""), inside.clone()]);
    inside.force(CircuitState::HalfOpen, &rig.recorder.observers());
    assert_eq!(rig.get().await, (51, Ok(200)));
    assert_eq!((inside.status().state, inside.status().trials), (CircuitState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_one_that_was_slow_is_a_slow_call() {
    let slow = "failure_threshold = 9\nslow_call = \"40ms\"";
    let (outside, inside) = (breaker(slow), breaker(slow));
    let rig = Rig::new("hang,200", [outside.clone(), hedge("delay = \"50ms\""), inside.clone()]);
    assert_eq!(rig.get().await, (51, Ok(200)));
    assert_eq!(inside.status().counts, counts(1, 1), "the first attempt was slow");
    assert_eq!(outside.status().counts, counts(1, 0), "the call was answered by a fast one");
    // Cut from outside, the slow one of two is behind the permit, whichever began last.
    let outside = breaker(slow);
    let rig = Rig::new("hang*2", [timeout(60), outside.clone(), hedge("delay = \"50ms\"")]);
    rig.run().await;
    assert_eq!(outside.status().counts, counts(0, 1));
    // And each permit has its own attempts behind it.
    let inside = breaker(slow);
    let rig = Rig::new("hang*2", [timeout(60), hedge("delay = \"50ms\""), inside.clone()]);
    rig.run().await;
    assert_eq!(inside.status().counts, counts(0, 1), "the second had been asked for 10 ms");
}

#[tokio::test(start_paused = true)]
async fn what_has_failed_is_let_go_when_another_wins() {
    let script = "200:delay=90,503:bodydelay=500:body=late";
    let rig = Rig::new(script, [hedge("delay = \"20ms\"")]);
    assert_eq!(rig.get().await, (91, Ok(200)));
    assert_eq!(rig.upstream.alive(), 0, "the body of the 503 is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_hedges_says_that_others_need_not_ask_again() {
    let rig = Rig::new("503*2", [hedge("delay = \"50ms\"")]);
    let call = rig.call();
    let response = rig.outcome(&call).await.expect("a response");
    assert!(response.is_given_up() && call.attempts() == 2);
}

// ===== the quantile =====

async fn calls(rig: &Rig, count: usize) {
    for _ in 0..count {
        rig.run().await;
    }
}

fn delay_of(policy: &dyn fusebox_resilience::Policy) -> Option<Duration> {
    policy.show().into_iter().find_map(|(name, shown)| match shown {
        Shown::Time(delay) if name == "delay" => Some(delay),
        _ => None,
    })
}

fn is_about(delay: Option<Duration>, expected: u64) -> bool {
    delay.is_some_and(|delay| delay.as_secs_f64() / ms(expected).as_secs_f64() - 1.0 < 0.05)
        && delay >= Some(ms(expected).mul_f64(0.95))
}

#[tokio::test(start_paused = true)]
async fn a_quantile_is_known_after_enough_calls() {
    let policy = hedge("delay_quantile = { quantile = 0.9, min_calls = 10, window = \"10s\" }");
    let rig = Rig::new("200:delay=999*2,200:delay=99*8,hang,200", [policy.clone()]);
    calls(&rig, 9).await;
    assert_eq!((delay_of(&*policy), said(&rig)), (None, vec![]), "slow ones have no hedge so far");
    calls(&rig, 1).await;
    assert!(is_about(delay_of(&*policy), 1000), "{:?}", delay_of(&*policy));
    let began = rig.now();
    rig.run().await;
    assert!((950..=1050).contains(&(rig.now() - began - 1)), "{}", rig.now() - began);
    rig.until(rig.now() + 20_000).await;
    assert_eq!(delay_of(&*policy), None, "all is forgotten");
}

#[tokio::test(start_paused = true)]
async fn cutting_slow_ones_does_not_make_the_delay_sink() {
    let config = "delay_quantile = { quantile = 0.8, min_calls = 10, window = \"60s\" }\n\
                  budget = \"none\"";
    let policy = hedge(config);
    // One in ten takes a second, for ever: each of those loses to its hedge.
    let script = ["200:delay=9*8,200:delay=19,200:delay=9,200:delay=999,200:delay=9"; 20].join(",");
    let rig = Rig::new(&script, [policy.clone()]);
    calls(&rig, 200).await;
    assert!(is_about(delay_of(&*policy), 10), "{:?}", delay_of(&*policy));
    let is_launch = |event: &HedgeEvent| matches!(event, HedgeEvent::Launched { .. });
    let launches = said(&rig).iter().filter(|(_, event)| is_launch(event)).count();
    assert!((20..=45).contains(&launches), "{launches} of 200");
}

#[tokio::test(start_paused = true)]
async fn failures_tell_nothing_of_how_long_an_answer_takes() {
    let policy = hedge("delay_quantile = { min_calls = 10 }\nmax_hedges = 1");
    let rig = Rig::new("503*60,200:delay=99*10", [policy.clone()]);
    calls(&rig, 60).await;
    assert_eq!(delay_of(&*policy), None);
    calls(&rig, 10).await;
    assert!(is_about(delay_of(&*policy), 100), "{:?}", delay_of(&*policy));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cut_from_outside_counts_as_longer_than_it_ran() {
    let policy = hedge("delay_quantile = { quantile = 0.5, min_calls = 5 }");
    let rig = Rig::new("200:delay=9*2,hang*3", [timeout(500), policy.clone()]);
    calls(&rig, 5).await;
    assert!(is_about(delay_of(&*policy), 500), "{:?}", delay_of(&*policy));
}

// ===== configuration =====

#[test]
fn configuration_errors_name_the_key() {
    let wrong = |text: &str| {
        problems(text, |config: HedgeConfig| config.build("hedge".into(), &Surroundings::default()))
    };
    for (text, expected) in [
        ("", "delay: missing key; either it or `delay_quantile`"),
        ("delay = \"1s\"\ndelay_quantile = {}", "delay: either a `delay` or a `delay_quantile`"),
        ("delay = \"0s\"", "delay: must be at least 1ms, is 0s"),
        ("delay = \"1s\"\nmax_hedges = 0", "max_hedges: must be from 1 to 10, is 0"),
        ("delay = \"1s\"\nmax_hedges = 11", "max_hedges: must be from 1 to 10, is 11"),
        (
            "delay_quantile = { quantile = 1.0 }",
            "delay_quantile.quantile: must be above 0 and below 1, is 1",
        ),
        (
            "delay_quantile = { quantile = 0 }",
            "delay_quantile.quantile: must be above 0 and below 1, is 0",
        ),
        (
            "delay_quantile = { min_calls = 0 }",
            "delay_quantile.min_calls: must be from 1 to 100000, is 0",
        ),
        (
            "delay_quantile = { window = \"10ms\" }",
            "delay_quantile.window: must be from 1s to 1h, is 10ms",
        ),
        (
            "delay = \"1s\"\nmethods = [\"get\"]",
            "methods[0]: expected a method in capitals, or [\"*\"] for all of them, found `get`",
        ),
        ("delay = \"1s\"\nbudget = \"b\"", "budget: no budget `b`"),
        (
            "delay = \"1s\"\ncancel_if = { component = \"c\" }",
            "cancel_if.component: no component `c`",
        ),
    ] {
        assert_eq!(wrong(text), [expected], "{text}");
    }
    let warned = |text: &str| {
        let config: HedgeConfig = toml::from_str(text).unwrap();
        config.warnings().into_iter().map(|it| it.path).collect::<Vec<_>>()
    };
    assert_eq!(warned("delay = \"1s\""), [""; 0]);
    assert_eq!(warned("delay = \"1s\"\nbudget = \"none\"\nmethods = []"), ["budget", "methods"]);
}

// ===== properties =====

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever the upstream does: no more attempts than may be, one outcome, nothing left.
    #[test]
    fn a_race_has_one_end_and_leaves_nothing(
        steps in prop::collection::vec(
            prop_oneof![
                (0..60_u64).prop_map(|delay| format!("200:delay={delay}")),
                (0..60_u64).prop_map(|delay| format!("503:delay={delay}")),
                (0..60_u64).prop_map(|delay| format!("503:ra=1:delay={delay}")),
                Just("close".to_owned()),
                Just("hang".to_owned()),
            ],
            1..6,
        ),
        delay in 1..40_u64,
        max_hedges in 1..5_u32,
        room in 0..3_usize,
        cut in 20..200_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let few = budget(0.01, room);
            let parts = Surroundings::default().budget("few", &few);
            let config =
                format!("delay = \"{delay}ms\"\nmax_hedges = {max_hedges}\nbudget = \"few\"");
            let inside = breaker("failure_threshold = 99");
            let rig = Rig::new(
                &steps.join(","),
                [timeout(cut), hedge_among(&config, &parts), inside.clone()],
            );
            let call: Call = rig.call();
            let (_, ended) = rig.send(&call).await;
            let attempts = call.attempts();
            prop_assert!(attempts <= 1 + max_hedges);
            let status = few.status(Instant::now());
            prop_assert!(status.extras_begun == u64::from(attempts) - 1);
            prop_assert_eq!((status.calls_in_flight, status.extras_in_flight), (0, 0));
            prop_assert_eq!(rig.upstream.alive(), 0);
            let said = said(&rig);
            let most = said.iter().scan(0, |running, (_, event)| {
                *running += usize::from(matches!(event, HedgeEvent::Launched { .. }));
                Some(*running)
            });
            prop_assert!(most.max().unwrap_or(0) <= max_hedges as usize);
            let won = said.iter().filter(|(_, it)| matches!(it, HedgeEvent::Won { .. })).count();
            prop_assert!(won <= usize::from(ended == Ok(200)));
            // The breaker has counted what ended by itself, and nothing of what was cancelled.
            let arrivals = rig.upstream.arrivals();
            let ended_with = |outcome| arrivals.iter().filter(|it| it.outcome == outcome).count();
            let cancelled = ended_with(Arrived::Canceled);
            prop_assert_eq!(inside.status().counts.total(), arrivals.len() - cancelled);
            prop_assert!(ended_with(Arrived::Pending) == 0);
            // Whoever would have won has won, at the first moment that there was one.
            if let Some(first) = arrivals.iter()
                .filter(|it| it.outcome == Arrived::Responded)
                .filter(|it| steps.get(arrivals.iter().position(|at| at == *it).unwrap())
                    .is_none_or(|step| step.starts_with("200")))
                .filter_map(|it| it.ended).min()
            {
                prop_assert_eq!((rig.now(), ended), (first.as_millis() as u64, Ok(200)));
            }
            Ok(())
        })?;
    }
}
