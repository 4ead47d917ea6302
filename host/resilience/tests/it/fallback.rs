//! Fallback: what it replaces, by what, and when it stays out of the way.

use fusebox_resilience::testing::read;
use fusebox_resilience::{
    ErrorKind, EventKind, FallbackConfig, FallbackEvent, Peek, PolicyConfig, ResponseBody,
    TimeoutEvent,
};

use crate::support::{
    Answer, Answers, Piece, Rig, Surroundings, breaker, fallback, fallback_among, ms, problems,
    response, response_body, timeout,
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
        assert_eq!((response.status.as_u16(), response.is_fallback()), (200, true));
        assert_eq!(response.headers["content-type"], "text/plain");
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
    assert_eq!(response.headers["x-original"], "503");
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
    assert_eq!((response.status.as_u16(), response.is_fallback()), (503, false));
    assert_eq!(response.headers["retry-after"], "3");
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
    assert_eq!(response.headers["x-failure"], "connection-lost");
}

#[test]
fn configuration_errors_name_the_key() {
    for (text, expected) in [
        ("", "missing field `respond`"),
        (
            "respond = {}",
            "respond: expected `component`, or at least one of `status`, `headers` and `body`",
        ),
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
            "unknown field `text`, expected one of `component`, `status`, `headers`, `body`",
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
    assert_eq!(found, ["respond: either a `component` or a static response"]);
}
