//! Timeout: the limit, what it covers, and what it leaves alone.

use std::sync::Arc;

use fusebox_resilience::testing::{Arrived, read};
use fusebox_resilience::{
    Call, ErrorKind, EventKind, Next, Outcome, Policy, PolicyConfig, TimeoutConfig, TimeoutEvent,
};
use futures_util::future::LocalBoxFuture;

use crate::support::{Rig, Surroundings, ms, problems, retry, timeout};

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
    assert_eq!(problems("limit = \"1s\"\nmax = 1"), ["unknown field `max`, expected `limit`"]);
    assert_eq!(problems("limit = \"1m 30s\""), Vec::<String>::new());
}
