//! The adaptive throttler in a pipeline: what it counts, whom it rejects, and what is told of it.

use std::sync::Arc;

use fusebox_resilience::testing::{Script, read};
use fusebox_resilience::{
    AdaptiveThrottler, AdaptiveThrottlerConfig, AdaptiveThrottlerEvent, CallEvent, ErrorKind,
    LEVEL, Policy, PolicyConfig, RequestBody, ResponseBody, Shown, WindowCounts,
};

use crate::support::{
    Answers, Ended, Piece, Rig, Surroundings, breaker, fallback, hedge, ms, problems, response,
    response_body, retry, shown, throttler, timeout,
};

/// Results of the interval under way, and failures among them.
fn counted(throttler: &AdaptiveThrottler) -> (u64, u64) {
    match *throttler.show() {
        [_, (_, Shown::Count(all)), (_, Shown::Count(failed))] => (all, failed),
        ref shown => panic!("{shown:?}"),
    }
}

/// One that has seen an interval of failures only: it admits half.
async fn half() -> Arc<AdaptiveThrottler> {
    let throttler = throttler("min_calls = 2\ninterval = \"5s\"");
    let rig = Rig::new("503*2", [throttler.clone()]);
    rig.run().await;
    rig.until(5000).await;
    rig.run().await;
    assert!((throttler.admitted() - 0.5).abs() < 1e-9);
    throttler
}

/// How many of so many calls it rejects.
async fn rejected<U: fusebox_resilience::Upstream>(rig: &Rig<U>, calls: u32) -> u32 {
    let mut rejected = 0;
    for _ in 0..calls {
        rejected += u32::from(rig.get().await.1 == Err(ErrorKind::Overloaded));
    }
    rejected
}

#[tokio::test(start_paused = true)]
async fn it_rejects_a_share_once_an_interval_has_failed_and_tells_each_change() {
    let throttler = throttler("");
    let rig = Rig::new("503*20", [throttler.clone()]);
    for call in 0..10 {
        assert_eq!(rig.get_at(call * 100).await.1, Ok(503));
    }
    assert_eq!(counted(&throttler), (10, 10));
    assert!(rig.events().is_empty());
    assert_eq!(rig.get_at(1100).await.1, Ok(503));
    let changed = AdaptiveThrottlerEvent::ShareChanged { from: 1.0, to: 0.5 };
    assert_eq!(rig.events(), [(1101, changed.into())]);
    assert_eq!(counted(&throttler), (0, 0));
    let rejected = rejected(&rig, 1000).await;
    assert!((400..600).contains(&rejected), "{rejected}");
}

#[tokio::test(start_paused = true)]
async fn what_it_rejects_is_told_with_a_time_and_counts_as_nothing() {
    let throttler = half().await;
    let outer = breaker("failure_threshold = 1");
    let rig = Rig::new("200", [retry("delay = \"0s\""), outer.clone(), throttler.clone()]);
    let kind = ErrorKind::Overloaded;
    let error = loop {
        if let Err(error) = rig.outcome(&rig.call()).await {
            break error;
        }
    };
    assert_eq!((error.kind(), error.retry_after()), (kind, Some(ms(1000))));
    let told = CallEvent::Rejected { kind, retry_after: Some(ms(1000)) };
    let events = rig.events();
    assert_eq!(events.len(), 1, "no retry: {events:?}");
    assert_eq!(events[0].1, told.into());
    let sent = rig.attempts().len();
    assert_eq!(outer.status().counts.failures, 0);
    assert_eq!(counted(&throttler), (sent as u64, 0));
}

#[tokio::test(start_paused = true)]
async fn it_admits_everything_again_when_all_is_well_and_after_a_minute_without_calls() {
    let throttler = half().await;
    let rig = Rig::new("", [throttler.clone()]);
    for call in 0..400 {
        rig.until(call * 100).await;
        rig.run().await;
    }
    assert_eq!(throttler.admitted(), 1.0);
    assert_eq!(rejected(&rig, 100).await, 0);
    let throttler = half().await;
    let rig = Rig::new("", [throttler.clone()]);
    rig.until(59_000).await;
    assert_eq!(throttler.admitted(), 0.5);
    rig.until(60_000).await;
    assert_eq!(throttler.admitted(), 1.0);
    assert_eq!(rejected(&rig, 100).await, 0);
    let changed = AdaptiveThrottlerEvent::ShareChanged { from: 0.5, to: 1.0 };
    assert_eq!(rig.events(), [(60_000, changed.into())]);
}

#[tokio::test(start_paused = true)]
async fn it_rejects_those_of_the_lowest_levels_and_lets_some_of_them_pass() {
    let rig = Rig::new("", [half().await]);
    // A threshold is for a tenth of a second.
    let mut rejected = [0; 2];
    for number in 0..4000 {
        let is_high = number % 2;
        let level = 100 + 200 * is_high + number / 2 % 100;
        let request = http::Request::get("http://service-b/").header(LEVEL, level.to_string());
        let outcome = rig.send(&rig.call_of(request, RequestBody::empty())).await;
        if number >= 1000 && outcome.1 == Err(ErrorKind::Overloaded) {
            rejected[is_high] += 1;
        }
    }
    // Of 1,500 each nine tenths of the lower five ninths of all: of those of the lower class all.
    let [low, high] = rejected;
    assert!((1300..1400).contains(&low) && (100..200).contains(&high), "{low} and {high}");
}

#[tokio::test(start_paused = true)]
async fn a_hedge_is_a_class_less_important_than_its_call() {
    let upstream = Script::new("").rest("200:delay=9");
    let hedge = hedge("delay = \"1ms\"\nbudget = \"none\"");
    let rig = Rig::around(upstream, [hedge, half().await]);
    let mut answered = 0;
    for number in 0..400 {
        let level = (300 + number % 100).to_string();
        let request = http::Request::get("http://service-b/").header(LEVEL, level);
        let outcome = rig.send(&rig.call_of(request, RequestBody::empty())).await;
        answered += u32::from(number >= 100 && outcome.1 == Ok(200));
    }
    // The hedges are the lower half of what comes: it is they that are rejected.
    assert!(answered > 250, "{answered} of 300");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_cut_off_is_no_result() {
    let throttler = throttler("");
    let rig = Rig::new("hang", [timeout(100), throttler.clone()]);
    assert_eq!(rig.get().await, (100, Err(ErrorKind::Timeout)));
    assert_eq!(counted(&throttler), (0, 0));
    let rig = Rig::new("hang", [throttler.clone() as Arc<dyn Policy>, timeout(100)]);
    let expected: Ended = (100, Err(ErrorKind::Timeout));
    assert_eq!(rig.get().await, expected);
    assert_eq!(counted(&throttler), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_one_failure_more_unless_it_is_not_the_upstreams_fault() {
    for (end, failures) in [
        (Piece::Data("end"), 0),
        (Piece::Break(ErrorKind::ConnectionTerminated), 1),
        (Piece::Break(ErrorKind::Internal), 0),
        (Piece::Break(ErrorKind::RequestIncomplete), 0),
    ] {
        let throttler = throttler("");
        let body = move || response_body([Piece::Data("begin"), Piece::Wait(5), end]);
        let rig =
            Rig::around(Answers(move |_| Ok(response(200, &[], body()))), [throttler.clone()]);
        drop(read(rig.outcome(&rig.call()).await.unwrap().body).await);
        assert_eq!(counted(&throttler), (1 + failures, failures), "{end:?}");
    }
    let throttler = throttler("handle_if = { failure = [] }");
    let lost = || response_body([Piece::Break(ErrorKind::ConnectionTerminated)]);
    let rig = Rig::around(Answers(move |_| Ok(response(200, &[], lost()))), [throttler.clone()]);
    drop(read(rig.outcome(&rig.call()).await.unwrap().body).await);
    assert_eq!(counted(&throttler), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn each_key_has_a_share_of_its_own_and_late_failures_count_in_it() {
    let throttler = throttler("min_calls = 2\ninterval = \"5s\"\nkey = { header = \"x-tenant\" }");
    let body = || response_body([Piece::Break(ErrorKind::ConnectionTerminated)]);
    let rig = Rig::around(Answers(move |_| Ok(response(200, &[], body()))), [throttler.clone()]);
    let call = |tenant| {
        let request = http::Request::get("http://service-b/").header("x-tenant", tenant);
        rig.call_of(request, RequestBody::empty())
    };
    let ask = async |tenant: &'static str| {
        let outcome = rig.outcome(&call(tenant)).await;
        outcome.map(|response| response.body)
    };
    // Half of the results of `ill` are bodies that break off, and all of them are of `well` none.
    for at in [0, 5000] {
        rig.until(at).await;
        drop(read(ask("ill").await.expect("a response")).await);
        drop(ask("well").await);
    }
    let mut rejected = [0, 0];
    for _ in 0..200 {
        rejected[0] += u32::from(ask("ill").await.is_err());
        rejected[1] += u32::from(ask("well").await.is_err());
    }
    assert!(rejected[0] > 5 && rejected[1] == 0, "{rejected:?}");
    assert_eq!(["rejecting", "keys"].map(|name| shown(&*throttler, name)), [1, 2]);
    assert_eq!(throttler.keys().map(|keys| keys.count), Some(2));
}

#[tokio::test(start_paused = true)]
async fn handle_if_decides_what_fails_and_a_fallback_inside_hides_it() {
    let throttler = throttler("handle_if = { status = [\"404\"], failure = [] }");
    let answers = || Answers(|_| Ok(response(404, &[], ResponseBody::empty())));
    let rig = Rig::around(answers(), [throttler.clone()]);
    rig.run().await;
    assert_eq!(counted(&throttler), (1, 1));
    let rig = Rig::new("503,close", [throttler.clone()]);
    rig.run().await;
    rig.run().await;
    assert_eq!(counted(&throttler), (3, 1));
    let sorry = fallback("handle_if = { status = [\"404\"] }\nrespond = { status = 404 }");
    let rig = Rig::around(answers(), [throttler.clone() as Arc<dyn Policy>, sorry]);
    rig.run().await;
    assert_eq!(counted(&throttler), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn a_breaker_inside_or_outside_and_a_throttler_do_not_count_each_others_rejections() {
    let (inner, throttler) = (breaker("failure_threshold = 1"), throttler(""));
    let rig = Rig::new("503", [throttler.clone() as Arc<dyn Policy>, inner.clone()]);
    rig.run().await;
    assert_eq!(rig.get().await.1, Err(ErrorKind::CircuitOpen));
    assert_eq!(counted(&throttler), (1, 1));
    assert_eq!(inner.status().counts, WindowCounts { successes: 0, failures: 1 });
}

#[test]
fn configuration_errors_name_the_key() {
    let build = |config: AdaptiveThrottlerConfig| {
        config.build("throttler".into(), &Surroundings::default())
    };
    for (text, expected) in [
        ("failure_rate = 0", "failure_rate: must be above 0 and at most 0.9, is 0"),
        ("failure_rate = 1.0", "failure_rate: must be above 0 and at most 0.9, is 1"),
        ("failure_rate = nan", "failure_rate: must be above 0 and at most 0.9, is NaN"),
        ("max_rejection_rate = 1.0", "max_rejection_rate: must be above 0 and at most 0.99, is 1"),
        (
            "max_rejection_rate = -1.0",
            "max_rejection_rate: must be above 0 and at most 0.99, is -1",
        ),
        ("min_calls = 0", "min_calls: must be from 1 to 1000000, is 0"),
        ("interval = \"0s\"", "interval: must be from 1ms to 10s, is 0s"),
        ("interval = \"11s\"", "interval: must be from 1ms to 10s, is 11s"),
        ("max_keys = 5", "max_keys: needs a `key`"),
        ("handle_if = { component = \"none\" }", "handle_if.component: no component `none`"),
    ] {
        assert_eq!(problems(text, build), [expected], "{text}");
    }
    assert!(problems("percent = 1", build)[0].contains("unknown field `percent`"));
}
