//! Timeout: the limit, what it covers, and what it leaves alone.

use std::sync::Arc;

use fusebox_resilience::testing::{Arrived, read};
use fusebox_resilience::{
    BodyLimit, Call, ErrorKind, EventKind, Next, Outcome, Policy, PolicyConfig, TimeoutConfig,
    TimeoutEvent,
};
use futures_util::future::LocalBoxFuture;
use http_body_util::BodyExt as _;

use crate::support::{
    Answers, Piece, Rig, Surroundings, breaker, fallback, ms, problems, response, response_body,
    retry, timeout, timeout_of,
};

#[tokio::test(start_paused = true)]
async fn it_cuts_the_attempt_at_the_limit_and_the_upstream_sees_it_go() {
    let rig = Rig::new("hang", [timeout(100)]);
    assert_eq!(rig.get().await, (100, Err(ErrorKind::Timeout)));
    let arrival = &rig.upstream.arrivals()[0];
    assert_eq!((arrival.outcome, arrival.ended), (Arrived::Canceled, Some(ms(100))));
    assert_eq!(rig.upstream.alive(), 0);
    assert_eq!(
        rig.events(),
        [(100, EventKind::Timeout(TimeoutEvent::Exceeded { limit: ms(100) }))]
    );
}

#[tokio::test(start_paused = true)]
async fn a_response_within_the_limit_passes_without_an_event() {
    let rig = Rig::new("200:delay=98", [timeout(100)]);
    assert_eq!(rig.get().await, (99, Ok(200)));
    assert_eq!(rig.events(), []);
}

#[tokio::test(start_paused = true)]
async fn the_limit_covers_attempts_and_the_delays_between_them() {
    let rig = Rig::new("503*9", [timeout(100), retry("max_retries = -1\ndelay = \"40ms\"")]);
    assert_eq!(rig.get().await, (83, Ok(503)), "there is no time for a fourth attempt");
    assert_eq!(rig.attempts(), [0, 41, 82]);
}

#[tokio::test(start_paused = true)]
async fn inside_a_retry_each_attempt_has_its_own_limit() {
    let rig = Rig::new("hang*2", [retry("delay = \"10ms\""), timeout(30)]);
    assert_eq!(rig.get().await, (81, Ok(200)));
    assert_eq!(rig.attempts(), [0, 40, 80]);
}

/// Waits for a second before every run but the first.
#[derive(Debug)]
struct Pause(Arc<str>);

impl Policy for Pause {
    fn name(&self) -> &Arc<str> {
        &self.0
    }

    fn kind(&self) -> &'static str {
        "pause"
    }

    fn run<'a>(&'a self, call: &'a Call, next: Next<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            if call.attempts() > 0 {
                tokio::time::sleep(ms(1_000)).await;
            }
            next.run(call).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn it_blames_no_attempt_that_was_made_before_it() {
    let outer = retry("max_retries = 1\ndelay = \"1ms\"");
    let rig = Rig::new("503", [outer, timeout(100), Arc::new(Pause("pause".into()))]);
    let call = rig.call();
    let error = rig.outcome(&call).await.unwrap_err();
    assert_eq!((rig.now(), error.kind(), error.attempt()), (102, ErrorKind::Timeout, 0));
    assert_eq!(call.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn of_two_the_shorter_one_ends_the_call() {
    let rig = Rig::new("hang*2", [timeout(50), timeout(80)]);
    assert_eq!(rig.get().await, (50, Err(ErrorKind::Timeout)));
    assert_eq!(rig.events(), [(50, EventKind::Timeout(TimeoutEvent::Exceeded { limit: ms(50) }))]);
    let rig = Rig::new("hang*2", [timeout(80), timeout(50)]);
    assert_eq!(rig.get().await, (50, Err(ErrorKind::Timeout)));
    assert_eq!(rig.events(), [(50, EventKind::Timeout(TimeoutEvent::Exceeded { limit: ms(50) }))]);
}

#[tokio::test(start_paused = true)]
async fn the_body_may_take_longer_than_the_limit() {
    let rig = Rig::new("200:bodydelay=500:body=late", [timeout(100)]);
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!(rig.now(), 1);
    assert_eq!(read(response.body).await.unwrap(), "late");
    assert_eq!(rig.now(), 501);
}

// ===== limits on bodies =====

/// How a body of these pieces ends that is read by `read`, when, and what is told of it.
async fn ended(keys: &str, pieces: &[Piece]) -> (u64, Result<usize, ErrorKind>, Vec<BodyLimit>) {
    let pieces = pieces.to_vec();
    let upstream = Answers(move |_| Ok(response(200, &[], response_body(pieces.clone()))));
    let rig = Rig::around(upstream, [timeout_of(keys)]);
    let body = rig.outcome(&rig.call()).await.unwrap().body;
    let began = rig.now();
    let read = read(body).await.map(|text| text.len()).map_err(|error| error.kind());
    let cut = rig.events().into_iter().map(|(_, event)| match event {
        EventKind::Timeout(TimeoutEvent::BodyCut { limit }) => limit,
        other => panic!("{other:?}"),
    });
    (rig.now() - began, read, cut.collect())
}

const A_SECOND: [Piece; 2] = [Piece::Wait(1000), Piece::Data("0123456789")];

#[tokio::test(start_paused = true)]
async fn a_body_that_takes_too_long_is_cut_off_however_fast_it_comes() {
    let keys = "limit = \"1m\"\nbody_limit = \"5s\"";
    let of_seconds = |seconds: usize| A_SECOND.repeat(seconds);
    assert_eq!(ended(keys, &of_seconds(4)).await, (4000, Ok(40), vec![]));
    let cut = (5000, Err(ErrorKind::Timeout), vec![BodyLimit::Time]);
    assert_eq!(ended(keys, &of_seconds(9)).await, cut);
    assert_eq!(ended(keys, &[Piece::Hang]).await, cut);
    // By default nothing of a body is looked at.
    assert_eq!(ended("limit = \"1s\"", &of_seconds(9)).await, (9000, Ok(90), vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_comes_too_slowly_is_cut_off_however_short_its_pauses() {
    let with = |rate: &str| format!("limit = \"1m\"\nmin_rate = \"{rate}\"");
    let minute = A_SECOND.repeat(60);
    assert_eq!(ended(&with("10B"), &minute).await, (60_000, Ok(600), vec![]));
    let cut = |at| (at, Err(ErrorKind::Timeout), vec![BodyLimit::Rate]);
    // Ten seconds in advance, and half a second for each second.
    assert_eq!(ended(&with("20B"), &minute).await, cut(19_500));
    // Each piece is worth some microseconds; timers go by the millisecond.
    assert_eq!(ended(&with("1MiB"), &minute).await, cut(10_001));
    assert_eq!(ended(&with("1B"), &[Piece::Hang]).await, cut(10_000));
    // What has come fast does not pay for more than ten seconds.
    let pause = [Piece::Data("0123456789"), Piece::Wait(11_000), Piece::Data("x")];
    assert_eq!(ended(&with("1B"), &pause).await, cut(10_000));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_does_not_make_a_body_slow() {
    let keys = "limit = \"1m\"\nbody_limit = \"2s\"\nmin_rate = \"1KiB\"";
    let pieces = [Piece::Data("half"), Piece::Wait(1000), Piece::Data("half")];
    let upstream = Answers(move |_| Ok(response(200, &[], response_body(pieces))));
    let rig = Rig::around(upstream, [timeout_of(keys)]);
    let mut body = rig.outcome(&rig.call()).await.unwrap().body;
    assert!(body.frame().await.expect("a piece").is_ok());
    tokio::time::sleep(ms(60_000)).await;
    assert_eq!(read(body).await.unwrap(), "half");
    assert_eq!(rig.events(), []);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_off_is_a_failure_that_comes_late() {
    for keys in ["body_limit = \"1s\"", "min_rate = \"1B\""] {
        let breaker = breaker("failure_threshold = 1");
        let hanging = Answers(|_| Ok(response(200, &[], response_body([Piece::Hang]))));
        let policies = [breaker.clone() as _, timeout_of(&format!("limit = \"1m\"\n{keys}"))];
        let rig = Rig::around(hanging, policies);
        let body = rig.outcome(&rig.call()).await.unwrap().body;
        assert_eq!(breaker.status().counts.failures, 0, "not before");
        assert!(read(body).await.is_err());
        assert_eq!(breaker.status().openings, 1, "{keys}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_fallback_answers_has_no_limit_of_the_upstreams() {
    let rig = Rig::new(
        "503",
        [
            timeout_of("limit = \"1s\"\nbody_limit = \"1ms\""),
            fallback("respond = { status = 200, body = \"instead\" }"),
        ],
    );
    let response = rig.outcome(&rig.call()).await.unwrap();
    tokio::time::sleep(ms(100)).await;
    assert_eq!(read(response.body).await.unwrap(), "instead");
}

#[test]
fn configuration_errors_name_the_key() {
    let problems = |text| {
        problems(text, |config: TimeoutConfig| {
            config.build("timeout".into(), &Surroundings::default())
        })
    };
    assert_eq!(problems("limit = \"0s\""), ["limit: must be at least 1ms, is 0s"]);
    assert_eq!(problems(""), ["missing field `limit`"]);
    assert_eq!(
        problems("limit = 5"),
        ["invalid type: integer `5`, expected a duration such as \"250ms\""]
    );
    assert_eq!(problems("limit = \"5\""), ["expected a duration such as \"250ms\", found `5`"]);
    assert_eq!(
        problems("limit = \"1s\"\nmax = 1"),
        ["unknown field `max`, expected one of `limit`, `body_limit`, `min_rate`"]
    );
    assert_eq!(
        problems("limit = \"1s\"\nbody_limit = \"0s\"\nmin_rate = 0"),
        ["body_limit: must be at least 1ms, is 0s", "min_rate: must be from 1B to 1GiB, is 0B"]
    );
    assert_eq!(problems("limit = \"1m 30s\""), Vec::<String>::new());
}
