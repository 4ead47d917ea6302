//! The stories of the post, in its order, and those of failures that no status shows.
//!
//! Each plays the script that the comments of its configuration recommend, and holds what comes of
//! it against what they say.

use anyhow::Context;
use http::header;

use super::stage::{Question, Stage};
use super::story::{Expected, Is, Story, between};

const BUSY: &str = "503: Service Unavailable";
const FINE: &str = "200: OK";
pub(super) const HELLO: &str =
    r#"{"messageA": "hello from service A","messageB": "hello from service B"}"#;
pub(super) const FALLBACK: &str =
    r#"{"messageA": "hello from service A","messageB": "error accessing service B"}"#;
/// A day on which B is busy, hangs, is busy again, and hangs again.
const BAD_DAY: &str = "503:ra=1*2,hang,503:ra=1*3,hang";

pub(super) const OPENS: &str = "circuit breaker state changed from closed to open";
const TRIES: &str = "circuit breaker state changed from open to half-open";
const OPENS_AGAIN: &str = "circuit breaker state changed from half-open to open";
const CLOSES: &str = "circuit breaker state changed from half-open to closed";

pub(super) async fn timeout(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B takes five seconds for each answer. fusebox waits for one, then lets go of B and tells \
         A why.",
    );
    let stage = Stage::open(story.config(), &["--mode", "slow"]).await?.with_a().await?;
    let expected = Expected {
        status: 500,
        body: "timeout exceeded",
        after: between(1, 4),
        log: &["Connection timed out", "504: Gateway Timeout"],
        b: &["client gone"],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    story.metrics(&stage, &[(r#"fusebox_timeouts_total{route="/",policy="timeout"}"#, 1)]).await?;
    story.end(stage, Some(1)).await
}

pub(super) async fn retry(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B is busy twice, then well. fusebox asks again, after one second and then after two.",
    );
    let stage =
        Stage::open(story.config(), &["--script", "503:ra=1,503:ra=1,200"]).await?.with_a().await?;
    let expected = Expected {
        status: 200,
        body: HELLO,
        after: between(3, 10),
        log: &["Retry 1 after delay of 1s", "Retry 2 after delay of 2s", FINE],
        b: &[BUSY, BUSY, FINE],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    story.metrics(&stage, &[(r#"fusebox_retries_total{route="/",policy="retry"}"#, 2)]).await?;
    story.end(stage, Some(3)).await
}

pub(super) async fn circuit_breaker(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B is busy three times, each time for a second, in which nobody asks it; then one request \
         may try.",
    );
    let script = ["--script", "503:ra=1*3,200", "--rest", "503:ra=30"];
    let stage = Stage::open(story.config(), &script).await?.with_a().await?;
    // Each retry waits for as long as the breaker is open.
    let retry = |count| format!("Retry {count} after delay of 1s");
    let (first, second, third) = (retry(1), retry(2), retry(3));
    let expected = Expected {
        status: 200,
        body: HELLO,
        after: between(3, 15),
        log: &[
            OPENS,
            &first,
            TRIES,
            OPENS_AGAIN,
            &second,
            TRIES,
            OPENS_AGAIN,
            &third,
            TRIES,
            CLOSES,
            FINE,
        ],
        b: &[BUSY, BUSY, BUSY, FINE],
    };
    story.ask(&stage, Question::to_a(), expected).await?;

    story.say(
        "Now B asks for thirty seconds. On a route that does not wait, the first 503 is B's, the \
         second fusebox's.",
    );
    let expected =
        Expected { status: 503, body: "", after: between(0, 10), log: &[OPENS, BUSY], b: &[BUSY] };
    story.ask(&stage, Question::to_fusebox("/now"), expected).await?;
    let expected = Expected {
        status: 503,
        body: "circuit breaker open",
        after: between(0, 10),
        log: &["Call rejected: circuit breaker open", BUSY],
        b: &[],
    };
    let answer = story.ask(&stage, Question::to_fusebox("/now"), expected).await?;
    let header =
        answer.headers.get(header::RETRY_AFTER).context("no `Retry-After` from an open breaker")?;
    let wait: u64 = header.to_str()?.parse()?;
    let expected = (!(1..=30).contains(&wait)).then(|| vec!["retry-after: 1 to 30".to_owned()]);
    story.fact("header", &[format!("retry-after: {wait}")], expected);
    let open = [
        ("state", Is::exactly("open")),
        ("remaining_delay_ms", Is::Between(1.0, 30_000.0)),
        // In a row with those before, unless it was closed for as long as it had been open.
        ("openings", Is::Between(1.0, 4.0)),
    ];
    story.state(&stage, "/policies/breaker", &open).await?;
    let opened =
        r#"fusebox_circuit_breaker_transitions_total{policy="breaker",from="closed",to="open"}"#;
    story
        .metrics(
            &stage,
            &[(opened, 2), (r#"fusebox_circuit_breaker_state{policy="breaker",state="open"}"#, 1)],
        )
        .await?;
    story.end(stage, Some(5)).await
}

pub(super) async fn fallback(story: &mut Story) -> anyhow::Result<()> {
    story.say("B is busy once, then well, then gone. Whoever asks gets a 200 each time.");
    let mut stage =
        Stage::open(story.config(), &["--script", "503:ra=1,200"]).await?.with_a().await?;
    let served = &["Fallback executed result", FINE];
    let expected =
        Expected { status: 200, body: FALLBACK, after: between(0, 10), log: served, b: &[BUSY] };
    story.ask(&stage, Question::to_a(), expected).await?;
    let expected =
        Expected { status: 200, body: HELLO, after: between(0, 10), log: &[FINE], b: &[FINE] };
    story.ask(&stage, Question::to_a(), expected).await?;
    stage.end_b().await?;
    story.say("B has ended.");
    let expected =
        Expected { status: 200, body: FALLBACK, after: between(0, 10), log: served, b: &[] };
    story.ask(&stage, Question::to_a(), expected).await?;
    story
        .metrics(&stage, &[(r#"fusebox_fallbacks_total{route="/",policy="fallback"}"#, 2)])
        .await?;
    story.end(stage, Some(2)).await
}

pub(super) async fn composition_of_the_post(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "All four policies on a bad day: B is busy twice, hangs, is busy three times, and hangs \
         again.",
    );
    story.say("Two mistakes show: a timeout closes the breaker, and the fallback never runs.");
    let stage = Stage::open(story.config(), &["--script", BAD_DAY]).await?.with_a().await?;
    story.say("fusebox has told of both before the day began, as `fusebox check` does.");
    let mistakes = ["fallback.handle_if: it never answers", "breaker.handle_if: counts dns, "];
    story.warnings(&stage, &mistakes).await;
    let expected = Expected {
        status: 500,
        body: "timeout exceeded",
        after: between(13, 25),
        log: &[
            OPENS,
            "Retry 1 after delay of 1s",
            TRIES,
            OPENS_AGAIN,
            "Retry 2 after delay of 2s",
            TRIES,
            "Connection timed out",
            CLOSES,
            "504: Gateway Timeout",
        ],
        b: &[BUSY, BUSY, "client gone"],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    let expected = Expected {
        status: 500,
        body: "retries exceeded",
        after: between(3, 13),
        log: &[
            OPENS,
            "Retry 1 after delay of 1s",
            TRIES,
            OPENS_AGAIN,
            "Retry 2 after delay of 2s",
            TRIES,
            OPENS_AGAIN,
            "Retries exceeded",
            "502: Bad Gateway",
        ],
        b: &[BUSY, BUSY, BUSY],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    story.say("The second that B asked for passes. The next request may try.");
    let over = [("state", Is::exactly("open")), ("remaining_delay_ms", Is::exactly(0))];
    story.state(&stage, "/policies/breaker", &over).await?;
    let expected = Expected {
        status: 500,
        body: "timeout exceeded",
        after: between(10, 20),
        log: &[TRIES, "Connection timed out", CLOSES, "504: Gateway Timeout"],
        b: &["client gone"],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    story
        .state(
            &stage,
            "/policies/breaker",
            &[("state", Is::exactly("closed")), ("openings", Is::exactly(0))],
        )
        .await?;
    let fallbacks = r#"fusebox_fallbacks_total{route="/",policy="fallback"}"#;
    story
        .metrics(
            &stage,
            &[(fallbacks, 0), (r#"fusebox_timeouts_total{route="/",policy="timeout"}"#, 2)],
        )
        .await?;
    story.end(stage, Some(7)).await
}

pub(super) async fn composition(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "The same policies; the component `service-b` says when B is busy and what to answer in \
         its place.",
    );
    story.say("First an ordinary day: B is busy twice and well, then busy three times.");
    let stage = Stage::open(story.config(), &["--script", "503:ra=1*2,200,503:ra=1*3"])
        .await?
        .with_a()
        .await?;
    let twice = [
        OPENS,
        "Retry 1 after delay of 1s",
        TRIES,
        OPENS_AGAIN,
        "Retry 2 after delay of 1s",
        TRIES,
    ];
    let expected = Expected {
        status: 200,
        body: HELLO,
        after: between(2, 10),
        log: &[&twice[..], &[CLOSES, FINE]].concat(),
        b: &[BUSY, BUSY, FINE],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    let expected = Expected {
        status: 200,
        body: FALLBACK,
        after: between(2, 10),
        log: &[&twice[..], &[OPENS_AGAIN, "Retries exceeded", "Fallback executed result", FINE]]
            .concat(),
        b: &[BUSY, BUSY, BUSY],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    story.end(stage, Some(6)).await?;

    story.say(
        "Then the bad day. The timeout keeps the breaker open, and the fallback answers each time.",
    );
    let stage = Stage::open(story.config(), &["--script", BAD_DAY]).await?.with_a().await?;
    let hangs = ["Connection timed out", OPENS_AGAIN, "Fallback executed result", FINE];
    let expected = Expected {
        status: 200,
        body: FALLBACK,
        after: between(12, 22),
        log: &[&twice[..], &hangs[..]].concat(),
        b: &[BUSY, BUSY, "client gone"],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    for _ in 0..2 {
        let expected = Expected {
            status: 200,
            body: FALLBACK,
            after: between(0, 9),
            log: &["Call rejected: circuit breaker open", "Fallback executed result", FINE],
            b: &[],
        };
        story.ask(&stage, Question::to_a(), expected).await?;
    }
    let open = [("state", Is::exactly("open")), ("remaining_delay_ms", Is::Between(1.0, 60_000.0))];
    story.state(&stage, "/policies/breaker", &open).await?;
    let asked = [("calls", Is::Between(5.0, 100.0)), ("generation", Is::exactly(1))];
    story.state(&stage, "/components/service-b", &asked).await?;
    story
        .metrics(&stage, &[(r#"fusebox_fallbacks_total{route="/",policy="fallback"}"#, 3)])
        .await?;
    story.end(stage, Some(3)).await
}

pub(super) async fn graphql(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B answers 200 each time, twice with errors in the body. Another component sees them: \
         asked again.",
    );
    let script = "200:body=graphql-errors*2,200:body=graphql-data";
    let errors = "200:body=graphql-errors";
    let stage = Stage::open(story.config(), &["--script", script, "--rest", errors]).await?;
    let expected = Expected {
        status: 200,
        body: r#"{"data": {"message": "hello from service B"}}"#,
        after: between(0, 10),
        log: &["Retry 1 after delay of 200ms", "Retry 2 after delay of 400ms", FINE],
        b: &[FINE, FINE, FINE],
    };
    story.ask(&stage, Question::to_fusebox("/graphql?query=%7Bmessage%7D"), expected).await?;
    story.say("A POST may change something, and is not repeated unasked: the errors come through.");
    let expected = Expected {
        status: 200,
        body: r#""errors": [{"message": "service B is busy"}]"#,
        after: between(0, 10),
        log: &["Not retried: the method is not idempotent", FINE],
        b: &[FINE],
    };
    story
        .ask(
            &stage,
            Question::to_fusebox("/graphql").posting(r#"{"query": "{message}"}"#),
            expected,
        )
        .await?;
    story.state(&stage, "/components/graphql-errors", &[("calls", Is::exactly(4))]).await?;
    story.end(stage, Some(4)).await
}

pub(super) async fn language_model(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "B speaks as language models do: a stream with status 200, whose first event is an error. \
         A component sees it, before the client does: asked again.",
    );
    let script = "200:body=model-error,200:body=model-words";
    let stage = Stage::open(story.config(), &["--script", script]).await?;
    let expected = Expected {
        status: 200,
        body: r#"data: {"choices": [{"delta": {"content": "hello from "}}]}"#,
        after: between(0, 10),
        log: &["Retry 1 after delay of 200ms", FINE],
        b: &[FINE, FINE],
    };
    let question = Question::to_fusebox("/v1/chat/completions").posting(r#"{"stream": true}"#);
    story.ask(&stage, question, expected).await?;
    story.state(&stage, "/components/openai-errors", &[("calls", Is::exactly(2))]).await?;
    story.end(stage, Some(2)).await
}
