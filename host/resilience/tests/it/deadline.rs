//! A call's own deadline: a timeout outside all policies.

use fusebox_resilience::testing::{self, Arrived};
use fusebox_resilience::{
    Call, CallEvent, CircuitState, ErrorKind, EventKind, Observers, Request, RequestBody, Scope,
    WindowCounts, Worker,
};

use crate::support::{Ended, Piece, Rig, breaker, fallback, ms, request_body, retry, timeout};

/// A call that somebody waits for so many milliseconds for.
fn call(rig: &Rig, deadline: u64, body: RequestBody) -> Call {
    let (head, ()) = http::Request::put("http://service-b/").body(()).unwrap().into_parts();
    let id = http::HeaderValue::from_static("1");
    let mut request = Request::new(id, "test".into(), head, std::time::UNIX_EPOCH);
    request.set_deadline(ms(deadline));
    let worker = Worker::new(rig.recorder.observers(), fusebox_resilience::Random::with_seed(1));
    Call::new(request, body, worker.into())
}

async fn send(rig: &Rig, call: &Call) -> Ended {
    let scope = Scope::new(&rig.upstream);
    let outcome = rig.pipeline.execute_in_time(call, &scope).await;
    (rig.now(), outcome.map(|it| it.status.as_u16()).map_err(|error| error.kind()))
}

async fn answered(rig: &Rig, deadline: u64) -> Ended {
    send(rig, &call(rig, deadline, RequestBody::empty())).await
}

#[tokio::test(start_paused = true)]
async fn it_is_a_timeout_outside_all_policies_and_neutral() {
    let inside = breaker("failure_threshold = 1");
    let rig = Rig::new("hang", [fallback("respond = { status = 200 }"), inside.clone()]);
    inside.force(CircuitState::HalfOpen, &rig.recorder.observers());
    assert_eq!(answered(&rig, 80).await, (80, Err(ErrorKind::Timeout)), "no fallback runs");
    let status = inside.status();
    assert_eq!(status.counts, WindowCounts { successes: 0, failures: 0 });
    assert_eq!((status.state, status.trials), (CircuitState::HalfOpen, 0));
    assert_eq!(rig.upstream.arrivals()[0].outcome, Arrived::Canceled);
    let exceeded = EventKind::Call(CallEvent::DeadlineExceeded { limit: ms(80) });
    assert_eq!(rig.events().last(), Some(&(80, exceeded)));
}

#[tokio::test(start_paused = true)]
async fn what_is_answered_in_time_goes_out() {
    let rig = Rig::new("200:delay=78", []);
    assert_eq!(answered(&rig, 80).await, (79, Ok(200)));
    // Without a deadline it is as always.
    let call = testing::call("1", Observers::default());
    assert_eq!(call.request().deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_would_end_past_it_is_not_begun() {
    let rig = Rig::new("503*9", [retry("delay = \"50ms\"\nmax_retries = 9")]);
    assert_eq!(answered(&rig, 120).await, (103, Ok(503)), "two retries fit, a third would not");
    assert_eq!(rig.attempts(), [0, 51, 102]);
    // The nearest of all limits counts.
    let rig = Rig::new("503*9", [timeout(60), retry("delay = \"50ms\"\nmax_retries = 9")]);
    assert_eq!(answered(&rig, 1000).await, (52, Ok(503)));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_could_only_be_cut_off_is_not_made() {
    let rig = Rig::new("503:delay=58", [retry("delay = \"0s\"")]);
    let call = call(&rig, 60, RequestBody::empty());
    assert_eq!(send(&rig, &call).await.0, 60);
    // 59 ms have passed when the second would begin: it has 1 ms, and is made.
    assert_eq!(rig.attempts(), [0, 59]);
    let rig = Rig::new("503:delay=59", [retry("delay = \"0s\"\nmax_retries = 1")]);
    assert_eq!(answered(&rig, 60).await.0, 60);
    assert_eq!(rig.attempts(), [0], "none is left");
}

#[tokio::test(start_paused = true)]
async fn it_does_not_stand_still_while_the_client_is_waited_for() {
    let rig = Rig::new("200", [timeout(50)]);
    let body = || request_body(99, [Piece::Data("abc"), Piece::Wait(300), Piece::Data("def")]);
    assert_eq!(send(&rig, &call(&rig, 200, body())).await, (200, Err(ErrorKind::Timeout)));
    let rig = Rig::new("200", [timeout(50)]);
    assert_eq!(send(&rig, &call(&rig, 400, body())).await, (301, Ok(200)));
}
