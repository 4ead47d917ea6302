//! Calls by gRPC whose client is not done: how much of what it says is waited for, and whose time
//! that is.

use std::pin::pin;
use std::sync::Arc;

use fusebox_resilience::testing::read;
use fusebox_resilience::{
    Attempt, Call, EventKind, HedgeEvent, NoHedge, Outcome, Policy, RequestBody, ResponseBody,
    Scope, Upstream, WindowCounts,
};
use futures_util::future::LocalBoxFuture;
use tokio::time::timeout;

use crate::support::{
    Piece, Rig, adaptive, breaker, bulkhead, hedge, ms, rate_limiter, request_body, response, shown,
};

/// A message of gRPC.
const MESSAGE: Piece = Piece::Data("\0\0\0\0\u{3}one");
/// The same in two.
const BEGIN: Piece = Piece::Data("\0\0\0\0\u{3}o");
const REST: Piece = Piece::Data("ne");

fn call<U: Upstream>(rig: &Rig<U>, body: RequestBody) -> Call {
    let request = http::Request::post("http://service-b/b.B/Talk");
    rig.call_of(request.header("content-type", "application/grpc+proto"), body)
}

// ===== what is waited for =====

/// Those that wait for clients.
fn waiting() -> [Arc<dyn Policy>; 4] {
    [
        bulkhead("max_concurrency = 9"),
        rate_limiter("limit = 9\nper = \"1s\""),
        adaptive(""),
        hedge("delay = \"20ms\"\nmethods = [\"POST\"]"),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_first_message_is_waited_for_and_no_other() {
    for policy in waiting() {
        let kind = policy.kind();
        let rig = Rig::new("", [policy.clone()]);
        let body = request_body(100, [BEGIN, Piece::Wait(300), REST, Piece::Hang]);
        let call = call(&rig, body);
        let mut run = Box::pin(rig.send(&call));
        assert!(timeout(ms(299), &mut run).await.is_err());
        assert_eq!((rig.attempts(), shown(&*policy, "waiting_for_clients")), (vec![], 1), "{kind}");
        assert!(timeout(ms(10), &mut run).await.is_err());
        assert_eq!((rig.attempts(), shown(&*policy, "waiting_for_clients")), (vec![300], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_first_message_that_is_too_long_what_may_be_kept_is_waited_for() {
    for policy in waiting() {
        let rig = Rig::new("", [policy]);
        let body = request_body(7, [BEGIN, Piece::Wait(30), REST, Piece::Wait(30)]);
        assert_eq!(rig.send(&call(&rig, body)).await.1, Ok(200));
        assert_eq!(rig.attempts(), [30]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_is_waited_for_a_moment_in_all() {
    let rig = Rig::new("", waiting());
    let body = request_body(100, [Piece::Wait(5_000), MESSAGE]);
    let call = call(&rig, body);
    assert_eq!(rig.send(&call).await.1, Ok(200));
    assert_eq!(rig.attempts(), [100]);
}

// ===== hedges =====

fn said(rig: &Rig) -> Vec<(u64, HedgeEvent)> {
    let of_hedge = |(at, kind)| match kind {
        EventKind::Hedge(event) => Some((at, event)),
        _ => None,
    };
    rig.events().into_iter().filter_map(of_hedge).collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_has_ended_is_hedged_and_one_that_is_open_is_not() {
    let hedged = || hedge("delay = \"20ms\"\nmethods = [\"POST\"]");
    let rig = Rig::new("hang,200", [hedged()]);
    let body = request_body(100, [MESSAGE, Piece::Wait(30), MESSAGE]);
    assert_eq!(rig.send(&call(&rig, body)).await, (51, Ok(200)), "its client's time is not ours");
    assert_eq!(rig.attempts(), [0, 50]);
    let sent: Vec<_> = rig.upstream.arrivals().into_iter().map(|it| it.body).collect();
    let whole = "\0\0\0\0\u{3}one".repeat(2);
    assert_eq!(sent, [&*whole, &*whole]);

    let rig = Rig::new("hang,200", [hedged()]);
    let open = call(&rig, request_body(100, [MESSAGE, Piece::Hang]));
    assert!(timeout(ms(10_000), rig.send(&open)).await.is_err());
    assert_eq!((rig.attempts(), said(&rig)), (vec![0], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_became_too_long_is_not_hedged() {
    let rig = Rig::new("200:delay=99", [hedge("delay = \"20ms\"\nmethods = [\"POST\"]")]);
    let body = request_body(10, [MESSAGE, Piece::Wait(30), MESSAGE]);
    assert_eq!(rig.send(&call(&rig, body)).await, (130, Ok(200)));
    assert_eq!(said(&rig), [(50, HedgeEvent::Skipped { reason: NoHedge::Body })]);
}

// ===== whose time it is =====

/// Answers after 40 ms with this status, whether or not its client has said all.
struct InTurns(&'static str);

impl Upstream for InTurns {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let mut sending = pin!(read(call.body().for_attempt()));
            timeout(ms(40), &mut sending).await.ok();
            let headers = [("content-type", "application/grpc"), ("grpc-status", self.0)];
            attempt.finish(Ok(response(200, &headers, ResponseBody::empty())))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_did_not_need_the_rest_has_taken_the_time_since_the_last_message() {
    let [ok, invalid] = ["0", "3"];
    let [open, late] = [Piece::Hang, Piece::Wait(20)];
    for (status, pieces, is_slow) in [
        (ok, vec![MESSAGE, open], true),
        (ok, vec![MESSAGE, late, MESSAGE, open], false),
        // Its server may have waited for more.
        (invalid, vec![MESSAGE, open], false),
    ] {
        let breaker = breaker("failure_threshold = 9\nslow_call = \"30ms\"");
        let rig = Rig::around(InTurns(status), [breaker.clone()]);
        assert_eq!(rig.send(&call(&rig, request_body(100, pieces))).await, (40, Ok(200)));
        let [successes, failures] = [!is_slow, is_slow].map(usize::from);
        assert_eq!(breaker.status().counts, WindowCounts { successes, failures }, "{status}");
    }
}
