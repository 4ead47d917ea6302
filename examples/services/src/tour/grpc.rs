//! The story of B by gRPC: a retry by its status, a failure behind a message, and a deadline.

use super::stage::{Question, Stage};
use super::stories::{FALLBACK, HELLO, OPENS};
use super::story::{Expected, Is, Story, between};

const BUSY: &str = "grpc 14: unavailable";
const FINE: &str = "grpc 0: ok";

pub(super) async fn grpc(story: &mut Story) -> anyhow::Result<()> {
    story.say(
        "A calls B by gRPC. B is busy once, by its status of gRPC, and asks for a second: asked \
         again.",
    );
    let script = ["--script", "503:ra=1,200,503:body=hello*3"];
    let stage = Stage::open(story.config(), &script).await?.with_a_and(&["--grpc"]).await?;
    let expected = Expected {
        status: 200,
        body: HELLO,
        after: between(1, 10),
        log: &["Retry 1 after delay of 1s", FINE],
        b: &[BUSY, FINE],
    };
    story.ask(&stage, Question::to_a(), expected).await?;

    story.say(
        "Now B says that it is busy behind a message. That is too late for a retry; the breaker \
         counts it, and opens.",
    );
    for log in [&[BUSY][..], &[BUSY], &[OPENS, BUSY]] {
        let expected = Expected {
            status: 500,
            body: "grpc 14: service B is busy",
            after: between(0, 10),
            log,
            b: &[BUSY],
        };
        story.ask(&stage, Question::to_a(), expected).await?;
    }
    let expected = Expected {
        status: 200,
        body: FALLBACK,
        after: between(0, 10),
        log: &["Call rejected: circuit breaker open", "Fallback executed result", FINE],
        b: &[],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    let open = [("state", Is::exactly("open")), ("remaining_delay_ms", Is::Between(1.0, 66_000.0))];
    story.state(&stage, "/policies/breaker", &open).await?;
    let calls = |status| {
        let route = "/fusebox.example.ServiceB/Hello";
        format!(r#"fusebox_grpc_requests_total{{route="{route}",grpc_status="{status}"}}"#)
    };
    story.metrics(&stage, &[(&calls("ok"), 2), (&calls("unavailable"), 3)]).await?;
    story.end(stage, Some(5)).await?;

    story.say("B hangs, and A says with `grpc-timeout` that it waits for 300 ms.");
    let patience = ["--grpc", "--grpc-timeout", "300m"];
    let stage = Stage::open(story.config(), &["--rest", "hang"]).await?;
    let stage = stage.with_a_and(&patience).await?;
    let expected = Expected {
        status: 500,
        body: "grpc 4: timeout exceeded",
        after: between(0, 2),
        log: &["Deadline exceeded", "grpc 4: deadline-exceeded"],
        b: &["client gone"],
    };
    story.ask(&stage, Question::to_a(), expected).await?;
    story.end(stage, Some(1)).await
}
