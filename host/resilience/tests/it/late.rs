//! Late failures: what becomes of a success when the body behind it ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use fusebox_resilience::testing::read;
use fusebox_resilience::{
    Attempt, AttemptBody, BodyEnd, BodyStream, Call, CircuitBreaker, CircuitBreakerEvent,
    CircuitState, Error, ErrorKind, LateFailureCause, Observers, Outcome, Policy, ResponseBody,
    Scope, Upstream, WindowCounts,
};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use proptest::prelude::*;

use crate::support::{
    Answers, Fake, Piece, Rig, Surroundings, breaker, breaker_among, fallback, ms, pieces,
    request_body, response, response_body, retry,
};

const LOST: Piece = Piece::Break(ErrorKind::ConnectionTerminated);

fn counts(successes: usize, failures: usize) -> WindowCounts {
    WindowCounts { successes, failures }
}

/// An upstream that answers 200 with a body of these pieces.
fn answering<const N: usize>(pieces: [Piece; N]) -> Answers<impl Fn(u32) -> Outcome> {
    Answers(move |_| Ok(response(200, &[], response_body(pieces))))
}

/// A breaker that is half-open from the first call on.
fn half_open(config: &str) -> Arc<CircuitBreaker> {
    let breaker = breaker(&format!("delay = \"0s\"\ndelay_jitter = 0\n{config}"));
    breaker.force(CircuitState::HalfOpen, &Observers::default());
    breaker
}

// ===== closed =====

#[tokio::test(start_paused = true)]
async fn each_body_that_breaks_off_opens_a_breaker_of_threshold_1() {
    for kind in [ErrorKind::ConnectionTerminated, ErrorKind::Timeout, ErrorKind::ProtocolError] {
        let breaker = breaker("failure_threshold = 1\ndelay = \"0s\"");
        let rig =
            Rig::around(answering([Piece::Data("half"), Piece::Break(kind)]), [breaker.clone()]);
        for opening in 1..=10 {
            let body = rig.outcome(&rig.call()).await.unwrap().body;
            assert_eq!(breaker.status().counts.failures, 0, "not before");
            assert_eq!(read(body).await.unwrap_err().kind(), kind);
            assert_eq!(
                (breaker.status().state, breaker.status().openings),
                (CircuitState::Open, opening)
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_success_has_become_is_told_before_what_it_leads_to() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"1s\"\ndelay_jitter = 0");
    let rig = Rig::around(answering([Piece::Wait(5), LOST]), [breaker]);
    let body = rig.outcome(&rig.call()).await.unwrap().body;
    assert!(read(body).await.is_err());
    let opened = CircuitBreakerEvent::StateChanged {
        from: CircuitState::Closed,
        to: CircuitState::Open,
        delay: Some(ms(1000)),
        key: None,
        endpoint: None,
    };
    let cause = LateFailureCause::Broken(ErrorKind::ConnectionTerminated);
    assert_eq!(
        rig.events(),
        [(6, CircuitBreakerEvent::FailedLate { cause }.into()), (6, opened.into())]
    );
}

#[tokio::test(start_paused = true)]
async fn five_that_break_off_in_a_row_are_five_failures_in_a_row() {
    let breaker = breaker("failure_threshold = 5");
    let rig = Rig::around(answering([LOST]), [breaker.clone()]);
    for broken in 1..=5 {
        assert_eq!(breaker.status().state, CircuitState::Closed);
        let body = rig.outcome(&rig.call()).await.unwrap().body;
        assert!(read(body).await.is_err());
        assert_eq!(breaker.status().counts, counts(0, broken));
    }
    assert_eq!(breaker.status().state, CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_upstreams_fault_or_not_a_failure_here_changes_nothing() {
    let ends: [(&str, Piece, bool); 4] = [
        ("whole", Piece::Data("end"), false),
        ("by the client", Piece::Break(ErrorKind::RequestIncomplete), false),
        ("by us", Piece::Break(ErrorKind::Internal), false),
        ("by the upstream", LOST, true),
    ];
    for (by, end, is_failure) in ends {
        let breaker = breaker("failure_threshold = 9");
        let rig = Rig::around(answering([end]), [breaker.clone()]);
        drop(read(rig.outcome(&rig.call()).await.unwrap().body).await);
        assert_eq!(breaker.status().counts.failures, usize::from(is_failure), "{by}");
        assert_eq!(breaker.status().counts.total(), 1);
    }
    for config in [
        "handle_if = { status = [\"503\"], failure = [] }",
        "ignore_if = { failure = [\"connection-lost\"] }",
    ] {
        let breaker = breaker(&format!("failure_threshold = 9\n{config}"));
        let rig = Rig::around(answering([LOST]), [breaker.clone()]);
        assert!(read(rig.outcome(&rig.call()).await.unwrap().body).await.is_err());
        assert_eq!(breaker.status().counts, counts(1, 0), "{config}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_a_component_decides_the_default_decides_about_what_comes_late() {
    for (only, failures) in
        [("", 1), (", only = { status = [\"503\"], failure = [\"timeout\"] }", 0)]
    {
        let parts = Surroundings::default().predicate("asked", &Fake::new(|_| false));
        let config =
            format!("failure_threshold = 9\nhandle_if = {{ component = \"asked\"{only} }}");
        let breaker = breaker_among(&config, &parts);
        let rig = Rig::around(answering([LOST]), [breaker.clone()]);
        assert!(read(rig.outcome(&rig.call()).await.unwrap().body).await.is_err());
        assert_eq!(breaker.status().counts, counts(1 - failures, failures), "{only}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_breaker_on_the_way_learns_of_it_and_a_fallbacks_body_is_nobodys_failure() {
    let (outer, inner) = (breaker("failure_threshold = 9"), breaker("failure_threshold = 9"));
    let rig = Rig::around(
        answering([LOST]),
        [outer.clone() as Arc<dyn Policy>, retry("delay = \"1ms\""), inner.clone()],
    );
    assert!(read(rig.outcome(&rig.call()).await.unwrap().body).await.is_err());
    assert_eq!((outer.status().counts, inner.status().counts), (counts(0, 1), counts(0, 1)));

    let outer = breaker("failure_threshold = 9");
    let upstream = Answers(|_| Ok(response(503, &[], response_body([LOST]))));
    let sorry = fallback("respond = { status = 200, body = \"sorry\" }");
    let rig = Rig::around(upstream, [outer.clone() as Arc<dyn Policy>, sorry]);
    assert_eq!(read(rig.outcome(&rig.call()).await.unwrap().body).await.unwrap(), "sorry");
    assert_eq!(outer.status().counts, counts(1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_period_loses_the_success_from_its_slice_and_gains_the_failure_now() {
    let breaker = breaker("failure_threshold = 9\nperiod = \"10s\"");
    let rig = Rig::around(answering([LOST]), [breaker.clone()]);
    let mut bodies = Vec::new();
    for at in [0, 4000, 8000] {
        rig.until(at).await;
        bodies.push(rig.outcome(&rig.call()).await.unwrap().body);
    }
    assert_eq!(breaker.status().counts, counts(3, 0));
    rig.until(11_000).await;
    assert_eq!(breaker.status().counts, counts(2, 0), "the first has left the period");
    for (body, expected) in bodies.into_iter().zip([counts(2, 1), counts(1, 2), counts(0, 3)]) {
        assert!(read(body).await.is_err());
        assert_eq!(breaker.status().counts, expected);
    }
    rig.until(18_500).await;
    assert_eq!(breaker.status().counts, counts(0, 3), "failures count from when they came");
    rig.until(22_000).await;
    assert_eq!(breaker.status().counts, counts(0, 0));
}

proptest! {
    /// Whatever becomes of the bodies, in whatever order: each that breaks off counts exactly once,
    /// and only in the generation of its permit.
    #[test]
    fn a_late_failure_counts_once_in_its_generation(
        steps in prop::collection::vec((0..6_usize, 0..3_u8, 0..40_u64), 0..40),
        by_time in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let window = if by_time { "period = \"60s\"" } else { "failure_capacity = 1000" };
            let breaker = breaker(&format!("failure_threshold = 1000\n{window}"));
            let rig = Rig::around(answering([LOST]), [breaker.clone()]);
            let mut bodies = Vec::new();
            let (mut successes, mut failures) = (0, 0);
            let mut generation = 0;
            for (which, what, pause) in steps {
                tokio::time::sleep(ms(pause)).await;
                match what {
                    0 => {
                        bodies.push((generation, rig.outcome(&rig.call()).await.unwrap().body));
                        successes += 1;
                    }
                    1 if !bodies.is_empty() => {
                        let (of, body) = bodies.swap_remove(which % bodies.len());
                        assert!(read(body).await.is_err());
                        if of == generation {
                            successes -= 1;
                            failures += 1;
                        }
                    }
                    2 if which == 0 => {
                        breaker.force(CircuitState::Open, &Observers::default());
                        breaker.force(CircuitState::Closed, &Observers::default());
                        (successes, failures) = (0, 0);
                        generation += 1;
                    }
                    2 if !bodies.is_empty() => {
                        // The client has left.
                        let (_, mut body) = bodies.swap_remove(which % bodies.len());
                        body.settle(BodyEnd::Discarded);
                    }
                    _ => {}
                }
                assert_eq!(breaker.status().counts, counts(successes, failures));
            }
        });
    }
}

// ===== half-open =====

/// The state after a trial whose body does this, at 1 s after its head, and at its end.
async fn trial<const N: usize>(pieces: [Piece; N], is_read: bool) -> [CircuitState; 3] {
    let breaker = half_open("failure_threshold = 1\nhandle_if = { status = [\"503\"] }");
    let calm = Answers(move |attempt| {
        // A look, which is no success.
        let body = if attempt == 1 { response_body(pieces) } else { response_body([]) };
        Ok(response(200, &[], body))
    });
    let rig = Rig::around(calm, [breaker.clone()]);
    let body = rig.outcome(&rig.call()).await.unwrap().body;
    let at_head = breaker.status().state;
    let mut read = Box::pin(read(body));
    let after = if is_read {
        tokio::time::timeout(ms(1000), &mut read).await.is_ok()
    } else {
        tokio::time::sleep(ms(1000)).await;
        false
    };
    // Whoever comes now looks at it: rejected while it is under way.
    let looked = rig.get().await.1;
    let at_1_s = breaker.status().state;
    assert_eq!(looked.is_ok(), at_1_s != CircuitState::HalfOpen, "{looked:?}");
    if !after {
        drop(read.await);
    }
    [at_head, at_1_s, breaker.status().state]
}

#[tokio::test(start_paused = true)]
async fn a_trial_is_decided_by_its_body_or_1_s_after_its_head_if_nothing_is_owed() {
    use CircuitState::{Closed, HalfOpen, Open};
    let [a, b] = [Piece::Data("a"), Piece::Data("b")];
    let wait = Piece::Wait(5000);
    assert_eq!(trial([a, Piece::Wait(10), b], true).await, [HalfOpen, Closed, Closed], "it ends");
    assert_eq!(trial([a, wait, b], true).await, [HalfOpen, Closed, Closed], "a byte has come");
    assert_eq!(trial([wait, a], true).await, [HalfOpen, HalfOpen, Closed], "nothing has come");
    assert_eq!(trial([wait, a], false).await, [HalfOpen, Closed, Closed], "nobody takes it");
    assert_eq!(trial([wait, LOST], true).await, [HalfOpen, HalfOpen, Open], "it breaks off");
    assert_eq!(trial([a, wait, LOST], true).await, [HalfOpen, Closed, Closed], "after it closed");
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_breaks_off_after_it_succeeded_has_failed_while_half_open() {
    let breaker = half_open("failure_threshold = 1\nsuccess_threshold = 3");
    let rig =
        Rig::around(answering([Piece::Data("a"), Piece::Wait(2000), LOST]), [breaker.clone()]);
    let body = rig.outcome(&rig.call()).await.unwrap().body;
    let read = read(body);
    tokio::pin!(read);
    assert!(tokio::time::timeout(ms(1500), &mut read).await.is_err());
    assert_eq!(breaker.status().counts, counts(1, 0));
    assert!(read.await.is_err());
    assert_eq!((breaker.status().state, breaker.status().openings), (CircuitState::Open, 1));
}

/// Answers at once, and waits for the rest of the request within its body.
struct Echoes(Piece);

impl Upstream for Echoes {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let mut request = call.body().for_attempt();
            assert!(request.frame().now_or_never().is_none());
            let (end, _) = pieces([Piece::Wait(2000), self.0]);
            let body = ResponseBody::stream(Box::pin(Behind { request, end }));
            attempt.finish(Ok(response(200, &[], body)))
        })
    }
}

/// A stream that is there for as long as the request is still being sent.
struct Behind {
    #[expect(dead_code, reason = "it waits for its client until it is dropped")]
    request: AttemptBody,
    end: BodyStream,
}

impl Body for Behind {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.end.as_mut().poll_frame(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn an_early_answer_that_waits_for_the_client_is_not_held_against_the_upstream() {
    let call = |rig: &Rig<Echoes>| {
        rig.call_of(http::Request::post("http://service-b/"), request_body(9, [Piece::Hang]))
    };
    let closed = breaker("failure_threshold = 9");
    let rig = Rig::around(Echoes(LOST), [closed.clone()]);
    let sent = call(&rig);
    assert!(read(rig.outcome(&sent).await.unwrap().body).await.is_err());
    assert_eq!(closed.status().counts, counts(1, 0));

    let trial = half_open("failure_threshold = 1\ntrial_timeout = \"1500ms\"");
    let rig = Rig::around(Echoes(Piece::Data("a")), [trial.clone()]);
    let sent = call(&rig);
    let body = rig.outcome(&sent).await.unwrap().body;
    let read = read(body);
    tokio::pin!(read);
    assert!(tokio::time::timeout(ms(1600), &mut read).await.is_err());
    assert_eq!(trial.status().counts, counts(1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_trials_client_that_leaves_is_neutral_and_a_retry_that_discards_it_is_not() {
    let breaker = half_open("failure_threshold = 1");
    let upstream = || answering([Piece::Wait(100), Piece::Data("a")]);
    let rig = Rig::around(upstream(), [breaker.clone()]);
    let mut body = rig.outcome(&rig.call()).await.unwrap().body;
    assert_eq!(breaker.status().trials, 1);
    body.settle(BodyEnd::Discarded);
    assert_eq!((breaker.status().trials, breaker.status().counts), (0, counts(0, 0)));

    let again = retry("handle_if = { status = [\"200\"] }\nmax_retries = 1\ndelay = \"1ms\"");
    let rig = Rig::around(upstream(), [again, breaker.clone()]);
    let _last = rig.outcome(&rig.call()).await;
    assert_eq!(breaker.status().state, CircuitState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_body_owes_for_too_long_has_failed() {
    let breaker = half_open("failure_threshold = 1\ntrial_timeout = \"3s\"");
    let rig = Rig::around(answering([Piece::Hang]), [breaker.clone()]);
    let body = rig.outcome(&rig.call()).await.unwrap().body;
    let read = read(body);
    tokio::pin!(read);
    assert!(tokio::time::timeout(ms(2998), &mut read).await.is_err());
    assert_eq!(breaker.status().state, CircuitState::HalfOpen);
    assert_eq!(rig.get().await.1, Err(ErrorKind::CircuitOpen));
    assert!(tokio::time::timeout(ms(1), &mut read).await.is_err());
    let _looked = rig.get().await;
    assert_eq!(breaker.status().openings, 1);
}
