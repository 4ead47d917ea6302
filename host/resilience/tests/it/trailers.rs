//! Components that read trailers: asked about a head, and again when its trailers have come.

use std::sync::Arc;

use bytes::Bytes;
use fusebox_resilience::testing::read;
use fusebox_resilience::{
    BodyEnd, CircuitBreaker, CircuitBreakerEvent, CircuitState, DelayDecision, ErrorKind, Exchange,
    GrpcStatus, LateFailureCause, LimitChangeKind, Observers, Outcome, Policy, ResponseBody,
    RetryEvent, Upstream, WindowCounts,
};
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};

use crate::support::{
    Answers, Fake, FakeDelay, Piece, Rig, Surroundings, adaptive_among, breaker_among, ms,
    response, response_body, retry, shown, throttler_among, version,
};

const ASKED: &str = "handle_if = { component = \"asked\" }";
const A: Piece = Piece::Data("a");
const LOST: Piece = Piece::Break(ErrorKind::ConnectionTerminated);
const GOOD: Piece = Piece::Trailer("x-status", "ok");
const BAD: Piece = Piece::Trailer("x-status", "bad");

fn counts(successes: usize, failures: usize) -> WindowCounts {
    WindowCounts { successes, failures }
}

/// An upstream that answers 200 with a body of these pieces.
fn answering<const N: usize>(pieces: [Piece; N]) -> Answers<impl Fn(u32) -> Outcome> {
    Answers(move |_| Ok(response(200, &[("x-head", "h")], response_body(pieces))))
}

fn trailer<'a>(seen: &'a Exchange<'_>) -> Option<&'a [u8]> {
    let trailers = seen.outcome.as_ref().ok()?.body.trailers()?;
    trailers.get("x-status").map(|value| value.as_bytes())
}

/// Takes what its trailer calls bad.
fn bad() -> Arc<Fake> {
    Fake::new(|seen| trailer(seen) == Some(b"bad")).reading()
}

/// Takes what has no trailer that calls it good: every head.
fn not_good() -> Arc<Fake> {
    Fake::new(|seen| trailer(seen) != Some(b"ok")).reading()
}

fn asking(fake: &Arc<Fake>) -> Surroundings {
    Surroundings::default().predicate("asked", fake)
}

/// A breaker that asks it, and the same half-open.
fn breaker(fake: &Arc<Fake>, config: &str) -> Arc<CircuitBreaker> {
    breaker_among(&format!("{ASKED}\n{config}"), &asking(fake))
}

fn half_open(fake: &Arc<Fake>, config: &str) -> Arc<CircuitBreaker> {
    let breaker = breaker(fake, &format!("failure_threshold = 1\ndelay = \"1s\"\n{config}"));
    breaker.force(CircuitState::HalfOpen, &Observers::default());
    breaker
}

async fn body<U: Upstream>(rig: &Rig<U>) -> ResponseBody {
    rig.outcome(&rig.call()).await.expect("a response").body
}

// ===== what is asked =====

#[tokio::test(start_paused = true)]
async fn what_trailers_say_counts_in_place_of_what_the_head_said() {
    let fake = bad();
    let breaker = breaker(&fake, "failure_threshold = 9");
    for (trailer, after) in [(GOOD, counts(1, 0)), (BAD, counts(1, 1))] {
        let rig = Rig::around(answering([A, Piece::Wait(5), trailer]), [breaker.clone()]);
        let body = body(&rig).await;
        let before = breaker.status().counts;
        assert_eq!((before.successes, before.failures), (after.total(), 0), "at the head");
        let came = body.collect().await.expect("a whole body");
        assert!(came.trailers().is_some(), "they go on to the client");
        assert_eq!(breaker.status().counts, after);
    }
    let (head, end) = ("200 \"\"… of attempt 1", "200 \"\"…+ of attempt 1");
    assert_eq!(fake.seen(), [head, end, head, end]);
}

#[tokio::test(start_paused = true)]
async fn it_finds_the_exchange_as_it_was_and_its_time_as_it_is() {
    let fake = Fake::peeking(2, 100, |seen| {
        let response = seen.outcome.as_ref().expect("a response");
        let is_late = seen.call.elapsed() >= ms(50);
        assert_eq!(response.status.as_u16(), 200);
        assert_eq!(response.headers.iter().next(), Some((&b"x-head"[..], &b"h"[..])));
        assert_eq!(seen.call.header("host").map(|value| value.as_bytes()), None);
        assert_eq!((seen.call.id().is_empty(), seen.number()), (false, 1));
        assert_eq!((response.body.trailers().is_some(), seen.remaining()), (is_late, None));
        is_late
    });
    let breaker = breaker(&fake.clone().reading(), "failure_threshold = 9");
    let pieces = [A, Piece::Data("bc"), Piece::Wait(60), Piece::Data("d"), GOOD];
    let rig = Rig::around(answering(pieces), [breaker.clone()]);
    assert_eq!(read(body(&rig).await).await.expect("it is whole"), "abcd");
    assert_eq!(fake.seen(), ["200 \"ab\"… of attempt 1", "200 \"ab\"…+ of attempt 1"]);
    assert_eq!(breaker.status().counts, counts(0, 1));
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_read_trailers_is_asked_once_and_nothing_changes() {
    let fake = Fake::new(|_| false);
    let breaker = breaker(&fake, "failure_threshold = 9");
    let rig = Rig::around(answering([A, BAD]), [breaker.clone()]);
    read(body(&rig).await).await.expect("it is whole");
    assert_eq!((fake.seen().len(), breaker.status().counts), (1, counts(1, 0)));
}

#[tokio::test(start_paused = true)]
async fn one_that_has_seen_the_end_with_the_head_is_asked_once() {
    let fake = Fake::peeking(9, 100, |seen| trailer(seen) == Some(b"bad")).reading();
    let breaker = breaker(&fake, "failure_threshold = 9");
    let rig = Rig::around(answering([A, BAD]), [breaker.clone()]);
    let body = body(&rig).await;
    assert_eq!((fake.seen().len(), breaker.status().counts), (1, counts(0, 1)));
    assert!(body.collect().await.expect("it is whole").trailers().is_some());
    assert_eq!(fake.seen(), ["200 \"a\"+ of attempt 1"]);
}

#[tokio::test(start_paused = true)]
async fn behind_a_length_of_http_1_and_what_has_no_body_nothing_is_waited_for() {
    let sized = || {
        let full = Full::new(Bytes::from_static(b"a")).map_err(|never| match never {});
        ResponseBody::stream(Box::pin(full))
    };
    let tunnel = || ResponseBody::tunnel(Box::new(()));
    for make in [sized, tunnel, ResponseBody::empty] {
        let fake = not_good();
        let breaker = breaker(&fake, "failure_threshold = 9");
        let rig = Rig::around(Answers(move |_| Ok(response(200, &[], make()))), [breaker.clone()]);
        let _body = body(&rig).await;
        assert_eq!((breaker.status().counts, fake.seen().len()), (counts(0, 1), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_does_not_read_them_leaves_the_late_status_to_the_default() {
    for (reads, failures) in [(true, 0), (false, 1)] {
        let fake = Fake::new(|_| false).reading();
        let breaker = breaker(&fake, "failure_threshold = 9");
        let ending = [A, Piece::Trailer("grpc-status", "14")];
        let grpc = [("content-type", "application/grpc")];
        let upstream = Answers(move |_| Ok(response(200, &grpc, response_body(ending))));
        let rig = Rig::around(upstream, [breaker.clone()]);
        let request = http::Request::post("http://b/").header(grpc[0].0, grpc[0].1);
        let call = rig.call_of(request, fusebox_resilience::RequestBody::empty());
        let body = rig.outcome(&call).await.expect("a response").body;
        if !reads {
            fake.stops_reading();
        }
        read(body).await.expect("it is whole");
        assert_eq!(breaker.status().counts, counts(1 - failures, failures));
        assert_eq!(fake.seen().len(), 1 + usize::from(reads));
    }
}

// ===== a failure by its head =====

#[tokio::test(start_paused = true)]
async fn a_failure_by_its_head_counts_when_trailers_leave_it_one() {
    for (trailer, state) in [(GOOD, CircuitState::Closed), (BAD, CircuitState::Open)] {
        let breaker = breaker(&not_good(), "failure_threshold = 1");
        let rig = Rig::around(answering([A, Piece::Wait(9), trailer]), [breaker.clone()]);
        let body = body(&rig).await;
        assert_eq!(breaker.status().counts, counts(0, 0), "not yet");
        read(body).await.expect("it is whole");
        assert_eq!((breaker.status().state, breaker.status().counts.total()), (state, 1));
        let told: Vec<_> = rig.events().into_iter().map(|(_, kind)| kind).collect();
        assert_eq!(told.len(), usize::from(state == CircuitState::Open), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_one_however_the_response_ends_without_trailers() {
    type Ending = fn(ResponseBody);
    let ends: [(&str, &[Piece], Ending); 5] = [
        ("whole", &[A], |body| drop(read(body).now_or_never())),
        ("broken", &[A, LOST], |body| drop(read(body).now_or_never())),
        ("left", &[A, Piece::Hang], |mut body| body.settle(BodyEnd::Discarded)),
        ("discarded", &[A, Piece::Hang], |mut body| body.settle(BodyEnd::Whole)),
        ("dropped", &[A, Piece::Hang], drop),
    ];
    for (how, pieces, end) in ends {
        let fake = not_good();
        let breaker = breaker(&fake, "failure_threshold = 9");
        let upstream = Answers(move |_| Ok(response(200, &[], response_body(pieces.to_vec()))));
        let rig = Rig::around(upstream, [breaker.clone()]);
        let body = body(&rig).await;
        assert_eq!(breaker.status().counts, counts(0, 0), "{how}");
        end(body);
        assert_eq!((breaker.status().counts, fake.seen().len()), (counts(0, 1), 1), "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_asks_once_and_what_it_discards_has_failed() {
    let fake = not_good();
    let breaker = breaker(&fake, "failure_threshold = 9");
    let again = retry("handle_if = { status = [\"200\"] }\nmax_retries = 1\ndelay = \"1ms\"");
    let rig = Rig::around(answering([A, GOOD]), [again, breaker.clone()]);
    let body = body(&rig).await;
    assert_eq!(breaker.status().counts, counts(0, 1), "of the first; the second is open");
    read(body).await.expect("it is whole");
    assert_eq!(breaker.status().counts, counts(1, 1));
    let retried = rig.events().into_iter().map(|(_, kind)| kind);
    let scheduled = RetryEvent::Scheduled { retry: 1, delay: ms(1) };
    assert!(retried.into_iter().any(|kind| kind == scheduled.clone().into()));
}

// ===== half-open =====

#[tokio::test(start_paused = true)]
async fn a_trial_gets_its_verdict_from_the_trailers() {
    for (fake, trailer, state) in [
        (bad(), GOOD, CircuitState::Closed),
        (bad(), BAD, CircuitState::Open),
        (not_good(), GOOD, CircuitState::Closed),
        (not_good(), BAD, CircuitState::Open),
    ] {
        let breaker = half_open(&fake, "");
        let rig = Rig::around(answering([A, Piece::Wait(500), trailer]), [breaker.clone()]);
        let body = body(&rig).await;
        assert_eq!((breaker.status().state, breaker.status().trials), (CircuitState::HalfOpen, 1));
        assert_eq!(rig.get().await.1, Err(ErrorKind::CircuitOpen), "it is under way");
        read(body).await.expect("it is whole");
        assert_eq!((breaker.status().state, breaker.status().trials), (state, 0), "{trailer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_trials_client_that_leaves_before_is_neutral_if_the_head_was_good() {
    for (fake, failures) in [(bad(), 0), (not_good(), 1)] {
        let breaker = half_open(&fake, "success_threshold = 2\nsuccess_capacity = 3");
        let rig = Rig::around(answering([A, Piece::Wait(500), BAD]), [breaker.clone()]);
        let mut body = body(&rig).await;
        body.settle(BodyEnd::Discarded);
        drop(body);
        let status = breaker.status();
        assert_eq!((status.trials, status.counts), (0, counts(0, failures)));
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_good_head_is_good_by_time() {
    for (fake, is_good) in [(bad(), true), (not_good(), false)] {
        let breaker = half_open(&fake, "");
        let rig = Rig::around(answering([A, Piece::Wait(5000), GOOD]), [breaker.clone()]);
        let body = body(&rig).await;
        let mut reading = Box::pin(read(body));
        assert!(tokio::time::timeout(ms(2000), &mut reading).await.is_err());
        assert_eq!(rig.get().await.1.is_ok(), is_good);
        reading.await.expect("it is whole");
        assert_eq!(breaker.status().state, CircuitState::Closed);
    }
}

// ===== waiting for a turn =====

#[tokio::test(start_paused = true)]
async fn trailers_wait_for_the_turn_of_their_question_and_a_client_may_leave_meanwhile() {
    for leaves in [false, true] {
        let fake = bad();
        let breaker = half_open(&fake, "");
        let rig = Rig::around(answering([A, BAD]), [breaker.clone()]);
        let call = rig.call();
        let mut body = rig.outcome(&call).await.expect("a response").body;
        assert!(body.frame().now_or_never().is_some(), "the data");
        call.worker().question_turns().lasted();
        assert!(body.frame().now_or_never().is_none(), "others go on first");
        assert_eq!((fake.seen().len(), breaker.status().trials), (1, 1));
        if leaves {
            body.settle(BodyEnd::Discarded);
            drop(body);
            assert_eq!((breaker.status().trials, breaker.status().counts), (0, counts(0, 0)));
            assert_eq!(fake.seen().len(), 1);
        } else {
            assert!(body.frame().await.is_some_and(|frame| frame.is_ok_and(|it| it.is_trailers())));
            assert_eq!(breaker.status().state, CircuitState::Open);
        }
    }
}

// ===== several conditions and components =====

#[tokio::test(start_paused = true)]
async fn only_those_that_read_trailers_are_asked_again_and_the_others_answers_hold() {
    let (reads, once) = (bad(), Fake::new(|_| true));
    let parts = Surroundings::default().predicate("reads", &reads).predicate("once", &once);
    for (condition, failures, asked) in [
        ("all = [{ component = \"once\" }, { component = \"reads\" }]", 1, (2, 1)),
        // What holds is enough.
        ("any = [{ component = \"reads\" }, { component = \"once\" }]", 1, (1, 1)),
        ("all = [{ component = \"reads\" }, { not = { component = \"once\" } }]", 0, (2, 1)),
        // At the head it is not needed.
        ("all = [{ component = \"reads\" }, { component = \"once\" }]", 1, (2, 1)),
    ] {
        let before = (reads.seen().len(), once.seen().len());
        let config = format!("failure_threshold = 9\nhandle_if = {{ {condition} }}");
        let breaker = breaker_among(&config, &parts);
        let rig = Rig::around(answering([A, BAD]), [breaker.clone()]);
        read(body(&rig).await).await.expect("it is whole");
        assert_eq!(breaker.status().counts, counts(1 - failures, failures), "{condition}");
        let now = (reads.seen().len() - before.0, once.seen().len() - before.1);
        assert_eq!(now, asked, "{condition}");
    }
}

#[tokio::test(start_paused = true)]
async fn parts_about_the_head_and_a_late_status_are_answered_as_well() {
    let condition = "all = [{ header = { x-head = \"h\" } }, { component = \"asked\" }]";
    let config = format!("failure_threshold = 9\nhandle_if = {{ {condition} }}");
    let breaker = breaker_among(&config, &asking(&bad()));
    let rig = Rig::around(answering([A, BAD]), [breaker.clone()]);
    read(body(&rig).await).await.expect("it is whole");
    assert_eq!(breaker.status().counts, counts(0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_ignore_if_takes_is_neutral_by_its_trailers_too() {
    let once = Fake::new(|_| false);
    for (handle_if, ignore_if, before, after) in [
        // A success by its head has counted.
        ("{ status = [\"503\"] }", "asked", counts(1, 0), counts(1, 0)),
        ("{ status = [\"200\"] }", "asked", counts(0, 0), counts(0, 0)),
        ("{ component = \"asked\" }", "once", counts(1, 0), counts(0, 1)),
    ] {
        let parts = asking(&bad()).predicate("once", &once);
        let config = format!(
            "failure_threshold = 9\nhandle_if = {handle_if}\n\
             ignore_if = {{ component = \"{ignore_if}\" }}"
        );
        let breaker = breaker_among(&config, &parts);
        let rig = Rig::around(answering([A, BAD]), [breaker.clone()]);
        let body = body(&rig).await;
        assert_eq!(breaker.status().counts, before, "{config}");
        read(body).await.expect("it is whole");
        assert_eq!(breaker.status().counts, after, "{config}");
    }
    assert_eq!(once.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_was_asked_before_another_has_read_to_the_end_is_asked_again_at_once() {
    for (reader, is_bad, asked) in [(bad(), true, 2), (Fake::new(|_| false), false, 1)] {
        let looks = Fake::peeking(9, 100, |_| true);
        let parts = asking(&reader).predicate("looks", &looks);
        let config = "failure_threshold = 9\nhandle_if = { component = \"looks\" }\n\
                      ignore_if = { component = \"asked\" }";
        let breaker = breaker_among(config, &parts);
        let rig = Rig::around(answering([A, BAD]), [breaker.clone()]);
        let _body = body(&rig).await;
        assert_eq!(breaker.status().counts, counts(0, usize::from(!is_bad)));
        assert_eq!((reader.seen().len(), looks.seen().len()), (asked, 1));

        let either = "{ any = [{ component = \"asked\" }, { not = { component = \"looks\" } }] }";
        let throttler = throttler_among(&format!("min_calls = 99\nhandle_if = {either}"), &parts);
        let rig = Rig::around(answering([A, BAD]), [throttler.clone() as Arc<dyn Policy>]);
        let _body = body(&rig).await;
        assert_eq!(shown(&*throttler, "failures"), u64::from(is_bad));
        assert_eq!((reader.seen().len(), looks.seen().len()), (2 * asked, 2));
    }
}

// ===== what is told, and who hears of it =====

#[tokio::test(start_paused = true)]
async fn it_is_told_by_whom_and_for_how_long_a_component_may_say() {
    let delayer = FakeDelay::new(|seen, _| {
        assert_eq!(trailer(seen), Some(&b"bad"[..]), "it is asked about the whole");
        DelayDecision::Wait { time: ms(7000), by: version() }
    });
    let parts = asking(&bad()).delayer("delays", &delayer);
    let config = format!("{ASKED}\nfailure_threshold = 1\ndelay = {{ component = \"delays\" }}");
    let breaker = breaker_among(&config, &parts);
    let rig = Rig::around(answering([A, BAD]), [breaker.clone()]);
    read(body(&rig).await).await.expect("it is whole");
    let opened = CircuitBreakerEvent::StateChanged {
        from: CircuitState::Closed,
        to: CircuitState::Open,
        delay: Some(ms(7000)),
        key: None,
        endpoint: None,
    };
    let cause = LateFailureCause::Trailers;
    let told: Vec<_> = rig.events().into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(told, [CircuitBreakerEvent::FailedLate { cause }.into(), opened.into()]);
    assert_eq!(delayer.seen(), ["breaker 1 for 200, own 60000 ms"]);
}

#[tokio::test(start_paused = true)]
async fn a_delay_that_reads_the_body_to_its_end_leaves_nothing_to_wait_for() {
    let delayer = FakeDelay::peeking(9, |_, _| DelayDecision::Own);
    let parts = asking(&not_good()).delayer("delays", &delayer);
    let config = format!("{ASKED}\nfailure_threshold = 9\ndelay = {{ component = \"delays\" }}");
    let breaker = breaker_among(&config, &parts);
    for (trailer, after) in [(GOOD, counts(1, 0)), (BAD, counts(1, 1))] {
        let rig = Rig::around(answering([A, trailer]), [breaker.clone()]);
        let body = body(&rig).await;
        assert_eq!(breaker.status().counts, after);
        assert!(body.collect().await.expect("it is whole").trailers().is_some());
        assert_eq!(breaker.status().counts, after);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_of_grpc_that_a_component_takes_is_told_as_that() {
    let breaker = breaker(&bad(), "failure_threshold = 9");
    let grpc = [("content-type", "application/grpc")];
    let upstream = Answers(move |_| Ok(response(200, &grpc, response_body([A, BAD]))));
    let rig = Rig::around(upstream, [breaker.clone()]);
    let request = http::Request::post("http://b/").header(grpc[0].0, grpc[0].1);
    let call = rig.call_of(request, fusebox_resilience::RequestBody::empty());
    read(rig.outcome(&call).await.expect("a response").body).await.expect("it is whole");
    let cause = LateFailureCause::Grpc(GrpcStatus::Unknown);
    assert_eq!(rig.events()[0].1, CircuitBreakerEvent::FailedLate { cause }.into());
}

#[tokio::test(start_paused = true)]
async fn throttlers_count_what_trailers_say() {
    for (fake, trailer, at_head, after) in [
        (bad(), GOOD, (1, 0), (1, 0)),
        (bad(), BAD, (1, 0), (2, 1)),
        (not_good(), GOOD, (0, 0), (1, 0)),
        (not_good(), BAD, (0, 0), (1, 1)),
    ] {
        let throttler = throttler_among(&format!("min_calls = 99\n{ASKED}"), &asking(&fake));
        let results = || (shown(&*throttler, "results"), shown(&*throttler, "failures"));
        let rig = Rig::around(answering([A, trailer]), [throttler.clone() as Arc<dyn Policy>]);
        let body = body(&rig).await;
        assert_eq!(results(), at_head);
        read(body).await.expect("it is whole");
        assert_eq!((results(), fake.seen().len()), (after, 2));
    }
    let fake = not_good();
    let throttler = throttler_among(&format!("min_calls = 99\n{ASKED}"), &asking(&fake));
    let rig = Rig::around(answering([A, Piece::Hang]), [throttler.clone() as Arc<dyn Policy>]);
    drop(body(&rig).await);
    assert_eq!(shown(&*throttler, "failures"), 1, "its client has left");
}

#[tokio::test(start_paused = true)]
async fn limiters_too() {
    let config = "overload_if = { component = \"asked\" }\nmin_samples = 1\n\
                  window = { min = \"1ms\", max = \"1s\" }\nmax_limit_factor = 1000";
    for (trailer, kind) in [(BAD, LimitChangeKind::Drops), (GOOD, LimitChangeKind::Grown)] {
        let limiter = adaptive_among(config, &asking(&not_good()));
        let rig = Rig::around(answering([A, trailer]), [limiter.clone()]);
        for call in 0..2 {
            rig.until(call * 20).await;
            read(body(&rig).await).await.expect("it is whole");
        }
        let told = rig.events();
        assert!(
            matches!(&told[..], [(_, fusebox_resilience::EventKind::AdaptiveLimiter(
                fusebox_resilience::AdaptiveLimiterEvent::LimitChanged { kind: found, .. },
            ))] if *found == kind),
            "{trailer:?}: {told:?}"
        );
    }
}
