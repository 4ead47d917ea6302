//! The adaptive limiter in a pipeline: whom it admits, what it learns from, what it holds.

use std::sync::Arc;

use fusebox_resilience::testing::{Script, read};
use fusebox_resilience::{
    AdaptiveLimiter, AdaptiveLimiterConfig, AdaptiveLimiterEvent, CallEvent, ErrorKind, EventKind,
    LEVEL, LimitChangeKind, Outcome, Policy, PolicyConfig, QueueEvent, RequestBody, ResponseBody,
    Shown,
};
use futures_util::future::join_all;

use crate::support::{
    Answers, Piece, Rig, Surroundings, adaptive, breaker, fallback, ms, problems, request_body,
    response, response_body, retry, shown, timeout,
};

/// A window is a result that opens it and one that ends it, some milliseconds later; and the limit
/// may be far more than is in use.
const QUICK: &str = "min_samples = 1\nwindow = { min = \"1ms\", max = \"1s\" }\n\
                     max_limit_factor = 1000";

/// So many calls at once: how each ended, in their order.
async fn at_once<U: fusebox_resilience::Upstream>(
    rig: &Rig<U>,
    calls: usize,
) -> Vec<Result<u16, ErrorKind>> {
    let calls: Vec<_> = (0..calls).map(|_| rig.call()).collect();
    join_all(calls.iter().map(async |call| rig.send(call).await.1)).await
}

/// Whether anything has been learnt.
fn has_learnt(limiter: &AdaptiveLimiter) -> bool {
    limiter.show().iter().any(|(name, shown)| *name == "baseline" && *shown != Shown::Time(ms(0)))
}

fn changed(from: usize, to: usize, kind: LimitChangeKind) -> EventKind {
    AdaptiveLimiterEvent::LimitChanged { from, to, kind }.into()
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_calls_are_rejected_at_once_and_not_retried() {
    let limiter = adaptive("initial_limit = 2");
    let outer = breaker("failure_threshold = 1");
    let rig = Rig::new("200:delay=99*2", [retry("delay = \"0s\""), outer.clone(), limiter.clone()]);
    let kind = ErrorKind::Overloaded;
    assert_eq!(at_once(&rig, 3).await, [Ok(200), Ok(200), Err(kind)]);
    let rejected = CallEvent::Rejected { kind, retry_after: Some(ms(1000)) };
    assert_eq!(rig.events(), [(0, rejected.into())]);
    assert_eq!(outer.status().counts.failures, 0, "it is no word of the upstream's");
    assert_eq!(shown(&*limiter, "in_use"), 0);
    assert_eq!(at_once(&rig, 2).await, [Ok(200); 2]);
}

#[tokio::test(start_paused = true)]
async fn what_overload_if_takes_lowers_the_limit_and_is_told() {
    let limiter = adaptive(QUICK);
    let rig = Rig::new("503*9", [limiter.clone()]);
    for call in 0..4 {
        rig.until(call * 20).await;
        rig.run().await;
    }
    let drops = LimitChangeKind::Drops;
    let grown = LimitChangeKind::Grown;
    assert_eq!(rig.events(), [(21, changed(20, 18, drops)), (61, changed(18, 16, drops))]);
    assert_eq!(limiter.limit(), 16);
    let limiter = adaptive(&format!("{QUICK}\noverload_if = {{ status = [\"404\"] }}"));
    let rig = Rig::new("503*9", [limiter.clone()]);
    rig.run().await;
    rig.until(20).await;
    rig.run().await;
    assert_eq!(rig.events(), [(21, changed(20, 21, grown))]);
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_the_upstream_gives_no_sample() {
    let own = [
        ErrorKind::CircuitOpen,
        ErrorKind::BulkheadFull,
        ErrorKind::RateLimited,
        ErrorKind::Overloaded,
        ErrorKind::Exhausted,
        ErrorKind::Internal,
        ErrorKind::RequestIncomplete,
    ];
    let others = [Ok(200), Ok(404), Ok(500), Ok(503), Err(ErrorKind::ConnectionTerminated)];
    let all = own.map(|kind| (Err(kind), false)).into_iter();
    for (answer, expected) in all.chain(others.map(|answer| (answer, true))) {
        let limiter = adaptive(QUICK);
        let answers = move |_| -> Outcome { Ok(response(answer?, &[], ResponseBody::empty())) };
        let rig = Rig::around(Answers(answers), [limiter.clone()]);
        for call in 0..3 {
            rig.until(call * 20).await;
            rig.run().await;
        }
        assert_eq!(has_learnt(&limiter), expected, "{answer:?}");
        assert_eq!(shown(&*limiter, "in_use"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_cut_off_is_a_drop_if_it_took_far_longer_than_usual() {
    let limiter = adaptive(QUICK);
    let steps = "200:delay=19*4,hang*9";
    let rig = Rig::new(steps, [timeout(1000), limiter.clone()]);
    for _ in 0..4 {
        rig.run().await;
    }
    assert!(has_learnt(&limiter));
    let before = rig.events().len();
    for _ in 0..3 {
        assert_eq!(rig.get().await.1, Err(ErrorKind::Timeout));
    }
    let kinds: Vec<_> = rig.events().split_off(before).into_iter().map(|(_, kind)| kind).collect();
    let is_drop = |kind: &EventKind| {
        matches!(
            kind,
            EventKind::AdaptiveLimiter(AdaptiveLimiterEvent::LimitChanged {
                kind: LimitChangeKind::Drops,
                ..
            })
        )
    };
    assert!(kinds.iter().any(is_drop), "{kinds:?}");
    assert_eq!(shown(&*limiter, "in_use"), 0);
    // One that was cut off early might have come to an end like others.
    let limiter = adaptive(QUICK);
    let rig = Rig::new(steps, [timeout(30), limiter.clone()]);
    for _ in 0..12 {
        rig.run().await;
    }
    assert!(!rig.events().iter().any(|(_, kind)| is_drop(kind)), "{:?}", rig.events());
}

#[tokio::test(start_paused = true)]
async fn calls_wait_in_their_order_for_as_long_as_they_may() {
    let limiter =
        adaptive("initial_limit = 1\nqueue = { initial = 2, max = 2 }\nmax_wait = \"250ms\"");
    let rig = Rig::new("200:delay=99*9", [limiter.clone()]);
    let full = Err(ErrorKind::Overloaded);
    assert_eq!(at_once(&rig, 4).await, [Ok(200), Ok(200), Ok(200), full]);
    let waited = |millis| QueueEvent::Admitted { waited: ms(millis) }.into();
    let events = rig.events();
    assert_eq!(events[1..], [(100, waited(100)), (200, waited(200))]);
    assert_eq!(rig.attempts(), [0, 100, 200]);
    // The third would have to wait for 300 ms, and its deadline is nearer than that.
    let limiter = adaptive("initial_limit = 1\nqueue = { initial = 9, max = 9 }");
    let rig = Rig::new("200:delay=99*9", [timeout(150), limiter.clone()]);
    let ended = at_once(&rig, 3).await;
    assert_eq!((ended[0], rig.now()), (Ok(200), 150));
    assert_eq!(ended[1..], [Err(ErrorKind::Timeout); 2]);
    assert_eq!([shown(&*limiter, "in_use"), shown(&*limiter, "waiting")], [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn with_levels_the_line_is_there_by_itself_and_the_lowest_are_rejected() {
    let limiter = adaptive("initial_limit = 10\nmin_limit = 10\nmax_limit = 10");
    let rig = Rig::around(Script::new("").rest("200:delay=99"), [limiter.clone()]);
    let calls: Vec<_> = (0..800)
        .map(|number| {
            // 400 a second of 100 that can be answered, half of each class.
            let level = (100 + 200 * (number % 2) + number / 2 % 100).to_string();
            let request = http::Request::get("http://service-b/").header(LEVEL, level);
            rig.call_of(request, RequestBody::empty())
        })
        .collect();
    let ended = join_all(calls.iter().enumerate().map(async |(number, call)| {
        rig.until(number as u64 * 5 / 2).await;
        rig.send(call).await.1
    }));
    let ended = ended.await;
    let answered = |class: usize| {
        let of_class = ended.iter().skip(300).enumerate().filter(|(number, _)| number % 2 == class);
        of_class.filter(|(_, ended)| **ended == Ok(200)).count()
    };
    let (low, high) = (answered(0), answered(1));
    assert!(low * 5 < high && high > 90, "{low} and {high}");
}

#[tokio::test(start_paused = true)]
async fn in_a_full_line_the_youngest_of_the_lowest_level_makes_place_for_a_higher_one() {
    let limiter = adaptive("initial_limit = 1\nmax_limit = 1\nqueue = { initial = 2, max = 2 }");
    let rig = Rig::around(Script::new("").rest("200:delay=99"), [limiter.clone()]);
    let calls = [300, 100, 100, 200, 50].map(|level: u32| {
        let request = http::Request::get("http://service-b/").header(LEVEL, level.to_string());
        rig.call_of(request, RequestBody::empty())
    });
    let ended = join_all(calls.iter().map(|call| rig.send(call))).await;
    let full = Err(ErrorKind::Overloaded);
    assert_eq!(ended, [(100, Ok(200)), (200, Ok(200)), (0, full), (300, Ok(200)), (0, full)]);
    assert_eq!([shown(&*limiter, "in_use"), shown(&*limiter, "waiting")], [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_place_is_held_until_the_head_or_until_the_end_of_the_body() {
    for (until, held) in [("head", 0), ("body", 1)] {
        let limiter = adaptive(&format!("until = \"{until}\""));
        let body = || response_body([Piece::Data("a"), Piece::Wait(50), Piece::Data("b")]);
        let rig = Rig::around(Answers(move |_| Ok(response(200, &[], body()))), [limiter.clone()]);
        let outcome = rig.outcome(&rig.call()).await.expect("a response");
        assert_eq!(shown(&*limiter, "in_use"), held, "{until}");
        read(outcome.body).await.expect("a whole body");
        assert_eq!(shown(&*limiter, "in_use"), 0, "{until}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trickled_upload_holds_no_place_and_a_fallbacks_answer_is_none_of_ours() {
    let limiter = adaptive("initial_limit = 1");
    let rig = Rig::new("", [limiter.clone()]);
    let body = request_body(100, [Piece::Data("a"), Piece::Wait(90), Piece::Data("b")]);
    let call = rig.call_of(http::Request::post("http://service-b/"), body);
    let upload = rig.send(&call);
    tokio::pin!(upload);
    assert!(tokio::time::timeout(ms(50), upload.as_mut()).await.is_err());
    assert_eq!(shown(&*limiter, "waiting_for_clients"), 1);
    assert_eq!(rig.get().await.1, Ok(200));
    assert_eq!(upload.await.1, Ok(200));
    let sorry = fallback("respond = { status = 200 }");
    let limiter = adaptive("initial_limit = 1");
    let rig = Rig::new("200:delay=9", [sorry, limiter.clone() as Arc<dyn Policy>]);
    assert_eq!(at_once(&rig, 2).await, [Ok(200); 2], "it answers what is rejected");
}

#[test]
fn configuration_errors_name_the_key() {
    let build =
        |config: AdaptiveLimiterConfig| config.build("limiter".into(), &Surroundings::default());
    for (text, expected) in [
        ("min_limit = 0", "min_limit: must be from 1 to 200, is 0"),
        ("min_limit = 201", "min_limit: must be from 1 to 200, is 201"),
        ("max_limit = 0", "max_limit: must be from 1 to 1000000, is 0"),
        ("initial_limit = 0", "initial_limit: must be from 1 to 200, is 0"),
        ("initial_limit = 201", "initial_limit: must be from 1 to 200, is 201"),
        ("max_limit_factor = 0.5", "max_limit_factor: must be from 1 to 1000, is 0.5"),
        ("max_limit_factor = nan", "max_limit_factor: must be from 1 to 1000, is NaN"),
        ("min_samples = 0", "min_samples: must be from 1 to 1000000, is 0"),
        ("window = { min = \"0s\" }", "window.min: must be at least 1ms, is 0s"),
        ("window = { max = \"999ms\" }", "window.max: must be at least 1s, is 999ms"),
        ("queue = { initial = -1, max = 2 }", "queue.initial: must be from 0 to 100, is -1"),
        ("queue = { initial = 3, max = 2 }", "queue.max: must be from `initial`, 3, to 100, is 2"),
        ("max_wait = \"0s\"", "max_wait: must be at least 1ms, is 0s"),
        ("overload_if = { component = \"none\" }", "overload_if.component: no component `none`"),
    ] {
        assert_eq!(problems(text, build), [expected], "{text}");
    }
    assert!(problems("until = \"never\"", build)[0].contains("unknown variant `never`"));
    assert!(problems("max_limit = 5", build).is_empty(), "the first limit is the nearest to 20");
}
