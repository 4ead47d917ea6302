//! Circuit breaker through the pipeline: what opens it, for how long, what closes it, and what does
//! not count.

use std::time::Duration;

use fusebox_resilience::testing::Script;
use fusebox_resilience::{
    CallEvent, CircuitBreakerConfig, CircuitBreakerEvent, CircuitState, ErrorKind, EventKind,
    PolicyConfig, ResponseBody, WindowCounts,
};

use crate::support::{
    Answers, Fake, Rig, Surroundings, breaker, breaker_among, ms, problems, response, timeout,
};

const OPEN: Result<u16, ErrorKind> = Err(ErrorKind::CircuitOpen);

fn opened(at: u64, from: CircuitState, delay: u64) -> (u64, EventKind) {
    (
        at,
        EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
            from,
            to: CircuitState::Open,
            delay: Some(ms(delay)),
            key: None,
            endpoint: None,
        }),
    )
}

fn half_opened(at: u64) -> (u64, EventKind) {
    (
        at,
        EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
            from: CircuitState::Open,
            to: CircuitState::HalfOpen,
            delay: None,
            key: None,
            endpoint: None,
        }),
    )
}

fn closed(at: u64) -> (u64, EventKind) {
    (
        at,
        EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
            from: CircuitState::HalfOpen,
            to: CircuitState::Closed,
            delay: None,
            key: None,
            endpoint: None,
        }),
    )
}

fn rejected(at: u64, retry_after: Option<u64>) -> (u64, EventKind) {
    (
        at,
        EventKind::Call(CallEvent::Rejected {
            kind: ErrorKind::CircuitOpen,
            retry_after: retry_after.map(ms),
        }),
    )
}

/// What requests at these times come to.
async fn results<const N: usize>(rig: &Rig, times: [u64; N]) -> [Result<u16, ErrorKind>; N] {
    let mut results = [OPEN; N];
    for (result, at) in results.iter_mut().zip(times) {
        *result = rig.get_at(at).await.1;
    }
    results
}

// ===== what opens it =====

#[tokio::test(start_paused = true)]
async fn by_default_half_of_20_calls_open_it_for_5_then_10_s_and_three_successes_close_it() {
    let rig = Rig::new("503*8,200*11,503,503,200,503,200*3", [breaker("")]);
    for at in 0..21 {
        assert!(rig.get_at(10 * at).await.1.is_ok(), "9 of 20 fail, then 10 of 21, of 22 11");
    }
    assert_eq!(rig.events(), []);
    let rig = Rig::new("503*10,200*9,503,503,200,503,200*3", [breaker("")]);
    for at in 0..20 {
        assert!(rig.get_at(10 * at).await.1.is_ok());
    }
    assert_eq!(results(&rig, [200, 5_190, 5_191]).await, [OPEN, OPEN, Ok(503)]);
    assert_eq!(results(&rig, [15_191, 15_192]).await, [OPEN, Ok(200)]);
    assert_eq!(results(&rig, [15_200]).await, [Ok(503)]);
    assert_eq!(results(&rig, [35_201, 35_210, 35_220]).await, [Ok(200); 3]);
    assert_eq!(
        rig.events(),
        [
            opened(191, CircuitState::Closed, 5_000),
            rejected(200, Some(4_991)),
            rejected(5_190, Some(1)),
            half_opened(5_191),
            opened(5_192, CircuitState::HalfOpen, 10_000),
            rejected(15_191, Some(1)),
            half_opened(15_192),
            opened(15_201, CircuitState::HalfOpen, 20_000),
            half_opened(35_201),
            closed(35_221),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_blip_of_a_few_failures_among_many_calls_does_not_open_it() {
    // 5 ms at 1,000 requests a second, which five failures in a row would have been.
    let breaker = breaker("");
    let rig = Rig::new("200*500,503*5", [breaker.clone()]);
    for at in 0..600 {
        assert!(rig.get_at(at).await.1.is_ok());
    }
    assert_eq!(breaker.status().counts, WindowCounts { successes: 595, failures: 5 });
}

#[tokio::test(start_paused = true)]
async fn period_and_min_calls_change_the_default_threshold_and_a_threshold_replaces_it() {
    let rig = Rig::new("503*4", [breaker("min_calls = 4\nperiod = \"1s\"\ndelay = \"9s\"")]);
    assert_eq!(
        results(&rig, [0, 1100, 1110, 1120, 1130]).await,
        [Ok(503), Ok(503), Ok(503), Ok(503), Ok(200)]
    );
    let rig = Rig::new("503*4", [breaker("min_calls = 4\nperiod = \"2s\"\ndelay = \"9s\"")]);
    assert_eq!(
        results(&rig, [0, 1100, 1110, 1120, 1130]).await,
        [Ok(503), Ok(503), Ok(503), Ok(503), OPEN]
    );
    assert_eq!(rig.events()[0], opened(1121, CircuitState::Closed, 9_000));
    let rig = Rig::new("503*5", [breaker("failure_threshold = 5")]);
    for at in 0..5 {
        assert_eq!(rig.get_at(10 * at).await.1, Ok(503));
    }
    assert_eq!(results(&rig, [60_040, 60_041, 60_042]).await, [OPEN, Ok(200), Ok(200)]);
    assert_eq!(rig.events()[2..], [half_opened(60_041), closed(60_042)], "after one success");
}

#[tokio::test(start_paused = true)]
async fn with_a_capacity_it_opens_on_so_many_of_the_last_results() {
    let breaker = breaker("failure_threshold = 2\nfailure_capacity = 3");
    let rig = Rig::new("503,200,200,503,200,503", [breaker.clone()]);
    assert_eq!(
        results(&rig, [0, 10, 20, 30, 40]).await,
        [Ok(503), Ok(200), Ok(200), Ok(503), Ok(200)]
    );
    assert_eq!(breaker.status().counts, WindowCounts { successes: 2, failures: 1 });
    assert_eq!(results(&rig, [50, 60]).await, [Ok(503), OPEN]);
}

#[tokio::test(start_paused = true)]
async fn with_a_period_it_opens_on_so_many_failures_within_it() {
    let rig = Rig::new("503,503,503,200,503", [breaker("failure_threshold = 3\nperiod = \"1s\"")]);
    // The first is more than a period older than the third; the success in between does not start
    // over.
    assert_eq!(results(&rig, [0, 800, 1200, 1400]).await, [Ok(503), Ok(503), Ok(503), Ok(200)]);
    assert_eq!(results(&rig, [1500, 1600]).await, [Ok(503), OPEN]);
}

#[tokio::test(start_paused = true)]
async fn with_a_rate_it_opens_from_min_calls_on() {
    let rig = Rig::new(
        "503,503,200,200,503",
        [breaker("failure_rate = 0.6\nmin_calls = 5\nperiod = \"1s\"")],
    );
    assert_eq!(results(&rig, [0, 10, 20, 30]).await, [Ok(503), Ok(503), Ok(200), Ok(200)]);
    assert_eq!(results(&rig, [40, 50]).await, [Ok(503), OPEN]);
}

#[tokio::test(start_paused = true)]
async fn without_min_calls_a_rate_needs_ten() {
    let breaker = breaker("failure_rate = 0.1\nperiod = \"1s\"");
    let rig = Rig::new("503*10", [breaker.clone()]);
    for at in 0..9 {
        rig.get_at(at * 10).await.1.unwrap();
    }
    assert_eq!(breaker.status().state, CircuitState::Closed);
    assert_eq!(results(&rig, [90, 95]).await, [Ok(503), OPEN]);
}

#[tokio::test(start_paused = true)]
async fn a_call_slower_than_slow_call_is_a_failure_and_one_as_slow_is_not() {
    let breaker = breaker("failure_threshold = 1\nslow_call = \"50ms\"");
    let rig = Rig::new("200:delay=49,200:delay=50", [breaker.clone()]);
    assert_eq!(rig.get().await, (50, Ok(200)));
    assert_eq!(breaker.status().state, CircuitState::Closed);
    assert_eq!(rig.get().await, (101, Ok(200)));
    assert_eq!(rig.events(), [opened(101, CircuitState::Closed, 60_000)]);
}

#[tokio::test(start_paused = true)]
async fn the_time_of_a_peek_is_not_the_upstreams_slowness() {
    let slow = Fake::peeking(100, 500, |_| false);
    let parts = Surroundings::default().predicate("looks", &slow);
    let breaker = breaker_among(
        "failure_threshold = 1\nslow_call = \"50ms\"\nhandle_if = { component = \"looks\" }",
        &parts,
    );
    let rig = Rig::new("200:bodydelay=200", [breaker.clone()]);
    assert_eq!(rig.get().await, (201, Ok(200)));
    assert_eq!(breaker.status().counts, WindowCounts { successes: 1, failures: 0 });
}

#[tokio::test(start_paused = true)]
async fn what_ignore_if_takes_counts_as_neither_even_if_handle_if_takes_it() {
    let breaker = breaker(
        "failure_threshold = 1\n\
         ignore_if = { status = [\"503\"], failure = [\"connection-lost\"] }",
    );
    let rig = Rig::new("503,close,200,500", [breaker.clone()]);
    assert_eq!(results(&rig, [0, 10]).await, [Ok(503), Err(ErrorKind::ConnectionTerminated)]);
    assert_eq!(breaker.status().counts, WindowCounts::default());
    rig.run().await;
    assert_eq!(breaker.status().counts, WindowCounts { successes: 1, failures: 0 });
    rig.run().await;
    assert_eq!(breaker.status().state, CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_transport_error_is_a_failure_and_a_404_and_a_429_are_successes() {
    let breaker = breaker("failure_threshold = 9");
    let rig = Rig::new("close,404,501,429", [breaker.clone()]);
    for at in 0..4 {
        let _ended = rig.get_at(10 * at).await;
    }
    assert_eq!(breaker.status().counts, WindowCounts { successes: 3, failures: 1 });
}

// ===== for how long =====

#[tokio::test(start_paused = true)]
async fn retry_after_of_a_failing_429_or_503_sets_the_delay_up_to_max_delay() {
    for (step, delay) in [
        ("503:ra=2", 2_000),
        ("429:ra=2", 2_000),
        // A date has whole seconds, and the wall clock is 1 ms past one.
        ("503:radate=2", 1_999),
        ("503:ra=9999", 300_000),
        ("500:ra=2", 100),
        ("503", 100),
        // Nothing is asked for.
        ("503:ra=0", 100),
        ("503:radate=0", 100),
    ] {
        let breaker = breaker(
            "failure_threshold = 1\ndelay = \"100ms\"\nretry_after = true\n\
             handle_if = { status = [\"429\", \"5xx\"] }",
        );
        let rig = Rig::new(step, [breaker]);
        rig.run().await;
        assert_eq!(rig.events(), [opened(1, CircuitState::Closed, delay)], "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_what_is_no_failure_is_not_listened_to_nor_by_default() {
    let rig = Rig::new("503:ra=2", [breaker("failure_threshold = 1\ndelay = \"100ms\"")]);
    rig.run().await;
    assert_eq!(rig.events(), [opened(1, CircuitState::Closed, 100)]);
    let config = "failure_threshold = 1\nretry_after = true\nhandle_if = { status = [\"500\"] }";
    let rig = Rig::new("503:ra=2", [breaker(config)]);
    rig.run().await;
    assert_eq!(rig.events(), []);
}

#[tokio::test(start_paused = true)]
async fn max_delay_caps_what_is_asked_for_and_is_at_least_the_delay() {
    let rig = Rig::new(
        "503:ra=9",
        [breaker("failure_threshold = 1\ndelay = \"1s\"\nmax_delay = \"3s\"\nretry_after = true")],
    );
    rig.run().await;
    assert_eq!(rig.events(), [opened(1, CircuitState::Closed, 3_000)]);
    let rig = Rig::new("503", [breaker("failure_threshold = 1\ndelay = \"10m\"")]);
    rig.run().await;
    assert_eq!(rig.events(), [opened(1, CircuitState::Closed, 600_000)]);
}

#[tokio::test(start_paused = true)]
async fn delay_factor_grows_the_delay_until_it_was_closed_for_as_long_as_it_was_open() {
    let config =
        "failure_threshold = 1\ndelay = \"100ms\"\ndelay_factor = 2\nmax_delay = \"300ms\"";
    let breaker = breaker(config);
    let rig = Rig::new("503*4,200,503,200,503", [breaker.clone()]);
    // Closed from 905 to 911 it flaps; from 1212 to 1513 it is well.
    let results = results(&rig, [0, 101, 302, 603, 904, 910, 1211, 1512]).await;
    let (well, ill) = (Ok(200), Ok(503));
    assert_eq!(results, [ill, ill, ill, ill, well, ill, well, ill]);
    let openings: Vec<_> = rig
        .events()
        .into_iter()
        .filter_map(|(_, event)| match event {
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged { delay, .. }) => delay,
            _ => None,
        })
        .collect();
    assert_eq!(openings, [100, 200, 300, 300, 300, 100].map(ms));
    assert_eq!(breaker.status().openings, 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_carries_the_remaining_delay_and_never_reaches_the_upstream() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"100ms\"");
    let rig = Rig::new("503", [breaker.clone()]);
    rig.run().await;
    rig.until(41).await;
    let error = rig.outcome(&rig.call()).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after(), error.attempt()),
        (ErrorKind::CircuitOpen, Some(ms(60)), 0)
    );
    assert_eq!(rig.attempts(), [0]);
    let status = breaker.status();
    assert_eq!((status.state, status.remaining_delay), (CircuitState::Open, ms(60)));
    assert_eq!(status.counts, WindowCounts { successes: 0, failures: 1 }, "what opened it");
}

// ===== half-open =====

#[tokio::test(start_paused = true)]
async fn it_turns_half_open_on_the_first_call_after_the_delay_not_by_itself() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"100ms\"");
    let rig = Rig::new("503", [breaker.clone()]);
    rig.run().await;
    rig.until(500).await;
    let status = breaker.status();
    assert_eq!((status.state, status.remaining_delay), (CircuitState::Open, Duration::ZERO));
    rig.run().await;
    assert_eq!(rig.events()[1..], [half_opened(500), closed(501)]);
}

#[tokio::test(start_paused = true)]
async fn half_open_admits_no_more_at_once_than_the_threshold_in_force_holds() {
    for (config, trials) in [
        ("failure_threshold = 1", 1),
        ("failure_threshold = 3", 3),
        ("failure_threshold = 1\nfailure_capacity = 4", 4),
        ("failure_threshold = 1\nsuccess_threshold = 2", 2),
        ("failure_threshold = 5\nsuccess_threshold = 2\nsuccess_capacity = 3", 3),
        ("failure_threshold = 2\nperiod = \"1s\"", 2),
        ("failure_rate = 0.5\nmin_calls = 4\nperiod = \"1s\"", 4),
    ] {
        let breaker = breaker(config);
        let rig = Rig::around(Script::new("").rest("200:delay=50"), [breaker.clone()]);
        breaker.force(CircuitState::HalfOpen, &rig.recorder.observers());
        let ended = futures_util::future::join_all((0..9).map(|_| rig.get())).await;
        assert_eq!(
            ended.iter().filter(|(_, result)| *result == Ok(200)).count(),
            trials,
            "{config}"
        );
        assert_eq!(rig.events()[1], rejected(0, Some(1_000)), "look again in a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_success_threshold_closes_it_and_more_failures_than_it_can_bear_open_it_again() {
    let config =
        "failure_threshold = 1\nsuccess_threshold = 2\nsuccess_capacity = 3\ndelay = \"10ms\"";
    let rig = Rig::new("503,503,200,503,200,503,200", [breaker(config)]);
    let results = results(&rig, [0, 20, 30, 40, 60, 70, 80]).await;
    assert_eq!(results, [Ok(503), Ok(503), Ok(200), Ok(503), Ok(200), Ok(503), Ok(200)]);
    assert_eq!(
        rig.events(),
        [
            opened(1, CircuitState::Closed, 10),
            half_opened(20),
            opened(41, CircuitState::HalfOpen, 10),
            half_opened(60),
            closed(81)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_success_threshold_the_failure_threshold_judges_both_ways() {
    // 2 of 3: two successes leave no room for two failures.
    let rig = Rig::new(
        "503,503,503,200,200",
        [breaker("failure_threshold = 2\nfailure_capacity = 3\ndelay = \"10ms\"")],
    );
    let results = results(&rig, [0, 5, 20, 25, 30]).await;
    assert_eq!(results, [Ok(503), Ok(503), Ok(503), Ok(200), Ok(200)]);
    assert_eq!(rig.events(), [opened(6, CircuitState::Closed, 10), half_opened(20), closed(31)]);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_hangs_has_failed_and_its_late_result_is_ignored() {
    let breaker = breaker("failure_threshold = 1\ntrial_timeout = \"100ms\"\ndelay = \"100ms\"");
    let rig = Rig::new("200:delay=299,200:delay=48", [breaker.clone()]);
    breaker.force(CircuitState::HalfOpen, &rig.recorder.observers());
    let (late, early, next, trial) =
        tokio::join!(rig.get(), rig.get_at(99), rig.get_at(150), rig.get_at(250));
    assert_eq!((late, early), ((300, Ok(200)), (99, OPEN)));
    assert_eq!((next, trial), ((150, OPEN), (299, Ok(200))));
    assert_eq!(
        rig.events()[1..],
        [
            rejected(99, Some(1_000)),
            opened(150, CircuitState::HalfOpen, 100),
            rejected(150, Some(100)),
            half_opened(250),
            closed(299),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_cancelled_gives_its_place_back_at_once_and_counts_as_neither() {
    let breaker = breaker("failure_threshold = 1");
    let rig = Rig::new("hang,200", [breaker.clone()]);
    breaker.force(CircuitState::HalfOpen, &rig.recorder.observers());
    let call = rig.call();
    assert!(tokio::time::timeout(ms(20), rig.outcome(&call)).await.is_err());
    let status = breaker.status();
    assert_eq!(
        (status.state, status.trials, status.counts),
        (CircuitState::HalfOpen, 0, WindowCounts::default())
    );
    assert_eq!(rig.get().await, (21, Ok(200)));
}

#[tokio::test(start_paused = true)]
async fn a_straggler_from_before_the_circuit_opened_changes_nothing() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"10ms\"");
    let rig = Rig::new("503:delay=99,503,200:delay=150", [breaker.clone()]);
    let (straggler, _, trial) = tokio::join!(rig.get(), rig.get_at(1), rig.get_at(50));
    assert_eq!((straggler, trial), ((100, Ok(503)), (201, Ok(200))));
    assert_eq!(rig.events(), [opened(2, CircuitState::Closed, 10), half_opened(50), closed(201)]);
}

// ===== by hand =====

#[tokio::test(start_paused = true)]
async fn it_can_be_moved_by_hand_and_goes_on_from_there_by_its_own_rules() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"100ms\"");
    let rig = Rig::new("", [breaker.clone()]);
    let observers = rig.recorder.observers();
    breaker.force(CircuitState::Open, &observers);
    breaker.force(CircuitState::Open, &observers);
    assert_eq!(results(&rig, [50, 100]).await, [OPEN, Ok(200)]);
    breaker.force(CircuitState::HalfOpen, &observers);
    breaker.force(CircuitState::Closed, &observers);
    let expected = [
        opened(0, CircuitState::Closed, 100),
        rejected(50, Some(50)),
        half_opened(100),
        closed(101),
        (
            101,
            EventKind::CircuitBreaker(CircuitBreakerEvent::StateChanged {
                from: CircuitState::Closed,
                to: CircuitState::HalfOpen,
                delay: None,
                key: None,
                endpoint: None,
            }),
        ),
        closed(101),
    ];
    assert_eq!(rig.events(), expected);
}

#[tokio::test(start_paused = true)]
async fn one_breaker_in_two_pipelines_is_one_breaker() {
    let breaker = breaker("failure_threshold = 2");
    let (first, second) = (Rig::new("503", [breaker.clone()]), Rig::new("503", [breaker.clone()]));
    assert_eq!(first.get().await.1, Ok(503));
    assert_eq!(second.get().await.1, Ok(503));
    assert_eq!(first.get().await.1, OPEN);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_client_is_neutral_whatever_the_conditions_say() {
    let breaker = breaker("failure_threshold = 1\nhandle_if = { failure = [\"any\"] }");
    let upstream = Answers(|number| match number {
        1 => Err(ErrorKind::RequestIncomplete.into()),
        2 => Err(ErrorKind::RequestTooLarge.into()),
        _ => Ok(response(200, &[], ResponseBody::empty())),
    });
    let rig = Rig::around(upstream, [breaker.clone()]);
    rig.run().await;
    rig.run().await;
    assert_eq!(
        (breaker.status().state, breaker.status().counts),
        (CircuitState::Closed, WindowCounts::default())
    );
}

#[test]
fn configuration_errors_name_the_key() {
    for (text, expected) in [
        ("failure_threshold = 0", "failure_threshold: must be from 1 to 100000, is 0"),
        ("failure_threshold = 100001", "failure_threshold: must be from 1 to 100000, is 100001"),
        (
            "failure_threshold = 1_000_000_000_000_000",
            "failure_threshold: must be from 1 to 100000, is 1000000000000000",
        ),
        (
            "failure_threshold = 3\nfailure_capacity = 2",
            "failure_capacity: must be from 3 to 100000, is 2",
        ),
        (
            "failure_threshold = 5\nfailure_capacity = 100001",
            "failure_capacity: must be from 5 to 100000, is 100001",
        ),
        ("failure_capacity = 9", "failure_capacity: needs a `failure_threshold`"),
        ("failure_rate = 0.5", "failure_rate: needs a `period`"),
        (
            "failure_threshold = 5\nmin_calls = 5",
            "min_calls: needs a `failure_rate`, or a `slow_call_rate`",
        ),
        ("period = \"0s\"", "period: must be at least 1ms, is 0s"),
        (
            "failure_threshold = 5\nperiod = \"1s\"\nfailure_capacity = 9",
            "failure_capacity: either a capacity or a `period`",
        ),
        (
            "failure_threshold = 5\nperiod = \"1s\"\nmin_calls = 9",
            "min_calls: needs a `failure_rate`, or a `slow_call_rate`",
        ),
        (
            "period = \"1s\"\nfailure_rate = 0.0",
            "failure_rate: must be above 0 and at most 1, is 0",
        ),
        (
            "period = \"1s\"\nfailure_rate = 1.1",
            "failure_rate: must be above 0 and at most 1, is 1.1",
        ),
        (
            "period = \"1s\"\nfailure_rate = nan",
            "failure_rate: must be above 0 and at most 1, is NaN",
        ),
        (
            "period = \"1s\"\nfailure_rate = 0.5\nfailure_threshold = 5",
            "failure_threshold: either a threshold or a `failure_rate`",
        ),
        (
            "period = \"1s\"\nfailure_rate = 0.5\nmin_calls = 0",
            "min_calls: must be from 1 to 100000, is 0",
        ),
        ("slow_call = \"0s\"", "slow_call: must be at least 1ms, is 0s"),
        ("success_threshold = 100001", "success_threshold: must be from 1 to 100000, is 100001"),
        ("success_threshold = 0", "success_threshold: must be from 1 to 100000, is 0"),
        (
            "success_threshold = 3\nsuccess_capacity = 2",
            "success_capacity: must be from 3 to 100000, is 2",
        ),
        (
            "failure_threshold = 5\nsuccess_capacity = 2",
            "success_capacity: needs a `success_threshold`",
        ),
        ("success_capacity = 2", "success_capacity: must be from 3 to 100000, is 2"),
        ("delay = \"1ns\"", "delay: must be 0s or at least 1ms, is 1ns"),
        ("delay_factor = 0.9", "delay_factor: must be at least 1, is 0.9"),
        (
            "delay = \"0s\"\ndelay_factor = 2",
            "delay_factor: needs a `delay` of more than 0, which \
                                                it could make grow",
        ),
        ("delay_jitter = 1.5", "delay_jitter: must be from 0 to 1, is 1.5"),
        ("delay_factor = inf", "delay_factor: must be at least 1, is inf"),
        ("delay = \"2s\"\nmax_delay = \"1s\"", "max_delay: must be at least `delay`"),
        ("trial_timeout = \"0s\"", "trial_timeout: must be at least 1ms, is 0s"),
        (
            "handle_if = { failure = [\"late\"] }",
            "handle_if.failure[0]: unknown failure `late`; expected any, dns, connect, tls, \
             connection-lost, protocol, timeout, circuit-open, bulkhead-full, rate-limited, \
             overloaded, budget-exceeded, retries-exceeded, other",
        ),
        ("ignore_if = { component = \"none\" }", "ignore_if.component: no component `none`"),
        ("failure_threshold = -1", "invalid value: integer `-1`, expected usize"),
        (
            "delay = 60",
            "invalid type: integer `60`, expected a duration such as \"250ms\", or { component = \
             \"NAME\" }",
        ),
    ] {
        let found = problems(text, |config: CircuitBreakerConfig| {
            config.build("b".into(), &Surroundings::default())
        });
        assert_eq!(found, [expected], "{text}");
    }
}

// ===== ramp, and slow calls apart =====

fn counts(successes: usize, failures: usize) -> WindowCounts {
    WindowCounts { successes, failures }
}

#[tokio::test(start_paused = true)]
async fn slow_calls_are_counted_apart_and_open_it_at_their_rate() {
    let breaker = breaker(
        "failure_rate = 0.9\nperiod = \"10s\"\nmin_calls = 4\nslow_call = \"50ms\"\n\
         slow_call_rate = 0.5",
    );
    let rig = Rig::new("200:delay=59*2,200*9", [breaker.clone()]);
    for _ in 0..3 {
        rig.run().await;
    }
    let status = breaker.status();
    assert_eq!((status.counts, status.slow_calls), (counts(3, 0), 2), "they are no failures");
    assert_eq!(status.state, CircuitState::Closed);
    rig.run().await;
    assert_eq!(breaker.status().state, CircuitState::Open, "two of four");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cut_off_when_it_was_slow_is_a_slow_call() {
    let config = "failure_rate = 0.9\nperiod = \"10s\"\nmin_calls = 2\nslow_call = \"50ms\"\n\
                  slow_call_rate = 1.0";
    let breaker = breaker(config);
    let rig = Rig::new("hang*2", [timeout(60), breaker.clone()]);
    rig.run().await;
    let status = breaker.status();
    assert_eq!((status.counts, status.slow_calls), (counts(1, 0), 1));
    rig.run().await;
    assert_eq!(breaker.status().state, CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn after_closing_a_ramp_rejects_a_share_with_what_remains_of_it() {
    let breaker =
        breaker("failure_threshold = 1\nsuccess_threshold = 1\ndelay = \"10ms\"\nramp = \"1s\"");
    let rig = Rig::new("503,200", [breaker.clone()]);
    rig.run().await;
    assert_eq!(rig.get_at(20).await, (21, Ok(200)), "the trial closes it");
    assert_eq!(breaker.status().admitted, 0.1);
    let mut rejected = 0;
    for at in 0..50 {
        rig.until(121 + at * 2).await;
        if let Err(error) = rig.outcome(&rig.call()).await {
            rejected += 1;
            assert_eq!(error.kind(), ErrorKind::CircuitOpen);
            let left = error.retry_after().expect("what remains of the ramp");
            assert_eq!(left, ms(1021 - rig.now()));
        }
    }
    assert!((30..50).contains(&rejected), "{rejected} of 50");
    rig.until(1100).await;
    for _ in 0..50 {
        assert_eq!(rig.get().await.1, Ok(200));
    }
}

#[test]
fn errors_of_ramp_and_slow_calls_name_the_key() {
    let slow = "period = \"10s\"\nslow_call = \"1s\"\n";
    for (text, expected) in [
        ("ramp = \"0s\"".to_owned(), "ramp: must be at least 1ms, is 0s"),
        ("slow_call_rate = 0.5".to_owned(), "slow_call_rate: needs a `slow_call`"),
        (
            format!("{slow}slow_call_rate = 0.0"),
            "slow_call_rate: must be above 0 and at most 1, is 0",
        ),
        (
            format!("{slow}slow_call_rate = 1.5"),
            "slow_call_rate: must be above 0 and at most 1, is 1.5",
        ),
        (
            "slow_call = \"1s\"\nslow_call_rate = 0.5\nfailure_threshold = 3".to_owned(),
            "slow_call_rate: needs a `period`",
        ),
        (
            format!("{slow}failure_threshold = 3\nmin_calls = 3"),
            "min_calls: needs a `failure_rate`, or a `slow_call_rate`",
        ),
    ] {
        let found = problems(&text, |config: CircuitBreakerConfig| {
            config.build("b".into(), &Surroundings::default())
        });
        assert_eq!(found, [expected], "{text}");
    }
    breaker(&format!("{slow}failure_threshold = 3\nmin_calls = 3\nslow_call_rate = 1.0"));
}
