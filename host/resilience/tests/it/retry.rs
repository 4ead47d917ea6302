//! Retry: what is repeated, when, how often, and what goes out in the end.

use fusebox_resilience::testing::{Script, read};
use fusebox_resilience::{
    Attempt, BudgetConfig, Call, ErrorKind, EventKind, NoRetry, Outcome, PolicyConfig, RequestBody,
    ResponseBody, RetryConfig, RetryEvent, Scope, Upstream,
};
use futures_util::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::support::{
    Answers, Ended, Rig, Surroundings, breaker, budget, ms, problems, response, retry, retry_among,
    spread_retry, timeout,
};

fn scheduled(at: u64, retry: u32, delay: u64) -> (u64, EventKind) {
    (at, EventKind::Retry(RetryEvent::Scheduled { retry, delay: ms(delay) }))
}

fn exhausted(at: u64, retries: u32) -> (u64, EventKind) {
    (at, EventKind::Retry(RetryEvent::Exhausted { retries }))
}

fn skipped(at: u64, reason: NoRetry) -> (u64, EventKind) {
    (at, EventKind::Retry(RetryEvent::Skipped { reason }))
}

/// The delays of the retries that were scheduled, in microseconds.
fn delays(rig: &Rig) -> Vec<u64> {
    let delay = |(_, event)| match event {
        EventKind::Retry(RetryEvent::Scheduled { delay, .. }) => Some(delay.as_micros() as u64),
        _ => None,
    };
    rig.events().into_iter().filter_map(delay).collect()
}

/// An upstream of three endpoints, each for one attempt, of which all say that they have been asked
/// several times.
struct Three;

impl Upstream for Three {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"one of three".into());
            let retried = [("proxy-status", "fusebox; received-status=503; attempts=3")];
            attempt.finish(Ok(response(503, &retried, ResponseBody::empty())))
        })
    }

    fn has_untried(&self, call: &Call) -> bool {
        call.attempts() < 3
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_layer_repeats_is_retried_at_endpoints_that_are_still_to_be_tried() {
    let rig = Rig::around(Three, [retry("max_retries = 9\ndelay = \"1ms\"")]);
    assert_eq!(rig.get().await, (2, Ok(503)));
    assert_eq!(
        rig.events(),
        [scheduled(0, 1, 1), scheduled(1, 2, 1), skipped(2, NoRetry::Retried)]
    );
    let rig = Rig::around(Three, [retry("max_retries = 9\ndelay = \"1ms\"")]);
    let marked = http::Request::get("http://service-b/").header("x-fusebox-attempt", "2");
    assert_eq!(rig.send(&rig.call_of(marked, RequestBody::empty())).await, (2, Ok(503)));
}

// ===== how often, and after which delay =====

#[tokio::test(start_paused = true)]
async fn by_default_it_retries_twice_after_up_to_100_and_200_ms_and_the_last_response_goes_out() {
    let rig = Rig::new("503*9", [retry("")]);
    assert_eq!(rig.get().await, (303, Ok(503)));
    assert_eq!(rig.attempts(), [0, 101, 302]);
    assert_eq!(rig.events(), [scheduled(1, 1, 100), scheduled(102, 2, 200), exhausted(303, 2)]);
}

#[tokio::test(start_paused = true)]
async fn by_default_a_backoff_is_spread_over_all_of_each_delay_and_the_others_are_exact() {
    let rig = Rig::around(Script::new("").rest("503"), [spread_retry("max_retries = 99")]);
    rig.run().await;
    let delays = delays(&rig);
    let longest =
        (0..99).map(|step| 100_000 * (1 << step.min(6_u64))).map(|most| most.min(5_000_000));
    let part = |(delay, longest): (&u64, u64)| *delay as f64 / longest as f64;
    let parts: Vec<f64> = delays.iter().zip(longest).map(part).collect();
    assert!(parts.iter().all(|part| (0.0..=1.0).contains(part)), "{parts:?}");
    let quarters = [0.25, 0.5, 0.75, 1.0]
        .map(|end| parts.iter().filter(|part| (end - 0.25..end).contains(*part)).count());
    assert!(quarters.iter().all(|count| (12..=40).contains(count)), "{quarters:?}");
    for exact in ["delay = \"30ms\"", "random_delay = { min = \"30ms\", max = \"30ms\" }"] {
        let rig = Rig::new("503", [spread_retry(exact)]);
        assert_eq!(rig.get().await, (32, Ok(200)), "{exact}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_default_backoff_ends_at_5_s() {
    let rig = Rig::new("503*9", [retry("max_retries = 8")]);
    rig.run().await;
    assert_eq!(
        delays(&rig),
        [100, 200, 400, 800, 1600, 3200, 5000, 5000].map(|delay| delay * 1000)
    );
}

#[tokio::test(start_paused = true)]
async fn a_backoff_grows_by_its_factor_up_to_its_maximum() {
    let rig = Rig::new(
        "503*9",
        [retry(
            "max_retries = 4\nbackoff = { delay = \"10ms\", max_delay = \"50ms\", factor = 3 }",
        )],
    );
    assert_eq!(rig.get().await, (145, Ok(503)));
    assert_eq!(delays(&rig), [10_000, 30_000, 50_000, 50_000]);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_delay_is_the_same_each_time_and_may_be_0() {
    let rig = Rig::new("503*9", [retry("max_retries = 3\ndelay = \"20ms\"")]);
    rig.run().await;
    assert_eq!(rig.attempts(), [0, 21, 42, 63]);
    let rig = Rig::new("503*2", [retry("delay = \"0s\"")]);
    assert_eq!(rig.get().await, (3, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn a_random_delay_is_drawn_anew_within_its_bounds() {
    let rig = Rig::around(
        Script::new("").rest("503"),
        [retry("max_retries = 99\nrandom_delay = { min = \"10ms\", max = \"20ms\" }")],
    );
    rig.run().await;
    let delays = delays(&rig);
    assert_eq!(delays.len(), 99);
    assert!(delays.iter().all(|delay| (10_000..=20_000).contains(delay)));
    assert!(
        delays.iter().min() < Some(&11_000) && delays.iter().max() > Some(&19_000),
        "{delays:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn jitter_spreads_a_delay_both_ways_by_a_factor_or_a_duration() {
    for jitter in ["0.5", "\"50ms\""] {
        let rig = Rig::around(
            Script::new("").rest("503"),
            [retry(&format!("max_retries = 99\ndelay = \"100ms\"\njitter = {jitter}"))],
        );
        rig.run().await;
        let delays = delays(&rig);
        assert!(delays.iter().all(|delay| (50_000..=150_000).contains(delay)));
        assert!(
            delays.iter().min() < Some(&60_000) && delays.iter().max() > Some(&140_000),
            "{delays:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn max_retries_of_0_makes_one_attempt_and_still_says_that_it_is_exhausted() {
    let rig = Rig::new("503*9", [retry("max_retries = 0")]);
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(rig.events(), [exhausted(1, 0)]);
}

#[tokio::test(start_paused = true)]
async fn max_retries_of_minus_1_goes_on_until_it_succeeds() {
    let rig = Rig::new("503*500", [retry("max_retries = -1\ndelay = \"1ms\"")]);
    assert_eq!(rig.get().await, (1001, Ok(200)));
}

#[test]
fn retries_without_a_budget_are_worth_a_warning_and_unlimited_ones_a_second() {
    let keys = |text| -> Vec<String> {
        let config = toml::from_str::<RetryConfig>(text).unwrap();
        config.warnings().into_iter().map(|problem| problem.path).collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(keys("max_retries = -1\nbudget = \"none\""), ["max_retries", "budget"]);
    assert_eq!(keys("max_retries = -1\nbudget = \"none\"\nmax_duration = \"1s\""), ["budget"]);
    assert_eq!(keys("budget = \"none\""), ["budget"]);
    assert_eq!(keys("max_retries = -1"), none);
    assert_eq!(keys("max_retries = -1\nbudget = \"b\""), none);
    assert_eq!(keys("max_retries = 1000"), none);
}

#[tokio::test(start_paused = true)]
async fn max_duration_clips_the_last_delay_and_ends_the_retries_after_a_failure_past_it() {
    let rig =
        Rig::new("503*9", [retry("max_retries = -1\ndelay = \"40ms\"\nmax_duration = \"100ms\"")]);
    assert_eq!(rig.get().await, (101, Ok(503)));
    assert_eq!(rig.attempts(), [0, 41, 82, 100]);
    assert_eq!(
        rig.events(),
        [scheduled(1, 1, 40), scheduled(42, 2, 40), scheduled(83, 3, 17), exhausted(101, 3)]
    );
}

#[tokio::test(start_paused = true)]
async fn max_duration_does_not_clip_what_the_upstream_asks_for() {
    let rig = Rig::new("503:ra=1", [retry("max_duration = \"1001ms\"")]);
    assert_eq!(rig.get().await, (1002, Ok(200)));
    let rig = Rig::new("503:ra=1", [retry("max_duration = \"1000ms\"")]);
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(rig.events(), [skipped(1, NoRetry::RetryAfter)]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_at_exactly_max_duration_is_retried_once_more_at_once() {
    for (delay, attempts) in [(99, 2), (100, 1)] {
        let script = format!("503:delay={delay},503");
        let rig = Rig::new(&script, [retry("delay = \"10ms\"\nmax_duration = \"100ms\"")]);
        rig.run().await;
        assert_eq!(rig.attempts().len(), attempts, "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn max_duration_does_not_cut_a_running_attempt() {
    let rig = Rig::new("503,200:delay=500", [retry("delay = \"10ms\"\nmax_duration = \"100ms\"")]);
    assert_eq!(rig.get().await, (512, Ok(200)));
}

// ===== Retry-After =====

#[tokio::test(start_paused = true)]
async fn the_wait_is_the_longer_of_the_own_delay_and_retry_after() {
    for (delay, ended) in [("10ms", 2002), ("3s", 3002)] {
        let rig = Rig::new("503:ra=2", [retry(&format!("delay = \"{delay}\""))]);
        assert_eq!(rig.get().await, (ended, Ok(200)), "{delay}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_counts_on_429_and_503_only() {
    for (script, ended) in
        [("503:ra=2", 2002), ("429:ra=2", 2002), ("500:ra=2", 12), ("502:ra=2", 12)]
    {
        let rig = Rig::new(script, [retry("delay = \"10ms\"")]);
        assert_eq!(rig.get().await, (ended, Ok(200)), "{script}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_false_ignores_it() {
    let rig = Rig::new("503:ra=2", [retry("delay = \"10ms\"\nretry_after = false")]);
    assert_eq!(rig.get().await, (12, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn retry_after_does_not_advance_the_backoff() {
    let rig = Rig::new(
        "503,503:ra=1,503,503",
        [retry("max_retries = 4\nbackoff = { delay = \"10ms\" }")],
    );
    rig.run().await;
    assert_eq!(delays(&rig), [10_000, 1_000_000, 20_000, 40_000]);
}

/// How a call ends whose first attempt is answered with a 503 and these headers; the call arrived
/// at the Unix epoch.
async fn after_headers<const N: usize>(headers: [(&'static str, &'static str); N]) -> Ended {
    let upstream = Answers(move |number| {
        let (status, headers) = if number == 1 { (503, &headers[..]) } else { (200, &[][..]) };
        Ok(response(status, headers, ResponseBody::empty()))
    });
    Rig::around(upstream, [retry("delay = \"10ms\"")]).get().await
}

async fn after(retry_after: &'static str) -> Ended {
    after_headers([("retry-after", retry_after)]).await
}

#[tokio::test(start_paused = true)]
async fn retry_after_may_be_a_date_in_each_of_the_three_formats() {
    for date in [
        "Thu, 01 Jan 1970 00:00:05 GMT",
        "Thursday, 01-Jan-70 00:00:05 GMT",
        "Thu Jan  1 00:00:05 1970",
    ] {
        assert_eq!(after(date).await, (5001, Ok(200)), "{date}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_date_is_read_against_the_clock_of_the_upstream_that_says_it() {
    const IN_5_S: (&str, &str) = ("retry-after", "Sat, 01 Jan 2000 00:00:05 GMT");
    let date = after_headers([IN_5_S, ("date", "Sat, 01 Jan 2000 00:00:00 GMT")]).await;
    assert_eq!(date, (5002, Ok(200)));
    let passed = after_headers([IN_5_S, ("date", "Sat, 01 Jan 2000 00:00:06 GMT")]).await;
    assert_eq!(passed, (12, Ok(200)));
    let ours = after_headers([IN_5_S, ("date", "today")]).await;
    assert_eq!(ours, (1, Ok(503)), "by our clock, it is in 30 years");
}

#[tokio::test(start_paused = true)]
async fn retry_after_ms_says_the_same_more_exactly() {
    let exact = after_headers([("retry-after", "2"), ("retry-after-ms", "1500")]).await;
    assert_eq!(exact, (1502, Ok(200)));
    let wrong = after_headers([("retry-after", "2"), ("retry-after-ms", "1.5e3")]).await;
    assert_eq!(wrong, (2002, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn of_several_times_the_longest_counts() {
    for (one, other) in [("2", "0"), ("0", "2"), ("1", "2"), ("soon", "2"), ("2", "-5")] {
        let several = after_headers([("retry-after", one), ("retry-after", other)]).await;
        assert_eq!(several, (2002, Ok(200)), "{one}, {other}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_can_ask_not_to_be_asked_again() {
    for (config, ended) in [("", (1, Ok(500))), ("retry_after = false", (12, Ok(200)))] {
        let upstream = Answers(|number| {
            let status = if number == 1 { 500 } else { 200 };
            Ok(response(status, &[("x-should-retry", "False")], ResponseBody::empty()))
        });
        let rig = Rig::around(upstream, [retry(&format!("delay = \"10ms\"\n{config}"))]);
        assert_eq!(rig.get().await, ended, "{config}");
        let told = rig.events().contains(&skipped(1, NoRetry::Upstream));
        assert_eq!(told, config.is_empty());
    }
    assert_eq!(after_headers([("x-should-retry", "true")]).await, (12, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn what_asks_for_no_wait_leaves_the_own_delay() {
    let values = ["Thu, 01 Jan 1970 00:00:00 GMT", "0", "soon", "-1", "1.5", "", "5 s", "+5"];
    for value in values {
        assert_eq!(after(value).await, (12, Ok(200)), "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn more_than_max_retry_after_means_give_up_and_exactly_that_much_is_granted() {
    assert_eq!(after("10").await, (10_002, Ok(200)));
    for value in ["11", "Thu, 01 Jan 1970 00:00:12 GMT", "99999999999999999999999999"] {
        assert_eq!(after(value).await, (1, Ok(503)), "{value}");
    }
    let rig = Rig::new("503:ra=2", [retry("max_retry_after = \"1s\"")]);
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(rig.events(), [skipped(1, NoRetry::RetryAfter)]);
    let rig =
        Rig::new("503:ra=2", [retry("max_retry_after = \"1s\"\nreturn_last_failure = false")]);
    let error = rig.outcome(&rig.call()).await.unwrap_err();
    let told = (rig.now(), error.kind(), error.retry_after());
    assert_eq!(told, (1, ErrorKind::RetriesExceeded, Some(ms(2_000))));
}

#[tokio::test(start_paused = true)]
async fn by_default_what_was_asked_for_is_lengthened_by_up_to_a_fifth() {
    let rig = Rig::around(
        Script::new("").rest("503:ra=1"),
        [spread_retry("max_retries = 99\ndelay = \"10ms\"")],
    );
    rig.run().await;
    let delays = delays(&rig);
    assert!(delays.iter().all(|delay| (1_000_000..=1_200_000).contains(delay)), "{delays:?}");
    assert!(delays.iter().max() > Some(&1_180_000), "{delays:?}");
}

#[tokio::test(start_paused = true)]
async fn lengthening_gives_way_to_max_duration_and_deadline() {
    let config = "jitter = 1.0\nmax_duration = \"1001ms\"";
    let rig = Rig::new("503:ra=1", [retry(config)]);
    assert_eq!(rig.get().await, (1002, Ok(200)));
    let rig = Rig::new("503:ra=1", [timeout(1003), retry("jitter = 1.0")]);
    assert_eq!(rig.get().await, (1002, Ok(200)));
}

// ===== the deadline =====

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_end_past_the_deadline_is_not_begun() {
    let rig = Rig::new("503:ra=30:body=busy", [timeout(2000), retry("max_retry_after = \"1m\"")]);
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!((rig.now(), response.status.as_u16()), (1, 503));
    assert_eq!(response.headers.to_map()["retry-after"], "30");
    assert_eq!(rig.events(), [skipped(1, NoRetry::Deadline)]);
    for (limit, ended) in [(41, (1, Ok(503))), (42, (42, Err(ErrorKind::Timeout)))] {
        let rig = Rig::new("503,hang", [timeout(limit), retry("delay = \"40ms\"")]);
        assert_eq!(rig.get().await, ended, "an own delay of 40 ms from 1 on, until {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_stays_open_past_the_deadline_ends_the_call_at_once() {
    let rig = Rig::new(
        "503",
        [
            timeout(200),
            retry(&format!("{HANDLES_OPEN}delay = \"10ms\"")),
            breaker("failure_threshold = 1\ndelay = \"300ms\""),
        ],
    );
    let error = rig.outcome(&rig.call()).await.unwrap_err();
    let told = (rig.now(), error.kind(), error.retry_after());
    assert_eq!(told, (11, ErrorKind::CircuitOpen, Some(ms(290))));
    assert_eq!(rig.events().last(), Some(&skipped(11, NoRetry::Deadline)));
}

#[tokio::test(start_paused = true)]
async fn jitter_on_top_of_retry_after_only_lengthens() {
    for jitter in ["0.5", "\"500ms\""] {
        let rig = Rig::around(
            Script::new("").rest("503:ra=1"),
            [retry(&format!("max_retries = 99\njitter = {jitter}"))],
        );
        rig.run().await;
        let delays = delays(&rig);
        assert!(delays.iter().all(|delay| (1_000_000..=1_500_000).contains(delay)));
        assert!(delays.iter().max() > Some(&1_400_000), "{delays:?}");
    }
}

// ===== what goes out =====

#[tokio::test(start_paused = true)]
async fn return_last_failure_sends_the_last_response_out_as_it_came() {
    let rig = Rig::new(
        "503:ra=7:body=first,503:ra=9:body=last",
        [retry("max_retries = 1\nretry_after = false")],
    );
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!((response.status.as_u16(), response.attempt()), (503, 2));
    assert_eq!(response.headers.to_map()["retry-after"], "9");
    assert_eq!(read(response.body).await.unwrap(), "last");
}

#[tokio::test(start_paused = true)]
async fn without_it_exhaustion_is_an_error_that_speaks_of_the_last_failure() {
    let config = "max_retries = 1\ndelay = \"10ms\"\nreturn_last_failure = false";
    for (script, name) in
        [("503,503", "http_request_error"), ("503,close", "connection_terminated")]
    {
        let rig = Rig::new(script, [retry(config)]);
        let error = rig.outcome(&rig.call()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.attempt(), error.name()),
            (ErrorKind::RetriesExceeded, 2, name)
        );
        assert_eq!(rig.events(), [scheduled(1, 1, 10), exhausted(12, 1)]);
    }
}

#[tokio::test(start_paused = true)]
async fn abort_if_ends_the_retries_at_once_with_that_outcome() {
    let config = "max_retries = 5\ndelay = \"10ms\"\nreturn_last_failure = false\n\
                  handle_if = { status = [\"5xx\"] }\nabort_if = { status = [\"501\"] }";
    let rig = Rig::new("503,501", [retry(config)]);
    assert_eq!(rig.get().await, (12, Ok(501)));
    assert_eq!(rig.events(), [scheduled(1, 1, 10), (12, EventKind::Retry(RetryEvent::Aborted))]);
    let rig = Rig::new("close", [retry("abort_if = { failure = [\"connection-lost\"] }")]);
    assert_eq!(rig.get().await, (1, Err(ErrorKind::ConnectionTerminated)));
    assert_eq!(rig.events(), [(1, EventKind::Retry(RetryEvent::Aborted))]);
}

#[tokio::test(start_paused = true)]
async fn abort_if_is_looked_at_on_the_last_attempt_too_and_wins_over_exhaustion() {
    let rig = Rig::new("503", [retry("max_retries = 0\nabort_if = { status = [\"503\"] }")]);
    assert_eq!(rig.get().await, (1, Ok(503)));
    assert_eq!(rig.events(), [(1, EventKind::Retry(RetryEvent::Aborted))]);
}

#[tokio::test(start_paused = true)]
async fn abort_if_does_not_end_what_handle_if_does_not_take() {
    let rig = Rig::new("404", [retry("abort_if = { status = [\"404\"] }")]);
    assert_eq!(rig.get().await, (1, Ok(404)));
    assert_eq!(rig.events(), []);
}

#[tokio::test(start_paused = true)]
async fn a_discarded_response_gives_back_what_its_body_holds_before_the_wait() {
    let held = std::rc::Rc::new(());
    let holds = held.clone();
    let upstream = Answers(move |number| {
        let mut body = ResponseBody::full("busy");
        body.hold(holds.clone());
        Ok(response(if number == 1 { 503 } else { 200 }, &[], body))
    });
    let rig = Rig::around(upstream, [retry("delay = \"50ms\"")]);
    let call = rig.call();
    let watch = async {
        rig.until(2).await;
        std::rc::Rc::strong_count(&held)
    };
    let (outcome, during_the_wait) = tokio::join!(rig.outcome(&call), watch);
    assert_eq!(during_the_wait, 2, "only the upstream's own");
    assert_eq!(std::rc::Rc::strong_count(&held), 3, "and the last response's");
    drop(outcome);
    assert_eq!(std::rc::Rc::strong_count(&held), 2);
}

// ===== which requests =====

#[tokio::test(start_paused = true)]
async fn by_default_the_idempotent_methods_are_repeated_and_no_other() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"] {
        let rig = Rig::new("503", [retry("delay = \"10ms\"")]);
        assert_eq!(rig.request(method, RequestBody::empty()).await, (12, Ok(200)), "{method}");
    }
    for method in ["POST", "PATCH", "CONNECT", "PURGE"] {
        let rig = Rig::new("503", [retry("delay = \"10ms\"")]);
        assert_eq!(rig.request(method, RequestBody::empty()).await, (1, Ok(503)), "{method}");
        assert_eq!(rig.events(), [skipped(1, NoRetry::Method)]);
    }
}

#[tokio::test(start_paused = true)]
async fn methods_replaces_the_list_and_a_star_is_all_of_them() {
    for (methods, method, attempts) in [
        ("[\"POST\"]", "POST", 2),
        ("[\"POST\"]", "GET", 1),
        ("[\"*\"]", "PATCH", 2),
        ("[]", "GET", 1),
    ] {
        let rig = Rig::new("503", [retry(&format!("delay = \"10ms\"\nmethods = {methods}"))]);
        let _ended = rig.request(method, RequestBody::empty()).await;
        assert_eq!(rig.attempts().len(), attempts, "{methods} {method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_never_reached_the_upstream_is_repeated() {
    let untouched = [
        ErrorKind::DnsError,
        ErrorKind::ConnectionRefused,
        ErrorKind::Unroutable,
        ErrorKind::ConnectionTimeout,
        ErrorKind::TlsProtocolError,
        ErrorKind::TlsCertificateError,
    ];
    let perhaps = [ErrorKind::ConnectionTerminated, ErrorKind::ProtocolError, ErrorKind::Timeout];
    for (kind, expected) in untouched
        .map(|kind| (kind, (12, Ok(200))))
        .into_iter()
        .chain(perhaps.map(|kind| (kind, (1, Err(kind)))))
    {
        let upstream = Answers(move |number| match number {
            1 => Err(kind.into()),
            _ => Ok(response(200, &[], ResponseBody::empty())),
        });
        let rig = Rig::around(upstream, [retry("delay = \"10ms\"")]);
        assert_eq!(rig.request("POST", RequestBody::empty()).await, expected, "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_was_cut_off_by_a_timeout_inside_is_not_repeated() {
    let rig = Rig::new("hang", [retry("delay = \"10ms\""), timeout(30)]);
    assert_eq!(rig.request("POST", RequestBody::empty()).await, (30, Err(ErrorKind::Timeout)));
    assert_eq!(rig.events()[1], skipped(30, NoRetry::Method));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_carries_an_idempotency_key_is_repeated() {
    let rig = Rig::new("503", [retry("delay = \"10ms\"")]);
    let request = http::Request::post("http://service-b/").header("Idempotency-Key", "1");
    assert_eq!(rig.send(&rig.call_of(request, RequestBody::empty())).await, (12, Ok(200)));
}

/// One rule for the retry, by default, and for a connection that dies under a request.
#[test]
fn the_default_methods_are_those_of_requests_that_may_come_twice() {
    let default = fusebox_resilience::RetryConfig::default().methods;
    let methods =
        ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE"];
    for name in methods.into_iter().chain(["PURGE", "get"]) {
        let request = || http::Request::builder().method(name).uri("http://service-b/");
        let of = |request| Rig::new("", []).call_of(request, RequestBody::empty());
        let is_idempotent = of(request()).request().is_idempotent();
        assert_eq!(is_idempotent, default.iter().any(|method| method == name), "{name}");
        assert!(of(request().header("Idempotency-Key", "1")).request().is_idempotent());
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_goes_out_as_it_came_whatever_return_last_failure_says() {
    let rig = Rig::new("503", [retry("return_last_failure = false")]);
    assert_eq!(rig.request("POST", RequestBody::empty()).await, (1, Ok(503)));
}

// ===== an open circuit breaker inside =====

const HANDLES_OPEN: &str = "handle_if = { failure = [\"any\"] }\nmax_retries = 9\n";

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_waited_for_rather_than_burnt_attempts_on() {
    let rig = Rig::new(
        "503",
        [
            retry(&format!("{HANDLES_OPEN}delay = \"10ms\"")),
            breaker("failure_threshold = 1\ndelay = \"300ms\""),
        ],
    );
    assert_eq!(rig.get().await, (302, Ok(200)));
    assert_eq!(rig.attempts(), [0, 301]);
    let scheduled: Vec<_> = rig
        .events()
        .into_iter()
        .filter(|(_, event)| matches!(event, EventKind::Retry(RetryEvent::Scheduled { .. })))
        .collect();
    assert_eq!(scheduled, [self::scheduled(1, 1, 10), self::scheduled(11, 2, 290)]);
}

#[tokio::test(start_paused = true)]
async fn the_own_delay_counts_if_it_is_longer_than_the_breakers() {
    let rig = Rig::new(
        "503",
        [
            retry(&format!("{HANDLES_OPEN}delay = \"80ms\"")),
            breaker("failure_threshold = 1\ndelay = \"100ms\""),
        ],
    );
    assert_eq!(rig.get().await, (162, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_that_stays_open_for_longer_than_the_policy_may_wait_ends_the_call_at_once() {
    for limit in ["max_retry_after = \"200ms\"", "max_duration = \"250ms\""] {
        let rig = Rig::new(
            "503",
            [
                retry(&format!(
                    "{HANDLES_OPEN}return_last_failure = false\ndelay = \"10ms\"\n{limit}"
                )),
                breaker("failure_threshold = 1\ndelay = \"300ms\""),
            ],
        );
        let error = rig.outcome(&rig.call()).await.unwrap_err();
        assert_eq!(
            (rig.now(), error.kind(), error.retry_after()),
            (11, ErrorKind::CircuitOpen, Some(ms(290)))
        );
        assert_eq!(rig.events().last(), Some(&skipped(11, NoRetry::CircuitOpen)), "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_that_handle_if_does_not_name_goes_out_at_once() {
    let rig = Rig::new(
        "503",
        [
            retry("max_retries = 9\ndelay = \"10ms\""),
            breaker("failure_threshold = 1\ndelay = \"300ms\""),
        ],
    );
    assert_eq!(rig.get().await, (11, Err(ErrorKind::CircuitOpen)));
}

#[tokio::test(start_paused = true)]
async fn a_half_open_breaker_whose_trials_are_all_under_way_is_asked_again_after_a_second() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"10ms\"");
    let rig =
        Rig::new("503,200:delay=100", [retry(&format!("{HANDLES_OPEN}delay = \"50ms\"")), breaker]);
    // The first is the trial from 51 to 152; the second is rejected at 60 and finds the circuit
    // closed at 1060.
    let (trial, other) = tokio::join!(rig.get(), rig.get_at(60));
    assert_eq!((trial, other), ((152, Ok(200)), (1061, Ok(200))));
}

#[tokio::test(start_paused = true)]
async fn a_post_that_an_open_breaker_turned_away_is_repeated() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"100ms\"");
    let rig = Rig::new("503", [retry(&format!("{HANDLES_OPEN}delay = \"10ms\"")), breaker]);
    assert_eq!(rig.request("POST", RequestBody::empty()).await, (1, Ok(503)));
    assert_eq!(rig.request("POST", RequestBody::empty()).await, (102, Ok(200)));
}

// ===== budget =====

#[tokio::test(start_paused = true)]
async fn a_budget_bounds_how_many_calls_retry_at_once_and_a_call_enters_it_once() {
    let budget = budget(0.2, 1);
    let parts = Surroundings::default().budget("shared", &budget);
    let policy = retry_among("max_retries = 3\ndelay = \"50ms\"\nbudget = \"shared\"", &parts);
    let rig = Rig::new("503*3", [policy.clone()]);
    let (first, second) = tokio::join!(rig.get(), rig.get_at(10));
    assert_eq!((first, second), ((103, Ok(200)), (11, Ok(503))));
    assert_eq!(rig.events()[1], skipped(11, NoRetry::Budget));
    let status = budget.status(Instant::now());
    assert_eq!((status.calls_in_flight, status.extras_in_flight), (0, 0));
    let rig = Rig::new("503", [policy]);
    assert_eq!(rig.get().await, (52, Ok(200)), "the share is back");
}

#[tokio::test(start_paused = true)]
async fn a_budget_grows_with_the_calls_in_flight() {
    let budget = budget(0.5, 1);
    let parts = Surroundings::default().budget("shared", &budget);
    let policy = retry_among("delay = \"50ms\"\nbudget = \"shared\"", &parts);
    let rig = Rig::new("503*4", [policy]);
    let ended = futures_util::future::join_all((0..4).map(|_| rig.get())).await;
    let retried = ended.iter().filter(|(_, result)| *result == Ok(200)).count();
    assert_eq!(retried, 2, "half of four: {ended:?}");
}

#[test]
fn configuration_errors_of_a_budget_name_the_key() {
    let build = |config: BudgetConfig| config.build(Instant::now());
    let problems = |text| problems(text, build);
    assert_eq!(problems("max_rate = 0.0"), ["max_rate: must be above 0 and at most 1, is 0"]);
    assert_eq!(problems("max_rate = 1.5"), ["max_rate: must be above 0 and at most 1, is 1.5"]);
    assert_eq!(problems("max_rate = nan"), ["max_rate: must be above 0 and at most 1, is NaN"]);
    assert_eq!(problems("window = \"999ms\""), ["window: must be from 1s to 1h, is 999ms"]);
    assert_eq!(problems("window = \"61m\""), ["window: must be from 1s to 1h, is 1h 1m"]);
    let out_of_bounds = "min_per_second: must be from 0 to 1000000, is -1";
    assert_eq!(problems("min_per_second = -1"), [out_of_bounds]);
    assert_eq!(problems(""), Vec::<String>::new());
}

#[test]
fn configuration_errors_name_the_key() {
    for (text, expected) in [
        ("max_retries = -2", "max_retries: must be from 0 to 1000000, or -1 for unlimited, is -2"),
        ("max_duration = \"0s\"", "max_duration: must be at least 1ms, is 0s"),
        (
            "delay = \"1s\"\nbackoff = {}",
            "delay: give at most one of `delay`, `backoff` and `random_delay`",
        ),
        (
            "backoff = {}\nrandom_delay = { min = \"1s\", max = \"2s\" }",
            "delay: give at most one of `delay`, `backoff` and `random_delay`",
        ),
        ("backoff = { delay = \"0s\" }", "backoff.delay: must be at least 1ms, is 0s"),
        ("backoff = { max_delay = \"0s\" }", "backoff.max_delay: must be at least 1ms, is 0s"),
        ("backoff = { factor = 0.5 }", "backoff.factor: must be at least 1, is 0.5"),
        ("backoff = { factor = inf }", "backoff.factor: must be at least 1, is inf"),
        (
            "backoff = { step = 2 }",
            "unknown field `step`, expected one of `delay`, `max_delay`, `factor`",
        ),
        (
            "random_delay = { min = \"2s\", max = \"1s\" }",
            "random_delay.max: must be at least `min`, which is 2s, is 1s",
        ),
        (
            "random_delay = { min = \"1ns\", max = \"1s\" }",
            "random_delay.min: must be 0s or at least 1ms, is 1ns",
        ),
        ("delay = \"1ns\"", "delay: must be 0s or at least 1ms, is 1ns"),
        ("max_retry_after = \"1ns\"", "max_retry_after: must be 0s or at least 1ms, is 1ns"),
        ("jitter = \"1ns\"", "jitter: must be 0s or at least 1ms, is 1ns"),
        ("jitter = \"3years\"", "jitter: must be at most 1h, is 3years"),
        (
            "backoff = { delay = \"10s\" }",
            "backoff.delay: must be at most `max_delay`, which is 5s, is 10s",
        ),
        ("random_delay = { min = \"2s\" }", "missing field `max`"),
        ("jitter = 1.5", "jitter: a factor must be from 0 to 1, is 1.5"),
        ("jitter = -1", "jitter: a factor must be from 0 to 1, is -1"),
        (
            "jitter = true",
            "invalid type: boolean `true`, expected \"full\", a duration such as \"50ms\", or a \
             factor from 0 to 1",
        ),
        ("budget = \"small\"", "budget: no budget `small`"),
        (
            "methods = [\"get\"]",
            "methods[0]: expected a method in capitals, or [\"*\"] for all of them, found `get`",
        ),
        (
            "methods = [\"GET\", \"*\"]",
            "methods[1]: expected a method in capitals, or [\"*\"] for all of them, found `*`",
        ),
        (
            "methods = [\"A B\"]",
            "methods[0]: expected a method in capitals, or [\"*\"] for all of them, found `A B`",
        ),
        ("handle_if = { component = \"none\" }", "handle_if.component: no component `none`"),
        ("abort_if = { component = \"none\" }", "abort_if.component: no component `none`"),
        (
            "retries = 1",
            "unknown field `retries`, expected one of `handle_if`, `max_retries`, `delay`, \
             `backoff`, `random_delay`, `jitter`, `retry_after`, `max_retry_after`, \
             `max_duration`, `abort_if`, `return_last_failure`, `methods`, `retry_retried`, \
             `budget`",
        ),
    ] {
        let found = problems(text, |config: RetryConfig| {
            config.build("retry".into(), &Surroundings::default())
        });
        assert_eq!(found, [expected], "{text}");
    }
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let text = "max_retries = -2\nbackoff = { delay = \"0s\", factor = 0 }\nmethods = [\"get\"]\n\
                budget = \"small\"";
    let found = problems(text, |config: RetryConfig| {
        config.build("retry".into(), &Surroundings::default())
    });
    assert_eq!(found.len(), 5, "{found:?}");
}
