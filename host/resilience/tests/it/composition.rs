//! Composition as a specification: what each policy makes of what the next inner one returned.

use std::sync::Arc;

use fusebox_resilience::testing::{self, Arrived, Script};
use fusebox_resilience::{
    Call, CircuitState, ErrorKind, EventKind, FallbackEvent, Observers, Outcome, Pipeline, Policy,
    ResponseBody, RetryEvent, Scope, WindowCounts,
};

use crate::support::{
    Answers, Fake, Rig, Surroundings, adaptive, breaker, breaker_among, bulkhead, fallback,
    fallback_among, ms, rate_limiter, response, retry, retry_among, throttler, timeout,
};

const SORRY: &str = "respond = { status = 200, body = \"sorry\" }";

fn counts(successes: usize, failures: usize) -> WindowCounts {
    WindowCounts { successes, failures }
}

#[tokio::test(start_paused = true)]
async fn the_first_policy_is_the_outermost() {
    let rig = Rig::new("hang*9", [timeout(100), retry("delay = \"10ms\"")]);
    assert_eq!(rig.get().await, (100, Err(ErrorKind::Timeout)), "one limit around all attempts");
    assert_eq!(rig.attempts(), [0]);
    let rig = Rig::new("hang*9", [retry("delay = \"10ms\""), timeout(100)]);
    assert_eq!(rig.get().await, (320, Err(ErrorKind::Timeout)), "a limit around each attempt");
    assert_eq!(rig.attempts(), [0, 110, 220]);
}

#[tokio::test(start_paused = true)]
async fn without_policies_the_upstreams_outcome_goes_out() {
    let rig = Rig::new("418,close", []);
    assert_eq!(rig.get().await, (1, Ok(418)));
    assert_eq!(rig.get().await, (2, Err(ErrorKind::ConnectionTerminated)));
    assert!(Pipeline::default().policies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn each_policy_judges_with_its_own_condition() {
    let inner = breaker("handle_if = { status = [\"500\"] }");
    let outer = breaker("handle_if = { status = [\"404\"] }");
    let rig = Rig::new(
        "404,500",
        [
            outer.clone(),
            retry("handle_if = { status = [\"404\"] }\ndelay = \"10ms\""),
            inner.clone(),
        ],
    );
    assert_eq!(rig.get().await, (12, Ok(500)));
    assert_eq!(inner.status().counts, counts(1, 1), "both attempts");
    assert_eq!(outer.status().counts, counts(1, 0), "what the retry returned");
}

/// Bytes: each is made and moved for every call.
#[test]
fn what_a_call_is_made_of_is_small() {
    let (call, upstream) = (testing::call("1", Observers::default()), Script::new("200"));
    let future = |policy: Arc<dyn Policy>| {
        size_of_val(&*Pipeline::new([policy]).execute(&call, &Scope::new(&upstream)))
    };
    let futures = [
        fallback(SORRY),
        retry(""),
        breaker(""),
        timeout(100),
        throttler(""),
        adaptive(""),
        bulkhead("max_concurrency = 1"),
        rate_limiter("limit = 1\nper = \"1s\""),
    ];
    let futures = futures.map(future);
    let limits = [320, 472, 512, 192, 500, 520, 300, 300];
    assert!(
        futures.iter().zip(limits).all(|(size, limit)| *size <= limit),
        "{futures:?}, and not up to {limits:?}"
    );
    let (outcome, call) = (size_of::<Outcome>(), size_of::<Call>());
    assert!(outcome <= 192 && call <= 416, "{outcome} {call}");
}

// ===== a fallback's answer =====

#[tokio::test(start_paused = true)]
async fn a_fallbacks_answer_is_a_success_for_a_retry_outside_whatever_its_status() {
    for status in [200, 503] {
        let rig = Rig::new(
            "503",
            [retry("delay = \"10ms\""), fallback(&format!("respond = {{ status = {status} }}"))],
        );
        assert_eq!(rig.get().await, (1, Ok(status)));
        assert_eq!(
            rig.events(),
            [(1, EventKind::Fallback(FallbackEvent::Served { status, component: None }))]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_fallbacks_answer_is_a_success_for_a_breaker_outside_whatever_its_status() {
    let outer = breaker("failure_threshold = 1");
    let rig = Rig::new("503,close", [outer.clone(), fallback("respond = { status = 503 }")]);
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(rig.get().await, (2, Ok(503)));
    assert_eq!(outer.status().counts, counts(1, 0), "the last of them");
    assert_eq!(outer.status().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_fallbacks_answer_is_a_success_however_slow_it_was() {
    let outer = breaker("failure_threshold = 1\nslow_call = \"50ms\"");
    let rig = Rig::new("503:delay=99,200:delay=99", [outer.clone(), fallback(SORRY)]);
    assert_eq!(rig.get().await, (100, Ok(200)));
    assert_eq!(outer.status().state, CircuitState::Closed);
    assert_eq!(rig.get().await, (200, Ok(200)));
    assert_eq!(outer.status().state, CircuitState::Open, "an answer of the upstream's own is slow");
}

#[tokio::test(start_paused = true)]
async fn a_fallbacks_answer_is_no_failure_for_a_fallback_outside_and_no_component_is_asked() {
    let asked = Fake::new(|_| true);
    let parts = Surroundings::default().predicate("asked", &asked);
    let component = "handle_if = { component = \"asked\" }";
    let rig = Rig::new(
        "503",
        [
            fallback_among(&format!("{component}\n{SORRY}"), &parts),
            breaker_among(&format!("{component}\nignore_if = {{ component = \"asked\" }}"), &parts),
            retry_among(&format!("{component}\nabort_if = {{ component = \"asked\" }}"), &parts),
            fallback("respond = { status = 503 }"),
        ],
    );
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(asked.seen(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_fallback_outside_a_retry_sees_what_the_last_attempt_came_to() {
    for config in ["delay = \"10ms\"", "delay = \"10ms\"\nreturn_last_failure = false"] {
        let rig = Rig::new("503*9", [fallback(SORRY), retry(config)]);
        assert_eq!(rig.get().await, (23, Ok(200)));
        assert_eq!(rig.attempts(), [0, 11, 22]);
    }
}

// ===== what an outer breaker records =====

#[tokio::test(start_paused = true)]
async fn an_inner_rejection_is_neutral_for_a_breaker_outside() {
    let (outer, inner) = (breaker("failure_threshold = 1"), breaker("failure_threshold = 1"));
    let rig = Rig::new("", [outer.clone(), inner.clone()]);
    inner.force(CircuitState::Open, &rig.recorder.observers());
    outer.force(CircuitState::HalfOpen, &rig.recorder.observers());
    assert_eq!(rig.get().await, (0, Err(ErrorKind::CircuitOpen)));
    let status = outer.status();
    assert_eq!(
        (status.state, status.counts, status.trials),
        (CircuitState::HalfOpen, counts(0, 0), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_rejection_is_neutral_unless_handle_if_takes_it() {
    for kind in [
        ErrorKind::CircuitOpen,
        ErrorKind::BulkheadFull,
        ErrorKind::RateLimited,
        ErrorKind::Overloaded,
        ErrorKind::BudgetExceeded,
    ] {
        let (neutral, failure) =
            (breaker("failure_threshold = 9"), breaker("handle_if = { failure = [\"any\"] }"));
        let rig =
            Rig::around(Answers(move |_| Err(kind.into())), [failure.clone(), neutral.clone()]);
        assert_eq!(rig.get().await, (1, Err(kind)));
        assert_eq!(neutral.status().counts, counts(0, 0), "{kind:?}");
        assert_eq!(failure.status().counts, counts(0, 1), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_is_neutral_even_if_a_component_decided_that_it_is_no_failure() {
    let no = Fake::new(|_| false);
    let parts = Surroundings::default().predicate("no", &no);
    let outer = breaker_among("handle_if = { component = \"no\" }", &parts);
    let rig = Rig::around(Answers(|_| Err(ErrorKind::RateLimited.into())), [outer.clone()]);
    rig.run().await;
    assert_eq!(outer.status().counts, counts(0, 0));
    assert_eq!(no.seen(), ["rate-limited of attempt 1"]);
}

#[tokio::test(start_paused = true)]
async fn an_inner_timeout_is_a_failure_and_an_outer_one_is_neutral() {
    let counted = breaker("failure_threshold = 9");
    let rig = Rig::new("hang", [counted.clone(), timeout(30)]);
    assert_eq!(rig.get().await, (30, Err(ErrorKind::Timeout)));
    assert_eq!(counted.status().counts, counts(0, 1));

    let cancelled = breaker("failure_threshold = 9");
    let rig = Rig::new("hang", [timeout(30), cancelled.clone()]);
    cancelled.force(CircuitState::HalfOpen, &rig.recorder.observers());
    assert_eq!(rig.get().await, (30, Err(ErrorKind::Timeout)));
    let status = cancelled.status();
    assert_eq!((status.counts, status.trials), (counts(0, 0), 0), "the permit is back");
    assert_eq!(rig.upstream.arrivals()[0].outcome, Arrived::Canceled);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_that_no_condition_names_is_a_success_as_it_is_in_failsafe_go() {
    let blind = breaker("handle_if = { status = [\"503\"], failure = [] }");
    let rig = Rig::new("hang", [blind.clone(), timeout(30)]);
    rig.run().await;
    assert_eq!(blind.status().counts, counts(1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_outside_a_retry_counts_calls_and_one_inside_counts_attempts() {
    for config in ["delay = \"10ms\"", "delay = \"10ms\"\nreturn_last_failure = false"] {
        let (outer, inner) = (breaker("failure_threshold = 9"), breaker("failure_threshold = 9"));
        let rig = Rig::new("503*9", [outer.clone(), retry(config), inner.clone()]);
        rig.run().await;
        assert_eq!((outer.status().counts, inner.status().counts), (counts(0, 1), counts(0, 3)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_left_is_neutral_for_every_breaker() {
    let (outer, inner) = (breaker(""), breaker(""));
    let rig = Rig::new("200:delay=99", [outer.clone(), retry(""), inner.clone()]);
    for breaker in [&outer, &inner] {
        breaker.force(CircuitState::HalfOpen, &rig.recorder.observers());
    }
    let call = rig.call();
    assert!(tokio::time::timeout(ms(50), rig.outcome(&call)).await.is_err());
    for breaker in [outer, inner] {
        let status = breaker.status();
        assert_eq!(
            (status.state, status.counts, status.trials),
            (CircuitState::HalfOpen, counts(0, 0), 0)
        );
    }
    assert_eq!(rig.upstream.alive(), 0);
}

// ===== what a component is asked =====

#[tokio::test(start_paused = true)]
async fn a_component_is_asked_about_every_attempt_the_last_one_too() {
    let asked =
        Fake::new(|seen| seen.outcome.as_ref().is_ok_and(|response| response.status == 503));
    let parts = Surroundings::default().predicate("asked", &asked);
    let policy = retry_among(
        "max_retries = 2\ndelay = \"10ms\"\nhandle_if = { component = \"asked\" }",
        &parts,
    );
    let rig = Rig::new("503*9", [policy]);
    assert_eq!(rig.get().await, (23, Ok(503)));
    assert_eq!(asked.seen(), [1, 2, 3].map(|attempt| format!("503 \"\" of attempt {attempt}")));
    assert_eq!(
        rig.events().last(),
        Some(&(23, EventKind::Retry(RetryEvent::Exhausted { retries: 2 })))
    );
}

#[tokio::test(start_paused = true)]
async fn what_remains_is_the_time_until_the_nearest_timeout_around_the_one_who_asks() {
    let asked = Fake::new(|_| false);
    let parts = Surroundings::default().predicate("asked", &asked);
    let asks = || retry_among("handle_if = { component = \"asked\" }", &parts);
    let rig = Rig::new(
        "200:delay=9",
        [asks(), timeout(500), asks(), timeout(100), asks(), timeout(300), asks(), timeout(20)],
    );
    assert_eq!(rig.get().await, (10, Ok(200)));
    let remaining = [", 90 ms left", ", 90 ms left", ", 490 ms left", ""];
    assert_eq!(asked.seen(), remaining.map(|left| format!("200 \"\"… of attempt 1{left}")));
}

#[tokio::test(start_paused = true)]
async fn the_attempt_that_an_outcome_came_from_is_known_to_every_policy_outside() {
    let asked = Fake::new(|_| false);
    let parts = Surroundings::default().predicate("asked", &asked);
    let outermost =
        || fallback_among(&format!("handle_if = {{ component = \"asked\" }}\n{SORRY}"), &parts);
    let rig = Rig::new(
        "503,close",
        [outermost(), retry("max_retries = 1\ndelay = \"10ms\"\nreturn_last_failure = false")],
    );
    rig.run().await;
    let open = breaker("");
    open.force(CircuitState::Open, &rig.recorder.observers());
    Rig::new("", [outermost(), open]).run().await;
    Rig::new("hang", [outermost(), timeout(10)]).run().await;
    assert_eq!(
        asked.seen(),
        ["retries-exceeded of attempt 2", "circuit-open of attempt 0", "timeout of attempt 1"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_history_of_a_call_tells_how_its_attempts_ended() {
    let upstream = Answers(|number| match number {
        1 => Err(ErrorKind::ConnectionRefused.into()),
        _ => Ok(response(if number == 2 { 503 } else { 200 }, &[], ResponseBody::empty())),
    });
    let rig = Rig::around(upstream, [retry("delay = \"10ms\"")]);
    let call = rig.call();
    assert_eq!(rig.send(&call).await, (23, Ok(200)));
    let history: Vec<_> = call
        .history()
        .into_iter()
        .map(|past| (past.provenance.attempt, past.outcome, past.elapsed))
        .collect();
    use fusebox_resilience::AttemptOutcome::{Failure, Response};
    assert_eq!(
        history,
        [
            (1, Failure(ErrorKind::ConnectionRefused), ms(1)),
            (2, Response(503), ms(1)),
            (3, Response(200), ms(1))
        ]
    );
    assert_eq!(call.attempts(), 3);
}
