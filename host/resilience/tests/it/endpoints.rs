//! Breakers with a circuit for each endpoint: one that is ill is passed over, and the others serve.

use std::sync::Arc;

use fusebox_resilience::testing::read;
use fusebox_resilience::{
    CircuitBreaker, CircuitBreakerConfig, CircuitBreakerEvent, CircuitState, ErrorKind, EventKind,
    Observers, Outcome, OutcomeExt as _, Policy, PolicyConfig, RequestBody, Shown, ShownEndpoint,
};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::support::{
    Answers, Ended, Piece, Rig, Several, Surroundings, breaker, fallback, hedge, ms, problems,
    rate_limiter, request_body, response, response_body, retry, shown, timeout as limit,
};

/// Opens at two failures in a row.
const TWO: &str = "scope = \"endpoint\"\nfailure_threshold = 2\ndelay = \"1s\"";
/// Opens at one.
const ONE: &str = "scope = \"endpoint\"\nfailure_threshold = 1\ndelay = \"1s\"";

/// The state of each endpoint.
fn states(breaker: &CircuitBreaker) -> Vec<(String, &'static str)> {
    let endpoints = breaker.endpoints().expect("it tells them apart").into_iter();
    let state = |shown: &[(&str, Shown)]| match shown[0] {
        ("state", Shown::Word { is, .. }) => is,
        _ => panic!("no state: {shown:?}"),
    };
    endpoints.map(|it| (it.name.endpoint.to_string(), state(&it.shown))).collect()
}

fn is(breaker: &CircuitBreaker, expected: &[&str]) {
    let states = states(breaker);
    let found: Vec<_> = states.iter().map(|(_, state)| *state).collect();
    assert_eq!(found, expected, "{states:?}");
}

fn count(breaker: &CircuitBreaker, place: usize, field: &str) -> u64 {
    let ShownEndpoint { shown, .. } = &breaker.endpoints().expect("endpoints")[place];
    match shown.iter().find(|(name, _)| *name == field) {
        Some((_, Shown::Count(count))) => *count,
        _ => panic!("no count: {shown:?}"),
    }
}

async fn ask(rig: &Rig<Several>, times: usize) -> Vec<Result<u16, ErrorKind>> {
    let mut ended = Vec::new();
    for _ in 0..times {
        ended.push(rig.get().await.1);
    }
    ended
}

#[tokio::test(start_paused = true)]
async fn an_ill_endpoint_of_three_is_passed_over_and_the_others_serve() {
    let breaker = breaker(TWO);
    let rig = Rig::around(Several::playing(["503*9", "", ""]), [breaker.clone()]);
    let ended = ask(&rig, 60).await;
    assert_eq!(ended.iter().filter(|ended| **ended == Ok(503)).count(), 2);
    assert_eq!(ended.iter().filter(|ended| **ended == Ok(200)).count(), 58);
    is(&breaker, &["open", "closed", "closed"]);
    assert_eq!((count(&breaker, 0, "failures"), count(&breaker, 1, "failures")), (2, 0));
    let [ill, first, second] = rig.upstream.attempts();
    assert_eq!((ill, first + second), (2, 58), "it is left alone");
    let changes = rig.events();
    let [(_, EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged { key, endpoint, .. }))] =
        &changes[..]
    else {
        panic!("{changes:?}")
    };
    let endpoint = endpoint.as_ref().expect("whose it is");
    assert_eq!((key, &*endpoint.upstream, &*endpoint.endpoint), (&None, "b", "http://0"));
    assert!(breaker.show().is_empty(), "of which one?");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_rejected_only_if_all_are_open_and_for_the_shortest_time_and_takes_nothing() {
    let (breaker, limiter) = (breaker(ONE), rate_limiter("limit = 2\nper = \"1h\""));
    let upstream = Several::playing(["503", "503:delay=100"]);
    let rig = Rig::around(upstream, [breaker.clone(), limiter.clone()]);
    assert_eq!(ask(&rig, 2).await, [Ok(503), Ok(503)]);
    is(&breaker, &["open", "open"]);
    let error = rig.outcome(&rig.call()).await.unwrap_err();
    assert_eq!((error.kind(), error.attempt()), (ErrorKind::CircuitOpen, 0));
    // The first one opened at 1 ms, and it is 102.
    assert_eq!(error.retry_after(), Some(ms(1000 - 101)));
    assert_eq!(shown(&*limiter, "waiting"), 0);
    assert_eq!(rig.upstream.attempts(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn after_its_delay_it_is_tried_and_those_who_find_no_place_go_elsewhere() {
    let breaker = breaker(ONE);
    let rig = Rig::around(Several::playing(["503,200:delay=50", ""]), [breaker.clone()]);
    ask(&rig, 2).await;
    rig.until(1100).await;
    let ended = join_all((0..6).map(|_| rig.get())).await;
    let slow = ended.iter().filter(|(at, _)| *at == 1151).count();
    assert_eq!((ended.iter().filter(|(_, it)| *it == Ok(200)).count(), slow), (6, 1));
    assert_eq!(rig.upstream.attempts(), [2, 6]);
    is(&breaker, &["closed", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_hangs_does_not_keep_an_endpoint_away_for_ever() {
    let breaker = breaker(&format!("{ONE}\ntrial_timeout = \"2s\""));
    let rig = Rig::around(Several::playing(["503,hang,200", ""]), [breaker.clone()]);
    ask(&rig, 2).await;
    rig.until(1100).await;
    let (hung, call) = (rig.call(), rig.call());
    let mut hangs = Box::pin(rig.outcome(&hung));
    assert!(timeout(ms(1), &mut hangs).await.is_err());
    drop(rig.outcome(&call).await);
    is(&breaker, &["half-open", "closed"]);
    // Whoever comes after its time opens it again, and goes elsewhere.
    rig.until(3200).await;
    assert_eq!(ask(&rig, 2).await, [Ok(200), Ok(200)]);
    is(&breaker, &["open", "closed"]);
    rig.until(4300).await;
    ask(&rig, 2).await;
    is(&breaker, &["closed", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn what_one_endpoint_asks_for_holds_for_itself() {
    let breaker = breaker(&format!("{ONE}\nretry_after = true"));
    let rig = Rig::around(Several::playing(["503:ra=30", "503"]), [breaker.clone()]);
    assert_eq!(ask(&rig, 2).await, [Ok(503), Ok(503)]);
    assert_eq!(ask(&rig, 1).await, [Err(ErrorKind::CircuitOpen)]);
    rig.until(1100).await;
    assert_eq!(ask(&rig, 3).await, [Ok(200); 3]);
    assert_eq!(rig.upstream.attempts(), [1, 4]);
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_fails_by_a_timeout_inside_and_no_other_does() {
    let breaker = breaker(ONE);
    let upstream = Several::playing(["hang*9", "200:delay=5*9"]);
    let rig = Rig::around(upstream, [breaker.clone(), limit(10)]);
    assert_eq!(ask(&rig, 4).await, [Err(ErrorKind::Timeout), Ok(200), Ok(200), Ok(200)]);
    is(&breaker, &["open", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_around_it_goes_elsewhere_and_each_of_its_attempts_counts() {
    let breaker = breaker(ONE);
    let again = retry("delay = \"0s\"");
    let rig = Rig::around(Several::playing(["503*9", "500*9", ""]), [again, breaker.clone()]);
    assert_eq!(ask(&rig, 5).await, [Ok(200); 5]);
    is(&breaker, &["open", "open", "closed"]);
    assert_eq!(rig.upstream.attempts(), [1, 1, 5]);
}

#[tokio::test(start_paused = true)]
async fn of_a_retry_inside_it_only_the_last_attempt_counts() {
    let breaker = breaker(ONE);
    let again = retry("delay = \"0s\"");
    let rig = Rig::around(Several::playing(["503", ""]), [breaker.clone() as _, again]);
    assert_eq!(ask(&rig, 1).await, [Ok(200)]);
    is(&breaker, &["closed", "closed"]);
    let counted = [0, 1].map(|place| count(&breaker, place, "successes"));
    assert_eq!(counted, [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_loses_is_neutral_unless_it_was_slow() {
    for (slow_call, expected) in [("30ms", "open"), ("60ms", "closed")] {
        let breaker = breaker(&format!("{ONE}\nslow_call = \"{slow_call}\""));
        let upstream = Several::playing(["hang", "200:delay=19"]);
        let rig = Rig::around(upstream, [breaker.clone() as _, hedge("delay = \"20ms\"")]);
        assert_eq!(rig.get().await, (40, Ok(200)));
        is(&breaker, &[expected, "closed"]);
        let (fallback, _) = (count(&breaker, 1, "successes"), rig);
        assert_eq!(fallback, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_cut_off_is_neutral_unless_it_was_slow() {
    for (slow_call, expected) in [("30ms", "open"), ("60ms", "closed")] {
        let breaker = breaker(&format!("{ONE}\nslow_call = \"{slow_call}\""));
        let rig = Rig::around(Several::playing(["hang", ""]), [limit(50), breaker.clone()]);
        assert_eq!(rig.get().await, (50, Err(ErrorKind::Timeout)));
        ask(&rig, 1).await;
        is(&breaker, &[expected, "closed"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_a_fallback_inside_says_nothing_of_an_endpoint() {
    let breaker = breaker(ONE);
    let answer = fallback("respond = { status = 200 }");
    let rig = Rig::around(Several::playing(["503*9"]), [breaker.clone() as _, answer]);
    assert_eq!(ask(&rig, 3).await, [Ok(200); 3]);
    is(&breaker, &["closed"]);
    assert_eq!(count(&breaker, 0, "successes"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_a_failure_of_the_endpoint_that_it_came_from() {
    let breaker = breaker(ONE);
    let broken =
        [Piece::Data("half"), Piece::Wait(5), Piece::Break(ErrorKind::ConnectionTerminated)];
    let whole = [Piece::Data("whole"), Piece::Wait(5), Piece::Data("."), Piece::Wait(0)];
    let answering = |pieces: &[Piece]| {
        let pieces = pieces.to_vec();
        Answers(move |_| -> Outcome { Ok(response(200, &[], response_body(pieces.clone()))) })
    };
    let upstream = Several::of([answering(&broken), answering(&whole)]);
    let rig = Rig::around(upstream, [breaker.clone()]);
    let calls = [rig.call(), rig.call()];
    let mut bodies = Vec::new();
    for call in &calls {
        bodies.push(rig.outcome(call).await.unwrap().body);
    }
    is(&breaker, &["closed", "closed"]);
    for body in bodies.into_iter().rev() {
        drop(read(body).await);
    }
    is(&breaker, &["open", "closed"]);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_waits_for_its_client_gives_its_place_back() {
    let breaker = breaker(ONE);
    let rig = Rig::around(Several::playing(["503,200*9"]), [breaker.clone()]);
    ask(&rig, 1).await;
    rig.until(1100).await;
    let body = request_body(100, [Piece::Data("slow"), Piece::Wait(5000), Piece::Data("ly")]);
    let upload = rig.request("PUT", body);
    let others = async {
        rig.until(1500).await;
        let first: Ended = rig.get().await;
        rig.until(2200).await;
        (first.1, rig.get().await.1)
    };
    let (upload, others) = futures_util::future::join(upload, others).await;
    assert_eq!((upload.1, others), (Ok(200), (Err(ErrorKind::CircuitOpen), Ok(200))));
    is(&breaker, &["closed"]);
}

#[tokio::test(start_paused = true)]
async fn after_closing_a_ramp_sends_a_part_to_the_others() {
    let breaker = breaker(&format!("{ONE}\nramp = \"10s\""));
    let rig = Rig::around(Several::playing(["503", ""]), [breaker.clone()]);
    ask(&rig, 2).await;
    rig.until(1100).await;
    ask(&rig, 2).await;
    is(&breaker, &["closed", "closed"]);
    let [before, _] = rig.upstream.attempts();
    assert_eq!(ask(&rig, 200).await, [Ok(200); 200], "nobody is rejected");
    let [after, _] = rig.upstream.attempts();
    assert!((5..30).contains(&(after - before)), "{before} {after}");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_goes_with_its_endpoint() {
    let breaker = breaker(ONE);
    let rig = Rig::around(Several::playing(["503,200*9", ""]), [breaker.clone()]);
    ask(&rig, 2).await;
    is(&breaker, &["open", "closed"]);
    rig.upstream.replace(0);
    is(&breaker, &["closed"]);
    ask(&rig, 2).await;
    is(&breaker, &["closed", "closed"]);
    assert_eq!(rig.upstream.attempts(), [2, 2]);
}

#[tokio::test(start_paused = true)]
async fn two_breakers_around_both_have_a_say() {
    let (outer, inner) =
        (breaker(ONE), breaker(&format!("{ONE}\nhandle_if = {{ status = [\"500\"] }}")));
    let rig = Rig::around(Several::playing(["503", "500", ""]), [outer.clone(), inner.clone()]);
    assert_eq!(ask(&rig, 5).await, [Ok(503), Ok(500), Ok(200), Ok(200), Ok(200)]);
    is(&outer, &["open", "open", "closed"]);
    is(&inner, &["closed", "open", "closed"]);
    rig.until(1100).await;
    ask(&rig, 3).await;
    is(&outer, &["closed"; 3]);
    is(&inner, &["closed"; 3]);
    assert_eq!([0, 1, 2].map(|place| count(&outer, place, "trials")), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn an_operator_moves_the_circuit_of_one_endpoint() {
    let breaker = breaker(ONE);
    let rig = Rig::around(Several::playing(["", ""]), [breaker.clone()]);
    let command = |key: &[&str]| {
        let key: Vec<_> = key.iter().map(|it| (*it).to_owned()).collect();
        breaker.command("open", &key, &Observers::default())
    };
    assert_eq!(command(&["http://1"]), Err("no endpoint of this URL was asked".to_owned()));
    ask(&rig, 2).await;
    assert_eq!(command(&["http://1"]), Ok(CircuitState::Open.name()));
    is(&breaker, &["closed", "open"]);
    ask(&rig, 4).await;
    assert_eq!(rig.upstream.attempts(), [5, 1]);
    let which = "it has a state for each endpoint: say which, by `?key=URL`";
    assert_eq!(command(&[]), Err(which.to_owned()));
}

#[tokio::test(start_paused = true)]
async fn without_endpoints_to_tell_apart_nothing_is_counted() {
    let breaker = breaker(ONE);
    let rig = Rig::new("503*9", [breaker.clone()]);
    for _ in 0..5 {
        assert_eq!(rig.get().await.1, Ok(503));
    }
    is(&breaker, &[]);
    let call = rig.call_of(http::Request::get("http://service-b/"), RequestBody::empty());
    assert_eq!(rig.outcome(&call).await.attempt(), 1);
}

#[test]
fn a_scope_that_makes_no_sense_is_refused() {
    for (text, expected) in [
        (
            "scope = \"endpoint\"\nkey = { client = true }",
            "scope: either a `key` or `scope = \"endpoint\"`",
        ),
        ("scope = \"route\"", "unknown variant `route`, expected `policy` or `endpoint`"),
        ("scope = \"endpoint\"\nmax_keys = 3", "max_keys: needs a `key`"),
    ] {
        let found = problems(text, |config: CircuitBreakerConfig| {
            config.build("b".into(), &Surroundings::default())
        });
        assert_eq!(found, [expected], "{text}");
    }
    let _: Arc<CircuitBreaker> = breaker("scope = \"policy\"\nkey = { client = true }");
}
