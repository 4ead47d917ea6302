//! Fallback: what it replaces, by what, and when it stays out of the way.

use fusebox_resilience::testing::{Script, read};
use fusebox_resilience::{
    Call, ErrorKind, EventKind, FallbackConfig, FallbackEvent, Outcome, Peek, Pipeline,
    PolicyConfig, RequestBody, ResponseBody, Scope, TimeoutEvent, Upstream,
};
use futures_util::future::LocalBoxFuture;

use crate::support::{
    Answer, Answers, Piece, Rig, Surroundings, breaker, fallback, fallback_among, ms, problems,
    request_body, response, response_body, retry, timeout,
};

const STATIC: &str =
    "respond = { status = 200, headers = { content-type = \"text/plain\" }, body = \"sorry\" }";

fn served(at: u64, status: u16) -> (u64, EventKind) {
    (at, EventKind::Fallback(FallbackEvent::Served { status, component: None }))
}

#[tokio::test(start_paused = true)]
async fn a_static_response_is_whole_each_time() {
    let rig = Rig::new("503,503", [fallback(STATIC)]);
    for _ in 0..2 {
        let response = rig.outcome(&rig.call()).await.unwrap();
        assert_eq!((response.status.as_u16(), response.is_stand_in()), (200, true));
        assert_eq!(response.headers.to_map()["content-type"], "text/plain");
        assert_eq!(response.attempt(), 1);
        assert_eq!(read(response.body).await.unwrap(), "sorry");
    }
    assert_eq!(rig.events(), [served(1, 200), served(2, 200)]);
}

#[tokio::test(start_paused = true)]
async fn a_static_response_is_a_200_without_a_body_unless_it_says_otherwise() {
    for (respond, status, body) in [
        ("body = \"x\"", 200, "x"),
        ("status = 204", 204, ""),
        ("headers = { a = \"b\" }", 200, ""),
    ] {
        let rig = Rig::new("503", [fallback(&format!("respond = {{ {respond} }}"))]);
        let response = rig.outcome(&rig.call()).await.unwrap();
        assert_eq!(response.status.as_u16(), status);
        assert_eq!(read(response.body).await.unwrap(), body);
    }
}

#[tokio::test(start_paused = true)]
async fn by_default_it_replaces_429_5xx_but_501_and_every_failure() {
    for (script, expected) in [
        ("429", Ok(200)),
        ("500", Ok(200)),
        ("501", Ok(501)),
        ("503", Ok(200)),
        ("404", Ok(404)),
        ("201", Ok(201)),
        ("close", Ok(200)),
    ] {
        let rig = Rig::new(script, [fallback(STATIC)]);
        assert_eq!(rig.get().await, (1, expected), "{script}");
    }
    for kind in [
        ErrorKind::CircuitOpen,
        ErrorKind::BulkheadFull,
        ErrorKind::RateLimited,
        ErrorKind::Internal,
    ] {
        let rig = Rig::around(Answers(move |_| Err(kind.into())), [fallback(STATIC)]);
        assert_eq!(rig.get().await, (1, Ok(200)), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn it_answers_for_an_open_breaker_and_a_timeout_inside() {
    let rig = Rig::new("hang", [fallback(STATIC), breaker("failure_threshold = 1"), timeout(30)]);
    assert_eq!(rig.get().await, (30, Ok(200)));
    assert_eq!(rig.get().await, (30, Ok(200)));
    assert_eq!(rig.attempts(), [0]);
}

#[tokio::test(start_paused = true)]
async fn it_does_not_answer_for_a_client_that_failed() {
    let upstream = Answers(|_| Err(ErrorKind::RequestIncomplete.into()));
    let config = format!("handle_if = {{ failure = [\"any\"] }}\n{STATIC}");
    let rig = Rig::around(upstream, [fallback(&config)]);
    assert_eq!(rig.get().await, (1, Err(ErrorKind::RequestIncomplete)));
    assert_eq!(rig.events(), []);
}

#[tokio::test(start_paused = true)]
async fn it_does_not_run_when_a_timeout_around_it_fired() {
    let rig = Rig::new("hang", [timeout(30), fallback(STATIC)]);
    assert_eq!(rig.get().await, (30, Err(ErrorKind::Timeout)));
    assert_eq!(rig.events(), [(30, EventKind::Timeout(TimeoutEvent::Exceeded { limit: ms(30) }))]);
}

#[tokio::test(start_paused = true)]
async fn a_component_answers_from_what_it_sees_of_the_original() {
    let answer = Answer {
        peek: Some(Peek { bytes: 8, timeout: ms(100) }),
        respond: |seen| {
            let original = seen.outcome.as_ref().ok()?;
            let body = original.body.peeked(8, 0, 8);
            Some(response(
                203,
                &[("x-original", original.status.as_str())],
                ResponseBody::full(body),
            ))
        },
    };
    let parts = Surroundings::default().responder("answers", answer);
    let rig = Rig::new(
        "503:bodydelay=20:body=original text",
        [fallback_among("respond = { component = \"answers\" }", &parts)],
    );
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!(response.status.as_u16(), 203);
    assert_eq!(response.headers.to_map()["x-original"], "503");
    assert_eq!(read(response.body).await.unwrap(), "original");
    assert_eq!(rig.events(), [served(21, 203)]);
    assert_eq!(rig.upstream.alive(), 0, "the original is gone");
}

#[tokio::test(start_paused = true)]
async fn a_component_that_declines_lets_the_original_out_whole() {
    let answer = Answer { peek: Some(Peek { bytes: 8, timeout: ms(100) }), respond: |_| None };
    let parts = Surroundings::default().responder("declines", answer);
    let rig = Rig::new(
        "503:ra=3:bodydelay=20:body=original text",
        [fallback_among("respond = { component = \"declines\" }", &parts)],
    );
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!((response.status.as_u16(), response.is_stand_in()), (503, false));
    assert_eq!(response.headers.to_map()["retry-after"], "3");
    assert_eq!(read(response.body).await.unwrap(), "original text");
    assert_eq!(rig.events(), [(21, EventKind::Fallback(FallbackEvent::Declined))]);
}

#[tokio::test(start_paused = true)]
async fn an_original_that_dies_while_the_component_looks_is_shown_as_lost() {
    let answer = Answer {
        peek: Some(Peek { bytes: 8, timeout: ms(100) }),
        respond: |seen| {
            let error = seen.outcome.as_ref().err()?;
            Some(response(
                200,
                &[("x-failure", error.kind().failure().name())],
                ResponseBody::empty(),
            ))
        },
    };
    let parts = Surroundings::default().responder("answers", answer);
    let upstream = Answers(|_| {
        let body =
            response_body([Piece::Data("or"), Piece::Break(ErrorKind::ConnectionTerminated)]);
        Ok(response(503, &[], body))
    });
    let rig =
        Rig::around(upstream, [fallback_among("respond = { component = \"answers\" }", &parts)]);
    let response = rig.outcome(&rig.call()).await.unwrap();
    assert_eq!(response.headers.to_map()["x-failure"], "connection-lost");
}

#[test]
fn configuration_errors_name_the_key() {
    for (text, expected) in [
        ("", "missing field `respond`"),
        (
            "respond = {}",
            "respond: expected `component`, `upstream`, or at least one of `status`, `headers` and \
             `body`",
        ),
        ("respond = { upstream = \"b2\" }", "respond.upstream: no upstream `b2`"),
        ("respond = { component = \"none\" }", "respond.component: no component `none`"),
        ("respond = { status = 199 }", "respond.status: must be from 200 to 599, is 199"),
        ("respond = { status = 100 }", "respond.status: must be from 200 to 599, is 100"),
        ("respond = { status = 600 }", "respond.status: must be from 200 to 599, is 600"),
        ("respond = { status = 0 }", "respond.status: must be from 200 to 599, is 0"),
        (
            "respond = { headers = { \"a b\" = \"c\" } }",
            "respond.headers.a b: is not a valid header name",
        ),
        (
            "respond = { headers = { a = \"\\u0000\" } }",
            "respond.headers.a: is not a valid header value: `\u{0}`",
        ),
        (
            "respond = { headers = { content-length = \"3\" } }",
            "respond.headers.content-length: is set by the proxy",
        ),
        (
            "respond = { headers = { Connection = \"close\" } }",
            "respond.headers.Connection: is set by the proxy",
        ),
        (
            "respond = { headers = { keep-alive = \"1\" } }",
            "respond.headers.keep-alive: is set by the proxy",
        ),
        (
            "respond = { body = \"x\", text = \"y\" }",
            "unknown field `text`, expected one of `component`, `upstream`, `status`, \
             `headers`, `body`",
        ),
        (
            "handle_if = { component = \"none\" }\nrespond = { body = \"\" }",
            "handle_if.component: no component `none`",
        ),
    ] {
        let found = problems(text, |config: FallbackConfig| {
            config.build("f".into(), &Surroundings::default())
        });
        assert_eq!(found, [expected], "{text}");
    }
    let parts =
        Surroundings::default().responder("answers", Answer { peek: None, respond: |_| None });
    let both = "respond = { component = \"answers\", status = 200 }";
    let found = problems(both, |config: FallbackConfig| config.build("f".into(), &parts));
    assert_eq!(found, ["respond: either a `component`, an `upstream`, or a static response"]);
}

// ===== another upstream =====

const OTHER: &str = "respond = { upstream = \"b2\" }";

/// An upstream with another one, behind policies of its own.
struct Two {
    first: Script,
    other: Script,
    pipeline: Pipeline,
}

impl Two {
    fn new(first: &str, other: &str, pipeline: Pipeline) -> Self {
        Self { first: Script::new(first), other: Script::new(other), pipeline }
    }

    /// Attempts on each.
    fn asked(&self) -> (usize, usize) {
        (self.first.arrivals().len(), self.other.arrivals().len())
    }
}

impl Upstream for Two {
    fn attempt<'a>(&'a self, call: &'a Call, scope: &'a Scope<'a>) -> LocalBoxFuture<'a, Outcome> {
        self.first.attempt(call, scope)
    }

    fn ask_other<'a>(
        &'a self,
        name: &str,
        call: &'a Call,
        scope: &'a Scope<'a>,
    ) -> Option<LocalBoxFuture<'a, Outcome>> {
        (name == "b2").then(|| -> LocalBoxFuture<'a, Outcome> {
            Box::pin(async move {
                let scope = scope.at(&self.other);
                self.pipeline.execute(call, &scope).await
            })
        })
    }
}

fn to_another() -> std::sync::Arc<dyn fusebox_resilience::Policy> {
    fallback_among(OTHER, &Surroundings::default().upstream("b2"))
}

#[tokio::test(start_paused = true)]
async fn another_upstream_answers_through_its_own_policies() {
    let own = Pipeline::new([retry("delay = \"10ms\"")]);
    let rig = Rig::around(Two::new("503", "503,200:body=b2", own), [to_another()]);
    let body = request_body(99, [Piece::Data("abc"), Piece::Wait(5), Piece::Data("def")]);
    let call = rig.call_of(http::Request::put("http://service-b/"), body);
    let response = rig.outcome(&call).await.expect("a response");
    assert_eq!((rig.now(), response.is_stand_in()), (18, true));
    assert_eq!(read(response.body).await.unwrap(), "b2");
    assert_eq!(rig.upstream.asked(), (1, 2));
    assert!(rig.upstream.other.arrivals().iter().all(|it| it.body == "abcdef"));
    assert_eq!(call.attempts(), 3);
    assert_eq!(rig.events().last(), Some(&served(18, 200)));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_too_lets_the_original_outcome_out() {
    for other in ["503", "close"] {
        let rig = Rig::around(Two::new("500", other, Pipeline::default()), [to_another()]);
        let response = rig.outcome(&rig.call()).await.expect("a response");
        assert_eq!((response.status.as_u16(), response.is_stand_in()), (500, false));
        assert_eq!(rig.upstream.asked(), (1, 1));
        assert_eq!(rig.events(), [(2, EventKind::Fallback(FallbackEvent::Declined))]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_not_kept_is_not_sent_elsewhere() {
    let rig = Rig::around(Two::new("503", "200", Pipeline::default()), [to_another()]);
    let body = request_body(4, [Piece::Data("abc"), Piece::Data("def")]);
    assert_eq!(rig.request("PUT", body).await, (1, Ok(503)));
    assert_eq!(rig.upstream.asked(), (1, 0));
    assert!(to_another().repeats() && !fallback(STATIC).repeats());
}

#[tokio::test(start_paused = true)]
async fn a_limit_outside_is_about_both_upstreams() {
    let upstream = Two::new("503:delay=39", "hang", Pipeline::default());
    let rig = Rig::around(upstream, [timeout(100), to_another()]);
    assert_eq!(rig.get().await, (100, Err(ErrorKind::Timeout)));
    assert_eq!(rig.upstream.other.alive(), 0);
    let opened = breaker("failure_threshold = 1");
    let upstream = Two::new("503", "200", Pipeline::default());
    let rig = Rig::around(upstream, [opened.clone(), to_another()]);
    assert_eq!(rig.request("GET", RequestBody::empty()).await, (2, Ok(200)));
    assert_eq!(opened.status().counts.successes, 1, "a fallback's answer is a success outside");
}
