//! Bodies on both ways: request bodies that are kept for a further attempt, response bodies that
//! hold what they must.

use std::collections::VecDeque;
use std::rc::Rc;

use bytes::Bytes;
use fusebox_resilience::testing::{Script, call_with, read};
use fusebox_resilience::{
    Attempt, BodyStream, Call, ErrorKind, EventKind, NoRetry, Observers, Outcome, Peek,
    ReplayLimit, ReplayMemory, RequestBody, ResponseBody, RetryEvent, Scope, Upstream,
};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use http::HeaderMap;
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout as timeout_after};

use crate::support::{
    Answers, Piece, Rig, breaker, ms, pieces, request_body, response, response_body, retry, timeout,
};

const RETRY: &str = "methods = [\"*\"]\ndelay = \"10ms\"";

/// Data and trailers of a body that ends well.
async fn all<B: Body<Data = Bytes, Error: std::fmt::Debug> + Unpin>(
    body: B,
) -> (Bytes, Option<HeaderMap>) {
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    (collected.to_bytes(), trailers)
}

fn bodies(script: &Script) -> Vec<Bytes> {
    script.arrivals().into_iter().map(|arrival| arrival.body).collect()
}

// ===== request bodies =====

#[tokio::test(start_paused = true)]
async fn each_attempt_sends_the_whole_body() {
    let rig = Rig::new("503,503,200", [retry(RETRY)]);
    let body = request_body(100, [Piece::Data("first "), Piece::Wait(5), Piece::Data("second")]);
    assert_eq!(rig.request("POST", body).await, (28, Ok(200)));
    assert_eq!(bodies(&rig.upstream), ["first second"; 3]);
    assert_eq!(rig.attempts(), [0, 16, 27], "the client is waited for only once");
}

#[tokio::test(start_paused = true)]
async fn a_body_of_exactly_the_limit_is_kept_and_one_byte_more_means_one_attempt_and_an_event() {
    let rig = Rig::new("503", [retry(RETRY)]);
    let body = request_body(6, [Piece::Data("abc"), Piece::Data("def")]);
    assert_eq!(rig.request("POST", body).await, (12, Ok(200)));
    for limit in [5, 3, 0] {
        let rig = Rig::new("503:body=busy", [retry(RETRY)]);
        let body = request_body(limit, [Piece::Data("abc"), Piece::Data("def")]);
        assert_eq!(rig.request("POST", body).await, (1, Ok(503)));
        assert_eq!(bodies(&rig.upstream), ["abcdef"], "the attempt sends all of it");
        assert_eq!(
            rig.events(),
            [(1, EventKind::Retry(RetryEvent::Skipped { reason: NoRetry::Body }))]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_goes_out_as_it_came_even_without_return_last_failure() {
    let rig = Rig::new("503", [retry(&format!("{RETRY}\nreturn_last_failure = false"))]);
    assert_eq!(rig.request("POST", request_body(2, [Piece::Data("abc")])).await, (1, Ok(503)));
}

#[tokio::test(start_paused = true)]
async fn trailers_are_sent_again_too() {
    let body = request_body(100, [Piece::Data("abc"), Piece::Trailer("x-sum", "1")]);
    for _ in 0..2 {
        let (data, trailers) = all(body.for_attempt()).await;
        assert_eq!((data, trailers.unwrap()["x-sum"].to_str().unwrap()), ("abc".into(), "1"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_gets_each_frame_when_the_client_sends_it() {
    let (stream, taken) = pieces([Piece::Data("abc"), Piece::Wait(50), Piece::Data("def")]);
    let body = RequestBody::new(stream, 100);
    let mut attempt = body.for_attempt();
    assert_eq!(taken.get(), 0, "nothing is read before it is asked for");
    let first = attempt.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!((first, taken.get()), ("abc".into(), 3));
    assert!(!attempt.is_end_stream());
}

/// Reads one frame of the request body of each attempt but the last, of which it reads all.
struct Impatient {
    last: u32,
}

impl Upstream for Impatient {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        Box::pin(async move {
            let attempt = Attempt::begin(call, scope, &"service-b".into());
            let mut body = call.body().for_attempt();
            if attempt.number() < self.last {
                body.frame().await.unwrap().unwrap();
                return attempt.finish(Ok(response(503, &[], ResponseBody::empty())));
            }
            let body = read(body).await.unwrap();
            attempt.finish(Ok(response(200, &[], ResponseBody::full(body))))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_ended_before_the_body_did_leaves_the_rest_to_the_next() {
    let rig = Rig::around(Impatient { last: 3 }, [retry(RETRY)]);
    let body = request_body(100, [Piece::Data("abc"), Piece::Wait(30), Piece::Data("def")]);
    let call = rig.call_of(http::Request::post("http://service-b/"), body);
    let response = rig.outcome(&call).await.unwrap();
    assert_eq!(read(response.body).await.unwrap(), "abcdef");
    assert_eq!(rig.now(), 50);
}

#[tokio::test(start_paused = true)]
async fn two_attempts_at_once_both_get_all_of_it() {
    let body = request_body(
        100,
        [Piece::Data("abc"), Piece::Wait(30), Piece::Data("def"), Piece::Trailer("x-sum", "1")],
    );
    let (first, second) = tokio::join!(all(body.for_attempt()), all(body.for_attempt()));
    assert_eq!(first, second);
    assert_eq!(first.0, "abcdef");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_leaves_wakes_the_one_that_waits_with_it() {
    let body = request_body(100, [Piece::Wait(30), Piece::Data("abc")]);
    let start = Instant::now();
    // Each with a waker of its own; the client's side knows only that of the second.
    let attempts: FuturesUnordered<_> = [99, 10]
        .into_iter()
        .map(|patience| {
            let attempt = body.for_attempt();
            async move { (timeout_after(ms(patience), all(attempt)).await.ok(), start.elapsed()) }
        })
        .collect();
    let ended: Vec<_> = attempts.collect().await;
    assert_eq!(ended, [(None, ms(10)), (Some(("abc".into(), None)), ms(30))]);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_on_the_clients_side_is_neither_retried_nor_counted() {
    let breaker = breaker("failure_threshold = 1\nhandle_if = { failure = [\"any\"] }");
    let rig = Rig::new(
        "",
        [retry("methods = [\"*\"]\nhandle_if = { failure = [\"any\"] }"), breaker.clone()],
    );
    let body = request_body(
        100,
        [Piece::Data("abc"), Piece::Wait(5), Piece::Break(ErrorKind::RequestIncomplete)],
    );
    assert_eq!(rig.request("POST", body).await, (5, Err(ErrorKind::RequestIncomplete)));
    assert_eq!(rig.events(), []);
    assert_eq!(breaker.status().counts.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_broke_off_cannot_be_repeated_though_the_upstream_answered() {
    let body = request_body(100, [Piece::Data("abc"), Piece::Break(ErrorKind::RequestTooLarge)]);
    assert!(body.can_repeat());
    assert!(read(body.for_attempt()).await.is_err());
    assert_eq!((body.can_repeat(), body.failure()), (false, Some(ErrorKind::RequestTooLarge)));
    // A further attempt would see the same.
    assert_eq!(read(body.for_attempt()).await.unwrap_err().kind(), ErrorKind::RequestTooLarge);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_after_the_body_was_forgotten_fails_and_sends_nothing_wrong() {
    let body = request_body(2, [Piece::Data("abc")]);
    assert_eq!(read(body.for_attempt()).await.unwrap(), "abc");
    assert!(!body.can_repeat());
    assert_eq!(read(body.for_attempt()).await.unwrap_err().kind(), ErrorKind::Internal);
}

/// A body that no policy sends again.
fn sent_once(
    limit: usize,
    memory: &Rc<ReplayMemory>,
    of: impl Into<VecDeque<Piece>>,
) -> RequestBody {
    let limit = ReplayLimit { bytes: limit, is_for_attempts: false };
    RequestBody::kept_in(pieces(of).0, limit, memory)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_repeats_is_kept_while_it_is_held() {
    let of = [Piece::Data("abc"), Piece::Wait(5), Piece::Data("def"), Piece::Trailer("x-sum", "1")];
    let memory = Rc::<ReplayMemory>::default();
    let body = sent_once(6, &memory, of);
    let hold = body.hold();
    let first = all(body.for_attempt()).await;
    assert!(body.can_repeat() && memory.used() > 6);
    assert_eq!(all(body.for_attempt()).await, first);
    let other = body.hold();
    drop(hold);
    assert!(body.can_repeat(), "somebody else holds it");
    drop(other);
    assert_eq!((body.can_repeat(), memory.used()), (false, 0));

    let body = sent_once(6, &memory, of);
    let mut attempt = body.for_attempt();
    assert_eq!(attempt.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    let _hold = body.hold();
    assert_eq!(all(attempt).await.0, "def");
    assert_eq!((body.can_repeat(), memory.used()), (false, 0), "too late");
}

#[tokio::test(start_paused = true)]
async fn a_held_body_that_is_too_long_or_for_which_there_is_no_memory_is_sent_once() {
    for (limit, memory) in [(5, usize::MAX), (6, 5), (0, usize::MAX)] {
        let memory = Rc::new(ReplayMemory::new(memory));
        let body = sent_once(limit, &memory, [Piece::Data("abc"), Piece::Data("def")]);
        let _hold = body.hold();
        assert_eq!(read(body.for_attempt()).await.unwrap(), "abcdef");
        assert_eq!((body.can_repeat(), body.is_squeezed(), memory.used()), (false, false, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hold_takes_nothing_from_a_body_that_is_kept_for_further_attempts() {
    let body = request_body(6, [Piece::Data("abc"), Piece::Data("def")]);
    let hold = body.hold();
    assert_eq!(read(body.for_attempt()).await.unwrap(), "abcdef");
    drop(hold);
    assert_eq!(read(body.for_attempt()).await.unwrap(), "abcdef");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_cut_off_while_the_client_still_sends_is_repeated_with_all_of_it() {
    let body = request_body(100, [Piece::Data("abc"), Piece::Wait(35), Piece::Data("def")]);
    let mut first = body.for_attempt();
    assert_eq!(first.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
    assert!(futures_util::FutureExt::now_or_never(first.frame()).is_none());
    drop(first);
    assert_eq!(read(body.for_attempt()).await.unwrap(), "abcdef");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_knows_that_it_has_ended_when_the_client_does() {
    let body = RequestBody::new(Box::pin(ResponseBody::full("abc")), 100);
    for _ in 0..2 {
        let mut attempt = body.for_attempt();
        assert!(!attempt.is_end_stream());
        attempt.frame().await.unwrap().unwrap();
        assert!(attempt.is_end_stream());
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_call_fails_an_attempt_that_still_sends_its_body() {
    let body = request_body(100, [Piece::Data("first "), Piece::Wait(1000), Piece::Data("second")]);
    let attempt = {
        let call =
            call_with("1", http::Request::post("http://service-b/"), body, Observers::default());
        call.body().for_attempt()
    };
    let started = Instant::now();
    let error = attempt.collect().await.unwrap_err();
    assert_eq!((error.kind(), started.elapsed()), (ErrorKind::RequestIncomplete, ms(0)));
}

#[test]
fn no_body_stays_no_body() {
    let ended: BodyStream = Box::pin(ResponseBody::empty());
    for body in [RequestBody::empty(), RequestBody::new(ended, 100)] {
        assert!(body.is_empty() && body.can_repeat() && body.for_attempt().is_end_stream());
        assert_eq!(body.for_attempt().size_hint().exact(), Some(0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_client_announced_of_the_length_is_passed_on_to_every_attempt() {
    let body = RequestBody::new(Box::pin(ResponseBody::full("abcdef")), 100);
    for _ in 0..2 {
        let attempt = body.for_attempt();
        assert_eq!(attempt.size_hint().exact(), Some(6));
        assert_eq!(read(attempt).await.unwrap(), "abcdef");
    }
}

// ===== response bodies =====

/// A body that holds a guard, and how often the guard is held elsewhere than here.
fn holding(mut body: ResponseBody) -> (ResponseBody, impl Fn() -> usize) {
    let guard = Rc::new(());
    body.hold(guard.clone());
    (body, move || Rc::strong_count(&guard) - 1)
}

#[tokio::test(start_paused = true)]
async fn a_guard_is_held_until_the_body_has_ended() {
    let streaming = response_body([Piece::Data("abc"), Piece::Wait(5), Piece::Data("def")]);
    for body in [streaming, ResponseBody::full("abc")] {
        let (mut body, held) = holding(body);
        while let Some(frame) = body.frame().await {
            frame.unwrap();
            assert_eq!(held(), 1);
        }
        assert_eq!(held(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_is_given_back_when_the_body_is_dropped_or_breaks_off() {
    let (body, held) = holding(response_body([Piece::Data("abc"), Piece::Hang]));
    assert_eq!(held(), 1);
    drop(body);
    assert_eq!(held(), 0);
    let (mut body, held) = holding(response_body([Piece::Break(ErrorKind::ConnectionTerminated)]));
    assert!(body.frame().await.unwrap().is_err());
    assert_eq!(held(), 0);
    assert!(body.frame().await.is_none());
}

#[test]
fn a_body_that_has_ended_already_holds_no_guard() {
    let (_body, held) = holding(ResponseBody::empty());
    assert_eq!(held(), 0);
}

#[tokio::test(start_paused = true)]
async fn trailers_of_a_response_come_last_whether_or_not_they_were_read_ahead() {
    let body = || response_body([Piece::Data("abc"), Piece::Trailer("x-sum", "1")]);
    let mut peeked = body();
    peeked.peek(Peek { bytes: 100, timeout: ms(10) }).await.unwrap();
    assert!(peeked.is_peeked_whole(100) && !peeked.is_end_stream());
    for body in [body(), peeked] {
        let (data, trailers) = all(body).await;
        assert_eq!((data, trailers.unwrap()["x-sum"].to_str().unwrap()), ("abc".into(), "1"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_read_ahead_is_shown_in_any_part_and_never_past_the_limit() {
    let mut body =
        response_body([Piece::Data("abc"), Piece::Data("defgh"), Piece::Data("ijk"), Piece::Hang]);
    body.peek(Peek { bytes: 6, timeout: ms(10) }).await.unwrap();
    assert_eq!(body.size_hint().lower(), 8, "whole frames are read");
    for (offset, length, expected) in [
        (0, 6, "abcdef"),
        (0, 99, "abcdef"),
        (1, 3, "bcd"),
        (3, 1, "d"),
        (5, 9, "f"),
        (6, 1, ""),
        (99, 1, ""),
        (0, 0, ""),
    ] {
        assert_eq!(body.peeked(6, offset, length), expected.as_bytes(), "{offset} {length}");
    }
    assert_eq!(body.peeked(6, 1, usize::MAX), b"bcdef");
    assert!(!body.is_peeked_whole(6));
}

#[tokio::test(start_paused = true)]
async fn a_body_of_just_the_wanted_length_is_known_to_be_whole_if_its_end_came_along() {
    let breaks = Piece::Break(ErrorKind::ConnectionTerminated);
    for (more, is_whole, all) in [
        (vec![], true, Ok("abc")),
        (vec![Piece::Wait(5)], false, Ok("abc")),
        (vec![Piece::Data("d")], false, Ok("abcd")),
        (vec![breaks], false, Err(ErrorKind::ConnectionTerminated)),
        (vec![Piece::Wait(5), breaks], false, Err(ErrorKind::ConnectionTerminated)),
    ] {
        let mut body = response_body([vec![Piece::Data("abc")], more].concat());
        let start = Instant::now();
        body.peek(Peek { bytes: 3, timeout: ms(10) }).await.unwrap();
        assert_eq!((body.is_peeked_whole(3), start.elapsed()), (is_whole, ms(0)));
        assert_eq!(body.peeked(3, 0, 9), b"abc");
        let read = read(body).await.map_err(|error| error.kind());
        assert_eq!(read.as_deref(), all.as_ref().map(|text| text.as_bytes()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_goes_out_while_its_body_still_arrives() {
    let upstream =
        Answers(|_| Ok(response(200, &[], response_body([Piece::Wait(500), Piece::Data("late")]))));
    let rig = Rig::around(upstream, [retry(RETRY), breaker(""), timeout(100)]);
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!(rig.now(), 1);
    assert_eq!(read(response.body).await.unwrap(), "late");
}
