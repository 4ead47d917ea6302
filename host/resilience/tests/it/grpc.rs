//! Calls by gRPC: what their status means to policies, in the head and behind the body.

use std::sync::Arc;
use std::time::Duration;

use fusebox_resilience::testing::read;
use fusebox_resilience::{
    Behind, Call, CircuitBreakerEvent, CircuitState, ErrorKind, EventKind, GrpcStatus,
    LateFailureCause, Marks, NoRetry, Outcome, Policy, RequestBody, ResponseBody, RetryEvent,
    Upstream, WindowCounts,
};
use http::StatusCode;
use http_body_util::BodyExt;

use crate::support::{
    Answers, Fake, Piece, Rig, Surroundings, breaker, breaker_among, request_body, response,
    response_body, retry, shown, throttler,
};

const GRPC: (&str, &str) = ("content-type", "application/grpc");

fn call<U: Upstream>(rig: &Rig<U>) -> Call {
    call_with(rig, RequestBody::empty())
}

fn call_with<U: Upstream>(rig: &Rig<U>, body: RequestBody) -> Call {
    rig.call_of(request(), body)
}

fn request() -> http::request::Builder {
    http::Request::post("http://service-b/b.B/Get").header(GRPC.0, GRPC.1)
}

/// An answer that is all head, with these headers too.
fn head_only(status: &'static str, headers: &[(&'static str, &'static str)]) -> Outcome {
    let headers: Vec<_> = [GRPC, ("grpc-status", status)].iter().chain(headers).copied().collect();
    Ok(response(200, &headers, ResponseBody::empty()))
}

/// An answer with messages, then these trailers, if any.
fn ending(trailer: Option<&'static str>) -> Outcome {
    let trailer = trailer.map(|status| Piece::Trailer("grpc-status", status));
    let pieces: Vec<_> = [Piece::Data("message")].into_iter().chain(trailer).collect();
    Ok(response(200, &[GRPC], response_body(pieces)))
}

/// A retry that repeats whatever is asked for.
fn retry_all(config: &str) -> Arc<dyn Policy> {
    retry(&format!("delay = \"10ms\"\njitter = 0\nmethods = [\"*\"]\nmax_retries = 1\n{config}"))
}

/// How many attempts are made for a call that is answered so.
async fn attempts(config: &str, answer: impl Fn(u32) -> Outcome) -> u32 {
    let rig = Rig::around(Answers(answer), [retry_all(config)]);
    let call = call(&rig);
    drop(rig.outcome(&call).await);
    call.attempts()
}

// ===== what the head says =====

#[tokio::test(start_paused = true)]
async fn by_default_unavailable_is_retried_and_exhausted_with_pushback() {
    let pushed_back = &[("grpc-retry-pushback-ms", "5")][..];
    for (status, headers, expected) in [
        ("14", &[][..], 2),
        ("8", pushed_back, 2),
        ("8", &[], 1),
        ("13", pushed_back, 1),
        ("4", &[], 1),
        ("2", &[], 1),
        ("0", &[], 1),
    ] {
        let made = attempts("", |_| head_only(status, headers)).await;
        assert_eq!(made, expected, "{status} {headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_of_grpc_stands_for_a_status_by_that_of_http() {
    let html = ("content-type", "text/html");
    for (status, headers, expected) in [
        (503, &[html][..], 2),
        (502, &[], 2),
        (429, &[html], 2),
        (500, &[html], 1),
        (404, &[html], 1),
        (200, &[html], 1),
        // Its own word counts.
        (503, &[GRPC, ("grpc-status", "5")], 1),
        (500, &[GRPC, ("grpc-status", "14")], 2),
    ] {
        let answer = move |_| Ok(response(status, headers, response_body([Piece::Data("x")])));
        assert_eq!(attempts("", answer).await, expected, "{status} {headers:?}");
    }
    let unknown = "handle_if = { grpc_status = [\"unknown\"] }";
    for (status, headers, body) in [
        (200, &[html][..], response_body([Piece::Data("x")])),
        (200, &[GRPC], ResponseBody::empty()),
        (500, &[html], ResponseBody::empty()),
        (200, &[GRPC, ("grpc-status", "gone")], ResponseBody::empty()),
    ] {
        let body = std::cell::RefCell::new(Some(body));
        let answer = |_| {
            let body = body.take().unwrap_or_else(ResponseBody::empty);
            Ok(response(status, headers, body))
        };
        assert_eq!(attempts(unknown, answer).await, 2, "{status} {headers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_list_of_statuses_is_one_beside_the_others() {
    let aborted = "handle_if = { grpc_status = [\"aborted\", \"internal\"] }";
    assert_eq!(attempts(aborted, |_| head_only("10", &[])).await, 2);
    assert_eq!(attempts(aborted, |_| head_only("14", &[])).await, 1, "it replaces the default");
    assert_eq!(attempts(aborted, |_| Err(ErrorKind::ConnectionRefused.into())).await, 2);
    let of_http = "handle_if = { status = [200], failure = [] }";
    assert_eq!(attempts(of_http, |_| head_only("14", &[])).await, 2, "it keeps its default");
    assert_eq!(attempts(of_http, |_| head_only("0", &[])).await, 1, "that of HTTP means nothing");
    let parts = "handle_if = { any = [{ grpc_status = [\"aborted\"] }, { status = [404] }] }";
    assert_eq!(attempts(parts, |_| head_only("10", &[])).await, 2);
    assert_eq!(attempts(parts, |_| head_only("14", &[])).await, 1);
    let narrowed = "handle_if = { grpc_status = [\"aborted\"], header = { x-why = \"*\" } }";
    assert_eq!(attempts(narrowed, |_| head_only("10", &[("x-why", "lock")])).await, 2);
    assert_eq!(attempts(narrowed, |_| head_only("10", &[])).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_not_by_grpc_is_judged_by_its_status_of_http() {
    let rig = Rig::around(Answers(|_| head_only("14", &[])), [retry_all("")]);
    let call = rig.call_of(http::Request::post("http://service-b/"), RequestBody::empty());
    drop(rig.outcome(&call).await);
    assert_eq!(call.attempts(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_component_is_asked_only_about_the_statuses_of_its_list() {
    let asked = Fake::new(|_| true);
    let parts = Surroundings::default().predicate("asked", &asked);
    let only = "failure_threshold = 9\n\
                handle_if = { component = \"asked\", only = { grpc_status = [\"internal\"] } }";
    for (status, failures) in [("13", 1), ("14", 0)] {
        let breaker = breaker_among(only, &parts);
        let rig = Rig::around(Answers(|_| head_only(status, &[])), [breaker.clone()]);
        drop(rig.outcome(&call(&rig)).await);
        assert_eq!(breaker.status().counts.failures, failures, "{status}");
    }
}

// ===== what the trailers say =====

#[tokio::test(start_paused = true)]
async fn a_status_in_the_trailers_turns_the_success_that_the_head_was() {
    for (trailer, failures) in [(Some("14"), 1), (Some("0"), 0), (Some("5"), 0), (None, 0)] {
        let breaker = breaker("failure_threshold = 9");
        let rig = Rig::around(Answers(|_| ending(trailer)), [breaker.clone()]);
        let body = rig.outcome(&call(&rig)).await.unwrap().body;
        assert_eq!(breaker.status().counts, WindowCounts { successes: 1, failures: 0 });
        assert_eq!(read(body).await.unwrap(), "message");
        let counts = WindowCounts { successes: 1 - failures, failures };
        assert_eq!(breaker.status().counts, counts, "{trailer:?}");
    }
    let breaker = breaker("failure_threshold = 9\nhandle_if = { grpc_status = [\"unknown\"] }");
    let rig = Rig::around(Answers(|_| ending(None)), [breaker.clone()]);
    read(rig.outcome(&call(&rig)).await.unwrap().body).await.unwrap();
    assert_eq!(breaker.status().counts.failures, 1, "no status is one");
}

#[tokio::test(start_paused = true)]
async fn it_opens_a_breaker_and_fails_its_trial() {
    let breaker = breaker("failure_threshold = 1\ndelay = \"1s\"\ndelay_jitter = 0");
    let rig = Rig::around(Answers(|_| ending(Some("14"))), [breaker.clone()]);
    read(rig.outcome(&call(&rig)).await.unwrap().body).await.unwrap();
    assert_eq!(breaker.status().state, CircuitState::Open);
    let cause = LateFailureCause::Grpc(GrpcStatus::Unavailable);
    assert_eq!(rig.events()[0].1, CircuitBreakerEvent::FailedLate { cause }.into());
    rig.until(1100).await;
    read(rig.outcome(&call(&rig)).await.unwrap().body).await.unwrap();
    assert_eq!((breaker.status().state, breaker.status().openings), (CircuitState::Open, 2));
}

#[tokio::test(start_paused = true)]
async fn it_counts_for_a_throttler_and_ignore_if_leaves_it_out() {
    let throttler = throttler("min_calls = 1");
    let rig = Rig::around(Answers(|_| ending(Some("14"))), [throttler.clone()]);
    read(rig.outcome(&call(&rig)).await.unwrap().body).await.unwrap();
    assert_eq!(shown(&*throttler, "failures"), 1);

    let ignored = "failure_threshold = 9\nignore_if = { grpc_status = [\"unavailable\"] }";
    let breaker = breaker(ignored);
    let rig = Rig::around(Answers(|_| ending(Some("14"))), [breaker.clone()]);
    read(rig.outcome(&call(&rig)).await.unwrap().body).await.unwrap();
    assert_eq!(breaker.status().counts, WindowCounts { successes: 1, failures: 0 });
}

#[tokio::test(start_paused = true)]
async fn parts_about_headers_leave_it_open_and_it_is_never_retried() {
    let condition = "handle_if = { grpc_status = [\"aborted\"], method = \"POST\" }";
    let config = format!("failure_threshold = 9\n{condition}");
    let breaker = breaker(&config);
    let rig = Rig::around(Answers(|_| ending(Some("10"))), [retry_all(condition), breaker.clone()]);
    let call = call(&rig);
    read(rig.outcome(&call).await.unwrap().body).await.unwrap();
    assert_eq!((call.attempts(), breaker.status().counts.failures), (1, 1));
    let of_head = breaker_of_head();
    let rig = Rig::around(Answers(|_| ending(Some("10"))), [of_head.clone()]);
    read(rig.outcome(&self::call(&rig)).await.unwrap().body).await.unwrap();
    assert_eq!(of_head.status().counts.failures, 0);
}

fn breaker_of_head() -> Arc<fusebox_resilience::CircuitBreaker> {
    breaker(
        "failure_threshold = 9\n\
         handle_if = { grpc_status = [\"aborted\"], header = { x-why = \"*\" } }",
    )
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_read_ahead_is_judged_with_the_head() {
    let mut body = ending(Some("14")).unwrap().body;
    body.peek(fusebox_resilience::Peek { bytes: 99, timeout: Duration::from_secs(1) })
        .await
        .unwrap();
    assert!(body.trailers().is_some(), "and they still go to the client");
    assert!(body.collect().await.unwrap().trailers().is_some());
    let asked = Fake::peeking(99, 1000, |seen| {
        seen.outcome.as_ref().unwrap().grpc().status() == Some(GrpcStatus::Unavailable)
    });
    let parts = Surroundings::default().predicate("asked", &asked);
    let breaker =
        breaker_among("failure_threshold = 9\nhandle_if = { component = \"asked\" }", &parts);
    let rig = Rig::around(Answers(|_| ending(Some("14"))), [breaker.clone()]);
    drop(rig.outcome(&call(&rig)).await);
    assert_eq!(breaker.status().counts.failures, 1);
}

// ===== asking again =====

#[tokio::test(start_paused = true)]
async fn pushback_is_a_lower_bound_and_what_is_no_number_is_a_no() {
    for (value, retried_at) in
        [("250", Some(251)), ("0", Some(11)), ("-1", None), ("soon", None), ("", None)]
    {
        let pushback = &[("grpc-retry-pushback-ms", value)][..];
        let answer = move |attempt| match attempt {
            1 => head_only("14", pushback),
            _ => head_only("0", &[]),
        };
        let rig = Rig::around(Answers(answer), [retry_all("")]);
        let call = call(&rig);
        drop(rig.outcome(&call).await);
        let skipped = RetryEvent::Skipped { reason: NoRetry::Upstream };
        match retried_at {
            Some(at) => assert_eq!((call.attempts(), rig.now()), (2, at + 1), "{value}"),
            None => assert!(kinds(&rig).contains(&skipped.into()), "{value}"),
        }
    }
    let late = &[("grpc-retry-pushback-ms", "60000")][..];
    assert_eq!(attempts("", |_| head_only("14", late)).await, 1, "longer than it may wait");
    assert_eq!(attempts("retry_after = false", |_| head_only("14", late)).await, 2);
}

fn kinds<U: Upstream>(rig: &Rig<U>) -> Vec<EventKind> {
    rig.events().into_iter().map(|(_, kind)| kind).collect()
}

#[tokio::test(start_paused = true)]
async fn attempts_say_how_many_were_before_with_those_of_the_client() {
    let rig = Rig::around(Answers(|_| head_only("0", &[])), []);
    let marks = |call: &Call, attempt| -> Vec<String> {
        let marks = Marks::of(call, attempt, false);
        let marks = marks.fields();
        marks.map(|(name, mark)| format!("{name}: {}", mark.to_str().unwrap())).collect()
    };
    let first = call(&rig);
    assert_eq!(marks(&first, 1), [""; 0]);
    assert_eq!(marks(&first, 3), ["x-fusebox-attempt: 3", "grpc-previous-rpc-attempts: 2"]);
    let again =
        rig.call_of(request().header("grpc-previous-rpc-attempts", "2"), RequestBody::empty());
    assert_eq!(marks(&again, 1), [""; 0], "it goes on as it came");
    assert_eq!(marks(&again, 2), ["x-fusebox-attempt: 3", "grpc-previous-rpc-attempts: 3"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_retries_itself_is_left_to_it() {
    let rig = Rig::around(Answers(|_| head_only("14", &[])), [retry_all("")]);
    let call =
        rig.call_of(request().header("grpc-previous-rpc-attempts", "1"), RequestBody::empty());
    drop(rig.outcome(&call).await);
    let skipped = RetryEvent::Skipped { reason: NoRetry::Retried };
    assert_eq!((call.attempts(), kinds(&rig).contains(&skipped.into())), (1, true));
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_retries_says_what_is_behind_it() {
    let config = "return_last_failure = false";
    let rig = Rig::around(Answers(|_| head_only("14", &[])), [retry_all(config)]);
    let error = rig.outcome(&call(&rig)).await.unwrap_err();
    assert_eq!(error.behind(), Some(Behind::Grpc(GrpcStatus::Unavailable)));
    let outer = breaker("failure_threshold = 9");
    let rig = Rig::around(
        Answers(|_| head_only("14", &[])),
        [outer.clone() as Arc<dyn Policy>, retry_all(config)],
    );
    drop(rig.outcome(&call(&rig)).await);
    assert_eq!(outer.status().counts.failures, 1);
}

// ===== streams =====

#[tokio::test(start_paused = true)]
async fn a_stream_is_asked_for_again_until_its_head_with_what_was_sent_so_far() {
    let sent = [Piece::Data("one"), Piece::Wait(5), Piece::Data("two")];
    let answer = |attempt| match attempt {
        1 => head_only("14", &[]),
        _ => ending(Some("14")),
    };
    let rig = Rig::around(Answers(answer), [retry_all("")]);
    let call = call_with(&rig, request_body(64, sent));
    let outcome = rig.outcome(&call).await.unwrap();
    assert_eq!((outcome.status, call.attempts()), (StatusCode::OK, 2));
    assert_eq!(read(outcome.body).await.unwrap(), "message");
    assert_eq!(call.attempts(), 2, "not for what its trailers say");
}
